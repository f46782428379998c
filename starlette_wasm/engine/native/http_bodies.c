/* Bodies of requests and responses of wasi:http, their streams, and polls of these. */

#include "wasi_http.h"

enum { MOST_POLLED = 16, MOST_READ = 1 << 20 }; /* streams.READ_AT_ONCE */

/* What is given once: the body of a request or response, and the stream of a body. */
static bool give_once(struct component *c, const struct quick_call *q, uint32_t of, uint32_t kind) {
  struct http *h = c->http;
  uint32_t object = object_of(h, given(c, 0), q->self, of);
  if (!object || h->object[object].flags & TAKEN || !new_in_result(c, q, given(c, 1), kind, object))
    return false;
  h->object[object].flags |= TAKEN;
  return true;
}

/* The body of the request: what has come of it. Python waits for more. */

static uint64_t left_of_input(const struct http *h) { return h->input.len - h->input_at; }

static bool begin_read(struct component *c, const struct quick_call *q) {
  static const uint8_t closed = 1;
  struct http *h = c->http;
  uint64_t most = slot_of(c, 1), size = left_of_input(h);
  uint8_t *to = result_at(c, q, given(c, 2));
  if (!to || !most)
    return false;
  if (!size)
    return h->input_is_whole && put_result(c, q, to, 1, &closed, sizeof closed);
  size = size < most ? size : most;
  size = size < MOST_READ ? size : MOST_READ;
  begin_pieces(h);
  return add_piece(h, (struct span){h->input.at + h->input_at, size}) && ask_for_room(c, 1, size);
}

static bool read_input(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  if (!object_of(h, given(c, 0), q->self, INPUT))
    return false;
  if (!is_begun(c))
    return begin_read(c, q);
  c->pending = 0;
  uint8_t *to = place_piece(c, 1) ? result_at(c, q, given(c, 2)) : NULL;
  uint32_t found[] = {h->place[0], (uint32_t)h->piece[0].len};
  if (!to)
    return false;
  h->input_at += found[1];
  return put_result(c, q, to, 0, found, sizeof found);
}

/* The future of the trailers, which a request has none of. */
static bool finish_input(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t index = given(c, 0), body = object_of(h, index, q->self, INCOMING);
  if (!body || !q->given || h->objects == HTTP_HANDLES)
    return false;
  drop_handle(h, index);
  return new_object(c, q, TRAILERS, body);
}

static bool get_trailers(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t trailers = object_of(h, given(c, 0), q->self, TRAILERS);
  uint8_t *to = result_at(c, q, given(c, 1));
  if (!trailers || !to)
    return false;
  uint8_t again = (h->object[trailers].flags & TAKEN) != 0;
  h->object[trailers].flags |= TAKEN;
  return put_result(c, q, to, 1, &again, sizeof again);
}

/* The body of a response. */

/* Whether a body of so many bytes, which is whole or not, is as long as was declared. */
bool is_right(const struct http *h, uint32_t body, uint64_t size, bool whole) {
  if (!h->response || h->object[body].of != h->response || h->declared < 0)
    return true;
  return whole ? size == (uint64_t)h->declared : size <= (uint64_t)h->declared;
}

/* Whether the length of a body is declared by a response that is not the answer yet: Python then looks at that. */
static bool is_declared_elsewhere(const struct http *h, uint32_t body) {
  uint32_t response = h->object[body].of;
  if (response == h->response)
    return false;
  for (uint32_t i = 0; i < h->fields; i++)
    if (h->field[i].of == h->object[response].of && IS(h->field[i].name, "content-length"))
      return true;
  return false;
}

uint32_t length_of_body(const struct http *h, uint32_t body) { return h->body_of == body ? h->body_len : 0; }

static bool body_finish(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t index = given(c, 0), body = object_of(h, index, q->self, BODY);
  uint8_t *to = result_at(c, q, given(c, 3));
  if (!body || given(c, 1) || !to || !is_right(h, body, length_of_body(h, body), true) ||
      is_declared_elsewhere(h, body))
    return false;
  drop_handle(h, index);
  h->object[body].flags |= CLOSED;
  return put_result(c, q, to, 0, NULL, 0);
}

/* The body of a response; 0 if it has none. */
uint32_t body_of_response(const struct http *h, uint32_t response) {
  for (uint32_t i = 1; i <= h->objects; i++)
    if (h->object[i].kind == BODY && h->object[i].of == response)
      return i;
  return 0;
}

/* Streams: those that are written to are never full here. */

