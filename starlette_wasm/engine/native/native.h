/* What the files here share. Needs no header but the C library's. */

#ifndef NATIVE_H
#define NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#ifdef __APPLE__
#define STEADY CLOCK_UPTIME_RAW /* as time.monotonic() there */
#else
#define STEADY CLOCK_MONOTONIC
#endif
#define SPARE 8192
enum { MOST_ARGUMENTS = 4 };
enum { GUEST_MEMORY = 2, HOST_TABLE = 3 }; /* which exports of a linked module they are */
#define FIRST_POLL 2 /* ticks: one to two milliseconds, so that a quick guest never meets one by chance */

struct extern_ {
  uint8_t kind;
  uint64_t of[3];
};

struct span {
  const uint8_t *at;
  size_t len;
};

/* capi.ScratchMemory mirrors this. */
struct scratch {
  void *trap, *error;
  struct extern_ io, main, memory, table, other, value;
  uint64_t instance[2];
  char *name;
  size_t length;
  void *store, *context, *future;
  uint8_t *base;
  uint64_t ran_ns;
  uint32_t pages, out_len;
  /* host_calls.c: what the guest waits for, one of ASKED, or 0; what it is told; and what edge.take gives. */
  uint32_t asked, arguments[MOST_ARGUMENTS], answered;
  int32_t result;
  uint32_t uses; /* how many requests the instance has had, this one included */
  const uint8_t *given;
  size_t given_len;
  struct extern_ *results;
  char out[SPARE];
};

/* wasmtime_async_continuation_t */
struct continuation {
  bool (*callback)(void *);
  void *env;
  void (*finalizer)(void *);
};

enum ASKED { EDGE_CALL = 1, POLL_ONEOFF = 2 }; /* hostcall.ASKED */

/* native.HostFunction and native.Grant mirror these: a function that the host puts into a place of the guest's table. */
struct host_function {
  const char *name;
  uint32_t slot;
};

/* A directory that is granted. */
struct grant {
  const char *host, *guest;
  uint32_t writable;
};

enum { LIGHT = 4 << 20 }; /* reclaim.SMALL */
enum { BLOCK = 4096, FILLED = LIGHT / BLOCK / 64 };

/* native.ModuleState, native.EngineState, native.PlanState and native.FastPathState mirror what follows. What changes in it is
   read and written with the GIL held. */
struct module {
  uint32_t live, closed;    /* guests of fast_path.c that run; whether none may begin */
  const uint8_t *first;     /* the guest's memory before any code of it runs; NULL if nothing is restored to that yet */
  uint64_t first_size;
  uint64_t filled[FILLED];  /* a bit for each block of it that is not all zeros */
  uint32_t is_image;        /* whether a memory that is given back to the kernel is that again: wasmtime maps an image */
  uint32_t unchecked;       /* instances that were restored since one was compared with the first state */
  uint32_t faulty;          /* whether one was not that, so that none is restored any more; 2 once that is reported */
  uint32_t fault_in_io;     /* in which memory, and at which byte */
  uint64_t fault_at;
};

/* The part of a scratch that exists before a request comes. */
struct instance {
  void *store, *context;
  uint64_t instance[2];
  struct extern_ io, main, memory;
  uint32_t uses;
};

enum { PREPARED = 16 };

/* The process's own page tables: a descriptor, or -1 if they cannot be read, and whether the kernel can scan them. */
struct pagemap {
  int32_t descriptor;
  uint32_t scans;
};

struct engine {
  struct scratch *scratch; /* for the next request; NULL while one has it */
  struct fast_path *most_recent;      /* which a request had last, if an instance for the next is worth its while */
  struct fast_path *prepared[PREPARED];
  struct instance pending;       /* of a guest that has ended well: to be restored, or deleted */
  struct fast_path *pending_of;  /* whose it was; NULL if that is gone */
  struct instance compared;      /* one that was restored, and is compared with its first state, some at a time */
  struct module *compared_of;    /* of which module it is */
  uint64_t compared_to;          /* how many bytes of its memories were */
  uint32_t live, most;  /* guests under way, and how many may be */
  uint32_t slots;      /* of ``prepared``, that may be used */
  uint32_t starts_until_check;       /* how many may begin until the ticker is looked after; 0 where it rests */
  uint32_t dead;        /* the parent's, in a forked child */
  uint32_t asked, clock_hand; /* requests so far; where in ``prepared`` to look next */
  uint32_t cleanup_scheduled;         /* whether clean_up() is about to be called */
  uint32_t asked_at_schedule;         /* ``asked`` when that was scheduled */
  uint32_t asked_at_cleanup, busy; /* ``asked`` at the last clean_up(); for how many requests none is worth its while */
  uint32_t late; /* large stores that are yet to be freed: Reclaimer.late has whose */
  uint32_t restored;               /* instances so far that were brought back */
  struct kept *unrestored;         /* of a component that has answered last, to be brought back: component_path.c */
  struct pagemap pagemap;
  uint32_t check_every;            /* after how many restored instances of a function one is compared; 0 for never */
  uint32_t checks, faults;         /* how many were compared, and how many of them were not as at first */
  uint32_t unreported;             /* whether ``report`` is to be called, with the GIL held, for modules that are faulty */
  void (*report)(void);
};

