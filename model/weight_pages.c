#include "model/weight_pages.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
  HUGE_PAGE = 2 << 20,   /* of x86-64; elsewhere a size like another */
  AHEAD = 32,            /* pages that are called for before they are read */
  PIECE = 1 << 16,       /* elements between two looks at how much of the files is mapped */
  MOST_MAPPED = 64 << 20 /* bytes of files, as far as they are small beside the weights */
};

struct WeightTarget {
  const WeightEntry *entry;
  Tensor out;
  uintptr_t begin, end; /* of it in memory */
  size_t left;          /* elements that are not there yet */
  size_t broken;        /* values that are not finite */
};

bool weight_pages_open(WeightPages *pages, size_t most, Error *error) {
  *pages = (WeightPages){.most = most, .targets = memory_zeroed(most, sizeof(WeightTarget))};
  return pages->targets || error_out_of_memory(error, "reading a model", most * sizeof(WeightTarget));
}

void weight_pages_close(WeightPages *pages) {
  memory_free(pages->targets);
  *pages = (WeightPages){0};
}

void weight_pages_add(WeightPages *pages, const WeightEntry *entry, Tensor out) {
  ASSERT(pages->count < pages->most && entry->count == (size_t)tensor_count(out));
  if (entry->count == 0) return;
  const uintptr_t begin = (uintptr_t)out.data;
  pages->targets[pages->count++] = (WeightTarget){
      .entry = entry, .out = out, .begin = begin, .end = begin + tensor_bytes(out), .left = entry->count};
}

static int by_place(const void *a, const void *b) {
  const uintptr_t left = ((const WeightTarget *)a)->begin, right = ((const WeightTarget *)b)->begin;
  return (left > right) - (left < right);
}

/* Elements of a target. */
typedef struct Part {
  size_t first, count;
} Part;

/* What of a target lies in a page. */
static Part part_of(const WeightTarget *target, uintptr_t page) {
  const size_t size = dtype_size(target->out.dtype);
  const uintptr_t begin = page > target->begin ? page : target->begin;
  const uintptr_t end = page + HUGE_PAGE < target->end ? page + HUGE_PAGE : target->end;
  return (Part){(begin - target->begin) / size, (end - begin) / size};
}

/* A page of the destination, and the first target that has a part in it. */
typedef struct Page {
  uintptr_t begin;
  size_t target;
} Page;

/* What targets take of a file's mapping. */
typedef struct Span {
  const char *path;
  uintptr_t begin, end;
} Span;

typedef struct Work {
  WeightTarget *targets; /* ascending in memory */
  size_t target_count;
  Page *pages;
  Span *spans;
  size_t page_count, span_count;
  size_t most_mapped; /* bytes of files that may be read before their pages are given back */
  size_t mapped;      /* bytes that have been read since they were */
  Progress *progress;
} Work;

/* The pages in which targets lie, ascending; how many comes back. `out` may be NULL: they are counted. */
static size_t list_pages(const Work *work, Page *out) {
  size_t count = 0;
  uintptr_t next = 0; /* where pages begin that are not in the list yet */
  for (size_t i = 0; i < work->target_count; i++) {
    const WeightTarget *target = &work->targets[i];
    const uintptr_t first = target->begin / HUGE_PAGE * HUGE_PAGE;
    for (uintptr_t at = first < next ? next : first; at < target->end; at += HUGE_PAGE) {
      if (out) out[count] = (Page){at, i};
      count++;
      next = at + HUGE_PAGE;
    }
  }
  return count;
}

static Span *find_span(Work *work, const char *path) {
  for (size_t k = work->span_count; k > 0; k--)
    if (strcmp(work->spans[k - 1].path, path) == 0) return &work->spans[k - 1];
  Span *added = &work->spans[work->span_count++];
  *added = (Span){.path = path, .begin = UINTPTR_MAX};
  return added;
}

static void list_spans(Work *work) {
  for (size_t i = 0; i < work->target_count; i++) {
    const WeightEntry *entry = work->targets[i].entry;
    const uintptr_t begin = (uintptr_t)entry->data, end = begin + entry->bytes;
    Span *span = find_span(work, entry->path);
    if (begin < span->begin) span->begin = begin;
    if (end > span->end) span->end = end;
  }
}

