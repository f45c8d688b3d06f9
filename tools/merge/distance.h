/* How far a merged model is from its base under the adapter: both read the same few texts, each alone.
 *
 *   |change of log-probability|   of each text's tokens after the first, nats: mean and largest
 *   KL(before || after)           of the next token, nats: mean over the same places
 *   |change of score|             of reward models instead: at the last token of each text
 *
 * Both compute as a stage would here: weights in their dtype, activations as the backend has them. What is kept between the two is every
 * log-probability of the first, [places, vocabulary] in F32. */
#ifndef TOOLS_MERGE_DISTANCE_H
#define TOOLS_MERGE_DISTANCE_H

#include "model/batch.h"
#include "model/head.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

typedef struct Distance {
  IntArray ids;  /* of all texts, end to end */
  IntArray ends; /* [texts] where in ids each ends */
  int64_t longest, places, vocab;
  bool scores;
  Batch batch;          /* of one text */
  IntArray rows;        /* 0, 1, ... longest - 1 */
  float *before;        /* [places, vocab] log-probabilities; or [texts] scores */
  float *logits;        /* of one text, [longest - 1, vocab] */
  double sum, most, kl; /* of what is compared */
} Distance;

/* Reads the texts: "prompt" or "text" of the records of a file (datasets/lines.h), or a few of its own for NULL. A text is cut to
 * most_tokens (0: no limit), and one without a place to compare is left out. ERROR_DATA for a file with none that is left, or with
 * ids from `vocab` on; texts of its own that have such are left out, and where that is all of them `places` is 0 and nothing can be
 * measured. Arrays have sizes and no memory yet. */
NODISCARD bool distance_open(Distance *distance, const char *prompts, const Tokenizer *tokenizer,
                             int64_t vocab, int64_t most_tokens, bool scores, Error *error);
void distance_free(Distance *distance);          /* also of a zeroed one */
size_t distance_bytes(const Distance *distance); /* of the arrays, on the host */
NODISCARD bool distance_allocate(Distance *distance, Error *error);

typedef struct Measured {
  Compute *compute;
  const Model *model;
  const LoraSet *adapter; /* or NULL */
  const ScoreHead *head;  /* of reward models */
  Arena *step;
} Measured;

/* In dry arenas: the largest pass. ERROR_MEMORY. */
NODISCARD bool distance_plan(Distance *distance, const Measured *measured, Error *error);
/* Of the base under the adapter; then of the merged model, which makes the figures. ERROR_MODEL where a number is not finite. */
NODISCARD bool distance_before(Distance *distance, const Measured *measured, Error *error);
NODISCARD bool distance_after(Distance *distance, const Measured *measured, Error *error);

/* The figures for people, and as a JSON object. */
NODISCARD bool distance_text(const Distance *distance, Buffer *out, Error *error);
NODISCARD bool distance_json(const Distance *distance, Buffer *out, Error *error);

#endif
