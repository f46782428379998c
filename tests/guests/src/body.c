/* Answers with the body of the request: decoded, and encoded anew. */
#include "edge.h"

int main(void) { return edge_respond(200, "{\"content-type\":\"text/plain\"}", edge_body(edge_request())); }
