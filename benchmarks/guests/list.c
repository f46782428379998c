/* Answers with a JSON array of as many small objects as the query asks for: ?n=1000 comes to 12 KB. */
#include "edge.h"

int main(void) {
    edge_text asked = edge_string(edge_find(edge_request(), "query", "n"));
    int64_t count = edge_int((edge_json){asked.data, asked.data + asked.len});
    edge_text body = edge_literal("[");
    for (int64_t i = 0; i < count; i++) {
        edge_add(&body, i ? ",{\"id\":" : "{\"id\":");
        edge_add_int(&body, 1000 + i);
        edge_add(&body, "}");
    }
    edge_add(&body, "]");
    return edge_respond(200, EDGE_JSON, body);
}
