/* Instances that are brought back to the state in which they were made: those of core modules, between two requests of
   fast_path.c, and for components/restore.py those of components. docs/security.md says why nothing is left in them.

   A page that a guest has written is no longer a file's, nor the kernel's page of zeros: the page tables name those, and
   they are copied from what the memory was at first. */

#include "text.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 65536 };
enum { LINE = 64 };          /* bytes */
enum { AT_ONCE = 1 << 20 }; /* bytes that are compared, or given back, at once: some tenths of a millisecond */
enum { MOST_USES = 1000 };                            /* requests that an instance has */
enum { FEW = 256 << 10, MANY = 1 << 20, COPIES = 4 }; /* bytes that are copied rather than given back, see most_copied() */

/* PAGEMAP_SCAN (Linux 6.7), and its structures. */
struct page_region {
  uint64_t start, end, categories;
};

struct scan {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, inverted, mask, any_of, back;
};

enum { IS_FILE = 1 << 2, IS_PRESENT = 1 << 3, IS_SWAPPED = 1 << 4, IS_ZERO = 1 << 5, REGIONS = 256 };
static const unsigned long scan_request = 3ul << 30 | sizeof(struct scan) << 16 | 'f' << 8 | 16;

static const uint8_t zeros[BLOCK];

/* A memory, and what it has to be again: ``known`` bytes from ``first``, then zeros. ``filled`` has a bit for each block
   that is not all zeros, if that was noted. */
struct image {
  uint8_t *base;
  size_t size;
  const uint8_t *first;
  size_t known;
  const uint64_t *filled;
};

/* Find pages that are private from ``*start`` on, which goes on to where the next call begins. How many regions those
   are; -1 if they cannot be looked at. */
static int scan_pages(int pagemap, uint64_t *start, uint64_t end, struct page_region *found) {
  struct scan scan = {sizeof scan, 0, *start, end, 0, (uintptr_t)found, REGIONS, 0, IS_FILE | IS_ZERO,
                      IS_FILE | IS_ZERO, IS_PRESENT | IS_SWAPPED, IS_PRESENT};
  int count = ioctl(pagemap, scan_request, &scan);
  if (scan.walk_end <= *start)
    return -1;
  *start = scan.walk_end;
  return count;
}

/* The same from a number for each page, in which bits 61 to 63 are: a file's, swapped out, in memory. */
static int read_pages(int pagemap, uint64_t *start, uint64_t end, struct page_region *found) {
  uint64_t entries[REGIONS], left = (end - *start) / BLOCK;
  int most = left < REGIONS ? (int)left : REGIONS, count = 0;
  ssize_t size = (ssize_t)(most * sizeof *entries);
  if (pread(pagemap, entries, (size_t)size, (off_t)(*start / BLOCK * sizeof *entries)) != size)
    return -1;
  for (int i = 0; i < most; i++, *start += BLOCK) {
    bool is_private = !(entries[i] >> 61 & 1) && entries[i] >> 62;
    if (is_private)
      found[count++] = (struct page_region){*start, *start + BLOCK, 0};
  }
  return count;
}

static bool give_back(uint8_t *base, size_t size) { return !madvise(base, size, MADV_DONTNEED); }

static inline bytes16 difference(const uint8_t *at, const uint8_t *other) {
  return (load16(at) ^ load16(other)) | (load16(at + 16) ^ load16(other + 16)) | (load16(at + 32) ^ load16(other + 32)) |
         (load16(at + 48) ^ load16(other + 48));
}

/* Write the lines of a page that are not what they were at first. Those are few, and a line that is only read takes less
   of caches and memory. */
static void put_back_page(uint8_t *page, const uint8_t *first) {
  for (size_t at = 0; at < BLOCK; at += LINE)
    if (any16(difference(page + at, first + at)))
      memcpy(page + at, first + at, LINE);
}

/* The same of a page that had only zeros. */
static void clear_page(uint8_t *page) {
  for (size_t at = 0; at < BLOCK; at += LINE)
    if (any16(difference(page + at, zeros)))
      memset(page + at, 0, LINE);
}

