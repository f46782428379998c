/* What handlers of wasi:http 0.2 call for nearly every request, without Python: wasi:http/types, and of wasi:io and
   wasi:cli what goes with it. The handles and what they stand for are in a struct http.

   Nothing is refused here: what is unusual, wrong, or more than there is room for is left to Python before anything of it
   is done. Python then takes over all that is here (components/http_call.py), and answers all that follows. */

#include "component.h"

enum { REQUEST = 1, FIELDS, RESPONSE, BODY, STREAM, POLLABLE, OUTPARAM }; /* kinds of objects: http_call.py */
enum { FIXED = 1, CLOSED = 2, TAKEN = 4 }; /* fields; a body, or the stream of one; what is given once, was given */
enum { MOST_POLLED = 16, LONGEST_NAME = 256, OF_ENTRY = 200 };
enum { MOST_ENTRIES = 100, MOST_OF_HEAD = 32 << 10 }; /* headers.MAX_HEADERS, and MAX_HEADER_BYTES */

static const struct extern_ *memory_of_call(const struct component *c) { return c->memories[c->number]; }

static uint32_t given(const struct component *c, uint32_t number) { return (uint32_t)slot_of(c, number); }

/* ``size`` bytes of the guest's; NULL if they are not there. */
static uint8_t *bytes_of(const struct component *c, uint32_t at, uint64_t size) {
  const struct extern_ *memory = memory_of_call(c);
  return fits(c, memory, at, size) ? (uint8_t *)wasmtime.memory_data(c->context, memory->of) + at : NULL;
}

/* Where the guest wants its result, cleared; NULL if that is not there. Nothing else is read of the guest behind it. */
static uint8_t *result_at(const struct component *c, const struct quick_call *q, uint32_t into) {
  return q->alignment && into % q->alignment ? NULL : bytes_of(c, into, q->size);
}

static bool put_result(struct component *c, const struct quick_call *q, uint8_t *to, uint8_t tag, const void *payload,
                       size_t size) {
  memset(to, 0, q->size);
  to[0] = tag;
  if (size)
    memcpy(to + q->payload, payload, size);
  return answered(c);
}

static bool give_number(struct component *c, uint64_t value) {
  set_slot(c, RESULT, value);
  return answered(c);
}

/* The object of a handle, if it is of that resource; 0 if it is not. */
static uint32_t object_of(const struct http *h, uint32_t index, uint8_t resource, uint32_t kind) {
  if (!index || index > h->handles || h->handle[index].resource != resource || !resource)
    return 0;
  uint32_t object = h->handle[index].object;
  return h->object[object].kind == kind ? object : 0;
}

static void drop_handle(struct http *h, uint32_t index) {
  h->handle[index] = (struct http_handle){0, 0};
  h->free[h->freed++] = (uint16_t)index;
}

static bool has_room(const struct http *h) { return h->freed || h->handles < HTTP_HANDLES; }

/* A handle for an object; there is room for it. */
static uint32_t add_handle(struct http *h, uint8_t resource, uint32_t object) {
  uint32_t index = h->freed ? h->free[--h->freed] : ++h->handles;
  h->handle[index] = (struct http_handle){resource, (uint16_t)object};
  return index;
}

/* A new object; 0 if there is no room for it, or for its handle. */
static uint32_t add_object(struct http *h, uint32_t kind, uint32_t of) {
  if (!has_room(h) || h->objects == HTTP_HANDLES)
    return 0;
  h->object[++h->objects] = (struct http_object){(uint16_t)kind, 0, (uint16_t)of, 0};
  return h->objects;
}

static bool new_object(struct component *c, const struct quick_call *q, uint32_t kind, uint32_t of) {
  uint32_t object = q->given ? add_object(c->http, kind, of) : 0;
  return object && give_number(c, add_handle(c->http, q->given, object));
}

