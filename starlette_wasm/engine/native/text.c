/* Text: JSON strings, UTF-8, and the tables and objects that are made once. */

#include "text.h"

#include <pthread.h>
#ifdef __APPLE__
#include <sys/random.h>
#else
#include <unistd.h>
#endif

uint8_t kinds[256];
struct keys keys;
struct names names;
PyObject *attributes[ATTRIBUTES], *header_names[HEADER_NAMES];
/* How a JSON string has a byte: 0, as it is; 1, behind a backslash; 2, by its number. What is written then. */
static uint8_t escapes[256], written[256];

/* Random bytes for ids, of which one system call gives sixteen ids' worth. A forked child draws its own. */
static struct {
  uint8_t bytes[256];
  size_t left;
} drawn;

static void drawn_by_parent(void) { drawn.left = 0; }

bool draw(uint8_t *to, size_t len) {
  if (drawn.left < len) {
    if (getentropy(drawn.bytes, sizeof drawn.bytes))
      return false;
    drawn.left = sizeof drawn.bytes;
  }
  drawn.left -= len;
  memcpy(to, drawn.bytes + drawn.left, len);
  return true;
}

static void mark(const char *bytes, uint8_t kind) {
  for (; *bytes; bytes++)
    kinds[(uint8_t)*bytes] |= kind;
}

static void make_escapes(void) {
  static const char plain[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
  for (int c = 0; c < 256; c++) {
    written[c] = (uint8_t)c;
    escapes[c] = c < 0x20 ? 2 : 0;
  }
  for (int i = 0; plain[i]; i++) {
    escapes[(uint8_t)plain[i]] = 1;
    written[(uint8_t)plain[i]] = (uint8_t)letters[i];
  }
}

static void make_tables(void) {
  make_escapes();
  const char *letters = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  mark(letters, TOKEN | IN_PATH | IN_HOST | IN_ID);
  mark(letters + 36, UPPER);
  mark("!#$%&'*+.^_`|~-", TOKEN);      /* RFC 9110, section 5.6.2 */
  mark("/._~!$&'()*+,;=:@-", IN_PATH); /* RFC 3986, pchar without escapes */
  mark("._-", IN_HOST);
  mark("._:-", IN_ID);
  kinds['\t'] |= IN_VALUE; /* RFC 9110, section 5.5 */
  for (int c = 0x20; c < 256; c++)
    if (c != 0x7f)
      kinds[c] |= IN_VALUE;
  make_digits();
}

static bool intern(PyObject **to, const char *const *from, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!(to[i] = PyUnicode_InternFromString(from[i])))
      return false;
  return true;
}

static bool make_names(void) {
  static const char *const of_request[] = {"path", "method", "headers", "query", "body", "is_base64_encoded", "params", "url",
                                           "multi_value_headers", "multi_value_query"};
  static const char *const of_headers[] = {"x-request-id", "traceparent", "tracestate", "content-type"};
  return intern(attributes, of_request, ATTRIBUTES) && intern(header_names, of_headers, HEADER_NAMES);
}

bool ready(void) {
  if (keys.scheme)
    return true;
  if (!make_names())
    return false;
  if (pthread_atfork(NULL, NULL, drawn_by_parent))
    return false;
  make_tables();
  names.content_type = PyBytes_FromStringAndSize("content-type", 12);
  names.content_length = PyBytes_FromStringAndSize("content-length", 14);
  names.request_id = PyBytes_FromStringAndSize("x-request-id", 12);
  keys.method = PyUnicode_InternFromString("method");
  keys.headers = PyUnicode_InternFromString("headers");
  keys.path = PyUnicode_InternFromString("path");
  keys.query_string = PyUnicode_InternFromString("query_string");
  keys.http_version = PyUnicode_InternFromString("http_version");
  keys.raw_path = PyUnicode_InternFromString("raw_path");
  keys.root_path = PyUnicode_InternFromString("root_path");
  keys.client = PyUnicode_InternFromString("client");
  keys.scheme = PyUnicode_InternFromString("scheme");
  return names.content_type && names.content_length && names.request_id && keys.method && keys.headers && keys.path &&
         keys.query_string && keys.http_version && keys.raw_path && keys.root_path && keys.client && keys.scheme;
}

bool grow(struct text *t, size_t more) {
  size_t cap = t->len + more;
  cap += (cap < LARGE ? cap : cap / 4) + 4096;
  uint8_t *at = realloc(t->at, cap);
  if (!at)
    return false;
  t->at = at;
  t->cap = cap;
  return true;
}

/* Nothing is kept of one that was large. */
void let_go(struct text *t) {
  if (t->cap > KEPT) {
    free(t->at);
    *t = (struct text){NULL, 0, 0};
  }
}

