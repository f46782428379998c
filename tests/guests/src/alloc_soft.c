/* Takes and touches memory until there is no more, then answers with the MiB it got. */
#include "edge.h"

static char *volatile chunk; /* volatile, or the compiler leaves malloc out */

int main(void) {
    edge_text out = {0};
    edge_reserve(&out, 256); /* while there is some */
    int mib = 0;
    const size_t size = (1 << 20) - 64; /* a MiB with what malloc adds */
    for (; (chunk = malloc(size)); mib++) memset(chunk, 1, size);
    edge_add(&out, "{\"status_code\":200,\"headers\":" EDGE_JSON ",\"body\":\"{\\\"mib\\\":");
    edge_add_int(&out, mib);
    edge_add(&out, "}\"}\n");
    return !edge_write(1, out.data, out.len);
}
