/* CGI/1.1: the environment, the arguments and the body, as JSON. */
#include "edge.h"

extern char **environ;

int main(int argc, char **argv) {
    edge_text out = edge_literal("Content-Type: application/json\nStatus: 201 Created\nX-Test: 1\n\n{\"env\":{");
    for (int i = 0; environ[i]; i++) {
        char *value = strchr(environ[i], '=');
        if (value) *value++ = 0;
        if (i) edge_add(&out, ",");
        edge_add_string(&out, edge_literal(environ[i]));
        edge_add(&out, ":");
        edge_add_string(&out, edge_literal(value));
    }
    edge_add(&out, "},\"args\":[");
    for (int i = 0; i < argc; i++) {
        if (i) edge_add(&out, ",");
        edge_add_string(&out, edge_literal(argv[i]));
    }
    edge_add(&out, "],\"body\":");
    edge_add_string(&out, edge_read(0));
    edge_add(&out, "}\n");
    return !edge_write(1, out.data, out.len);
}
