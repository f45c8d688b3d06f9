/* The configuration of the ppo stage: sections and defaults. The defaults are those of Huang et al. 2024, "The N+
 * implementation details of RLHF with PPO" (SFD), unless a row says otherwise. */
#ifndef PPO_CONFIG_H
#define PPO_CONFIG_H

#include "ppo/cost.h"
#include "scoring/config.h"
#include "train/config.h"

typedef struct PpoAlgorithm {
  int64_t total_episodes; /* answers sampled over the whole run */
  int64_t batch_size;     /* answers per rollout */
  int64_t samples_per_prompt;
  int advantage;       /* Estimator */
  int64_t minibatches; /* optimiser steps per epoch over a rollout */
  int64_t epochs;      /* passes over each rollout */
  double kl_coef;
  int kl_estimator; /* KlEstimator */
  int kl_in;        /* KlPlace */
  bool kl_adaptive;
  double kl_target, kl_horizon;
  double cliprange, cliprange_high, dual_clip, cliprange_value, gamma, lam, entropy_coef;
  int ratio;     /* PolicyRatio */
  int loss_mean; /* LossMean */
  bool mask_cut;
  double lam_critic, lam_alpha;
  bool whiten_rewards, whiten_advantages, normalize_scores, sigmoid_scores, drop_flat_groups;
  int missing_eos; /* MissingEos */
  double missing_eos_penalty, reward_clip;
  int64_t refill_rounds, overlong_tokens, critic_warmup, reference_every;
  double overlong_penalty;
  double ptx_coef, target_kl, critic_lr, ema;
  int64_t samples_logged;
  bool
      frozen_in_files; /* blocks of models that nothing is trained of are read when they are used (model/filed_blocks.h) */
} PpoAlgorithm;

/* The section `cost`. */
typedef struct CostConfig {
  RewardConfig sources; /* none: nothing is constrained */
  CostRule rule;
} CostConfig;

typedef struct PpoConfig {
  ModelConfig model;
  RewardConfig reward;
  CostConfig cost;
  ModelPlace critic; /* what critics begin as; without a path critic_start says */
  LoraConfig lora;
  DataConfig data;
  OptimConfig optim;
  RolloutConfig rollout;
  PpoAlgorithm ppo;
  RunConfig run;
  DeviceConfig device;
} PpoConfig;

/* Choices of run.keep_best, and the order of its measures. */
typedef enum PpoMeasure { PPO_REWARD, PPO_SCORE, PPO_HELDOUT, PPO_MEASURES } PpoMeasure;
extern const char *const ppo_measures[];
extern const Option ppo_options[];
extern const size_t ppo_option_count;

/* Rules between options that the table cannot say. */
NODISCARD bool ppo_config_check(const PpoConfig *config, Error *error);

#endif
