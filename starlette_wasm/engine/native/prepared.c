/* Instances that are made before the request that they are for comes, and stores that are deleted after its answer has
   gone out: both while the event loop has nothing else to do. Each is used for one request, as ever.

   What asked last has one prepared, if it asks often; PREPARED targets have one, or as many as guests may be alive,
   and tenants share those. All of it with the GIL held. The pool has room for them beside the guests. */

#include "native.h"

enum { OFTEN = 64, SMALL = 5 << 16 }; /* requests within which it is often; bytes that are cleared in no time */
enum { BUSY = 32 }; /* requests in which not to look again whether the loop has time, once it had none */

static void empty(struct fast_path *q) {
  void *store = q->ready.store;
  q->ready.store = NULL;
  if (store && !q->host->dead)
    delete_store(store);
}

/* The instance that was prepared for a request, if there is one. */
bool acquire_prepared(struct scratch *s, struct fast_path *q) {
  struct engine *e = q->host;
  bool often = e->asked - q->asked < OFTEN;
  q->asked = ++e->asked;
  q->used = true;
  if (often)
    e->most_recent = q;
  struct instance *m = &q->ready;
  if (m->uses && q->module->faulty)
    empty(q);
  if (!m->store)
    return false;
  s->trap = s->error = s->future = NULL;
  s->ran_ns = 0;
  forget_calls(s);
  s->store = m->store;
  s->context = m->context;
  wasmtime.context_set_data(s->context, s);
  s->instance[0] = m->instance[0];
  s->instance[1] = m->instance[1];
  s->io = m->io;
  s->main = m->main;
  s->memory = m->memory;
  s->uses = m->uses;
  m->store = NULL;
  return true;
}

/* Whether a guest that has ended well is deleted in no time, so that it may be done later, with the GIL held. */
bool small(const struct scratch *s, const struct plan *plan) { return memory_of(s, plan) <= SMALL; }

/* Delete the store that is left. */
void delete_pending(struct engine *e) {
  void *store = e->pending.store;
  e->pending.store = NULL;
  e->pending_of = NULL;
  if (store && !e->dead)
    delete_store(store);
}

/* Leave the instance of a guest that has ended well until there is time for it, or the next guest begins. */
void leave_pending(struct engine *e, struct fast_path *q, const struct scratch *s) {
  delete_pending(e);
  instance_of(&e->pending, s);
  e->pending_of = q;
}

/* The instance that is left becomes the next one of its function, if that has a place, or is ``q``, and has none. Else it
   is deleted: then the next one to be made gets its memory, which is in the cache. ``idle`` is whether no request waits. */
void settle_pending(struct engine *e, struct fast_path *q, bool idle) {
  struct fast_path *of = e->pending_of;
  if (of && !e->dead && !of->ready.store && (of == q || of->slot) && restore_pending(e, of, idle)) {
    of->ready = e->pending;
    e->pending.store = NULL;
  }
  delete_pending(e);
}

static uint32_t held(const struct engine *e, uint64_t tenant) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < e->slots; i++)
    count += e->prepared[i] && e->prepared[i]->plan->tenant == tenant;
  return count;
}

/* How many places a tenant must have for one of them to go to ``q``: as many as the one with the most, if that is two
   more than q's has, or q's has none. Else 0: then one of q's own goes. So none is taken from who has less. */
static uint32_t givers(const struct engine *e, const struct fast_path *q) {
  uint32_t most = 0, own = held(e, q->plan->tenant);
  for (uint32_t i = 0; i < e->slots; i++) {
    uint32_t count = held(e, e->prepared[i]->plan->tenant);
    most = count > most ? count : most;
  }
  return own && most < own + 2 ? 0 : most;
}

/* Which place ``q`` gets: one that is free, or of a giver that was not used for the longest time, or nearly. */
static uint32_t choose_slot(struct engine *e, const struct fast_path *q) {
  for (uint32_t i = 0; i < e->slots; i++)
    if (!e->prepared[i])
      return i;
  uint32_t most = givers(e, q);
  for (;;) {
    uint32_t at = e->clock_hand++ % e->slots;
    struct fast_path *other = e->prepared[at];
    uint64_t tenant = other->plan->tenant;
    if (most ? held(e, tenant) < most : tenant != q->plan->tenant)
      continue;
    if (!other->used)
      return at;
    other->used = false;
  }
}

/* A place among the prepared. Tenants share them: see givers(). */
static void find_slot(struct engine *e, struct fast_path *q) {
  uint32_t at = choose_slot(e, q);
  if (e->prepared[at])
    swasm_forget_fast_path(e->prepared[at]);
  e->prepared[at] = q;
  q->slot = at + 1;
}

/* Make the next instance. */
static bool prepare(struct fast_path *q) {
  struct scratch s;
  if (make(&s, q->plan, 0)) { /* a request finds out why */
    drop_failure(&s);
    delete_store(s.store);
    return false;
  }
  instance_of(&q->ready, &s);
  remember(q->module, q->plan, &s);
  return true;
}

/* While nothing else is to be done. */
void clean_up(struct engine *e) {
  struct fast_path *q = e->most_recent;
  e->most_recent = NULL;
  e->cleanup_scheduled = false;
  e->busy = e->asked - e->asked_at_cleanup > 1 ? BUSY : 0; /* several came in one turn of the loop */
  e->asked_at_cleanup = e->asked;
  if (e->dead)
    return;
  settle_pending(e, q, true);
  restore_unrestored(e);
  compare_some(e);
  if (!q || q->module->closed || q->plan->cpu_score >= CPU_THRESHOLD)
    return;
  if ((q->ready.store || prepare(q)) && !q->slot)
    find_slot(e, q);
}

/* Before its memory is freed. */
void swasm_forget_fast_path(struct fast_path *q) {
  struct engine *e = q->host;
  if (e->most_recent == q)
    e->most_recent = NULL;
  if (e->pending_of == q)
    e->pending_of = NULL;
  if (q->slot)
    e->prepared[q->slot - 1] = NULL;
  q->slot = 0;
  empty(q);
}

void swasm_forget_module(struct engine *e, struct module *m) {
  delete_pending(e);
  if (e->compared_of == m)
    delete_compared(e);
  for (int i = 0; i < PREPARED; i++)
    if (e->prepared[i] && e->prepared[i]->module == m)
      swasm_forget_fast_path(e->prepared[i]);
  forget_first(m);
}

void swasm_forget_all(struct engine *e) {
  delete_pending(e);
  delete_compared(e);
  for (int i = 0; i < PREPARED; i++)
    if (e->prepared[i])
      swasm_forget_fast_path(e->prepared[i]);
}
