/* A request from the ASGI scope to the guest's stdin, and what it printed to ASGI's headers and body, in one call, for
   what is common. It never refuses anything: what is unusual, right or wrong, is left to Python, whose messages.py,
   edge.py, jsonscan.py and headers.py say what is right. A test holds the two together.

   The GIL is held but while the guest runs, so that what is static, and is read before that, needs no lock. A guest
   that has not ended when the epoch ticks is handed to Python, and one that could call into Python is not run here.

   Python's functions are those of its stable ABI, declared here since its headers need not be installed. */

#include "native.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#ifdef __APPLE__
#include <sys/random.h>
#define STEADY CLOCK_UPTIME_RAW /* as time.monotonic() there */
#else
#include <unistd.h>
#define STEADY CLOCK_MONOTONIC
#endif

typedef struct _object PyObject;
typedef struct {
  const char *name;
  PyObject *(*function)(PyObject *, PyObject *const *, ssize_t);
  int flags;
  const char *doc;
} PyMethodDef;
#define METH_FASTCALL 0x80

extern PyObject _Py_NoneStruct;
#define Py_None (&_Py_NoneStruct)
extern void Py_IncRef(PyObject *);
extern void Py_DecRef(PyObject *);
extern void *PyEval_SaveThread(void);
extern void PyEval_RestoreThread(void *);
extern void PyErr_Clear(void);
extern PyObject *PyErr_Occurred(void);
extern PyObject *PyCFunction_NewEx(PyMethodDef *, PyObject *, PyObject *);
extern PyObject *PyUnicode_InternFromString(const char *);
extern PyObject *PyUnicode_FromStringAndSize(const char *, ssize_t);
extern ssize_t PyUnicode_GetLength(PyObject *);
extern PyObject *PyUnicode_DecodeUTF8(const char *, ssize_t, const char *);
extern const char *PyUnicode_AsUTF8AndSize(PyObject *, ssize_t *);
extern PyObject *PyBytes_FromStringAndSize(const char *, ssize_t);
extern int PyBytes_AsStringAndSize(PyObject *, char **, ssize_t *);
extern PyObject *PyDict_GetItemWithError(PyObject *, PyObject *);
extern int PyDict_Next(PyObject *, ssize_t *, PyObject **, PyObject **);
extern ssize_t PyDict_Size(PyObject *);
extern PyObject *PyList_New(ssize_t);
extern int PyList_Append(PyObject *, PyObject *);
extern ssize_t PyList_Size(PyObject *);
extern PyObject *PyList_GetItem(PyObject *, ssize_t);
extern ssize_t PyTuple_Size(PyObject *);
extern PyObject *PyTuple_GetItem(PyObject *, ssize_t);
extern PyObject *PyTuple_Pack(ssize_t, ...);
extern PyObject *PyBool_FromLong(long);
extern PyObject *PyLong_FromLong(long);
extern PyObject *PyLong_FromSsize_t(ssize_t);
extern PyObject *PyLong_FromVoidPtr(void *);
extern ssize_t PyLong_AsSsize_t(PyObject *);
extern void *PyLong_AsVoidPtr(PyObject *);

enum { MAX_FIELDS = 64, MAX_ID = 128, KEPT = 1 << 20, LARGE = 64 << 10 };
/* layout.FIELDS */
enum { STARTED = 104, REALTIME = 112, MONOTONIC = 120, RANDOM_KEY = 160 };

struct span {
  const uint8_t *at;
  size_t len;
};

#define IS(span, text) ((span).len == sizeof(text) - 1 && !memcmp((span).at, text, sizeof(text) - 1))

/* Bits for each byte, filled in by the first ready(). */
enum { PLAIN = 1, TOKEN = 2, IN_PATH = 4, IN_HOST = 8, IN_ID = 16, IN_QUERY = 32, IN_VALUE = 64, UPPER = 128 };
static uint8_t kinds[256];

static void mark(const char *bytes, uint8_t kind) {
  for (; *bytes; bytes++)
    kinds[(uint8_t)*bytes] |= kind;
}

static struct {
  PyObject *method, *headers, *path, *query_string, *http_version, *raw_path, *scheme;
} keys;

static struct {
  PyObject *content_type, *content_length, *request_id;
} names;

/* Random bytes for ids, of which one system call gives sixteen ids' worth. A forked child draws its own. */
static struct {
  uint8_t bytes[256];
  size_t left;
} drawn;