/* A result of the case ``ok`` with a handle for a new object. */
static bool new_in_result(struct component *c, const struct quick_call *q, uint32_t into, uint32_t kind, uint32_t of) {
  uint8_t *to = result_at(c, q, into);
  uint32_t object = to && q->given ? add_object(c->http, kind, of) : 0, index;
  if (!object)
    return false;
  index = add_handle(c->http, q->given, object);
  return put_result(c, q, to, 0, &index, sizeof index);
}

/* Results that need room of the guest: pieces of which each is asked for, and written, one after the other. */

static bool add_piece(struct http *h, struct span piece) {
  if (h->pieces == HTTP_PIECES)
    return false;
  h->piece[h->pieces++] = piece;
  return true;
}

/* Take the room that the guest has given for a piece. False if it is not there. */
static bool place_piece(struct component *c, uint32_t alignment) {
  struct http *h = c->http;
  struct span piece = h->piece[h->placed];
  uint32_t at = given(c, RESULT);
  uint8_t *to = bytes_of(c, at, piece.len);
  if (!to || at % alignment)
    return false;
  if (piece.at && piece.len)
    memcpy(to, piece.at, piece.len);
  h->place[h->placed++] = at;
  return true;
}

/* The places and sizes of all pieces but the first, into that, which is the list of them. */
static bool put_list(struct component *c) {
  const struct http *h = c->http;
  uint8_t *list = bytes_of(c, h->place[0], h->piece[0].len);
  if (!list)
    return false;
  for (uint32_t i = 1; i < h->pieces; i++) {
    uint32_t pair[] = {h->place[i], (uint32_t)h->piece[i].len};
    memcpy(list + (size_t)(i - 1) * sizeof pair, pair, sizeof pair);
  }
  return true;
}

/* Go on with pieces that are there. ``count`` are the items of the list that they are; one that is no list, but an option,
   is 0. ``into`` is where the result is wanted. */
static bool give_pieces(struct component *c, const struct quick_call *q, uint32_t into, uint32_t count, bool list) {
  struct http *h = c->http;
  bool begun = c->pending == c->frame + 1;
  if (begun && !place_piece(c, list && !h->placed ? 4 : 1)) {
    c->pending = 0;
    return false;
  }
  if (h->placed < h->pieces)
    return ask_for_room(c, list && !h->placed ? 4 : 1, h->piece[h->placed].len);
  uint32_t found[] = {h->place[0], list ? count : (uint32_t)h->piece[0].len};
  uint8_t *to = result_at(c, q, into);
  c->pending = 0;
  if (!to || (list && !put_list(c)))
    return false;
  if (!list)
    return put_result(c, q, to, 1, found, sizeof found);
  memcpy(to, found, sizeof found);
  return answered(c);
}

static bool is_begun(const struct component *c) { return c->pending == c->frame + 1; }

static void begin_pieces(struct http *h) { h->pieces = h->placed = 0; }

/* Text in an option, which is there. */
static bool give_text(struct component *c, const struct quick_call *q, struct span text) {
  struct http *h = c->http;
  uint32_t into = given(c, 1);
  if (!is_begun(c)) {
    begin_pieces(h);
    if (!result_at(c, q, into) || !add_piece(h, text))
      return false;
  }
  return give_pieces(c, q, into, 0, false);
}

/* The strings of a block of layout.strings(): whole, or in two at the first '='. */
static bool add_strings(struct http *h, struct span block, bool in_two) {
  uint32_t count, offset;
  if (block.len < 8)
    return false;
  memcpy(&count, block.at, sizeof count);
  if (count > HTTP_FIELDS || !is_ascii(block))
    return false;
  const uint8_t *data = block.at + 8 + 4 * (size_t)count;
  for (uint32_t i = 0; i < count; i++) {
    memcpy(&offset, block.at + 8 + 4 * (size_t)i, sizeof offset);
    const char *at = (const char *)data + offset, *is = in_two ? strchr(at, '=') : NULL;
    size_t len = strlen(at), name = is ? (size_t)(is - at) : len;
    if (!add_piece(h, (struct span){(const uint8_t *)at, name}) ||
        (in_two && !add_piece(h, (struct span){(const uint8_t *)at + name + (is != NULL), len - name - (is != NULL)})))
      return false;
  }
  return true;
}

