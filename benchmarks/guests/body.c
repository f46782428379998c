/* Answers with the body of the request. */
#include "edge.h"

int main(void) {
    edge_json request = edge_request();
    edge_text body = edge_view(edge_find(request, "body"));
    const char *headers = "{\"content-type\":\"text/plain\"}";
    if (edge_is_true(edge_find(request, "is_base64_encoded"))) return edge_respond_base64(200, headers, body);
    return edge_respond(200, headers, body);
}
