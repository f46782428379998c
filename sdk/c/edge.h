/* edge.h: read an EdgeRequest, call the host, answer; from C, without a dependency.
 *
 *     edge_json request = edge_request();
 *     edge_text key = edge_string(edge_find(request, "params", "key"));
 *     edge_value hit = edge_kv_get("cache", key);
 *     if (hit.error.code) return edge_respond_error(502, hit.error);
 *     if (!hit.found) return edge_respond_json(404, "{\"error\":\"not found\"}");
 *     return edge_respond(200, EDGE_JSON, hit.value);
 *
 * First JSON in and out, then requests and responses, then the capabilities. Memory is never freed: an instance
 * serves one request.
 */
#ifndef EDGE_H
#define EDGE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __wasm__
#include <wasm_simd128.h>
#define EDGE_SIMD __attribute__((target("simd128")))
#else
#define EDGE_SIMD
#endif

#define EDGE_FN static __attribute__((unused))
#define EDGE_JSON "{\"content-type\":\"application/json\"}"
#define EDGE_MAX_DEPTH 128
#ifndef EDGE_ARENA
#define EDGE_ARENA 385024 /* bytes of memory that need not be grown; with a stack of 131072 they fit in 8 pages */
#endif

/* Bytes with a length, always followed by a NUL once something was added. */
typedef struct {
    char *data;
    size_t len, cap;
} edge_text;

/* The text of one JSON value; `at` is NULL if there is none. */
typedef struct {
    const char *at, *end;
} edge_json;

static _Alignas(16) char edge_arena[EDGE_ARENA + 16];
/* Memory is handed out from `next` on; what was handed out last can be made longer where it is. */
static struct {
    char *last, *next, *limit;
} edge_heap = {NULL, edge_arena, edge_arena + EDGE_ARENA};

/* `size` bytes from `at` on, or elsewhere: whole pages at the end of the memory, without malloc(), which would copy. */
EDGE_FN char *edge_more(char *at, size_t size) {
#ifdef __wasm__
    char *end = (char *)(__builtin_wasm_memory_size(0) << 16);
    if (edge_heap.limit != end) at = end;
    size_t pages = ((size_t)(at - end) + size + 65535) >> 16;
    if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) return NULL;
    edge_heap.limit = end + (pages << 16);
#else
    at = malloc(size);
    edge_heap.limit = at + size;
#endif
    return at;
}

/* Memory with the `size` bytes of `old`: from what is there from the start as long as that lasts, as growing the memory,
 * and giving it back, takes the host longer than most requests take the guest. */
EDGE_FN void *edge_realloc(void *old, size_t size, size_t wanted) {
    char *at = old && old == edge_heap.last ? old : edge_heap.next;
    if (wanted > (size_t)(edge_heap.limit - at) && !(at = edge_more(at, wanted))) return NULL;
    edge_heap.last = at;
    edge_heap.next = (size_t)(edge_heap.limit - at) - wanted < 16 ? edge_heap.limit : at + ((wanted + 15) & ~(size_t)15);
    if (old && at != old) memcpy(at, old, size);
    return at;
}

EDGE_FN void edge_reserve(edge_text *text, size_t more) {
    if (text->cap - text->len > more) return;
    size_t cap = text->cap * 2 > text->len + more + 1 ? text->cap * 2 : text->len + more + 1;
    text->data = edge_realloc(text->data, text->len, cap);
    if (!text->data) __builtin_trap();
    text->cap = cap;
}

/* memcpy() of what is short in most cases: it is a call of the host. */
EDGE_FN EDGE_SIMD void edge_copy(char *to, const char *from, size_t len) {
#ifdef __wasm__
    for (; len >= 16 && len <= 128; len -= 16, to += 16, from += 16) wasm_v128_store(to, wasm_v128_load(from));
#endif
    if (len <= 16)
        for (size_t i = 0; i < len; i++) to[i] = from[i];
    else
        memcpy(to, from, len);
}

EDGE_FN void edge_add_bytes(edge_text *text, const void *data, size_t len) {
    edge_reserve(text, len);
    edge_copy(text->data + text->len, data, len);
    text->data[text->len += len] = 0;
}

EDGE_FN void edge_add(edge_text *text, const char *literal) {
    edge_add_bytes(text, literal, strlen(literal));
}

EDGE_FN void edge_add_int(edge_text *text, int64_t value) {
    char digits[20], *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do *--at = '0' + rest % 10; while (rest /= 10);
    if (value < 0) *--at = '-';
    edge_add_bytes(text, at, digits + sizeof digits - at);
}

EDGE_FN edge_text edge_literal(const char *literal) {
    edge_text text = {0};
    edge_add(&text, literal ? literal : "");
    return text;
}

EDGE_FN bool edge_equal(edge_text text, const char *literal) {
    size_t len = strlen(literal);
    return text.len == len && !memcmp(text.data, literal, len);
}

#ifdef __wasm__
/* Which of 16 bytes a JSON string cannot hold as they are, or if `ascii`, are not ASCII: negative if taken as signed. */
EDGE_FN EDGE_SIMD v128_t edge_special(v128_t bytes, bool ascii) {
    const v128_t space = wasm_i8x16_const_splat(0x20);
    v128_t found = ascii ? wasm_i8x16_lt(bytes, space) : wasm_u8x16_lt(bytes, space);
    found = wasm_v128_or(found, wasm_i8x16_eq(bytes, wasm_i8x16_const_splat('"')));
    return wasm_v128_or(found, wasm_i8x16_eq(bytes, wasm_i8x16_const_splat('\\')));
}
#endif

