/* Reads the JSON that a guest printed, where it is. */
#ifndef JSON_H
#define JSON_H

#include "text.h"

/* A cursor, and whether all that it has seen in strings is ASCII. */
struct reader {
  const uint8_t *at, *end;
  bool ascii;
};

/* A JSON string: what is between its quotes, and how long it is without escapes. */
struct string {
  struct span raw;
  size_t len;
};

static inline uint8_t next(struct reader *r) {
  while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
    r->at++;
  return r->at < r->end ? *r->at : 0;
}

static inline bool eat(struct reader *r, uint8_t wanted) {
  if (next(r) != wanted)
    return false;
  r->at++;
  return true;
}

static inline bool literal(struct reader *r, const char *word) {
  size_t len = strlen(word);
  if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len))
    return false;
  r->at += len;
  return true;
}

/* The four digits of an escape, or -1. */
static inline int32_t code_unit(const uint8_t *at, const uint8_t *end) {
  int32_t code = 0;
  if (end - at < 4)
    return -1;
  for (int i = 0; i < 4; i++) {
    int digit = hex_digit(at[i]);
    if (digit < 0)
      return -1;
    code = code << 4 | digit;
  }
  return code;
}

/* What a letter behind a backslash stands for; 0 for ``u``, and for what is none. */
static inline uint8_t simple(uint8_t c) {
  static const uint8_t meant[256] = {['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                     ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t'};
  return meant[c];
}

/* What an escape stands for; ``at`` is behind the backslash, and is moved behind the escape. -1 for what is none. */
static inline int32_t escaped(const uint8_t **at, const uint8_t *end) {
  if (*at == end)
    return -1;
  uint8_t c = *(*at)++;
  if (c != 'u')
    return simple(c) ? simple(c) : -1;
  int32_t code = code_unit(*at, end);
  if (code < 0 || (code >= 0xdc00 && code < 0xe000))
    return -1;
  *at += 4;
  if (code < 0xd800 || code >= 0xe000)
    return code;
  if (end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u')
    return -1;
  int32_t low = code_unit(*at + 2, end);
  if (low < 0xdc00 || low >= 0xe000)
    return -1;
  *at += 6;
  return 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
}

static inline size_t utf8_length(int32_t code) { return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4; }

/* How far a string goes on in steps of 64 bytes, without escapes. */
static inline const uint8_t *skip_plain(const uint8_t *at, const uint8_t *end, bytes16 *seen) {
  for (; end - at >= 81; at += 64) {
    bytes16 a = load16(at), b = load16(at + 16), c = load16(at + 32), d = load16(at + 48);
    if (any16(odd16(a) | odd16(b) | odd16(c) | odd16(d)))
      break;
    *seen |= a | b | c | d;
  }
  return at;
}

/* How far a string goes on: steps of 16 bytes, up to its end, or to what is unusual. ``escapes`` counts those of two
   bytes. Each step is of its own bits, without a second look at the bytes. */
static inline const uint8_t *skip_simple(const uint8_t *at, const uint8_t *end, size_t *escapes, bytes16 *seen) {
  int plain = 0; /* steps without an escape */
  while (end - at >= 17) {
    bytes16 some = load16(at);
    size_t len = 16;
    *seen |= some; /* what is behind the end as well: then all is looked at once more */
    unsigned bits = bits16(odd16(some));
    plain = bits ? 0 : plain + 1;
    while (bits) {
      size_t next = first(bits);
      if (at[next] != '\\' || !simple(at[next + 1]))
        return at + next;
      bits &= ~(3u << next); /* what is escaped may be a backslash or a quote */
      len += next == 15;
      ++*escapes;
    }
    at += len;
    if (plain > 3)
      at = skip_plain(at, end, seen);
  }
  return at;
}

static inline bool string(struct reader *r, struct string *found) {
  if (!eat(r, '"'))
    return false;
  const uint8_t *begin = found->raw.at = r->at;
  size_t shorter = 0;
  bytes16 seen = {0};
  for (;;) {
    size_t escapes = 0;
    r->at = skip_simple(r->at, r->end, &escapes, &seen);
    shorter += escapes;
    size_t len = plain_bytes(r->at, r->end);
    r->ascii = r->ascii && is_ascii((struct span){r->at, len});
    r->at += len;
    if (r->at == r->end || *r->at < 0x20)
      return false;
    if (*r->at++ == '"')
      break;
    const uint8_t *escape = r->at - 1;
    int32_t code = escaped(&r->at, r->end);
    if (code < 0)
      return false;
    shorter += (size_t)(r->at - escape) - utf8_length(code);
  }
  r->ascii = r->ascii && !any16(high16(seen));
  found->raw.len = (size_t)(r->at - 1 - begin);
  found->len = found->raw.len - shorter;
  return true;
}

static inline bool has_escapes(const struct string *text) { return text->len != text->raw.len; }

/* 16 bytes of a string without its simple escapes, or up to another one; there are 40 to read, and room for as many.
   Those behind an escape are written again, one further back. */
static inline void unescape_16(uint8_t **to, const uint8_t **from) {
  bytes16 some = load16(*from);
  memcpy(*to, &some, 16);
  size_t len = 16, less = 0;
  for (unsigned bits = bits16((bytes16)(some == '\\')); bits;) {
    size_t at = first(bits);
    uint8_t meant = simple((*from)[at + 1]);
    if (!meant) {
      len = at;
      break;
    }
    bits &= ~(3u << at);
    len += at == 15;
    (*to)[at - less++] = meant;
    memcpy(*to + at + 2 - less, *from + at + 2, 16);
  }
  *from += len;
  *to += len - less;
}

/* Into ``room`` bytes, which are all that it comes to. */
static inline void unescape(uint8_t *to, size_t room, struct span raw) {
  const uint8_t *from = raw.at, *end = from + raw.len, *limit = to + room;
  while (from < end) {
    const uint8_t *begin = from;
    if (end - from >= 40 && limit - to >= 40)
      unescape_16(&to, &from);
    if (from != begin)
      continue;
    if (*from != '\\') {
      *to++ = *from++;
      continue;
    }
    from++;
    int32_t code = escaped(&from, end);
    size_t size = utf8_length(code);
    static const uint8_t marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i; i--, code >>= 6)
      to[i] = (uint8_t)(0x80 | (code & 0x3f));
    to[0] = (uint8_t)(marks[size] | code);
    to += size;
  }
}

#endif
