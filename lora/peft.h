/* What the files of this room share about PEFT's formats; callers use lora.h. */
#ifndef LORA_PEFT_H
#define LORA_PEFT_H

#include "formats/safetensors.h"
#include "lora/lora.h"

#include <jansson.h>

#define PEFT_CONFIG   "adapter_config.json"
#define PEFT_STEM     "adapter_model"
#define PEFT_PREFIX   "base_model.model."
#define PEFT_SUFFIX_A ".lora_A.weight"
#define PEFT_TABLE_A  ".lora_embedding_A"
#define PEFT_WEIGHT   ".weight"
#define PEFT_BASE     ".base_layer"
#define PEFT_SCORE    "base_model.model.score.weight"
#define PEFT_SHIFT    "score_shift" /* keys of ours in adapter_config.json */
#define PEFT_ZERO     "score_zero_point"

/* adapter_config.json with its options checked; a new reference or NULL. */
json_t *peft_config_read(const char *directory, Error *error);
NODISCARD bool peft_tensors_open(SafetensorsSet *set, const char *directory, Error *error);
bool peft_ends_with(const char *text, const char *end);

#endif
