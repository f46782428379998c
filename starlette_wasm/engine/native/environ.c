/* The environment and the arguments of a guest, as blocks of layout.strings(): the same as inputs.py and cgi.py, or it is
   left to them. */

#include "text.h"

enum { MAX_STRINGS = MAX_FIELDS + 32 };

/* Strings that are being written, each with a NUL behind it, and where they begin. */
static struct {
  struct text data;
  uint32_t at[MAX_STRINGS], count;
} block;

static void clear(void) { block.data.len = block.count = 0; }

static bool begin(const char *name) {
  if (block.count == MAX_STRINGS)
    return false;
  block.at[block.count++] = (uint32_t)block.data.len;
  return put(&block.data, name, strlen(name));
}

/* A NUL would end it early: cgi.py replaces it. */
static bool add(struct span value) {
  return (!value.len || !memchr(value.at, 0, value.len)) && put(&block.data, value.at, value.len);
}

static bool end(void) { return put(&block.data, "", 1); }

static bool variable(const char *name, struct span value) { return begin(name) && add(value) && end(); }

/* Behind ``before`` strings, ready with their offsets, that are in all blocks. */
static bool put_block(struct text *t, const char *offsets, uint32_t before, const char *data, uint32_t len) {
  uint32_t head[] = {before + block.count, len + (uint32_t)block.data.len};
  for (uint32_t i = 0; i < block.count; i++)
    block.at[i] += len;
  return put(t, head, sizeof head) && put(t, offsets, before * sizeof *head) &&
         put(t, block.at, block.count * sizeof *block.at) && put(t, data, len) && put(t, block.data.at, block.data.len);
}

static struct span text_of(const char *text) { return (struct span){(const uint8_t *)text, strlen(text)}; }

/* The values of a header in one, which are UTF-8: what is only Latin-1 is left to Python. */
static bool add_values(const struct fields *fields, size_t first) {
  const struct field *field = &fields->at[first];
  for (size_t i = first; i <= field->last; i++) {
    const struct field *each = &fields->at[i];
    if (each->first != first)
      continue;
    if ((!is_ascii(each->value) && !is_utf8(each->value)) ||
        (i > first && !add(text_of(IS(field->name, "cookie") ? "; " : ", "))) || !add(each->value))
      return false;
  }
  return true;
}

/* As cgi._HIDDEN, and only names that stay distinct. */
static bool hidden(struct span name) {
  for (size_t i = 0; i < name.len; i++) {
    uint8_t c = name.at[i];
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
      return true;
  }
  return !name.len || IS(name, "authorization") || IS(name, "connection") || IS(name, "content-length") ||
         IS(name, "content-type") || IS(name, "keep-alive") || IS(name, "proxy") || IS(name, "proxy-authorization") ||
         IS(name, "proxy-connection") || IS(name, "te") || IS(name, "trailer") || IS(name, "transfer-encoding") ||
         IS(name, "upgrade");
}

static bool begin_header(struct span name) {
  if (!begin("HTTP_") || !put(&block.data, name.at, name.len))
    return false;
  uint8_t *at = block.data.at + block.data.len - name.len;
  for (size_t i = 0; i < name.len; i++)
    at[i] = at[i] == '-' ? '_' : at[i] >= 'a' && at[i] <= 'z' ? (uint8_t)(at[i] - 32) : at[i];
  return put(&block.data, "=", 1);
}

/* With the trace of the host's span in place of the client's, as put_headers() in request.c has it. */
static bool add_headers(const struct request *request) {
  const struct fields *fields = &request->headers;
  bool ours = request->traceparent.len, said = false;
  for (size_t i = 0; i < fields->count; i++) {
    struct span name = fields->at[i].name;
    bool replaced = ours && is_own(name), parent = replaced && IS(name, "traceparent");
    if (fields->at[i].first != i || (replaced && !parent) || hidden(name))
      continue;
    said = said || parent;
    if (!begin_header(name) || !(parent ? add(request->traceparent) : add_values(fields, i)) || !end())
      return false;
  }
  return !ours || ((said || variable("HTTP_TRACEPARENT=", request->traceparent)) &&
                   (!request->tracestate.len || variable("HTTP_TRACESTATE=", request->tracestate)));
}

static bool add_content_type(const struct fields *fields) {
  if (!begin("CONTENT_TYPE="))
    return false;
  for (size_t i = 0; i < fields->count; i++)
    if (IS(fields->at[i].name, "content-type"))
      return add_values(fields, i) && end();
  return end();
}

static bool add_content_length(size_t len) {
  uint8_t digits[24], *digit = digits + sizeof digits;
  do
    *--digit = (uint8_t)('0' + len % 10);
  while (len /= 10);
  return variable("CONTENT_LENGTH=", (struct span){digit, (size_t)(digits + sizeof digits - digit)});
}

/* What of the path the route matched; the rest is what follows. As cgi._split_path(). */
static size_t matched(struct span path, uint32_t segments) {
  size_t at = 0;
  if (segments == NO_SEGMENTS)
    return path.len;
  for (uint32_t i = 0; i < segments; i++) {
    const uint8_t *slash = at + 1 < path.len ? memchr(path.at + at + 1, '/', path.len - at - 1) : NULL;
    if (!slash)
      return path.len;
    at = (size_t)(slash - path.at);
  }
  return at;
}

