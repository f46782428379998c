/* What handlers of wasi:http 0.2 read of a long body, and write of one, without Python: as much as was lent to this, see
   components/lent_streams.py. Errors, ends, and what goes beyond are left to Python, from the beginning. */

#include "component.h"

#include <string.h>

enum { OF_BYTES = 12, OF_ROOM = 16, OF_NOTHING = 12, MOST_AT_ONCE = 1 << 20 }; /* sizes of results */

/* Where the guest wants a result; NULL if that is not there. */
static uint8_t *result_at(const struct component *c, uint32_t slot, uint32_t size, uint32_t alignment) {
  const struct extern_ *memory = c->memories[c->number];
  uint32_t into = (uint32_t)slot_of(c, slot);
  return into % alignment || !fits(c, memory, into, size) ? NULL : (uint8_t *)wasmtime.memory_data(c->context, memory->of) + into;
}

/* First ask the guest for room, then fill that. A guest that asks for nothing, or again and again, is answered here, too: in
   Python it would keep others waiting. */
static bool read_some(struct component *c, struct lent *l, bool now) {
  uint64_t most = slot_of(c, 1);
  if (c->pending != c->frame + 1) {
    if (c->pending || (uint32_t)slot_of(c, 0) != l->input || !(l->left || (now && l->is_empty)) ||
        !result_at(c, 2, OF_BYTES, 4))
      return false;
    l->asked = most < l->left ? most : l->left;
    if (l->asked > MOST_AT_ONCE)
      l->asked = MOST_AT_ONCE;
    return ask_for_room(c, 1, l->asked);
  }
  c->pending = 0;
  uint64_t at = (uint32_t)slot_of(c, RESULT);
  uint8_t *to = result_at(c, 2, OF_BYTES, 4);
  if (!to || l->asked > l->left || !fits(c, c->memories[c->number], at, l->asked))
    return false;
  uint32_t given[] = {0, (uint32_t)at, (uint32_t)l->asked};
  if (l->asked)
    memcpy((uint8_t *)wasmtime.memory_data(c->context, c->memories[c->number]->of) + at, l->from + l->taken, l->asked);
  memcpy(to, given, sizeof given);
  l->taken += l->asked;
  l->left -= l->asked;
  return answered(c);
}

static bool check_write(struct component *c, const struct lent *l) {
  uint8_t *to = result_at(c, 1, OF_ROOM, 8);
  uint64_t given[] = {0, l->room};
  if (c->pending || (uint32_t)slot_of(c, 0) != l->output || !l->room || !to)
    return false;
  memcpy(to, given, sizeof given);
  return answered(c);
}

static bool write_some(struct component *c, struct lent *l) {
  uint32_t from = (uint32_t)slot_of(c, 1), size = (uint32_t)slot_of(c, 2);
  const struct extern_ *memory = c->memories[c->number];
  uint8_t *to = result_at(c, 3, OF_NOTHING, 4);
  if (c->pending || (uint32_t)slot_of(c, 0) != l->output || !l->room || size > l->room || !to || !fits(c, memory, from, size))
    return false;
  memcpy(l->to + l->put, (uint8_t *)wasmtime.memory_data(c->context, memory->of) + from, size);
  memset(to, 0, OF_NOTHING);
  l->put += size;
  l->room -= size;
  return answered(c);
}

/* Whether the call is answered here. */
bool answer_lent(struct component *c, uint8_t kind) {
  struct lent *l = c->lent;
  if (!l || kind < READ || kind > READ_NOW || l->numbers[kind - READ] != c->number + 1)
    return false;
  switch (kind) {
  case READ:
  case READ_NOW:
    return read_some(c, l, kind == READ_NOW);
  case CHECK_WRITE:
    return check_write(c, l);
  default:
    return write_some(c, l);
  }
}
