/* 32 random bytes in hex, and how evenly 1 MiB of them falls. */
#include "edge.h"

static unsigned char bytes[256];

int main(void) {
    if (getentropy(bytes, 32)) return 1;
    edge_text body = edge_literal("{\"hex\":\"");
    for (int i = 0; i < 32; i++)
        edge_add_bytes(&body, (char[]){"0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15]}, 2);

    static int counts[256];
    for (int drawn = 0; drawn < 1 << 20; drawn += sizeof bytes) {
        if (getentropy(bytes, sizeof bytes)) return 1;
        for (int i = 0; i < sizeof bytes; i++) counts[bytes[i]]++;
    }
    int min = counts[0], max = counts[0];
    for (int i = 1; i < 256; i++) {
        if (counts[i] < min) min = counts[i];
        if (counts[i] > max) max = counts[i];
    }
    edge_add(&body, "\",\"min\":");
    edge_add_int(&body, min);
    edge_add(&body, ",\"max\":");
    edge_add_int(&body, max);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
