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

enum { LOST = 256 }; /* requests after which clean_up() is not expected any more: the loop that was to call it has ended */
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

/* Those of dispatch(); if the caller wants an answer ``alone``, those of answer(). */
bool read_arguments(struct request *request, PyObject *const *args, bool alone) {
  request->edge = NULL;
  request->id_len = 0;
  request->alone = alone;
  request->head_alone = args[3] == Py_None;
  request->status_lines = request->server_headers = NULL;
  request->scope = args[0];
  request->params = args[2];
  request->body = (struct span){NULL, 0};
  request->traceparent.len = request->tracestate.len = 0;
  return of_str(args[1], &request->path) && (request->head_alone || of_bytes(args[3], &request->body)) &&
         of_str(args[4], &request->region) && (args[5] == Py_None || of_str(args[5], &request->traceparent)) &&
         (args[6] == Py_None || of_str(args[6], &request->tracestate));
}

bool put_inputs(struct inputs *in, const struct fast_path *q, struct request *request) {
  static const uint32_t no_strings[] = {0, 0};
  message.len = variables.len = in->arguments = 0;
  if (!put_message(&message, q, request) ||
      !(q->reads_environ ? put_environ(&variables, q, request) : put(&variables, no_strings, sizeof no_strings)))
    return false;
  if (q->reads_args) {
    in->arguments = variables.len;
    if (!put_arguments(&variables, request))
      return false;
  }
  in->message = (struct span){message.at, message.len};
  in->variables = (struct span){variables.at, variables.len};
  return true;
}

/* Once what was put is copied. */
void release_inputs(void) { let_go(&message); }

/* Make the guest of a request, with its message and environment in place. */
static int begin(struct scratch *s, const struct fast_path *q, const struct inputs *in, bool prepared) {
  size_t more = in->message.len + in->variables.len;
  int how = 0;
  if (prepared)
    limit(s->store, q->plan, more);
  else
    how = make(s, q->plan, more);
  if (!how && !prepared)
    remember(q->module, q->plan, s);
  if (!how)
    how = fill(s, q->plan, q->template, q->template_len, (const char *)in->variables.at, in->variables.len,
               (const char *)in->message.at, in->message.len);
  if (how)
    return how;
  set_clocks_and_key(s, q, in->key);
  if (in->arguments) {
    uint32_t at = q->plan->environ_at + (uint32_t)in->arguments;
    memcpy(s->base + ARGUMENTS, &at, sizeof at);
  }
  return 0;
}

/* Delete the store of a guest that has ended well: soon, if that takes no time, else now; or leave it to reclaim.py. */
static void end(struct engine *e, struct fast_path *q, struct scratch *s, void *left) {
  if (left)
    return;
  if (small(s, q->plan) || may_restore(e, q, s))
    leave_pending(e, q, s);
  else {
    void *thread = PyEval_SaveThread();
    delete_store(s->store);
    PyEval_RestoreThread(thread);
  }
  s->store = NULL;
}

/* (stdout, ns, pages, due, left) of a guest whose inputs Python wrote. */
static PyObject *printed(const struct scratch *s, bool due, void *left) {
  PyObject *parts[] = {PyBytes_FromStringAndSize((const char *)output(s), (ssize_t)s->out_len),
                       PyLong_FromSsize_t((ssize_t)s->ran_ns), PyLong_FromSsize_t((ssize_t)s->pages),
                       PyBool_FromLong(due), PyLong_FromVoidPtr(left)};
  return pack(parts, 5);
}

/* What a guest that has ended well printed: for ASGI, or if there is no request, as it is. NULL if it is left to Python;
   ``how`` is then where it is. */
static PyObject *ended(struct engine *e, struct fast_path *q, struct scratch *s, const struct request *request,
                       bool due, int *how) {
  PyObject *found = NULL;
  void *left = memory_of(s, q->plan) > LIGHT ? s->store : NULL;
  const struct span all = {output(s), s->out_len};
  if (is_soon_read(all))
    found = !request        ? printed(s, due, left)
            : request->edge ? response(s, all, request, q->protocol, due, left)
                            : answer(s, all, request, q->protocol, due, left);
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
  return how == PAUSED && !s->asked && by_chance && !q->reads_clock ? poll_again(s, q->plan) : how;
}