static void drawn_by_parent(void) { drawn.left = 0; }

static bool draw(uint8_t *to, size_t len) {
  if (drawn.left < len) {
    if (getentropy(drawn.bytes, sizeof drawn.bytes))
      return false;
    drawn.left = sizeof drawn.bytes;
  }
  drawn.left -= len;
  memcpy(to, drawn.bytes + drawn.left, len);
  return true;
}

static bool ready(void) {
  if (keys.scheme)
    return true;
  if (pthread_atfork(NULL, NULL, drawn_by_parent))
    return false;
  const char *letters = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  mark(letters, TOKEN | IN_PATH | IN_HOST | IN_ID);
  mark(letters + 36, UPPER);
  mark("!#$%&'*+.^_`|~-", TOKEN);       /* RFC 9110, section 5.6.2 */
  mark("/._~!$&'()*+,;=:@-", IN_PATH);  /* RFC 3986, pchar without escapes */
  mark("._-", IN_HOST);
  mark("._:-", IN_ID);
  for (int c = 0x20; c < 256; c++)
    if (c != '"' && c != '\\')
      kinds[c] |= PLAIN;
  for (int c = 0x20; c < 0x7f; c++) {
    kinds[c] |= IN_VALUE;
    if (c > 0x20 && !strchr("%+\"\\", c)) /* nothing to decode or escape */
      kinds[c] |= IN_QUERY;
  }
  names.content_type = PyBytes_FromStringAndSize("content-type", 12);
  names.content_length = PyBytes_FromStringAndSize("content-length", 14);
  names.request_id = PyBytes_FromStringAndSize("x-request-id", 12);
  keys.method = PyUnicode_InternFromString("method");
  keys.headers = PyUnicode_InternFromString("headers");
  keys.path = PyUnicode_InternFromString("path");
  keys.query_string = PyUnicode_InternFromString("query_string");
  keys.http_version = PyUnicode_InternFromString("http_version");
  keys.raw_path = PyUnicode_InternFromString("raw_path");
  keys.scheme = PyUnicode_InternFromString("scheme");
  return names.content_type && names.content_length && names.request_id && keys.method && keys.headers && keys.path &&
         keys.query_string && keys.http_version && keys.raw_path && keys.scheme;
}

static bool all(struct span text, uint8_t kind) {
  for (size_t i = 0; i < text.len; i++)
    if (!(kinds[text.at[i]] & kind))
      return false;
  return true;
}

static bool of_str(PyObject *object, struct span *found) {
  ssize_t size = 0;
  found->at = (const uint8_t *)PyUnicode_AsUTF8AndSize(object, &size); /* NULL for None, lone surrogates, no string */
  found->len = (size_t)size;
  return found->at != NULL;
}

static bool of_bytes(PyObject *object, struct span *found) {
  char *at;
  ssize_t size = 0;
  if (!object || PyBytes_AsStringAndSize(object, &at, &size))
    return false;
  *found = (struct span){(uint8_t *)at, (size_t)size};
  return true;
}

static bool of_header(PyObject *headers, ssize_t number, struct span *name, struct span *value) {
  PyObject *pair = PyList_GetItem(headers, number);
  return PyTuple_Size(pair) == 2 && of_bytes(PyTuple_GetItem(pair, 0), name) &&
         of_bytes(PyTuple_GetItem(pair, 1), value);
}

static void drop(PyObject *object) {
  if (object)
    Py_DecRef(object);
}

/* The text that is being written: the message, or the environment. */
struct text {
  uint8_t *at;
  size_t len, cap;
};
static struct text message, variables;

static bool room(struct text *t, size_t more) {
  if (t->cap - t->len >= more)
    return true;
  size_t cap = (t->len + more) * 2 + 4096;
  uint8_t *at = realloc(t->at, cap);
  if (!at)
    return false;
  t->at = at;
  t->cap = cap;
  return true;
}

/* Nothing is kept of one that was large. */
static void let_go(struct text *t) {
  if (t->cap > KEPT) {
    free(t->at);
    *t = (struct text){NULL, 0, 0};
  }
}

static bool put(struct text *t, const void *at, size_t len) {
  if (!room(t, len))
    return false;
  memcpy(t->at + t->len, at, len);
  t->len += len;
  return true;
}
#define PUT(t, text) put(t, text, sizeof(text) - 1)

