/* Answers with the whole of stdin, as it came. */
#include "edge.h"

int main(void) { return edge_respond(200, EDGE_JSON, edge_read(0)); }
