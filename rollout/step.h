/* The device's side of an engine's step: rows go there in one copy, the model runs, a token is sampled for each
 * picked row, and what was sampled comes back in one copy.
 *
 * Attention is asked about as much of the cache as the step's longest sequence has, rounded up to a power of two of positions,
 * STEP_REACH at least: on a card grids come from shapes, and those of a long limit would be empty for the most part.
 *
 * On a backend that can record (compute.h), a step of decoding rows alone is recorded for its number of rows and its reach
 * and replayed from then on. To have few recordings the number is rounded up with idle rows: greedy ones of a
 * sequence of their own, whose one cache block nobody else uses. The other rows' results do not depend on them. The first
 * step of a size runs as it is, so that everything it needs is loaded and planned before it is recorded.
 *
 * A recording holds addresses: the arena's mark must be the same at every step (asserted), the weights stay
 * where they are. Recordings are dropped when the adapter is another or the scratch arena has moved. */
#ifndef ROLLOUT_STEP_H
#define ROLLOUT_STEP_H

#include "model/decode.h"

enum { STEP_REACH = 256 }; /* positions */
enum { STEP_BANNED = 64 }; /* tokens that may be banned, at most */

/* A step that edits logits (LogitEdits in compute/ops.h): the parts of its block that the caller fills in like its samples. */
typedef struct StepEdits {
  float penalty;                /* of all rows */
  int32_t *from, *count, *bans; /* [picks] */
  int32_t *banned;              /* [STEP_BANNED], some of them more than once */
  int32_t *ids;                 /* [picks * most] */
  int64_t used;                 /* of these: the others are not sent */
} StepEdits;

/* A step of some number of decoding rows and some reach. */
typedef struct StepRecord {
  bool ran;            /* before it is recorded it runs once */
  ComputeGraph *graph; /* or NULL */
  Tensor logits;       /* where a replay leaves them */
} StepRecord;

typedef struct Step {
  Compute *compute;
  const Model *model;
  KvCache *cache;
  Arena *arena;
  int64_t rows, picks; /* most of a step */
  int64_t most;        /* ids whose logits are edited, of a row; 0: none are, nor banned */
  int32_t idle;        /* sequence of the idle rows; -1: the backend cannot record */

  /* Host. The caller fills in samples[picks]; results are there after the step. */
  SampleRow *samples; /* [picks] */
  StepEdits edits;
  int32_t *sampled; /* [picks] ids */
  float *logprobs;  /* [picks] */
  Tensor
      logits; /* [picks at least, V] F32, on the device: what the step sampled from, edited; until step_end */
  size_t before; /* of the arena, while a step lasts */

  /* One block on the host and one on the device, in the same layout: SampleRow samples[picks];
   * int32_t picked[picks], ids[rows], sequence[rows], position[rows], and those of edits. */
  char *host_input;
  Tensor input; /* U8 */
  /* int32_t sampled[picks]; float logprobs[picks]. */
  char *host_output;
  Tensor output; /* U8 */

  int reaches;            /* how many there are to tell apart */
  StepRecord *records;    /* [reaches][picks + 1], by number of rows, idle ones included */
  int64_t recorded;       /* how many there are */
  const LoraSet *adapter; /* that all of them use */
  float penalty;          /* likewise */
  size_t mark;            /* of the arena, at all of them */
  const char *scratch;    /* base of the scratch arena, at all of them */
} Step;

/* Sequences and blocks of the cache that the idle rows need, on top of the engine's. */
int64_t step_idle_blocks(const Compute *compute);

/* `rows` and `picks` are the most of a step, `most` that of the ids whose logits are edited in a row (0: no edits); decoding steps have up to `picks` rows. The cache's last sequence
 * and block are the idle rows' (step_idle_blocks). All are borrowed. With compute->dry the largest step is
 * counted. step_free after a failure, too. */
NODISCARD bool step_init(Step *step, Compute *compute, const Model *model, const LoraSet *adapter,
                         KvCache *cache, int64_t rows, int64_t picks, int64_t most, Arena *arena,
                         Error *error);
void step_free(Step *step);

/* Between runs the arena's memory may have held something else: what a step finds there is put there again. */
void step_refresh(Step *step);

/* The rows of a step, on the host. */
typedef struct StepRows {
  const int32_t *ids, *sequence, *position; /* [count] */
  const int32_t *picked;                    /* [picks] */
  int64_t count, picks;
  bool decoding; /* one row for each sequence, all of them picked, in order */
} StepRows;

void step_run(Step *step, const LoraSet *adapter, const StepRows *rows);
/* When its results have been taken: gives its memory back. */
void step_end(Step *step);

#endif
