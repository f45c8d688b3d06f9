#include "model/pass_records.h"

#include <string.h>

enum { LEAST_TOKENS = 64, SEQUENCES = 64, MOST_FAILURES = 3 };

bool pass_records_init(PassRecords *records, Compute *compute, int64_t tokens, size_t bytes, Error *error) {
  *records = (PassRecords){.compute = compute, .most = bytes};
  return batch_init(&records->padded, tokens, tokens + 1, error);
}

void pass_records_free(PassRecords *records) {
  for (int i = 0; i < records->count; i++) {
    compute_graph_free(records->compute, records->list[i].forward.graph);
    compute_graph_free(records->compute, records->list[i].backward.graph);
  }
  batch_free(&records->padded);
  *records = (PassRecords){0};
}

static int64_t rounded(int64_t count, int64_t unit, int64_t most) {
  const int64_t up = (count + unit - 1) / unit * unit;
  return up < most ? up : most;
}

const Batch *pass_records_pad(PassRecords *records, const Batch *batch) {
  Batch *out = &records->padded;
  const int64_t eighth = (batch->token_capacity + PASS_SIZES - 1) / PASS_SIZES;
  const int64_t unit = rounded(eighth, LEAST_TOKENS, INT64_MAX);
  const int64_t tokens = batch->tokens, sequences = batch->sequences;
  out->tokens = rounded(tokens, unit, batch->token_capacity);
  out->sequences = rounded(sequences + 1, SEQUENCES, batch->sequence_capacity + 1);
  ASSERT(tokens > 0 && out->tokens <= out->token_capacity && out->sequences <= out->sequence_capacity);
  const size_t bytes = (size_t)tokens * sizeof *batch->ids;
  memcpy(out->ids, batch->ids, bytes);
  memcpy(out->positions, batch->positions, bytes);
  memcpy(out->draws, batch->draws, bytes);
  memcpy(out->offsets, batch->offsets, (size_t)(sequences + 1) * sizeof *batch->offsets);
  for (int64_t t = tokens; t < out->tokens; t++) {
    out->ids[t] = batch->ids[0];
    out->positions[t] = batch->positions[0];
    out->draws[t] = batch->draws[0];
  }
  for (int64_t b = sequences + 1; b <= out->sequences; b++) out->offsets[b] = (int32_t)out->tokens;
  return out;
}

static bool same_key(const PassKey *a, const PassKey *b) {
  return a->model == b->model && a->adapter == b->adapter && a->mode == b->mode && a->tokens == b->tokens &&
         a->sequences == b->sequences && a->step == b->step && a->scratch == b->scratch;
}

PassRecord *pass_records_find(PassRecords *records, PassKey key) {
  for (int i = 0; i < records->count; i++)
    if (same_key(&records->list[i].key, &key)) return &records->list[i];
  if (records->count == PASS_RECORDS) return NULL;
  PassRecord *record = &records->list[records->count++];
  *record = (PassRecord){.key = key};
  return record;
}

/* Whether another graph, as large as any before, would have room. */
static bool has_room(const PassRecords *records) {
  return records->bytes + records->largest <= records->most;
}

/* False when there is no graph: nothing has been done then. */
static bool record(PassRecords *records, PassGraph *graph, void (*body)(void *), void *context, Arena *step) {
  Compute *c = records->compute;
  const size_t mark = arena_mark(step);
  compute_record_begin(c);
  body(context);
  graph->graph = compute_record_end(c);
  if (!graph->graph) {
    arena_release(step, mark);
    graph->ran = false; /* what it needs may have been forgotten since */
    graph->failures++;
    return false;
  }
  const size_t bytes = compute_graph_bytes(c, graph->graph);
  records->bytes += bytes;
  if (bytes > records->largest) records->largest = bytes;
  return true;
}

void pass_records_run(PassRecords *records, PassGraph *graph, void (*body)(void *), void *context,
                      Arena *step, bool follow) {
  Compute *c = records->compute;
  if (graph->graph) {
    c->dry = true;
    if (follow) body(context);
    c->dry = false;
  } else if (!graph->ran || graph->failures >= MOST_FAILURES || !has_room(records) ||
             !record(records, graph, body, context, step)) {
    body(context);
    graph->ran = true;
    return;
  }
  compute_replay(c, graph->graph);
}
