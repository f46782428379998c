/* From the ASGI scope to what the guest reads: the message on stdin, and its environment. The same as
   EdgeRequest.from_scope(), EdgeProtocol.encode() and environ_of(), or it is left to them. */

#include "text.h"

static struct text decoded_query, decoded_path; /* what escapes stand for */

/* With names in lower case. */
static bool read_headers(PyObject *headers, struct fields *fields) {
  ssize_t count = PyList_Size(headers);
  if (count < 0)
    return false;
  for (ssize_t i = 0; i < count; i++) {
    struct span name, value;
    if (!of_header(headers, i, &name, &value) || !add_field(fields, name, value) || !is_lower_token(name))
      return false;
  }
  return true;
}

/* The value of a header, if it is there once; false if it is there more often. */
static bool one_value(const struct fields *fields, const char *name, struct span *value) {
  struct span wanted = {(const uint8_t *)name, strlen(name)};
  for (size_t i = 0; i < fields->count; i++)
    if (same(fields->at[i].name, wanted)) {
      *value = fields->at[i].value;
      return fields->at[i].count == 1;
    }
  return true;
}

/* All values of a header in one, as a JSON string. */
static bool put_joined(struct text *t, const struct fields *fields, size_t first) {
  const struct field *field = &fields->at[first];
  if (!PUT(t, "\"") || !put_latin1(t, field->value))
    return false;
  for (size_t i = first + 1; i <= field->last; i++)
    if (fields->at[i].first == first &&
        !((IS(field->name, "cookie") ? PUT(t, "; ") : PUT(t, ", ")) && put_latin1(t, fields->at[i].value)))
      return false;
  return PUT(t, "\"");
}