static void escape(struct text *t, uint8_t c) {
  static const char digits[] = "0123456789abcdef";
  uint8_t *to = t->at + t->len;
  const char *shorts = "\"\"\\\\\nn\rr\tt\ff\bb";
  to[0] = '\\';
  for (; *shorts; shorts += 2)
    if ((uint8_t)shorts[0] == c) {
      to[1] = (uint8_t)shorts[1];
      t->len += 2;
      return;
    }
  memcpy(to + 1, "u00", 3);
  to[4] = (uint8_t)digits[c >> 4];
  to[5] = (uint8_t)digits[c & 15];
  t->len += 6;
}

/* A JSON string of what is valid UTF-8. */
static bool quote(struct text *t, struct span text) {
  if (!room(t, text.len + 8))
    return false;
  t->at[t->len++] = '"';
  for (size_t i = 0; i < text.len;) {
    size_t from = i;
    while (i < text.len && kinds[text.at[i]] & PLAIN)
      i++;
    memcpy(t->at + t->len, text.at + from, i - from);
    t->len += i - from;
    if (i < text.len) {
      escape(t, text.at[i++]);
      if (!room(t, text.len - i + 8))
        return false;
    }
  }
  t->at[t->len++] = '"';
  return true;
}

/* A JSON string of Latin-1. */
static bool quote_latin1(struct text *t, struct span text) {
  if (!room(t, text.len * 6 + 2))
    return false;
  t->at[t->len++] = '"';
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    if (c >= 0x80) {
      t->at[t->len++] = (uint8_t)(0xc0 | c >> 6);
      t->at[t->len++] = (uint8_t)(0x80 | (c & 0x3f));
    } else if (kinds[c] & PLAIN)
      t->at[t->len++] = c;
    else
      escape(t, c);
  }
  t->at[t->len++] = '"';
  return true;
}

struct fields {
  struct span names[MAX_FIELDS];
  size_t count;
};

/* False if it, or one that is much like it, is there already; or if there are too many. */
static bool new_field(struct fields *f, struct span name) {
  if (f->count == MAX_FIELDS)
    return false;
  for (size_t i = 0; i < f->count; i++)
    if (f->names[i].len == name.len) {
      size_t j = 0;
      while (j < name.len && (f->names[i].at[j] | 0x20) == (name.at[j] | 0x20)) /* in whatever case */
        j++;
      if (j == name.len)
        return false;
    }
  f->names[f->count++] = name;
  return true;
}

static bool put_headers(struct text *t, PyObject *headers, struct span *host, struct span *request_id) {
  ssize_t count = PyList_Size(headers);
  struct fields fields = {.count = 0};
  if (count < 0 || !PUT(t, "\"headers\":{"))
    return false;
  for (ssize_t i = 0; i < count; i++) {
    struct span name, value;
    if (!of_header(headers, i, &name, &value) || !new_field(&fields, name))
      return false;
    for (size_t j = 0; j < name.len; j++)
      if ((kinds[name.at[j]] & (TOKEN | UPPER)) != TOKEN)
        return false;
    if (IS(name, "host"))
      *host = value;
    else if (IS(name, "x-request-id"))
      *request_id = value;
    else if (IS(name, "traceparent"))
      return false;
    if ((i && !PUT(t, ",")) || !quote(t, name) || !PUT(t, ":") || !quote_latin1(t, value))
      return false;
  }
  return PUT(t, "},");
}

static bool put_query(struct text *t, struct span query) {
  struct fields fields = {.count = 0};
  if (!PUT(t, "\"query\":{"))
    return false;
  for (size_t i = 0; i < query.len;) {
    const uint8_t *from = query.at + i, *end = memchr(from, '&', query.len - i);
    size_t len = end ? (size_t)(end - from) : query.len - i;
    i += len + 1;
    if (!len)
      continue;
    const uint8_t *is = memchr(from, '=', len);
    struct span name = {from, is ? (size_t)(is - from) : len};
    struct span value = {from + name.len + 1, is ? len - name.len - 1 : 0};
    if (!new_field(&fields, name) || (fields.count > 1 && !PUT(t, ",")) || !quote(t, name) || !PUT(t, ":") ||
        !quote(t, value))
      return false;
  }
  return PUT(t, "},");
}