static bool work_open(Work *work, Error *error) {
  size_t bytes = 0;
  for (size_t i = 0; i < work->target_count; i++) bytes += work->targets[i].end - work->targets[i].begin;
  work->most_mapped = bytes / 64 < MOST_MAPPED ? bytes / 64 : MOST_MAPPED;
  work->page_count = list_pages(work, NULL);
  work->pages = memory_alloc(work->page_count * sizeof *work->pages + 1);
  work->spans = memory_alloc(work->target_count * sizeof *work->spans + 1);
  if (!work->pages || !work->spans)
    return error_out_of_memory(error, "reading a model", work->page_count * sizeof *work->pages);
  list_pages(work, work->pages);
  list_spans(work);
  return true;
}

static void work_close(Work *work) {
  memory_free(work->pages);
  memory_free(work->spans);
}

/* Or the process would count the files too. Of whole files and seldom: it interrupts all other threads, and what the system maps about a place
 * that is read may reach into what was given back before. */
static void release_files(const Work *work) {
  for (size_t i = 0; i < work->span_count; i++)
    file_pages_release((const void *)work->spans[i].begin, work->spans[i].end - work->spans[i].begin);
}

static void count_mapped(Work *work, size_t bytes) {
  size_t mapped;
#pragma omp atomic capture
  mapped = work->mapped += bytes;
  if (mapped < work->most_mapped) return;
#pragma omp atomic write
  work->mapped = 0;
  release_files(work);
}

static void tell_progress(const WeightTarget *target, Progress *progress) {
#pragma omp critical(weight_pages)
  progress_update(progress, progress->done + (int64_t)target->entry->bytes, NULL);
}

static void read_part(Work *work, WeightTarget *target, uintptr_t page) {
  const WeightEntry *entry = target->entry;
  const size_t size = dtype_size(target->out.dtype);
  const Part part = part_of(target, page);
  char *out = (char *)target->out.data + part.first * size;
  size_t broken = 0, left;
  for (size_t done = 0; done < part.count; done += PIECE) {
    const size_t n = part.count - done < PIECE ? part.count - done : PIECE;
    broken += weight_read_counted(entry, part.first + done, n, target->out.dtype, out + done * size);
    count_mapped(work, n * dtype_size(entry->dtype));
  }
#pragma omp atomic
  target->broken += broken;
#pragma omp atomic capture
  left = target->left -= part.count;
  if (left == 0) tell_progress(target, work->progress);
}

static bool in_page(const Work *work, size_t target, const Page *page) {
  return target < work->target_count && work->targets[target].begin < page->begin + HUGE_PAGE;
}

static void read_page(Work *work, const Page *page) {
  for (size_t i = page->target; in_page(work, i, page); i++) read_part(work, &work->targets[i], page->begin);
}

/* Calls for what comes to lie in a page. The system's own reading ahead follows the order of a file, which is not that of the
 * weights. */
static void call_page(const Work *work, const Page *page) {
  for (size_t i = page->target; in_page(work, i, page); i++) {
    const Part part = part_of(&work->targets[i], page->begin);
    const WeightEntry *entry = work->targets[i].entry;
    const double bytes = (double)entry->bytes / (double)entry->count; /* of an element, of blocks too */
    file_pages_ahead((const char *)entry->data + (size_t)((double)part.first * bytes),
                     (size_t)((double)part.count * bytes));
  }
}

bool weight_pages_read(WeightPages *pages, int threads, Progress *progress, Error *error) {
  qsort(pages->targets, pages->count, sizeof *pages->targets, by_place);
  Work work = {.targets = pages->targets, .target_count = pages->count, .progress = progress};
  bool ok = work_open(&work, error);
  if (ok) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (work.page_count > 1)
    for (size_t i = 0; i < work.page_count; i++) {
      for (size_t k = i ? i + AHEAD : 0; k <= i + AHEAD && k < work.page_count; k++)
        call_page(&work, &work.pages[k]);
      read_page(&work, &work.pages[i]);
    }
    release_files(&work);
  }
  work_close(&work);
  for (size_t i = 0; ok && i < pages->count; i++) {
    const WeightTarget *target = &pages->targets[i];
    ASSERT(target->left == 0); /* every value once */
    ok = target->broken == 0 || weight_not_finite(target->entry, target->broken, error);
  }
  pages->count = 0;
  return ok;
}
