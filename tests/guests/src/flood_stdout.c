/* Prints 100 MB; ends with 1 where the host takes no more. */
#include "edge.h"

int main(void) {
    static char chunk[100000];
    memset(chunk, 'x', sizeof chunk);
    for (int i = 0; i < 1000; i++)
        if (!edge_write(1, chunk, sizeof chunk)) return 1;
    return 0;
}
