/* Takes and touches memory without end; traps if there is no more. */
#include <stdlib.h>
#include <string.h>

static char *volatile chunk; /* volatile, or the compiler leaves malloc out */

int main(void) {
    for (;;) {
        chunk = malloc(1 << 18);
        if (!chunk) __builtin_trap();
        memset(chunk, 1, 1 << 18);
    }
}