/* Begin a list, whose items are the pieces behind its own. */
static bool begin_list(struct component *c, const struct quick_call *q, uint32_t into) {
  begin_pieces(c->http);
  return result_at(c, q, into) && add_piece(c->http, (struct span){NULL, 0});
}

/* Give the list that was begun, of items of so many strings each. */
static bool give_list(struct component *c, const struct quick_call *q, uint32_t into, uint32_t strings) {
  struct http *h = c->http;
  h->piece[0].len = (size_t)(h->pieces - 1) * 8;
  return give_pieces(c, q, into, (h->pieces - 1) / strings, true);
}

static bool give_strings(struct component *c, const struct quick_call *q, struct span block, bool in_two) {
  uint32_t into = given(c, 0);
  if (!is_begun(c) && !(begin_list(c, q, into) && add_strings(c->http, block, in_two)))
    return false;
  return give_list(c, q, into, in_two ? 2 : 1);
}

/* Header fields. */

static bool add_entry(struct http *h, struct span name, struct span value, uint32_t of) {
  if (h->fields == HTTP_FIELDS)
    return false;
  h->field[h->fields++] = (struct http_field){name, value, of};
  return true;
}

static struct span kept(struct http *h, struct span text, bool lower) {
  uint8_t *to = h->text + h->text_len;
  for (size_t i = 0; i < text.len; i++)
    to[i] = (uint8_t)(lower && kinds[text.at[i]] & UPPER ? text.at[i] | 0x20 : text.at[i]);
  h->text_len += (uint32_t)text.len;
  return (struct span){to, text.len};
}

/* As in Fields.wrong_name(): names in lower case. */
static bool is_forbidden(struct span name) {
  return IS(name, "connection") || IS(name, "host") || IS(name, "http2-settings") || IS(name, "keep-alive") ||
         IS(name, "proxy-authenticate") || IS(name, "proxy-authorization") || IS(name, "proxy-connection") ||
         IS(name, "te") || IS(name, "transfer-encoding") || IS(name, "upgrade");
}

static bool is_length(struct span value) {
  for (size_t i = 0; i < value.len; i++)
    if (value.at[i] < '0' || value.at[i] > '9')
      return false;
  return value.len && value.len <= 18;
}

/* As Fields.add(), of what the guest has given. False if it is wrong, or there is no room. */
static bool add_given(struct http *h, struct span name, struct span value, uint32_t of) {
  if (!name.len || name.len > LONGEST_NAME || !all(name, TOKEN) || !all(value, IN_VALUE) ||
      h->fields == HTTP_FIELDS || value.len > HTTP_TEXT || h->text_len + name.len + value.len > HTTP_TEXT)
    return false;
  struct span lower = kept(h, name, true);
  if (is_forbidden(lower) || (IS(lower, "content-length") && !is_length(value)))
    return false;
  h->spent += (uint32_t)(name.len + value.len + OF_ENTRY);
  return add_entry(h, lower, kept(h, value, false), of);
}

static bool text_of(const struct component *c, uint32_t at, uint32_t size, struct span *text) {
  const uint8_t *found = bytes_of(c, at, size);
  *text = (struct span){found, size};
  return found != NULL;
}

static bool fields_append(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t object = object_of(h, given(c, 0), q->self, FIELDS), before = h->text_len;
  struct span name, value;
  uint8_t *to = result_at(c, q, given(c, 5));
  if (!object || h->object[object].flags & FIXED || !to || !text_of(c, given(c, 1), given(c, 2), &name) ||
      !text_of(c, given(c, 3), given(c, 4), &value))
    return false;
  if (!add_given(h, name, value, object)) {
    h->text_len = before;
    return false;
  }
  return put_result(c, q, to, 0, NULL, 0);
}

