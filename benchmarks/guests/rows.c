/* Computes as many rows of a Mandelbrot set as the query asks for: ?rows=100; as a command, or native. */
#define SIDE 256
#define MOST 200

unsigned rows(int count) {
    unsigned sum = 0;
    for (int y = 0; y < count; y++)
        for (int x = 0; x < SIDE; x++) {
            double cr = 3.0 * x / SIDE - 2.0, ci = 2.0 * (y % SIDE) / SIDE - 1.0, zr = 0, zi = 0;
            int n = 0;
            while (n < MOST && zr * zr + zi * zi <= 4.0) {
                double next = zr * zr - zi * zi + cr;
                zi = 2.0 * zr * zi + ci;
                zr = next;
                n++;
            }
            sum += n;
        }
    return sum;
}

#ifdef __wasi__
#include "edge.h"

int main(void) {
    edge_text asked = edge_string(edge_find(edge_request(), "query", "rows"));
    edge_text body = {0};
    edge_add_int(&body, rows((int)edge_int((edge_json){asked.data, asked.data + asked.len})));
    return edge_respond(200, EDGE_JSON, body);
}
#endif
