/* A handler of wasi:http 0.3 for the tests, written straight to the async ABI: a state machine that is called back.
 * The path names what it does: a word, and a number behind a slash. */
#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define HTTP(name) IMPORT("wasi:http/types@0.3.0", name)
#define ROOT(name) IMPORT("$root", name)
#define EXPORT(name) __attribute__((export_name(name)))
#define PIECE (64 << 10)
#define BLOCKED -1
#define WAIT 2
#define HANDLE "[async-lift]wasi:http/handler@0.3.0#handle"

typedef unsigned char byte;
typedef struct { byte some, pad[3]; char *at; unsigned length; } text;
typedef struct { int stream, future; } consumed;
typedef struct { int response, sent; } made;

HTTP("[constructor]fields") int new_fields(void);
HTTP("[method]fields.append") void append(int fields, const char *name, int, const char *value, int, void *out);
HTTP("[method]request.get-path-with-query") void path_of(int request, text *out);
HTTP("[static]request.consume-body") void consume(int request, int result, consumed *out);
HTTP("[future-new-0][static]request.consume-body") long long new_result(void);
HTTP("[async-lower][future-write-0][static]request.consume-body") int write_result(int future, const void *value);
HTTP("[future-drop-writable-0][static]request.consume-body") void drop_result(int future);
HTTP("[async-lower][stream-read-1][static]request.consume-body") int read_body(int stream, void *, int most);
HTTP("[stream-cancel-read-1][static]request.consume-body") int cancel_read(int stream);
HTTP("[stream-drop-readable-1][static]request.consume-body") void drop_body(int stream);
HTTP("[async-lower][future-read-2][static]request.consume-body") int read_trailers(int future, void *);
HTTP("[future-drop-readable-2][static]request.consume-body") void drop_trailers(int future);
HTTP("[static]request.new")
void new_request(int fields, int some, int contents, int trailers, int has_options, int options, made *out);
HTTP("[stream-new-0][static]request.new") long long new_upload(void);
HTTP("[async-lower][stream-write-0][static]request.new") int write_upload(int stream, const void *, int count);
HTTP("[stream-drop-writable-0][static]request.new") void drop_upload(int stream);
HTTP("[future-new-1][static]request.new") long long new_upload_trailers(void);
HTTP("[async-lower][future-write-1][static]request.new") int write_upload_trailers(int future, const void *value);
HTTP("[future-drop-writable-1][static]request.new") void end_upload_trailers(int future);
HTTP("[future-drop-readable-2][static]request.new") void drop_request_sent(int future);
HTTP("[method]request.set-method") int set_method(int request, int method, const char *, int);
HTTP("[method]request.set-scheme") int set_scheme(int request, int some, int scheme, const char *, int);
HTTP("[method]request.set-authority") int set_authority(int request, int some, const char *, int);
HTTP("[method]request.set-path-with-query") int set_path(int request, int some, const char *, int);
HTTP("[static]response.consume-body") void consume_response(int response, int result, consumed *out);
HTTP("[future-new-0][static]response.consume-body") long long new_response_result(void);
HTTP("[async-lower][future-write-0][static]response.consume-body") int write_response_result(int, const void *);
HTTP("[future-drop-writable-0][static]response.consume-body") void drop_response_result(int future);
IMPORT("wasi:http/client@0.3.0", "[async-lower]send") int send(int request, void *out);
HTTP("[static]response.new") void new_response(int fields, int some, int contents, int trailers, made *out);
HTTP("[method]response.set-status-code") int set_status(int response, int status);
HTTP("[stream-new-0][static]response.new") long long new_contents(void);
HTTP("[async-lower][stream-write-0][static]response.new") int write_contents(int stream, const void *, int count);
HTTP("[stream-drop-writable-0][static]response.new") void drop_contents(int stream);
HTTP("[future-new-1][static]response.new") long long new_trailers(void);
HTTP("[async-lower][future-write-1][static]response.new") int write_trailers(int future, const void *value);
HTTP("[future-drop-writable-1][static]response.new") void end_trailers(int future);
HTTP("[async-lower][future-read-2][static]response.new") int read_sent(int future, void *);
HTTP("[future-drop-readable-2][static]response.new") void drop_sent(int future);
IMPORT("[export]wasi:http/handler@0.3.0", "[task-return]handle")
void answer(int failed, int response, int, long long, int, int, int, int);
IMPORT("wasi:clocks/monotonic-clock@0.3.0", "[async-lower]wait-for") int wait_for(long long ns);
ROOT("[waitable-set-new]") int new_set(void);
ROOT("[waitable-join]") void join(int waitable, int set);
ROOT("[subtask-drop]") void drop_subtask(int subtask);
ROOT("[subtask-cancel]") int cancel_subtask(int subtask);
ROOT("[context-set-0]") void set_context(int value);
ROOT("[context-get-0]") int get_context(void);

enum { START, PRODUCE, HAVE_READ, WRITE, HAVE_WRITTEN, NEXT, FINISH, HAVE_TRAILERS, SENT, LAST, FETCHED, END };

