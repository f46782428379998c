/* Calls itself without end, on the engine's stack and not on the one in linear memory. */
static volatile unsigned depth, stop;

__attribute__((noinline)) static unsigned descend(unsigned n) {
    depth = n;
    if (stop) return n;
    unsigned below = descend(n + 1);
    return below * 3 + depth;
}

int main(void) { return descend(0) == 42; }
