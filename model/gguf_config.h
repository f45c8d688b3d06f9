/* A model in GGUF as if it were a Hugging Face directory: its configuration, and its weights under the names and in the layout of
 * Transformers. `file` is what gguf_locate found. Whatever cannot be followed is ERROR_MODEL, naming file and key or tensor. */
#ifndef MODEL_GGUF_CONFIG_H
#define MODEL_GGUF_CONFIG_H

#include "base/json.h"
#include "formats/weight_files.h"

/* config.json as Transformers would have it: a new reference, or NULL. */
json_t *gguf_config_read(const char *file, Error *error);
/* Dequantised while they are read, and what llama.cpp's converter did is undone. Tensors that no part of the model answers to keep
 * GGUF's names. */
NODISCARD bool gguf_weights_open(WeightFiles *files, const char *file, Error *error);

#endif