static bool is_filled(const struct image *m, size_t at) {
  size_t block = at / BLOCK;
  return at < m->known && (!m->filled || m->filled[block / 64] >> block % 64 & 1);
}

static void copy_first(const struct image *m, const struct page_region *found) {
  size_t begin = found->start - (uintptr_t)m->base, end = found->end - (uintptr_t)m->base;
  for (size_t at = begin; at < end; at += BLOCK)
    if (is_filled(m, at))
      put_back_page(m->base + at, m->first + at);
    else
      clear_page(m->base + at);
}

/* Put back the pages that are private. How many bytes that were; -1 if it cannot be done, or those are too many. */
static int64_t put_back(const struct pagemap *pagemap, const struct image *m, int64_t most) {
  struct page_region found[REGIONS];
  uint64_t start = (uintptr_t)m->base, end = start + m->size;
  int64_t bytes = 0;
  while (start < end) {
    int count = (pagemap->scans ? scan_pages : read_pages)(pagemap->descriptor, &start, end, found);
    if (count < 0)
      return -1;
    for (int i = 0; i < count; i++) {
      bytes += (int64_t)(found[i].end - found[i].start);
      if (bytes > most)
        return -1;
      copy_first(m, &found[i]);
    }
  }
  return bytes;
}

/* AT_ONCE of a memory, from one byte on. */
static struct image part_of(const struct image *m, size_t from) {
  size_t size = m->size - from < AT_ONCE ? m->size - from : AT_ONCE, known = from < m->known ? m->known - from : 0;
  return (struct image){m->base + from, size, known ? m->first + from : NULL, known < size ? known : size, NULL};
}

/* Give all pages of a part back to the kernel, and copy those that its image has not. If that fails some may be given
   back, and not copied. */
static bool put_back_all(const struct image *part) {
  uint8_t lacks[AT_ONCE / BLOCK];
  size_t blocks = part->size / BLOCK;
  if (!give_back(part->base, part->size))
    return false;
  for (size_t i = 0; i < blocks; i++)
    lacks[i] = memcmp(part->base + i * BLOCK, part->first + i * BLOCK, BLOCK) != 0;
  if (!give_back(part->base, part->size)) /* looking at a page has mapped it, and its neighbours */
    return false;
  for (size_t i = 0; i < blocks; i++)
    if (lacks[i])
      memcpy(part->base + i * BLOCK, part->first + i * BLOCK, BLOCK);
  return true;
}

/* Go on with the pages that are given back, if the next ones are of this memory, which begins behind ``passed`` bytes of
   others. */
static bool trim(struct first_state *f, const struct image *m, uint64_t passed) {
  if (f->trimmed < passed || f->trimmed - passed >= m->size)
    return true;
  struct image part = part_of(m, f->trimmed - passed);
  f->trimmed += part.size;
  return put_back_all(&part);
}

/* Bring an instance of a component back to its first state. False if a memory has grown, too much was written, or the
   pages cannot be looked at: then it is of no more use. From a use with ``trims`` on, each takes the next AT_ONCE of the
   memories: pages in it that requests do not write are no longer its own then, nor mapped, so that they are not looked at
   the next time. */
bool swasm_restore(struct first_state *f, const struct pagemap *pagemap, bool trims) {
  int64_t left = (int64_t)f->most;
  uint64_t passed = 0, begin = trims ? 0 : f->trimmed;
  f->trimmed = begin;
  for (uint32_t i = 0; i < f->memories; passed += f->size[i++]) {
    const void *memory = f->memory[i]->of;
    if (wasmtime.memory_data_size(f->context, memory) != f->size[i])
      return false;
    struct image m = {wasmtime.memory_data(f->context, memory), f->size[i], f->bytes[i], f->size[i], NULL};
    if (!m.size)
      continue;
    if (f->trimmed == begin && !trim(f, &m, passed))
      return false;
    int64_t bytes = put_back(pagemap, &m, left);
    if (bytes < 0)
      return false;
    left -= bytes;
  }
  f->put_back = f->most - (uint64_t)left;
  for (uint32_t i = 0; i < f->globals; i++) {
    void *error = wasmtime.global_set(f->context, f->global[i]->of, &f->value[i]);
    if (error) {
      wasmtime.error_delete(error);
      return false;
    }
  }
  return true;
}

