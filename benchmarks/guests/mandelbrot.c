/* The sum of iterations over the Mandelbrot set, 256 by 256 points, at most 200 each; as a command, or native. */
#define SIDE 256
#define MOST 200

unsigned mandelbrot(void) {
    unsigned sum = 0;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++) {
            double cr = 3.0 * x / SIDE - 2.0, ci = 2.0 * y / SIDE - 1.0, zr = 0, zi = 0;
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
    edge_text body = {0};
    edge_add_int(&body, mandelbrot());
    return edge_respond(200, EDGE_JSON, body);
}
#endif