/* The entries of a list of the guest's, for the object of a number that is not given yet. */
static bool read_entries(struct component *c, uint32_t at, uint32_t count, uint32_t of) {
  struct http *h = c->http;
  const uint8_t *list = bytes_of(c, at, (uint64_t)count * 16);
  if (!list || at % 4)
    return false;
  for (uint32_t i = 0; i < count; i++) {
    uint32_t places[4];
    struct span name, value;
    memcpy(places, list + (size_t)i * sizeof places, sizeof places);
    if (!text_of(c, places[0], places[1], &name) || !text_of(c, places[2], places[3], &value) ||
        !add_given(h, name, value, of))
      return false;
  }
  return true;
}

static bool fields_from_list(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t fields = h->fields, text_len = h->text_len, spent = h->spent;
  if (result_at(c, q, given(c, 2)) && read_entries(c, given(c, 0), given(c, 1), h->objects + 1) &&
      new_in_result(c, q, given(c, 2), FIELDS, 0))
    return true;
  h->fields = fields;
  h->text_len = text_len;
  h->spent = spent;
  return false;
}

static bool fields_entries(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t object = object_of(h, given(c, 0), q->self, FIELDS), into = given(c, 1);
  if (!object)
    return false;
  if (!is_begun(c)) {
    if (!begin_list(c, q, into))
      return false;
    for (uint32_t i = 0; i < h->fields; i++)
      if (h->field[i].of == object && !(add_piece(h, h->field[i].name) && add_piece(h, h->field[i].value)))
        return false;
  }
  return give_list(c, q, into, 2);
}

static bool same_name(struct span name, struct span lower) {
  if (name.len != lower.len)
    return false;
  for (size_t i = 0; i < name.len; i++)
    if ((uint8_t)(kinds[name.at[i]] & UPPER ? name.at[i] | 0x20 : name.at[i]) != lower.at[i])
      return false;
  return true;
}

static bool fields_get(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t object = object_of(h, given(c, 0), q->self, FIELDS), into = given(c, 3);
  struct span name;
  if (!object)
    return false;
  if (!is_begun(c)) {
    if (!text_of(c, given(c, 1), given(c, 2), &name) || !is_ascii(name) || !begin_list(c, q, into))
      return false;
    for (uint32_t i = 0; i < h->fields; i++)
      if (h->field[i].of == object && same_name(name, h->field[i].name) && !add_piece(h, h->field[i].value))
        return false;
  }
  return give_list(c, q, into, 1);
}

static bool fields_clone(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t object = object_of(h, given(c, 0), q->self, FIELDS), fields = h->fields, spent = h->spent;
  if (!object)
    return false;
  for (uint32_t i = 0; i < fields; i++) {
    struct http_field each = h->field[i];
    if (each.of != object)
      continue;
    if (!add_entry(h, each.name, each.value, h->objects + 1)) {
      h->fields = fields;
      return false;
    }
    spent += (uint32_t)(each.name.len + each.value.len + OF_ENTRY);
  }
  if (!new_object(c, q, FIELDS, 0)) {
    h->fields = fields;
    return false;
  }
  h->spent = spent;
  return true;
}

/* The headers of the request: the same each time. */
static bool request_headers(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t request = object_of(h, given(c, 0), q->self, REQUEST);
  if (!request || !q->given || !has_room(h))
    return false;
  if (h->object[request].of)
    return give_number(c, add_handle(h, q->given, h->object[request].of));
  const uint8_t *at = h->headers;
  if (h->header_count > HTTP_FIELDS - h->fields || h->objects == HTTP_HANDLES)
    return false;
  uint32_t object = add_object(h, FIELDS, 0);
  h->object[object].flags = FIXED;
  h->object[request].of = (uint16_t)object;
  for (uint64_t i = 0; i < h->header_count; i++) {
    uint32_t lengths[2];
    memcpy(lengths, at, sizeof lengths);
    at += sizeof lengths;
    add_entry(h, (struct span){at, lengths[0]}, (struct span){at + lengths[0], lengths[1]}, object);
    at += lengths[0] + lengths[1];
  }
  return give_number(c, add_handle(h, q->given, object));
}