static bool put_params(struct text *t, PyObject *params) {
  ssize_t at = 0;
  PyObject *key, *value;
  if (PyDict_Size(params) < 0 || !PUT(t, "\"params\":{"))
    return false;
  for (bool more = false; PyDict_Next(params, &at, &key, &value); more = true) {
    struct span name, text;
    if (!of_str(key, &name) || !of_str(value, &text) || (more && !PUT(t, ",")) || !quote(t, name) || !PUT(t, ":") ||
        !quote(t, text))
      return false;
  }
  return PUT(t, "},");
}

/* A name or IPv4 address, and perhaps a port up to 64999. */
static bool plain_host(struct span host) {
  const uint8_t *colon = memchr(host.at, ':', host.len);
  struct span name = {host.at, colon ? (size_t)(colon - host.at) : host.len};
  if (!name.len || !all(name, IN_HOST))
    return false;
  if (!colon)
    return true;
  size_t digits = host.len - name.len - 1;
  long port = 0;
  for (size_t i = 1; i <= digits; i++) {
    if (digits > 5 || colon[i] < '0' || colon[i] > '9')
      return false;
    port = port * 10 + colon[i] - '0';
  }
  return digits && port < 65000 && (digits < 5 || colon[1] != '0');
}

static bool put_url(struct text *t, PyObject *scope, struct span host, struct span query) {
  PyObject *scheme_is = PyDict_GetItemWithError(scope, keys.scheme);
  struct span scheme = {(const uint8_t *)"http", 4}, path;
  if (PyErr_Occurred() || (scheme_is && !of_str(scheme_is, &scheme)))
    return false;
  PyObject *path_is = PyDict_GetItemWithError(scope, keys.path);
  if (!path_is || !of_str(path_is, &path) || !path.len || path.at[0] != '/' || !all(path, IN_PATH))
    return false;
  PyObject *raw_is = PyDict_GetItemWithError(scope, keys.raw_path); /* as received, where escapes may stand for these */
  struct span raw;
  if (PyErr_Occurred() || (raw_is && raw_is != Py_None &&
                           (!of_bytes(raw_is, &raw) || raw.len != path.len || memcmp(raw.at, path.at, raw.len))))
    return false;
  if (!host.at || !plain_host(host) || !all(scheme, IN_HOST))
    return false;
  return PUT(t, "\"url\":\"") && put(t, scheme.at, scheme.len) && PUT(t, "://") && put(t, host.at, host.len) &&
         put(t, path.at, path.len) && (!query.len || (PUT(t, "?") && put(t, query.at, query.len))) && PUT(t, "\",");
}

static bool put_body(struct text *t, struct span body) {
  if (!body.len)
    return PUT(t, "\"body\":null,");
  bool ascii = true;
  for (size_t i = 0; ascii && i < body.len; i++)
    ascii = body.at[i] < 0x80;
  if (!ascii) {
    PyObject *text = PyUnicode_DecodeUTF8((const char *)body.at, (ssize_t)body.len, "strict");
    if (!text)
      return false;
    Py_DecRef(text);
  }
  size_t before = t->len;
  if (!PUT(t, "\"body\":") || !quote(t, body) || !PUT(t, ","))
    return false;
  /* EdgeProtocol.encode() may make base64 of it. */
  return body.len <= LARGE || t->len - before < body.len + body.len / 4;
}

/* What the guest reads on stdin. The same as EdgeRequest.from_scope() and EdgeProtocol.encode(). */
static bool put_message(struct text *t, const struct fast_path *q, PyObject *scope, struct span path, PyObject *params,
                        struct span body, struct span region, uint8_t *id, size_t *id_len) {
  struct span method, query = {NULL, 0}, host = {NULL, 0}, given = {NULL, 0};
  PyObject *method_is = PyDict_GetItemWithError(scope, keys.method);
  PyObject *headers = PyDict_GetItemWithError(scope, keys.headers);
  PyObject *query_is = PyDict_GetItemWithError(scope, keys.query_string);
  if (!method_is || !headers || !of_str(method_is, &method) || IS(method, "HEAD"))
    return false;
  if (query_is && (!of_bytes(query_is, &query) || !all(query, IN_QUERY)))
    return false;
  if (!PUT(t, "{\"path\":") || !quote(t, path) || !PUT(t, ",\"method\":") || !quote(t, method) || !PUT(t, ",") ||
      !put_headers(t, headers, &host, &given) || !put_query(t, query) || !put_body(t, body) ||
      !PUT(t, "\"is_base64_encoded\":false,") || !put_params(t, params) || !put_url(t, scope, host, query))
    return false;

  if (given.len && given.len <= MAX_ID && all(given, IN_ID) && !strchr("._:-", given.at[0])) {
    memcpy(id, given.at, *id_len = given.len);
  } else {
    uint8_t random[16];
    if (!draw(random, sizeof random))
      return false;
    for (int i = 0; i < 16; i++) {
      id[2 * i] = (uint8_t)"0123456789abcdef"[random[i] >> 4];
      id[2 * i + 1] = (uint8_t)"0123456789abcdef"[random[i] & 15];
    }
    *id_len = 32;
  }
  return PUT(t, "\"context\":{\"request_id\":\"") && put(t, id, *id_len) && PUT(t, "\",\"region\":") &&
         quote(t, region) && put(t, q->suffix, q->suffix_len);
}

