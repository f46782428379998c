/* From what the guest printed to status, headers and body for ASGI. The same as EdgeProtocol.decode(), render() and
   with_request_id(), or it is left to them. What was printed is read where it is, and not changed. */

#include "answer.h"
#include "json.h"

static bool append_to(PyObject *list, PyObject *a, struct span value) {
  PyObject *b = PyBytes_FromStringAndSize((const char *)value.at, (ssize_t)value.len);
  PyObject *pair = a && b ? PyTuple_Pack(2, a, b) : NULL;
  bool ok = pair && !PyList_Append(list, pair);
  drop(b);
  drop(pair);
  return ok;
}

static bool put_line(struct text *lines, struct span name, struct span value) {
  return put(lines, name.at, name.len) && PUT(lines, ": ") && put(lines, value.at, value.len) && PUT(lines, "\r\n");
}

static bool append(PyObject *list, struct span name, struct span value) {
  if (IS(name, "content-type"))
    return append_to(list, names.content_type, value);
  PyObject *a = PyBytes_FromStringAndSize((const char *)name.at, (ssize_t)name.len);
  bool ok = append_to(list, a, value);
  drop(a);
  return ok;
}

/* As Latin-1, if all of it is. */
static bool to_latin1(struct headers *h, struct span *value, const struct string *text) {
  uint8_t *at = h->bytes + h->used, *to = at;
  if (text->len > sizeof h->bytes - h->used)
    return false;
  unescape(at, text->len, text->raw);
  for (size_t i = 0; i < text->len; i++) {
    uint8_t c = at[i];
    if (c >= 0x80) {
      if (c < 0xc2 || c > 0xc3 || i + 1 == text->len || (at[i + 1] & 0xc0) != 0x80)
        return false;
      c = (uint8_t)(c << 6 | (at[++i] & 0x3f));
    }
    *to++ = c;
  }
  *value = (struct span){at, (size_t)(to - at)};
  h->used += value->len;
  return true;
}

/* Without white space around it. False if it is too much, or no value. */
bool trim(struct headers *h, struct span name, struct span *value) {
  while (value->len && (*value->at == ' ' || *value->at == '\t'))
    value->at++, value->len--;
  while (value->len && (value->at[value->len - 1] == ' ' || value->at[value->len - 1] == '\t'))
    value->len--;
  h->size += name.len + value->len + 4;
  return h->size <= MAX_HEADER_BYTES && all(*value, IN_VALUE);
}

static bool header_value(struct reader *r, struct headers *h, struct span name, struct span *value) {
  struct string text;
  if (h->values++ == MAX_FIELDS || !string(r, &text))
    return false;
  *value = text.raw;
  if ((has_escapes(&text) || !is_ascii(text.raw)) && !to_latin1(h, value, &text))
    return false;
  return trim(h, name, value);
}

/* What headers.py drops without a look at the value, and what the host sets itself. */
bool dropped(const struct headers *h, struct span name) {
  return IS(name, "content-length") || IS(name, "date") || IS(name, "server") || IS(name, "keep-alive") ||
         IS(name, "proxy-authenticate") || IS(name, "proxy-authorization") || IS(name, "proxy-connection") ||
         IS(name, "te") || IS(name, "trailer") || IS(name, "transfer-encoding") || IS(name, "upgrade") ||
         (IS(name, "x-request-id") && !h->keeps_id);
}

/* As headers.declared_length(). */
ssize_t length_of(struct span value) {
  ssize_t length = 0;
  if (!value.len || value.len > 18)
    return -1;
  for (size_t i = 0; i < value.len; i++) {
    if (value.at[i] < '0' || value.at[i] > '9')
      return -1;
    length = length * 10 + value.at[i] - '0';
  }
  return length;
}

/* A name in lower case, which no other header may have. */
bool header_name(struct headers *h, struct span raw, struct span *name) {
  if (h->fields.count == MAX_FIELDS || !raw.len || raw.len > 64 || !all(raw, TOKEN))
    return false;
  uint8_t *lower = h->lower[h->fields.count];
  for (size_t i = 0; i < raw.len; i++) {
    uint8_t c = raw.at[i];
    lower[i] = (uint8_t)(kinds[c] & UPPER ? c | 0x20 : c == '_' && h->underscores ? '-' : c);
  }
  *name = (struct span){lower, raw.len};
  return !IS(*name, "connection") && add_field(&h->fields, *name, *name) && !h->fields.repeats;
}

