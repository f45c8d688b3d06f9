/* Inside train/ only: the models and adapters that a list of objects names, the JSON of an OPTION_OBJECTS: in objects whose "kind" is
 * model or ensemble, "path" names a model, and "adapter" and the "adapters" name adapters over it. */
#ifndef TRAIN_MODEL_OBJECTS_H
#define TRAIN_MODEL_OBJECTS_H

#include "train/model_path.h"

/* model_path_open for all of them: out->path and out->recorded are the list with what to open, and with what to write down. `key`:
 * "reward.sources". */
NODISCARD bool model_objects_open(ModelPath *out, const char *key, const char *text, Log *log, Error *error);

/* Calls `visit` for each model, until it returns false. */
typedef bool ModelVisit(void *context, const char *path, Error *error);
NODISCARD bool model_objects_each(const char *text, ModelVisit *visit, void *context, Error *error);

#endif