/* What a request is asked for. */

static bool of_request(const struct component *c, const struct quick_call *q) {
  return object_of(c->http, given(c, 0), q->self, REQUEST);
}

static bool request_method(struct component *c, const struct quick_call *q) {
  static const char *const methods[] = {"get", "head", "post", "put", "delete", "connect", "options", "trace", "patch"};
  uint8_t *to = result_at(c, q, given(c, 1));
  for (uint8_t i = 0; to && of_request(c, q) && i < sizeof methods / sizeof *methods; i++)
    if (same_name(c->http->method, (struct span){(const uint8_t *)methods[i], strlen(methods[i])}))
      return put_result(c, q, to, i, NULL, 0);
  return false;
}

static bool request_scheme(struct component *c, const struct quick_call *q) {
  struct span scheme = c->http->scheme;
  bool secure = IS(scheme, "https");
  uint8_t *to = result_at(c, q, given(c, 1)), tag = secure;
  return to && of_request(c, q) && (secure || IS(scheme, "http")) && put_result(c, q, to, 1, &tag, sizeof tag);
}

/* A response and its body. */

static bool new_response(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t index = given(c, 0), fields = object_of(h, index, q->self, FIELDS);
  if (!fields || !q->given || h->objects == HTTP_HANDLES)
    return false;
  drop_handle(h, index);
  h->object[fields].flags |= FIXED;
  new_object(c, q, RESPONSE, fields);
  h->object[h->objects].status = 200;
  return true;
}

static bool set_status(struct component *c, const struct quick_call *q) {
  uint32_t response = object_of(c->http, given(c, 0), q->self, RESPONSE), status = given(c, 1) & 0xffff;
  bool right = status >= 100 && status <= 999;
  if (!response)
    return false;
  if (right)
    c->http->object[response].status = (uint16_t)status;
  return give_number(c, !right);
}

static bool response_body(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t response = object_of(h, given(c, 0), q->self, RESPONSE);
  if (!response || response == h->response || h->object[response].flags & TAKEN || !new_in_result(c, q, given(c, 1), BODY, response))
    return false;
  h->object[response].flags |= TAKEN;
  return true;
}

static bool body_write(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t body = object_of(h, given(c, 0), q->self, BODY);
  if (!body || h->object[body].flags & TAKEN || !new_in_result(c, q, given(c, 1), STREAM, body))
    return false;
  h->object[body].flags |= TAKEN;
  return true;
}

/* Whether a body of so many bytes, which is whole or not, is as long as was declared. */
static bool is_right(const struct http *h, uint32_t body, uint64_t size, bool whole) {
  if (!h->response || h->object[body].of != h->response || h->declared < 0)
    return true;
  return whole ? size == (uint64_t)h->declared : size <= (uint64_t)h->declared;
}

static uint32_t length_of_body(const struct http *h, uint32_t body) { return h->body_of == body ? h->body_len : 0; }

static bool body_finish(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t index = given(c, 0), body = object_of(h, index, q->self, BODY);
  uint8_t *to = result_at(c, q, given(c, 3));
  if (!body || given(c, 1) || !to || !is_right(h, body, length_of_body(h, body), true))
    return false;
  drop_handle(h, index);
  h->object[body].flags |= CLOSED;
  return put_result(c, q, to, 0, NULL, 0);
}

