/* The configuration of the dpo stage: sections and defaults. */
#ifndef DPO_CONFIG_H
#define DPO_CONFIG_H

#include "dpo/loss.h"
#include "train/supervised.h"

typedef struct DpoStageConfig {
  SupervisedConfig common;
  DpoTerms dpo;
} DpoStageConfig;

extern const char *const dpo_measures[]; /* choices of run.keep_best */
extern const Option dpo_options[];
extern const size_t dpo_option_count;

/* Rules between options that the table cannot say. */
NODISCARD bool dpo_config_check(const DpoStageConfig *config, Error *error);

#endif
