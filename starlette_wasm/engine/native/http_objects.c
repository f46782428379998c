/* What a handler of wasi:http has: handles, the objects that they stand for, and results that are written to its memory.
   Nothing is changed before all that a call needs is there: else the call is left to Python (wasi_http.c). */

#include "wasi_http.h"

static const struct extern_ *memory_of_call(const struct component *c) { return c->memories[c->number]; }

/* ``size`` bytes of the guest's; NULL if they are not there. */
uint8_t *bytes_of(const struct component *c, uint32_t at, uint64_t size) {
  const struct extern_ *memory = memory_of_call(c);
  return fits(c, memory, at, size) ? (uint8_t *)wasmtime.memory_data(c->context, memory->of) + at : NULL;
}

/* Where the guest wants its result, cleared; NULL if that is not there. Nothing else is read of the guest behind it. */
uint8_t *result_at(const struct component *c, const struct quick_call *q, uint32_t into) {
  return q->alignment && into % q->alignment ? NULL : bytes_of(c, into, q->size);
}

bool put_result(struct component *c, const struct quick_call *q, uint8_t *to, uint8_t tag, const void *payload,
                       size_t size) {
  memset(to, 0, q->size);
  to[0] = tag;
  if (size)
    memcpy(to + q->payload, payload, size);
  return answered(c);
}

bool give_number(struct component *c, uint64_t value) {
  set_slot(c, RESULT, value);
  return answered(c);
}

/* The object of a handle, if it is of that resource; 0 if it is not. */
uint32_t object_of(const struct http *h, uint32_t index, uint8_t resource, uint32_t kind) {
  if (!index || index > h->handles || h->handle[index].resource != resource || !resource)
    return 0;
  uint32_t object = h->handle[index].object;
  return h->object[object].kind == kind ? object : 0;
}

void drop_handle(struct http *h, uint32_t index) {
  h->handle[index] = (struct http_handle){0, 0};
  h->free[h->freed++] = (uint16_t)index;
}

bool has_room(const struct http *h) { return h->freed || h->handles < HTTP_HANDLES; }

/* A handle for an object; there is room for it. */
uint32_t add_handle(struct http *h, uint8_t resource, uint32_t object) {
  uint32_t index = h->freed ? h->free[--h->freed] : ++h->handles;
  h->handle[index] = (struct http_handle){resource, (uint16_t)object};
  return index;
}

/* A new object; 0 if there is no room for it, or for its handle. */
uint32_t add_object(struct http *h, uint32_t kind, uint32_t of) {
  if (!has_room(h) || h->objects == HTTP_HANDLES)
    return 0;
  h->object[++h->objects] = (struct http_object){(uint16_t)kind, 0, (uint16_t)of, 0};
  return h->objects;
}

bool new_object(struct component *c, const struct quick_call *q, uint32_t kind, uint32_t of) {
  uint32_t object = q->given ? add_object(c->http, kind, of) : 0;
  return object && give_number(c, add_handle(c->http, q->given, object));
}

/* A result of the case ``ok`` with a handle for a new object. */
bool new_in_result(struct component *c, const struct quick_call *q, uint32_t into, uint32_t kind, uint32_t of) {
  uint8_t *to = result_at(c, q, into);
  uint32_t object = to && q->given ? add_object(c->http, kind, of) : 0, index;
  if (!object)
    return false;
  index = add_handle(c->http, q->given, object);
  return put_result(c, q, to, 0, &index, sizeof index);
}
