/* The configuration of the reward stage: sections and defaults. */
#ifndef REWARD_CONFIG_H
#define REWARD_CONFIG_H

#include "train/supervised.h"

typedef struct RewardAlgorithm {
  double centring; /* weight of (r_b + r_w)^2, reward/loss.h */
} RewardAlgorithm;

typedef struct RewardStageConfig {
  SupervisedConfig common; /* data.reference among it */
  RewardAlgorithm reward;
} RewardStageConfig;

extern const char *const reward_measures[]; /* choices of run.keep_best */
extern const Option reward_options[];
extern const size_t reward_option_count;

#endif
