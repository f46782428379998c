/* What component.c, streams.c and the files of wasi_http.h share. */

#ifndef COMPONENT_H
#define COMPONENT_H

#include "text.h"

enum { ARGUMENTS = 18, RESULT = 36 }; /* slots of a frame: components/glue.py */
/* How a function of the host is answered: components/quick_answers.py. */
enum QUICK {
  LEFT, MONOTONIC, REALTIME, RESOLUTION, RANDOM, RANDOM_BYTES, READ, CHECK_WRITE, WRITE, READ_NOW,
  DROP, NOTHING, ENVIRONMENT, ALL_ARGUMENTS, POLL, AWAIT, READY,
  METHOD, SCHEME, AUTHORITY, PATH, REQUEST_HEADERS,
  NEW_FIELDS, FIELDS_FROM_LIST, FIELDS_APPEND, FIELDS_GET, FIELDS_ENTRIES, FIELDS_CLONE,
  NEW_RESPONSE, SET_STATUS, STATUS_CODE, RESPONSE_HEADERS, SET_OUTPARAM, RESPONSE_BODY, BODY_WRITE, BODY_FINISH,
  CONSUME, BODY_STREAM, FINISH_INPUT, GET_TRAILERS, SUBSCRIBE, FLUSH
};

enum { TICKED, ENDED, ASKED, ODD_ROOM, ODD_RESULT }; /* what polling comes to: components/edge_call.py */

/* component.c and http_answer.c, for Python too */
void swasm_edge_begin(struct component *c, struct scratch *s, const char *input, size_t input_len);
int swasm_edge_poll(struct component *c);
void swasm_http_begin(struct component *c, struct scratch *s, uint32_t request, uint32_t outparam);
int swasm_http_poll(struct component *c);
bool swasm_http_open(struct http *h, const uint8_t *head, size_t head_len, const uint8_t *environ, size_t environ_len,
                     const uint8_t *arguments, size_t arguments_len, const uint8_t *input, size_t input_len, bool whole,
                     uint32_t request, uint32_t outparam, uint32_t most);
/* restore.c */
bool swasm_restore(struct first_state *f, const struct pagemap *pagemap, bool trims);

#pragma GCC visibility push(hidden)

bool fits(const struct component *c, const struct extern_ *memory, uint64_t at, uint64_t size);
uint64_t slot_of(const struct component *c, uint32_t number);
void set_slot(struct component *c, uint32_t number, uint64_t value);
bool ask_for_room(struct component *c, uint64_t alignment, uint64_t size);
bool answered(struct component *c);
bool answer_http(struct component *c, const struct quick_call *q);
bool answer_lent(struct component *c, uint8_t kind);
PyObject *http_answer(const struct http *h, const struct scratch *s, const struct request *request, bool due);

#pragma GCC visibility pop

#endif
