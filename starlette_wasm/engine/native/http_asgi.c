/* The answer of a handler of wasi:http, for ASGI. */

#include "answer.h"
#include "wasi_http.h"

static bool is_of(const struct http_field *field, const struct http_field *other) {
  return field->of == other->of && same(field->name, other->name);
}

/* Send all values of the field that is the first of its name: as read_header() does with what swasm_http_answer() gives. */
static bool send_values(struct headers *to, const struct http *h, uint32_t first) {
  uint32_t values = 0;
  struct span name, value;
  if (!header_name(to, h->field[first].name, &name))
    return false;
  bool drop = dropped(to, name);
  for (uint32_t i = first; i < h->fields; i++) {
    if (!is_of(&h->field[i], &h->field[first]))
      continue;
    value = h->field[i].value;
    values++;
    if (to->values++ == MAX_FIELDS || !trim(to, name, &value) || (!drop && !send_header(to, name, value, values == 1)))
      return false;
  }
  if (values == 1 && IS(name, "content-length"))
    to->declared = length_of(value);
  return true;
}

static bool send_fields(struct headers *to, const struct http *h, uint32_t of) {
  for (uint32_t i = 0; i < h->fields; i++) {
    bool known = h->field[i].of != of;
    for (uint32_t j = 0; j < i && !known; j++)
      known = is_of(&h->field[j], &h->field[i]);
    if (!known && !send_values(to, h, i))
      return false;
  }
  return true;
}

/* What answer() gives; NULL if the answer is not whole, or is left to Python. */
PyObject *http_answer(const struct http *h, const struct scratch *s, const struct request *request, bool due) {
  struct parts p;
  const struct http_object *response = &h->object[h->response];
  PyObject *content = NULL, *found = NULL;
  if (!is_whole(h))
    return NULL;
  begin_parts(&p, NULL, false);
  p.status = response->status;
  if (p.headers.sent && p.status >= 200 && p.status <= 599 && send_fields(&p.headers, h, response->of)) {
    struct span id = {request->id, request->id_len};
    content = PyBytes_FromStringAndSize((const char *)h->body, (ssize_t)length_of_body(h, body_of_response(h, h->response)));
    content = content_for_asgi(&p, content, id, request->head);
  }
  if (content)
    found = packed(s, &p, content, request, due, NULL);
  drop(content);
  drop(p.headers.sent);
  return found;
}