/* One byte of a JSON string, escaped or not: six bytes at most. */
static inline uint8_t *escape(uint8_t *to, uint8_t c) {
  if (escapes[c] > 1) {
    memcpy(to, "\\u00", 4);
    to[4] = (uint8_t)('0' + (c >> 4));
    to[5] = (uint8_t)"0123456789abcdef"[c & 15];
    return to + 6;
  }
  *to = '\\'; /* without a branch: none of many quotes can be foreseen */
  to += escapes[c];
  *to = written[c];
  return to + 1;
}

/* 16 bytes of a JSON string, or up to one that is written as a number; there are 32 to read, and room for 48. Those behind
   an escape are written again, one further on: so no step waits for the one before. */
static void put_16(uint8_t **to, const uint8_t **from) {
  bytes16 some = load16(*from);
  memcpy(*to, &some, 16);
  size_t len = 16, more = 0;
  for (unsigned bits = bits16(odd16(some)); bits; bits &= bits - 1) {
    size_t at = first(bits);
    uint8_t c = (*from)[at];
    if (escapes[c] > 1) {
      len = at;
      break;
    }
    (*to)[at + more++] = '\\';
    memcpy(*to + at + more, *from + at, 16);
    (*to)[at + more] = written[c];
  }
  *from += len;
  *to += len + more;
}

/* What is between the quotes of a JSON string of valid UTF-8. */
bool put_escaped(struct text *t, struct span text) {
  const uint8_t *from = text.at, *end = from + text.len;
  int plain = 0; /* steps without an escape: what follows is likely to be as long */
  if (!room(t, text.len + text.len / 4 + 64))
    return false;
  while (from < end) {
    size_t left = (size_t)(end - from);
    if (t->cap - t->len < left + 64 && !grow(t, left + 64))
      return false;
    uint8_t *begin = t->at + t->len, *to = begin;
    const uint8_t *before = from;
    if (plain > 3) {
      size_t run = plain_bytes(from, end);
      memcpy(to, from, run);
      from += run;
      t->len += run;
      plain = 0;
      continue;
    }
    if (left >= 32)
      put_16(&to, &from);
    if (left < 32 || from == before)
      to = escape(to, *from++);
    plain = to - begin == 16 ? plain + 1 : 0;
    t->len = (size_t)(to - t->at);
  }
  return true;
}

/* The same of Latin-1. */
bool put_latin1(struct text *t, struct span text) {
  if (is_ascii(text))
    return put_escaped(t, text);
  if (!room(t, text.len * 6))
    return false;
  uint8_t *to = t->at + t->len;
  for (size_t i = 0; i < text.len; i++) {
    uint8_t c = text.at[i];
    if (c >= 0x80) {
      *to++ = (uint8_t)(0xc0 | c >> 6);
      *to++ = (uint8_t)(0x80 | (c & 0x3f));
    } else
      to = escape(to, c);
  }
  t->len = (size_t)(to - t->at);
  return true;
}

int hex_digit(uint8_t c) {
  return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

bool is_ascii(struct span text) {
  const uint8_t *at = text.at, *end = at + text.len;
  uint64_t seen = 0, w;
  for (; end - at >= 64; at += 64)
    if (any16(high16(load16(at) | load16(at + 16) | load16(at + 32) | load16(at + 48))))
      return false;
  for (; end - at >= 8; at += 8) {
    memcpy(&w, at, 8);
    seen |= w;
  }
  while (at < end)
    seen |= *at++;
  return !(seen & 0x8080808080808080u);
}

/* RFC 3629: no surrogates, nothing longer than need be, nothing above U+10FFFF. */
bool is_utf8(struct span text) {
  const uint8_t *at = text.at, *end = at + text.len;
  while (at < end) {
    for (; end - at >= 16 && !any16(high16(load16(at))); at += 16)
      ;
    if (at == end)
      break;
    uint8_t c = *at++;
    if (c < 0x80)
      continue;
    int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    if (c < 0xc2 || c > 0xf4 || end - at < more)
      return false;
    if ((c == 0xe0 && at[0] < 0xa0) || (c == 0xed && at[0] > 0x9f) || (c == 0xf0 && at[0] < 0x90) ||
        (c == 0xf4 && at[0] > 0x8f))
      return false;
    for (; more; more--)
      if ((*at++ & 0xc0) != 0x80)
        return false;
  }
  return true;
}

/* False if there are too many. */
bool add_field(struct fields *f, struct span name, struct span value) {
  if (f->count == MAX_FIELDS)
    return false;
  uint8_t number = (uint8_t)f->count++, first = 0;
  while (first < number && !(f->at[first].first == first && same(f->at[first].name, name)))
    first++;
  f->at[number] = (struct field){name, value, first, number, 1};
  if (first != number) {
    f->at[first].last = number;
    if (f->at[first].count++ == 1)
      f->repeated[f->repeats++] = first;
  }
  return true;
}
