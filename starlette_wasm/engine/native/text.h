/* Text as fast_path.c, request.c and answer.c read and write it. All of it with the GIL held. */

#ifndef TEXT_H
#define TEXT_H

#include "native.h"
#include "python_abi.h"

#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { MAX_FIELDS = 64, MAX_ID = 128, KEPT = 2 << 20, LARGE = 64 << 10, LARGEST = 1 << 20 };
enum { AROUND = 64 << 10, MOST_PRINTED = LARGEST + AROUND }; /* a body of LARGEST, and what is around it */
enum { MOST_PLAIN = LARGEST / 3 * 4 + AROUND };              /* the same in base64 */
enum { MAX_HEAD = 64 << 10 };                 /* scope.MAX_HEAD */

#define IS(span, text) ((span).len == sizeof(text) - 1 && !memcmp((span).at, text, sizeof(text) - 1))

/* Text that is being written. */
struct text {
  uint8_t *at;
  size_t len, cap;
};

/* Names, values and how often each is there: headers, or keys of a query. */
struct field {
  struct span name, value;
  uint8_t first, last, count; /* the first of this name, and of that one the last and how many */
};
struct fields {
  struct field at[MAX_FIELDS];
  uint8_t repeated[MAX_FIELDS]; /* the first of each name that is there more than once, by where its second one is */
  size_t count, repeats;
};

enum { TOKEN = 1, IN_PATH = 2, IN_HOST = 4, IN_ID = 8, IN_VALUE = 16, UPPER = 32 };

#pragma GCC visibility push(hidden)

extern uint8_t kinds[256]; /* bits for each byte, filled in by the first ready() */

struct keys {
  PyObject *method, *headers, *path, *query_string, *http_version, *raw_path, *scheme, *root_path, *client;
};
extern struct keys keys;
struct names {
  PyObject *content_type, *content_length, *request_id;
};
extern struct names names;
/* What an EdgeRequest has. */
enum { OF_PATH, OF_METHOD, OF_HEADERS, OF_QUERY, OF_BODY, OF_BASE64, OF_PARAMS, OF_URL, OF_MULTI_HEADERS, OF_MULTI_QUERY,
       ATTRIBUTES };
extern PyObject *attributes[ATTRIBUTES];
/* Names of headers, as an EdgeRequest has them. */
enum { NAME_OF_ID, NAME_OF_PARENT, NAME_OF_STATE, NAME_OF_TYPE, HEADER_NAMES };
extern PyObject *header_names[HEADER_NAMES];

bool ready(void);
bool grow(struct text *t, size_t more);
void let_go(struct text *t);
bool put_escaped(struct text *t, struct span text);
bool put_latin1(struct text *t, struct span text);
int hex_digit(uint8_t c);
bool is_ascii(struct span text);
bool is_utf8(struct span text);
bool add_field(struct fields *f, struct span name, struct span value);
bool draw(uint8_t *to, size_t len);

/* base64.c */
void make_digits(void);
bool put_base64(struct text *t, struct span data);
ssize_t unbase64(uint8_t *to, struct span text);

/* request.c */
struct url {
  struct span scheme, host, path, query; /* as they were sent */
};
struct request {
  struct span path, body, region;
  struct span traceparent, tracestate; /* of a span of the host, or empty */
  struct span told;                    /* the traceparent that the guest gets, or empty */
  uint8_t trace[55];                   /* of which this is a copy, since the scope may change while the guest runs */
  PyObject *scope, *params;
  PyObject **edge; /* the attributes of an EdgeRequest, if it is one of these and not of ASGI */
  struct span method;
  struct url url;
  struct fields headers; /* with names in lower case */
  bool head;          /* whether the method is HEAD */
  bool alone;         /* whether the caller takes an answer alone, if nothing is left to do */
  bool head_alone;    /* whether the request may have no body */
  PyObject *status_lines, *server_headers; /* of a server of HTTP/1.1 that is to get an answer as bytes; else NULL */
  uint8_t id[MAX_ID]; /* of the request */
  size_t id_len; /* 0 until it has one */
};
bool put_message(struct text *t, const struct fast_path *q, struct request *request);
bool is_own(struct span name);
bool is_forbidden_field(struct span name);
bool is_traceparent(struct span text);
bool make_id(struct request *request, struct span given);
bool put_body(struct text *t, struct span body);
bool put_context(struct text *t, const struct fast_path *q, struct request *request);
bool unquote(struct text *decoded, struct span *text, bool plus);

