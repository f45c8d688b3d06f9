/* Generation: prompts of one length, then the same number of new tokens for each. What counts are the steps that
 * decode: each reads all weights once, and the keys and values of every sequence. */
#include "tools/bench_model/work.h"

#include "base/memory.h"

#include <stdio.h>

static bool open(Bench *b, Error *error) {
  const BenchConfig *config = b->config;
  const int64_t batch = config->batch, length = config->length, fresh = config->new_tokens;
  EngineConfig engine = engine_config_default(&b->compute, b->model.dtype);
  engine.batch = batch;
  engine.max_length = length + fresh;
  engine.cache_dtype = cache_dtype(config->cache_dtype, engine.cache_dtype);
  b->samples = memory_zeroed((size_t)batch, sizeof *b->samples);
  b->prompt = memory_alloc((size_t)(length * batch) * sizeof *b->prompt);
  b->responses = memory_alloc((size_t)(fresh * batch) * sizeof *b->responses);
  if (!b->samples || !b->prompt || !b->responses) return error_out_of_memory(error, "samples", (size_t)batch);
  for (int64_t i = 0; i < length * batch; i++)
    b->prompt[i] = (int32_t)((uint64_t)i * 2654435761u % (uint64_t)b->model.spec.vocab);
  for (int64_t i = 0; i < batch; i++) {
    b->samples[i] = (RolloutSample){.prompt = b->prompt + i * length, /* each its own: nothing is shared */
                                    .prompt_length = length,
                                    .max_new_tokens = fresh,
                                    .number = (uint64_t)i,
                                    .response = b->responses + i * fresh};
  }
  return engine_init(&b->engine, engine, &b->model, NULL, &b->compute, &b->memory.cache, error);
}

static bool start(Bench *b, Error *error) {
  (void)b;
  (void)error;
  return true;
}

static bool step(Bench *b, Error *error) {
  if (b->compute.dry) return true; /* engine_init counted its largest step */
  const RolloutSpec spec = {.seed = 1, .temperature = 1, .top_p = 1};
  const EngineStats before = b->engine.stats;
  if (!engine_run(&b->engine, &spec, b->samples, b->config->batch, error)) return false;
  const EngineStats *after = &b->engine.stats;
  b->seconds = after->decode_seconds - before.decode_seconds;
  b->tokens = (double)(after->decode_tokens - before.decode_tokens);
  const double steps = b->tokens / (double)b->config->batch;
  const double weights = (double)b->memory.weights.used;
  const double context = (double)b->config->length + (double)b->config->new_tokens / 2;
  const double cached = (double)kv_block_bytes(&b->model.spec, 1, b->engine.config.cache_dtype);
  b->bytes = steps * (weights + (double)b->config->batch * context * cached);
  snprintf(b->more, sizeof b->more, ",\"prefill_seconds\":%.6g,\"steps\":%.0f",
           after->prefill_seconds - before.prefill_seconds, steps);
  return true;
}

static double flops(const Bench *b, double product_parameters) {
  return 2 * product_parameters * (double)b->config->batch * (double)b->config->new_tokens;
}

static void close(Bench *b) {
  engine_free(&b->engine);
  memory_free(b->samples);
  memory_free(b->prompt);
  memory_free(b->responses);
  b->samples = NULL;
  b->prompt = b->responses = NULL;
}

const BenchWork bench_decoding = {open, start, step, flops, close};
