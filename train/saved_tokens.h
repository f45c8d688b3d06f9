/* What the files of a saved model say of tokens, from its tokenizer and from how it was trained. */
#ifndef TRAIN_SAVED_TOKENS_H
#define TRAIN_SAVED_TOKENS_H

#include "model/weights.h"
#include "tokenizer/tokenizer.h"

/* Finds a padding id for a model of `vocab` rows whose ends are there already: one that ends no text. The tokenizer's
 * own pad token, a token of a usual name for one, the unknown token, a row of the model that is no token's; -1 when
 * there is none. */
void saved_tokens_find_pad(SavedTokens *tokens, const Tokenizer *tokenizer, int64_t vocab);

/* Beside a model saved from a GGUF file, into the existing directory: the files of the tokenizer that is inside it. From any other
 * source nothing is done, since its own files were copied with the model. */
NODISCARD bool saved_tokenizer_write(const char *source, const char *directory, Error *error);

#endif