/* fast_path.c */
/* What a guest reads, written already. ``arguments`` is where among the variables its arguments begin, 0 if they are those
   of the plan. */
struct inputs {
  struct span message, variables;
  size_t arguments;
  uint8_t key[32];
};
bool read_arguments(struct request *request, PyObject *const *args, bool alone);
bool put_inputs(struct inputs *in, const struct fast_path *q, struct request *request);
void release_inputs(void);
struct scratch *place(const struct fast_path *q);
void count_time(struct plan *plan, uint64_t ran_ns, uint64_t free_ns);
bool cleanup_is_due(struct engine *e);
void schedule_cleanup(struct engine *e);

/* environ.c */
bool put_environ(struct text *t, const struct fast_path *q, const struct request *request);
bool put_arguments(struct text *t, const struct request *request);

/* request.c, for Python */
PyObject *follows(PyObject *self, PyObject *const *args, ssize_t count);

/* http1.c, for Python */
PyObject *http1(PyObject *self, PyObject *const *args, ssize_t count);
PyObject *http1_answer(PyObject *status, const struct request *request, const struct text *lines, struct span body);

/* otlp.c, for Python */
PyObject *otlp_span(PyObject *self, PyObject *const *args, ssize_t count);

/* edge.c */
bool put_edge_request(struct text *t, const struct fast_path *q, struct request *request);
bool put_in_dict(PyObject *dict, struct span name, struct span value, bool first);

/* answer.c */
bool is_soon_read(struct span printed);
PyObject *answer(const struct scratch *s, struct span printed, const struct request *request, uint32_t protocol,
                 bool due, void *left);
PyObject *response(const struct scratch *s, struct span printed, const struct request *request, uint32_t protocol,
                   bool due, void *left);
PyObject *read_for_asgi(struct span printed, struct span id, bool head, uint32_t protocol);

#pragma GCC visibility pop

static inline bool all(struct span text, uint8_t kind) {
  for (size_t i = 0; i < text.len; i++)
    if (!(kinds[text.at[i]] & kind))
      return false;
  return true;
}

static inline bool same(struct span a, struct span b) { return a.len == b.len && !memcmp(a.at, b.at, a.len); }

static inline bool room(struct text *t, size_t more) { return t->cap - t->len >= more || grow(t, more); }

static inline bool put(struct text *t, const void *at, size_t len) {
  if (!len)
    return true;
  if (!room(t, len))
    return false;
  memcpy(t->at + t->len, at, len);
  t->len += len;
  return true;
}
#define PUT(t, text) put(t, text, sizeof(text) - 1)

/* A JSON string of what is valid UTF-8. */
static inline bool quote(struct text *t, struct span text) {
  return PUT(t, "\"") && put_escaped(t, text) && PUT(t, "\"");
}

static inline bool of_str(PyObject *object, struct span *found) {
  ssize_t size = 0;
  found->at = (const uint8_t *)PyUnicode_AsUTF8AndSize(object, &size); /* NULL for None, lone surrogates, no string */
  found->len = (size_t)size;
  return found->at != NULL;
}

static inline bool of_bytes(PyObject *object, struct span *found) {
  char *at;
  ssize_t size = 0;
  if (!object || PyBytes_AsStringAndSize(object, &at, &size))
    return false;
  *found = (struct span){(uint8_t *)at, (size_t)size};
  return true;
}

