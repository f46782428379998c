/* edge-fallback: answers where no rule could. */
#include "edge.h"

int main(void) {
    edge_text path = edge_string(edge_find(edge_request(), "path"));
    edge_text body = edge_literal("{\"message\":\"served by the fallback\",\"path\":");
    edge_add_string(&body, path);
    edge_add(&body, "}");
    return edge_respond(200, "{\"content-type\":\"application/json\",\"x-fallback\":\"1\"}", body);
}
