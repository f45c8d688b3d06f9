#include "train/config.h"

const char *const model_dtype_choices[] = {"f32", "bf16", NULL};
const char *const tokenizer_choices[] = {"auto", "file", "sentencepiece", NULL};
const char *const optimizer_choices[] = {"adamw", "lion", "sgd", NULL};
const char *const optimizer_state_choices[] = {"f32", "8bit", NULL};
const char *const schedule_choices[] = {"constant", "linear", "cosine", NULL};
const char *const device_choices[] = {"auto", "cpu", "cuda", NULL};

DType model_config_dtype(const ModelConfig *config) {
  return config->dtype == MODEL_DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
}