/* As EdgeResponse and its rules want it, with what is declared; else Python says what is wrong. */
static bool is_head(const struct http *h, uint32_t response, int64_t *declared) {
  const struct http_object *object = &h->object[response];
  size_t size = 0, count = 0;
  *declared = -1;
  for (uint32_t i = 0; i < h->fields; i++) {
    const struct http_field *each = &h->field[i];
    if (each->of != object->of)
      continue;
    size += each->name.len + each->value.len + 4;
    count++;
    if (!all(each->value, IN_VALUE) || !all(each->name, TOKEN) || IS(each->name, "connection"))
      return false;
    if (!IS(each->name, "content-length"))
      continue;
    if (*declared >= 0 || !is_length(each->value))
      return false;
    *declared = 0;
    for (size_t j = 0; j < each->value.len; j++)
      *declared = *declared * 10 + each->value.at[j] - '0';
  }
  return object->status >= 200 && object->status <= 599 && count <= MOST_ENTRIES && size <= MOST_OF_HEAD;
}

/* The body of a response; 0 if it has none. */
static uint32_t body_of_response(const struct http *h, uint32_t response) {
  for (uint32_t i = 1; i <= h->objects; i++)
    if (h->object[i].kind == BODY && h->object[i].of == response)
      return i;
  return 0;
}

static bool set_outparam(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t out = given(c, 0), index = given(c, 2), response = object_of(h, index, q->other, RESPONSE);
  int64_t declared;
  if (!object_of(h, out, q->self, OUTPARAM) || given(c, 1) || !response || h->response ||
      !is_head(h, response, &declared))
    return false;
  uint32_t body = body_of_response(h, response);
  bool whole = !body || h->object[body].flags & CLOSED;
  uint64_t size = length_of_body(h, body);
  if (declared >= 0 && (whole ? size != (uint64_t)declared : size > (uint64_t)declared))
    return false;
  drop_handle(h, out);
  drop_handle(h, index);
  h->response = response;
  h->declared = declared;
  return answered(c);
}

/* Streams of bodies, which are never full here. */

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
  uint64_t room = (512 << 10) - c->http->body_len; /* http_exchange.RESPONSE_BOUND: a write of more than is here goes on there */
  return to && open_body(c, q) && put_result(c, q, to, 0, &room, sizeof room);
}

static bool stream_flush(struct component *c, const struct quick_call *q) {
  uint8_t *to = result_at(c, q, given(c, 1));
  return to && open_body(c, q) && put_result(c, q, to, 0, NULL, 0);
}

static bool is_pollable(const struct component *c, const struct quick_call *q, uint32_t index) {
  return object_of(c->http, index, q->self, POLLABLE);
}

