/* What answer.c and http_answer.c share: an answer while it is read. */

#ifndef ANSWER_H
#define ANSWER_H

#include "json.h"

enum { MAX_HEADER_BYTES = 32 << 10 }; /* headers.MAX_HEADER_BYTES */

/* What an answer's headers come to. */
struct headers {
  PyObject *sent;     /* a list as ASGI has it, or a dict; or NULL */
  struct text *lines; /* for HTTP/1.1, if there is neither */
  bool as_dict;
  struct fields fields;
  size_t values, size, used; /* those that are dropped count as well */
  ssize_t declared;          /* a content-length of its own, or -1 */
  bool typed;                /* whether there is a content-type */
  bool underscores;          /* whether they stand for dashes in names: WWS */
  bool keeps_id;             /* whether an x-request-id of the guest's own is kept */
  uint8_t bytes[MAX_HEADER_BYTES]; /* of values that are not sent as they were printed */
  uint8_t lower[MAX_FIELDS][64];   /* of the names, which must differ in whatever case */
};

/* The parts of an answer. */
struct parts {
  long status;
  struct string body;
  bool base64;
  struct headers headers;
};

#pragma GCC visibility push(hidden)

bool header_name(struct headers *h, struct span raw, struct span *name);
bool dropped(const struct headers *h, struct span name);
bool trim(struct headers *h, struct span name, struct span *value);
bool send_header(struct headers *h, struct span name, struct span value, bool first);
ssize_t length_of(struct span value);
void begin_parts(struct parts *p, const uint8_t *at, bool as_dict);
PyObject *content_for_asgi(struct parts *p, PyObject *content, struct span id, bool head);
PyObject *packed(const struct scratch *s, const struct parts *p, PyObject *content, const struct request *request, bool due,
                 void *left);

#pragma GCC visibility pop

#endif