bool is_traceparent(struct span text) {
  if (text.len != 55)
    return false;
  bool trace = false, parent = false;
  for (size_t i = 0; i < 55; i++) {
    uint8_t c = text.at[i];
    bool dash = i == 2 || i == 35 || i == 52;
    if (dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
      return false;
    trace = trace || (i > 2 && i < 35 && c != '0');
    parent = parent || (i > 35 && i < 52 && c != '0');
  }
  return trace && parent && !(text.at[0] == 'f' && text.at[1] == 'f');
}

/* FORBIDDEN of fields.py: names in lower case. */
bool is_forbidden_field(struct span name) {
  return IS(name, "connection") || IS(name, "host") || IS(name, "http2-settings") || IS(name, "keep-alive") ||
         IS(name, "proxy-authenticate") || IS(name, "proxy-authorization") || IS(name, "proxy-connection") ||
         IS(name, "transfer-encoding") || IS(name, "upgrade");
}

bool is_own(struct span name) { return IS(name, "traceparent") || IS(name, "tracestate"); }

/* With the trace of the host's span, if there is one, in place of the client's. */
static bool put_headers(struct text *t, const struct fields *fields, const struct request *request) {
  bool ours = request->traceparent.len, said = false;
  const char *comma = "";
  if (!PUT(t, "\"headers\":{"))
    return false;
  for (size_t i = 0; i < fields->count; i++) {
    const struct field *field = &fields->at[i];
    bool replaced = ours && is_own(field->name), parent = replaced && IS(field->name, "traceparent");
    if (field->first != i || (replaced && !parent))
      continue;
    said = said || parent;
    if (!put(t, comma, strlen(comma)) || !quote(t, field->name) || !PUT(t, ":") ||
        !(parent ? quote(t, request->traceparent) : put_joined(t, fields, i)))
      return false;
    comma = ",";
  }
  if (ours && !said) {
    if (!put(t, comma, strlen(comma)) || !PUT(t, "\"traceparent\":") || !quote(t, request->traceparent))
      return false;
    comma = ",";
  }
  if (ours && request->tracestate.len &&
      (!put(t, comma, strlen(comma)) || !PUT(t, "\"tracestate\":") || !quote(t, request->tracestate)))
    return false;
  return PUT(t, "},");
}

/* All values of what is there more than once; of headers, without those that the host has replaced. */
static bool put_repeated(struct text *t, const struct fields *fields, bool latin1, bool ours) {
  bool some = false;
  for (size_t i = 0; i < fields->repeats; i++) {
    size_t first = fields->repeated[i];
    const struct field *field = &fields->at[first];
    if (ours && is_own(field->name))
      continue;
    if (!some && !(latin1 ? PUT(t, "\"multi_value_headers\":{") : PUT(t, "\"multi_value_query\":{")))
      return false;
    if ((some && !PUT(t, ",")) || !quote(t, field->name) || !PUT(t, ":["))
      return false;
    some = true;
    for (size_t j = first; j <= field->last; j++) {
      const struct field *each = &fields->at[j];
      if (each->first == first && ((j > first && !PUT(t, ",")) || !PUT(t, "\"") ||
                                   !(latin1 ? put_latin1(t, each->value) : put_escaped(t, each->value)) ||
                                   !PUT(t, "\"")))
        return false;
    }
    if (!PUT(t, "]"))
      return false;
  }
  return !some || PUT(t, "},");
}

/* What escapes stand for, into ``decoded``, which has room for it. False for what is no UTF-8 then. */
bool unquote(struct text *decoded, struct span *text, bool plus) {
  size_t i = 0;
  while (i < text->len && text->at[i] != '%' && !(plus && text->at[i] == '+'))
    i++;
  if (i == text->len)
    return true;
  uint8_t *from = decoded->at + decoded->len, *to = from;
  for (i = 0; i < text->len; i++) {
    uint8_t c = text->at[i];
    int high = -1, low = -1;
    if (c == '%' && i + 2 < text->len) {
      high = hex_digit(text->at[i + 1]);
      low = hex_digit(text->at[i + 2]);
    }
    if (high >= 0 && low >= 0) {
      *to++ = (uint8_t)(high << 4 | low);
      i += 2;
    } else
      *to++ = plus && c == '+' ? ' ' : c; /* an escape that is none stays as it is */
  }
  *text = (struct span){from, (size_t)(to - from)};
  decoded->len += text->len;
  return is_ascii(*text) || is_utf8(*text);
}

static bool read_query(struct span query, struct fields *fields) {
  decoded_query.len = 0;
  if (!is_ascii(query) || !room(&decoded_query, query.len))
    return false;
  for (size_t i = 0; i < query.len;) {
    const uint8_t *from = query.at + i, *end = memchr(from, '&', query.len - i);
    size_t len = end ? (size_t)(end - from) : query.len - i;
    i += len + 1;
    if (!len)
      continue;
    const uint8_t *is = memchr(from, '=', len);
    struct span name = {from, is ? (size_t)(is - from) : len};
    struct span value = {from + name.len + 1, is ? len - name.len - 1 : 0};
    if (!unquote(&decoded_query, &name, true) || !unquote(&decoded_query, &value, true) || !add_field(fields, name, value))
      return false;
  }
  return true;
}

static bool put_query(struct text *t, const struct fields *fields) {
  bool some = false;
  if (!PUT(t, "\"query\":{"))
    return false;
  for (size_t i = 0; i < fields->count; i++) {
    const struct field *field = &fields->at[i];
    if (field->first != i)
      continue;
    if ((some && !PUT(t, ",")) || !quote(t, field->name) || !PUT(t, ":") ||
        !quote(t, fields->at[field->last].value))
      return false;
    some = true;
  }
  return PUT(t, "},");
}

/* A parameter of a route: text, or a number that a convertor has made. */
static bool put_param(struct text *t, PyObject *value) {
  struct span text;
  PyObject *type = PyObject_Type(value);
  bool number = type == &PyLong_Type || type == &PyFloat_Type;
  Py_DecRef(type);
  if (!number)
    return of_str(value, &text) && quote(t, text);
  PyObject *made = PyObject_Str(value);
  bool ok = made && of_str(made, &text) && quote(t, text);
  drop(made);
  return ok;
}

static bool put_params(struct text *t, PyObject *params) {
  ssize_t at = 0;
  PyObject *key, *value;
  if (PyDict_Size(params) < 0 || !PUT(t, "\"params\":{"))
    return false;
  for (bool more = false; PyDict_Next(params, &at, &key, &value); more = true) {
    struct span name;
    if (!of_str(key, &name) || (more && !PUT(t, ",")) || !quote(t, name) || !PUT(t, ":") || !put_param(t, value))
      return false;
  }
  return PUT(t, "},");
}

/* A name or IPv4 address, and perhaps a port up to 64999. */
static bool plain_host(struct span host) {
  const uint8_t *colon = memchr(host.at, ':', host.len);
  struct span name = {host.at, colon ? (size_t)(colon - host.at) : host.len};
  if (!name.len || !all(name, IN_HOST))
    return false;
  if (!colon)
    return true;
  size_t digits = host.len - name.len - 1;
  long port = 0;
  for (size_t i = 1; i <= digits; i++) {
    if (digits > 5 || colon[i] < '0' || colon[i] > '9')
      return false;
    port = port * 10 + colon[i] - '0';
  }
  return digits && port < 65000 && (digits < 5 || colon[1] != '0');
}

/* The path as it was sent. */
static bool read_raw_path(PyObject *scope, struct span *raw) {
  struct span path, meant;
  PyObject *path_is = PyDict_GetItemWithError(scope, keys.path);
  if (!path_is || !of_str(path_is, &path) || !path.len || path.at[0] != '/')
    return false;
  PyObject *raw_is = PyDict_GetItemWithError(scope, keys.raw_path);
  if (PyErr_Occurred() || (raw_is && raw_is != Py_None && !of_bytes(raw_is, raw)))
    return false;
  if (!raw_is || raw_is == Py_None || !raw->len) {
    *raw = path;
    return all(path, IN_PATH);
  }
  if (raw->at[0] != '/' || !is_ascii(*raw) || memchr(raw->at, '?', raw->len))
    return false;
  meant = *raw;
  decoded_path.len = 0;
  return same(*raw, path) ||
         (room(&decoded_path, raw->len) && unquote(&decoded_path, &meant, false) && same(meant, path));
}

static bool read_url(PyObject *scope, struct url *url) {
  PyObject *scheme_is = PyDict_GetItemWithError(scope, keys.scheme);
  url->scheme = (struct span){(const uint8_t *)"http", 4};
  if (PyErr_Occurred() || (scheme_is && !of_str(scheme_is, &url->scheme)))
    return false;
  return read_raw_path(scope, &url->path) && url->host.at && plain_host(url->host) && all(url->scheme, IN_HOST);
}

static bool put_url(struct text *t, const struct url *url) {
  return PUT(t, "\"url\":\"") && put(t, url->scheme.at, url->scheme.len) && PUT(t, "://") &&
         put(t, url->host.at, url->host.len) && put_escaped(t, url->path) &&
         (!url->query.len || (PUT(t, "?") && put_escaped(t, url->query))) && PUT(t, "\",");
}

static size_t characters(struct span text) {
  size_t count = 0;
  for (size_t i = 0; i < text.len; i++)
    count += (text.at[i] & 0xc0) != 0x80;
  return count;
}

/* At most LARGEST bytes, which takes a few milliseconds at worst; more are read in a thread. */
bool put_body(struct text *t, struct span body) {
  if (body.len > LARGEST)
    return false;
  if (!body.len)
    return PUT(t, "\"body\":null,\"is_base64_encoded\":false,");
  size_t before = t->len;
  if (is_ascii(body) || is_utf8(body)) {
    if (!PUT(t, "\"body\":") || !quote(t, body))
      return false;
    size_t escapes = t->len - before - sizeof "\"body\":" - 1 - body.len;
    /* EdgeProtocol.encode(): base64 is shorter. */
    if (body.len <= LARGE || escapes <= LARGE || characters(body) <= LARGE || escapes <= characters(body))
      return PUT(t, ",\"is_base64_encoded\":false,");
    t->len = before;
  }
  return PUT(t, "\"body\":\"") && put_base64(t, body) && PUT(t, "\",\"is_base64_encoded\":true,");
}

bool make_id(struct request *request, struct span given) {
  if (request->id_len)
    return true;
  if (given.len && given.len <= MAX_ID && all(given, IN_ID) && !strchr("._:-", given.at[0])) {
    memcpy(request->id, given.at, request->id_len = given.len);
    return true;
  }
  uint8_t random[16];
  if (!draw(random, sizeof random))
    return false;
  for (int i = 0; i < 16; i++) {
    request->id[2 * i] = (uint8_t)"0123456789abcdef"[random[i] >> 4];
    request->id[2 * i + 1] = (uint8_t)"0123456789abcdef"[random[i] & 15];
  }
  request->id_len = 32;
  return true;
}

/* Which trace the guest gets: that of the host's span, or the client's. */
static bool choose_trace(struct request *request) {
  struct span trace = request->traceparent;
  bool ours = trace.len;
  request->told.len = 0;
  if (ours && trace.len != sizeof request->trace)
    return false;
  if (!ours && (!one_value(&request->headers, "traceparent", &trace) || !is_traceparent(trace)))
    return true;
  memcpy(request->trace, trace.at, sizeof request->trace);
  request->told = (struct span){request->trace, sizeof request->trace};
  return true;
}

/* The end of the message. The suffix is for a request without a trace. */
bool put_context(struct text *t, const struct fast_path *q, struct request *request) {
  static const char none[] = "\"traceparent\":null,\"tracestate\":null}}";
  const struct fields *headers = &request->headers;
  if (!PUT(t, "\"context\":{\"request_id\":\"") || !put(t, request->id, request->id_len) ||
      !PUT(t, "\",\"region\":") || !quote(t, request->region))
    return false;
  if (!request->told.len)
    return put(t, q->suffix, q->suffix_len);
  if (!put(t, q->suffix, q->suffix_len - (sizeof none - 1)) || !PUT(t, "\"traceparent\":") ||
      !quote(t, request->told) || !PUT(t, ",\"tracestate\":"))
    return false;
  size_t state = 0;
  while (state < headers->count && !IS(headers->at[state].name, "tracestate"))
    state++;
  bool ours = request->traceparent.len, some = ours ? request->tracestate.len : state < headers->count;
  return (some ? ours ? quote(t, request->tracestate) : put_joined(t, headers, state) : PUT(t, "null")) && PUT(t, "}}");
}

/* What all protocols need of a request. */
static bool read_request(struct request *request) {
  struct span given = {NULL, 0};
  PyObject *method_is = PyDict_GetItemWithError(request->scope, keys.method);
  PyObject *headers_are = PyDict_GetItemWithError(request->scope, keys.headers);
  PyObject *query_is = PyDict_GetItemWithError(request->scope, keys.query_string);
  struct fields *headers = &request->headers;
  headers->count = headers->repeats = 0;
  request->url.query = request->url.host = (struct span){NULL, 0};
  if (!method_is || !headers_are || !of_str(method_is, &request->method) ||
      (query_is && !of_bytes(query_is, &request->url.query)) || !read_headers(headers_are, headers) ||
      !one_value(headers, "host", &request->url.host) || !is_ascii(request->url.query) ||
      !read_url(request->scope, &request->url) || request->body.len > LARGEST)
    return false;
  if (!one_value(headers, "x-request-id", &given))
    given.len = 0;
  request->head = IS(request->method, "HEAD");
  return make_id(request, given) && choose_trace(request);
}

/* EdgeProtocol.encode() */
static bool put_edge(struct text *t, const struct fast_path *q, struct request *request) {
  static struct fields query;
  query.count = query.repeats = 0;
  bool ours = request->traceparent.len;
  return PUT(t, "{\"path\":") && quote(t, request->path) && PUT(t, ",\"method\":") && quote(t, request->method) &&
         PUT(t, ",") && put_headers(t, &request->headers, request) && read_query(request->url.query, &query) &&
         put_query(t, &query) && put_body(t, request->body) && put_params(t, request->params) &&
         put_url(t, &request->url) && put_repeated(t, &request->headers, true, ours) &&
         put_repeated(t, &query, false, false) && put_context(t, q, request);
}

/* WwsProtocol.encode() */
static bool put_wws(struct text *t, const struct request *request) {
  struct span body = request->body;
  if (!is_ascii(body) && !is_utf8(body))
    body.len = 0;
  if (!PUT(t, "{") || !put_url(t, &request->url) || !PUT(t, "\"method\":") || !quote(t, request->method) ||
      !PUT(t, ",") || !put_headers(t, &request->headers, request) || !PUT(t, "\"body\":") || !quote(t, body) ||
      !PUT(t, ",\"kv\":{},") || !put_params(t, request->params))
    return false;
  t->at[t->len - 1] = '}'; /* in place of the comma */
  return true;
}

/* Whether a header may announce a body. If it is odd, Python has the rules. */
static bool may_announce(struct span name, struct span value) {
  if (IS(name, "content-length")) {
    for (size_t i = 0; i < value.len; i++)
      if (value.at[i] != '0')
        return true;
    return !value.len || value.len > 18;
  }
  return IS(name, "transfer-encoding") || IS(name, "expect");
}

/* Whether a request that was read has no body, as body_follows(), and a head that is not too large. */
static bool is_head_alone(const struct request *request) {
  PyObject *version_is = PyDict_GetItemWithError(request->scope, keys.http_version);
  struct span version;
  size_t total = request->url.path.len + request->url.query.len;
  if (!version_is || !of_str(version_is, &version) || !(IS(version, "1.1") || IS(version, "1.0")) ||
      !(request->head || IS(request->method, "GET")))
    return false;
  for (size_t i = 0; i < request->headers.count; i++) {
    const struct field *field = &request->headers.at[i];
    if (may_announce(field->name, field->value))
      return false;
    total += field->name.len + field->value.len;
  }
  return total <= MAX_HEAD;
}

static bool put_number(struct text *t, size_t number) {
  uint32_t value = (uint32_t)number;
  return put(t, &value, sizeof value);
}

static bool put_pair(struct text *t, struct span name, struct span value, uint32_t *count) {
  ++*count;
  return put_number(t, name.len) && put_number(t, value.len) && put(t, name.at, name.len) && put(t, value.at, value.len);
}

/* All headers but those that are not for guests, those of one name next to each other, with the trace of the host's span
 * in place of the client's. */
static bool put_pairs(struct text *t, const struct fields *fields, const struct request *request, uint32_t *count) {
  static const struct span parent = {(const uint8_t *)"traceparent", 11}, state = {(const uint8_t *)"tracestate", 10};
  bool ours = request->traceparent.len, said = false;
  for (size_t i = 0; i < fields->count; i++) {
    const struct field *field = &fields->at[i];
    if (field->first != i || is_forbidden_field(field->name))
      continue;
    if (ours && is_own(field->name)) {
      if (IS(field->name, "traceparent") && !(said = put_pair(t, parent, request->traceparent, count)))
        return false;
      continue;
    }
    for (size_t j = i; j <= field->last; j++)
      if (fields->at[j].first == i && !put_pair(t, field->name, fields->at[j].value, count))
        return false;
  }
  return !ours || ((said || put_pair(t, parent, request->traceparent, count)) &&
                   (!request->tracestate.len || put_pair(t, state, request->tracestate, count)));
}

/* HttpHead.pack() */
static bool put_head(struct text *t, const struct request *request) {
  const struct url *url = &request->url;
  size_t path = url->path.len + (url->query.len ? url->query.len + 1 : 0);
  uint32_t count = 0;
  if (!put_number(t, request->method.len) || !put_number(t, url->scheme.len) || !put_number(t, url->host.len) ||
      !put_number(t, path))
    return false;
  size_t count_at = t->len;
  if (!put_number(t, 0) || !put(t, request->method.at, request->method.len) ||
      !put(t, url->scheme.at, url->scheme.len) || !put(t, url->host.at, url->host.len) ||
      !put(t, url->path.at, url->path.len) ||
      (url->query.len && !(PUT(t, "?") && put(t, url->query.at, url->query.len))) ||
      !put_pairs(t, &request->headers, request, &count))
    return false;
  memcpy(t->at + count_at, &count, sizeof count);
  return true;
}

/* What the guest reads on stdin. */
bool put_message(struct text *t, const struct fast_path *q, struct request *request) {
  if (request->edge)
    return put_edge_request(t, q, request);
  if (!read_request(request) || (request->head_alone && !is_head_alone(request)))
    return false;
  switch (q->protocol) {
  case CGI:
    return put(t, request->body.at, request->body.len);
  case WWS:
    return put_wws(t, request);
  case HTTP:
    return put_head(t, request);
  default:
    return put_edge(t, q, request);
  }
}

/* follows(scope, limit, most): whether a body may follow the head. None: it is too large, or odd. */
PyObject *follows(PyObject *self, PyObject *const *args, ssize_t count) {
  (void)self;
  if (count != 3 || !ready())
    return none();
  ssize_t limit = PyLong_AsSsize_t(args[1]), most = PyLong_AsSsize_t(args[2]);
  PyObject *headers = PyDict_GetItemWithError(args[0], keys.headers);
  PyObject *path = PyDict_GetItemWithError(args[0], keys.path);
  PyObject *query_is = PyDict_GetItemWithError(args[0], keys.query_string);
  PyObject *version_is = PyDict_GetItemWithError(args[0], keys.http_version);
  PyObject *method_is = PyDict_GetItemWithError(args[0], keys.method);
  struct span query = {NULL, 0}, version = {NULL, 0}, method;
  if (!headers || !method_is || !of_str(method_is, &method) || !path ||
      (query_is && !of_bytes(query_is, &query)) || (version_is && !of_str(version_is, &version)))
    return none();
  ssize_t fields = PyList_Size(headers), total = PyUnicode_GetLength(path);
  if (fields < 0 || total < 0 || limit < 0)
    return none();
  total += (ssize_t)query.len;
  bool announced = IS(version, "1.1") || IS(version, "1.0");
  bool found = !announced || !(IS(method, "GET") || IS(method, "HEAD"));
  for (ssize_t i = 0; i < fields; i++) {
    struct span name, value;
    if (!of_header(headers, i, &name, &value))
      return none();
    total += (ssize_t)(name.len + value.len);
    if (IS(name, "expect")) /* 100 Continue: Python has the rules */
      return none();
    if (IS(name, "transfer-encoding"))
      found = true;
    if (IS(name, "content-length")) {
      ssize_t size = 0;
      if (!value.len || value.len > 18)
        return none();
      for (size_t j = 0; j < value.len; j++) {
        if (value.at[j] < '0' || value.at[j] > '9')
          return none();
        size = size * 10 + value.at[j] - '0';
      }
      if (size > limit)
        return none();
      found = found || size;
    }
  }
  return total > most ? none() : PyBool_FromLong(found);
}
