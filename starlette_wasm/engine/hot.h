/* What hot.c and quick.c share. Needs no header but the C library's. */

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

/* hot.PlanMemory mirrors this. */
struct plan {
  void *engine, *pre;
  int64_t bound, table_elements, tables;
  uint32_t environ_at, out_cap, err_cap;
};

/* quick.QuickMemory mirrors this. */
struct quick {
  const struct plan *plan;
  const char *tail, *about, *offsets, *environ;
  uint32_t tail_len, about_len, variables, environ_len;
  uint64_t resolution;
  uint32_t reads_environ, reads_clock, reads_random;
};

enum { NOT_GROWN = -2, NOT_MADE = -1, PAUSED = 0, ENDED = 1, ENDED_WELL = 2 };

int begin(struct scratch *s, const struct plan *plan, uintptr_t data, const char *tail, uint32_t tail_len,
          const char *environ, size_t environ_len, const char *input, size_t input_len);
int go(struct scratch *s);

#endif