/* layout.strings() of what is the same for all requests, and of the two that are not. */
static bool put_environ(struct text *t, const struct fast_path *q, struct span region, const uint8_t *id, size_t id_len) {
  static const char request[] = "EDGE_REQUEST_ID=", place[] = "EDGE_REGION=";
  uint32_t second = q->environ_len + (uint32_t)(sizeof request + id_len);
  uint32_t head[] = {q->variables + 2, second + (uint32_t)(sizeof place + region.len)};
  uint32_t more[] = {q->environ_len, second};
  return put(t, head, sizeof head) && put(t, q->offsets, q->variables * sizeof(uint32_t)) &&
         put(t, more, sizeof more) && put(t, q->environ, q->environ_len) && put(t, request, sizeof request - 1) &&
         put(t, id, id_len) && put(t, "", 1) && put(t, place, sizeof place - 1) && put(t, region.at, region.len) &&
         put(t, "", 1);
}

static uint64_t coarse(clockid_t clock, uint64_t resolution) {
  struct timespec now;
  clock_gettime(clock, &now);
  uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  return ns - ns % resolution;
}

/* Reads what the guest printed: a cursor, and where what is wanted was found. */
struct reader {
  uint8_t *at, *end;
  bool ascii;
};

static uint8_t next(struct reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
    r->at++;
  return r->at < r->end ? *r->at : 0;
}

static bool eat(struct reader *r, uint8_t wanted) {
  if (next(r) != wanted)
    return false;
  r->at++;
  return true;
}

/* What is between the quotes, as it is. False for what is no string, or has an escape other than of one letter. */
static bool string(struct reader *r, struct span *found, bool *escaped) {
  if (!eat(r, '"'))
    return false;
  found->at = r->at;
  *escaped = false;
  for (; r->at < r->end; r->at++) {
    uint8_t c = *r->at;
    if (c >= 0x80)
      r->ascii = false;
    if (kinds[c] & PLAIN)
      continue;
    if (c == '"') {
      found->len = (size_t)(r->at++ - found->at);
      return true;
    }
    if (c != '\\' || r->at + 1 == r->end || !r->at[1] || !strchr("\"\\/bfnrt", r->at[1]))
      return false;
    *escaped = true;
    r->at++;
  }
  return false;
}

static size_t unescape(uint8_t *to, struct span text) {
  static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  uint8_t *begin = to;
  for (size_t i = 0; i < text.len; i++)
    *to++ = text.at[i] == '\\' ? (uint8_t)meant[strchr(plain, text.at[++i]) - plain] : text.at[i];
  return (size_t)(to - begin);
}

static bool append_to(PyObject *list, PyObject *a, struct span value) {
  PyObject *b = PyBytes_FromStringAndSize((const char *)value.at, (ssize_t)value.len);
  PyObject *pair = a && b ? PyTuple_Pack(2, a, b) : NULL;
  bool ok = pair && !PyList_Append(list, pair);
  drop(b);
  drop(pair);
  return ok;
}

static bool append(PyObject *list, struct span name, struct span value) {
  if (IS(name, "content-type"))
    return append_to(list, names.content_type, value);
  PyObject *a = PyBytes_FromStringAndSize((const char *)name.at, (ssize_t)name.len);
  bool ok = append_to(list, a, value);
  drop(a);
  return ok;
}

