/* What a model is read from: a Hugging Face directory, the text part of a multimodal one, or a GGUF file (or a directory with nothing but one). */
#ifndef MODEL_SOURCE_H
#define MODEL_SOURCE_H

#include "base/json.h"
#include "formats/weight_files.h"

/* config.json of a directory, or what stands in its place. A new reference, or NULL: ERROR_FILE when there is none, ERROR_MODEL when
 * it is broken. *shown is a new string, the file that messages should name; NULL when memory is out. */
json_t *model_config_read(const char *path, char **shown, Error *error);
/* Whether the model is the language model inside a multimodal one (text_part.h). */
bool model_source_is_part(const char *path);
/* Whether there is one, broken or not. */
bool model_config_exists(const char *path);
/* weight_files_open, of GGUF too. */
NODISCARD bool model_weights_open(WeightFiles *files, const char *path, Error *error);
bool model_weights_exist(const char *path);

#endif
