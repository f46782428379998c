/* What the files that answer handlers of wasi:http share. */

#ifndef WASI_HTTP_H
#define WASI_HTTP_H

#include "component.h"

/* Kinds of objects: http_call.py. INCOMING is the body of the request, and INPUT its stream. */
enum { REQUEST = 1, FIELDS, RESPONSE, BODY, STREAM, POLLABLE, OUTPARAM, INCOMING, INPUT, TRAILERS };
enum { FIXED = 1, CLOSED = 2, TAKEN = 4 }; /* fields; a body; what is given once, was given */

static inline uint32_t given(const struct component *c, uint32_t number) { return (uint32_t)slot_of(c, number); }

/* Whether a call goes on for which the guest was asked for room. */
static inline bool is_begun(const struct component *c) { return c->pending == c->frame + 1; }

#pragma GCC visibility push(hidden)

/* http_objects.c */
uint8_t *bytes_of(const struct component *c, uint32_t at, uint64_t size);
uint8_t *result_at(const struct component *c, const struct quick_call *q, uint32_t into);
bool put_result(struct component *c, const struct quick_call *q, uint8_t *to, uint8_t tag, const void *payload, size_t size);
bool give_number(struct component *c, uint64_t value);
uint32_t object_of(const struct http *h, uint32_t index, uint8_t resource, uint32_t kind);
bool has_room(const struct http *h);
uint32_t add_handle(struct http *h, uint8_t resource, uint32_t object);
void drop_handle(struct http *h, uint32_t index);
uint32_t add_object(struct http *h, uint32_t kind, uint32_t of);
bool new_object(struct component *c, const struct quick_call *q, uint32_t kind, uint32_t of);
bool new_in_result(struct component *c, const struct quick_call *q, uint32_t into, uint32_t kind, uint32_t of);

/* http_results.c */
bool add_piece(struct http *h, struct span piece);
bool place_piece(struct component *c, uint32_t alignment);
void begin_pieces(struct http *h);
bool give_text(struct component *c, const struct quick_call *q, struct span text);
bool begin_list(struct component *c, const struct quick_call *q, uint32_t into);
bool give_list(struct component *c, const struct quick_call *q, uint32_t into, uint32_t strings);
bool give_strings(struct component *c, const struct quick_call *q, struct span block, bool in_two);

/* http_fields.c */
bool is_length(struct span value);
bool same_name(struct span name, struct span lower);
bool answer_fields(struct component *c, const struct quick_call *q);

/* http_bodies.c */
bool is_right(const struct http *h, uint32_t body, uint64_t size, bool whole);
uint32_t length_of_body(const struct http *h, uint32_t body);
uint32_t body_of_response(const struct http *h, uint32_t response);
bool answer_body(struct component *c, const struct quick_call *q);

/* http_answer.c */
bool is_whole(const struct http *h);

#pragma GCC visibility pop

#endif