/* ``first`` is whether the name has no value yet. */
bool send_header(struct headers *h, struct span name, struct span value, bool first) {
  h->typed = h->typed || IS(name, "content-type");
  if (h->lines)
    return put_line(h->lines, name, value);
  return h->as_dict ? put_in_dict(h->sent, name, value, first) : append(h->sent, name, value);
}

static bool read_header(struct reader *r, struct headers *h) {
  struct string text;
  struct span name, value;
  if (!string(r, &text) || has_escapes(&text) || !header_name(h, text.raw, &name) || !eat(r, ':'))
    return false;
  bool drop = dropped(h, name);
  if (next(r) != '[') {
    if (!header_value(r, h, name, &value))
      return false;
    if (IS(name, "content-length"))
      h->declared = length_of(value);
    return drop || send_header(h, name, value, true);
  }
  r->at++;
  bool first = true;
  for (bool more = next(r) != ']'; more; more = eat(r, ','), first = false)
    if (!header_value(r, h, name, &value) || (!drop && !send_header(h, name, value, first)))
      return false;
  return eat(r, ']');
}

static bool read_headers(struct reader *r, struct headers *h) {
  if (next(r) == 'n')
    return literal(r, "null");
  if (!eat(r, '{'))
    return false;
  if (next(r) == '}')
    return eat(r, '}');
  do {
    if (!read_header(r, h))
      return false;
  } while (eat(r, ','));
  return eat(r, '}');
}

static bool read_status(struct reader *r, long *status) {
  next(r);
  for (int i = 0; i < 3; i++, r->at++) {
    if (r->at == r->end || *r->at < '0' || *r->at > '9')
      return false;
    *status = *status * 10 + *r->at - '0';
  }
  uint8_t after = next(r);
  return *status >= 200 && *status <= 599 && (after == ',' || after == '}');
}

static bool read_flag(struct reader *r, bool *flag) {
  *flag = next(r) == 't';
  return literal(r, *flag ? "true" : next(r) == 'n' ? "null" : "false");
}

/* What is not asked for: null, or an object of strings. */
static bool skip_strings(struct reader *r) {
  struct string text;
  int count = 0;
  if (next(r) == 'n')
    return literal(r, "null");
  if (!eat(r, '{'))
    return false;
  if (next(r) == '}')
    return eat(r, '}');
  do {
    if (count++ == MAX_FIELDS || !string(r, &text) || !eat(r, ':') || !string(r, &text))
      return false;
  } while (eat(r, ','));
  return eat(r, '}');
}

enum part { STATUS = 1, HEADERS = 2, BODY = 4, FLAG = 8, UNUSED = 16 };

static int part_of(struct span key, bool wws) {
  if (IS(key, "headers"))
    return HEADERS;
  if (wws)
    return IS(key, "data") ? BODY : IS(key, "status") ? STATUS : IS(key, "base64") ? FLAG : IS(key, "kv") ? UNUSED : 0;
  return IS(key, "status_code") ? STATUS : IS(key, "body") ? BODY : IS(key, "is_base64_encoded") ? FLAG : 0;
}

static bool read_part(struct reader *r, struct parts *p, int part) {
  switch (part) {
  case STATUS:
    return read_status(r, &p->status);
  case HEADERS:
    return read_headers(r, &p->headers);
  case FLAG:
    return read_flag(r, &p->base64);
  case UNUSED:
    return skip_strings(r);
  default:
    return next(r) == 'n' ? literal(r, "null") : string(r, &p->body);
  }
}

/* The object that a guest of edge or wws prints. */
static bool read_parts(struct reader *r, struct parts *p, bool wws) {
  int seen = 0;
  p->headers.underscores = wws;
  if (!eat(r, '{'))
    return false;
  if (wws && next(r) == '}')
    return false; /* all of it may be missing: for Python */
  do {
    struct string key;
    if (!string(r, &key) || has_escapes(&key) || !eat(r, ':'))
      return false;
    int part = part_of(key.raw, wws);
    if (!part || seen & part || !read_part(r, p, part))
      return false;
    seen |= part;
  } while (eat(r, ','));
  if (!eat(r, '}') || next(r) || r->at != r->end)
    return false;
  if (!wws)
    return seen & STATUS;
  if (!(seen & STATUS))
    p->status = 200;
  const struct span type = {(const uint8_t *)"content-type", 12}, html = {(const uint8_t *)"text/html", 9};
  return !p->body.len || p->headers.typed || send_header(&p->headers, type, html, true);
}

