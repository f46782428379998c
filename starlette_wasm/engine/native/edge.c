/* Requests and responses as objects of Python: from an EdgeRequest to what the guest reads, and headers for an EdgeResponse.
   The same as EdgeProtocol and WwsProtocol, or it is left to them. */

#include "text.h"

/* A JSON object of strings, with a comma behind it. */
static bool put_strings(struct text *t, const char *label, PyObject *strings) {
  ssize_t at = 0;
  PyObject *key, *value;
  if (PyDict_Size(strings) < 0 || !put(t, label, strlen(label)) || !PUT(t, "{"))
    return false;
  for (bool more = false; PyDict_Next(strings, &at, &key, &value); more = true) {
    struct span name, text;
    if (!of_str(key, &name) || !of_str(value, &text) || (more && !PUT(t, ",")) || !quote(t, name) || !PUT(t, ":") ||
        !quote(t, text))
      return false;
  }
  return PUT(t, "},");
}

static bool put_list(struct text *t, PyObject *list) {
  ssize_t count = PyList_Size(list);
  if (count < 0 || !PUT(t, "["))
    return false;
  for (ssize_t i = 0; i < count; i++) {
    struct span text;
    if (!of_str(PyList_GetItem(list, i), &text) || (i && !PUT(t, ",")) || !quote(t, text))
      return false;
  }
  return PUT(t, "]");
}

/* Lists of strings by name; nothing if there are none. */
static bool put_lists(struct text *t, const char *label, PyObject *lists) {
  ssize_t at = 0, count = PyDict_Size(lists);
  PyObject *key, *value;
  if (count <= 0)
    return !count;
  if (!put(t, label, strlen(label)) || !PUT(t, "{"))
    return false;
  for (bool more = false; PyDict_Next(lists, &at, &key, &value); more = true) {
    struct span name;
    if (!of_str(key, &name) || (more && !PUT(t, ",")) || !quote(t, name) || !PUT(t, ":") || !put_list(t, value))
      return false;
  }
  return PUT(t, "},");
}

/* The header of an EdgeRequest; empty if it has none. False for what is no string. */
static bool edge_header(const struct request *request, int name, struct span *value) {
  PyObject *found = PyDict_GetItemWithError(request->edge[OF_HEADERS], header_names[name]);
  *value = (struct span){NULL, 0};
  return found ? of_str(found, value) : !PyErr_Occurred();
}

/* As context_of(). */
static bool read_edge(struct request *request) {
  struct span id, trace, state;
  request->headers.count = request->headers.repeats = 0;
  request->head = false;
  if (!of_str(request->edge[OF_PATH], &request->path) || !of_str(request->edge[OF_METHOD], &request->method) ||
      PyDict_Size(request->edge[OF_HEADERS]) < 0 || !edge_header(request, NAME_OF_ID, &id) || !make_id(request, id) ||
      !edge_header(request, NAME_OF_PARENT, &trace) || !edge_header(request, NAME_OF_STATE, &state))
    return false;
  request->told.len = request->traceparent.len = request->tracestate.len = 0;
  if (!is_traceparent(trace))
    return true;
  memcpy(request->trace, trace.at, sizeof request->trace);
  request->told = request->traceparent = (struct span){request->trace, sizeof request->trace};
  request->tracestate = state;
  return !state.at || state.len; /* one that is empty is not the same as none */
}

static bool put_edge_body(struct text *t, const struct request *request, bool base64) {
  struct span body;
  PyObject *body_is = request->edge[OF_BODY];
  if (body_is == Py_None)
    return base64 ? PUT(t, "\"body\":null,\"is_base64_encoded\":true,")
                  : PUT(t, "\"body\":null,\"is_base64_encoded\":false,");
  if (!of_str(body_is, &body) || body.len > LARGEST)
    return false;
  if (base64)
    return PUT(t, "\"body\":") && quote(t, body) && PUT(t, ",\"is_base64_encoded\":true,");
  return body.len ? put_body(t, body) : PUT(t, "\"body\":\"\",\"is_base64_encoded\":false,");
}

