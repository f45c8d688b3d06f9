/* The rollout engine: text generation for many samples at once, used by PPO and by `generate`.
 *
 *   EngineConfig config = engine_config_default();
 *   engine_init(&engine, config, model, adapter, &compute, &arena, &error)   once
 *   engine_run(&engine, &spec, samples, count, &error)                       any number of times
 *   engine_free(&engine)
 *
 * How it works: keys and values lie in a paged cache of fixed blocks (Kwon et al. 2023, "Efficient memory
 * management for large language model serving with PagedAttention"). Every step runs one row for each
 * sequence that is decoding and up to prefill_chunk rows of prompts (chunked prefill), then samples one token
 * for each sequence whose last token was among the rows. A finished sequence gives its place and blocks to a
 * waiting one before the next step (continuous batching, Yu et al. 2022, "Orca"). When the blocks run out,
 * samples wait; when a running sequence cannot grow, the youngest one gives up its blocks and is computed
 * again later.
 *
 * Exactness: a row's logits do not depend on the other rows (Compute.row_invariant), and a draw depends on
 * (seed, sample number, index) alone. So the response of a sample is the same to the bit whatever else is in
 * the batch, in which order samples come, how large the cache and the chunks are, and whether it was ever
 * preempted. (On the CPU the block size alone is part of the arithmetic: attention sums block by block.)
 *
 * Memory: everything on the device comes from the arena, and the workspace of a step is taken from its top
 * and given back. Between runs the arena's memory may be used for other things: nothing in it is remembered. engine_init with a dry arena and compute->dry counts it all. A step allocates nothing (text
 * for stop strings and on_token grows small host buffers, which are kept; on a GPU the driver takes some memory
 * for each recording of a decoding step, rollout/step.h). */
#ifndef ROLLOUT_ENGINE_H
#define ROLLOUT_ENGINE_H

#include "base/log.h"
#include "model/decode.h"
#include "rollout/repeats.h"
#include "rollout/sample.h"
#include "rollout/scheduler.h"
#include "rollout/step.h"
#include "rollout/text.h"
#include "tokenizer/tokenizer.h"

typedef struct EngineConfig {
  int64_t batch;       /* sequences decoded at once */
  int64_t max_length;  /* tokens of the longest prompt + response; at most the model's max_positions, where it
                          has such a limit (engine_init lowers it); 0 = the model's. model_set_context has been called
                          with it where the rotations depend on it */
  int64_t block_size;  /* tokens in a block */
  int64_t cache_bytes; /* budget of the cache; 0 = as much as batch * max_length tokens take */
  int64_t prefill_chunk; /* prompt tokens in a step, at most; >= 1 */
  DType cache_dtype;     /* F32, BF16, or I8 (compute/ops.h, PagedCache) */
  bool edits;            /* runs may have a repetition_penalty or min_new_tokens, which take memory */
} EngineConfig;

/* Batch 32, max_length 0, block_size 16, chunk 256, and a cache of the dtype that activations have beside weights of
 * this one: keys and values are then kept as the training forward has them. */
EngineConfig engine_config_default(const Compute *compute, DType weights);

