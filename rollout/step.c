#include "rollout/step.h"

#include "base/memory.h"

#include <string.h>

/* -- memory -------------------------------------------------------------------------------------------- */

int64_t step_idle_blocks(const Compute *compute) {
  return compute_can_record(compute) ? 1 : 0;
}

/* Of the block without what comes last and is not sent whole: the ids of edits. */
static int64_t fixed_bytes(const Step *s) {
  const int64_t edits = s->most > 0 ? 3 * s->picks + STEP_BANNED : 0;
  return s->picks * (int64_t)sizeof(SampleRow) + (s->picks + 3 * s->rows + edits) * (int64_t)sizeof(int32_t);
}

static int64_t input_bytes(const Step *s) {
  return fixed_bytes(s) + s->picks * s->most * (int64_t)sizeof(int32_t);
}

static int64_t output_bytes(const Step *s) {
  return s->picks * (int64_t)(sizeof(int32_t) + sizeof(float));
}

/* What lies in the blocks of input and output, by the same code on both sides. */
typedef struct StepInput {
  SampleRow *samples;
  int32_t *picked, *ids, *sequence, *position;
  StepEdits edits; /* without a penalty and a number */
} StepInput;

static StepInput input_at(const Step *s, void *block) {
  StepInput in = {.samples = block};
  in.picked = (int32_t *)(in.samples + s->picks);
  in.ids = in.picked + s->picks;
  in.sequence = in.ids + s->rows;
  in.position = in.sequence + s->rows;
  in.edits.from = in.position + s->rows;
  in.edits.count = in.edits.from + s->picks;
  in.edits.bans = in.edits.count + s->picks;
  in.edits.banned = in.edits.bans + s->picks;
  in.edits.ids = in.edits.banned + STEP_BANNED;
  return in;
}

/* In blocks, of positions below STEP_REACH << index. */
static int64_t reach_blocks(const Step *s, int index) {
  const KvCache *cache = s->cache;
  const int64_t blocks = (((int64_t)STEP_REACH << index) + cache->block_size - 1) / cache->block_size;
  return blocks < cache->max_blocks ? blocks : cache->max_blocks;
}

static int reach_count(const Step *s) {
  int count = 1;
  while (reach_blocks(s, count - 1) < s->cache->max_blocks) count++;
  return count;
}

static int64_t record_count(const Step *s) {
  return s->reaches * (s->picks + 1);
}

static bool host_init(Step *s, Error *error) {
  s->host_input = memory_zeroed(1, (size_t)input_bytes(s));
  s->host_output = memory_zeroed(1, (size_t)output_bytes(s));
  s->reaches = reach_count(s);
  s->records = memory_zeroed((size_t)record_count(s), sizeof *s->records);
  if (!s->host_input || !s->host_output || !s->records) {
    return error_out_of_memory(error, "rollout step", (unsigned long long)input_bytes(s));
  }
  const StepInput in = input_at(s, s->host_input);
  s->samples = in.samples;
  if (s->most > 0) s->edits = in.edits;
  s->edits.penalty = 1;
  s->sampled = (int32_t *)(void *)s->host_output;
  s->logprobs = (float *)(void *)(s->sampled + s->picks);
  return true;
}

/* The idle sequence has one block, the last of the cache. */
static void idle_init(Step *s) {
  const int32_t block = (int32_t)(s->cache->blocks - 1);
  s->idle = (int32_t)(s->cache->sequences - 1);
  const Tensor row = tensor_rows(s->cache->table, s->idle, 1);
  compute_upload(s->compute, tensor_1d(row.data, DTYPE_I32, 1), &block);
}

/* -- operations ---------------------------------------------------------------------------------------- */

static void edit(Step *s, Tensor logits) {
  const StepEdits in = input_at(s, s->input.data).edits;
  const int64_t count = logits.dim[0];
  const LogitEdits edits = {.penalty = s->edits.penalty,
                            .ids = tensor_1d(in.ids, DTYPE_I32, s->picks * s->most),
                            .from = tensor_1d(in.from, DTYPE_I32, count),
                            .count = tensor_1d(in.count, DTYPE_I32, count),
                            .most = s->most,
                            .banned = tensor_1d(in.banned, DTYPE_I32, STEP_BANNED),
                            .bans = tensor_1d(in.bans, DTYPE_I32, count)};
  op_edit_logits(s->compute, logits, edits, (Tensor){0});
}

/* Forward and sampling; picks < 0: all rows, in order. reach: an index. Returns the logits; the caller releases what was taken. */
static Tensor operations(Step *s, const LoraSet *adapter, int64_t rows, int64_t picks, int reach) {
  const StepInput in = input_at(s, s->input.data);
  const DecodeRows decode = {.ids = tensor_1d(in.ids, DTYPE_I32, rows),
                             .sequence = tensor_1d(in.sequence, DTYPE_I32, rows),
                             .position = tensor_1d(in.position, DTYPE_I32, rows),
                             .picked = picks < 0 ? (Tensor){0} : tensor_1d(in.picked, DTYPE_I32, picks),
                             .reach = reach_blocks(s, reach)};
  const Tensor logits = model_decode(s->compute, s->model, adapter, s->cache, decode, s->arena);
  const int64_t count = logits.dim[0];
  int32_t *sampled = s->output.data;
  const Tensor ids = tensor_1d(sampled, DTYPE_I32, count);
  const Tensor logprobs = tensor_1d(sampled + s->picks, DTYPE_F32, count);
  if (count > 0 && s->most > 0) edit(s, logits);
  if (count > 0) op_sample(s->compute, ids, logprobs, logits, in.samples);
  return logits;
}

