/* How far the policy that samples is from that of the exact weights, where it has fewer bits: after the answers the exact weights, in
 * the place of the others, read them, under the same adapter.
 *
 *   exact_plan(&exact, ...)                   before anything is read
 *   exact_begin(&exact, ...)                  memory on the host
 *   ... RolloutSpec.place_logits = exact_place; the sampler's weights are given back ...
 *   exact_compare(&exact, samples, count, ...)
 *   exact_say(&exact, log)
 *
 * At each place that is looked at both have a distribution of the whole vocabulary: that of the temperature (1 for greedy answers), after
 * repetition penalty and bans and before top-k and top-p, as log-probabilities of answers are (rollout/sample.h). Of these:
 *   KL(sampler || exact)   exact given the text before it, so that it holds for greedy answers and below a top-p as well, and
 *                          its error is that of the mean over places alone
 *   k3                     of the tokens that were sampled there, the estimator of ppo/sampler_kl; where nothing but the temperature
 *                          chose them
 * Standard errors are from differences between answers, since the tokens of one are not independent.
 *
 * What the sampler had is kept on the host, a row of the vocabulary for each place, since its weights are gone by then. Of more tokens than
 * there is room for, as many as fit are chosen: by numbers that belong to a token, so that the same are chosen in any batch. */
#ifndef TOOLS_GENERATE_EXACT_H
#define TOOLS_GENERATE_EXACT_H

#include "base/log.h"
#include "rollout/engine.h"
#include "tools/generate/policy.h"
#include "train/plan.h"

typedef struct ExactAsked {
  const char *model, *adapter; /* adapter: or NULL */
  WeightFormat format;         /* of the exact weights */
  bool quantized;              /* the sampler: some of its weights are in blocks, */
  DType dtype, cache;          /* the others have this type, and its keys and values that one */
  int64_t vocab;
  int64_t most;    /* places that are looked at */
  int64_t longest; /* tokens of a prompt with its answer */
} ExactAsked;

typedef struct ExactPlace {
  uint64_t sample;
  int64_t index; /* in its response */
  float draw;
  float *logits; /* [vocab] the sampler's */
} ExactPlace;

/* A mean over tokens, and its error from the groups that they are in. */
typedef struct GroupedMean {
  double sum, count;                            /* of the groups that have ended */
  double own, own_count;                        /* of the one at hand */
  double sums_sums, sums_counts, counts_counts; /* of products of the groups' sums and counts */
  int64_t groups;
} GroupedMean;

typedef struct Exact {
  ExactAsked asked;
  Policy policy;
  Batch batch;  /* of one answer with its prompt */
  Repeats seen; /* in it, where there is a penalty */
  const RolloutSpec *spec;
  int64_t count;
  ExactPlace *
      places; /* [most]; the first `count` are taken: those with the smallest draws, a heap with the largest on top */
  float *kept; /* [most, vocab] */
  float *rows; /* [EXACT_ROWS, vocab] */

  GroupedMean kl, sampled; /* of k3 */
  double change, most_change;
  int64_t same; /* places where both find the same token the likeliest */
} Exact;

enum { EXACT_ROWS = 32 }; /* whose logits are computed at once */

/* What is kept on the host, from when answers are written until they have been read. */
void exact_plan_kept(MemoryPlan *plan, const ExactAsked *asked, const Compute *compute);
/* ERROR_USAGE where the sampler has no fewer bits than the exact weights, or there are none more exact; ERROR_MEMORY where these do not fit. */
NODISCARD bool exact_plan(Exact *exact, const ExactAsked *asked, Compute *compute, Log *log, Error *error);
/* spec: of the run; borrowed. */
NODISCARD bool exact_begin(Exact *exact, const RolloutSpec *spec, Error *error);
/* As RolloutSpec.place_logits asks. */
float *exact_place(Exact *exact, const RolloutSample *sample);
/* samples: by their numbers. ERROR_MODEL where what is computed is not finite. */
NODISCARD bool exact_compare(Exact *exact, const RolloutSample *samples, Compute *compute, Log *log,
                             Error *error);
void exact_say(const Exact *exact, Log *log);
void exact_free(Exact *exact, Compute *compute); /* also of a zeroed one */

#endif
