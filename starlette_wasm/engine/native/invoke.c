/* What instance.py does for each request, in one call instead of eighteen: make a store and an instance, put the
   input in place, run the guest to its end or first pause, take its output, drop the store. The same steps in the
   same order; if a guest ends in any other way than well, Python goes on from where this stops. And the thread of
   ticker.py, which needs no GIL here.

   Needs no header but the C library's. The functions of wasmtime are given by their addresses, in the order of native.h. */

#include "native.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PAGE 65536
#define IO 32768 /* layout.IO */
#define NO_DEADLINE ((uint64_t)1 << 40)

/* layout.RESULTS */
struct results {
  uint32_t in_ptr, in_len, in_pos, out_ptr, out_len, out_cap, err_ptr, err_len, err_cap;
  uint32_t overflow, exit, exit_code, refused, refused_pages, denials, open_fds;
  uint64_t dropped;
  uint32_t pages;
};

struct wasmtime_functions wasmtime;

const char swasm_source[] = SOURCE; /* the SHA-256 of all sources */
#define AT(kind, field) offsetof(struct kind, field)
/* library.py compares it with its own structures: the size of each, and where each field begins. */
const size_t swasm_layout[] = {
    sizeof(struct scratch), AT(scratch, trap), AT(scratch, error), AT(scratch, io), AT(scratch, main),
    AT(scratch, memory), AT(scratch, table), AT(scratch, other), AT(scratch, value), AT(scratch, instance), AT(scratch, name),
    AT(scratch, length), AT(scratch, store), AT(scratch, context), AT(scratch, future), AT(scratch, base),
    AT(scratch, ran_ns), AT(scratch, pages), AT(scratch, out_len), AT(scratch, asked), AT(scratch, arguments),
    AT(scratch, answered), AT(scratch, result), AT(scratch, uses), AT(scratch, given), AT(scratch, given_len), AT(scratch, results),
    AT(scratch, out),
    sizeof(struct host_function), AT(host_function, name), AT(host_function, slot),
    sizeof(struct grant), AT(grant, host), AT(grant, guest), AT(grant, writable),
    sizeof(struct module), AT(module, live), AT(module, closed), AT(module, first), AT(module, first_size),
    AT(module, filled), AT(module, is_image), AT(module, unchecked), AT(module, faulty), AT(module, fault_in_io),
    AT(module, fault_at),
    sizeof(struct engine), AT(engine, scratch), AT(engine, most_recent), AT(engine, prepared),
    AT(engine, pending), AT(engine, pending_of), AT(engine, compared), AT(engine, compared_of),
    AT(engine, compared_to), AT(engine, live), AT(engine, most), AT(engine, slots),
    AT(engine, starts_until_check), AT(engine, dead), AT(engine, asked), AT(engine, clock_hand),
    AT(engine, cleanup_scheduled), AT(engine, asked_at_schedule), AT(engine, asked_at_cleanup), AT(engine, busy),
    AT(engine, late),
    AT(engine, restored), AT(engine, unrestored), AT(engine, pagemap), AT(engine, check_every), AT(engine, checks), AT(engine, faults),
    AT(engine, unreported), AT(engine, report),
    sizeof(struct pagemap), AT(pagemap, descriptor), AT(pagemap, scans),
    sizeof(struct plan), AT(plan, engine), AT(plan, pre), AT(plan, linker), AT(plan, hosts), AT(plan, grants),
    AT(plan, host_count), AT(plan, grant_count), AT(plan, bound), AT(plan, table_elements),
    AT(plan, tables), AT(plan, tenant), AT(plan, environ_at), AT(plan, out_cap), AT(plan, err_cap),
    AT(plan, pages), AT(plan, cpu_score), AT(plan, calm), AT(plan, restores), AT(plan, spare),
    AT(plan, decayed_ns),
    sizeof(struct instance), AT(instance, store), AT(instance, context), AT(instance, instance), AT(instance, io),
    AT(instance, main), AT(instance, memory), AT(instance, uses),
    sizeof(struct fast_path), AT(fast_path, plan), AT(fast_path, host), AT(fast_path, module),
    AT(fast_path, template), AT(fast_path, suffix), AT(fast_path, offsets), AT(fast_path, environ),
    AT(fast_path, route), AT(fast_path, template_len), AT(fast_path, suffix_len), AT(fast_path, variables),
    AT(fast_path, environ_len), AT(fast_path, route_len), AT(fast_path, protocol), AT(fast_path, segments),
    AT(fast_path, own_names), AT(fast_path, resolution), AT(fast_path, reads_environ), AT(fast_path, reads_args),
    AT(fast_path, reads_clock), AT(fast_path, reads_random),
    AT(fast_path, asked), AT(fast_path, used), AT(fast_path, slot), AT(fast_path, ready),
    sizeof(struct component), AT(component, asked), AT(component, answered), AT(component, number),
    AT(component, frame), AT(component, quick), AT(component, pending), AT(component, result), AT(component, phase),
    AT(component, returned), AT(component, calls), AT(component, resolution), AT(component, quick_calls),
    AT(component, memories), AT(component, frames), AT(component, context), AT(component, memory),
    AT(component, realloc), AT(component, handle), AT(component, post_return), AT(component, scratch),
    AT(component, future), AT(component, input), AT(component, input_len), AT(component, slot), AT(component, lent),
    AT(component, http),
    AT(component, values),
    sizeof(struct quick_call), AT(quick_call, kind), AT(quick_call, self), AT(quick_call, other), AT(quick_call, given),
    AT(quick_call, size), AT(quick_call, payload), AT(quick_call, alignment), AT(quick_call, of_handler),
    sizeof(struct span), AT(span, at), AT(span, len),
    sizeof(struct http_handle), AT(http_handle, resource), AT(http_handle, object),
    sizeof(struct http_object), AT(http_object, kind), AT(http_object, flags), AT(http_object, of), AT(http_object, status),
    sizeof(struct http_field), AT(http_field, name), AT(http_field, value), AT(http_field, of),
    sizeof(struct http), AT(http, open), AT(http, handles), AT(http, freed), AT(http, objects), AT(http, fields),
    AT(http, text_len), AT(http, body_len), AT(http, body_of), AT(http, response), AT(http, spent), AT(http, most),
    AT(http, pieces), AT(http, placed), AT(http, input_is_whole), AT(http, declared), AT(http, input_at),
    AT(http, input), AT(http, method), AT(http, scheme), AT(http, authority),
    AT(http, path), AT(http, environ), AT(http, arguments), AT(http, headers), AT(http, header_count), AT(http, handle),
    AT(http, free), AT(http, object), AT(http, field), AT(http, piece), AT(http, place), AT(http, text), AT(http, body),
    sizeof(struct lent), AT(lent, numbers), AT(lent, input), AT(lent, output), AT(lent, is_empty), AT(lent, unused), AT(lent, from),
    AT(lent, taken), AT(lent, left), AT(lent, to), AT(lent, put), AT(lent, room), AT(lent, asked),
    sizeof(struct first_state), AT(first_state, context), AT(first_state, memory), AT(first_state, bytes),
    AT(first_state, size), AT(first_state, global), AT(first_state, value), AT(first_state, most), AT(first_state, trimmed),
    AT(first_state, put_back), AT(first_state, memories), AT(first_state, globals),
    sizeof(struct keeper), AT(keeper, unchecked), AT(keeper, restored), AT(keeper, faulty),
    sizeof(struct kept), AT(kept, component), AT(kept, first), AT(kept, engine), AT(kept, keeper), AT(kept, store),
    AT(kept, claimed), AT(kept, discarded), AT(kept, dirty), AT(kept, uses), AT(kept, plain_until), AT(kept, used_at),
    sizeof(struct component_path), AT(component_path, path), AT(component_path, kept), AT(component_path, arguments),
    AT(component_path, free_ns), AT(component_path, request), AT(component_path, outparam),
};
const size_t swasm_layout_len = sizeof swasm_layout / sizeof *swasm_layout, swasm_functions_len = sizeof wasmtime / sizeof(void *);

