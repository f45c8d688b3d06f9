/* The configuration of sample: sections and defaults. */
#ifndef TOOLS_SAMPLE_CONFIG_H
#define TOOLS_SAMPLE_CONFIG_H

#include "tools/sample/choose.h"
#include "train/config.h"

/* Where the reward model comes from. */
typedef struct RewardSource {
  char *path;    /* directory of a ...ForSequenceClassification model, or of the base of `adapter` */
  char *adapter; /* SEQ_CLS PEFT directory, or NULL */
} RewardSource;

typedef struct SampleConfig {
  ModelConfig model;
  RewardSource reward;
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