EDGE_FN bool edge_is_special(char c, bool ascii) {
    return (unsigned char)c < 0x20 || (ascii && (unsigned char)c >= 0x80) || c == '"' || c == '\\';
}

/* How many bytes from `s` on a JSON string holds as they are. */
EDGE_FN size_t edge_run(const char *s, size_t left) {
    size_t at = 0;
    while (at < left && !edge_is_special(s[at], false)) at++;
    return at;
}

/* How many bytes from `s` on are ASCII that a JSON string holds as it is. 64 at a time, once the first 16 are: this is
 * where the time goes, and runs are short or long. */
EDGE_FN EDGE_SIMD size_t edge_plain(const char *s, size_t left) {
    size_t at = 0;
#ifdef __wasm__
    for (uint32_t found; left - at >= 16; at += 16) {
        if ((found = wasm_i8x16_bitmask(edge_special(wasm_v128_load(s + at), true)))) return at + __builtin_ctz(found);
        for (; left - at >= 80; at += 64) {
            v128_t any = edge_special(wasm_v128_load(s + at + 16), true);
            for (size_t i = 32; i < 80; i += 16) any = wasm_v128_or(any, edge_special(wasm_v128_load(s + at + i), true));
            if (wasm_v128_any_true(any)) break;
        }
    }
#endif
    while (at < left && !edge_is_special(s[at], true)) at++;
    return at;
}

/* The length of the UTF-8 sequence at `s`, 0 if it is malformed (RFC 3629). */
EDGE_FN size_t edge_utf8(const unsigned char *s, size_t left) {
    size_t len = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : s[0] < 0xF5 ? 4 : 0;
    if (len > left) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F)) return 0;
    if ((s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F)) return 0;
    return len;
}