void swasm_bind(void *const *functions) { memcpy(&wasmtime, functions, sizeof wasmtime); }

void limit(void *store, const struct plan *plan, size_t more) {
  wasmtime.store_limiter(store, plan->bound + (int64_t)more, plan->table_elements, 1, plan->tables, 2);
}

void delete_store(void *store) { wasmtime.store_delete(store); }

void instance_of(struct instance *in, const struct scratch *s) {
  *in = (struct instance){s->store, s->context, {s->instance[0], s->instance[1]}, s->io, s->main, s->memory, s->uses};
}

/* Bytes of both memories of a guest that has ended well. */
size_t memory_of(const struct scratch *s, const struct plan *plan) {
  size_t pages = plan->pages > s->pages ? plan->pages : s->pages;
  return pages * PAGE + wasmtime.memory_data_size(s->context, s->io.of);
}

void drop_failure(struct scratch *s) {
  if (s->error)
    wasmtime.error_delete(s->error);
  if (s->trap)
    wasmtime.trap_delete(s->trap);
  s->error = s->trap = NULL;
}

/* The guest's memory, with the pages that it is to have to spare. */
static bool find_memory(struct scratch *s, const struct plan *plan) {
  uint64_t before;
  wasmtime.export_nth(s->context, s->instance, GUEST_MEMORY, &s->name, &s->length, &s->memory);
  if (plan->spare)
    s->error = wasmtime.memory_grow(s->context, s->memory.of, plan->spare, &before);
  return !s->error;
}

