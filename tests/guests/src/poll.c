/* poll_oneoff: two clocks and a writable stdout, then the clocks alone, then nothing. */
#include <time.h>
#include <wasi/api.h>

#include "edge.h"

static __wasi_subscription_t clock_after(uint64_t ms) {
    __wasi_subscription_t want = {.userdata = ms, .u.tag = __WASI_EVENTTYPE_CLOCK};
    want.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    want.u.u.clock.timeout = ms * 1000000;
    return want;
}

static int64_t monotonic_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void report(edge_text *body, const __wasi_subscription_t *wants, size_t count) {
    __wasi_event_t events[3];
    __wasi_size_t happened = 0;
    int64_t begin = monotonic_us();
    __wasi_errno_t error = __wasi_poll_oneoff(wants, events, count, &happened);
    edge_add(body, "{\"errno\":");
    edge_add_int(body, error);
    edge_add(body, ",\"us\":");
    edge_add_int(body, monotonic_us() - begin);
    edge_add(body, ",\"events\":[");
    for (size_t i = 0; !error && i < happened; i++) {
        edge_add(body, i ? ",{\"userdata\":" : "{\"userdata\":");
        edge_add_int(body, events[i].userdata);
        edge_add(body, ",\"type\":");
        edge_add_int(body, events[i].type);
        edge_add(body, ",\"errno\":");
        edge_add_int(body, events[i].error);
        edge_add(body, "}");
    }
    edge_add(body, "]}");
}

int main(void) {
    __wasi_subscription_t wants[] = {clock_after(20), clock_after(60), {.userdata = 1}};
    wants[2].u.tag = __WASI_EVENTTYPE_FD_WRITE;
    wants[2].u.u.fd_write.file_descriptor = 1;
    edge_text body = edge_literal("{\"all\":");
    report(&body, wants, 3);
    edge_add(&body, ",\"clocks\":");
    report(&body, wants, 2);
    edge_add(&body, ",\"none\":");
    report(&body, wants, 0);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
