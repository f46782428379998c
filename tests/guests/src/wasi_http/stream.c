/* A wasi:http handler for the tests of streams, written straight to the canonical ABI. The path names what it does:
 * a word, and a number behind a slash. */
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define HTTP(name) IMPORT("wasi:http/types@0.2.0", name)
#define STREAMS(name) IMPORT("wasi:io/streams@0.2.0", name)
#define POLL(name) IMPORT("wasi:io/poll@0.2.0", name)
#define CLOCK(name) IMPORT("wasi:clocks/monotonic-clock@0.2.0", name)
#define EXPORT(name) __attribute__((export_name(name)))
#define PIECE (64 << 10)

typedef unsigned char byte;
typedef struct { byte failed; int value; } result;
typedef struct { byte failed; long long value; } permit;
typedef struct { byte failed, pad[3]; byte *at; unsigned length; } bytes; /* or the stream-error: tag, error */
typedef struct { byte some, pad[3]; char *at; unsigned length; } text;

HTTP("[constructor]fields") int new_fields(void);
HTTP("[method]fields.append") void append(int fields, const char *name, int, const char *value, int, void *out);
HTTP("[method]incoming-request.path-with-query") void path_of(int request, text *out);
HTTP("[method]incoming-request.consume") void consume(int request, result *out);
HTTP("[method]incoming-body.stream") void body_stream(int body, result *out);
HTTP("[constructor]outgoing-response") int new_response(int fields);
HTTP("[method]outgoing-response.set-status-code") int set_status(int response, int status);
HTTP("[method]outgoing-response.body") void response_body(int response, result *out);
HTTP("[method]outgoing-body.write") void body_write(int body, result *out);
HTTP("[static]outgoing-body.finish") void body_finish(int body, int some, int trailers, void *out);
HTTP("[static]response-outparam.set") void outparam_set(int outparam, int failed, int response,
                                                        int, long long, int, int, int, int);
STREAMS("[method]input-stream.blocking-read") void blocking_read(int stream, long long most, bytes *out);
STREAMS("[method]input-stream.read") void read_now(int stream, long long most, bytes *out);
STREAMS("[method]input-stream.subscribe") int subscribe_in(int stream);
STREAMS("[method]output-stream.check-write") void check_write(int stream, permit *out);
STREAMS("[method]output-stream.write") void write_now(int stream, const void *, int, void *out);
STREAMS("[method]output-stream.blocking-write-and-flush") void write_all(int stream, const void *, int, void *out);
STREAMS("[method]output-stream.subscribe") int subscribe_out(int stream);
STREAMS("[resource-drop]input-stream") void drop_in(int stream);
STREAMS("[resource-drop]output-stream") void drop_out(int stream);
POLL("[method]pollable.block") void block(int pollable);
POLL("[resource-drop]pollable") void drop_pollable(int pollable);
CLOCK("subscribe-duration") int timer(long long ns);

static byte heap[256 << 10];
static unsigned used, kept; /* of the heap; up to `kept` it stays */
static byte piece[PIECE];
static _Alignas(8) byte out[64];

EXPORT("cabi_realloc") void *cabi_realloc(void *old, unsigned old_size, unsigned align, unsigned size) {
    unsigned at = (used + align - 1) & -align;
    if (at + size > sizeof heap) __builtin_trap();
    used = at + size;
    return heap + at;
}

static int is(const text *path, const char *word) {
    unsigned at = 1;
    while (*word && at < path->length && path->at[at] == *word) at++, word++;
    return !*word && (at == path->length || path->at[at] == '/');
}

static long long number(const text *path) {
    long long value = 0;
    unsigned at = path->length;
    for (long long scale = 1; at > 0 && path->at[at - 1] >= '0' && path->at[at - 1] <= '9'; at--, scale *= 10)
        value += scale * (path->at[at - 1] - '0');
    return value;
}

static int must(const result *got) {
    if (got->failed) __builtin_trap();
    return got->value;
}

static void sleep_ms(long long ms) {
    int pollable = timer(ms * 1000000);
    block(pollable);
    drop_pollable(pollable);
}