/* A pair in a list of headers. */
static inline bool of_header(PyObject *headers, ssize_t number, struct span *name, struct span *value) {
  PyObject *pair = PyList_GetItem(headers, number);
  return PyTuple_Size(pair) == 2 && of_bytes(PyTuple_GetItem(pair, 0), name) &&
         of_bytes(PyTuple_GetItem(pair, 1), value);
}

/* Whether a header's name is one, in lower case. */
static inline bool is_lower_token(struct span name) {
  for (size_t i = 0; i < name.len; i++)
    if ((kinds[name.at[i]] & (TOKEN | UPPER)) != TOKEN)
      return false;
  return true;
}

static inline void drop(PyObject *object) {
  if (object)
    Py_DecRef(object);
}

/* A tuple of new objects, which it takes over. NULL if one of them is missing. */
static inline PyObject *pack(PyObject *const *parts, ssize_t count) {
  PyObject *found = PyTuple_New(count);
  for (ssize_t i = 0; i < count; i++) {
    if (!parts[i] && found) {
      Py_DecRef(found);
      found = NULL;
    }
    if (found)
      PyTuple_SetItem(found, i, parts[i]);
    else
      drop(parts[i]);
  }
  return found;
}

static inline PyObject *none(void) {
  PyErr_Clear();
  Py_IncRef(Py_None);
  return Py_None;
}

/* Eight bytes at once: a bit for each byte that a JSON string cannot have as it is. The lowest bit is right, one above
   it may be set by a borrow. */
static inline uint64_t odd_bytes(uint64_t w) {
  const uint64_t ones = 0x0101010101010101u, tops = ones << 7;
  uint64_t quotes = w ^ ones * '"', slashes = w ^ ones * '\\';
  return (((w - ones * 0x20) & ~w) | ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes)) & tops;
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));

static inline bytes16 load16(const uint8_t *at) {
  bytes16 found;
  memcpy(&found, at, 16);
  return found;
}

/* 0xff for each of 16 bytes that a JSON string cannot have as it is. */
static inline bytes16 odd16(bytes16 v) { return (bytes16)(v < 0x20) | (bytes16)(v == '"') | (bytes16)(v == '\\'); }

/* The same of bytes that are not ASCII. */
static inline bytes16 high16(bytes16 v) { return (bytes16)(v >= 0x80); }

static inline bool any16(bytes16 found) {
  uint64_t words[2];
  memcpy(words, &found, 16);
  return words[0] | words[1];
}

/* A bit for each of 16 bytes, the lowest for the first, that is 0xff; the others are 0. */
static inline unsigned bits16(bytes16 found) {
#ifdef __SSE2__
  return (unsigned)_mm_movemask_epi8((__m128i)found);
#else
  unsigned bits = 0;
  for (int i = 0; i < 16 && any16(found); i++)
    bits |= (unsigned)(found[i] & 1) << i;
  return bits;
#endif
}

/* The first of those bits. */
static inline size_t first(unsigned bits) { return (size_t)__builtin_ctz(bits); }

static inline bool is_odd(uint8_t c) { return c < 0x20 || c == '"' || c == '\\'; }

/* How many bytes from ``at`` on a JSON string may have as they are. */
static inline size_t plain_bytes(const uint8_t *at, const uint8_t *end) {
  const uint8_t *from = at;
  for (; end - at >= 64; at += 64)
    if (any16(odd16(load16(at)) | odd16(load16(at + 16)) | odd16(load16(at + 32)) | odd16(load16(at + 48))))
      break;
  for (unsigned bits; end - at >= 16; at += 16)
    if ((bits = bits16(odd16(load16(at)))))
      return (size_t)(at - from) + first(bits);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  for (uint64_t w; end - at >= 8; at += 8) {
    memcpy(&w, at, 8);
    if ((w = odd_bytes(w)))
      return (size_t)(at - from) + (size_t)__builtin_ctzll(w) / 8;
  }
#endif
  while (at < end && !is_odd(*at))
    at++;
  return (size_t)(at - from);
}

#endif