static bool header_value(struct reader *r, struct span *value) {
  bool escaped;
  if (!string(r, value, &escaped) || escaped)
    return false;
  while (value->len && *value->at == ' ')
    value->at++, value->len--;
  while (value->len && value->at[value->len - 1] == ' ')
    value->len--;
  return all(*value, IN_VALUE);
}

/* What headers.py drops without a look at the value, and what the host says itself. */
static bool dropped(struct span name) {
  return IS(name, "content-length") || IS(name, "date") || IS(name, "server") || IS(name, "keep-alive") || IS(name, "proxy-authenticate") ||
         IS(name, "proxy-authorization") || IS(name, "proxy-connection") || IS(name, "te") || IS(name, "trailer") ||
         IS(name, "transfer-encoding") || IS(name, "upgrade") || IS(name, "x-request-id");
}

static bool read_headers(struct reader *r, PyObject *list) {
  struct fields fields = {.count = 0};
  int values = 0; /* those that are dropped count as well */
  if (!eat(r, '{'))
    return false;
  if (next(r) == '}')
    return eat(r, '}');
  do {
    struct span name, value;
    bool escaped;
    if (!string(r, &name, &escaped) || escaped || !name.len || !all(name, TOKEN) || !eat(r, ':'))
      return false;
    uint8_t lower[64];
    if (name.len > sizeof lower)
      return false;
    for (size_t i = 0; i < name.len; i++)
      lower[i] = (uint8_t)(name.at[i] | (kinds[name.at[i]] & UPPER ? 0x20 : 0));
    struct span as_sent = {lower, name.len};
    if (IS(as_sent, "connection"))
      return false;
    bool drop = dropped(as_sent);
    if (!new_field(&fields, name))
      return false;
    if (next(r) == '[') {
      r->at++;
      for (bool more = next(r) != ']'; more; more = eat(r, ','))
        if (values++ == MAX_FIELDS || !header_value(r, &value) || (!drop && !append(list, as_sent, value)))
          return false;
      if (!eat(r, ']'))
        return false;
    } else if (values++ == MAX_FIELDS || !header_value(r, &value) || (!drop && !append(list, as_sent, value)))
      return false;
  } while (eat(r, ','));
  return eat(r, '}');
}

static bool literal(struct reader *r, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len))
    return false;
  r->at += len;
  return true;
}

/* Status, headers and body for ASGI, or NULL. The same as EdgeProtocol.decode(), render() and with_request_id(). */
static PyObject *answer(struct scratch *s, struct span id, bool due, void *left) {
  struct reader r = {(uint8_t *)s->out, (uint8_t *)s->out + s->out_len, true};
  struct span body = {r.at, 0};
  bool escaped = false, has_status = false, has_headers = false, has_body = false, has_flag = false;
  long status = 0;
  PyObject *headers = PyList_New(0), *content = NULL, *code = NULL, *ran = NULL, *pages = NULL, *late = NULL;
  PyObject *found = NULL, *store = NULL;
  if (!headers || !eat(&r, '{'))
    goto end;
  do {
    struct span key;
    bool odd;
    if (!string(&r, &key, &odd) || odd || !eat(&r, ':'))
      goto end;
    uint8_t first = next(&r);
    if (IS(key, "status_code") && !has_status) {
      has_status = true;
      for (int i = 0; i < 3; i++, r.at++) {
        if (r.at == r.end || *r.at < '0' || *r.at > '9')
          goto end;
        status = status * 10 + *r.at - '0';
      }
      uint8_t after = next(&r);
      if (status < 200 || status > 599 || status == 204 || status == 205 || status == 304 ||
          (after != ',' && after != '}'))
        goto end;
    } else if (IS(key, "headers") && !has_headers) {
      has_headers = true;
      if (!read_headers(&r, headers))
        goto end;
    } else if (IS(key, "body") && !has_body) {
      has_body = true;
      if (!string(&r, &body, &escaped))
        goto end;
    } else if (IS(key, "is_base64_encoded") && !has_flag) {
      has_flag = true;
      if (first != 'f' || !literal(&r, "false"))
        goto end;
    } else
      goto end;
  } while (eat(&r, ','));
  if (!eat(&r, '}') || next(&r) || r.at != r.end || !has_status)
    goto end;
  if (!r.ascii) {
    PyObject *text = PyUnicode_DecodeUTF8(s->out, s->out_len, "strict");
    if (!text)
      goto end;
    Py_DecRef(text);
  }
  if (escaped) /* in place: all is known to be right, and a text only gets shorter */
    body.len = unescape((uint8_t *)body.at, body);
  uint8_t digits[8], *digit = digits + sizeof digits;
  size_t size = body.len;
  do
    *--digit = (uint8_t)('0' + size % 10);
  while (size /= 10);
  code = PyLong_FromLong(status);
  content = PyBytes_FromStringAndSize((const char *)body.at, (ssize_t)body.len);
  ran = PyLong_FromSsize_t((ssize_t)s->ran_ns);
  pages = PyLong_FromSsize_t((ssize_t)s->pages);
  late = PyBool_FromLong(due);
  store = PyLong_FromVoidPtr(left);
  if (code && content && ran && pages && late && store &&
      append_to(headers, names.content_length, (struct span){digit, (size_t)(digits + sizeof digits - digit)}) &&
      append_to(headers, names.request_id, id))
    found = PyTuple_Pack(7, code, headers, content, ran, pages, late, store);
end:
  drop(headers);
  drop(code);
  drop(content);
  drop(ran);
  drop(pages);
  drop(late);
  drop(store);
  return found;
}

