/* An answer as HTTP/1.1 has it, for asgi/direct_write.py: what a server would write for both of ASGI's messages. */

#include "text.h"

enum { JOINED = 64 << 10 }; /* bytes of a body that are copied behind the head; direct_write.JOINED */

enum { SERVER_HEADERS = 16 };

static struct text head;
/* The lines of a server's own headers, which it makes anew once a second, and the pairs that they were made of. */
static struct {
  PyObject *pairs[SERVER_HEADERS];
  ssize_t count;
  struct text lines;
} server;

static bool is_length(struct span value, size_t length) {
  size_t found = 0;
  if (!value.len || value.len > 18)
    return false;
  for (size_t i = 0; i < value.len; i++) {
    if (value.at[i] < '0' || value.at[i] > '9')
      return false;
    found = found * 10 + value.at[i] - '0';
  }
  return found == length;
}

/* Headers with names in lower case, of which none has to do with how the body is sent but one length, that of the body:
   ``lengths`` counts these. False for all that a server has rules for. */
static bool put_lines(struct text *to, PyObject *headers, size_t body, int *lengths) {
  ssize_t count = PyList_Size(headers);
  if (count < 0)
    return false;
  for (ssize_t i = 0; i < count; i++) {
    struct span name, value;
    if (!of_header(headers, i, &name, &value) || !name.len || !is_lower_token(name) || !all(value, IN_VALUE))
      return false;
    if (IS(name, "connection") || IS(name, "transfer-encoding"))
      return false;
    if (IS(name, "content-length") && (++*lengths > 1 || !is_length(value, body)))
      return false;
    if (!put(to, name.at, name.len) || !PUT(to, ": ") || !put(to, value.at, value.len) || !PUT(to, "\r\n"))
      return false;
  }
  return true;
}

/* The head, and behind it a body of at most JOINED bytes. */
static PyObject *joined(struct span body) {
  size_t more = body.len <= JOINED ? body.len : 0;
  PyObject *found = PyBytes_FromStringAndSize(NULL, (ssize_t)(head.len + more));
  if (!found)
    return none();
  char *to = PyBytes_AsString(found);
  memcpy(to, head.at, head.len);
  memcpy(to + head.len, body.at, more);
  return found;
}

/* http1(status line, headers of the server, headers, body): what is written first. None if it is left to the server. */
PyObject *http1(PyObject *self, PyObject *const *args, ssize_t count) {
  struct span status, body;
  int lengths = 0;
  (void)self;
  head.len = 0;
  bool ok = count == 4 && ready() && of_bytes(args[0], &status) && of_bytes(args[3], &body) &&
            put(&head, status.at, status.len) && put_lines(&head, args[1], body.len, &lengths) &&
            put_lines(&head, args[2], body.len, &lengths) && lengths == 1 && PUT(&head, "\r\n");
  PyObject *found = ok ? joined(body) : none();
  let_go(&head);
  return found;
}

static bool is_known(PyObject *headers, ssize_t count) {
  if (count != server.count)
    return false;
  for (ssize_t i = 0; i < count; i++)
    if (PyList_GetItem(headers, i) != server.pairs[i])
      return false;
  return true;
}

static void forget_server(void) {
  while (server.count) {
    PyObject *pair = server.pairs[--server.count];
    Py_DecRef(pair);
  }
}

/* Put the lines of a server's headers into ``server``. False if it has rules for one of them, or there are too many. */
static bool know(PyObject *headers) {
  ssize_t count = PyList_Size(headers);
  int lengths = 0;
  if (count < 0 || count > SERVER_HEADERS)
    return false;
  if (is_known(headers, count) && count)
    return true;
  forget_server();
  server.lines.len = 0;
  if (!put_lines(&server.lines, headers, 0, &lengths) || lengths)
    return false;
  for (; server.count < count; server.count++)
    Py_IncRef(server.pairs[server.count] = PyList_GetItem(headers, server.count));
  return true;
}

/* What is written to a client, for headers that hold the length and are fit for HTTP/1.1. NULL if it is left to the
   server, with an error or without. */
PyObject *http1_answer(PyObject *status, const struct request *request, const struct text *lines, struct span body) {
  struct span line;
  if (body.len > JOINED || !of_bytes(PyDict_GetItemWithError(request->status_lines, status), &line) ||
      !know(request->server_headers))
    return NULL;
  const struct text *own = &server.lines;
  PyObject *found = PyBytes_FromStringAndSize(NULL, (ssize_t)(line.len + own->len + lines->len + 2 + body.len));
  if (!found)
    return NULL;
  char *to = PyBytes_AsString(found);
  memcpy(to, line.at, line.len);
  to += line.len;
  if (own->len)
    memcpy(to, own->at, own->len);
  memcpy(to += own->len, lines->at, lines->len);
  memcpy(to += lines->len, "\r\n", 2);
  memcpy(to + 2, body.at, body.len);
  return found;
}
