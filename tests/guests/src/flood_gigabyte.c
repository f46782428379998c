/* Logs 1 GB, in lines of 100 bytes, then answers. */
#include "edge.h"

int main(void) {
    static char chunk[100000];
    memset(chunk, 'x', sizeof chunk);
    for (int i = 99; i < sizeof chunk; i += 100) chunk[i] = '\n';
    for (int i = 0; i < 10000; i++) edge_write(2, chunk, sizeof chunk);
    return edge_respond_json(200, "{\"logged\":1000000000}");
}
