/* A request for a handler of wasi:http, as Python begins it, and what has become of it. */

#include "wasi_http.h"

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
                     const uint8_t *arguments, size_t arguments_len, const uint8_t *input, size_t input_len, bool whole,
                     uint32_t request, uint32_t outparam, uint32_t most) {
  memset(h, 0, offsetof(struct http, handle));
  memset(h->handle, 0, sizeof h->handle);
  h->environ = (struct span){environ, environ_len};
  h->arguments = (struct span){arguments, arguments_len};
  h->input = (struct span){input, input_len};
  h->input_is_whole = whole;
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

/* Whether all of the answer is there. */
bool is_whole(const struct http *h) {
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
