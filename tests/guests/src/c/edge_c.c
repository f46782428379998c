/* Every capability, by JSON: {"op": "kv.get", "namespace": ..., "key": ...}, or a list of such. */
#include "edge.h"

static edge_text text(edge_json command, const char *name) { return edge_string(edge_get(command, name)); }

static const char *chars(edge_json command, const char *name) { return text(command, name).data; }

/* A member as it stands, as JSON. */
static const char *json(edge_json command, const char *name) {
    edge_json value = edge_get(command, name);
    edge_text copy = {0};
    if (!value.at) return NULL;
    edge_add_bytes(&copy, value.at, value.end - value.at);
    return copy.data;
}

static edge_text answer;

static bool begin(edge_error error) {
    if (!error.code) {
        edge_add(&answer, "{\"ok\":true");
        return true;
    }
    edge_add(&answer, "{\"ok\":false");
    edge_add(&answer, ",\"code\":");
    edge_add_string(&answer, edge_literal(error.code));
    edge_add(&answer, ",\"message\":");
    edge_add_string(&answer, edge_literal(error.message));
    return false;
}

static void add_text(const char *name, edge_text value) {
    if (!value.data) return;
    edge_add(&answer, ",\"");
    edge_add(&answer, name);
    edge_add(&answer, "\":");
    edge_add_string(&answer, value);
}

static void add_json(const char *name, const char *at, size_t len) {
    edge_add(&answer, ",\"");
    edge_add(&answer, name);
    edge_add(&answer, "\":");
    edge_add_bytes(&answer, at, len);
}

static void add_int(const char *name, int64_t value) {
    edge_text digits = {0};
    edge_add_int(&digits, value);
    add_json(name, digits.data, digits.len);
}

static void add_bool(const char *name, bool value) {
    add_json(name, value ? "true" : "false", value ? 4 : 5);
}

static void fetch(edge_json command) {
    edge_fetch_response response = edge_fetch((edge_fetch_request){
        .url = text(command, "url"),
        .method = chars(command, "method"),
        .headers = json(command, "headers"),
        .body = text(command, "body"),
        .timeout_ms = edge_int(edge_get(command, "timeoutMs")),
        .manual_redirects = edge_is_true(edge_get(command, "manualRedirects")),
    });
    if (!begin(response.error)) return;
    add_int("status", response.status);
    add_json("headers", response.headers.at, response.headers.end - response.headers.at);
    add_text("url", response.url);
    add_text("body", response.body);
}

static void change(edge_change made, const char *done) {
    if (!begin(made.error)) return;
    add_bool(done, made.done);
    add_text("etag", made.etag);
}

static void kv(edge_json command, edge_text op) {
    const char *space = chars(command, "namespace");
    edge_text key = text(command, "key"), value = text(command, "value");
    int64_t ttl = edge_int(edge_get(command, "ttlMs"));
    if (edge_equal(op, "kv.get")) {
        edge_value got = edge_kv_get(space, key);
        if (!begin(got.error)) return;
        add_bool("found", got.found);
        if (!got.found) return;
        add_text("value", got.value);
        add_text("etag", got.etag);
    } else if (edge_equal(op, "kv.set")) {
        change(edge_kv_set(space, key, value, ttl), "done");
    } else if (edge_equal(op, "kv.delete")) {
        change(edge_kv_delete(space, key), "deleted");
    } else if (edge_equal(op, "kv.cas")) {
        change(edge_kv_cas(space, key, text(command, "etag"), value, ttl), "swapped");
    } else if (edge_equal(op, "kv.increment")) {
        edge_number sum = edge_kv_increment(space, key, edge_int(edge_get(command, "by")));
        if (begin(sum.error)) add_int("value", sum.value);
    } else {
        edge_key_list page = edge_kv_list(
            space, text(command, "prefix"), text(command, "cursor"), edge_int(edge_get(command, "limit")));
        if (!begin(page.error)) return;
        add_json("keys", page.keys.at, page.keys.end - page.keys.at);
        add_text("cursor", page.cursor);
    }
}

/* A span in a span, with an attribute and an event each, and what is refused. */
static void scenario(void) {
    edge_span outer = edge_trace_start("outer", "{\"key\":\"v\"}");
    edge_span inner = edge_trace_start("inner", NULL);
    edge_error event = edge_trace_event(EDGE_CURRENT, "tick", "{\"n\":1}");
    edge_error set = edge_trace_set(outer.span, "{\"done\":true}");
    edge_error end = edge_trace_end(inner.span, "it broke");
    if (!end.code) end = edge_trace_end(outer.span, NULL);
    edge_error again = edge_trace_end(outer.span, NULL);
    edge_error first = outer.error.code ? outer.error : inner.error.code ? inner.error : event.code ? event : set.code ? set : end;
    if (!begin(first)) return;
    add_int("outer", outer.span);
    add_int("inner", inner.span);
    add_text("again", edge_literal(again.code));
}

static void trace(edge_json command, edge_text op) {
    edge_json number = edge_get(command, "span");
    int64_t span = number.at ? edge_int(number) : EDGE_CURRENT;
    if (edge_equal(op, "trace.start")) {
        edge_span started = edge_trace_start(chars(command, "name"), json(command, "attributes"));
        if (begin(started.error)) add_int("span", started.span);
    } else if (edge_equal(op, "trace.end")) {
        begin(edge_trace_end(span, chars(command, "error")));
    } else if (edge_equal(op, "trace.set")) {
        begin(edge_trace_set(span, json(command, "attributes")));
    } else {
        begin(edge_trace_event(span, chars(command, "name"), json(command, "attributes")));
    }
}

static void run(edge_json command) {
    edge_text op = text(command, "op");
    if (edge_equal(op, "http.fetch")) {
        fetch(command);
    } else if (edge_equal(op, "queue.publish")) {
        edge_message sent = edge_queue_publish(chars(command, "queue"), text(command, "body"), json(command, "attributes"));
        if (begin(sent.error)) add_text("id", sent.id);
    } else if (edge_equal(op, "trace")) {
        scenario();
    } else if (op.len > 6 && !memcmp(op.data, "trace.", 6)) {
        trace(command, op);
    } else if (edge_equal(op, "trap")) {
        __builtin_trap();
    } else {
        kv(command, op);
    }
    edge_add(&answer, "}");
}

int main(void) {
    edge_json command = edge_parse(edge_body(edge_request()));
    if (command.at && *command.at == '[') {
        for (edge_json each = edge_next(command, (edge_json){0}); each.at; each = edge_next(command, each)) {
            edge_add(&answer, answer.len ? "," : "[");
            run(each);
        }
        edge_add(&answer, "]");
    } else {
        run(command);
    }
    return edge_respond(200, EDGE_JSON, answer);
}
