#include "edge.h"

int main(void) {
    sleep(60);
    return edge_respond_json(200, "{\"slept\":60000}");
}