/* Writes what a JSON string has for a byte that it cannot have as it is; how many bytes, at most 6. */
EDGE_FN size_t edge_escape(char *to, unsigned char c) {
    static const char hex[] = "0123456789abcdef", letters[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    to[0] = '\\';
    to[1] = c < 0x20 ? letters[c] : c;
    if (to[1] != 'u') return 2;
    to[2] = to[3] = '0';
    to[4] = hex[c >> 4];
    to[5] = hex[c & 15];
    return 6;
}

/* Adds the character at `s`, which is not ASCII; how many bytes that were. 0 if they are not UTF-8 and it is `strict`; else
 * they become U+FFFD. */
EDGE_FN size_t edge_add_character(edge_text *out, const char *s, size_t left, bool strict) {
    size_t len = edge_utf8((const unsigned char *)s, left);
    if (!len && strict) return 0;
    const char *as = len ? s : "\\ufffd";
    size_t size = len ? len : 6;
    for (size_t i = 0; i < size; i++) out->data[out->len + i] = as[i];
    out->len += size;
    return len ? len : 1;
}

#ifdef __wasm__
/* 16 bytes of a JSON string, or up to one that is not ASCII; there are 32 to read, and room for 64. Those behind an escape
 * are written again, further on: so no step waits for the one before. How many were taken. */
EDGE_FN EDGE_SIMD size_t edge_add_16(edge_text *out, const char *s) {
    char *to = out->data + out->len;
    v128_t bytes = wasm_v128_load(s);
    wasm_v128_store(to, bytes);
    size_t taken = 16, more = 0;
    for (uint32_t found = wasm_i8x16_bitmask(edge_special(bytes, true)); found; found &= found - 1) {
        size_t at = __builtin_ctz(found);
        if ((unsigned char)s[at] >= 0x80 || more > 16) {
            taken = at;
            break;
        }
        more += edge_escape(to + at + more, s[at]) - 1;
        wasm_v128_store(to + at + 1 + more, wasm_v128_load(s + at + 1));
    }
    out->len += taken + more;
    return taken;
}
#endif

/* Adds a JSON string, quotes included. Bytes that are not UTF-8 become U+FFFD, unless it is `strict`: then it ends there,
 * and false comes back. */
EDGE_FN bool edge_add_json(edge_text *out, edge_text text, bool strict) {
    edge_reserve(out, text.len + text.len / 8 + 80);
    out->data[out->len++] = '"';
    for (size_t i = 0, len; i < text.len; i += len) {
        size_t left = text.len - i;
        edge_reserve(out, left + 72);
#ifdef __wasm__
        if (left >= 32 && (len = edge_add_16(out, text.data + i))) continue;
#endif
        len = 1;
        if (!edge_is_special(text.data[i], true)) {
            out->data[out->len++] = text.data[i];
        } else if ((unsigned char)text.data[i] < 0x80) {
            out->len += edge_escape(out->data + out->len, text.data[i]);
        } else if (!(len = edge_add_character(out, text.data + i, left, strict))) {
            return false;
        }
    }
    edge_add_bytes(out, "\"", 1);
    return true;
}

/* Adds a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
EDGE_FN void edge_add_string(edge_text *out, edge_text text) { edge_add_json(out, text, false); }

/* Base64 of as many bytes as go in steps of 12, into room for it; how many they are. */
EDGE_FN EDGE_SIMD size_t edge_base64_wide(char *to, const char *from, size_t len) {
    size_t at = 0;
#ifdef __wasm__
    for (; len - at >= 16; at += 12, to += 16) {
        v128_t b = wasm_v128_load(from + at); /* of three bytes a, b, c: b a c b, each character in its own byte then */
        b = wasm_i8x16_shuffle(b, b, 1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
        v128_t six = wasm_v128_and(wasm_u32x4_shr(b, 10), wasm_i32x4_const_splat(0x3f));
        six = wasm_v128_or(six, wasm_v128_and(wasm_i32x4_shl(b, 4), wasm_i32x4_const_splat(0x3f00)));
        six = wasm_v128_or(six, wasm_v128_and(wasm_u32x4_shr(b, 6), wasm_i32x4_const_splat(0x3f0000)));
        six = wasm_v128_or(six, wasm_v128_and(wasm_i32x4_shl(b, 8), wasm_i32x4_const_splat(0x3f000000)));
        v128_t shift = wasm_i8x16_const_splat('A');
        static const signed char steps[][2] = {{25, 6}, {51, -75}, {61, -15}, {62, 3}}; /* to a, 0, + and / */
        for (int i = 0; i < 4; i++)
            shift = wasm_i8x16_add(shift,
                wasm_v128_and(wasm_i8x16_gt(six, wasm_i8x16_splat(steps[i][0])), wasm_i8x16_splat(steps[i][1])));
        wasm_v128_store(to, wasm_i8x16_add(six, shift));
    }
#endif
    return at;
}

EDGE_FN void edge_add_base64(edge_text *out, edge_text text) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *s = (const unsigned char *)text.data;
    edge_reserve(out, (text.len + 2) / 3 * 4);
    size_t i = edge_base64_wide(out->data + out->len, text.data, text.len);
    char *to = out->data + out->len + i / 3 * 4;
    for (; i < text.len; i += 3, to += 4) {
        size_t left = text.len - i;
        uint32_t bits = s[i] << 16 | (left > 1 ? s[i + 1] << 8 : 0) | (left > 2 ? s[i + 2] : 0);
        to[0] = alphabet[bits >> 18];
        to[1] = alphabet[bits >> 12 & 63];
        to[2] = left > 1 ? alphabet[bits >> 6 & 63] : '=';
        to[3] = left > 2 ? alphabet[bits & 63] : '=';
    }
    *to = 0;
    out->len = to - out->data;
}

EDGE_FN const char *edge_skip_space(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
    return at;
}

/* The longest string of the request, its body in most: it is looked at once, and not for each member that is found. */
static struct {
    const char *at, *end;
    bool watched, escapes;
} edge_longest;

/* How far a string goes on in steps of 64 without escapes. */
EDGE_FN EDGE_SIMD const char *edge_skip_plain(const char *at, const char *end) {
#ifdef __wasm__
    for (; end - at >= 81; at += 64) {
        v128_t any = edge_special(wasm_v128_load(at), false);
        for (size_t i = 16; i < 64; i += 16) any = wasm_v128_or(any, edge_special(wasm_v128_load(at + i), false));
        if (wasm_v128_any_true(any)) break;
    }
#endif
    return at;
}

/* How far a string goes on in steps of 16: up to its end, or what cannot be in it. */
EDGE_FN EDGE_SIMD const char *edge_skip_simple(const char *at, const char *end, bool *escapes) {
#ifdef __wasm__
    for (int plain = 0; end - at >= 17;) { /* steps without an escape */
        size_t len = 16;
        uint32_t found = wasm_i8x16_bitmask(edge_special(wasm_v128_load(at), false));
        plain = found ? 0 : plain + 1;
        while (found) {
            size_t next = __builtin_ctz(found);
            if (at[next] != '\\') return at + next;
            found &= ~(3u << next); /* what is escaped may be a backslash or a quote */
            len += next == 15;
            *escapes = true;
        }
        at += len;
        if (plain > 3) at = edge_skip_plain(at, end);
    }
#endif
    return at;
}

/* The end of the string that opens at `at`, NULL if it never ends. */
EDGE_FN const char *edge_skip_string(const char *at, const char *end) {
    const char *start = at;
    bool escapes = false;
    if (at >= end || *at != '"') return NULL;
    if (at == edge_longest.at) return edge_longest.end;
    for (at = edge_skip_simple(at + 1, end, &escapes); at < end && (at += edge_run(at, end - at)) < end; at += 2) {
        if (*at != '\\') break;
        escapes = true;
    }
    if (at >= end || *at != '"') return NULL;
    at++;
    if (edge_longest.watched && at - start > edge_longest.end - edge_longest.at) {
        edge_longest.at = start;
        edge_longest.end = at;
        edge_longest.escapes = escapes;
    }
    return at;
}

EDGE_FN bool edge_is_scalar(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E';
}

/* The end of the value at `at`, NULL if it is malformed or nested too deep. */
EDGE_FN const char *edge_skip(const char *at, const char *end, int depth) {
    if (at >= end || depth > EDGE_MAX_DEPTH) return NULL;
    if (*at == '"') return edge_skip_string(at, end);
    if (*at != '{' && *at != '[') {
        const char *start = at;
        while (at < end && edge_is_scalar(*at)) at++;
        return at > start ? at : NULL;
    }
    char close = *at == '{' ? '}' : ']';
    at = edge_skip_space(at + 1, end);
    if (at < end && *at == close) return at + 1;
    for (;;) {
        if (close == '}') {
            if (!(at = edge_skip_string(at, end))) return NULL;
            at = edge_skip_space(at, end);
            if (at >= end || *at != ':') return NULL;
            at = edge_skip_space(at + 1, end);
        }
        if (!(at = edge_skip(at, end, depth + 1))) return NULL;
        at = edge_skip_space(at, end);
        if (at < end && *at == close) return at + 1;
        if (at >= end || *at != ',') return NULL;
        at = edge_skip_space(at + 1, end);
    }
}

/* The one value that `text` holds; absent where `text` is not JSON. */
EDGE_FN edge_json edge_parse(edge_text text) {
    const char *end = text.data + text.len;
    const char *at = edge_skip_space(text.data, end);
    const char *over = edge_skip(at, end, 0);
    if (!over || edge_skip_space(over, end) != end) return (edge_json){0};
    return (edge_json){at, over};
}

/* Four hex digits, -1 if they are not. */
EDGE_FN int32_t edge_hex4(const char *at, const char *end) {
    int32_t code = 0;
    if (end - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        char c = at[i] | 32;
        int digit = at[i] >= '0' && at[i] <= '9' ? at[i] - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return -1;
        code = code << 4 | digit;
    }
    return code;
}

EDGE_FN void edge_add_code(edge_text *out, uint32_t code) {
    char utf8[4] = {code};
    size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (len > 1) {
        for (size_t i = len - 1; i; i--, code >>= 6) utf8[i] = 0x80 | (code & 0x3F);
        utf8[0] = (0xF00 >> len) | code;
    }
    edge_add_bytes(out, utf8, len);
}

/* The character that `\c` stands for. */
EDGE_FN char edge_unescape(char c) {
    static const char meant[32] = {['b' & 31] = '\b', ['f' & 31] = '\f', ['n' & 31] = '\n', ['r' & 31] = '\r', ['t' & 31] = '\t'};
    return c < 'b' || c > 't' || !meant[c & 31] ? c : meant[c & 31];
}

/* The code point of the `\uXXXX`, or pair of them, at `*at`; U+FFFD for a lone surrogate. */
EDGE_FN uint32_t edge_unescape_code(const char **at, const char *end) {
    int32_t code = edge_hex4(*at + 2, end);
    *at += code < 0 ? 2 : 6;
    if (code < 0xD800 || code > 0xDFFF) return code < 0 ? 0xFFFD : code;
    if (code > 0xDBFF || end - *at < 6 || (*at)[0] != '\\' || (*at)[1] != 'u') return 0xFFFD;
    int32_t low = edge_hex4(*at + 2, end);
    if (low < 0xDC00 || low > 0xDFFF) return 0xFFFD;
    *at += 6;
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

/* What is between the quotes of a string that has no escape; `data` is NULL if it has one, or is no string. */
EDGE_FN edge_text edge_inside(edge_json value) {
    if (!value.at || *value.at != '"') return (edge_text){0};
    size_t len = value.end - value.at - 2;
    bool escapes = value.at == edge_longest.at ? edge_longest.escapes : memchr(value.at + 1, '\\', len) != NULL;
    return (edge_text){escapes ? NULL : (char *)value.at + 1, escapes ? 0 : len, 0};
}

#ifdef __wasm__
/* 16 bytes of a string without its escapes, or up to one by number; there are 40 to read, and room for as many. Those behind
 * an escape are written again, one further back. How many were taken. */
EDGE_FN EDGE_SIMD size_t edge_decode_16(edge_text *out, const char *at) {
    char *to = out->data + out->len;
    v128_t bytes = wasm_v128_load(at);
    wasm_v128_store(to, bytes);
    size_t taken = 16, less = 0;
    for (uint32_t found = wasm_i8x16_bitmask(wasm_i8x16_eq(bytes, wasm_i8x16_const_splat('\\'))); found;) {
        size_t next = __builtin_ctz(found);
        if (at[next + 1] == 'u') {
            taken = next;
            break;
        }
        found &= ~(3u << next); /* what is escaped may be a backslash */
        if (next == 15) taken++;
        to[next - less++] = edge_unescape(at[next + 1]);
        wasm_v128_store(to + next + 2 - less, wasm_v128_load(at + next + 2));
    }
    out->len += taken - less;
    return taken;
}
#endif

/* A string value decoded; `data` is NULL if the value is not a string. */
EDGE_FN edge_text edge_string(edge_json value) {
    edge_text text = {0};
    if (!value.at || *value.at != '"') return text;
    const char *at = value.at + 1, *end = value.end - 1;
    edge_reserve(&text, end - at + 48);
    while (at < end) {
#ifdef __wasm__
        size_t taken = end - at >= 40 ? edge_decode_16(&text, at) : 0;
        at += taken;
        if (taken) continue;
#endif
        if (*at != '\\') {
            text.data[text.len++] = *at++;
        } else if (at[1] == 'u') {
            edge_add_code(&text, edge_unescape_code(&at, end));
            edge_reserve(&text, end - at + 48); /* U+FFFD is longer than a broken escape, of which there may be many */
        } else {
            text.data[text.len++] = edge_unescape(at[1]);
            at += 2;
        }
    }
    text.data[text.len] = 0;
    return text;
}

/* The same for what is only read: without a copy if there is no escape. */
EDGE_FN edge_text edge_look(edge_json value) {
    edge_text inside = edge_inside(value);
    return inside.data ? inside : edge_string(value);
}

/* The same without a copy if there is no escape: then it is part of the request, and not followed by a NUL. It is full, so
 * that what is added to it makes it a copy. */
EDGE_FN edge_text edge_view(edge_json value) {
    edge_text text = edge_look(value);
    if (!text.cap) text.cap = text.len;
    return text;
}

/* Whether a string value is `text`; most have no escape, and need no copy. */
EDGE_FN bool edge_string_is(edge_json value, const char *text) {
    return edge_equal(edge_look(value), text);
}

/* The member `key` of an object, the last if it is repeated. */
EDGE_FN edge_json edge_get(edge_json object, const char *key) {
    edge_json found = {0};
    if (!object.at || *object.at != '{') return found;
    const char *at = edge_skip_space(object.at + 1, object.end);
    while (at < object.end && *at == '"') {
        edge_json name = {at, edge_skip_string(at, object.end)};
        at = edge_skip_space(edge_skip_space(name.end, object.end) + 1, object.end);
        edge_json member = {at, edge_skip(at, object.end, 0)};
        if (edge_string_is(name, key)) found = member;
        at = edge_skip_space(edge_skip_space(member.end, object.end) + 1, object.end);
    }
    return found;
}

/* edge_find(request, "params", "key"): the value under nested objects. */
#define edge_find(...) edge_find_path(__VA_ARGS__, (char *)NULL)
EDGE_FN edge_json edge_find_path(edge_json value, ...) {
    va_list keys;
    va_start(keys, value);
    for (const char *key; (key = va_arg(keys, char *));) value = edge_get(value, key);
    va_end(keys);
    return value;
}

EDGE_FN bool edge_is_true(edge_json value) {
    return value.at && value.end - value.at == 4 && !memcmp(value.at, "true", 4);
}

/* A number without fraction; 0 where the value is none. */
EDGE_FN int64_t edge_int(edge_json value) {
    uint64_t number = 0;
    const char *at = value.at;
    bool negative = at && at < value.end && *at == '-';
    if (negative) at++;
    for (; at && at < value.end && *at >= '0' && *at <= '9'; at++) number = number * 10 + (*at - '0');
    return negative ? (int64_t)(0 - number) : (int64_t)number;
}

/* The element of an array behind `last`, the first where `last` is absent; absent at the end. */
EDGE_FN edge_json edge_next(edge_json array, edge_json last) {
    if (!array.at || *array.at != '[') return (edge_json){0};
    const char *at = edge_skip_space(last.at ? last.end : array.at + 1, array.end);
    if (last.at && at < array.end && *at == ',') at = edge_skip_space(at + 1, array.end);
    const char *over = at < array.end && *at != ']' ? edge_skip(at, array.end, 0) : NULL;
    return over ? (edge_json){at, over} : (edge_json){0};
}

EDGE_FN edge_text edge_read(int fd) {
    edge_text text = {0};
    size_t free = edge_heap.limit - edge_heap.next;
    edge_reserve(&text, free > 4096 + 16 ? free - 16 : 4096);
    for (ssize_t got; (got = read(fd, text.data + text.len, text.cap - text.len - 1)) > 0;) {
        text.len += got;
        if (text.cap - text.len <= 4096) edge_reserve(&text, 4096);
    }
    text.data[text.len] = 0;
    if (text.data == edge_heap.last) edge_realloc(text.data, text.len, text.cap = text.len + 1); /* the rest is free again */
    return text;
}

EDGE_FN bool edge_write(int fd, const void *data, size_t len) {
    for (const char *at = data; len;) {
        ssize_t put = write(fd, at, len);
        if (put <= 0) return false;
        at += put;
        len -= put;
    }
    return true;
}

EDGE_FN edge_json edge_request(void) {
    edge_text text = edge_read(0);
    edge_longest.watched = true;
    edge_json request = edge_parse(text);
    edge_longest.watched = false;
    return request;
}

EDGE_FN int edge_base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The bytes that as many characters of base64 stand for as go in steps of 16, up to one that is none; how many they are. */
EDGE_FN EDGE_SIMD size_t edge_from_base64_wide(char *to, const char *from, size_t len) {
    size_t at = 0;
#ifdef __wasm__
    static const signed char runs[][3] = {{'A', 'Z', -65}, {'a', 'z', -71}, {'0', '9', 4}, {'+', '+', 19}, {'/', '/', 16}};
    for (; len - at >= 24; at += 16, to += 12) {
        v128_t text = wasm_v128_load(from + at), known = wasm_i8x16_const_splat(0), shift = known;
        for (int i = 0; i < 5; i++) {
            v128_t in = wasm_v128_and(wasm_i8x16_ge(text, wasm_i8x16_splat(runs[i][0])),
                                      wasm_i8x16_le(text, wasm_i8x16_splat(runs[i][1])));
            known = wasm_v128_or(known, in);
            shift = wasm_v128_or(shift, wasm_v128_and(in, wasm_i8x16_splat(runs[i][2])));
        }
        if (!wasm_i8x16_all_true(known)) break;
        v128_t six = wasm_i8x16_add(text, shift);
        v128_t twelve = wasm_v128_or(wasm_i16x8_shl(wasm_v128_and(six, wasm_i16x8_const_splat(0x3f)), 6), wasm_u16x8_shr(six, 8));
        v128_t bits = wasm_i32x4_dot_i16x8(twelve, wasm_i32x4_const_splat(1 << 16 | 1 << 12));
        wasm_v128_store(to, wasm_i8x16_shuffle(bits, bits, 2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, 3, 3, 3, 3));
    }
#endif
    return at;
}

/* The bytes of the standard alphabet of RFC 4648, up to the first character that is not of it. */
EDGE_FN edge_text edge_from_base64(edge_text text) {
    edge_text out = {0};
    uint32_t bits = 0;
    edge_reserve(&out, text.len / 4 * 3 + 3);
    size_t i = edge_from_base64_wide(out.data, text.data, text.len);
    out.len = i / 4 * 3;
    for (; i < text.len; i++) {
        int digit = edge_base64_digit(text.data[i]);
        if (digit < 0) break;
        bits = bits << 6 | digit;
        if (i % 4) out.data[out.len++] = bits >> (6 - i % 4 * 2);
    }
    out.data[out.len] = 0;
    return out;
}

/* The body of a request, decoded; no bytes if there is none. */
EDGE_FN edge_text edge_body(edge_json request) {
    edge_json body = edge_find(request, "body");
    if (edge_is_true(edge_find(request, "is_base64_encoded"))) return edge_from_base64(edge_look(body));
    return edge_string(body);
}

/* The beginning of an answer, up to its body. */
EDGE_FN edge_text edge_answer(int status, const char *headers) {
    edge_text out = edge_literal("{\"status_code\":");
    edge_add_int(&out, status);
    edge_add(&out, ",\"headers\":");
    edge_add(&out, headers);
    return out;
}

/* A string that needs no escapes is printed from where it is. */
EDGE_FN bool edge_print_plain(edge_text *out, edge_text body) {
    return edge_write(1, out->data, out->len) && edge_write(1, body.data, body.len) && edge_write(1, "\"}\n", 3);
}

/* A body that is in base64 already, as that of a request with is_base64_encoded. */
EDGE_FN int edge_respond_base64(int status, const char *headers, edge_text base64) {
    edge_text out = edge_answer(status, headers);
    edge_add(&out, ",\"is_base64_encoded\":true,\"body\":\"");
    return !edge_print_plain(&out, base64);
}

/* Prints the response; `headers` is a JSON object. A body that is not UTF-8 goes out as base64.
 * Returns the exit code for `main`. */
EDGE_FN int edge_respond(int status, const char *headers, edge_text body) {
    edge_text out = edge_answer(status, headers);
    size_t head = out.len;
    if (edge_plain(body.data, body.len) == body.len) {
        edge_add(&out, ",\"body\":\"");
        return !edge_print_plain(&out, body);
    }
    edge_add(&out, ",\"body\":");
    if (!edge_add_json(&out, body, true)) {
        out.len = head;
        edge_add(&out, ",\"is_base64_encoded\":true,\"body\":\"");
        edge_add_base64(&out, body);
        edge_add(&out, "\"");
    }
    edge_add(&out, "}\n");
    return !edge_write(1, out.data, out.len);
}
EDGE_FN int edge_respond_json(int status, const char *json) {
    return edge_respond(status, EDGE_JSON, edge_literal(json));
}

/* The message of the host, or of a server it asked, if a call fails; else both are NULL. */
typedef struct {
    const char *code, *message;
} edge_error;

/* A line on stderr. */
EDGE_FN void edge_log(edge_error error) {
    edge_text line = edge_literal(error.message);
    edge_add(&line, "\n");
    edge_write(2, line.data, line.len);
}

/* {"error":{"code":...,"message":...}} */
EDGE_FN int edge_respond_error(int status, edge_error error) {
    edge_text body = edge_literal("{\"error\":{\"code\":");
    edge_add_string(&body, edge_literal(error.code));
    edge_add(&body, ",\"message\":");
    edge_add_string(&body, edge_literal(error.message));
    edge_add(&body, "}}");
    return edge_respond(status, EDGE_JSON, body);
}

enum {
    EDGE_HTTP_FETCH = 1,
    EDGE_KV_GET = 2,
    EDGE_KV_SET = 3,
    EDGE_KV_DELETE = 4,
    EDGE_KV_LIST = 5,
    EDGE_KV_INCREMENT = 6,
    EDGE_KV_CAS = 7,
    EDGE_QUEUE_PUBLISH = 8,
    EDGE_TRACE_START = 9,
    EDGE_TRACE_END = 10,
    EDGE_TRACE_SET = 11,
    EDGE_TRACE_EVENT = 12,
};

/* `fields` is the object of the result. */
typedef struct {
    edge_error error;
    edge_json fields;
    edge_text body;
} edge_result;

__attribute__((import_module("edge"), import_name("call"))) int32_t edge_host_call(
    int32_t operation, const void *payload, size_t length);
__attribute__((import_module("edge"), import_name("take"))) int32_t edge_host_take(void *out);

EDGE_FN edge_result edge_call_failed(const char *import, int32_t error) {
    edge_text message = edge_literal(import);
    edge_add(&message, ": errno ");
    edge_add_int(&message, error);
    return (edge_result){.error = {"call-failed", message.data}};
}

/* The call under all the others. `fields` is a JSON object. */
EDGE_FN edge_result edge_call(int32_t operation, edge_text fields, edge_text body) {
    edge_text payload = {0}, reply = {0};
    uint32_t length = fields.len;
    edge_reserve(&payload, sizeof length + fields.len + body.len);
    edge_add_bytes(&payload, &length, sizeof length);
    edge_add_bytes(&payload, fields.data, fields.len);
    edge_add_bytes(&payload, body.data, body.len);
    int32_t size = edge_host_call(operation, payload.data, payload.len);
    if (size < 0) return edge_call_failed("edge.call", -size);
    edge_reserve(&reply, size);
    int32_t error = edge_host_take(reply.data);
    if (error) return edge_call_failed("edge.take", error);
    reply.data[reply.len = size] = 0;

    memcpy(&length, reply.data, sizeof length);
    size_t begin = sizeof length + length;
    edge_result result = {
        .fields = edge_parse((edge_text){reply.data + sizeof length, length, length}),
        .body = {reply.data + begin, size - begin, size - begin},
    };
    if (!edge_is_true(edge_find(result.fields, "ok"))) {
        result.error.code = edge_string(edge_find(result.fields, "error", "code")).data;
        result.error.message = edge_string(edge_find(result.fields, "error", "message")).data;
    }
    return result;
}

EDGE_FN void edge_field(edge_text *fields, const char *name, const char *json, size_t len) {
    edge_add(fields, fields->len ? ",\"" : "{\"");
    edge_add(fields, name);
    edge_add(fields, "\":");
    edge_add_bytes(fields, json, len);
}

EDGE_FN void edge_text_field(edge_text *fields, const char *name, edge_text value) {
    edge_text json = {0};
    edge_add_string(&json, value);
    edge_field(fields, name, json.data, json.len);
}

EDGE_FN void edge_int_field(edge_text *fields, const char *name, int64_t value) {
    edge_text json = {0};
    edge_add_int(&json, value);
    edge_field(fields, name, json.data, json.len);
}

/* method: NULL for GET. headers: a JSON object, or NULL. timeout_ms: 0 for what is left of the invocation. */
typedef struct {
    edge_text url;
    const char *method, *headers;
    edge_text body;
    int64_t timeout_ms;
    bool manual_redirects; /* take a redirect as the response */
} edge_fetch_request;

/* headers: an object of lists of strings, names in lower case. url: where the redirects led. */
typedef struct {
    edge_error error;
    int status;
    edge_json headers;
    edge_text url, body;
} edge_fetch_response;

EDGE_FN edge_fetch_response edge_fetch(edge_fetch_request request) {
    edge_text fields = {0};
    edge_text_field(&fields, "url", request.url);
    if (request.method) edge_text_field(&fields, "method", edge_literal(request.method));
    if (request.headers) edge_field(&fields, "headers", request.headers, strlen(request.headers));
    if (request.timeout_ms) edge_int_field(&fields, "timeoutMs", request.timeout_ms);
    if (request.manual_redirects) edge_int_field(&fields, "maxRedirects", 0);
    edge_add(&fields, "}");
    edge_result result = edge_call(EDGE_HTTP_FETCH, fields, request.body);
    return (edge_fetch_response){
        .error = result.error,
        .status = edge_int(edge_find(result.fields, "status")),
        .headers = edge_find(result.fields, "headers"),
        .url = edge_string(edge_find(result.fields, "url")),
        .body = result.body,
    };
}

typedef struct {
    edge_error error;
    bool found;
    edge_text value, etag;
} edge_value;

/* done: whether it was set, deleted or swapped. */
typedef struct {
    edge_error error;
    bool done;
    edge_text etag;
} edge_change;

typedef struct {
    edge_error error;
    int64_t value;
} edge_number;

/* keys: an array of strings. cursor: for the next page; `data` is NULL behind the last. */
typedef struct {
    edge_error error;
    edge_json keys;
    edge_text cursor;
} edge_key_list;

EDGE_FN edge_text edge_kv_fields(const char *name_space, const char *name, edge_text value) {
    edge_text fields = {0};
    edge_text_field(&fields, "namespace", edge_literal(name_space));
    edge_text_field(&fields, name, value);
    return fields;
}

EDGE_FN edge_change edge_kv_change(int32_t operation, edge_text fields, edge_text value, const char *done) {
    edge_add(&fields, "}");
    edge_result result = edge_call(operation, fields, value);
    bool is_done = done ? edge_is_true(edge_find(result.fields, done)) : !result.error.code;
    return (edge_change){result.error, is_done, edge_string(edge_find(result.fields, "etag"))};
}

EDGE_FN edge_value edge_kv_get(const char *name_space, edge_text key) {
    edge_text fields = edge_kv_fields(name_space, "key", key);
    edge_add(&fields, "}");
    edge_result result = edge_call(EDGE_KV_GET, fields, (edge_text){0});
    bool found = edge_is_true(edge_find(result.fields, "found"));
    return (edge_value){result.error, found, result.body, edge_string(edge_find(result.fields, "etag"))};
}

/* ttl_ms: 0 for ever. */
EDGE_FN edge_change edge_kv_set(const char *name_space, edge_text key, edge_text value, int64_t ttl_ms) {
    edge_text fields = edge_kv_fields(name_space, "key", key);
    if (ttl_ms) edge_int_field(&fields, "ttlMs", ttl_ms);
    return edge_kv_change(EDGE_KV_SET, fields, value, NULL);
}

EDGE_FN edge_change edge_kv_delete(const char *name_space, edge_text key) {
    return edge_kv_change(EDGE_KV_DELETE, edge_kv_fields(name_space, "key", key), (edge_text){0}, "deleted");
}

/* Sets the value if it still has the etag, or if there is no value for an empty one. */
EDGE_FN edge_change edge_kv_cas(
    const char *name_space, edge_text key, edge_text etag, edge_text value, int64_t ttl_ms) {
    edge_text fields = edge_kv_fields(name_space, "key", key);
    if (etag.len) edge_text_field(&fields, "etag", etag);
    if (ttl_ms) edge_int_field(&fields, "ttlMs", ttl_ms);
    return edge_kv_change(EDGE_KV_CAS, fields, value, "swapped");
}

EDGE_FN edge_number edge_kv_increment(const char *name_space, edge_text key, int64_t by) {
    edge_text fields = edge_kv_fields(name_space, "key", key);
    edge_int_field(&fields, "by", by);
    edge_add(&fields, "}");
    edge_result result = edge_call(EDGE_KV_INCREMENT, fields, (edge_text){0});
    return (edge_number){result.error, edge_int(edge_find(result.fields, "value"))};
}

/* cursor: that of the page before, or none. limit: 0 for as many as there may be. */
EDGE_FN edge_key_list edge_kv_list(const char *name_space, edge_text prefix, edge_text cursor, int limit) {
    edge_text fields = edge_kv_fields(name_space, "prefix", prefix);
    if (cursor.len) edge_text_field(&fields, "cursor", cursor);
    if (limit) edge_int_field(&fields, "limit", limit);
    edge_add(&fields, "}");
    edge_result result = edge_call(EDGE_KV_LIST, fields, (edge_text){0});
    return (edge_key_list){
        result.error, edge_find(result.fields, "keys"), edge_string(edge_find(result.fields, "cursor"))};
}

typedef struct {
    edge_error error;
    edge_text id;
} edge_message;

/* attributes: a JSON object of strings, or NULL. */
EDGE_FN edge_message edge_queue_publish(const char *queue, edge_text body, const char *attributes) {
    edge_text fields = {0};
    edge_text_field(&fields, "queue", edge_literal(queue));
    if (attributes) edge_field(&fields, "attributes", attributes, strlen(attributes));
    edge_add(&fields, "}");
    edge_result result = edge_call(EDGE_QUEUE_PUBLISH, fields, body);
    return (edge_message){result.error, edge_string(edge_find(result.fields, "id"))};
}

/* For `span`: the span that was started last, of those that are open; else the function's own. */
#define EDGE_CURRENT (-1)

/* span: 0 if nobody records the trace, or if it failed; then what is done with it goes well, and does nothing. */
typedef struct {
    edge_error error;
    int64_t span;
} edge_span;

EDGE_FN edge_error edge_trace_call(int32_t operation, int64_t span, edge_text fields) {
    if (span != EDGE_CURRENT) edge_int_field(&fields, "span", span);
    edge_add(&fields, fields.len ? "}" : "{}");
    return edge_call(operation, fields, (edge_text){0}).error;
}

EDGE_FN void edge_attributes_field(edge_text *fields, const char *attributes) {
    if (attributes) edge_field(fields, "attributes", attributes, strlen(attributes));
}

/* attributes: a JSON object of strings, numbers and bools, or NULL. */
EDGE_FN edge_span edge_trace_start(const char *name, const char *attributes) {
    edge_text fields = {0};
    edge_text_field(&fields, "name", edge_literal(name));
    edge_attributes_field(&fields, attributes);
    edge_add(&fields, "}");
    edge_result result = edge_call(EDGE_TRACE_START, fields, (edge_text){0});
    return (edge_span){result.error, edge_int(edge_find(result.fields, "span"))};
}

/* error: what went wrong in the span, NULL if nothing did. */
EDGE_FN edge_error edge_trace_end(int64_t span, const char *error) {
    edge_text fields = {0};
    if (error) edge_text_field(&fields, "error", edge_literal(error));
    return edge_trace_call(EDGE_TRACE_END, span, fields);
}

EDGE_FN edge_error edge_trace_set(int64_t span, const char *attributes) {
    edge_text fields = {0};
    edge_attributes_field(&fields, attributes);
    return edge_trace_call(EDGE_TRACE_SET, span, fields);
}

EDGE_FN edge_error edge_trace_event(int64_t span, const char *name, const char *attributes) {
    edge_text fields = {0};
    edge_text_field(&fields, "name", edge_literal(name));
    edge_attributes_field(&fields, attributes);
    return edge_trace_call(EDGE_TRACE_EVENT, span, fields);
}

#endif
