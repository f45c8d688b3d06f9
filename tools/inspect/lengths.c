/* inspect data: how long the examples are, and how full they pack. */
#include "tools/inspect/inspect.h"

#include "datasets/order.h"
#include "datasets/packing.h"

#include <stdlib.h>
#include <string.h>

enum {
  QUANTILES = 5,
  BINS = 26,
  BAR = 40
}; /* a bin doubles the length of the one before: 2^24 tokens are the most */
static const double quantiles[QUANTILES] = {0, 0.5, 0.9, 0.99, 1};
static const char *const quantile_names[QUANTILES] = {"shortest", "median", "p90", "p99", "longest"};

typedef struct Lengths {
  int at[QUANTILES];
  double mean;
  uint64_t bins[BINS]; /* bin b: 2^b <= tokens < 2^(b+1) */
} Lengths;

static int compare_ints(const void *a, const void *b) {
  int x = *(const int *)a, y = *(const int *)b;
  return x < y ? -1 : x > y;
}

static int bin_of(int tokens) {
  int bin = 0;
  while (tokens >>= 1) bin++;
  return bin;
}

static bool measure(const Dataset *dataset, Lengths *out, Error *error) {
  int *lengths = memory_alloc(dataset->count * sizeof *lengths);
  if (!lengths) return error_out_of_memory(error, "lengths", dataset->count * sizeof *lengths);
  for (uint64_t i = 0; i < dataset->count; i++) {
    Example example = dataset_example(dataset, dataset_reference(dataset, i));
    lengths[i] = example_tokens(&example);
    out->mean += (double)lengths[i] / (double)dataset->count;
    out->bins[bin_of(lengths[i])]++;
  }
  qsort(lengths, dataset->count, sizeof *lengths, compare_ints);
  for (int q = 0; q < QUANTILES; q++) {
    out->at[q] = lengths[(uint64_t)(quantiles[q] * (double)(dataset->count - 1) + 0.5)];
  }
  memory_free(lengths);
  return true;
}

static bool show_bins(const Lengths *lengths, ProgramResult *result, Error *error) {
  static const char bar[] = "########################################";
  uint64_t most = 1;
  int first = BINS, last = 0;
  for (int b = 0; b < BINS; b++) {
    if (lengths->bins[b] == 0) continue;
    if (first == BINS) first = b;
    last = b;
    if (lengths->bins[b] > most) most = lengths->bins[b];
  }
  bool ok = buffer_text(&result->json, ",\"histogram\":[", error);
  for (int b = first; ok && b <= last; b++) {
    const long long low = 1ll << b, high = (1ll << (b + 1)) - 1;
    const int width = (int)((lengths->bins[b] * BAR + most - 1) / most);
    char number[32];
    ok = buffer_format(&result->text, error, "%9lld - %-9lld %12s  %.*s\n", low, high,
                       grouped_number((int64_t)lengths->bins[b], number), width, bar) &&
         buffer_format(&result->json, error, "%s{\"from\":%lld,\"to\":%lld,\"count\":%llu}",
                       b > first ? "," : "", low, high, (unsigned long long)lengths->bins[b]);
  }
  return ok && buffer_text(&result->json, "]", error);
}

bool inspect_show_lengths(const Dataset *dataset, ProgramResult *result, Error *error) {
  Lengths lengths = {0};
  if (!measure(dataset, &lengths, error)) return false;
  bool ok = buffer_format(&result->text, error, "tokens per %s: mean %.1f",
                          dataset->kind == DATASET_PREFERENCE ? "preference" : "example", lengths.mean) &&
            buffer_format(&result->json, error, ",\"lengths\":{\"mean\":%.6g", lengths.mean);
  for (int q = 0; ok && q < QUANTILES; q++) {
    ok = buffer_format(&result->text, error, ", %s %d", quantile_names[q], lengths.at[q]) &&
         buffer_format(&result->json, error, ",\"%s\":%d", quantile_names[q], lengths.at[q]);
  }
  ok = ok && buffer_text(&result->text, "\n", error) && show_bins(&lengths, result, error);
  return ok && buffer_format(&result->json, error, ",\"longest_sequence\":%llu}",
                             (unsigned long long)dataset->longest_sequence);
}

/* ---- how full micro-batches are ------------------------------------------------------------------------ */

typedef struct Packed {
  uint64_t updates, micro_batches, tokens;
} Packed;

/* One epoch in its order of training. An example that is longer than a micro-batch is an error, as in a stage. */
static bool pack_epoch(DataOrder *order, PackingPlan *plan, ExampleRef *batch, int *lengths, int size,
                       int room, Packed *packed, Error *error) {
  DataCursor cursor = {0};
  const uint64_t updates = data_order_batches(order, 1, size);
  for (; packed->updates < updates; packed->updates++) {
    const int count = data_order_take_batch(order, &cursor, size, batch);
    for (int i = 0; i < count; i++) {
      Example example = dataset_example(order->dataset, batch[i]);
      lengths[i] = example_tokens(&example);
      packed->tokens += (uint64_t)lengths[i];
    }
    if (!packing_plan_make(plan, lengths, count, room, true, error)) return false;
    packed->micro_batches += (uint64_t)plan->count;
  }
  return true;
}

bool inspect_show_packing(const Dataset *dataset, int batch_size, int micro_batch_tokens,
                          ProgramResult *result, Error *error) {
  DataOrder order = {0};
  PackingPlan plan = {0};
  Packed packed = {0};
  if (dataset->longest > (uint64_t)micro_batch_tokens) {
    return buffer_format(
               &result->text, error,
               "packing: the longest example has %llu tokens, more than a micro-batch of %d: no stage could "
               "train on it (optim.micro_batch_tokens)\n",
               (unsigned long long)dataset->longest, micro_batch_tokens) &&
           buffer_text(&result->json, ",\"packing\":null", error);
  }
  ExampleRef *batch = memory_alloc((size_t)batch_size * sizeof *batch);
  int *lengths = memory_alloc((size_t)batch_size * sizeof *lengths);
  bool ok = (batch && lengths) || error_out_of_memory(error, "batch", (size_t)batch_size * sizeof *batch);
  ok = ok && data_order_init(&order, dataset, 1, true, error) &&
       packing_plan_init(&plan, batch_size, error) &&
       pack_epoch(&order, &plan, batch, lengths, batch_size, micro_batch_tokens, &packed, error);
  const double full =
      100.0 * (double)packed.tokens / ((double)packed.micro_batches * micro_batch_tokens + !ok);
  char a[32], b[32];
  ok =
      ok &&
      buffer_format(&result->text, error,
                    "packing: an epoch is %s updates of %d, %s micro-batches of %d tokens, %.1f%% full\n",
                    grouped_number((int64_t)packed.updates, a), batch_size,
                    grouped_number((int64_t)packed.micro_batches, b), micro_batch_tokens, full) &&
      buffer_format(
          &result->json, error,
          ",\"packing\":{\"updates\":%llu,\"batch_size\":%d,\"micro_batches\":%llu,\"micro_batch_tokens\":%d,"
          "\"fill\":%.6g}",
          (unsigned long long)packed.updates, batch_size, (unsigned long long)packed.micro_batches,
          micro_batch_tokens, full / 100);
  memory_free(batch);
  memory_free(lengths);
  data_order_free(&order);
  packing_plan_free(&plan);
  return ok;
}
