/* The models WordPiece and WordLevel of tokenizer.json.
 *
 * WordPiece: from the left, always the longest token that the rest of the piece begins with; behind the first
 * they are looked for with continuing_subword_prefix in front. A piece that cannot be spelled so to its end, or
 * that has more than max_input_chars_per_word characters, is the unknown token.
 * WordLevel: a piece is a token or the unknown one. */
#ifndef TOKENIZER_WORDS_H
#define TOKENIZER_WORDS_H

#include "tokenizer/model.h"

NODISCARD TokenModel *wordpiece_open(const Reader *model, Error *error);
NODISCARD TokenModel *wordlevel_open(const Reader *model, Error *error);

#endif
