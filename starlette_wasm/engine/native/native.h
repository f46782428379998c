/* What invoke.c, prepared.c and fast_path.c share. Needs no header but the C library's. */

#ifndef HOT_H
#define HOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPARE 8192

struct extern_ {
  uint8_t kind;
  uint64_t of[3];
};

/* capi.ScratchMemory mirrors this. */
struct scratch {
  void *trap, *error;
  struct extern_ io, main, table, other, value;
  uint64_t instance[2];
  char *name;
  size_t length;
  void *store, *context, *future;
  uint8_t *base;
  uint64_t ran_ns;
  uint32_t pages, out_len;
  char out[SPARE];
};

/* hot.ModuleMemory, hot.EngineMemory, hot.PlanMemory and hot.QuickMemory mirror what follows. What changes in it is
   read and written with the GIL held. */
struct module {
  uint32_t live, closed; /* guests of fast_path.c that run; whether none may begin */
};

enum { PREPARED = 16 };

struct engine {
  struct scratch *scratch; /* for the next request; NULL while one has it */
  struct quick *last;      /* which a request had last, where an instance for the next is worth its while */
  struct quick *prepared[PREPARED];
  void *spent;          /* the store of a guest that has ended, yet to be deleted */
  uint32_t live, most;  /* guests under way, and how many may be */
  uint32_t places;      /* of ``prepared``, that may be used */
  uint32_t turns;       /* how many may begin until the ticker is looked after; 0 where it rests */
  uint32_t dead;        /* the parent's, in a forked child */
  uint32_t asked, hand; /* requests so far; where in ``prepared`` to look next */
  uint32_t due;         /* whether sweep() is about to be called */
  uint32_t swept, busy; /* ``asked`` at the last sweep(); for how many requests none is worth its while */
};

struct plan {
  void *engine, *pre;
  int64_t bound, table_elements, tables;
  uint32_t environ_at, out_cap, err_cap;
  uint32_t heavy; /* microseconds, see loop_time.py */
};

/* Of a scratch, what there is before a request comes. */
struct made {
  void *store, *context;
  uint64_t instance[2];
  struct extern_ io, main;
};

struct quick {
  struct plan *plan;
  struct engine *host;
  struct module *module;
  const char *tail, *about, *offsets, *environ;
  uint32_t tail_len, about_len, variables, environ_len;
  uint64_t resolution;
  uint32_t reads_environ, reads_clock, reads_random;
  uint32_t pages;             /* of the guest's memory, at first */
  uint32_t asked, used, place; /* when last; since ``hand`` came by; in ``prepared``, from 1 on, or 0 */
  struct made ready;          /* prepared, where its store is not NULL */
};

enum { NOT_GROWN = -2, NOT_MADE = -1, PAUSED = 0, ENDED = 1, ENDED_WELL = 2 };
enum { HEAVY = 10000, FREE_NS = 250000 }; /* loop_time.BUDGET_US, and FREE_US in nanoseconds */

/* What is not for Python is not to be found by the linker, nor mixed up with what others call so. */
#pragma GCC visibility push(hidden)

/* invoke.c */
int make(struct scratch *s, const struct plan *plan, uintptr_t data, size_t more);
int fill(struct scratch *s, const struct plan *plan, const char *tail, uint32_t tail_len, const char *environ,
         size_t environ_len, const char *input, size_t input_len);
int poll_guest(struct scratch *s);
void limit(void *store, const struct plan *plan, size_t more);
void delete_store(void *store);
size_t io_size(const struct scratch *s);
void drop_failure(struct scratch *s);

/* prepared.c */
bool take(struct scratch *s, struct quick *q);
bool small(const struct quick *q, const struct scratch *s);
void tidy(struct engine *e);
void sweep(struct engine *e);

#pragma GCC visibility pop

/* For Python, of prepared.c. */
void forget_quick(struct quick *q);
void forget_module(struct engine *e, const struct module *m);
void forget_all(struct engine *e);

#endif