/* A store and an instance, for an input of ``more`` bytes, with what the host adds. INSTANTIATE_FAILED with scratch->error
   or ->trap set, or as add_host(), and the store left to the caller; else 0. */
int make(struct scratch *s, const struct plan *plan, size_t more) {
  s->trap = s->error = s->future = NULL;
  s->ran_ns = 0;
  s->uses = 0;
  forget_calls(s);
  s->store = wasmtime.store_new(plan->engine, s, NULL);
  s->context = wasmtime.store_context(s->store);
  limit(s->store, plan, more);
  wasmtime.set_epoch_deadline(s->context, NO_DEADLINE); /* instantiation runs none of the guest's code */
  s->error = wasmtime.pre_instantiate(plan->pre, s->context, s->instance, &s->trap);
  if (s->error || s->trap)
    return INSTANTIATE_FAILED;
  wasmtime.export_nth(s->context, s->instance, 0, &s->name, &s->length, &s->io);
  wasmtime.export_nth(s->context, s->instance, 1, &s->name, &s->length, &s->main);
  if (plan->restores && !find_memory(s, plan))
    return NOT_GROWN;
  return plan->host_count || plan->grant_count ? add_host(s, plan) : 0;
}

/* Its input. NOT_GROWN with scratch->error set; else 0. */
int fill(struct scratch *s, const struct plan *plan, const char *template, uint32_t template_len, const char *environ,
         size_t environ_len, const char *input, size_t input_len) {
  uint64_t in_at = plan->environ_at + environ_len, out_at = in_at + input_len;
  size_t has = s->uses ? wasmtime.memory_data_size(s->context, s->io.of) : IO; /* one that was restored may have grown */
  if (out_at > has - SPARE / 2) {
    uint64_t before; /* fails for what 32 bits do not reach */
    s->error = wasmtime.memory_grow(s->context, s->io.of, (out_at + SPARE + PAGE - 1) / PAGE * PAGE - has, &before);
    if (s->error)
      return NOT_GROWN;
  }
  s->base = wasmtime.memory_data(s->context, s->io.of);
  const uint32_t in = (uint32_t)in_at, out = (uint32_t)out_at, err = out + plan->out_cap;
  const uint32_t head[] = {in, (uint32_t)input_len, 0, out, 0, plan->out_cap, err, 0, plan->err_cap};
  memcpy(s->base, head, sizeof head);
  memcpy(s->base + sizeof head, template, template_len);
  memcpy(s->base + plan->environ_at, environ, environ_len);
  memcpy(s->base + in_at, input, input_len);
  return 0;
}

int swasm_begin(struct scratch *s, const struct plan *plan, const char *template, uint32_t template_len,
          const char *environ, size_t environ_len, const char *input, size_t input_len) {
  int failed = make(s, plan, input_len + environ_len);
  return failed ? failed : fill(s, plan, template, template_len, environ, environ_len, input, input_len);
}

/* Behind what a guest has printed there is nothing in its io memory, if it has logged nothing. */
uint64_t end_of_output(const uint8_t *io) {
  struct results said;
  memcpy(&said, io, sizeof said);
  return (uint64_t)said.out_ptr + said.out_len;
}

/* What a guest that has ended well printed, as long as its store is there. */
const uint8_t *output(const struct scratch *s) {
  struct results said;
  memcpy(&said, s->base, sizeof said);
  return s->base + said.out_ptr;
}

void drop_future(struct scratch *s) {
  if (s->future)
    wasmtime.future_delete(s->future);
  s->future = NULL;
}

/* Copy what it printed, if there is room for it; then only the store is left. */
bool take(struct scratch *s) {
  if (s->out_len > SPARE)
    return false;
  memcpy(s->out, output(s), s->out_len);
  drop_future(s);
  return true;
}