struct plan {
  void *engine, *pre, *linker;
  const struct host_function *hosts;
  const struct grant *grants;
  uint32_t host_count, grant_count;
  int64_t bound, table_elements, tables;
  uint64_t tenant; /* a hash of Plan.tenant */
  uint32_t environ_at, out_cap, err_cap;
  uint32_t pages; /* of the guest's memory, at first */
  uint32_t cpu_score; /* microseconds, see loop_time.py */
  uint32_t calm;      /* invocations since one took longer than is free, up to CALM */
  uint32_t restores;  /* whether instances are restored */
  uint32_t spare;     /* pages that the guest's memory has beyond what the guest sees: it grows into them */
  uint64_t decayed_ns; /* when some of cpu_score was last forgotten, by STEADY */
};

struct fast_path {
  struct plan *plan;
  struct engine *host;
  struct module *module;
  const char *template, *suffix, *offsets, *environ, *route;
  uint32_t template_len, suffix_len, variables, environ_len, route_len;
  uint32_t protocol;  /* EDGE, WWS, CGI or HTTP */
  uint32_t segments;  /* CGI: how many segments the route matches, or NO_SEGMENTS if that is the whole path */
  uint32_t own_names; /* whether the guest gets EDGE_REQUEST_ID and EDGE_REGION */
  uint64_t resolution;
  uint32_t reads_environ, reads_args, reads_clock, reads_random; /* arguments: only those that are of the request */
  uint32_t asked, used, slot; /* when last; since ``clock_hand`` came by; in ``prepared``, from 1 on, or 0 */
  struct instance ready;          /* prepared, if its store is not NULL */
};

/* How a function of the host is answered without Python; native.QuickCall mirrors it. Resources are numbers within one
   component, 0 for none. */
struct quick_call {
  uint8_t kind;
  uint8_t self, other, given;       /* the resource of the first handle, of a second one, and of the one that is given */
  uint8_t size, payload, alignment; /* of a result that is written to memory, and where in it the payload begins */
  uint8_t of_handler;               /* whether the instance that handles requests calls it */
};

/* native.HttpHandle, HttpObject, HttpField and HttpState mirror what follows: what wasi_http.c knows of a request. */
enum { HTTP_HANDLES = 64, HTTP_FIELDS = 128, HTTP_TEXT = 8 << 10, HTTP_BODY = 64 << 10 };
enum { HTTP_PIECES = 2 * HTTP_FIELDS + 1 };

struct http_handle {
  uint16_t resource, object; /* both 0 for one that is free */
};

struct http_object {
  uint16_t kind, flags;
  uint16_t of;     /* another object: see wasi_http.c */
  uint16_t status; /* of a response */
};

struct http_field {
  struct span name, value;
  uint64_t of; /* the object that has it */
};

struct http {
  uint32_t open;                                      /* whether calls are answered here */
  uint32_t handles, freed, objects, fields, text_len; /* how many there are */
  uint32_t body_len, body_of;                         /* what was written, and the object of the body */
  uint32_t response;                                  /* the object of the response, if that was given */
  uint32_t spent;                                     /* what fields take that the guest has made */
  uint32_t most;                                      /* bytes of the body */
  uint32_t pieces, placed;                            /* of a result that needs room, and how many have some */
  uint32_t input_is_whole;                            /* whether nothing more of the request's body will come */
  int64_t declared;                                   /* the length of the body; -1 if the guest has given none */
  uint64_t input_at;                                  /* how much was read of ``input`` */
  struct span input;                                  /* the body of the request, as far as it has come */
  struct span method, scheme, authority, path, environ, arguments;
  const uint8_t *headers;       /* of the request: lengths of name and value, and the bytes */
  uint64_t header_count;
  struct http_handle handle[HTTP_HANDLES + 1]; /* from 1 on, as objects */
  uint16_t free[HTTP_HANDLES];                 /* handles to be used again, the last first */
  struct http_object object[HTTP_HANDLES + 1];
  struct http_field field[HTTP_FIELDS];
  struct span piece[HTTP_PIECES];
  uint32_t place[HTTP_PIECES];
  uint8_t text[HTTP_TEXT], body[HTTP_BODY];
};

