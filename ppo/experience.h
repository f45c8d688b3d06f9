/* What one rollout leaves for learning: answers, scores, log-probabilities, values, rewards, advantages.
 *
 * The steps are those of the algorithm, in order (Ouyang et al. 2022, section 3.5 and appendix C.4):
 *
 *   experience_sample    the actor answers the prompts                       ids, sampled
 *   experience_logprobs  log-probabilities of actor and reference            logprob, reference, entropy
 *   experience_values    values of the critics, where there are any          value, cost_value
 *   experience_score     what the sources of rewards say of each answer      score, judged, cost
 *   experience_credit    KL, rewards, advantages                             kl, reward, total, advantage, returns, left_out
 *
 * (the scores before the log-probabilities where flat groups make room for further prompts, experience_drop_flat)
 *
 * Token arrays are ragged (ppo/kl.h): answer e has its tokens at offsets[e] .. offsets[e+1]-1. Answers are kept as
 * the ids that were sampled. Everything is host memory, allocated once for `capacity` answers.
 *
 * With many ranks (compute/comm.h) each of the first four steps is shared out: a rank has a run of neighbouring answers, so
 * that what the ranks have made lies end to end in these arrays and is put together where it lies. Sampling is shared by
 * the number of answers, for nobody knows how long they will be; the passes by tokens (share_runs). After a step every rank
 * has the whole of it, and the rest is the same arithmetic on the same numbers everywhere. Where models are sliced over ranks
 * (model/block_weights.h), the policy is gathered before it samples, and in passes all ranks go in step: one that has nothing left, or is
 * stopped by a signal, makes idle ones. */
#ifndef PPO_EXPERIENCE_H
#define PPO_EXPERIENCE_H

#include "datasets/dataset.h"
#include "model/gathered.h"
#include "model/narrowed.h"
#include "ppo/config.h"
#include "ppo/microbatch.h"
#include "ppo/models.h"
#include "ppo/reward.h"
#include "rollout/engine.h"
#include "train/run.h"

/* What is known of an answer once it is sampled, as the ranks tell it each other. */
typedef struct Ending {
  int32_t length, finished;
} Ending;

/* Episodes of evaluations are numbered from here on, the same ones in each: so that two evaluations differ by the policy alone. */
static const uint64_t experience_evaluation = (uint64_t)1 << 62;
/* Likewise those of greedy answers (remax): the first sampled answer to the prompt has the rest of the number. */
static const uint64_t experience_greedy = (uint64_t)1 << 61;

/* And the reference answers (ppo.sigmoid_scores), which are judged and not sampled. */
static const uint64_t experience_reference = (uint64_t)3 << 60;

/* How long the sampled answers to a prompt may be (rollout_limit). */
typedef struct AnswerLimits {
  uint64_t seed, answers; /* answers: to each prompt */
  int64_t least;          /* 0: all may have max_new_tokens */
} AnswerLimits;

typedef struct Experience {
  int64_t capacity;       /* answers; capacity * max_new_tokens is at most INT32_MAX */
  int64_t max_new_tokens; /* per answer */
  AnswerLimits limits;    /* since experience_begin */
  int64_t count;          /* answers of this rollout */
  int64_t kept;           /* those before this one were sampled and scored before (experience_drop_flat) */
  int64_t tokens;         /* = offsets[count] */

  Example *prompts;       /* [capacity] borrowed from the data set */
  RolloutSample *samples; /* [capacity]: prompt (the same ids), response, length, finished */
  int32_t *responses;     /* [capacity, max_new_tokens]: the samples' arrays */
  float *sampled;         /* [capacity, max_new_tokens] log-probabilities as the engine had them: likewise */
  int32_t *offsets;       /* [capacity + 1] */

  uint32_t *order;     /* [capacity] the answers in the order of an epoch */
  int64_t *cuts;       /* [ranks + 1] in the step at hand rank r has the answers cuts[r] .. cuts[r+1]-1, */
  int64_t *token_cuts; /* [ranks + 1] and these tokens */
  Ending *endings;     /* [capacity] */
  int64_t *places;     /* [capacity] where the answers that are kept were */

  RunningScore scores; /* of the run with this rollout, where they are normalised */
  float *score;        /* [capacity] as the sources of rewards say (scoring/scoring.h) */
  float
      *judged; /* [capacity] after normalisation, clipping, and the rules of length: what enters the reward */
  float *cost; /* [capacity] as the sources of costs say; 0 where there are none */
  float *baseline; /* [capacity] what the greedy answer to each prompt was judged, for remax (stage.c), */
  float *baseline_cost; /* and what it costs */
  float *against; /* [capacity] what the reference answer to each prompt is scored (ppo.sigmoid_scores) */
  int64_t
      against_each; /* since experience_begin: answers to a prompt, whose scores are taken against it; 0: they are not */
  float *total;   /* [capacity] sum of the answer's rewards less costs (ppo/cost.h), before any whitening */
  bool *left_out; /* [capacity] in no loss: ppo.mask_cut, ppo.drop_flat_groups */

  /* [capacity * max_new_tokens], ragged */
  float *logprob, *reference, *entropy; /* nats, at the sampling temperature */
  float *kl, *reward, *advantage;
  float *value, *returns; /* NULL without a critic */
  float *cost_value, *cost_returns, *cost_reward,
      *cost_advantage; /* of the costs likewise; NULL without a critic of theirs */
} Experience;

