/* A request from the ASGI scope to the guest's stdin, and what it printed to ASGI's headers and body, in one call, for
   what is common: request.c writes the one, answer.c reads the other. It never refuses anything: what is unusual, right
   or wrong, is left to Python, whose messages.py, edge.py, jsonscan.py and headers.py decide what is right. A test holds
   the two together.

   The GIL is held but while the guest runs, so that what is static, and is read before that, needs no lock. A guest
   that has not ended when the epoch ticks is handed to Python, and one that could call into Python is not run here. */

#include "text.h"

#include <time.h>
#ifdef __APPLE__
#include <sys/random.h>
#else
#include <unistd.h>
#endif

/* layout.FIELDS */
enum { ARGUMENTS = 88, STARTED = 104, REALTIME = 112, MONOTONIC = 120, RANDOM_KEY = 160 };

static struct text message, variables; /* behind the environment the arguments, if they are of the request */

uint64_t coarse(clockid_t clock, uint64_t resolution) {
  struct timespec now;
  clock_gettime(clock, &now);
  uint64_t ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  return ns - ns % resolution;
}

/* A guest may not get a key that another had. */
static void set_clocks_and_key(const struct scratch *s, const struct fast_path *q, const uint8_t *key) {
  if (q->reads_clock || q->reads_random) {
    uint64_t monotonic = coarse(STEADY, q->resolution), realtime = coarse(CLOCK_REALTIME, q->resolution);
    memcpy(s->base + STARTED, &monotonic, sizeof monotonic);
    memcpy(s->base + MONOTONIC, &monotonic, sizeof monotonic);
    memcpy(s->base + REALTIME, &realtime, sizeof realtime);
  }
  if (q->reads_random)
    memcpy(s->base + RANDOM_KEY, key, 32);
}

static bool read_arguments(struct request *request, PyObject *const *args) {
  request->scope = args[0];
  request->params = args[2];
  request->traceparent.len = request->tracestate.len = 0;
  return of_str(args[1], &request->path) && of_bytes(args[3], &request->body) && of_str(args[4], &request->region) &&
         (args[5] == Py_None || of_str(args[5], &request->traceparent)) &&
         (args[6] == Py_None || of_str(args[6], &request->tracestate));
}

/* What the guest reads. ``arguments`` is where among the variables its arguments begin. */
static bool put_inputs(const struct fast_path *q, struct request *request, size_t *arguments) {
  static const uint32_t no_strings[] = {0, 0};
  message.len = variables.len = 0;
  if (!put_message(&message, q, request) ||
      !(q->reads_environ ? put_environ(&variables, q, request) : put(&variables, no_strings, sizeof no_strings)))
    return false;
  *arguments = variables.len;
  return !q->reads_args || put_arguments(&variables, request);
}

/* Make the guest of a request, with its message and environment in place. */
static int begin(struct scratch *s, const struct fast_path *q, bool prepared) {
  size_t more = message.len + variables.len;
  int how = 0;
  if (prepared)
    limit(s->store, q->plan, more);
  else
    how = make(s, q->plan, 0, more);
  return how ? how
             : fill(s, q->plan, q->template, q->template_len, (const char *)variables.at, variables.len,
                    (const char *)message.at, message.len);
}

/* Delete the store of a guest that has ended well: soon, if that takes no time, else now; or leave it to reclaim.py. */
static void end(struct engine *e, const struct fast_path *q, struct scratch *s, void *left) {
  if (left)
    return;
  if (small(s, q->plan)) {
    delete_pending(e);
    e->pending_delete = s->store;
  } else {
    void *thread = PyEval_SaveThread();
    delete_store(s->store);
    PyEval_RestoreThread(thread);
  }
  s->store = NULL;
}

/* The answer of a guest that has ended well. NULL if it is left to Python; ``how`` is then where it is. */
static PyObject *ended(struct engine *e, const struct fast_path *q, struct scratch *s, const struct request *request,
                       bool due, int *how) {
  PyObject *found = NULL;
  void *left = memory_of(s, q->plan) > LIGHT ? s->store : NULL;
  if (s->out_len <= LARGEST)
    found = answer(s, (struct span){output(s), s->out_len}, request, q->protocol, due, left);
  if (!found && !take(s)) {
    *how = EXITED; /* it is read where it is */
    return NULL;
  }
  drop_future(s);
  end(e, q, s, left);
  return found;
}

/* Run a guest until it ends or the epoch ticks. One that the tick may have met by chance has one more: the guests before
   it were short, or it has had little of a CPU, for which the process waited. Not if it is to see the time pass. */
static int run_guest(struct scratch *s, const struct fast_path *q) {
  int how = poll_guest(s, q->plan);
  bool by_chance = q->plan->calm == CALM || s->ran_ns < FREE_NS;
  return how == PAUSED && by_chance && !q->reads_clock ? poll_again(s, q->plan) : how;
}

