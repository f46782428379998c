/* The ten examples of docs/sdk-examples.md, one path for each. */
#include "edge_web.h"

/* example: hello */
static int hello(edge_json request) {
    edge_text name = edge_query(request, "name"), body = edge_literal("Hello, ");
    if (!name.len) name = edge_literal("world");
    edge_add_bytes(&body, name.data, name.len);
    edge_add(&body, "!\n");
    return edge_respond_text(200, body);
}

/* example: json */
static int sum(edge_json request) {
    edge_json numbers = edge_get(edge_parse(edge_body(request)), "numbers"), number = {0};
    int64_t total = 0;
    while ((number = edge_next(numbers, number)).at) total += edge_int(number);
    edge_text body = {0};
    edge_int_field(&body, "sum", total);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}

/* example: query */
static int tags(edge_json request) {
    edge_text body = edge_literal(""), tag;
    for (size_t i = 0; (tag = edge_query_at(request, "tag", i)).data; i++) {
        edge_add_bytes(&body, tag.data, tag.len);
        edge_add(&body, "\n");
    }
    return edge_respond_text(200, body);
}

/* example: cookies */
static int visits(edge_json request) {
    edge_text before = edge_cookie(request, "visits"), count = {0}, body = edge_literal("visit ");
    edge_add_int(&count, strtol(before.data ? before.data : "0", NULL, 10) + 1);
    edge_response response = edge_reply(200);
    edge_set_cookie(&response, "visits", count, "Path=/; HttpOnly; SameSite=Lax");
    edge_add_bytes(&body, count.data, count.len);
    return edge_send(response, body);
}

/* example: form */
static int order(edge_json request) {
    edge_text count = edge_form(request, "count"), item = edge_form(request, "item");
    if (!count.data || !item.data) return edge_problem(400, "Incomplete order", "send count and item");
    edge_text body = edge_literal(count.data);
    edge_add(&body, " x ");
    edge_add_bytes(&body, item.data, item.len);
    return edge_respond_text(200, body);
}

/* example: multipart */
static int upload(edge_json request) {
    edge_part part;
    if (!edge_part_at(request, 0, &part)) return edge_problem(400, "No file", "send multipart/form-data");
    edge_text body = {0};
    edge_text_field(&body, "filename", part.filename);
    edge_text_field(&body, "type", part.type);
    edge_int_field(&body, "bytes", part.body.len);
    edge_add(&body, "}");
    return edge_respond(200, EDGE_JSON, body);
}

/* example: redirect */
static int moved(edge_json request) {
    (void)request;
    return edge_redirect(308, edge_literal("/hello?name=Ada"));
}

/* example: problem */
static int item(edge_json request) {
    edge_text id = edge_query(request, "id");
    char *end = id.data;
    long number = id.len ? strtol(id.data, &end, 10) : 0;
    if (!id.len || *end) return edge_problem(400, "Not a number", "id is to be a number");
    edge_text body = edge_literal("item ");
    edge_add_int(&body, number);
    return edge_respond_text(200, body);
}

/* example: fetch */
static int rates(edge_json request) {
    (void)request;
    edge_info("asking for the rates");
    edge_fetch_response got = edge_fetch((edge_fetch_request){.url = edge_literal("https://api.example.com/rates")});
    if (got.error.code) {
        edge_fail(got.error.message);
        return edge_problem(502, "No rates", got.error.code);
    }
    return edge_respond(got.status, EDGE_JSON, got.body);
}

/* example: store */
static int orders(edge_json request) {
    edge_span span = edge_trace_start("place order", NULL);
    edge_number number = edge_kv_increment("shop", edge_literal("orders"), 1);
    if (number.error.code) return edge_problem(502, "Not stored", number.error.message);
    edge_message sent = edge_queue_publish("orders", edge_body(request), "{\"kind\":\"new\"}");
    if (sent.error.code) return edge_problem(502, "Not queued", sent.error.message);
    edge_trace_end(span.span, NULL);
    edge_text body = edge_literal("order ");
    edge_add_int(&body, number.value);
    return edge_respond_text(202, body);
}

/* example: end */
static const struct {
    const char *path;
    int (*answer)(edge_json request);
} routes[] = {
    {"/hello", hello}, {"/sum", sum}, {"/tags", tags}, {"/visits", visits}, {"/order", order},
    {"/upload", upload}, {"/moved", moved}, {"/item", item}, {"/rates", rates}, {"/orders", orders},
};

int main(void) {
    edge_json request = edge_request();
    edge_text path = edge_path(request);
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (edge_equal(path, routes[i].path)) return routes[i].answer(request);
    return edge_problem(404, "Not found", "there is no such example");
}
