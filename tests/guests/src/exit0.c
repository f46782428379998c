/* Leaves by proc_exit(0) after a valid answer. */
#include "edge.h"

int main(void) {
    edge_respond_json(200, "{\"exit\":0}");
    exit(0);
}
