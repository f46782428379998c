/* What a guest asks of the host: noted while the guest is on its stack, and answered by Python when it has been left, so
   that nothing of Python runs on the stack of a guest. And what a guest needs for that before it begins: the functions in
   its table, and its directories. */

#include "native.h"

#include <string.h>

enum { I32 = 0, FUNCREF = 5 };
enum { FAULT = 21, INVALID = 28 };

static void set_i32(struct extern_ *value, int32_t number) {
  value->kind = I32;
  memcpy(value->of, &number, sizeof number);
}

static uint32_t i32_of(const struct extern_ *value) {
  uint32_t number;
  memcpy(&number, value->of, sizeof number);
  return number;
}

static bool answered(void *env) {
  struct scratch *s = env;
  if (!s->answered)
    return false;
  s->answered = false;
  set_i32(s->results, s->result);
  return true;
}

static bool at_once(void *env) {
  (void)env;
  return true;
}

/* ``env`` is one of ASKED. The guest waits until ``answered`` is set. */
void swasm_ask(void *env, void *caller, const struct extern_ *args, size_t count, struct extern_ *results, size_t unused,
               void **trap, struct continuation *then) {
  (void)unused, (void)trap;
  struct scratch *s = wasmtime.context_data(wasmtime.caller_context(caller));
  s->asked = (uint32_t)(uintptr_t)env;
  for (size_t i = 0; i < count && i < MOST_ARGUMENTS; i++)
    s->arguments[i] = i32_of(&args[i]);
  s->results = results;
  s->answered = false;
  *then = (struct continuation){answered, s, NULL};
}

/* edge.take: the result of the last call, into the guest's memory. */
void swasm_take(void *env, void *caller, const struct extern_ *args, size_t count, struct extern_ *results, size_t unused,
                void **trap, struct continuation *then) {
  (void)env, (void)count, (void)unused, (void)trap;
  void *context = wasmtime.caller_context(caller);
  struct scratch *s = wasmtime.context_data(context);
  struct extern_ memory;
  char *name;
  size_t length;
  uint64_t to = i32_of(args);
  const uint8_t *given = s->given;
  int32_t error = INVALID;
  s->given = NULL;
  if (given) {
    wasmtime.export_nth(context, s->instance, GUEST_MEMORY, &name, &length, &memory);
    error = to + s->given_len > wasmtime.memory_data_size(context, memory.of) ? FAULT : 0;
    if (!error)
      memcpy(wasmtime.memory_data(context, memory.of) + to, given, s->given_len);
  }
  set_i32(results, error);
  *then = (struct continuation){at_once, NULL, NULL};
}

/* Of a scratch whose last guest is gone. */
void forget_calls(struct scratch *s) {
  s->asked = s->answered = 0;
  s->given = NULL;
}

/* The granted directories. Which one cannot be opened is left in ``out_len``. */
static int grant(struct scratch *s, const struct plan *plan) {
  void *config = wasmtime.wasi_config_new();
  for (uint32_t i = 0; i < plan->grant_count; i++) {
    const struct grant *each = &plan->grants[i];
    if (!wasmtime.wasi_config_preopen_dir(config, each->host, each->guest, each->writable)) {
      wasmtime.wasi_config_delete(config);
      s->out_len = i;
      return NOT_GRANTED;
    }
  }
  s->error = wasmtime.context_set_wasi(s->context, config);
  return s->error ? NOT_GROWN : 0;
}

/* What the host adds to an instance. NOT_GRANTED, or NOT_GROWN with scratch->error set; else 0. */
int add_host(struct scratch *s, const struct plan *plan) {
  int failed = plan->grant_count ? grant(s, plan) : 0;
  if (failed || !plan->host_count)
    return failed;
  wasmtime.export_nth(s->context, s->instance, HOST_TABLE, &s->name, &s->length, &s->table);
  for (uint32_t i = 0; i < plan->host_count && !s->error; i++) {
    const struct host_function *each = &plan->hosts[i];
    static const char wasi[] = "wasi_snapshot_preview1";
    wasmtime.linker_get(plan->linker, s->context, wasi, sizeof wasi - 1, each->name, strlen(each->name), &s->other);
    s->value.kind = FUNCREF;
    memcpy(s->value.of, s->other.of, sizeof s->value.of);
    s->error = wasmtime.table_set(s->context, s->table.of, each->slot, &s->value);
  }
  return s->error ? NOT_GROWN : 0;
}
