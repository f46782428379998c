/* A base64 request comes back undecoded; any other gets the bytes 0 to 255. */
#include "edge.h"

int main(void) {
    edge_json request = edge_request();
    if (edge_is_true(edge_find(request, "is_base64_encoded"))) {
        edge_text out = edge_literal("{\"status_code\":200,\"is_base64_encoded\":true,\"body\":");
        edge_add_string(&out, edge_string(edge_find(request, "body")));
        edge_add(&out, "}");
        return !edge_write(1, out.data, out.len);
    }
    unsigned char bytes[256];
    for (int i = 0; i < 256; i++) bytes[i] = i;
    edge_text body = {0};
    edge_add_bytes(&body, bytes, sizeof bytes);
    return edge_respond(200, "{\"content-type\":\"application/octet-stream\"}", body);
}
