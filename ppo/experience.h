/* What one rollout leaves for learning: answers, scores, log-probabilities, values, rewards, advantages.
 *
 * The steps are those of the algorithm, in order (Ouyang et al. 2022, section 3.5 and appendix C.4):
 *
 *   experience_sample    the actor answers the prompts                       ids
 *   experience_score     the reward model reads each answer at its last token score
 *   experience_recompute log-probabilities of actor and reference, values    logprob, reference, value, entropy
 *   experience_credit    KL, rewards, advantages                             kl, reward, advantage, returns
 *
 * Token arrays are ragged (ppo/kl.h): answer e has its tokens at offsets[e] .. offsets[e+1]-1. Answers are kept as
 * the ids that were sampled. Everything is host memory, allocated once for `capacity` answers. */
#ifndef PPO_EXPERIENCE_H
#define PPO_EXPERIENCE_H

#include "ppo/config.h"
#include "ppo/microbatch.h"
#include "ppo/models.h"
#include "rollout/engine.h"

typedef struct Experience {
  int64_t capacity;       /* answers */
  int64_t max_new_tokens; /* per answer */
  int64_t count;          /* answers of this rollout */
  int64_t tokens;         /* = offsets[count] */

  RolloutSample *samples;   /* [capacity]: prompt (borrowed), response, length, finished */
  const char **prompt_text; /* [capacity] borrowed from the data set */
  int32_t *responses;       /* [capacity, max_new_tokens]: the samples' arrays */
  int32_t *offsets;         /* [capacity + 1] */

  int32_t *order;  /* [capacity] the answers in the order they are worked through */
  int32_t *packed; /* [capacity] the answers of one micro-batch */

  float *score;  /* [capacity] of the reward model */
  float *judged; /* [capacity] after the missing-EOS rule and clipping: what enters the reward */

  /* [capacity * max_new_tokens], ragged */
  float *logprob, *reference, *entropy; /* nats, at the sampling temperature */
  float *value, *kl, *reward, *advantage, *returns;
} Experience;

/* The parts that the steps work with; all borrowed. */
typedef struct PpoWorkers {
  const PpoConfig *config;
  Compute *compute;
  PpoModels *models;
  Engine *engine;
  Microbatch *micro;
  Pass *policy_pass, *reward_pass;
  Arena *step; /* activations of one micro-batch */
} PpoWorkers;

NODISCARD bool experience_init(Experience *experience, int64_t capacity, int64_t max_new_tokens,
                               Error *error);
void experience_free(Experience *experience);

/* Empties it; then experience_add puts in prompts. `number` is the episode's number in the run: its random draws. */
void experience_clear(Experience *experience);
void experience_add(Experience *experience, const int32_t *prompt, int64_t length, const char *text,
                    uint64_t number);

NODISCARD bool experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                                 Error *error);
NODISCARD bool experience_score(Experience *experience, const PpoWorkers *workers, Error *error);
NODISCARD bool experience_recompute(Experience *experience, const PpoWorkers *workers, Error *error);
void experience_credit(Experience *experience, const PpoAlgorithm *ppo, double kl_coef, const Comm *comm);

/* The inference passes of one micro-batch of the largest size, for the memory plan. */
void experience_plan(const PpoWorkers *workers);
/* An experience without content whose arrays may be read and written by the largest micro-batch, which `micro` becomes. */
Experience experience_dry(Microbatch *micro);

/* Means over the answers, for the log. Sums over ranks inside. */
typedef struct ExperienceStats {
  double answers, tokens;
  double score, judged, kl, entropy; /* per answer, per answer, k1 per answer, per token */
  double ended, length;              /* share that ended with EOS; tokens per answer */
} ExperienceStats;
ExperienceStats experience_stats(const Experience *experience, const Comm *comm);

#endif
