/* Further tokens for a model's tokenizer, and any tokenizer that is opened as a tokenizer.json. */
#ifndef TOKENIZER_EXTEND_H
#define TOKENIZER_EXTEND_H

#include "tokenizer/tokenizer.h"

typedef struct NewToken {
  const char *text;
  bool special; /* left out of decoded text on demand; others are found in a text just the same */
} NewToken;

/* Writes into the existing directory `to` the tokenizer of the model `from` (a directory or a GGUF file) with `count`
 * tokens more, whose ids follow the largest there is: all its files, of which tokenizer.json and tokenizer_config.json are new.
 * A tokenizer that is no tokenizer.json becomes one, for the class PreTrainedTokenizerFast, and what it was made from is left
 * out; count may be 0 then. *first is the id of the first new token.
 *
 * What is written is opened again and compared with what was to come. ERROR_USAGE for a token that is empty, not UTF-8, given
 * twice, or there already. */
NODISCARD bool tokenizer_extend(const char *from, const char *to, const NewToken *tokens, size_t count,
                                int *first, Error *error);

#endif
