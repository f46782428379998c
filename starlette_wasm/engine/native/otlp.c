/* A span as OTLP has it, for telemetry/otlp.py: what is the same in most spans is made there, its attributes are here.
   The tags are those of trace.proto and common.proto: a field's number and its type. */

#include "text.h"

enum { SPAN = 0x12, ATTRIBUTE = 0x4a, KEY = 0x0a, VALUE = 0x12, A_TEXT = 0x0a, A_BOOL = 0x10, A_NUMBER = 0x18,
       A_DOUBLE = 0x21 };
enum { MOST = 10 }; /* bytes of a varint */

static struct text span;

/* A value: what is before it, and the text behind that, if it is one. */
struct value {
  uint8_t head[1 + MOST];
  size_t len;
  struct span text;
};

static size_t varint(uint8_t *to, uint64_t number) {
  size_t len = 0;
  for (; number >= 0x80; number >>= 7)
    to[len++] = (uint8_t)(number | 0x80);
  to[len++] = (uint8_t)number;
  return len;
}

static bool put_tagged(struct text *t, uint8_t tag, uint64_t number) {
  if (!room(t, 1 + MOST))
    return false;
  t->at[t->len++] = tag;
  t->len += varint(t->at + t->len, number);
  return true;
}

static void set_double(struct value *value, double number) {
  uint64_t bits;
  memcpy(&bits, &number, sizeof bits);
  value->head[0] = A_DOUBLE;
  for (int i = 0; i < 8; i++)
    value->head[1 + i] = (uint8_t)(bits >> 8 * i);
  value->len = 9;
}

/* False for a list, a mapping, a number of more than 64 bits, text that is no Unicode. */
static bool read_value(PyObject *object, struct value *value) {
  PyObject *kind = PyObject_Type(object);
  Py_DecRef(kind); /* its objects keep it */
  value->text = (struct span){NULL, 0};
  if (kind == &PyUnicode_Type) {
    value->head[0] = A_TEXT;
    if (!of_str(object, &value->text))
      return false;
    value->len = 1 + varint(value->head + 1, value->text.len);
  } else if (kind == &PyFloat_Type) {
    set_double(value, PyFloat_AsDouble(object));
  } else if (kind == &PyBool_Type || kind == &PyLong_Type) {
    value->head[0] = kind == &PyBool_Type ? A_BOOL : A_NUMBER;
    long long number = PyLong_AsLongLong(object);
    if (number == -1 && PyErr_Occurred())
      return false;
    value->len = 1 + varint(value->head + 1, (uint64_t)number);
  } else {
    return false;
  }
  return true;
}

static bool put_attribute(PyObject *name, PyObject *object) {
  struct span key;
  struct value value;
  uint8_t before[MOST];
  if (!of_str(name, &key) || !read_value(object, &value))
    return false;
  size_t size = value.len + value.text.len;
  size_t inner = 1 + varint(before, key.len) + key.len + 1 + varint(before, size) + size;
  return put_tagged(&span, ATTRIBUTE, inner) && put_tagged(&span, KEY, key.len) && put(&span, key.at, key.len) &&
         put_tagged(&span, VALUE, size) && put(&span, value.head, value.len) &&
         put(&span, value.text.at, value.text.len);
}

static bool put_attributes(PyObject *attributes) {
  PyObject *key, *value;
  ssize_t at = 0;
  if (PyDict_Size(attributes) < 0)
    return false;
  while (PyDict_Next(attributes, &at, &key, &value))
    if (!put_attribute(key, value))
      return false;
  return true;
}

/* The field of a span, with its length before it. */
static PyObject *field(void) {
  uint8_t size[MOST];
  size_t len = varint(size, span.len);
  PyObject *found = PyBytes_FromStringAndSize(NULL, (ssize_t)(1 + len + span.len));
  if (!found)
    return none();
  char *to = PyBytes_AsString(found);
  *to = SPAN;
  memcpy(to + 1, size, len);
  memcpy(to + 1 + len, span.at, span.len);
  return found;
}

/* otlp_span(what is before the attributes, a dict of these, what is behind): the field of a span. None if an attribute is
   left to Python. */
PyObject *otlp_span(PyObject *self, PyObject *const *args, ssize_t count) {
  struct span before, behind;
  (void)self;
  span.len = 0;
  bool ok = count == 3 && of_bytes(args[0], &before) && of_bytes(args[2], &behind) && put(&span, before.at, before.len) &&
            put_attributes(args[1]) && put(&span, behind.at, behind.len);
  PyObject *found = ok ? field() : none();
  let_go(&span);
  return found;
}