/* Take down what the memory of a module's guests is at first, of an instance in which nothing has run. Zeros take no
   room: the kernel has one page for all of them. */
void remember(struct module *m, const struct plan *plan, const struct scratch *s) {
  size_t size = (size_t)plan->pages * PAGE;
  if (m->first || !plan->restores || !size || size > LIGHT)
    return;
  uint8_t *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (copy == MAP_FAILED)
    return;
  const uint8_t *base = wasmtime.memory_data(s->context, s->memory.of);
  for (size_t i = 0; i < size / BLOCK; i++)
    if (memcmp(base + i * BLOCK, zeros, BLOCK)) {
      memcpy(copy + i * BLOCK, base + i * BLOCK, BLOCK);
      m->filled[i / 64] |= (uint64_t)1 << i % 64;
    }
  m->first = copy;
  m->first_size = size;
}

void forget_first(struct module *m) {
  if (m->first)
    munmap((void *)(uintptr_t)m->first, m->first_size);
  m->first = NULL;
}

/* Whether an instance that has had so many requests may have one more. */
static bool can_restore(const struct engine *e, const struct fast_path *q, uint32_t uses) {
  return q->plan->restores && q->module->first && !q->module->closed && !q->module->faulty && q->plan->cpu_score < CPU_THRESHOLD &&
         uses < MOST_USES && e->pagemap.descriptor >= 0;
}

/* Whether the instance of a guest that has ended well is one to restore. */
bool may_restore(const struct engine *e, const struct fast_path *q, const struct scratch *s) {
  return can_restore(e, q, s->uses) && s->pages <= q->plan->pages + q->plan->spare;
}

/* How many bytes of a guest's memory are copied rather than given back to the kernel, which costs the next guest a fault
   for each page that it writes: some for any guest, and more after a large request, as the next one may be as large. */
static int64_t most_copied(size_t used) {
  size_t bytes = FEW + COPIES * used;
  return bytes < MANY ? (int64_t)bytes : MANY;
}

/* All that was written to the io memory lies before the end of what the guest has printed. */
static bool restore_io(uint8_t *base, size_t size, size_t used) {
  if (used > MANY)
    return give_back(base, size);
  memset(base, 0, used);
  return true;
}

/* Copy blocks that are not what they were at first, from one on: all, or the first one that is not zeros. How many those
   were. */
static uint32_t fill_blocks(const struct module *of, const struct image *m, bool all) {
  uint32_t copied = 0;
  for (size_t i = 0; i < m->known / BLOCK; i++) {
    uint8_t *block = m->base + i * BLOCK;
    const uint8_t *first = m->first + i * BLOCK;
    if (!(of->filled[i / 64] >> i % 64 & 1))
      continue;
    if (memcmp(block, first, BLOCK)) {
      memcpy(block, first, BLOCK);
      copied++;
    }
    if (!all)
      break;
  }
  return copied;
}

/* Give the pages of a memory back to the kernel, after which it is its image again: a file's, or zeros. If wasmtime has
   no image of it, but has copied its data, that is copied again. Looking at each page of an image would map it, and each
   page that is mapped is looked at in put_back(): so that is done once for a module. */
static bool renew(struct module *of, const struct image *m) {
  bool was_image = of->is_image;
  if (!give_back(m->base, m->size))
    return false;
  if (was_image && !fill_blocks(of, m, false))
    return true;
  of->is_image = !fill_blocks(of, m, true) && !was_image;
  return !of->is_image || give_back(m->base, m->size);
}

/* After the first request all is given back: of the pages that wasmtime has cleared after guests before, many are
   private that this guest never writes. */
static bool restore_memory(const struct engine *e, const struct instance *in, struct module *of, const struct image *m,
                           size_t used) {
  return (in->uses > 1 && put_back(&e->pagemap, m, most_copied(used)) >= 0) || renew(of, m);
}

