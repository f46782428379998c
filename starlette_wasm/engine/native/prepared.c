/* Instances that are made before the request that they are for comes, and stores that are deleted after its answer has
   gone out: both while the event loop has nothing else to do. Each is used for one request, as ever.

   What asked last has one prepared, if it asks often; PREPARED targets have one, or as many as guests may be alive,
   and tenants share those. All of it with the GIL held. The pool has room for them beside the guests. */

#include "native.h"

enum { OFTEN = 64, SMALL = 5 << 16 }; /* requests within which it is often; bytes that are cleared in no time */
enum { BUSY = 32 }; /* requests in which not to look again whether the loop has time, once it had none */

/* The instance that was prepared for a request, if there is one. */
bool acquire_prepared(struct scratch *s, struct fast_path *q) {
  struct engine *e = q->host;
  bool often = e->asked - q->asked < OFTEN;
  q->asked = ++e->asked;
  q->used = true;
  if (often)
    e->most_recent = q;
  struct instance *m = &q->ready;
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
  m->store = NULL;
  return true;
}

/* Whether a guest that has ended well is deleted in no time, so that it may be done later, with the GIL held. */
bool small(const struct scratch *s, const struct plan *plan) { return memory_of(s, plan) <= SMALL; }

/* Delete the store that is left. */
void delete_pending(struct engine *e) {
  void *store = e->pending_delete;
  e->pending_delete = NULL;
  if (store && !e->dead)
    delete_store(store);
}

static void empty(struct fast_path *q) {
  void *store = q->ready.store;
  q->ready.store = NULL;
  if (store && !q->host->dead)
    delete_store(store);
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

/* While nothing else is to be done. */
void clean_up(struct engine *e) {
  struct fast_path *q = e->most_recent;
  e->most_recent = NULL;
  e->cleanup_scheduled = false;
  e->busy = e->asked - e->asked_at_cleanup > 1 ? BUSY : 0; /* several came in one turn of the loop */
  e->asked_at_cleanup = e->asked;
  if (e->dead)
    return;
  delete_pending(e);
  if (!q || q->ready.store || q->module->closed || q->plan->cpu_score >= CPU_THRESHOLD)
    return;
  struct scratch s;
  if (make(&s, q->plan, 0)) { /* a request finds out why */
    drop_failure(&s);
    delete_store(s.store);
    return;
  }
  if (!q->slot)
    find_slot(e, q);
  q->ready = (struct instance){s.store, s.context, {s.instance[0], s.instance[1]}, s.io, s.main};
}

/* Before its memory is freed. */
void swasm_forget_fast_path(struct fast_path *q) {
  struct engine *e = q->host;
  if (e->most_recent == q)
    e->most_recent = NULL;
  if (q->slot)
    e->prepared[q->slot - 1] = NULL;
  q->slot = 0;
  empty(q);
}

void swasm_forget_module(struct engine *e, const struct module *m) {
  delete_pending(e);
  for (int i = 0; i < PREPARED; i++)
    if (e->prepared[i] && e->prepared[i]->module == m)
      swasm_forget_fast_path(e->prepared[i]);
}

void swasm_forget_all(struct engine *e) {
  delete_pending(e);
  for (int i = 0; i < PREPARED; i++)
    if (e->prepared[i])
      swasm_forget_fast_path(e->prepared[i]);
}
