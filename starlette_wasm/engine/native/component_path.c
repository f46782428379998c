/* A whole request of a component, in one call: take an instance that is in its first state, write what its guest reads, call
   it, answer what it calls of the host, read its answer, and leave the instance to be brought back.

   That is for an instance that was used before, of a component whose entry is `handle` of the world edge, or a handler of
   wasi:http 0.2. At the first thing that is not done here Python goes on from where this is, or, if nothing was begun, does
   all of it: see components/fast_path.py. Nothing of Python runs while the guest does. */

#include "component.h"

enum { PAGE = 65536 };

/* An instance is used by one at a time: whoever has claimed it, with the GIL held. */
bool swasm_kept_claim(struct kept *k) {
  if (k->claimed)
    return false;
  k->claimed = true;
  if (k->engine->unrestored == k)
    k->engine->unrestored = NULL;
  return true;
}

static void delete_kept(struct kept *k) {
  void *store = k->store;
  k->claimed = true; /* for ever */
  k->store = NULL;
  if (store && !k->engine->dead)
    delete_store(store);
}

/* Delete it, now or when whoever uses it has done so. With the GIL held. */
void swasm_kept_discard(struct kept *k) {
  if (swasm_kept_claim(k))
    delete_kept(k);
  else
    k->discarded = true;
}

/* Whether it may be brought back here: Python does so when pages are to be trimmed, when it is to be compared with its first
   state, and for the last time. */
static bool is_plain(const struct kept *k) {
  uint32_t every = k->engine->check_every;
  return k->uses + 1 < k->plain_until && (!every || k->keeper->unchecked + 1 < every);
}

static bool bring_back(struct kept *k) {
  k->uses++;
  k->keeper->unchecked++;
  k->dirty = !swasm_restore(k->first, &k->engine->pagemap, false);
  return !k->dirty;
}

/* About how long it took to bring it back the last time, beyond what most guests write: how much that is, is the guest's
   choice. */
static uint64_t restoring_ns(const struct kept *k) {
  enum { USUAL = 2 << 20, BYTES_PER_NS = 3 };
  return k->first->put_back > USUAL ? (k->first->put_back - USUAL) / BYTES_PER_NS : 0;
}

/* While no request waits for it. */
void restore_unrestored(struct engine *e) {
  struct kept *k = e->unrestored;
  e->unrestored = NULL;
  if (k && !k->claimed && k->dirty && is_plain(k) && !bring_back(k))
    delete_kept(k);
}

/* Leave it to be brought back once the answer is out. */
static void leave(struct kept *k) {
  struct engine *e = k->engine;
  if (e->unrestored != k)
    restore_unrestored(e);
  k->claimed = false;
  k->dirty = true;
  if (k->discarded)
    delete_kept(k);
  else
    e->unrestored = k;
}

/* Take the instance. False if it is another's, or is to be looked at by Python. */
static bool take_kept(struct component_path *p) {
  struct kept *k = p->kept;
  if (!k || k->claimed || k->keeper->faulty || (k->dirty && !is_plain(k)) || !swasm_kept_claim(k))
    return false;
  if (k->dirty && !bring_back(k)) {
    delete_kept(k);
    return false;
  }
  k->keeper->restored++;
  k->used_at = ++k->engine->asked;
  return true;
}

/* Bytes of all memories of the guest. */
static size_t size_of(const struct kept *k) {
  size_t size = 0;
  for (uint32_t i = 0; i < k->first->memories; i++)
    size += wasmtime.memory_data_size(k->component->context, k->first->memory[i]->of);
  return size;
}

/* What the guest reads, as objects that Python goes on with if this stops. */
struct held {
  PyObject *message, *variables, *content; /* the last is the body of a request for a handler, or None */
};

static void let_go_of(const struct held *held) {
  drop(held->message);
  drop(held->variables);
  drop(held->content);
}

static bool hold(struct held *held, const struct inputs *in, PyObject *content) {
  held->message = PyBytes_FromStringAndSize((const char *)in->message.at, (ssize_t)in->message.len);
  held->variables = PyBytes_FromStringAndSize((const char *)in->variables.at, (ssize_t)in->variables.len);
  held->content = content;
  Py_IncRef(content);
  if (held->message && held->variables)
    return true;
  let_go_of(held);
  return false;
}

static bool begin_call(const struct component_path *p, struct scratch *s, const struct held *held) {
  struct component *c = p->kept->component;
  struct span message, environ, content = {NULL, 0};
  c->lent = NULL; /* nothing is answered from the last request: what that had is gone */
  if (c->http)
    c->http->open = false;
  if (!of_bytes(held->message, &message) || !of_bytes(held->variables, &environ) ||
      (held->content != Py_None && !of_bytes(held->content, &content)))
    return false;
  if (p->path->protocol != HTTP) {
    swasm_edge_begin(c, s, (const char *)message.at, message.len);
    return true;
  }
  if (!c->http || !swasm_http_open(c->http, message.at, message.len, environ.at, environ.len, p->arguments.at, p->arguments.len,
                                   content.at, content.len, true, p->request, p->outparam, p->path->plan->out_cap))
    return false;
  swasm_http_begin(c, s, 1, 2);
  return true;
}

static int poll_call(const struct component_path *p) {
  struct component *c = p->kept->component;
  return p->path->protocol == HTTP ? swasm_http_poll(c) : swasm_edge_poll(c);
}

/* Run the guest, and go on if the tick may have met it by chance: once if those before it were short, and for as long as it has
   had little of a CPU, for which the process waits. In a thread it would cost far more, and the next request an instance. */
