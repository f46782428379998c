/* The smallest answer; reads nothing. */
#include <unistd.h>

static const char response[] = "{\"status_code\":200,\"headers\":{\"content-type\":\"text/plain\"},\"body\":\"hello\"}";

int main(void) { return write(1, response, sizeof response - 1) < 0; }
