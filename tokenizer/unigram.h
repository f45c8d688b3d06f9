/* The model Unigram of tokenizer.json: every token has a score, its log probability, and a piece becomes the tokens
 * whose scores add up to the most (Kudo, "Subword regularization", ACL 2018). The best end of every prefix is kept:
 * O(n * longest token).
 *
 * As in `tokenizers`: a character that is no token costs the least score less 10; neighbours among such are one
 * unknown token, or their bytes with byte_fallback, each of which covers the whole run; of equal sums the one
 * that was found first, from shorter prefixes and shorter tokens, stands.
 *
 * ["token", score, "never"], which is in no file of the library, is a token that no text becomes: SentencePiece's control and byte
 * pieces, for source_sentencepiece.c. */
#ifndef TOKENIZER_UNIGRAM_H
#define TOKENIZER_UNIGRAM_H

#include "tokenizer/model.h"

NODISCARD TokenModel *unigram_open(const Reader *model, Error *error);

#endif