static byte heap[64 << 10];
static unsigned used;
static byte piece[PIECE];
static _Alignas(8) byte out[128];
static int state, set, payload, contents, trailers, body, sent, times, joined, is_subtask, response;
static unsigned at, left;
static long long n;
static text path;

EXPORT("cabi_realloc") void *cabi_realloc(void *old, unsigned old_size, unsigned align, unsigned size) {
    unsigned place = (used + align - 1) & -align;
    if (place + size > sizeof heap) __builtin_trap();
    used = place + size;
    return heap + place;
}

static int has(const char *word) {
    unsigned i = 1;
    while (*word && i < path.length && path.at[i] == *word) i++, word++;
    return !*word && (i == path.length || path.at[i] == '/');
}

static void parse_number(void) {
    unsigned i = path.length;
    for (long long scale = 1; i > 0 && path.at[i - 1] >= '0' && path.at[i - 1] <= '9'; i--, scale *= 10)
        n += scale * (path.at[i - 1] - '0');
}

/* Waits for one thing, and goes on in that state. */
static int wait(int waitable, int next) {
    joined = waitable;
    join(waitable, set);
    state = next;
    return WAIT | set << 4;
}

static int sleep_ms(long long ms, int next) {
    int started = wait_for(ms * 1000000);
    state = next;
    if ((started & 15) == 2) return 0;
    is_subtask = 1;
    return wait(started >> 4, next);
}

static void respond(int request) {
    int fields = new_fields();
    long long pair = new_contents();
    contents = pair >> 32;
    int contents_read = (int)pair;
    pair = new_trailers();
    trailers = pair >> 32;
    int trailers_read = (int)pair;
    append(fields, "x-kind", 6, "task", 4, out);
    if (has("declared")) append(fields, "content-length", 14, "5", 1, out);
    made got;
    new_response(fields, !has("empty"), contents_read, trailers_read, &got);
    response = got.response;
    if (has("status")) set_status(got.response, n);
    sent = got.sent;
    if (has("echo") || has("cancel")) {
        pair = new_result();
        consumed given;
        consume(request, (int)pair, &given);
        body = given.stream;
        if (write_result(pair >> 32, out + 64) != 0) __builtin_trap();
        drop_result(pair >> 32);
        drop_trailers(given.future);
    }
}

/* Has the request's body in given: nobody is asked for its result. */
static void take_body(int request, consumed *given) {
    long long pair = new_result();
    consume(request, (int)pair, given);
    if (write_result(pair >> 32, out + 64) != 0) __builtin_trap();
    drop_result(pair >> 32);
}

/* Asks 127.0.0.1 with the port behind the slash: with the body that it was given, or with one of its own. */
static int fetch(int request) {
    consumed given;
    take_body(request, &given);
    long long upload = 0, ends = 0;
    if (has("send")) {
        drop_body(given.stream);
        drop_trailers(given.future);
        upload = new_upload();
        ends = new_upload_trailers();
        given.stream = (int)upload;
        given.future = (int)ends;
    }
    made got;
    new_request(new_fields(), 1, given.stream, given.future, 0, 0, &got);
    drop_request_sent(got.sent);
    char authority[24] = "127.0.0.1:";
    int length = 10;
    for (unsigned i = path.length - 5; i < path.length; i++) authority[length++] = path.at[i];
    if (set_method(got.response, 2, 0, 0) || set_scheme(got.response, 1, 0, 0, 0) ||
        set_authority(got.response, 1, authority, length) || set_path(got.response, 1, "/echo", 5))
        __builtin_trap();
    int started = send(got.response, out);
    if (has("send")) {
        int written = write_upload(upload >> 32, "hello", 5);
        if (written != 5 << 4 && written != 1) __builtin_trap(); /* 1: the request has failed already */
        drop_upload(upload >> 32);
        if (write_upload_trailers(ends >> 32, out + 64) > 1u) __builtin_trap();
        end_upload_trailers(ends >> 32);
    }
    state = FETCHED;
    if ((started & 15) == 2) return 0;
    is_subtask = 1;
    return wait(started >> 4, FETCHED);
}

/* Answers with what came: the body as it is, or the number of the error. */
static int fetched(void) {
    int fields = new_fields();
    made got;
    if (out[0]) {
        char number[2] = {'0' + out[8] / 10, '0' + out[8] % 10};
        append(fields, "x-error", 7, number, 2, out + 64);
        long long pair = new_trailers();
        new_response(fields, 0, 0, (int)pair, &got);
        answer(0, got.response, 0, 0, 0, 0, 0, 0);
        for (int i = 0; i < 64; i++) out[i] = 0;
        if (write_trailers(pair >> 32, out) != 0) __builtin_trap();
        end_trailers(pair >> 32);
    } else {
        long long pair = new_response_result();
        consumed given;
        consume_response(*(int *)(out + 8), (int)pair, &given);
        if (write_response_result(pair >> 32, out + 64) != 0) __builtin_trap();
        drop_response_result(pair >> 32);
        new_response(fields, 1, given.stream, given.future, &got);
        answer(0, got.response, 0, 0, 0, 0, 0, 0);
    }
    drop_sent(got.sent);
    state = END;
    return 0;
}