/* What is generated, and when it ends. All pointers are borrowed for the time of the run. */
typedef struct RolloutSpec {
  uint64_t seed;      /* the run's seed; the purpose RANDOM_SAMPLE is added here */
  float temperature;  /* 0 = greedy */
  float top_p;        /* 1 = off */
  int top_k;          /* 0 = off */
  const int *eos_ids; /* any of them ends a response and is its last id */
  size_t eos_count;

  /* Both are Transformers', before the temperature, and part of the distribution whose log-probabilities come back. Where config.edits is set. */
  float
      repetition_penalty; /* logits of tokens that prompt or response has are divided by it, or multiplied where negative; 0, 1 = off */
  int64_t min_new_tokens; /* no EOS id among so many first tokens */

  /* Text, needed for stop strings and on_token's text; tokenizer may be NULL without both. Special tokens
   * give no text. A response that meets a stop string keeps the id that completed it; its text ends before
   * the stop string. */
  const Tokenizer *tokenizer;
  const char *const *stops;
  size_t stop_count;

  /* Called after each sampled token (it is sample->response[sample->length-1]; sample->finished is set with
   * the last), with the text that has become certain since the last call: whole characters, nothing that may
   * still turn out to be a stop string, neither the stop string nor EOS. bytes may be 0; text is not
   * NUL-terminated. May be NULL. */
  void (*on_token)(void *context, const RolloutSample *sample, const char *text, size_t bytes);
  /* Asked before each sampled token is appended: where to put the logits that it was sampled from, [vocabulary] on the host, edited and
   * before the temperature; NULL: nowhere. May be NULL. */
  float *(*place_logits)(void *context, const RolloutSample *sample);
  void *context;
} RolloutSpec;

/* Counted since engine_init. Steps without prompt rows are timed apart, so that both rates are honest. */
typedef struct EngineStats {
  int64_t steps;
  int64_t prompt_rows;   /* rows run for prompts, and again after a preemption */
  int64_t shared_tokens; /* prompt tokens not run because another sample had them in the cache */
  int64_t sampled_tokens;
  int64_t decode_tokens; /* of which in steps without prompt rows */
  int64_t preemptions;
  double prefill_seconds; /* steps with prompt rows */
  double decode_seconds;  /* steps without */
} EngineStats;

typedef struct Engine {
  EngineConfig config; /* resolved */
  const Model *model;
  const LoraSet *adapter; /* may be changed between runs to a set of the same rank and targets, or NULL */
  Compute *compute;
  Arena *arena;
  KvCache cache;
  Scheduler scheduler;
  Step step;
  TextStream *texts; /* [batch], by slot */
  Repeats repeats;   /* likewise; config.edits */
  RolloutSpec spec;
  RandomKey key;
  EngineStats stats;
} Engine;

/* model and adapter (may be NULL) are borrowed; their weights may change between runs and are never
 * changed here. With compute->dry and a dry arena nothing is run, only counted, including the largest
 * possible step. Errors: ERROR_MODEL for one without LM head, ERROR_USAGE for numbers out of range,
 * ERROR_MEMORY when the cache cannot hold one sequence of max_length. */
NODISCARD bool engine_init(Engine *engine, EngineConfig config, const Model *model, const LoraSet *adapter,
                           Compute *compute, Arena *arena, Error *error);
/* Whether prompts of up to `longest` tokens leave room for an answer (ERROR_USAGE), and a warning when not for one of max_new_tokens; log may be NULL. */
NODISCARD bool engine_check_lengths(const Engine *engine, int64_t longest, int64_t max_new_tokens, Log *log,
                                    Error *error);
/* Says how often since engine_init an answer gave up its place in a cache that was full, if any did. */
void engine_tell_preemptions(const Engine *engine, Log *log);
void engine_free(Engine *engine); /* host arrays; tensors belong to the arena */

/* Generates all samples. ERROR_DATA (naming the sample) for an empty prompt, one that leaves no room for a
 * token, or an id outside the vocabulary; ERROR_USAGE for more than STEP_BANNED EOS ids that min_new_tokens would ban. Nothing is generated then. */
NODISCARD bool engine_run(Engine *engine, const RolloutSpec *spec, RolloutSample *samples, int64_t count,
                          Error *error);

/* The same in steps, for callers that have something to do in between:
 *   engine_begin(...); while (engine_busy(&engine)) engine_step(&engine, &error); */
NODISCARD bool engine_begin(Engine *engine, const RolloutSpec *spec, RolloutSample *samples, int64_t count,
                            Error *error);
bool engine_busy(const Engine *engine);
NODISCARD bool engine_step(Engine *engine, Error *error);
void engine_abandon(Engine *engine); /* drops what runs and waits; unfinished samples keep what they have */

#endif