/* The body of a stream that is open; 0 if it is not. */
static uint32_t open_body(const struct component *c, const struct quick_call *q) {
  const struct http *h = c->http;
  uint32_t stream = object_of(h, given(c, 0), q->self, STREAM), body = stream ? h->object[stream].of : 0;
  return body && !(h->object[body].flags & CLOSED) ? body : 0;
}

static bool stream_write(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t body = open_body(c, q), size = given(c, 2);
  uint8_t *to = result_at(c, q, given(c, 3));
  const uint8_t *from = size <= HTTP_BODY ? bytes_of(c, given(c, 1), size) : NULL;
  if (!body || !to || !from || (h->body_of && h->body_of != body) || h->body_len + size > h->most ||
      !is_right(h, body, h->body_len + size, false))
    return false;
  h->body_of = body;
  memcpy(h->body + h->body_len, from, size);
  h->body_len += size;
  return put_result(c, q, to, 0, NULL, 0);
}

static bool check_write(struct component *c, const struct quick_call *q) {
  uint8_t *to = result_at(c, q, given(c, 1));
  uint64_t room = (256 << 10) - c->http->body_len; /* http_exchange.RESPONSE_BOUND: a write of more than is here goes on there */
  return to && open_body(c, q) && put_result(c, q, to, 0, &room, sizeof room);
}

static bool stream_flush(struct component *c, const struct quick_call *q) {
  uint8_t *to = result_at(c, q, given(c, 1));
  return to && open_body(c, q) && put_result(c, q, to, 0, NULL, 0);
}

static bool subscribe(struct component *c, const struct quick_call *q) {
  static const uint32_t awaited[] = {STREAM, INPUT, TRAILERS};
  uint32_t object = 0;
  for (uint32_t i = 0; !object && i < sizeof awaited / sizeof *awaited; i++)
    object = object_of(c->http, given(c, 0), q->self, awaited[i]);
  return object && new_object(c, q, POLLABLE, object);
}

/* Whether that is a pollable, and ready. */
static bool is_ready(const struct component *c, const struct quick_call *q, uint32_t index) {
  const struct http *h = c->http;
  uint32_t pollable = object_of(h, index, q->self, POLLABLE);
  return pollable && (h->object[h->object[pollable].of].kind != INPUT || left_of_input(h) || h->input_is_whole);
}

/* Pollables that are all ready. */
static bool poll_all(struct component *c, const struct quick_call *q) {
  static const uint32_t indices[MOST_POLLED] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  struct http *h = c->http;
  uint32_t at = given(c, 0), count = given(c, 1), into = given(c, 2);
  if (!is_begun(c)) {
    const uint8_t *list = count && count <= MOST_POLLED && at % 4 == 0 ? bytes_of(c, at, (uint64_t)count * 4) : NULL;
    for (uint32_t i = 0; list && i < count; i++) {
      uint32_t index;
      memcpy(&index, list + (size_t)i * 4, sizeof index);
      if (!is_ready(c, q, index))
        return false;
    }
    if (!list || !result_at(c, q, into))
      return false;
    begin_pieces(h);
    return add_piece(h, (struct span){(const uint8_t *)indices, (size_t)count * 4}) &&
           ask_for_room(c, 4, (uint64_t)count * 4);
  }
  c->pending = 0;
  uint8_t *to = place_piece(c, 4) ? result_at(c, q, into) : NULL;
  uint32_t found[] = {h->place[0], count};
  if (to)
    memcpy(to, found, sizeof found);
  return to && answered(c);
}

/* Whether the call is answered here. */
bool answer_body(struct component *c, const struct quick_call *q) {
  switch (q->kind) {
  case RESPONSE_BODY:
    return give_once(c, q, RESPONSE, BODY);
  case BODY_WRITE:
    return give_once(c, q, BODY, STREAM);
  case BODY_FINISH:
    return body_finish(c, q);
  case CONSUME:
    return give_once(c, q, REQUEST, INCOMING);
  case BODY_STREAM:
    return give_once(c, q, INCOMING, INPUT);
  case READ:
  case READ_NOW:
    return read_input(c, q);
  case FINISH_INPUT:
    return finish_input(c, q);
  case GET_TRAILERS:
    return get_trailers(c, q);
  case SUBSCRIBE:
    return subscribe(c, q);
  case CHECK_WRITE:
    return check_write(c, q);
  case WRITE:
    return stream_write(c, q);
  case FLUSH:
    return stream_flush(c, q);
  case POLL:
    return poll_all(c, q);
  case AWAIT:
    return is_ready(c, q, given(c, 0)) && answered(c);
  case READY:
    return is_ready(c, q, given(c, 0)) && give_number(c, 1);
  default:
    return false;
  }
}
