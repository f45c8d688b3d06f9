/* The "normalizer" of tokenizer.json: Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, Strip, StripAccents,
 * Lowercase, BertNormalizer, Nmt, Precompiled, ByteLevel. */
#ifndef TOKENIZER_NORMALIZE_H
#define TOKENIZER_NORMALIZE_H

#include "base/reader.h"
#include "base/regex.h"
#include "tokenizer/text.h"

typedef struct NormalizerStep NormalizerStep;

typedef struct Normalizer {
  NormalizerStep *steps; /* sequences are flattened */
  size_t count;
  ByteAlphabet alphabet;
} Normalizer;

/* value NULL: no normalizer. */
NODISCARD bool normalizer_init(Normalizer *normalizer, const Reader *reader, Error *error);
void normalizer_free(Normalizer *normalizer);

/* Normalises *text in place; *spare is working space that the caller keeps for the next call. */
NODISCARD bool normalizer_apply(const Normalizer *normalizer, Text *text, Text *spare, RegexScratch *scratch,
                                Error *error);

#endif
