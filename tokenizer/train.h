/* Trains a byte-level BPE tokenizer from text and writes it as tokenizer.json + tokenizer_config.json, which
 * `tokenizers` and Transformers (PreTrainedTokenizerFast) load with the same ids.
 *
 * Sennrich et al., "Neural machine translation of rare words with subword units", ACL 2016: starting from the
 * 256 bytes, the most frequent adjacent pair becomes a token until the vocabulary is full. Ties go to the
 * pair with the smaller ids, as `tokenizers`' BpeTrainer does it, so the result depends only on the texts,
 * not on their order. Ids: special tokens in the given order, then the byte alphabet, then the merges.
 *
 *   TokenizerTrainer *trainer = tokenizer_trainer_open(&training, &error);
 *   tokenizer_trainer_add_text(trainer, text, bytes, &error)   any number of times
 *   tokenizer_trainer_write(trainer, "dir", &size, &error)
 *   tokenizer_trainer_free(trainer);
 *
 * Time is about O(text + merges * words touched * log pairs): a few MB and some thousand tokens take seconds.
 */
#ifndef TOKENIZER_TRAIN_H
#define TOKENIZER_TRAIN_H

#include "base/error.h"

#include <stddef.h>

typedef enum TokenizerSplit {
  TOKENIZER_SPLIT_GPT2,  /* ByteLevel with GPT-2's pattern */
  TOKENIZER_SPLIT_LLAMA3 /* Llama-3's pattern, then bytes: numbers in groups of three */
} TokenizerSplit;

typedef struct TokenizerTraining {
  int vocab_size;    /* all tokens; at least special_count + 256 */
  int min_frequency; /* pairs seen less often are not merged; 0 and 1 mean any */
  TokenizerSplit split;
  const char *const *special; /* special tokens, ids 0 .. special_count-1; borrowed until free */
  size_t special_count;
  const char *bos, *eos, *pad, *unk; /* among the special tokens, or NULL */
  bool add_bos;                      /* encoding with special tokens puts BOS in front (needs bos) */
  const char *chat_template;         /* Jinja text stored in tokenizer_config.json; NULL = none */
  int model_max_length;              /* tokens, stored in tokenizer_config.json; 0 = not stored */
} TokenizerTraining;

/* The Jinja text of the ChatML template, for chat_template above. */
extern const char tokenizer_chatml_template[];

typedef struct TokenizerTrainer TokenizerTrainer;

/* ERROR_USAGE when the numbers or tokens do not fit together. */
NODISCARD TokenizerTrainer *tokenizer_trainer_open(const TokenizerTraining *training, Error *error);
void tokenizer_trainer_free(TokenizerTrainer *trainer);

/* Counts the words of a text. Special tokens inside are left out. */
NODISCARD bool tokenizer_trainer_add_text(TokenizerTrainer *trainer, const char *text, size_t bytes,
                                          Error *error);
/* The same for a whole UTF-8 file, as one text. */
NODISCARD bool tokenizer_trainer_add_file(TokenizerTrainer *trainer, const char *path, Error *error);

/* Trains and writes both files into the directory (created when missing). With too little text the vocabulary
 * ends up smaller than asked for; *vocab_size (may be NULL) receives its size. */
NODISCARD bool tokenizer_trainer_write(TokenizerTrainer *trainer, const char *directory, int *vocab_size,
                                       Error *error);

#endif
