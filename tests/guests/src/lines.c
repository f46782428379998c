/* Traps on a known line, behind a memory.grow, which linking replaces by something longer. Without libc: little DWARF. */
#define DEEP __attribute__((noinline, optnone))

static volatile int zero, result;

DEEP static void divide(int by) {
    int pages = __builtin_wasm_memory_grow(0, 1);
    pages += __builtin_wasm_memory_grow(0, 1);
    result = pages / by; /* divides */
}

DEEP static void middle(void) {
    __builtin_wasm_memory_grow(0, 0);
    divide(zero); /* calls */
}

DEEP static void refuse(void) { __builtin_trap(); /* refuses */ }

__attribute__((export_name("_start"))) void start(void) {
    if (__builtin_wasm_memory_size(0) > 1000) refuse();
    middle();
    refuse();
}