bool step_init(Step *step, Compute *compute, const Model *model, const LoraSet *adapter, KvCache *cache,
               int64_t rows, int64_t picks, int64_t most, Arena *arena, Error *error) {
  *step = (Step){.compute = compute,
                 .model = model,
                 .cache = cache,
                 .arena = arena,
                 .rows = rows,
                 .picks = picks,
                 .most = most,
                 .idle = -1};
  ASSERT(picks > 0 && rows >= picks);
  if (!host_init(step, error)) return false;
  step->input = tensor_new_1d(arena, DTYPE_U8, input_bytes(step));
  step->output = tensor_new_1d(arena, DTYPE_U8, output_bytes(step));
  if (step_idle_blocks(compute) > 0) idle_init(step);
  for (int reach = 0; compute->dry && reach < step->reaches;
       reach++) { /* a shorter one may take more workspace */
    const size_t mark = arena_mark(arena);
    operations(step, adapter, rows, picks, reach);
    arena_release(arena, mark);
    if (step->idle >= 0) operations(step, adapter, picks, -1, reach);
    arena_release(arena, mark);
  }
  return true;
}

void step_refresh(Step *step) {
  if (step->idle >= 0) idle_init(step);
}

static void drop_records(Step *s) {
  for (int64_t i = 0; s->recorded > 0 && i < record_count(s); i++) {
    compute_graph_free(s->compute, s->records[i].graph);
    s->records[i].graph = NULL;
  }
  s->recorded = 0;
}

void step_free(Step *step) {
  if (step->records) drop_records(step);
  memory_free(step->host_input);
  memory_free(step->host_output);
  memory_free(step->records);
  *step = (Step){0};
}

/* -- a step -------------------------------------------------------------------------------------------- */

/* 1, 2, 4, 8, 16 .. 64, 96, 128 ...: few recordings, and where rows are few, few rows too many. */
static int64_t rounded_rows(const Step *s, int64_t rows) {
  int64_t rounded = 1;
  if (rows > 8) {
    const int64_t unit = rows <= 64 ? 8 : 32;
    rounded = (rows + unit - 1) / unit * unit;
  } else {
    while (rounded < rows) rounded *= 2;
  }
  return rounded < s->picks ? rounded : s->picks;
}

/* The least that holds the rows' positions. */
static int reach_of(const Step *s, const StepRows *rows) {
  int32_t longest = 0;
  for (int64_t i = 0; i < rows->count; i++)
    if (rows->position[i] > longest) longest = rows->position[i];
  int reach = 0;
  while (longest >= reach_blocks(s, reach) * s->cache->block_size) reach++;
  return reach;
}

static void upload_rows(Step *s, const StepRows *rows, int64_t count) {
  const StepInput in = input_at(s, s->host_input);
  const size_t bytes = (size_t)rows->count * sizeof(int32_t);
  memcpy(in.picked, rows->picked, (size_t)rows->picks * sizeof(int32_t));
  memcpy(in.ids, rows->ids, bytes);
  memcpy(in.sequence, rows->sequence, bytes);
  memcpy(in.position, rows->position, bytes);
  for (int64_t i = rows->count; i < count; i++) {
    in.ids[i] = in.position[i] = 0;
    in.sequence[i] = s->idle;
    in.samples[i] = (SampleRow){.top_p = 1};
    if (s->most > 0) in.edits.count[i] = in.edits.bans[i] = 0;
  }
  ASSERT(s->edits.used <= s->picks * s->most);
  const int64_t bytes_sent = fixed_bytes(s) + s->edits.used * (int64_t)sizeof(int32_t);
  compute_upload(s->compute, tensor_1d(s->input.data, DTYPE_U8, bytes_sent), s->host_input);
}

/* Drops recordings whose addresses may no longer be right. */
static void check_records(Step *s, const LoraSet *adapter) {
  if (s->recorded == 0) return;
  ASSERT(arena_mark(s->arena) == s->mark);
  if (adapter != s->adapter || s->penalty != s->edits.penalty || s->scratch != s->compute->scratch.base) {
    drop_records(s);
  }
}

static Tensor decoding_step(Step *s, const LoraSet *adapter, int64_t count, int reach) {
  StepRecord *record = &s->records[reach * (s->picks + 1) + count];
  check_records(s, adapter);
  if (!record->ran) {
    record->ran = true;
    return operations(s, adapter, count, -1, reach);
  }
  if (!record->graph) {
    compute_record_begin(s->compute);
    record->logits = operations(s, adapter, count, -1, reach);
    record->graph = compute_record_end(s->compute);
    arena_release(s->arena, s->before); /* replays use it without asking */
    /* no memory for it: as before, one by one */
    if (!record->graph) return operations(s, adapter, count, -1, reach);
    s->recorded++;
    s->adapter = adapter;
    s->penalty = s->edits.penalty;
    s->mark = arena_mark(s->arena);
    s->scratch = s->compute->scratch.base;
  }
  compute_replay(s->compute, record->graph);
  return record->logits;
}

void step_run(Step *step, const LoraSet *adapter, const StepRows *rows) {
  const bool decoding = rows->decoding && step->idle >= 0;
  const int64_t count = decoding ? rounded_rows(step, rows->count) : rows->count;
  const int reach = reach_of(step, rows);
  ASSERT(reach < step->reaches && count <= step->rows && rows->picks <= step->picks && !step->compute->dry);
  step->before = arena_mark(step->arena);
  upload_rows(step, rows, count);
  step->logits = decoding ? decoding_step(step, adapter, count, reach)
                          : operations(step, adapter, count, rows->picks, reach);
  if (rows->picks > 0) compute_download(step->compute, step->host_output, step->output);
}

void step_end(Step *step) {
  arena_release(step->arena, step->before);
}
