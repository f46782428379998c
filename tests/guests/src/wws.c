/* Wasm Workers Server: what came in, as `data`. */
#include "edge.h"

static void add_value(edge_text *out, edge_json value) {
    if (value.at) {
        edge_add_bytes(out, value.at, value.end - value.at);
    } else {
        edge_add(out, "null");
    }
}

int main(void) {
    static const char *const keys[] = {"url", "method", "params", "body", "kv"};
    edge_json request = edge_request();
    edge_text data = {0};
    for (int i = 0; i < 5; i++) {
        edge_add(&data, i ? ",\"" : "{\"");
        edge_add(&data, keys[i]);
        edge_add(&data, "\":");
        add_value(&data, edge_find(request, keys[i]));
    }
    edge_add(&data, "}");

    edge_text out = edge_literal("{\"data\":");
    edge_add_string(&out, data);
    edge_add(&out, ",\"headers\":{\"x-generated-by\":\"wasm-workers-server\"},\"status\":200,\"kv\":{},\"base64\":false}\n");
    return !edge_write(1, out.data, out.len);
}
