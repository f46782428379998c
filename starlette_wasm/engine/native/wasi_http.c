/* What handlers of wasi:http 0.2 call for nearly every request, without Python: wasi:http/types, and of wasi:io and
   wasi:cli what goes with it. The handles and what they stand for are in a struct http.

   Nothing is refused here: what is unusual, wrong, or more than there is room for is left to Python before anything of it
   is done. Python then takes over all that is here (components/http_call.py), and answers all that follows. */

#include "wasi_http.h"

enum { MOST_ENTRIES = 100, MOST_OF_HEAD = 32 << 10 }; /* headers.MAX_HEADERS, and MAX_HEADER_BYTES */

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

static bool answer_request(struct component *c, const struct quick_call *q) {
  switch (q->kind) {
  case METHOD:
    return request_method(c, q);
  case SCHEME:
    return request_scheme(c, q);
  case AUTHORITY:
    return of_request(c, q) && give_text(c, q, c->http->authority);
  default:
    return of_request(c, q) && give_text(c, q, c->http->path);
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
  default:
    return set_outparam(c, q);
  }
}

/* Whether the call is answered here. */
bool answer_http(struct component *c, const struct quick_call *q) {
  switch (q->kind) {
  case DROP:
    return drop_any(c, q);
  case NOTHING:
    return give_nothing(c, q);
  case ENVIRONMENT:
    return give_strings(c, q, c->http->environ, true);
  case ALL_ARGUMENTS:
    return give_strings(c, q, c->http->arguments, false);
  case METHOD ... PATH:
    return answer_request(c, q);
  case REQUEST_HEADERS ... FIELDS_CLONE:
    return answer_fields(c, q);
  case NEW_RESPONSE ... SET_OUTPARAM:
    return answer_response(c, q);
  default:
    return answer_body(c, q);
  }
}