static uint64_t ns_of(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* How long a guest runs until it ends or the epoch ticks, which is its time of CPU if nothing else wanted the CPU. After a
   long one, or once there were many, it is that time itself, which takes two system calls: on a busy machine the process
   waits, and that is no work of the guest. */
struct timing begin_timing(bool in_doubt) {
  return (struct timing){in_doubt, in_doubt ? ns_of(CLOCK_THREAD_CPUTIME_ID) : 0, ns_of(CLOCK_MONOTONIC)};
}

uint64_t end_timing(const struct timing *t) {
  uint64_t ran = ns_of(CLOCK_MONOTONIC) - t->begin, cpu = t->in_doubt ? ns_of(CLOCK_THREAD_CPUTIME_ID) - t->cpu : ran;
  return cpu < ran ? cpu : ran;
}

static bool poll_timed(struct scratch *s, const struct plan *plan) {
  struct timing timing = begin_timing(plan->calm < CALM || plan->cpu_score >= DOUBT);
  bool ended = wasmtime.future_poll(s->future);
  s->ran_ns = end_timing(&timing);
  return ended;
}

/* PAUSED, EXITED, or COMPLETED: then out_len and pages hold the result, and take() or output() gives what it printed. */
static int come_to(struct scratch *s, bool ended) {
  if (!ended)
    return PAUSED;
  if (s->trap || s->error)
    return EXITED;

  /* The guest may have moved the io memory, if it is not pooled, and has written all that is read here. */
  s->base = wasmtime.memory_data(s->context, s->io.of);
  struct results said;
  memcpy(&said, s->base, sizeof said);
  if (said.err_len || said.dropped || said.denials || said.refused || said.out_len > said.out_cap)
    return EXITED;
  uint64_t end = (uint64_t)said.out_ptr + said.out_len;
  if (end > IO && end > wasmtime.memory_data_size(s->context, s->io.of))
    return EXITED;
  s->out_len = said.out_len;
  s->pages = said.pages;
  return COMPLETED;
}

int poll_guest(struct scratch *s, const struct plan *plan) {
  wasmtime.yield_on_epoch(s->context, 1);
  wasmtime.set_epoch_deadline(s->context, FIRST_POLL);
  s->future = wasmtime.func_call_async(s->context, s->main.of, NULL, 0, NULL, 0, &s->trap, &s->error);
  return come_to(s, poll_timed(s, plan));
}

/* One tick more for a guest that is PAUSED. */
int poll_again(struct scratch *s, const struct plan *plan) {
  uint64_t before = s->ran_ns;
  bool ended = poll_timed(s, plan);
  s->ran_ns += before;
  return come_to(s, ended);
}

/* As poll_guest(); if it is COMPLETED, ``out`` has what it printed, and the store is gone too, unless that takes long:
   see reclaim.py. */
int swasm_go(struct scratch *s, const struct plan *plan) {
  int how = poll_guest(s, plan);
  if (how == COMPLETED && !take(s))
    how = EXITED;
  if (how == COMPLETED && memory_of(s, plan) <= LIGHT) {
    wasmtime.store_delete(s->store);
    s->store = NULL;
  }
  return how;
}

int swasm_run(struct scratch *s, const struct plan *plan, const char *template, uint32_t template_len, const char *environ,
        size_t environ_len, const char *input, size_t input_len) {
  int failed = swasm_begin(s, plan, template, template_len, environ, environ_len, input, input_len);
  return failed ? failed : swasm_go(s, plan);
}

struct ticker {
  void *engine;
  long interval_ns;
  bool armed;
  pthread_mutex_t lock;
  pthread_cond_t changed;
};

static void *tick(void *given) {
  struct ticker *t = given;
  for (;;) {
    pthread_mutex_lock(&t->lock);
    while (!t->armed)
      pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    const struct timespec interval = {0, t->interval_ns};
    nanosleep(&interval, NULL);
    wasmtime.increment_epoch(t->engine);
  }
  return NULL;
}

/* A thread that increments the epoch of an engine while armed, for as long as the process lives; NULL if there can
   be none. It takes no signals. */
struct ticker *swasm_ticker_new(void *engine, long interval_ns) {
  struct ticker *t = calloc(1, sizeof *t);
  if (!t)
    return NULL;
  t->engine = engine;
  t->interval_ns = interval_ns;
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->changed, NULL);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 << 10);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  int failed = pthread_create(&thread, &attributes, tick, t);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) {
    free(t);
    return NULL;
  }
  return t;
}

void swasm_ticker_set(struct ticker *t, bool armed) {
  pthread_mutex_lock(&t->lock);
  t->armed = armed;
  pthread_cond_signal(&t->changed);
  pthread_mutex_unlock(&t->lock);
}