/* What is lent to streams.c of the streams of a request: native.Lent mirrors it. */
struct lent {
  uint32_t numbers[4];      /* the function, from 1 on, with which each is done that READ to READ_NOW name */
  uint32_t input, output;   /* handles of the streams */
  uint32_t is_empty;        /* whether there is nothing to be read now, but may be later */
  uint32_t unused;
  const uint8_t *from;      /* bytes to be read, of which some are taken, and some left */
  uint64_t taken, left;
  uint8_t *to;              /* where bytes are put that the guest writes, and for how many there is room */
  uint64_t put, room;
  uint64_t asked;           /* for how many the guest gives room */
};

/* What component.c knows of the core instances of a component, in one store, whose data it is.
   native.ComponentState mirrors it. One thread at a time has it. */
struct component {
  uint32_t asked, answered; /* whether the guest waits for the host, and whether there is a result for it */
  uint32_t number, frame;   /* which function it has called, and where its frame is in the memory of the glue */
  uint32_t quick;           /* whether calls may be answered here */
  uint32_t pending;         /* the frame of a call that is answered in two steps, and one */
  uint32_t result;          /* what the glue is to do next */
  uint32_t phase;           /* of a call of handle */
  uint32_t returned;        /* what handle has returned */
  uint32_t calls;           /* how many were answered here */
  uint64_t resolution;
  const struct quick_call *quick_calls;   /* how each function of the host is answered */
  const struct extern_ *const *memories;  /* what memory it works on */
  uint8_t *frames;
  void *context;
  const struct extern_ *memory, *realloc, *handle, *post_return; /* of handle */
  struct scratch *scratch;
  void *future;
  const char *input;
  size_t input_len;
  struct extern_ *slot;
  struct lent *lent;   /* NULL if nothing is lent */
  struct http *http;   /* the request of a handler, if there is one */
  struct extern_ values[5];
};

/* What an instance that is restored gets back. native.FirstState mirrors it. */
struct first_state {
  void *context;
  const struct extern_ *const *memory; /* as many as ``memories`` says, and so on */
  const uint8_t *const *bytes;
  const uint64_t *size;
  const struct extern_ *const *global;
  const struct extern_ *value;
  uint64_t most; /* bytes that may have been written */
  uint64_t trimmed; /* up to which byte of all memories pages were given back; as many as they have, or more: no more are */
  uint64_t put_back; /* bytes that were put back the last time */
  uint32_t memories, globals;
};

/* What all instances that are kept of one component share. native.KeeperState mirrors it. */
struct keeper {
  uint32_t unchecked; /* restored since one was compared with its first state */
  uint32_t restored;  /* how many requests had one that was restored */
  uint32_t faulty;    /* whether one was not as at first */
};

/* An instance of a component between two requests. native.KeptState mirrors it. */
struct kept {
  struct component *component;
  struct first_state *first;
  struct engine *engine;
  struct keeper *keeper;
  void *store;           /* NULL once it is deleted */
  uint32_t claimed;      /* whether somebody uses it, or it is deleted */
  uint32_t discarded;    /* whether it is to be deleted by whoever uses it */
  uint32_t dirty;        /* whether it is to be brought back before it is used */
  uint32_t uses;         /* how often it was brought back */
  uint32_t plain_until;  /* before which use Python is to bring it back */
  uint32_t used_at;      /* engine.asked when that was last */
};

/* What component_path.c has beside a fast path. native.ComponentPathState mirrors it. */
struct component_path {
  struct fast_path *path;
  struct kept *kept;          /* the instance that it uses, if nobody else does; NULL if there is none */
  struct span arguments;      /* of the plan */
  uint64_t free_ns;           /* how long a guest runs for nothing */
  uint32_t request, outparam; /* the resources of what a handler is given */
};

