/* The configuration of the sft stage: the sections of supervised stages, and its defaults. */
#ifndef SFT_CONFIG_H
#define SFT_CONFIG_H

#include "train/supervised.h"

extern const char *const sft_measures[]; /* choices of run.keep_best */
extern const Option sft_options[];       /* of a SupervisedConfig */
extern const size_t sft_option_count;

#endif
