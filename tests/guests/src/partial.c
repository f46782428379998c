/* Half an answer, then a trap. */
#include "edge.h"

int main(void) {
    edge_write(1, "{\"status_code\":200,\"bo", 22);
    __builtin_trap();
}
