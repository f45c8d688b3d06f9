/* The scheduler: which samples run, in which blocks, and which rows the next step has. Pure host bookkeeping:
 * it knows neither the model nor the random numbers, so all of it can be tested without either.
 *
 * A sequence is a sample in one of `slots` places. Its known tokens are prompt and response so far;
 * `computed` of them have keys and values in the cache. Each step of a decoding sequence computes its newest
 * token. A sequence that is new, or comes back after a preemption, computes its tokens in chunks; that a
 * token was once sampled makes no difference to what is stored for it.
 *
 * Admission is in the order of the queue while slots and blocks last; a preempted sample goes to the front.
 * The one exception: a sample whose prompt is just being computed by another sequence is passed over until
 * that is done, and then uses the full blocks of it. The last prompt token is always run again, since its
 * logits are needed. */
#ifndef ROLLOUT_SCHEDULER_H
#define ROLLOUT_SCHEDULER_H

#include "rollout/blocks.h"
#include "rollout/sample.h"

typedef struct Sequence {
  RolloutSample *sample;
  int32_t slot;     /* row of the block table */
  int64_t computed; /* known tokens with keys and values in the cache */
  int64_t blocks;   /* in use, in table row `slot` */
  bool started;     /* false when admitted; the engine's mark that it has seen this sequence */
} Sequence;

typedef struct Scheduler {
  BlockManager blocks;
  int64_t slots, max_blocks, block_size;
  int64_t prefill_chunk;

  RolloutSample *waiting; /* head of the queue */
  RolloutSample *last;    /* its tail */

  Sequence *running; /* [running_count], oldest first */
  int64_t running_count;
  int32_t *free_slots; /* stack, [slots - running_count] */

  int32_t *table;     /* host copy of KvCache.table, [slots, max_blocks] */
  bool table_changed; /* since the flag was last cleared by the engine */

  /* The rows of the planned step, for model_decode. */
  int32_t *ids, *sequence, *position; /* [row_count], room for slots + prefill_chunk */
  int64_t row_count, prompt_rows;
  int32_t *picked;         /* [pick_count] rows whose logits are wanted */
  int32_t *picked_running; /* [pick_count] the index into `running` each belongs to */
  int64_t pick_count;

  int64_t preemptions, shared_tokens; /* counted since init */
} Scheduler;

NODISCARD bool scheduler_init(Scheduler *scheduler, int64_t slots, int64_t blocks, int64_t block_size,
                              int64_t max_blocks, int64_t prefill_chunk, Error *error);
void scheduler_free(Scheduler *scheduler);

void scheduler_enqueue(Scheduler *scheduler, RolloutSample *sample); /* at the end */
static inline bool scheduler_busy(const Scheduler *s) {
  return s->running_count > 0 || s->waiting;
}

/* Gives growing sequences their blocks (preempting if needed), admits waiting samples, and fills in the rows
 * of the next step: at least one while scheduler_busy. Counts those rows as computed. */
void scheduler_plan(Scheduler *scheduler);
/* Removes the sequences whose sample is finished and frees their slots and blocks. */
void scheduler_retire(Scheduler *scheduler);
/* Drops everything that runs and waits. */
void scheduler_clear(Scheduler *scheduler);

#endif