/* As in LoopTime, by whole half-lives, for a plan whose guests are measured until that is forgotten. */
static void decay(struct plan *plan) {
  uint64_t now = coarse(STEADY, 1);
  while (plan->cpu_score >= DOUBT && (int64_t)(now - plan->decayed_ns) >= HALF_LIFE_NS) {
    plan->cpu_score /= 2;
    plan->decayed_ns += HALF_LIFE_NS;
  }
}

/* As LoopTime.add(), of a guest of which so much is not counted. */
void count_time(struct plan *plan, uint64_t ran_ns, uint64_t free_ns) {
  bool was_calm = plan->calm == CALM && plan->cpu_score < DOUBT;
  if (plan->cpu_score >= DOUBT)
    decay(plan);
  if (ran_ns <= free_ns) {
    plan->calm += plan->calm < CALM;
    return;
  }
  uint64_t used = (ran_ns - free_ns) / 1000;
  if (was_calm && used > LONE)
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

/* The scratch for a guest that may begin now; NULL if none may. */
struct scratch *place(const struct fast_path *q) {
  struct engine *e = q->host;
  bool free = e->starts_until_check && e->live < e->most && !q->module->closed && q->plan->cpu_score < CPU_THRESHOLD;
  return free ? e->scratch : NULL;
}

/* Make a guest and run it. */
static int start(struct fast_path *q, struct scratch *s, const struct inputs *in) {
  struct engine *e = q->host;
  e->starts_until_check--;
  settle_pending(e, q, false);
  int how = begin(s, q, in, acquire_prepared(s, q));
  let_go(&message);
  s->uses++;
  e->live++;
  if (how)
    return how;
  e->scratch = NULL;
  q->module->live++;
  void *thread = PyEval_SaveThread(); /* one long instruction of the guest must not hold up other threads */
  how = run_guest(s, q);
  PyEval_RestoreThread(thread);
  q->module->live--;
  return how;
}

/* Whether clean_up() is to be called once the answer is out: for each request once. */
bool cleanup_is_due(struct engine *e) {
  bool expected = e->cleanup_scheduled && e->asked - e->asked_at_schedule < LOST;
  bool due = !expected && !e->busy;
  e->busy -= e->busy > 0;
  return due;
}

void schedule_cleanup(struct engine *e) {
  e->cleanup_scheduled = true;
  e->asked_at_schedule = e->asked;
}

/* Run a guest for a request, or if there is none, for inputs that Python wrote. What dispatch() and run() give. */
static PyObject *started(struct fast_path *q, struct scratch *s, const struct inputs *in, const struct request *request) {
  struct engine *e = q->host;
  size_t read = in->message.len;
  int how = start(q, s, in);
  PyObject *found = NULL;
  bool due = cleanup_is_due(e);
  if (how == COMPLETED && (found = ended(e, q, s, request, due, &how))) {
    if (due)
      schedule_cleanup(e);
    e->live -= !s->store; /* one that is yet to be freed keeps its place */
    count_time(q->plan, s->ran_ns, FREE_NS + (read + s->out_len) / 1024 * FREE_NS_PER_KIB);
    e->scratch = s;
    return found;
  }
  PyErr_Clear();
  e->scratch = NULL;
  PyObject *parts[] = {PyLong_FromLong(how), Py_None};
  if (request)
    parts[1] = PyUnicode_FromStringAndSize((const char *)request->id, (ssize_t)request->id_len);
  else
    Py_IncRef(Py_None);
  found = pack(parts, 2);
  if (!found)
    give_back(e, s);
  return found;
}

/* With ``http1`` status lines and headers of a server are behind the arguments. */
static PyObject *dispatched(struct fast_path *q, PyObject *const *args, bool alone, bool http1) {
  struct request request;
  struct inputs in;
  struct scratch *s = place(q);
  if (!s || !ready())
    return none();
  if (!read_arguments(&request, args, alone) || !put_inputs(&in, q, &request) ||
      (q->reads_random && getentropy(in.key, sizeof in.key))) {
    let_go(&message);
    return none();
  }
  if (http1) {
    request.status_lines = args[7];
    request.server_headers = args[8];
  }
  return started(q, s, &in, &request);
}

/* dispatch(scope, path, params, body, region, traceparent, tracestate). None: nothing was done. (status, headers, body,
   ns, pages, traceparent, due, left): the guest has ended well; with ``due`` clean_up() is to be called soon, and ``left`` is its
   store, if that is yet to be freed. (how, request id): it has started, and Python goes on with the engine's scratch,
   which it replaces, and with the place among the engine's guests.
   Raises MemoryError, with the guest dropped, if there is no room for either. */
static PyObject *dispatch(PyObject *self, PyObject *const *args, ssize_t count) {
  struct fast_path *q = PyLong_AsVoidPtr(self);
  return count == 7 && q ? dispatched(q, args, false, false) : none();
}

/* answer(scope, path, params, body, region, traceparent, tracestate): as dispatch(), but (status, headers, body) if the
   guest has ended well, and nothing is left to do. If ``body`` is None the request may have none: None as well if one may
   follow, or the head is too large. Nor is anything done while a large store of somebody's is yet to be freed.
   With two arguments more, the status lines of a server of HTTP/1.1 and its own headers, None and the bytes for the
   client may be in the place of headers and body. */
static PyObject *answer_alone(PyObject *self, PyObject *const *args, ssize_t count) {
  struct fast_path *q = PyLong_AsVoidPtr(self);
  return (count == 7 || count == 9) && q && !q->host->late ? dispatched(q, args, true, count == 9) : none();
}

static void drop_all(PyObject **objects, int count) {
  for (int i = 0; i < count; i++)
    drop(objects[i]);
}

/* call(request, region): as dispatch(), for an EdgeRequest whose response is one: what response() gives, or
   (how, request id). */
static PyObject *call(PyObject *self, PyObject *const *args, ssize_t count) {
  struct fast_path *q = PyLong_AsVoidPtr(self);
  struct request request;
  struct inputs in;
  PyObject *edge[ATTRIBUTES], *found = NULL;
  if (count != 2 || !q || !ready())
    return none();
  for (int i = 0; i < ATTRIBUTES; i++) /* first, as a property may run Python */
    if (!(edge[i] = PyObject_GetAttr(args[0], attributes[i]))) {
      drop_all(edge, i);
      return none();
    }
  request.edge = edge;
  request.id_len = 0;
  struct scratch *s = place(q);
  if (s && of_str(args[1], &request.region) && put_inputs(&in, q, &request) &&
      !(q->reads_random && getentropy(in.key, sizeof in.key)))
    found = started(q, s, &in, &request);
  else {
    let_go(&message);
    found = none();
  }
  drop_all(edge, ATTRIBUTES);
  return found;
}

/* run(stdin, variables, where the arguments begin in these): as dispatch(), but (stdout, ns, pages, due, left), or
   (how, None). */
static PyObject *run(PyObject *self, PyObject *const *args, ssize_t count) {
  struct fast_path *q = PyLong_AsVoidPtr(self);
  struct inputs in;
  if (count != 3 || !q || !of_bytes(args[0], &in.message) || !of_bytes(args[1], &in.variables))
    return none();
  ssize_t arguments = PyLong_AsSsize_t(args[2]);
  struct scratch *s = place(q);
  if (arguments < 0 || !s || (q->reads_random && getentropy(in.key, sizeof in.key)))
    return none();
  in.arguments = (size_t)arguments;
  return started(q, s, &in, NULL);
}

/* The id that a request has got before. */
static bool keep_id(struct request *request, PyObject *given) {
  struct span id;
  if (!of_str(given, &id) || !id.len || id.len > MAX_ID)
    return false;
  memcpy(request->id, id.at, request->id_len = id.len);
  return true;
}

/* encode(scope, path, params, body, region, traceparent, tracestate, request id): what a guest of Python's is to read.
   (stdin, variables, where the arguments begin in these, request id, traceparent); None if it is left to Python, and
   without a body if the request may have one. Without the last, or with None, it is the client's id, or a new one. */
static PyObject *encode(PyObject *self, PyObject *const *args, ssize_t count) {
  struct fast_path *q = PyLong_AsVoidPtr(self);
  struct request request;
  struct inputs in;
  if ((count != 7 && count != 8) || !q || !ready() || !read_arguments(&request, args, false) ||
      (count == 8 && args[7] != Py_None && !keep_id(&request, args[7])) || !put_inputs(&in, q, &request)) {
    let_go(&message);
    return none();
  }
  /* The garbage collector does not look at such objects, so that no other thread comes here in between. */
  PyObject *parts[] = {PyBytes_FromStringAndSize((const char *)in.message.at, (ssize_t)in.message.len),
                       PyBytes_FromStringAndSize((const char *)in.variables.at, (ssize_t)in.variables.len),
                       PyLong_FromSsize_t((ssize_t)in.arguments),
                       PyUnicode_FromStringAndSize((const char *)request.id, (ssize_t)request.id_len), Py_None};
  if (request.told.len)
    parts[4] = PyUnicode_FromStringAndSize((const char *)request.told.at, (ssize_t)request.told.len);
  else
    Py_IncRef(Py_None);
  let_go(&message);
  return pack(parts, 5);
}

/* decode(stdout, request id, method): the status, headers and body for ASGI of what a guest of Python's printed; None if
   it is left to Python. */
static PyObject *decode(PyObject *self, PyObject *const *args, ssize_t count) {
  const struct fast_path *q = PyLong_AsVoidPtr(self);
  struct span printed, id, method;
  if (count != 3 || !q || !ready() || !of_bytes(args[0], &printed) || !is_soon_read(printed) ||
      !of_str(args[1], &id) || id.len > MAX_ID || !of_str(args[2], &method))
    return none();
  PyObject *found = read_for_asgi(printed, id, IS(method, "HEAD"), q->protocol);
  return found ? found : none();
}

/* clean_up(): what is to be done once the answer is out. */
static PyObject *clean_up_engine(PyObject *self, PyObject *const *args, ssize_t count) {
  (void)args;
  (void)count;
  struct engine *e = PyLong_AsVoidPtr(self);
  clean_up(e);
  if (e->unreported && !e->dead) {
    e->unreported = false;
    e->report();
  }
  return none();
}

static PyMethodDef dispatch_method = {"dispatch", dispatch, METH_FASTCALL, NULL},
                   answer_method = {"answer", answer_alone, METH_FASTCALL, NULL},
                   follows_method = {"follows", follows, METH_FASTCALL, NULL},
                   http1_method = {"http1", http1, METH_FASTCALL, NULL},
                   otlp_span_method = {"otlp_span", otlp_span, METH_FASTCALL, NULL},
                   run_method = {"run", run, METH_FASTCALL, NULL}, call_method = {"call", call, METH_FASTCALL, NULL},
                   encode_method = {"encode", encode, METH_FASTCALL, NULL},
                   decode_method = {"decode", decode, METH_FASTCALL, NULL},
                   clean_up_method = {"clean_up", clean_up_engine, METH_FASTCALL, NULL};

/* With the GIL held: the functions for Python. */
PyObject *swasm_follows_function(void) { return PyCFunction_NewEx(&follows_method, NULL, NULL); }
PyObject *swasm_http1_function(void) { return PyCFunction_NewEx(&http1_method, NULL, NULL); }
PyObject *swasm_otlp_span_function(void) { return PyCFunction_NewEx(&otlp_span_method, NULL, NULL); }
PyObject *swasm_dispatch_function(PyObject *fast_path) { return PyCFunction_NewEx(&dispatch_method, fast_path, NULL); }
PyObject *swasm_answer_function(PyObject *fast_path) { return PyCFunction_NewEx(&answer_method, fast_path, NULL); }
PyObject *swasm_call_function(PyObject *fast_path) { return PyCFunction_NewEx(&call_method, fast_path, NULL); }
PyObject *swasm_run_function(PyObject *fast_path) { return PyCFunction_NewEx(&run_method, fast_path, NULL); }
PyObject *swasm_encode_function(PyObject *fast_path) { return PyCFunction_NewEx(&encode_method, fast_path, NULL); }
PyObject *swasm_decode_function(PyObject *fast_path) { return PyCFunction_NewEx(&decode_method, fast_path, NULL); }
PyObject *swasm_clean_up_function(PyObject *engine) { return PyCFunction_NewEx(&clean_up_method, engine, NULL); }