/* The first byte of a memory that is not as at first; its size if there is none. */
static size_t first_difference(const struct image *m) {
  for (size_t at = 0; at < m->size; at += BLOCK) {
    const uint8_t *now = m->base + at, *first = at < m->known ? m->first + at : zeros;
    if (!memcmp(now, first, BLOCK))
      continue;
    size_t i = 0;
    while (now[i] == first[i])
      i++;
    return at + i;
  }
  return m->size;
}

static struct image guest_memory(const struct instance *in, const struct module *of) {
  return (struct image){wasmtime.memory_data(in->context, in->memory.of),
                        wasmtime.memory_data_size(in->context, in->memory.of), of->first, of->first_size, of->filled};
}

static struct image io_memory(const struct instance *in) {
  return (struct image){wasmtime.memory_data(in->context, in->io.of), wasmtime.memory_data_size(in->context, in->io.of),
                        NULL, 0, NULL};
}

/* Whether an instance that was just restored is to be compared. If a request waits for it, another one is, unless the
   loop has long had no time. */
static bool check_is_due(const struct engine *e, struct module *of, bool idle) {
  if (!e->check_every || e->compared.store)
    return false;
  of->unchecked++;
  return of->unchecked >= e->check_every && (idle || of->unchecked - e->check_every >= e->check_every);
}

static void note_fault(struct engine *e, struct module *of, bool in_io, size_t at) {
  of->faulty = e->unreported = true;
  of->fault_in_io = in_io;
  of->fault_at = at;
  e->faults++;
  e->busy = 0; /* it is reported when an answer is out */
}

void delete_compared(struct engine *e) {
  void *store = e->compared.store;
  e->compared.store = NULL;
  e->compared_of = NULL;
  if (store && !e->dead)
    delete_store(store);
}

/* Compare AT_ONCE of the memories of the instance that was put aside, if there is one, with what they were at first, byte for
   byte. After the last of them it is deleted: all of its pages are mapped then, and each would be looked at from now on. */
void compare_some(struct engine *e) {
  if (!e->compared.store)
    return;
  struct module *of = e->compared_of;
  struct image m = guest_memory(&e->compared, of), io = io_memory(&e->compared);
  for (size_t left = AT_ONCE; left && e->compared_to < m.size + io.size;) {
    bool in_io = e->compared_to >= m.size;
    size_t from = e->compared_to - (in_io ? m.size : 0);
    struct image part = part_of(in_io ? &io : &m, from);
    part.size = part.size < left ? part.size : left;
    size_t at = first_difference(&part);
    left -= part.size;
    e->compared_to += part.size;
    if (at < part.size) {
      note_fault(e, of, in_io, from + at);
      e->compared_to = m.size + io.size;
    }
  }
  if (e->compared_to < m.size + io.size)
    return;
  e->checks++;
  delete_compared(e);
}

/* Put the instance that is left aside, to be compared: clean_up() does that. If it is not called now, some at once. */
static void compare_pending(struct engine *e, struct module *of, bool idle) {
  of->unchecked = 0;
  e->compared = e->pending;
  e->compared_of = of;
  e->compared_to = 0;
  e->pending.store = NULL;
  if (!idle)
    compare_some(e);
}

/* Bring back the instance that is left, of a guest that has ended well. False if that cannot be done: then it is of no more
   use; or if it is compared. Its globals are set by ``main``, before any code of the guest runs: see link.py. */
bool restore_pending(struct engine *e, const struct fast_path *q, bool idle) {
  const struct instance *in = &e->pending;
  if (!can_restore(e, q, in->uses))
    return false;
  struct module *of = q->module;
  struct image m = guest_memory(in, of), io = io_memory(in);
  if (m.size != of->first_size + (size_t)q->plan->spare * PAGE)
    return false;
  size_t used = end_of_output(io.base);
  if (used > io.size || !restore_memory(e, in, of, &m, used) || !restore_io(io.base, io.size, used))
    return false;
  if (check_is_due(e, of, idle)) {
    compare_pending(e, of, idle);
    return false;
  }
  e->restored++;
  return true;
}
