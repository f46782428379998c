/* The environment, entry by entry as it came, and the arguments. */
#include "edge.h"

extern char **environ;

static void add_list(edge_text *body, char **list) {
    edge_add(body, "[");
    for (int i = 0; list[i]; i++) {
        if (i) edge_add(body, ",");
        edge_add_string(body, edge_literal(list[i]));
    }
    edge_add(body, "]");
}

int main(int argc, char **argv) {
    edge_text body = edge_literal("{\"environ\":");
    add_list(&body, environ);
    edge_add(&body, ",\"argv\":");
    add_list(&body, argv);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
