/* The trivial job as a wasi:http component: the same answer as ../job.c, written straight to the canonical ABI. */
#define HTTP(name) __attribute__((import_module("wasi:http/types@0.2.0"), import_name(name)))
#define STREAMS(name) __attribute__((import_module("wasi:io/streams@0.2.0"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

typedef struct {
    unsigned char failed;
    int value;
} result;

HTTP("[constructor]fields") int new_fields(void);
HTTP("[method]fields.append") void append(int fields, const char *name, int, const char *value, int, char *out);
HTTP("[constructor]outgoing-response") int new_response(int fields);
HTTP("[method]outgoing-response.body") void response_body(int response, result *out);
HTTP("[method]outgoing-body.write") void body_write(int body, result *out);
HTTP("[static]outgoing-body.finish") void body_finish(int body, int some, int trailers, char *out);
HTTP("[static]response-outparam.set") void outparam_set(int outparam, int failed, int response,
                                                        int, long long, int, int, int, int);
HTTP("[resource-drop]incoming-request") void drop_request(int request);
STREAMS("[method]output-stream.blocking-write-and-flush") void write_stream(int stream, const char *, int, char *out);
STREAMS("[resource-drop]output-stream") void drop_stream(int stream);

static const char body[] = "{\"message\":\"hello\"}";

EXPORT("wasi:http/incoming-handler@0.2.0#handle") void handle(int request, int outparam) {
    static _Alignas(8) char out[64];
    result got;
    drop_request(request);
    int fields = new_fields();
    append(fields, "content-type", 12, "application/json", 16, out);
    int response = new_response(fields);
    response_body(response, &got);
    if (got.failed) __builtin_trap();
    int sink = got.value;
    outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    body_write(sink, &got);
    if (got.failed) __builtin_trap();
    write_stream(got.value, body, sizeof body - 1, out);
    drop_stream(got.value);
    body_finish(sink, 0, 0, out);
}

EXPORT("cabi_realloc") void *cabi_realloc(void *old, int old_size, int align, int size) { __builtin_trap(); }