/* The status line of cgi: three digits, and perhaps words. */
static bool read_status_field(struct span value, long *status) {
  if (value.len < 3 || (value.len > 3 && value.at[3] != ' ' && value.at[3] != '\t'))
    return false;
  for (int i = 0; i < 3; i++) {
    if (value.at[i] < '0' || value.at[i] > '9')
      return false;
    *status = *status * 10 + value.at[i] - '0';
  }
  return *status >= 200 && *status <= 599;
}

static bool read_line(struct span line, struct parts *p, bool *moved) {
  struct headers *h = &p->headers;
  const uint8_t *colon = memchr(line.at, ':', line.len);
  struct span name;
  if (!colon || *line.at == ' ' || *line.at == '\t' ||
      !header_name(h, (struct span){line.at, (size_t)(colon - line.at)}, &name))
    return false;
  struct span value = {colon + 1, line.len - name.len - 1};
  if (!trim(h, name, &value))
    return false;
  if (IS(name, "status"))
    return read_status_field(value, &p->status);
  if (IS(name, "content-length"))
    h->declared = length_of(value);
  *moved = *moved || IS(name, "location");
  return dropped(h, name) || send_header(h, name, value, true);
}

/* The header block of cgi; the reader is then behind it. */
static bool read_block(struct reader *r, struct parts *p) {
  const uint8_t *begin = r->at;
  bool moved = false;
  for (;;) {
    const uint8_t *end = memchr(r->at, '\n', (size_t)(r->end - r->at));
    if (!end || end - begin > MAX_HEADER_BYTES)
      return false;
    struct span line = {r->at, (size_t)(end - r->at)};
    r->at = end + 1;
    if (line.len && line.at[line.len - 1] == '\r')
      line.len--;
    if (!line.len)
      break;
    if (!read_line(line, p, &moved))
      return false;
  }
  if (!p->status && !moved && !p->headers.typed)
    return false;
  if (!p->status)
    p->status = moved ? 302 : 200;
  return true;
}

/* The bytes that base64 stands for; NULL for what is none. */
static PyObject *decoded(struct span text) {
  size_t padding = 0;
  while (padding < 2 && padding < text.len && text.at[text.len - 1 - padding] == '=')
    padding++;
  PyObject *content = PyBytes_FromStringAndSize(NULL, (ssize_t)(text.len / 4 * 3 - (text.len ? padding : 0)));
  if (content && unbase64((uint8_t *)PyBytes_AsString(content), text) < 0) {
    Py_DecRef(content);
    content = NULL;
  }
  return content;
}

/* The body as bytes. NULL for base64 that is none. */
static PyObject *content_of(const struct parts *p) {
  if (!has_escapes(&p->body))
    return p->base64 ? decoded(p->body.raw) : PyBytes_FromStringAndSize((const char *)p->body.raw.at, (ssize_t)p->body.len);
  PyObject *text = PyBytes_FromStringAndSize(NULL, (ssize_t)p->body.len);
  if (!text)
    return NULL;
  struct span of_text = {(const uint8_t *)PyBytes_AsString(text), p->body.len};
  unescape((uint8_t *)of_text.at, of_text.len, p->body.raw);
  if (!p->base64)
    return text;
  PyObject *content = decoded(of_text);
  Py_DecRef(text);
  return content;
}

/* What render() makes of the length: -1 for none, which 204, 304 and an empty answer to HEAD have not. */
static ssize_t announced(const struct parts *p, size_t size, bool head) {
  if (p->status == 204 || p->status == 304)
    return -1;
  if (p->status == 205)
    size = 0;
  if (!head)
    return (ssize_t)size;
  return p->headers.declared >= 0 ? p->headers.declared : size ? (ssize_t)size : -1;
}

static bool append_length(const struct headers *h, ssize_t length) {
  uint8_t digits[24], *digit = digits + sizeof digits;
  if (length < 0)
    return true;
  do
    *--digit = (uint8_t)('0' + length % 10);
  while (length /= 10);
  struct span value = {digit, (size_t)(digits + sizeof digits - digit)};
  return h->lines ? PUT(h->lines, "content-length: ") && put(h->lines, value.at, value.len) && PUT(h->lines, "\r\n")
                  : append_to(h->sent, names.content_length, value);
}