static int run_call(const struct component_path *p, struct scratch *s) {
  struct timing timing = begin_timing(true); /* they run for long enough to be met by other work often */
  bool once_more = p->path->plan->calm == CALM;
  for (;; once_more = false) {
    int how = poll_call(p);
    s->ran_ns = end_timing(&timing);
    if (how != TICKED || !(once_more || s->ran_ns < FREE_NS))
      return how;
  }
}

/* For ASGI, of a guest that has ended; NULL if it is left to Python. */
static PyObject *read_answer(const struct component_path *p, struct scratch *s, const struct request *request, bool due) {
  const struct http *http = p->kept->component->http;
  if (s->trap || s->error)
    return NULL;
  if (p->path->protocol == HTTP)
    return http->open ? http_answer(http, s, request, due) : NULL;
  struct span printed = {(const uint8_t *)s->out, s->out_len};
  return printed.len <= p->path->plan->out_cap ? answer(s, printed, request, EDGE, due, NULL) : NULL;
}

/* A guest for which Python has no memory left, so that nobody goes on with it. */
static void drop_call(struct component_path *p, struct scratch *s) {
  struct component *c = p->kept->component;
  if (c->future)
    wasmtime.future_delete(c->future);
  c->future = NULL;
  drop_failure(s);
  delete_kept(p->kept);
}

/* What Python goes on with: (how, request id, and what the guest reads: its message, its environment and its body). */
static PyObject *left_to_python(struct component_path *p, struct scratch *s, int how, const struct request *request,
                                const struct held *held) {
  struct engine *e = p->path->host;
  PyErr_Clear();
  PyObject *parts[] = {PyLong_FromLong(how),
                       PyUnicode_FromStringAndSize((const char *)request->id, (ssize_t)request->id_len), held->message,
                       held->variables, held->content};
  PyObject *found = pack(parts, 5);
  if (!found) {
    drop_call(p, s);
    e->live--;
    e->scratch = s;
  }
  p->kept = NULL;
  return found;
}

static PyObject *ended(struct component_path *p, struct scratch *s, const struct request *request) {
  struct engine *e = p->path->host;
  bool due = cleanup_is_due(e);
  s->pages = (uint32_t)(size_of(p->kept) / PAGE);
  PyObject *found = read_answer(p, s, request, due);
  if (found && due)
    schedule_cleanup(e);
  return found;
}

/* Run the guest of an instance that was taken. What answer_component() gives, or NULL with an exception set. */
static PyObject *served(struct component_path *p, struct scratch *s, const struct request *request, const struct held *held) {
  struct engine *e = p->path->host;
  PyObject *found = NULL;
  e->starts_until_check--;
  e->live++;
  e->scratch = NULL;
  p->path->module->live++;
  void *thread = PyEval_SaveThread(); /* one long instruction of the guest must not hold up other threads */
  int how = run_call(p, s);
  PyEval_RestoreThread(thread);
  p->path->module->live--;
  if (how == ENDED)
    found = ended(p, s, request);
  if (!found)
    return left_to_python(p, s, how, request, held);
  p->kept->component->calls = 0;
  count_time(p->path->plan, s->ran_ns + restoring_ns(p->kept), p->free_ns);
  leave(p->kept);
  e->live--;
  e->scratch = s;
  let_go_of(held);
  return found;
}

/* Write what the guest reads. */
static bool write_inputs(struct component_path *p, PyObject *const *args, bool alone, struct request *request, struct held *held) {
  struct inputs in;
  bool http = p->path->protocol == HTTP;
  bool written = ready() && read_arguments(request, args, alone) && put_inputs(&in, p->path, request) &&
                 (http || is_ascii(in.message) || is_utf8(in.message)) && hold(held, &in, args[3]);
  release_inputs();
  return written;
}

static PyObject *dispatched(struct component_path *p, PyObject *const *args, bool alone) {
  struct request request;
  struct held held;
  struct scratch *s = place(p->path);
  if (!s || p->path->host->dead || !p->kept || p->kept->claimed || !write_inputs(p, args, alone, &request, &held))
    return none();
  if (take_kept(p)) {
    if (begin_call(p, s, &held))
      return served(p, s, &request, &held);
    leave(p->kept);
  }
  let_go_of(&held);
  return none();
}

/* dispatch_component(scope, path, params, body, region, traceparent, tracestate): as dispatch() of fast_path.c. None: nothing
   was done. (status, headers, body, ns, pages, traceparent, due, 0): the guest has ended well. (how, request id, message,
   environment, body): it has started, and Python goes on with the instance, with the engine's scratch, which it replaces,
   and with the place among the engine's guests.
   Raises MemoryError, with the guest dropped, if there is no room for either. */
static PyObject *dispatch_component(PyObject *self, PyObject *const *args, ssize_t count) {
  struct component_path *p = PyLong_AsVoidPtr(self);
  return count == 7 && p ? dispatched(p, args, false) : none();
}

/* answer_component(), likewise, as answer() of fast_path.c: (status, headers, body) if nothing is left to do. */
static PyObject *answer_component(PyObject *self, PyObject *const *args, ssize_t count) {
  struct component_path *p = PyLong_AsVoidPtr(self);
  return count == 7 && p && !p->path->host->late ? dispatched(p, args, true) : none();
}

static PyMethodDef dispatch_method = {"dispatch_component", dispatch_component, METH_FASTCALL, NULL},
                   answer_method = {"answer_component", answer_component, METH_FASTCALL, NULL};

/* With the GIL held: the functions for Python. */
PyObject *swasm_dispatch_component_function(PyObject *path) { return PyCFunction_NewEx(&dispatch_method, path, NULL); }
PyObject *swasm_answer_component_function(PyObject *path) { return PyCFunction_NewEx(&answer_method, path, NULL); }
