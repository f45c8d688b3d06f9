/* What lies at a path that should be a model or an adapter: inside train/model_path.c. */
#ifndef TRAIN_MODEL_PLACE_H
#define TRAIN_MODEL_PLACE_H

#include "base/option.h"

/* The option that a path was given to. */
typedef struct PlaceKey {
  const char *name; /* "model.path" */
  const char
      *other;   /* the one for adapters beside it, or for the model beside an adapter; NULL: there is none */
  bool adapter; /* it wants an adapter */
} PlaceKey;

/* ERROR_USAGE when what exists at the path is neither what is wanted nor anything that its reader would explain. */
NODISCARD bool model_place_check(const PlaceKey *key, const char *path, Error *error);

#endif