PyObject *packed(const struct scratch *s, const struct parts *p, PyObject *content,
                        const struct request *request, bool due, void *left) {
  PyObject *headers = p->headers.sent ? p->headers.sent : Py_None;
  if (request->alone && !due && !left) {
    PyObject *status = PyLong_FromLong(p->status);
    PyObject *brief = status ? PyTuple_Pack(3, status, headers, content) : NULL;
    drop(status);
    return brief;
  }
  const struct span told = request->told;
  PyObject *code = PyLong_FromLong(p->status), *ran = PyLong_FromSsize_t((ssize_t)s->ran_ns);
  PyObject *pages = PyLong_FromSsize_t((ssize_t)s->pages), *late = PyBool_FromLong(due);
  PyObject *store = PyLong_FromVoidPtr(left), *found = NULL, *trace = Py_None;
  if (told.len)
    trace = PyUnicode_FromStringAndSize((const char *)told.at, (ssize_t)told.len);
  else
    Py_IncRef(trace);
  if (code && ran && pages && trace && late && store)
    found = PyTuple_Pack(8, code, headers, content, ran, pages, trace, late, store);
  drop(code);
  drop(ran);
  drop(pages);
  drop(trace);
  drop(late);
  drop(store);
  return found;
}

/* Whether it takes no longer than the event loop has time for to read an answer. Without escapes, as base64 is, more is
   read in the same time. */
bool is_soon_read(struct span printed) {
  return printed.len <= MOST_PRINTED || (printed.len <= MOST_PLAIN && !memchr(printed.at, '\\', printed.len));
}

/* Whether all of it is text, of which a long one must be ASCII. */
static bool is_text(const struct reader *r, struct span printed) {
  return r->ascii || (printed.len <= MOST_PRINTED && is_utf8(printed));
}

/* Read all that a guest printed; the body, or NULL. */
static PyObject *read_answer(struct parts *p, struct span printed, uint32_t protocol) {
  struct reader r = {printed.at, printed.at + printed.len, true};
  if (protocol == CGI)
    return read_block(&r, p) ? PyBytes_FromStringAndSize((const char *)r.at, r.end - r.at) : NULL;
  return read_parts(&r, p, protocol == WWS) && is_text(&r, printed) ? content_of(p) : NULL;
}

static void begin_reading(struct parts *p, const uint8_t *at, PyObject *sent, struct text *lines) {
  p->status = 0;
  p->body = (struct string){{at, 0}, 0};
  p->base64 = false;
  p->headers.fields.count = p->headers.fields.repeats = p->headers.values = p->headers.size = p->headers.used = 0;
  p->headers.declared = -1;
  p->headers.typed = p->headers.underscores = p->headers.keeps_id = false;
  p->headers.as_dict = false;
  p->headers.sent = sent;
  p->headers.lines = lines;
}

void begin_parts(struct parts *p, const uint8_t *at, bool as_dict) {
  begin_reading(p, at, as_dict ? PyDict_New() : PyList_New(0), NULL);
  p->headers.as_dict = as_dict;
}

/* The body for ASGI of a content, which this takes over, with the status and all headers in ``p``; NULL if there is no memory. */
PyObject *content_for_asgi(struct parts *p, PyObject *content, struct span id, bool head) {
  bool empty = head || p->status == 204 || p->status == 205 || p->status == 304;
  ssize_t size = 0;
  char *bytes;
  if (!content)
    return NULL;
  PyBytes_AsStringAndSize(content, &bytes, &size);
  if (empty) {
    Py_DecRef(content);
    content = PyBytes_FromStringAndSize(NULL, 0);
  }
  if (content && append_length(&p->headers, announced(p, (size_t)size, head)) &&
      append_to(p->headers.sent, names.request_id, id))
    return content;
  drop(content);
  return NULL;
}

/* The same of what was printed; NULL if it is left to Python. */
static PyObject *read_parts_for_asgi(struct parts *p, struct span printed, struct span id, bool head, uint32_t protocol) {
  begin_parts(p, printed.at, false);
  return p->headers.sent ? content_for_asgi(p, read_answer(p, printed, protocol), id, head) : NULL;
}

/* What is written to a client of HTTP/1.1; NULL if ASGI has to have it. */
static PyObject *bytes_of(struct parts *p, PyObject *content, const struct request *request) {
  struct span id = {request->id, request->id_len}, body, name = {(const uint8_t *)"x-request-id", 12};
  if (!of_bytes(content, &body) || p->status == 204 || p->status == 205 || p->status == 304 ||
      !append_length(&p->headers, (ssize_t)body.len) || !put_line(p->headers.lines, name, id))
    return NULL;
  PyObject *status = PyLong_FromLong(p->status);
  PyObject *found = status ? http1_answer(status, request, p->headers.lines, body) : NULL;
  drop(status);
  return found;
}

