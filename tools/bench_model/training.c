/* One SFT update: forward, loss over every token, backward, optimiser. Model FLOPs are counted as usual: 2 a
 * parameter and token forward, 2 for the gradient of the activations, 2 for that of the weights where they are
 * trained; recomputation and attention are not counted. */
#include "tools/bench_model/work.h"

#include "base/memory.h"
#include "model/head.h"

static bool is_lora(const Bench *b) {
  return b->config->work == 0;
}

static bool fill_batch(Bench *b, Error *error) {
  const BenchConfig *config = b->config;
  const int64_t tokens = config->micro_batch_tokens, sequences = tokens / config->length;
  if (sequences < 1) {
    return error_set(error, ERROR_USAGE, "micro-batch-tokens %lld is less than length %lld",
                     (long long)tokens, (long long)config->length);
  }
  const size_t bytes = (size_t)tokens * 4;
  int32_t *ids = memory_alloc(bytes);
  b->rows = memory_alloc(bytes);
  b->targets = memory_alloc(bytes);
  b->gradient = memory_alloc(bytes);
  b->logprobs = memory_alloc(bytes);
  bool ok = (ids && b->rows && b->targets && b->gradient && b->logprobs) ||
            error_out_of_memory(error, "batch", 5 * bytes);
  ok = ok && batch_init(&b->batch, tokens, sequences, error);
  for (int64_t i = 0; ok && i < tokens; i++)
    ids[i] = (int32_t)((uint64_t)i * 2654435761u % (uint64_t)b->model.spec.vocab);
  b->row_count = 0;
  for (int64_t s = 0; ok && s < sequences; s++) {
    int64_t first;
    const bool fits = batch_add(&b->batch, ids + s * config->length, config->length, &first);
    ASSERT(fits);
    for (int64_t i = 0; i + 1 < config->length; i++) {
      b->rows[b->row_count] = (int32_t)(first + i);
      b->targets[b->row_count] = ids[first + i + 1];
      b->gradient[b->row_count++] = -1.0f / (float)tokens;
    }
  }
  memory_free(ids);
  b->tokens = (double)(sequences * config->length);
  return ok;
}

static bool open(Bench *b, Error *error) {
  b->lora = (LoraSpec){.r = (int)b->config->r, .alpha = 16};
  if (is_lora(b) && !lora_spec_target(&b->lora, "all-linear", error)) return false;
  const TraineeSpec spec = {
      .predictor = {.name = "policy", .adapted = is_lora(b), .lora = is_lora(b) ? &b->lora : NULL},
      .optimizer = {.kind = OPTIMIZER_ADAMW, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .clip = 1}};
  return trainee_open(&b->trainee, &spec, &b->model, &b->compute, &b->memory, error) &&
         pass_init(&b->pass, &b->model, error) && fill_batch(b, error) &&
         training_graphs(&b->records, b->config->device.graphs, b->config->micro_batch_tokens, &b->compute,
                         error);
}

static bool start(Bench *b, Error *error) {
  (void)error;
  optimizer_adopt(&b->trainee.optimizer, &b->compute);
  return true;
}

static bool step(Bench *b, Error *error) {
  const TokenRows rows = token_rows(b->rows, b->targets, b->row_count);
  const size_t mark = arena_mark(&b->memory.step);
  double norm;
  pass_record(&b->pass, &b->records);
  pass_forward(&b->pass, &b->compute, &b->model, predictor_adapter(&b->trainee.predictor), &b->batch,
               b->config->recompute ? PASS_RECOMPUTE : PASS_TRAIN, &b->memory.step);
  lm_logprobs_backward(&b->pass, rows, 1, b->gradient, NULL, b->logprobs);
  pass_backward(&b->pass);
  arena_release(&b->memory.step, mark);
  return trainee_step(&b->trainee, &b->compute, 1e-6, &norm, error);
}

static double flops(const Bench *b, double product_parameters) {
  return (is_lora(b) ? 4 : 6) * product_parameters * b->tokens;
}

static void close(Bench *b) {
  trainee_close(&b->trainee);
  lora_spec_free(&b->lora);
  pass_free(&b->pass);
  pass_records_free(&b->records);
  batch_free(&b->batch);
  memory_free(b->rows);
  memory_free(b->targets);
  memory_free(b->gradient);
  memory_free(b->logprobs);
  b->rows = b->targets = NULL;
  b->gradient = b->logprobs = NULL;
}

const BenchWork bench_training = {open, start, step, flops, close};