/* As LoopTime.add(). */
static void count_time(struct plan *plan, uint64_t ran_ns) {
  if (ran_ns <= FREE_NS) {
    plan->calm += plan->calm < CALM;
    return;
  }
  uint64_t used = (ran_ns - FREE_NS) / 1000;
  if (plan->calm == CALM && used > LONE)
    used = LONE;
  plan->calm = 0;
  if (plan->cpu_score < CPU_THRESHOLD)
    plan->cpu_score += (uint32_t)used;
}

/* The functions of Python that are made with an address: of a struct fast_path, or a struct engine. */

/* The place and the scratch of a guest for which Python has no memory left, so that nobody goes on with it. */
static void give_back(struct engine *e, struct scratch *s) {
  drop_future(s);
  drop_failure(s);
  if (s->store)
    delete_store(s->store);
  s->store = NULL;
  e->live--;
  e->scratch = s;
}

/* dispatch(scope, path, params, body, region, traceparent, tracestate). None: nothing was done. (status, headers, body,
   ns, pages, traceparent, due, left): the guest has ended well; with ``due`` clean_up() is to be called soon, and ``left`` is its
   store, if that is yet to be freed. (how, request id): it has started, and Python goes on with the engine's scratch,
   which it replaces, and with the place among the engine's guests.
   Raises MemoryError, with the guest dropped, if there is no room for either. */
static PyObject *dispatch(PyObject *self, PyObject *const *args, ssize_t count) {
  struct fast_path *q = PyLong_AsVoidPtr(self);
  struct request request;
  if (count != 7 || !q || !ready())
    return none();
  struct engine *e = q->host;
  struct scratch *s = e->scratch;
  if (!s || !e->starts_until_check || e->live >= e->most || q->module->closed || q->plan->cpu_score >= CPU_THRESHOLD)
    return none();
  uint8_t key[32];
  size_t arguments;
  if (!read_arguments(&request, args) || !put_inputs(q, &request, &arguments) ||
      (q->reads_random && getentropy(key, sizeof key))) {
    let_go(&message);
    return none();
  }

  e->starts_until_check--;
  delete_pending(e); /* the next one gets its memory, which is in the cache */
  int how = begin(s, q, acquire_prepared(s, q));
  let_go(&message);
  e->live++;
  if (!how) {
    set_clocks_and_key(s, q, key);
    if (q->reads_args) {
      uint32_t at = q->plan->environ_at + (uint32_t)arguments;
      memcpy(s->base + ARGUMENTS, &at, sizeof at);
    }
    e->scratch = NULL;
    q->module->live++;
    void *thread = PyEval_SaveThread(); /* one long instruction of the guest must not hold up other threads */
    how = run_guest(s, q);
    PyEval_RestoreThread(thread);
    q->module->live--;
  }
  PyObject *found = NULL;
  bool due = !e->cleanup_scheduled && !e->busy;
  e->busy -= e->busy > 0;
  if (how == COMPLETED && (found = ended(e, q, s, &request, due, &how))) {
    e->cleanup_scheduled |= due;
    e->live -= !s->store; /* one that is yet to be freed keeps its place */
    count_time(q->plan, s->ran_ns);
    e->scratch = s;
    return found;
  }
  PyErr_Clear();
  e->scratch = NULL;
  PyObject *number = PyLong_FromLong(how);
  PyObject *name = PyUnicode_FromStringAndSize((const char *)request.id, (ssize_t)request.id_len);
  found = number && name ? PyTuple_Pack(2, number, name) : NULL;
  drop(number);
  drop(name);
  if (!found)
    give_back(e, s);
  return found;
}

/* clean_up(): what is to be done once the answer is out. */
static PyObject *clean_up_engine(PyObject *self, PyObject *const *args, ssize_t count) {
  (void)args;
  (void)count;
  clean_up(PyLong_AsVoidPtr(self));
  return none();
}

static PyMethodDef dispatch_method = {"dispatch", dispatch, METH_FASTCALL, NULL},
                   follows_method = {"follows", follows, METH_FASTCALL, NULL},
                   clean_up_method = {"clean_up", clean_up_engine, METH_FASTCALL, NULL};

/* With the GIL held: the functions for Python. */
PyObject *swasm_follows_function(void) { return PyCFunction_NewEx(&follows_method, NULL, NULL); }
PyObject *swasm_dispatch_function(PyObject *fast_path) { return PyCFunction_NewEx(&dispatch_method, fast_path, NULL); }
PyObject *swasm_clean_up_function(PyObject *engine) { return PyCFunction_NewEx(&clean_up_method, engine, NULL); }
