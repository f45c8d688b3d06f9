/* The index of weights in several files: {"metadata": ..., "weight_map": {"TENSOR": "model-00001-of-00002.safetensors", ...}}.
 *
 * A shard lies beside its index: a name with a path in it, or of another kind of file, or that is not there, is ERROR_MODEL. */
#ifndef FORMATS_WEIGHT_INDEX_H
#define FORMATS_WEIGHT_INDEX_H

#include "base/file.h"

#include <jansson.h>

typedef struct WeightIndex {
  json_t *root;
  const json_t *map; /* tensor -> name of its file */
  StringList shards; /* their paths, each once, in the order of the map; all are there */
} WeightIndex;

/* suffix: what the names of shards end with, ".safetensors". On failure the struct is zeroed. */
NODISCARD bool weight_index_open(WeightIndex *index, const char *path, const char *suffix, Error *error);
void weight_index_close(WeightIndex *index);
/* The number in `shards` of the file that a value of the map names. */
size_t weight_index_shard(const WeightIndex *index, const json_t *value);
/* The error of a tensor that is not in the file that the index names. Always returns false. */
bool weight_index_lacks(const char *index_path, const char *shard_path, const char *name, Error *error);

/* ERROR_MODEL when a file is what git leaves in the place of one that Git LFS has not fetched: a few lines that say which. */
NODISCARD bool weight_file_is_fetched(const char *path, Error *error);

#endif
