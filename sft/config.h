/* The configuration of the sft stage. */
#ifndef SFT_CONFIG_H
#define SFT_CONFIG_H

#include "train/config.h"

typedef struct SftConfig {
  ModelConfig model;
  LoraConfig lora;
  DataConfig data;
  OptimConfig optim;
  RunConfig run;
  DeviceConfig device;
} SftConfig;

extern const Option sft_options[];
extern const size_t sft_option_count;

/* Rules between options that the table cannot say. */
NODISCARD bool sft_config_check(const SftConfig *config, Error *error);

#endif
