/* The learning half of PPO: epochs of minibatches over one rollout (Schulman et al. 2017, algorithm 1).
 *
 * An epoch visits every answer once, in a fresh seeded order, `minibatches` optimiser steps of
 * batch_size/minibatches answers each. Actor and critics, where there are any, take their step from the same minibatch, each with
 * its own optimiser, one after the other: all passes and the step of one, then those of the next, since their gradients may lie in the
 * same memory. Losses are means over the answer tokens of the whole minibatch, however it is cut into micro-batches; the policy's
 * may be another mean (LossMean, ppo/loss.h). Answers that are left out (Experience.left_out) are in neither; they count as answers in a
 * mean over answers, as in TRL, and not as tokens in one over tokens. */
#ifndef PPO_UPDATE_H
#define PPO_UPDATE_H

#include "ppo/experience.h"
#include "ppo/loss.h"
#include "ppo/ptx.h"

typedef struct UpdateState {
  int64_t rollout;      /* number of this rollout in the run: seeds the orders */
  int64_t draws;        /* sequences trained on so far, each time anew (batch_draw); checkpointed */
  double lr, critic_lr; /* of this rollout */
  double kl_coef;       /* likewise; for ppo.kl_in loss */
} UpdateState;

/* Sums over the minibatches done; see ppo/loss.h. */
typedef struct UpdateStats {
  PolicyStats policy;
  ValueStats values[MOST_CRITICS];
  double ptx_loss, ptx_tokens;
  double actor_norm, critic_norms[MOST_CRITICS]; /* sums of gradient norms before clipping */
  double steps;                                  /* minibatches that made a step */
  /* Root mean square of log rho in the first minibatch, before any step: both sides are the training forward, so it is
   * 0 but for rounding and dropout. */
  double first_ratio_error;
  double empty;                  /* minibatches whose answers were all left out: these make no step */
  bool kl_in_loss, critic_alone; /* as the options have it for this rollout */
  bool stopped;                  /* target_kl was passed */
} UpdateStats;

/* ptx may be NULL. A minibatch whose loss or gradient is not finite is left out (run_skip of workers->run, which has a limit;
 * without a run it is ERROR_MODEL): whose it is makes no step from it, nor who comes after it; when it
 * is the critic's, the actor has made its own. */
NODISCARD bool update_from(Experience *experience, const PpoWorkers *workers, Ptx *ptx, UpdateState *state,
                           UpdateStats *stats, Error *error);

/* The passes of one training micro-batch of the largest size, and a step of all optimisers, for the memory plan. `dry` has room for one token. */
void update_plan(const Experience *dry, const PpoWorkers *workers, Ptx *ptx);

#endif
