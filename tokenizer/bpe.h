/* The model BPE of tokenizer.json: a vocabulary and ranked merges (Sennrich et al., ACL 2016).
 *
 * A piece starts as its characters. Again and again the adjacent pair whose merge has the lowest rank, of equals
 * the leftmost, becomes one token: O(n log n) with a heap of candidate merges over a linked list of symbols.
 * Characters outside the vocabulary become their bytes (byte_fallback) or the unknown token. */
#ifndef TOKENIZER_BPE_H
#define TOKENIZER_BPE_H

#include "tokenizer/model.h"

NODISCARD TokenModel *bpe_open(const Reader *model, Error *error);

#endif