static PyObject *none(void) {
  PyErr_Clear();
  Py_IncRef(Py_None);
  return Py_None;
}

/* The functions of Python that are made with an address: of a struct fast_path, or a struct engine. */

/* dispatch(scope, path, params, body, region). None: nothing was done. (status, headers, body, ns, pages, due, left): the
   guest has ended well; with ``due`` clean_up() is to be called soon, and ``left`` is its store, if that is yet to be
   freed. (how, request id): it has started, and Python goes on with the engine's scratch, which it replaces, and with
   the place among the engine's guests. */
static PyObject *dispatch(PyObject *self, PyObject *const *args, ssize_t count) {
  struct span path, body, region;
  struct fast_path *q = PyLong_AsVoidPtr(self);
  if (count != 5 || !q || !ready())
    return none();
  struct engine *e = q->host;
  struct scratch *s = e->scratch;
  if (!s || !e->starts_until_check || e->live >= e->most || q->module->closed || q->plan->cpu_score >= CPU_THRESHOLD)
    return none();
  if (!of_str(args[1], &path) || !of_bytes(args[3], &body) || !of_str(args[4], &region))
    return none();
  uint8_t id[MAX_ID];
  size_t id_len;
  message.len = variables.len = 0;
  uint8_t key[32]; /* a guest must not get one that another had */
  static const uint32_t no_strings[] = {0, 0};
  if (!put_message(&message, q, args[0], path, args[2], body, region, id, &id_len) ||
      !(q->reads_environ ? put_environ(&variables, q, region, id, id_len)
                         : put(&variables, no_strings, sizeof no_strings)) ||
      (q->reads_random && getentropy(key, sizeof key))) {
    let_go(&message);
    return none();
  }

  e->starts_until_check--;
  delete_pending(e); /* the next one gets its memory, which is in the cache */
  size_t more = message.len + variables.len;
  void *left = NULL;
  int how = 0;
  if (acquire_prepared(s, q))
    limit(s->store, q->plan, more);
  else
    how = make(s, q->plan, 0, more);
  if (!how)
    how = fill(s, q->plan, q->template, q->template_len, (const char *)variables.at, variables.len,
               (const char *)message.at, message.len);
  let_go(&message);
  e->live++;
  if (!how) {
    if (q->reads_clock || q->reads_random) {
      uint64_t monotonic = coarse(STEADY, q->resolution), realtime = coarse(CLOCK_REALTIME, q->resolution);
      memcpy(s->base + STARTED, &monotonic, sizeof monotonic);
      memcpy(s->base + MONOTONIC, &monotonic, sizeof monotonic);
      memcpy(s->base + REALTIME, &realtime, sizeof realtime);
    }
    if (q->reads_random)
      memcpy(s->base + RANDOM_KEY, key, sizeof key);
    e->scratch = NULL;
    q->module->live++;
    void *thread = PyEval_SaveThread(); /* one long instruction of the guest must not hold up other threads */
    how = poll_guest(s);
    bool later = how == COMPLETED && small(s, q->plan);
    if (how == COMPLETED && memory_of(s, q->plan) > LIGHT)
      left = s->store; /* to be freed by reclaim.py */
    else if (how == COMPLETED && !later)
      delete_store(s->store);
    PyEval_RestoreThread(thread);
    q->module->live--;
    if (later) {
      delete_pending(e);
      e->pending_delete = s->store;
    }
    if (how == COMPLETED)
      s->store = left;
  }
  PyObject *found = NULL;
  bool due = !e->cleanup_scheduled && !e->busy;
  e->busy -= e->busy > 0;
  if (how == COMPLETED && (found = answer(s, (struct span){id, id_len}, due, left))) {
    e->cleanup_scheduled |= due;
    e->live -= !left; /* it keeps its place until it is freed */
    if (s->ran_ns > FREE_NS && q->plan->cpu_score < CPU_THRESHOLD)
      q->plan->cpu_score += (uint32_t)((s->ran_ns - FREE_NS) / 1000);
    e->scratch = s;
    return found;
  }
  PyErr_Clear();
  e->scratch = NULL;
  PyObject *number = PyLong_FromLong(how), *name = PyUnicode_FromStringAndSize((const char *)id, (ssize_t)id_len);
  found = number && name ? PyTuple_Pack(2, number, name) : NULL;
  drop(number);
  drop(name);
  return found;
}

