/* The trap that the query parameter `mode` names, three named functions deep. */
#include "edge.h"

#define DEEP __attribute__((noinline, optnone))

static volatile int zero;
static volatile uintptr_t far_away = UINTPTR_MAX - 15;
static void (*volatile nobody)(void);

DEEP static void trap_unreachable(void) { __builtin_trap(); }
DEEP static void trap_div0(void) { zero = 1 / zero; }
DEEP static void trap_oob(void) { zero = *(volatile int *)far_away; }
DEEP static void trap_null_call(void) { nobody(); }

DEEP static void innermost(edge_text mode) {
    if (edge_equal(mode, "unreachable")) trap_unreachable();
    if (edge_equal(mode, "div0")) trap_div0();
    if (edge_equal(mode, "oob")) trap_oob();
    if (edge_equal(mode, "null")) trap_null_call();
}

DEEP static void middle(edge_text mode) { innermost(mode); }
DEEP static void outermost(edge_text mode) { middle(mode); }

int main(void) {
    outermost(edge_string(edge_find(edge_request(), "query", "mode")));
    return edge_respond_json(200, "{\"trapped\":false}");
}
