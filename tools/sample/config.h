/* The configuration of sample: sections and defaults. */
#ifndef TOOLS_SAMPLE_CONFIG_H
#define TOOLS_SAMPLE_CONFIG_H

#include "scoring/config.h"
#include "tools/sample/choose.h"
#include "train/config.h"

typedef struct SampleConfig {
  ModelConfig model;
  RewardConfig reward;
  DataConfig data;
  RolloutConfig rollout;
  SampleChoice sample;
  RunConfig run;
  DeviceConfig device;
} SampleConfig;

extern const Option sample_options[];
extern const size_t sample_option_count;

/* Rules between options that the table cannot say. */
NODISCARD bool sample_config_check(const SampleConfig *config, Error *error);

#endif
