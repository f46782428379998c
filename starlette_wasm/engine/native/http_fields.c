/* Header fields of wasi:http, all but what Python answers (quick_answers.py). */

#include "wasi_http.h"

enum { LONGEST_NAME = 256, OF_ENTRY = 200 };

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

bool is_length(struct span value) {
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
  if (is_forbidden_field(lower) || (IS(lower, "content-length") && !is_length(value)))
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

bool same_name(struct span name, struct span lower) {
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

bool answer_fields(struct component *c, const struct quick_call *q) {
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
  case REQUEST_HEADERS:
    return request_headers(c, q);
  default:
    return fields_clone(c, q);
  }
}
