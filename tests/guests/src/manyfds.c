/* Opens the file in the query parameter `path` again and again until that fails. */
#include <errno.h>
#include <fcntl.h>

#include "edge.h"

int main(void) {
    edge_text path = edge_string(edge_find(edge_request(), "query", "path"));
    int count = 0, last = -1;
    for (int fd; count < 1000000 && (fd = open(path.data ? path.data : "", O_RDONLY)) >= 0; count++) last = fd;
    int code = count < 1000000 ? errno : 0;
    edge_text body = edge_literal("{\"count\":");
    edge_add_int(&body, count);
    edge_add(&body, ",\"last\":");
    edge_add_int(&body, last);
    edge_add(&body, ",\"errno\":");
    edge_add_int(&body, code);
    edge_add(&body, ",\"strerror\":");
    edge_add_string(&body, edge_literal(code ? strerror(code) : ""));
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
