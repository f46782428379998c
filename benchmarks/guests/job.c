/* The trivial job: a fixed answer; reads nothing. */
#include <unistd.h>

static const char response[] =
    "{\"status_code\":200,\"headers\":{\"content-type\":\"application/json\"},\"body\":\"{\\\"message\\\":\\\"hello\\\"}\"}";

int main(void) { return write(1, response, sizeof response - 1) < 0; }
