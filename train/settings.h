/* Whether a run may go on under another configuration.
 *
 * Keys that may differ: all of run but run.seed, all of device, model.recompute, optim.micro_batch_tokens,
 * rollout.batch and data.cache (the same mathematics, though not always the same bits); and while the schedule is
 * constant, optim.epochs, optim.max_steps and ppo.total_episodes: training goes on longer. */
#ifndef TRAIN_SETTINGS_H
#define TRAIN_SETTINGS_H

#include "base/error.h"

/* Both are resolved configurations (options_json). ERROR_USAGE naming `place` and each key that differs, with
 * both values. */
NODISCARD bool settings_check(const char *before, const char *now, const char *place, Error *error);
/* True when optim.epochs, optim.max_steps and ppo.total_episodes are the same: the run has the same end. */
bool settings_same_end(const char *before, const char *now);

#endif