/* All pollables here are ready. */
static bool poll_all(struct component *c, const struct quick_call *q) {
  static const uint32_t indices[MOST_POLLED] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  struct http *h = c->http;
  uint32_t at = given(c, 0), count = given(c, 1), into = given(c, 2);
  if (!is_begun(c)) {
    const uint8_t *list = count && count <= MOST_POLLED && at % 4 == 0 ? bytes_of(c, at, (uint64_t)count * 4) : NULL;
    for (uint32_t i = 0; list && i < count; i++) {
      uint32_t index;
      memcpy(&index, list + (size_t)i * 4, sizeof index);
      if (!is_pollable(c, q, index))
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

static bool drop_any(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t index = given(c, 0);
  if (!index || index > h->handles || !q->self || h->handle[index].resource != q->self)
    return false;
  drop_handle(h, index);
  return answered(c);
}

static bool give_nothing(struct component *c, const struct quick_call *q) {
  uint8_t *to = result_at(c, q, given(c, 0));
  return to && put_result(c, q, to, 0, NULL, 0);
}

static bool answer_fields(struct component *c, const struct quick_call *q) {
  switch (q->kind) {
  case NEW_FIELDS:
    return new_object(c, q, FIELDS, 0);
  case FIELDS_FROM_LIST:
    return fields_from_list(c, q);
  case FIELDS_APPEND:
    return fields_append(c, q);
  case FIELDS_GET:
    return fields_get(c, q);
  case FIELDS_ENTRIES:
    return fields_entries(c, q);
  default:
    return fields_clone(c, q);
  }
}

static bool answer_request(struct component *c, const struct quick_call *q) {
  switch (q->kind) {
  case METHOD:
    return request_method(c, q);
  case SCHEME:
    return request_scheme(c, q);
  case AUTHORITY:
    return of_request(c, q) && give_text(c, q, c->http->authority);
  case PATH:
    return of_request(c, q) && give_text(c, q, c->http->path);
  default:
    return request_headers(c, q);
  }
}

static bool answer_response(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t response;
  switch (q->kind) {
  case NEW_RESPONSE:
    return new_response(c, q);
  case SET_STATUS:
    return set_status(c, q);
  case STATUS_CODE:
    response = object_of(h, given(c, 0), q->self, RESPONSE);
    return response && give_number(c, h->object[response].status);
  case RESPONSE_HEADERS:
    response = object_of(h, given(c, 0), q->self, RESPONSE);
    return response && q->given && has_room(h) && give_number(c, add_handle(h, q->given, h->object[response].of));
  case RESPONSE_BODY:
    return response_body(c, q);
  case BODY_WRITE:
    return body_write(c, q);
  case BODY_FINISH:
    return body_finish(c, q);
  default:
    return set_outparam(c, q);
  }
}

static bool answer_stream(struct component *c, const struct quick_call *q) {
  struct http *h = c->http;
  uint32_t stream;
  switch (q->kind) {
  case SUBSCRIBE:
    stream = object_of(h, given(c, 0), q->self, STREAM);
    return stream && new_object(c, q, POLLABLE, stream);
  case CHECK_WRITE:
    return check_write(c, q);
  case WRITE:
    return stream_write(c, q);
  case FLUSH:
    return stream_flush(c, q);
  case POLL:
    return poll_all(c, q);
  case AWAIT:
    return is_pollable(c, q, given(c, 0)) && answered(c);
  default:
    return is_pollable(c, q, given(c, 0)) && give_number(c, 1);
  }
}

/* Whether the call is answered here. */
bool answer_http(struct component *c, const struct quick_call *q) {
  switch (q->kind) {
  case READ:
    return false;
  case DROP:
    return drop_any(c, q);
  case NOTHING:
    return give_nothing(c, q);
  case ENVIRONMENT:
    return give_strings(c, q, c->http->environ, true);
  case ALL_ARGUMENTS:
    return give_strings(c, q, c->http->arguments, false);
  case METHOD ... REQUEST_HEADERS:
    return answer_request(c, q);
  case NEW_FIELDS ... FIELDS_CLONE:
    return answer_fields(c, q);
  case NEW_RESPONSE ... SET_OUTPARAM:
    return answer_response(c, q);
  default:
    return answer_stream(c, q);
  }
}

/* For Python. */

static bool next_part(struct span *block, uint32_t len, struct span *part) {
  if (block->len < len)
    return false;
  *part = (struct span){block->at, len};
  block->at += len;
  block->len -= len;
  return true;
}

static bool next_number(struct span *block, uint32_t *number) {
  struct span part;
  if (!next_part(block, sizeof *number, &part))
    return false;
  memcpy(number, part.at, sizeof *number);
  return true;
}

/* The head of a request, as http_head.py and request.c write it: the sizes of method, scheme, authority and path, how many
   headers, then all of those, and of each header the sizes of name and value, and these. */
static bool read_head(struct http *h, struct span block) {
  uint32_t sizes[5];
  struct span *parts[] = {&h->method, &h->scheme, &h->authority, &h->path};
  for (int i = 0; i < 5; i++)
    if (!next_number(&block, &sizes[i]))
      return false;
  for (int i = 0; i < 4; i++)
    if (!next_part(&block, sizes[i], parts[i]))
      return false;
  h->headers = block.at;
  h->header_count = sizes[4];
  for (uint32_t i = 0; i < sizes[4]; i++) {
    uint32_t name, value;
    struct span part;
    if (!next_number(&block, &name) || !next_number(&block, &value) || !next_part(&block, name, &part) ||
        !next_part(&block, value, &part))
      return false;
  }
  return true;
}

/* Begin a request: its handles are 1 and 2, of these resources. What is given has to stay until it has ended. False if the
   head is not whole. */
bool swasm_http_open(struct http *h, const uint8_t *head, size_t head_len, const uint8_t *environ, size_t environ_len,
                     const uint8_t *arguments, size_t arguments_len, uint32_t request, uint32_t outparam, uint32_t most) {
  memset(h, 0, offsetof(struct http, handle));
  memset(h->handle, 0, sizeof h->handle);
  h->environ = (struct span){environ, environ_len};
  h->arguments = (struct span){arguments, arguments_len};
  h->declared = -1;
  h->most = most < HTTP_BODY ? most : HTTP_BODY;
  if (!ready() || !read_head(h, (struct span){head, head_len}))
    return false;
  add_handle(h, (uint8_t)request, add_object(h, REQUEST, 0));
  add_handle(h, (uint8_t)outparam, add_object(h, OUTPARAM, 0));
  h->open = true;
  return true;
}

static uint32_t body_of_answer(const struct http *h) { return body_of_response(h, h->response); }

static bool is_whole(const struct http *h) {
  uint32_t body = body_of_answer(h);
  return h->response && (!body || h->object[body].flags & CLOSED);
}

/* All values of a field, as a JSON string, or a list of them. */
static bool put_values(struct text *t, const struct http *h, uint32_t first, uint32_t count) {
  bool more = false;
  if (count > 1 && !PUT(t, "["))
    return false;
  for (uint32_t i = first; i < h->fields; i++) {
    const struct http_field *each = &h->field[i];
    if (each->of != h->field[first].of || !same(each->name, h->field[first].name))
      continue;
    if ((more && !PUT(t, ",")) || !PUT(t, "\"") || !put_latin1(t, each->value) || !PUT(t, "\""))
      return false;
    more = true;
  }
  return count < 2 || PUT(t, "]");
}

static bool put_fields(struct text *t, const struct http *h, uint32_t of) {
  bool more = false;
  for (uint32_t i = 0; i < h->fields; i++) {
    uint32_t before = 0, count = 0;
    for (uint32_t j = 0; j < h->fields; j++)
      if (h->field[j].of == of && h->field[i].of == of && same(h->field[i].name, h->field[j].name)) {
        before += j < i;
        count++;
      }
    if (!count || before)
      continue;
    if ((more && !PUT(t, ",")) || !quote(t, h->field[i].name) || !PUT(t, ":") || !put_values(t, h, i, count))
      return false;
    more = true;
  }
  return true;
}

static bool put_status(struct text *t, uint32_t status) {
  uint8_t digits[] = {(uint8_t)('0' + status / 100), (uint8_t)('0' + status / 10 % 10), (uint8_t)('0' + status % 10)};
  return PUT(t, "{\"status_code\":") && put(t, digits, sizeof digits);
}

/* The answer in the edge protocol, whose rules hold for it. None if it is not whole, or there is no memory. */
PyObject *swasm_http_answer(const struct http *h) {
  static struct text message;
  struct span body = {h->body, length_of_body(h, body_of_answer(h))};
  message.len = 0;
  if (!is_whole(h) || !put_status(&message, h->object[h->response].status) || !PUT(&message, ",\"headers\":{") ||
      !put_fields(&message, h, h->object[h->response].of) || !PUT(&message, "},\"body\":\"") ||
      !put_base64(&message, body) || !PUT(&message, "\",\"is_base64_encoded\":true}"))
    return none();
  PyObject *found = PyBytes_FromStringAndSize((const char *)message.at, (ssize_t)message.len);
  let_go(&message);
  return found ? found : none();
}
