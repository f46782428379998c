/* What a component does often, without Python: a call of the host that needs nothing but a clock or random bytes, the
   whole of a call of `handle` in the world edge. Python does the same where this library is missing, and goes on from
   where this stops: see components/invocation.py.

   No Python runs on the guest's stack: a call that is left to it is noted, and the guest waits. */

#include "component.h"

#include <string.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

enum { SLOT = 8 };                                    /* components/glue.py */
enum { DONE, REALLOC };                               /* its steps */
enum { I32 = 0, MOST_RANDOM = 64 << 10, AT_ONCE = 256 };

bool fits(const struct component *c, const struct extern_ *memory, uint64_t at, uint64_t size) {
  return memory && at + size <= wasmtime.memory_data_size(c->context, memory->of);
}

void set_slot(struct component *c, uint32_t number, uint64_t value) {
  memcpy(c->frames + c->frame + number * SLOT, &value, sizeof value);
}

uint64_t slot_of(const struct component *c, uint32_t number) {
  uint64_t value;
  memcpy(&value, c->frames + c->frame + number * SLOT, sizeof value);
  return value;
}

/* Let the guest be asked for room: the call comes back with the place as RESULT. */
bool ask_for_room(struct component *c, uint64_t alignment, uint64_t size) {
  for (uint32_t i = 0; i < 2; i++)
    set_slot(c, ARGUMENTS + i, 0);
  set_slot(c, ARGUMENTS + 2, alignment);
  set_slot(c, ARGUMENTS + 3, size);
  c->pending = c->frame + 1;
  c->result = REALLOC;
  return true;
}

/* Let the call return. */
bool answered(struct component *c) {
  c->pending = 0;
  c->result = DONE;
  c->calls++;
  return true;
}

static bool put_random(uint8_t *to, size_t size) {
  for (size_t now; size; to += now, size -= now) {
    now = size < AT_ONCE ? size : AT_ONCE;
    if (getentropy(to, now))
      return false;
  }
  return true;
}

/* ``get-random-bytes``: first ask the guest for room, then fill that. Whatever is odd is left to Python, from the
   beginning, which traps as it should. */
static bool answer_random_bytes(struct component *c) {
  const struct extern_ *memory = c->memories[c->number];
  uint64_t size = slot_of(c, 0), into = (uint32_t)slot_of(c, 1);
  if (c->pending != c->frame + 1) {
    if (c->pending || !memory || size > MOST_RANDOM || into % 4 || !fits(c, memory, into, 8))
      return false;
    return ask_for_room(c, 1, size);
  }
  c->pending = 0;
  uint64_t at = (uint32_t)slot_of(c, RESULT);
  if (!fits(c, memory, at, size) || !fits(c, memory, into, 8))
    return false;
  uint8_t *base = wasmtime.memory_data(c->context, memory->of);
  uint32_t given[] = {(uint32_t)at, (uint32_t)size};
  if (!put_random(base + at, size))
    return false;
  memcpy(base + into, given, sizeof given);
  return answered(c);
}

/* ``now`` of the wall clock: seconds and nanoseconds, where the guest wants them. */
static bool answer_realtime(struct component *c) {
  const struct extern_ *memory = c->memories[c->number];
  uint64_t into = (uint32_t)slot_of(c, 0), now = coarse(CLOCK_REALTIME, c->resolution);
  struct {
    uint64_t seconds;
    uint32_t nanoseconds, padding;
  } given = {now / 1000000000, (uint32_t)(now % 1000000000), 0};
  if (!memory || into % 8 || !fits(c, memory, into, sizeof given))
    return false;
  memcpy(wasmtime.memory_data(c->context, memory->of) + into, &given, sizeof given);
  return answered(c);
}

/* Whether the call is answered here; ``result`` is then what the glue is to do. */
static bool answer_call(struct component *c) {
  uint64_t value;
  if (!c->quick || (c->pending && c->pending != c->frame + 1))
    return false;
  const struct quick_call *q = &c->quick_calls[c->number];
  switch (q->kind) {
  case MONOTONIC:
    value = coarse(STEADY, c->resolution);
    break;
  case RESOLUTION:
    value = c->resolution;
    break;
  case RANDOM:
    if (!put_random((uint8_t *)&value, sizeof value))
      return false;
    break;
  case REALTIME:
    return answer_realtime(c);
  case RANDOM_BYTES:
    return answer_random_bytes(c);
  case LEFT:
    return false;
  default:
    if (c->http && c->http->open)
      return q->of_handler && answer_http(c, q);
    return answer_lent(c, q->kind);
  }
  set_slot(c, RESULT, value);
  return answered(c);
}

static bool resume(void *env) {
  struct component *c = env;
  if (c->asked && !c->answered)
    return false;
  c->asked = c->answered = false;
  *c->slot = (struct extern_){.kind = I32, .of = {(uint32_t)c->result}};
  return true;
}