/* As answer(), but with None and the bytes of HTTP/1.1 in the place of headers and body. NULL if ASGI has to have it. No
   object that is made in between has the garbage collector run, so that the lines stay. */
static PyObject *answer_http1(const struct scratch *s, struct span printed, const struct request *request,
                              uint32_t protocol, bool due, void *left) {
  static struct text lines;
  struct parts p;
  if (printed.len > LARGE || request->head)
    return NULL;
  lines.len = 0;
  begin_reading(&p, printed.at, NULL, &lines);
  PyObject *content = read_answer(&p, printed, protocol), *bytes = content ? bytes_of(&p, content, request) : NULL;
  drop(content);
  PyErr_Clear();
  PyObject *found = bytes ? packed(s, &p, bytes, request, due, left) : NULL;
  drop(bytes);
  return found;
}

/* (status, headers, body, ns, pages, traceparent, due, left), or (status, headers, body) if that is all, or NULL. */
PyObject *answer(const struct scratch *s, struct span printed, const struct request *request, uint32_t protocol,
                 bool due, void *left) {
  PyObject *brief = request->status_lines ? answer_http1(s, printed, request, protocol, due, left) : NULL;
  if (brief)
    return brief;
  /* Not static: Python 3.11 collects garbage as an object is made, and another thread may come here meanwhile. */
  struct parts p;
  PyObject *found = NULL;
  struct span id = {request->id, request->id_len};
  PyObject *content = read_parts_for_asgi(&p, printed, id, request->head, protocol);
  if (content)
    found = packed(s, &p, content, request, due, left);
  drop(content);
  drop(p.headers.sent);
  return found;
}

/* (status, headers, body), or NULL. */
PyObject *read_for_asgi(struct span printed, struct span id, bool head, uint32_t protocol) {
  struct parts p;
  PyObject *content = read_parts_for_asgi(&p, printed, id, head, protocol);
  PyObject *found = NULL;
  if (content) {
    PyObject *parts[] = {PyLong_FromLong(p.status), p.headers.sent, content};
    Py_IncRef(p.headers.sent);
    found = pack(parts, 3);
  }
  drop(p.headers.sent);
  return found;
}

static PyObject *body_of(const struct parts *p) {
  if (!has_escapes(&p->body))
    return PyUnicode_FromStringAndSize((const char *)p->body.raw.at, (ssize_t)p->body.raw.len);
  PyObject *bytes = content_of(p), *text = NULL;
  struct span content;
  if (of_bytes(bytes, &content))
    text = PyUnicode_FromStringAndSize((const char *)content.at, (ssize_t)content.len);
  drop(bytes);
  return text;
}

/* (status, headers, body, its declared length or -1, ns, pages, request id, traceparent, due, left), for an EdgeResponse;
   NULL if it is left to Python. */
PyObject *response(const struct scratch *s, struct span printed, const struct request *request, uint32_t protocol,
                   bool due, void *left) {
  struct parts p;
  PyObject *found = NULL;
  begin_parts(&p, printed.at, true);
  p.headers.keeps_id = true;
  struct reader r = {printed.at, printed.at + printed.len, true};
  if (p.headers.sent && read_parts(&r, &p, protocol == WWS) && is_text(&r, printed) && !p.base64) {
    PyObject *trace = Py_None;
    if (request->told.len)
      trace = PyUnicode_FromStringAndSize((const char *)request->told.at, (ssize_t)request->told.len);
    else
      Py_IncRef(trace);
    Py_IncRef(p.headers.sent);
    PyObject *parts[] = {PyLong_FromLong(p.status), p.headers.sent, body_of(&p), PyLong_FromSsize_t(p.headers.declared),
                         PyLong_FromSsize_t((ssize_t)s->ran_ns), PyLong_FromSsize_t((ssize_t)s->pages),
                         PyUnicode_FromStringAndSize((const char *)request->id, (ssize_t)request->id_len), trace,
                         PyBool_FromLong(due), PyLong_FromVoidPtr(left)};
    found = pack(parts, 10);
  }
  drop(p.headers.sent);
  return found;
}
