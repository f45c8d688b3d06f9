/* The class of Transformers that AutoTokenizer takes for a model directory, and what that class puts in the place of what
 * files say (Transformers 5.24, models/auto/tokenization_auto.py and models/NAME/tokenization_NAME.py).
 *
 * Most directories are read by TokenizersBackend, which does what tokenizer.json says. Some classes take only vocabulary,
 * merges and post-processor from it and build the other steps themselves, and have names for special tokens that no file
 * names. Directories without a tokenizer.json get all steps from their class. */
#ifndef TOKENIZER_CLASS_H
#define TOKENIZER_CLASS_H

#include "tokenizer/internal.h"

typedef enum ClassKind {
  CLASS_BACKEND, /* TokenizersBackend */
  CLASS_LLAMA,
  CLASS_GEMMA,
  CLASS_GPT2,
  CLASS_NEOX,
  CLASS_QWEN2,
  CLASS_FOREIGN /* one that builds steps of its own which Drover does not know */
} ClassKind;

typedef struct TokenizerClass {
  ClassKind kind;
  char name[64]; /* as Transformers calls it */
  bool hub_code; /* tokenizer_config.json names code of the hub, which nobody runs here */
} TokenizerClass;

/* By tokenizer_config.json, config.json's tokenizer_class and its model_type. `bytes`: tokenizer.json is byte-level, which
 * LlamaTokenizer is not. */
NODISCARD bool class_choose(const Companions *files, bool bytes, TokenizerClass *class, Error *error);

/* Puts the class's normalizer, pre_tokenizer, decoder and options of the model into `top`, which has tokenizer.json's
 * structure; CLASS_BACKEND and CLASS_FOREIGN leave all as it is. Reads add_prefix_space and legacy of `config`. */
NODISCARD bool class_steps(const TokenizerClass *class, const Reader *config, json_t *top, Error *error);

/* Whether two tokenizers of tokenizer.json's structure have steps that mean the same. */
bool class_same_steps(const json_t *a, const json_t *b);

/* Special tokens that the class names where `config` (an object) has no such key. */
NODISCARD bool class_names(const TokenizerClass *class, json_t *config, Error *error);

#endif
