/* Sleeps as long as the query parameter `ms` says. */
#include <time.h>

#include "edge.h"

int main(void) {
    edge_text text = edge_string(edge_find(edge_request(), "query", "ms"));
    long ms = text.data ? atol(text.data) : 0;
    struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
    if (nanosleep(&pause, NULL)) return 1;
    edge_text body = edge_literal("{\"slept\":");
    edge_add_int(&body, ms);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
