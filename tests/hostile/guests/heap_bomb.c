/* An allocator of a real compiler, asked for more until there is no more; each byte is touched. */
#include <stdlib.h>
#include <string.h>

static char *volatile chunk; /* volatile, or the compiler leaves malloc out */

int main(void) {
    for (size_t size = 1 << 20;;) {
        chunk = malloc(size);
        if (chunk) memset(chunk, 1, size);
        else if (size > 4096) size /= 2;
        else __builtin_trap();
    }
}
