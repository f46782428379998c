/* Text: JSON strings, base64, UTF-8, and the tables and objects that are made once. */

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
static uint8_t digits[256]; /* of base64; 0xff for what is none */
/* How a JSON string has a byte: 0, as it is; 1, behind a backslash; 2, by its number. What is written then. */
static uint8_t escapes[256], written[256];
static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

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
  memset(digits, 0xff, sizeof digits);
  for (uint8_t i = 0; i < 64; i++)
    digits[(uint8_t)base64[i]] = i;
}

bool ready(void) {
  if (keys.scheme)
    return true;
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
  size_t cap = (t->len + more) * 2 + 4096;
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

/* What is between the quotes of a JSON string of valid UTF-8. */
bool put_escaped(struct text *t, struct span text) {
  if (!text.len)
    return true;
  const uint8_t *from = text.at, *end = from + text.len;
  if (!room(t, text.len + text.len / 4 + 48))
    return false;
  uint8_t *to = t->at + t->len;
  while (from < end) {
    if (end - from >= 32 && plain_32(from)) {
      memcpy(to, from, 32);
      to += 32;
      from += 32;
      continue;
    }
    size_t many = end - from >= 8 ? 8 : (size_t)(end - from);
    uint64_t w = 0;
    memcpy(&w, from, many);
    if (many == 8 && !odd_bytes(w)) {
      memcpy(to, &w, 8);
      to += 8;
      from += 8;
      continue;
    }
    t->len = (size_t)(to - t->at);
    if (t->cap - t->len < (size_t)(end - from) + 48) { /* eight of them may become 48 */
      if (!grow(t, (size_t)(end - from) + 48))
        return false;
      to = t->at + t->len;
    }
    for (size_t i = 0; i < many; i++)
      to = escape(to, from[i]);
    from += many;
  }
  t->len = (size_t)(to - t->at);
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

bool put_base64(struct text *t, struct span data) {
  if (!room(t, (data.len + 2) / 3 * 4))
    return false;
  uint8_t *to = t->at + t->len;
  size_t i = 0;
  for (; i + 2 < data.len; i += 3) {
    uint32_t bits = (uint32_t)data.at[i] << 16 | (uint32_t)data.at[i + 1] << 8 | data.at[i + 2];
    for (int shift = 18; shift >= 0; shift -= 6)
      *to++ = (uint8_t)base64[bits >> shift & 63];
  }
  if (i < data.len) {
    bool two = i + 2 == data.len;
    uint32_t bits = (uint32_t)data.at[i] << 16 | (two ? (uint32_t)data.at[i + 1] << 8 : 0);
    *to++ = (uint8_t)base64[bits >> 18];
    *to++ = (uint8_t)base64[bits >> 12 & 63];
    *to++ = two ? (uint8_t)base64[bits >> 6 & 63] : '=';
    *to++ = '=';
  }
  t->len = (size_t)(to - t->at);
  return true;
}

/* The bytes that base64 stands for, into room for three quarters of it; how many, or -1 for what is odd, or none. */
ssize_t unbase64(uint8_t *to, struct span text) {
  uint8_t *begin = to;
  if (text.len % 4)
    return -1;
  for (size_t i = 0; i < text.len; i += 4) {
    const uint8_t *from = text.at + i;
    bool last = i + 4 == text.len;
    int pad = last && from[3] == '=' ? 1 + (from[2] == '=') : 0;
    uint32_t a = digits[from[0]], b = digits[from[1]], c = pad > 1 ? 0 : digits[from[2]], d = pad ? 0 : digits[from[3]];
    if ((a | b | c | d) > 63 || (pad == 1 && c & 3) || (pad == 2 && b & 15))
      return -1;
    uint32_t bits = a << 18 | b << 12 | c << 6 | d;
    *to++ = (uint8_t)(bits >> 16);
    if (pad < 2)
      *to++ = (uint8_t)(bits >> 8);
    if (!pad)
      *to++ = (uint8_t)bits;
  }
  return to - begin;
}

int hex_digit(uint8_t c) {
  return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

bool is_ascii(struct span text) {
  uint64_t seen = 0, w;
  size_t i = 0;
  for (; i + 8 <= text.len; i += 8) {
    memcpy(&w, text.at + i, 8);
    seen |= w;
  }
  for (; i < text.len; i++)
    seen |= text.at[i];
  return !(seen & 0x8080808080808080u);
}

/* RFC 3629: no surrogates, nothing longer than need be, nothing above U+10FFFF. */
bool is_utf8(struct span text) {
  const uint8_t *at = text.at, *end = at + text.len;
  while (at < end) {
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
