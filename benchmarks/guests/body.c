/* Answers with the body of the request. */
#include "edge.h"

int main(void) {
    edge_json request = edge_request();
    if (edge_is_true(edge_find(request, "is_base64_encoded"))) {
        edge_text out = edge_literal("{\"status_code\":200,\"is_base64_encoded\":true,\"body\":");
        edge_add_string(&out, edge_string(edge_find(request, "body")));
        edge_add(&out, "}");
        return !edge_write(1, out.data, out.len);
    }
    return edge_respond(200, "{\"content-type\":\"text/plain\"}", edge_string(edge_find(request, "body")));
}