/* ``step`` of the glue: wasmtime_func_async_callback_t. */
void swasm_component_step(void *env, void *caller, const struct extern_ *args, size_t count, struct extern_ *results,
                          size_t results_count, void **trap, struct continuation *then) {
  (void)env;
  (void)count;
  (void)results_count;
  (void)trap;
  struct component *c = (void *)wasmtime.context_data(wasmtime.caller_context(caller));
  c->number = (uint32_t)args[0].of[0];
  c->frame = (uint32_t)args[1].of[0];
  c->slot = results;
  c->answered = false;
  bool has_room = c->pending == c->frame + 1;
  c->asked = !answer_call(c);
  if (c->asked && has_room)
    c->quick = false; /* the room that the guest has given is odd: it is not asked for that again and again */
  if (c->asked && c->pending == c->frame + 1)
    c->pending = 0; /* it is answered from the beginning, elsewhere */
  *then = (struct continuation){resume, c, NULL};
}

/* Let the guest go on, until it ends, the epoch ticks, or it has asked for what is left to Python. */
int swasm_component_poll(struct component *c, void *future) {
  return wasmtime.future_poll(future) ? ENDED : c->asked ? ASKED : TICKED;
}

/* Answer the call that was left to Python, with what has been lent since. Whether it is answered. */
bool swasm_component_retry(struct component *c) {
  if (!answer_call(c))
    return false;
  c->asked = false;
  return true;
}

static void begin(struct component *c, uint32_t phase, const struct extern_ *function, size_t params, size_t results) {
  struct scratch *s = c->scratch;
  c->phase = phase;
  c->quick = phase == HANDLING;
  wasmtime.set_epoch_deadline(c->context, FIRST_POLL);
  c->future = wasmtime.func_call_async(c->context, function->of, c->values, params, c->values + params, results,
                                       &s->trap, &s->error);
}

static void put_i32(struct component *c, uint32_t index, uint32_t value) {
  c->values[index] = (struct extern_){.kind = I32, .of = {value}};
}

/* Begin a call of ``handle``: ``input`` has to stay until it has ended. */
void swasm_edge_begin(struct component *c, struct scratch *s, const char *input, size_t input_len) {
  c->scratch = s;
  s->trap = s->error = NULL;
  c->input = input;
  c->input_len = input_len;
  for (uint32_t i = 0; i < 4; i++)
    put_i32(c, i, i == 2 ? 1 : i == 3 ? (uint32_t)input_len : 0);
  begin(c, ALLOCATING, c->realloc, 4, 1);
}

/* What realloc has given takes the input, and ``handle`` is called with it. */
static bool handle(struct component *c) {
  uint32_t at = (uint32_t)c->values[4].of[0];
  if (!fits(c, c->memory, at, c->input_len))
    return false;
  memcpy(wasmtime.memory_data(c->context, c->memory->of) + at, c->input, c->input_len);
  put_i32(c, 0, at);
  put_i32(c, 1, (uint32_t)c->input_len);
  begin(c, HANDLING, c->handle, 2, 1);
  return true;
}

/* The text that ``handle`` has returned, if it is there and short. */
static bool lift(struct component *c) {
  uint32_t given[2];
  c->returned = (uint32_t)c->values[2].of[0];
  if (c->returned % 4 || !fits(c, c->memory, c->returned, sizeof given))
    return false;
  const uint8_t *base = wasmtime.memory_data(c->context, c->memory->of);
  memcpy(given, base + c->returned, sizeof given);
  if (given[1] > SPARE || !fits(c, c->memory, given[0], given[1]))
    return false;
  c->scratch->out_len = given[1];
  memcpy(c->scratch->out, base + given[0], given[1]);
  return true;
}

/* Call what the guest wants called once its result was read. False if there is nothing. */
bool swasm_edge_return(struct component *c) {
  if (!c->post_return)
    return false;
  put_i32(c, 0, c->returned);
  begin(c, RETURNING, c->post_return, 1, 0);
  return true;
}

/* Go on with a call of ``handle``. ENDED: ``scratch`` has a trap, an error, or what was returned. ODD_ROOM and
   ODD_RESULT: what the guest has given is left to Python, which looks at it again, and goes on from there. */
int swasm_edge_poll(struct component *c) {
  const struct scratch *s = c->scratch;
  for (;;) {
    int how = swasm_component_poll(c, c->future);
    if (how != ENDED)
      return how;
    wasmtime.future_delete(c->future);
    c->future = NULL;
    if (s->trap || s->error || c->phase == RETURNING)
      return ENDED;
    if (c->phase == ALLOCATING) {
      if (!handle(c))
        return ODD_ROOM;
    } else if (!lift(c)) {
      return ODD_RESULT;
    } else if (!swasm_edge_return(c)) {
      return ENDED;
    }
  }
}

/* Begin a call of a handler of wasi:http, with what is in the values, for swasm_http_poll(). */
void swasm_http_begin(struct component *c, struct scratch *s, uint32_t request, uint32_t outparam) {
  c->scratch = s;
  s->trap = s->error = NULL;
  put_i32(c, 0, request);
  put_i32(c, 1, outparam);
  begin(c, HANDLING, c->handle, 2, 0);
}

/* Go on with it, and with what the guest wants called once it has returned. */
int swasm_http_poll(struct component *c) {
  for (;;) {
    int how = swasm_component_poll(c, c->future);
    if (how != ENDED)
      return how;
    wasmtime.future_delete(c->future);
    c->future = NULL;
    if (c->scratch->trap || c->scratch->error || c->phase == RETURNING || !c->post_return)
      return ENDED;
    begin(c, RETURNING, c->post_return, 0, 0);
  }
}