/* The end of the path as it was sent that stands for ``info``. False if there is none: as cgi._raw_path_info(). */
static bool add_raw_info(struct span raw, struct span info) {
  static struct text decoded;
  size_t count = 0, at = raw.len;
  for (size_t i = 0; i < info.len; i++)
    count += info.at[i] == '/';
  while (count && at) {
    at--;
    count -= raw.at[at] == '/' || (raw.len - at > 2 && raw.at[at] == '%' && raw.at[at + 1] == '2' &&
                                   (raw.at[at + 2] | 0x20) == 'f');
  }
  struct span found = {raw.at + at, raw.len - at}, meant = found;
  decoded.len = 0;
  return !count && room(&decoded, found.len) && unquote(&decoded, &meant, false) && same(meant, info) &&
         variable("X_RAW_PATH_INFO=", found);
}

static bool add_url(const struct url *url) {
  return begin("X_FULL_URL=") && add(url->scheme) && add(text_of("://")) && add(url->host) && add(url->path) &&
         (!url->query.len || (add(text_of("?")) && add(url->query))) && end();
}

static bool add_server(const struct url *url) {
  const uint8_t *colon = memchr(url->host.at, ':', url->host.len);
  struct span name = {url->host.at, colon ? (size_t)(colon - url->host.at) : url->host.len};
  bool secure = IS(url->scheme, "https");
  struct span port = text_of(secure ? "443" : "80");
  if (!secure && !IS(url->scheme, "http"))
    return false;
  if (colon)
    port = (struct span){colon + 1, url->host.len - name.len - 1};
  return variable("SERVER_NAME=", name) && variable("SERVER_PORT=", port);
}

static bool read_client(PyObject *scope, struct span *address) {
  PyObject *client = PyDict_GetItemWithError(scope, keys.client);
  *address = (struct span){NULL, 0};
  if (!client || client == Py_None)
    return !PyErr_Occurred();
  ssize_t parts = PyTuple_Size(client);
  return parts == 0 || (parts > 0 && of_str(PyTuple_GetItem(client, 0), address));
}

/* Whether the function is below no mount, so that its path is the whole one. */
static bool at_root(const struct request *request) {
  struct span path, root = {NULL, 0};
  PyObject *root_is = PyDict_GetItemWithError(request->scope, keys.root_path);
  return (root_is ? of_str(root_is, &root) && !root.len : !PyErr_Occurred()) &&
         of_str(PyDict_GetItemWithError(request->scope, keys.path), &path) && same(path, request->path);
}

/* CgiProtocol.environ() */
static bool add_cgi(const struct fast_path *q, const struct request *request) {
  const struct url *url = &request->url;
  size_t end_of_script = matched(request->path, q->segments);
  struct span script = {request->path.at, end_of_script}, nothing = {NULL, 0}, address;
  struct span info = {request->path.at + end_of_script, request->path.len - end_of_script};
  if (!at_root(request) || !read_client(request->scope, &address) ||
      (url->query.len && memchr(url->query.at, '#', url->query.len)))
    return false;
  return variable("GATEWAY_INTERFACE=", text_of("CGI/1.1")) && variable("SERVER_PROTOCOL=", text_of("HTTP/1.1")) &&
         variable("SERVER_SOFTWARE=", text_of("starlette-wasm")) && add_server(url) &&
         variable("REQUEST_METHOD=", request->method) && variable("SCRIPT_NAME=", script) &&
         variable("PATH_INFO=", info) && variable("PATH_TRANSLATED=", info) &&
         variable("QUERY_STRING=", url->query) && add_content_type(&request->headers) &&
         add_content_length(request->body.len) && variable("REMOTE_ADDR=", address) &&
         variable("REMOTE_HOST=", address) && variable("AUTH_TYPE=", nothing) && variable("REMOTE_USER=", nothing) &&
         variable("X_MATCHED_ROUTE=", (struct span){(const uint8_t *)q->route, q->route_len}) && add_url(url) &&
         add_raw_info(url->path, info) && add_headers(request);
}

/* What is the same for all requests, and what is not: as inputs.environ_of(). */
bool put_environ(struct text *t, const struct fast_path *q, const struct request *request) {
  clear();
  return (!q->own_names || (variable("EDGE_REQUEST_ID=", (struct span){request->id, request->id_len}) &&
                            variable("EDGE_REGION=", request->region))) &&
         (!request->told.len || variable("TRACEPARENT=", request->told)) &&
         (q->protocol != CGI || add_cgi(q, request)) &&
         put_block(t, q->offsets, q->variables, q->environ, q->environ_len);
}

/* The path, and the parts of the query: as cgi.cgi_arguments() without arguments of the function's own. */
bool put_arguments(struct text *t, const struct request *request) {
  struct span query = request->url.query;
  clear();
  if (!variable("", request->url.path))
    return false;
  for (size_t i = 0; i < query.len;) {
    const uint8_t *from = query.at + i, *to = memchr(from, '&', query.len - i);
    size_t len = to ? (size_t)(to - from) : query.len - i;
    if (len && !variable("", (struct span){from, len}))
      return false;
    i += len + 1;
  }
  return put_block(t, NULL, 0, NULL, 0);
}