/* EdgeProtocol.encode() of an EdgeRequest */
static bool put_for_edge(struct text *t, const struct fast_path *q, struct request *request, bool base64) {
  struct span url;
  PyObject **edge = request->edge;
  return of_str(edge[OF_URL], &url) && PUT(t, "{\"path\":") && quote(t, request->path) && PUT(t, ",\"method\":") &&
         quote(t, request->method) && PUT(t, ",") && put_strings(t, "\"headers\":", edge[OF_HEADERS]) &&
         put_strings(t, "\"query\":", edge[OF_QUERY]) && put_edge_body(t, request, base64) &&
         put_strings(t, "\"params\":", edge[OF_PARAMS]) && PUT(t, "\"url\":") && quote(t, url) && PUT(t, ",") &&
         put_lists(t, "\"multi_value_headers\":", edge[OF_MULTI_HEADERS]) &&
         put_lists(t, "\"multi_value_query\":", edge[OF_MULTI_QUERY]) && put_context(t, q, request);
}

/* WwsProtocol.encode() of an EdgeRequest */
static bool put_for_wws(struct text *t, const struct request *request, bool base64) {
  struct span url, body = {NULL, 0};
  PyObject **edge = request->edge;
  if (!of_str(edge[OF_URL], &url) || (edge[OF_BODY] != Py_None && !base64 && !of_str(edge[OF_BODY], &body)) ||
      body.len > LARGEST || !PUT(t, "{\"url\":") || !quote(t, url) || !PUT(t, ",\"method\":") ||
      !quote(t, request->method) || !PUT(t, ",") || !put_strings(t, "\"headers\":", edge[OF_HEADERS]) ||
      !PUT(t, "\"body\":") || !quote(t, body) || !PUT(t, ",\"kv\":{},") ||
      !put_strings(t, "\"params\":", edge[OF_PARAMS]))
    return false;
  t->at[t->len - 1] = '}'; /* in place of the comma */
  return true;
}

/* What the guest reads on stdin for an EdgeRequest. */
bool put_edge_request(struct text *t, const struct fast_path *q, struct request *request) {
  int base64 = PyObject_IsTrue(request->edge[OF_BASE64]);
  if (base64 < 0 || q->protocol == CGI || !read_edge(request)) /* whose variables Python makes */
    return false;
  return q->protocol == WWS ? put_for_wws(t, request, base64) : put_for_edge(t, q, request, base64);
}

static bool is_list(PyObject *object) {
  PyObject *type = PyObject_Type(object);
  drop(type);
  return type == (PyObject *)&PyList_Type;
}

static PyObject *text_of(struct span bytes) {
  return PyUnicode_DecodeLatin1((const char *)bytes.at, (ssize_t)bytes.len, NULL);
}

/* Put one value of a header into a dict, as an EdgeResponse has it. */
static bool put_value(PyObject *dict, PyObject *name, PyObject *value, bool first) {
  if (first)
    return !PyDict_SetItem(dict, name, value);
  PyObject *before = PyDict_GetItemWithError(dict, name);
  if (!before)
    return false;
  if (is_list(before))
    return !PyList_Append(before, value);
  PyObject *both = PyList_New(0);
  bool ok = both && !PyList_Append(both, before) && !PyList_Append(both, value) && !PyDict_SetItem(dict, name, both);
  drop(both);
  return ok;
}

/* Put a header into a dict; ``first`` is whether the name has no value yet. Else they come to a list. */
bool put_in_dict(PyObject *dict, struct span name, struct span value, bool first) {
  bool common = IS(name, "content-type");
  PyObject *key = common ? header_names[NAME_OF_TYPE] : text_of(name), *text = text_of(value);
  bool ok = key && text && put_value(dict, key, text, first);
  if (!common)
    drop(key);
  drop(text);
  return ok;
}
