/* The configuration of the reward stage: sections and defaults. */
#ifndef REWARD_CONFIG_H
#define REWARD_CONFIG_H

#include "train/config.h"

typedef struct RewardAlgorithm {
  double centring; /* weight of (r_c + r_r)^2, reward/loss.h */
} RewardAlgorithm;

typedef struct RewardStageConfig {
  ModelConfig model;
  LoraConfig lora;
  DataConfig data;
  OptionSources reference; /* data.reference */
  OptimConfig optim;
  RewardAlgorithm reward;
  RunConfig run;
  DeviceConfig device;
} RewardStageConfig;

extern const Option reward_options[];
extern const size_t reward_option_count;

/* Rules between options that the table cannot say. */
NODISCARD bool reward_config_check(const RewardStageConfig *config, Error *error);

#endif