static int finish(void) {
    if (!has("empty")) drop_contents(contents);
    for (int i = 0; i < 64; i++) out[i] = 0;
    if (has("trailers")) {
        int fields = new_fields();
        append(fields, "x-sum", 5, "1234", 4, out);
        for (int i = 0; i < 64; i++) out[i] = 0;
        out[8] = 1;
        *(int *)(out + 12) = fields;
    }
    state = HAVE_TRAILERS;
    return write_trailers(trailers, out);
}

static int run(void) {
    for (;;) switch (state) {
        case FETCHED:
            return fetched();
        case START:
            times = has("events") ? 3 : 1;
            if (has("error")) {
                answer(1, 38, 0, 0, 0, 0, 0, 0); /* internal-error(none) */
                return 0;
            }
            state = has("empty") ? FINISH : PRODUCE;
            answer(0, response, 0, 0, 0, 0, 0, 0);
            if (has("unfinished")) return 0;
            break;
        case PRODUCE:
            if (has("echo") || has("cancel")) {
                payload = read_body(body, piece, PIECE);
                state = HAVE_READ;
                if (payload == BLOCKED && has("cancel")) {
                    payload = cancel_read(body); /* 2: cancelled, nothing copied */
                    piece[0] = '0' + payload;
                    payload = 1 << 4;
                    times = 0;
                }
                if (payload == BLOCKED) return wait(body, HAVE_READ);
                break;
            }
            at = 0;
            if (has("download")) {
                left = n < PIECE ? n : PIECE;
                n -= left;
            } else {
                static const char hello[] = "hello", event[] = "event\n";
                const char *text = has("events") ? event : hello;
                for (left = 0; text[left]; left++) piece[left] = text[left];
            }
            state = left ? WRITE : FINISH;
            break;
        case HAVE_READ:
            left = (unsigned)payload >> 4;
            at = 0;
            if (!left) {
                drop_body(body);
                state = FINISH;
            } else {
                state = WRITE;
            }
            break;
        case WRITE:
            payload = write_contents(contents, piece + at, left);
            state = HAVE_WRITTEN;
            if (payload == BLOCKED) return wait(contents, HAVE_WRITTEN);
            break;
        case HAVE_WRITTEN:
            if ((payload & 15) == 1) return 0; /* nobody takes it any more */
            at += (unsigned)payload >> 4;
            left -= (unsigned)payload >> 4;
            state = left ? WRITE : NEXT;
            break;
        case NEXT:
            if (has("trap") && times-- > 0) {
                int packed = sleep_ms(n, NEXT);
                if (packed) return packed;
                break;
            }
            if (has("trap")) __builtin_trap();
            if (has("echo")) {
                state = PRODUCE;
            } else if (has("events") && --times > 0) {
                int packed = sleep_ms(n, PRODUCE);
                if (packed) return packed;
            } else {
                state = has("download") && n > 0 ? PRODUCE : FINISH;
            }
            break;
        case FINISH:
            payload = finish();
            if (payload == BLOCKED) return wait(trailers, HAVE_TRAILERS);
            break;
        case HAVE_TRAILERS:
            end_trailers(trailers);
            state = SENT;
            if (has("sent")) {
                payload = read_sent(sent, out);
                if (payload == BLOCKED) return wait(sent, SENT);
            }
            break;
        case SENT:
            drop_sent(sent);
            state = LAST;
            break;
        case LAST:
            state = END;
            if (has("after")) {
                int packed = sleep_ms(n, END);
                if (packed) return packed;
            }
            break;
        default:
            return 0;
    }
}

EXPORT(HANDLE) int handle(int request) {
    used = 0;
    set = new_set();
    set_context(42);
    path_of(request, &path);
    parse_number();
    if (has("never")) return sleep_ms(1000000, END);
    if (has("quick")) {
        int started = wait_for(60000000000);
        if (cancel_subtask(started >> 4) != 4) __builtin_trap();
        drop_subtask(started >> 4);
    }
    if (has("send") || has("proxy")) {
        int packed = fetch(request);
        return packed ? packed : run();
    }
    if (has("forward")) {
        consumed given;
        take_body(request, &given);
        made got;
        new_response(new_fields(), 1, given.stream, given.future, &got);
        drop_sent(got.sent);
        answer(0, got.response, 0, 0, 0, 0, 0, 0);
        return 0;
    }
    respond(request);
    return run();
}

EXPORT("[callback]" HANDLE) int callback(int event, int index, int result) {
    if (index != joined || get_context() != 42) __builtin_trap();
    join(index, 0);
    if (is_subtask) {
        if (event != 1 || result != 2) __builtin_trap();
        is_subtask = 0;
        drop_subtask(index);
    }
    payload = result;
    return run();
}
