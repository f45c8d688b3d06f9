/* Paths that should be models or adapters. */
#ifndef TRAIN_MODEL_PATH_H
#define TRAIN_MODEL_PATH_H

#include "base/log.h"

/* ERROR_USAGE when `path` is the directory of a run, or of a checkpoint: neither is a model, and the message says how to
 * have one of it. `key` is the option that names it. A NULL path is fine, and so is one that is not there: others say so. */
NODISCARD bool model_path_check(const char *key, const char *path, Error *error);
/* The same for the models and adapters that a stage's resolved configuration (options_json) names. */
NODISCARD bool model_paths_check(const char *settings, Error *error);
/* Reads the weights of the models that it names, and keeps none: the values, as loading them would find them. Of adapters
 * and score heads, which are small, opening them in a dry memory has read everything. Of a directory without weights it says
 * that. */
NODISCARD bool model_paths_read(const char *settings, Log *log, Error *error);
/* That they all have weights: what a run needs beyond what --check does without (train/absent.h). ERROR_MODEL. */
NODISCARD bool model_paths_complete(const char *settings, Error *error);

#endif