/* With check-write and a poll, as most tools do it. */
static void write_polling(int stream, const byte *data, unsigned length) {
    while (length) {
        permit room;
        check_write(stream, &room);
        if (room.failed) __builtin_trap();
        if (!room.value) {
            int pollable = subscribe_out(stream);
            block(pollable);
            drop_pollable(pollable);
            continue;
        }
        unsigned now = room.value < length ? room.value : length;
        write_now(stream, data, now, out);
        if (*out) __builtin_trap();
        data += now;
        length -= now;
    }
}

static void write_many(int stream, long long count) {
    for (; count > 0; count -= PIECE) write_polling(stream, piece, count < PIECE ? count : PIECE);
}

static int input_of(int request) {
    result got;
    consume(request, &got);
    body_stream(must(&got), &got);
    return must(&got);
}

static const text *asked;
static int has(const char *word) { return is(asked, word); }

static void append_number(char *into, unsigned long long value, int *length) {
    char digits[20];
    int count = 0;
    do digits[count++] = '0' + value % 10; while (value /= 10);
    while (count) into[(*length)++] = digits[--count];
}

EXPORT("wasi:http/incoming-handler@0.2.0#handle") void handle(int request, int outparam) {
    text path;
    result got;
    bytes given;
    used = 0;
    path_of(request, &path);
    asked = &path;
    kept = used;
    long long n = number(&path);
    if (has("never")) for (;;) sleep_ms(1000);
    int fields = new_fields();
    if (has("declared") || has("short") || has("long")) {
        char digits[20];
        int length = 0;
        append_number(digits, n, &length);
        append(fields, "content-length", 14, digits, length, out);
    }
    if (has("invalid")) append(fields, "x", 1, "1", 1, out);
    int response = new_response(fields);
    if (has("status") || has("invalid")) set_status(response, has("invalid") ? 199 : n);
    if (has("empty")) {
        outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
        return;
    }
    response_body(response, &got);
    int body = must(&got);
    body_write(body, &got);
    int stream = must(&got);
    if (has("before")) write_many(stream, n);
    if (!has("upload")) outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
    if (has("echo") || has("upload")) {
        int input = input_of(request);
        unsigned long long total = 0;
        for (;;) {
            used = kept;
            blocking_read(input, PIECE, &given);
            if (given.failed) break;
            total += given.length;
            if (has("echo")) write_polling(stream, given.at, given.length);
        }
        if (has("upload")) {
            char digits[20];
            int length = 0;
            append_number(digits, total, &length);
            outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
            write_all(stream, digits, length, out);
        }
        drop_in(input);
    } else if (has("download") || has("declared")) {
        write_many(stream, n);
    } else if (has("flood")) {
        for (;;) write_polling(stream, piece, PIECE);
    } else if (has("blocking")) {
        for (long long left = n; left > 0; left -= 4096) write_all(stream, piece, left < 4096 ? left : 4096, out);
    } else if (has("greedy")) {
        write_now(stream, piece, 0x7fffffff, out);
    } else if (has("over")) {
        for (int i = 0; i < 64; i++) write_now(stream, piece, PIECE, out);
    } else if (has("events")) {
        for (int i = 0; i < 3; i++) {
            write_all(stream, "event\n", 6, out);
            sleep_ms(n);
        }
    } else if (has("trap")) {
        write_all(stream, "begun", 5, out);
        sleep_ms(n);
        __builtin_trap();
    } else if (has("short") || has("long")) {
        write_all(stream, piece, n + (has("long") ? 1 : -1), out);
    } else {
        write_all(stream, "hello", 5, out);
    }
    if (has("unfinished")) return;
    drop_out(stream);
    if (has("trailers")) {
        int trailers = new_fields();
        append(trailers, "x-sum", 5, "1234", 4, out);
        body_finish(body, 1, trailers, out);
    } else {
        body_finish(body, 0, 0, out);
    }
    if (has("after")) {
        if (!n) for (;;);
        sleep_ms(n);
    }
    if (has("aftertrap")) {
        sleep_ms(n);
        __builtin_trap();
    }
}
