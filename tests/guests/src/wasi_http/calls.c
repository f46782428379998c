/* A handler of wasi:http that carries out a script: its path is of steps of three characters, a letter and two digits,
 * which are registers or a choice. What the calls give is noted, and goes to stderr at the end, unless the script ends
 * with a dot. */
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define HTTP(name) IMPORT("wasi:http/types@0.2.0", name)
#define STREAMS(name) IMPORT("wasi:io/streams@0.2.0", name)
#define POLL(name) IMPORT("wasi:io/poll@0.2.0", name)
#define CLI(interface, name) IMPORT("wasi:cli/" interface "@0.2.0", name)
#define EXPORT(name) __attribute__((export_name(name)))

typedef unsigned char byte;
typedef struct { const char *at; unsigned length; } text;

HTTP("[method]incoming-request.method") void method(int request, void *out);
HTTP("[method]incoming-request.scheme") void scheme(int request, void *out);
HTTP("[method]incoming-request.authority") void authority(int request, void *out);
HTTP("[method]incoming-request.path-with-query") void path_of(int request, void *out);
HTTP("[method]incoming-request.headers") int headers(int request);
HTTP("[constructor]fields") int new_fields(void);
HTTP("[static]fields.from-list") void from_list(const text *entries, int count, void *out);
HTTP("[method]fields.append") void append(int fields, const char *name, int, const char *value, int, void *out);
HTTP("[method]fields.get") void get(int fields, const char *name, int, void *out);
HTTP("[method]fields.set") void set(int fields, const char *name, int, const text *values, int count, void *out);
HTTP("[method]fields.entries") void entries(int fields, void *out);
HTTP("[method]fields.clone") int clone(int fields);
HTTP("[constructor]outgoing-response") int new_response(int fields);
HTTP("[method]outgoing-response.status-code") int status(int response);
HTTP("[method]outgoing-response.set-status-code") int set_status(int response, int status);
HTTP("[method]outgoing-response.headers") int response_headers(int response);
HTTP("[method]outgoing-response.body") void response_body(int response, void *out);
HTTP("[method]outgoing-body.write") void body_write(int body, void *out);
HTTP("[static]outgoing-body.finish") void body_finish(int body, int some, int trailers, void *out);
HTTP("[static]response-outparam.set") void outparam_set(int outparam, int failed, int response,
                                                        int, long long, int, int, int, int);
HTTP("[method]incoming-request.consume") void consume(int request, void *out);
HTTP("[method]incoming-body.stream") void input_of(int body, void *out);
HTTP("[static]incoming-body.finish") int finish_input(int body);
HTTP("[method]future-trailers.subscribe") int subscribe_trailers(int trailers);
HTTP("[method]future-trailers.get") void get_trailers(int trailers, void *out);
HTTP("[resource-drop]incoming-body") void drop_input_body(int);
HTTP("[resource-drop]future-trailers") void drop_trailers(int);
STREAMS("[method]input-stream.read") void read_now(int stream, long long most, void *out);
STREAMS("[method]input-stream.blocking-read") void read_some(int stream, long long most, void *out);
STREAMS("[method]input-stream.subscribe") int subscribe_input(int stream);
STREAMS("[resource-drop]input-stream") void drop_input(int);
HTTP("[resource-drop]incoming-request") void drop_request(int);
HTTP("[resource-drop]fields") void drop_fields(int);
HTTP("[resource-drop]outgoing-response") void drop_response(int);
HTTP("[resource-drop]outgoing-body") void drop_body(int);
HTTP("[resource-drop]response-outparam") void drop_outparam(int);
STREAMS("[method]output-stream.check-write") void check_write(int stream, void *out);
STREAMS("[method]output-stream.write") void write_now(int stream, const void *, int, void *out);
STREAMS("[method]output-stream.blocking-write-and-flush") void write_all(int stream, const void *, int, void *out);
STREAMS("[method]output-stream.flush") void flush(int stream, void *out);
STREAMS("[method]output-stream.blocking-flush") void blocking_flush(int stream, void *out);
STREAMS("[method]output-stream.subscribe") int subscribe(int stream);
STREAMS("[resource-drop]output-stream") void drop_stream(int);
POLL("poll") void poll(const int *pollables, int count, void *out);
POLL("[method]pollable.ready") int ready(int pollable);
POLL("[method]pollable.block") void block(int pollable);
POLL("[resource-drop]pollable") void drop_pollable(int);
CLI("environment", "get-environment") void environment(void *out);
CLI("environment", "get-arguments") void arguments(void *out);
CLI("environment", "initial-cwd") void cwd(void *out);
CLI("stderr", "get-stderr") int get_stderr(void);