/* The parts that the steps work with; all borrowed. */
typedef struct PpoWorkers {
  const PpoConfig *config;
  const Dataset *prompts; /* where the answered prompts are from, for messages */
  Compute *compute;
  PpoModels *models;
  Scoring *scoring;
  Engine *engine;
  Gathered *gathered; /* the policy that it reads, */
  Narrowed *narrowed; /* or this, where that is open */
  Microbatch *micro;
  Pass *policy_pass, *critic_passes; /* of the models' critics */
  Arena *step;                       /* activations of one micro-batch */
  int64_t updates;                   /* before this rollout */
  const RunningScore *scores;        /* of the run before this rollout; NULL: they are not normalised */
  Run *run; /* a signal gives up what can be made again, and steps left out are counted; NULL: neither */
  Progress *progress; /* told what is done */
} PpoWorkers;

/* A critic with what it says of a rollout, and what it is to learn from it. */
typedef struct CriticView {
  Trainee *trainee;
  Pass *pass;
  float *value, *returns;
} CriticView;
/* Critic k of the models. */
CriticView experience_critic(const Experience *experience, const PpoWorkers *workers, int k);

/* Host memory of one token, for the memory plan. critics: 0, one of the rewards, two with one of the costs. */
size_t experience_token_bytes(int critics);

NODISCARD bool experience_init(Experience *experience, int64_t capacity, int64_t max_new_tokens, int critics,
                               int ranks, Error *error);
void experience_free(Experience *experience);

/* Empties it, for a new rollout; then experience_add puts in prompts. `number` is the episode's number in the run: its random draws. */
void experience_begin(Experience *experience, const PpoWorkers *workers);
void experience_add(Experience *experience, const Example *prompt, uint64_t number);

/* These change nothing but the experience, so a signal (workers->run) ends them where they are: ERROR_SIG..., after which
 * nothing is left of the rollout. A rank that it did not reach ends with the step. */
NODISCARD bool experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                                 Error *error);
NODISCARD bool experience_score(Experience *experience, const PpoWorkers *workers, Error *error);
/* In the place of experience_sample, for experience_score alone: the answer of each prompt is its reference answer, as the policy would have
 * written it, with the end token `end`, up to max_new_tokens. */
NODISCARD bool experience_recite(Experience *experience, const Tokenizer *tokenizer, int end, Error *error);
NODISCARD bool experience_logprobs(Experience *experience, const PpoWorkers *workers, Error *error);
NODISCARD bool experience_values(Experience *experience, const PpoWorkers *workers, Error *error);

/* The answers of the group of `size` that begins with answer `first` are all judged the same, and cost the same. */
bool experience_is_flat(const Experience *experience, int64_t first, int64_t size);
/* Of a rollout that is sampled and scored: gives up the flat groups, and moves the others to the front. There is room for others then, to be
 * added, sampled and scored. Returns how many it gave up. */
int64_t experience_drop_flat(Experience *experience, const PpoWorkers *workers, int64_t size);

/* What learning makes of the rollout, for the log. */
typedef struct Credit {
  double reward; /* mean over the answers of the sum of their rewards less costs, before any whitening */
  double advantage_std;                            /* over the answer tokens, before whitening */
  double return_std, explained_variance;           /* with a critic alone */
  double cost_return_std, cost_explained_variance; /* with one of the costs */
  double baseline;                                 /* mean over the prompts, of remax */
  double groups,
      flat_groups; /* prompts, and those of them whose answers were all judged the same: 0 without groups */
  double bounded;  /* tokens that met KL_LOG_RATIO_BOUND in k3 */
  double left_out; /* answers in no loss */
  bool critic, cost_critic; /* there is one */
  bool remax;               /* there are greedy answers */
  bool leaves_out;          /* an option may leave answers out */
} Credit;
/* lambda: of the costs, 0 without any. */
Credit experience_credit(Experience *experience, const PpoAlgorithm *ppo, double kl_coef, double lambda);

/* The inference passes of one micro-batch of the largest size, for the memory plan. `dry` has room for one token. */
void experience_plan(Experience *dry, const PpoWorkers *workers);

/* The answer that a token of the ragged arrays belongs to. */
int64_t experience_answer(const Experience *experience, int64_t token);
/* The first answer with a number that is not finite, -1 when there is none; *what says which number, by its name. */
int64_t experience_broken(const Experience *experience, const char **what);

/* What the rollout was like, once there are log-probabilities. */
typedef struct ExperienceStats {
  double answers, tokens;
  double score, score_std, judged; /* per answer */
  double cost;                     /* per answer */
  double ended_score;              /* mean score of those that ended; NaN without any */
  double kl, entropy;              /* k1 per answer; per token */
  double ended, empty, length; /* share that ended with EOS; share of nothing but EOS; tokens per answer */
  double sampler_error;        /* mean |log-probability of the engine - of the training forward| of a token */
  double sampler_error_max;    /* the largest */
  double sampler_kl;           /* KL(engine || training forward) of a token, nats: k3 of the same two */
} ExperienceStats;
ExperienceStats experience_stats(const Experience *experience);
/* Share of the answers that ended and did so with another id than `mark`, the one that the reward model saw at the end of
 * its answers. NaN when none ended, or mark is negative. */
double experience_other_ends(const Experience *experience, int mark);

#endif
