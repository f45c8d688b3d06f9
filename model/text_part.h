/* The language model inside a multimodal directory (model_type "gemma3"), as if it stood alone: its configuration, and its weights
 * under a language model's names. Vision tower and projector are passed over; what is saved is the language model ("gemma3_text"). */
#ifndef MODEL_TEXT_PART_H
#define MODEL_TEXT_PART_H

#include "base/json.h"
#include "formats/weight_files.h"

/* Whether a config.json is that of such a directory. */
bool text_part_is(const json_t *config);
/* Takes over a reference to config; returns a new one to the language model's config, or NULL: ERROR_MODEL. */
json_t *text_part_config_take(json_t *config, Error *error);
/* Leaves the language model's entries of opened files, renamed. On failure the files are closed. */
NODISCARD bool text_part_weights(WeightFiles *files, Error *error);

#endif
