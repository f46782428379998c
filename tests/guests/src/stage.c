/* A step of a pipeline: answers NAME(BODY), and counts its calls in the namespace "calls" where that is granted.
   The query parameter NAME says how it fails instead: "trap", "exit", "hang", "garbage" or a status; with ":N" only
   in the first N calls. Its header x-trace has the traceparent that it was given. */
#include <time.h>

#include "edge.h"

static void fail(edge_text how) {
    struct timespec minute = {60, 0};
    if (edge_equal(how, "trap")) __builtin_trap();
    if (edge_equal(how, "exit")) exit(3);
    if (edge_equal(how, "hang")) nanosleep(&minute, NULL);
    if (edge_equal(how, "garbage")) {
        edge_write(1, "garbage", 7);
        exit(0);
    }
}

int main(void) {
    edge_json request = edge_request();
    edge_text name = edge_string(edge_find(request, "context", "function"));
    int64_t call = edge_kv_increment("calls", name, 1).value;
    edge_text how = edge_string(edge_find(request, "query", name.data));
    char *count = how.data ? strchr(how.data, ':') : NULL;
    int status = 200;
    if (count) how.len = (size_t)(count - how.data), *count++ = 0;
    if (how.data && (!count || call <= atoll(count))) {
        fail(how);
        status = atoi(how.data);
    }
    edge_text body = {0};
    edge_text headers = edge_literal("{\"content-type\":\"text/plain\",\"set-cookie\":[\"a=1\",\"b=2\"],\"x-from\":");
    edge_add_string(&headers, name);
    edge_add(&headers, ",\"x-trace\":");
    edge_add_string(&headers, edge_string(edge_find(request, "context", "traceparent")));
    edge_add(&headers, "}");
    edge_add(&body, name.data);
    edge_add(&body, "(");
    edge_text given = edge_body(request);
    if (given.data) edge_add_bytes(&body, given.data, given.len);
    edge_add(&body, ")");
    return edge_respond(status, headers.data, body);
}
