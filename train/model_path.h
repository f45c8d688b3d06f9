/* Texts that name models and adapters: a directory, a GGUF file, or a name on the hub (train/hub.h).
 *
 * What is named and is something else — an adapter where a model is wanted, a run, a checkpoint, one file of a model — is refused with
 * what it is and what was probably meant. */
#ifndef TRAIN_MODEL_PATH_H
#define TRAIN_MODEL_PATH_H

#include "base/log.h"
#include "base/memory.h"
#include "base/option.h"

typedef struct ModelPath {
  char *path; /* what to open */
  char *
      recorded; /* what to write down, the same wherever a hub's cache lies: "ORG/NAME@COMMIT" of what lies in the cache, else the text */
} ModelPath;

/* `key` is the option in messages ("model.path", "--model"); names: OPTION_NAMES_MODEL or OPTION_NAMES_ADAPTER. Says which snapshot a
 * name is. ERROR_FILE when there is nothing of that name, with the command that fetches it; ERROR_USAGE when it is something
 * else. A directory that lacks a part of a model is told by who reads that part. */
NODISCARD bool model_path_open(ModelPath *out, const char *key, OptionNames names, const char *text, Log *log,
                               Error *error);
void model_path_close(ModelPath *path);

/* The same for all options of a table that name models or adapters and are set: afterwards they are what to open. `settings` (may be
 * NULL) gets the configuration as it is to be recorded (options_json). */
NODISCARD bool model_paths_open(const Option *table, size_t rows, void *config, Buffer *settings, Log *log,
                                Error *error);

/* Reads the weights of the models that options name, and keeps none: the values, as loading them would find them. Of adapters
 * and score heads, which are small, opening them in a dry memory has read everything. Of a directory without weights it says
 * that. */
NODISCARD bool model_paths_read(const OptionGiven *given, const void *config, Log *log, Error *error);
/* That they all have weights: what a run needs beyond what --check does without (train/absent.h). ERROR_MODEL. */
NODISCARD bool model_paths_complete(const OptionGiven *given, const void *config, Error *error);

#endif