static byte heap[512 << 10], note[64 << 10], data[100 << 10];
static unsigned used, noted;
static _Alignas(8) byte out[64];
static int r[10] = {0};

EXPORT("cabi_realloc") void *cabi_realloc(void *old, unsigned old_size, unsigned align, unsigned size) {
    unsigned at = (used + align - 1) & -align;
    if (at + size > sizeof heap) __builtin_trap();
    used = at + size;
    return heap + at;
}

static void say(const void *from, unsigned length) {
    for (unsigned i = 0; i < length && noted < sizeof note; i++) note[noted++] = ((const byte *)from)[i];
}

static void say_number(unsigned number) {
    char digits[10];
    int count = 0;
    do digits[count++] = '0' + number % 10; while (number /= 10);
    while (count) say(&digits[--count], 1);
    say(" ", 1);
}

static int at(unsigned place) { return *(int *)(out + place); }

static void say_text(const text *given) {
    say("'", 1);
    say(given->at, given->length);
    say("' ", 2);
}

static void say_option(void) {
    if (!*out) say("none ", 5);
    else say_text((const text *)(out + 4));
}

static void say_list(int texts) {
    const text *each = (const text *)at(0);
    say_number(at(4));
    for (int left = at(4) * texts; left > 0; left--) say_text(each++);
}

/* A result without a payload, or with a handle. */
static int say_result(void) {
    say(*out ? "failed " : "ok ", *out ? 7 : 3);
    if (*out) say_number(out[4]);
    return *out ? -1 : at(4);
}

#define TEXT(literal) {literal, sizeof literal - 1}
static const text names[10] = {TEXT("x-a"), TEXT("X-B"), TEXT("content-type"), TEXT("content-length"), TEXT("set-cookie"),
                               TEXT("host"), TEXT("a b"), TEXT(""), TEXT("accept"), TEXT("connection")};
static const text values[10] = {TEXT("1"), TEXT("\xc3\xa9"), TEXT("text/plain"), TEXT("5"), TEXT("a=1"),
                                TEXT("h"), TEXT("v"), TEXT(""), TEXT("\n"), TEXT("close")};
static const text lists[10][4] = {
    {TEXT("x-a"), TEXT("1"), TEXT("x-a"), TEXT("2")}, {TEXT("content-length"), TEXT("5"), TEXT("x-c"), TEXT("3")},
    {TEXT("x-a"), TEXT("1"), TEXT("host"), TEXT("2")}, {TEXT("x-a"), TEXT("1"), TEXT("x d"), TEXT("2")},
    {TEXT("x-a"), TEXT("\x01"), TEXT("x-a"), TEXT("2")}, {TEXT("content-length"), TEXT("x"), TEXT("x-a"), TEXT("2")},
    {TEXT("Set-Cookie"), TEXT("a"), TEXT("set-cookie"), TEXT("b")}, {TEXT("a"), TEXT(""), TEXT("b"), TEXT("\xff")},
    {TEXT("content-length"), TEXT("0"), TEXT("date"), TEXT("2")}, {TEXT("te"), TEXT("1"), TEXT("x-a"), TEXT("2")}};
static const int sizes[10] = {0, 1, 5, 4, 1000, 8192, 40000, 65536, 70000, 3};
static const int statuses[10] = {200, 201, 204, 304, 404, 599, 600, 99, 1000, 199};

static void of_fields(char step, int a, int b) {
    const text *name = &names[b], *value = &values[b];
    switch (step) {
    case 'f': r[b] = new_fields(); break;
    case 'l': from_list(lists[a], 2, out); r[b] = say_result(); break;
    case 'a': append(r[a], name->at, name->length, value->at, value->length, out); say_result(); break;
    case 'g': get(r[a], name->at, name->length, out); say_list(1); break;
    case 'i': set(r[a], name->at, name->length, value, 1, out); say_result(); break;
    case 'e': entries(r[a], out); say_list(2); break;
    case 'c': r[b] = clone(r[a]); break;
    }
}