/* clean_up(): what is to be done once the answer is out. */
static PyObject *clean_up_engine(PyObject *self, PyObject *const *args, ssize_t count) {
  (void)args;
  (void)count;
  clean_up(PyLong_AsVoidPtr(self));
  return none();
}

/* follows(scope, limit, most): whether a body may follow the head. None: it is too large, or odd. */
static PyObject *follows(PyObject *self, PyObject *const *args, ssize_t count) {
  (void)self;
  if (count != 3 || !ready())
    return none();
  ssize_t limit = PyLong_AsSsize_t(args[1]), most = PyLong_AsSsize_t(args[2]);
  PyObject *headers = PyDict_GetItemWithError(args[0], keys.headers);
  PyObject *path = PyDict_GetItemWithError(args[0], keys.path);
  PyObject *query_is = PyDict_GetItemWithError(args[0], keys.query_string);
  PyObject *version_is = PyDict_GetItemWithError(args[0], keys.http_version);
  PyObject *method_is = PyDict_GetItemWithError(args[0], keys.method);
  struct span query = {NULL, 0}, version = {NULL, 0}, method;
  if (!headers || !method_is || !of_str(method_is, &method) || !path ||
      (query_is && !of_bytes(query_is, &query)) || (version_is && !of_str(version_is, &version)))
    return none();
  ssize_t fields = PyList_Size(headers), total = PyUnicode_GetLength(path);
  if (fields < 0 || total < 0 || limit < 0)
    return none();
  total += (ssize_t)query.len;
  bool announced = IS(version, "1.1") || IS(version, "1.0");
  bool found = !announced || !(IS(method, "GET") || IS(method, "HEAD"));
  for (ssize_t i = 0; i < fields; i++) {
    struct span name, value;
    if (!of_header(headers, i, &name, &value))
      return none();
    total += (ssize_t)(name.len + value.len);
    if (IS(name, "transfer-encoding"))
      found = true;
    if (IS(name, "content-length")) {
      ssize_t size = 0;
      if (!value.len || value.len > 18)
        return none();
      for (size_t j = 0; j < value.len; j++) {
        if (value.at[j] < '0' || value.at[j] > '9')
          return none();
        size = size * 10 + value.at[j] - '0';
      }
      if (size > limit)
        return none();
      found = found || size;
    }
  }
  return total > most ? none() : PyBool_FromLong(found);
}

static PyMethodDef dispatch_method = {"dispatch", dispatch, METH_FASTCALL, NULL}, follows_method = {"follows", follows, METH_FASTCALL, NULL},
                   clean_up_method = {"clean_up", clean_up_engine, METH_FASTCALL, NULL};

/* With the GIL held: the functions for Python. */
PyObject *swasm_follows_function(void) { return PyCFunction_NewEx(&follows_method, NULL, NULL); }
PyObject *swasm_dispatch_function(PyObject *fast_path) { return PyCFunction_NewEx(&dispatch_method, fast_path, NULL); }
PyObject *swasm_clean_up_function(PyObject *engine) { return PyCFunction_NewEx(&clean_up_method, engine, NULL); }
