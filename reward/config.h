/* The configuration of the reward stage: sections and defaults. */
#ifndef REWARD_CONFIG_H
#define REWARD_CONFIG_H

#include "train/supervised.h"

typedef struct RewardAlgorithm {
  double centring; /* weight of (r_b + r_w)^2, reward/loss.h */
  bool
      cost; /* a cost model: what the answer is worth is minus its score, and labels of safety say where 0 is */
} RewardAlgorithm;

typedef struct RewardStageConfig {
  SupervisedConfig common; /* data.reference among it */
  RewardAlgorithm reward;
} RewardStageConfig;

/* Rules between options that the table cannot say. */
NODISCARD bool reward_config_check(const RewardStageConfig *config, Error *error);

extern const char *const reward_measures[]; /* choices of run.keep_best */
extern const Option reward_options[];
extern const size_t reward_option_count;

#endif
