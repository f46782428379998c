/* What the clocks say, before and after 20 ms of work. */
#include <time.h>
#include <wasi/api.h>

#include "edge.h"

static edge_text body;

static void report(const char *name, int64_t value) {
    edge_add(&body, body.len ? ",\"" : "{\"");
    edge_add(&body, name);
    edge_add(&body, "\":");
    edge_add_int(&body, value);
}

static int64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    return clock_gettime(clock, &now) ? -1 : now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t resolution(clockid_t clock) {
    struct timespec step;
    return clock_getres(clock, &step) ? -1 : step.tv_sec * 1000000000LL + step.tv_nsec;
}

int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    report("realtime_s", now.tv_sec);
    report("realtime_ns", now.tv_nsec);
    report("realtime_res_ns", resolution(CLOCK_REALTIME));
    report("monotonic_res_ns", resolution(CLOCK_MONOTONIC));

    int64_t before = nanoseconds(CLOCK_MONOTONIC), after = before;
    long reads = 0;
    while (after - before < 20000000 && reads++ < 100000000) after = nanoseconds(CLOCK_MONOTONIC);
    report("monotonic_before_ns", before);
    report("monotonic_after_ns", after);
    report("time_s", time(NULL));

    __wasi_timestamp_t cpu;
    report("process_cputime_errno", __wasi_clock_time_get(2, 1, &cpu));
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}