enum { ALLOCATING = 1, HANDLING, RETURNING }; /* phases; edge_call.PHASES */
enum { EDGE, WWS, CGI, HTTP }; /* fast_path.PROTOCOLS */
enum { NO_SEGMENTS = 0xffff };
enum { NOT_GRANTED = -3, NOT_GROWN = -2, INSTANTIATE_FAILED = -1, PAUSED = 0, EXITED = 1, COMPLETED = 2 };
enum { CPU_THRESHOLD = 10000, FREE_NS = 250000 }; /* loop_time.BUDGET_US, and FREE_US in nanoseconds */
enum { FREE_NS_PER_KIB = 512 }; /* loop_time.FREE_NS_PER_KIB */
enum { CALM = 64, LONE = 500 };                   /* loop_time.CALM and LONE_US */
enum { DOUBT = CPU_THRESHOLD / 2 }; /* from which cpu_score on each guest's time of CPU is measured */
#define HALF_LIFE_NS 2000000000     /* loop_time.HALF_LIFE */

/* What is not for Python is not to be found by the linker, nor mixed up with what others call so. */
#pragma GCC visibility push(hidden)

/* invoke.c */
extern struct wasmtime_functions {
  void *(*store_new)(void *, void *, void *);
  void *(*store_context)(void *);
  void (*store_delete)(void *);
  void (*store_limiter)(void *, int64_t, int64_t, int64_t, int64_t, int64_t);
  void (*set_epoch_deadline)(void *, uint64_t);
  void (*yield_on_epoch)(void *, uint64_t);
  void *(*pre_instantiate)(const void *, void *, void *, void **);
  bool (*export_nth)(void *, const void *, size_t, char **, size_t *, struct extern_ *);
  void *(*memory_grow)(void *, const void *, uint64_t, uint64_t *);
  uint8_t *(*memory_data)(void *, const void *);
  size_t (*memory_data_size)(void *, const void *);
  void *(*func_call_async)(void *, const void *, const void *, size_t, void *, size_t, void **, void **);
  bool (*future_poll)(void *);
  void (*future_delete)(void *);
  void (*increment_epoch)(void *);
  void (*error_delete)(void *);
  void (*trap_delete)(void *);
  void *(*caller_context)(void *);
  void *(*context_data)(void *);
  void *(*global_set)(void *, const void *, const struct extern_ *);
  void (*context_set_data)(void *, void *);
  bool (*linker_get)(void *, void *, const char *, size_t, const char *, size_t, struct extern_ *);
  void *(*table_set)(void *, const void *, uint64_t, const struct extern_ *);
  void *(*wasi_config_new)(void);
  void (*wasi_config_delete)(void *);
  bool (*wasi_config_preopen_dir)(void *, const char *, const char *, bool);
  void *(*context_set_wasi)(void *, void *);
} wasmtime;
uint64_t coarse(clockid_t clock, uint64_t resolution);
struct timing {
  bool in_doubt;
  uint64_t cpu, begin;
};
struct timing begin_timing(bool in_doubt);
uint64_t end_timing(const struct timing *t);
int make(struct scratch *s, const struct plan *plan, size_t more);
int fill(struct scratch *s, const struct plan *plan, const char *template, uint32_t template_len, const char *environ,
         size_t environ_len, const char *input, size_t input_len);
int poll_guest(struct scratch *s, const struct plan *plan);
int poll_again(struct scratch *s, const struct plan *plan);
const uint8_t *output(const struct scratch *s);
uint64_t end_of_output(const uint8_t *io);
bool take(struct scratch *s);
void drop_future(struct scratch *s);
void limit(void *store, const struct plan *plan, size_t more);
void delete_store(void *store);
void instance_of(struct instance *in, const struct scratch *s);
size_t memory_of(const struct scratch *s, const struct plan *plan);
void drop_failure(struct scratch *s);

/* host_calls.c */
void forget_calls(struct scratch *s);
int add_host(struct scratch *s, const struct plan *plan);

/* prepared.c */
bool acquire_prepared(struct scratch *s, struct fast_path *q);
bool small(const struct scratch *s, const struct plan *plan);
void delete_pending(struct engine *e);
void settle_pending(struct engine *e, struct fast_path *q, bool idle);
void leave_pending(struct engine *e, struct fast_path *q, const struct scratch *s);
void clean_up(struct engine *e);

/* component_path.c */
void restore_unrestored(struct engine *e);

#pragma GCC visibility pop

/* restore.c */
void remember(struct module *m, const struct plan *plan, const struct scratch *s);
void forget_first(struct module *m);
bool may_restore(const struct engine *e, const struct fast_path *q, const struct scratch *s);
bool restore_pending(struct engine *e, const struct fast_path *q, bool idle);
void compare_some(struct engine *e);
void delete_compared(struct engine *e);

/* For Python, of prepared.c. */
void swasm_forget_fast_path(struct fast_path *q);
void swasm_forget_module(struct engine *e, struct module *m);
void swasm_forget_all(struct engine *e);

#endif