static void of_request(char step, int a, int b) {
    switch (step) {
    case 'm': method(r[a], out); say_number(*out); break;
    case 's': scheme(r[a], out); say_number(*out); say_number(out[4]); break;
    case 'u': authority(r[a], out); say_option(); break;
    case 'p': path_of(r[a], out); say_option(); break;
    case 'h': r[b] = headers(r[a]); break;
    case 'E': environment(out); say_list(2); break;
    case 'A': arguments(out); say_list(1); break;
    case 'C': cwd(out); say_option(); break;
    }
}

static void of_response(char step, int a, int b) {
    switch (step) {
    case 'r': r[b] = new_response(r[a]); break;
    case 't': say_number(set_status(r[a], statuses[b])); break;
    case 'T': say_number(status(r[a])); break;
    case 'H': r[b] = response_headers(r[a]); break;
    case 'b': response_body(r[a], out); r[b] = say_result(); break;
    case 'w': body_write(r[a], out); r[b] = say_result(); break;
    case 'F': body_finish(r[a], 0, 0, out); say_result(); break;
    case 'G': body_finish(r[a], 1, r[b], out); say_result(); break;
    case 'o': outparam_set(r[a], 0, r[b], 0, 0, 0, 0, 0, 0); break;
    case 'O': outparam_set(r[a], 1, 36, 0, 0, 0, 0, 0, 0); break;
    }
}

static void of_stream(char step, int a, int b) {
    int both[] = {r[a], r[b]};
    switch (step) {
    case 'k': check_write(r[a], out); say_number(*out); say_number(at(8)); break;
    case 'W': write_now(r[a], data, sizes[b], out); say_result(); break;
    case 'B': write_all(r[a], data, sizes[b], out); say_result(); break;
    case 'L': flush(r[a], out); say_result(); break;
    case 'M': blocking_flush(r[a], out); say_result(); break;
    case 'S': r[b] = subscribe(r[a]); break;
    case 'P': poll(both, 2, out); say_number(at(4)); say_number(((int *)at(0))[0]); break;
    case 'R': say_number(ready(r[a])); break;
    case 'K': block(r[a]); break;
    }
}

static void say_read(void) {
    say(*out ? "failed " : "read ", *out ? 7 : 5);
    say_number(*out ? out[4] : at(8));
    if (!*out) say((const byte *)at(4), at(8) < 20 ? at(8) : 20);
}

static void of_input(char step, int a, int b) {
    switch (step) {
    case 'D': consume(r[a], out); r[b] = say_result(); break;
    case 'N': input_of(r[a], out); r[b] = say_result(); break;
    case 'd': read_now(r[a], sizes[b], out); say_read(); break;
    case 'j': read_some(r[a], sizes[b], out); say_read(); break;
    case 'V': r[b] = subscribe_input(r[a]); break;
    case 'I': r[b] = finish_input(r[a]); break;
    case 'U': r[b] = subscribe_trailers(r[a]); break;
    case 'J':
        get_trailers(r[a], out);
        for (int i = 0; i < 25; i += 8) say_number(out[i]);
        break;
    }
}

static void of_drops(char step, int a) {
    switch (step) {
    case 'x': drop_request(r[a]); break;
    case 'y': drop_fields(r[a]); break;
    case 'z': drop_response(r[a]); break;
    case 'q': drop_body(r[a]); break;
    case 'v': drop_stream(r[a]); break;
    case 'n': drop_pollable(r[a]); break;
    case 'X': drop_outparam(r[a]); break;
    case 'Y': drop_input(r[a]); break;
    case 'Z': drop_input_body(r[a]); break;
    case 'Q': drop_trailers(r[a]); break;
    }
}

EXPORT("wasi:http/incoming-handler@0.2.0#handle") void handle(int request, int outparam) {
    for (unsigned i = 0; i < sizeof data; i++) data[i] = 'a' + i % 26;
    path_of(request, out);
    const char *step = (const char *)at(4) + 1, *end = (const char *)at(4) + at(8);
    r[0] = request;
    r[1] = outparam;
    for (; end - step >= 3; step += 3) {
        int a = step[1] - '0', b = step[2] - '0';
        of_fields(*step, a, b);
        of_request(*step, a, b);
        of_response(*step, a, b);
        of_stream(*step, a, b);
        of_input(*step, a, b);
        of_drops(*step, a);
        say_number(r[b]);
    }
    if (step < end && *step == '.') return;
    write_all(get_stderr(), note, noted, out);
}
