/* Logs the body of the request as it is, then answers. */
#include "edge.h"

int main(void) {
    edge_text body = edge_body(edge_request());
    edge_write(2, body.data, body.len);
    return edge_respond_json(200, "{}");
}
