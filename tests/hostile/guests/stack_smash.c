/* Writes past a buffer on the stack, and returns through what it wrote: with Wasm's own call stack it gets nowhere. */
#include <string.h>

__attribute__((noinline)) static int smash(volatile char *buffer, int n) {
    for (int i = 0; i < n; i++) buffer[i] = (char)0xff;
    return buffer[n / 2];
}

__attribute__((noinline)) static int victim(int n) {
    volatile char buffer[16];
    return smash(buffer, n);
}

int main(void) { return victim(1 << 30); }
