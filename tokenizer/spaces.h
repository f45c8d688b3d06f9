/* SentencePiece's own normalisation of a text (src/normalizer.cc), for TOKENIZER_SENTENCEPIECE:
 *
 * From left to right the longest string that the charsmap knows is replaced, but user-defined pieces stay as they are. A mark
 * stands for each space: one more in front of the text (add_dummy_prefix), and with remove_extra_whitespaces none that follows
 * another or stands at an end.
 *
 * In the structure of tokenizer.json it is the normalizer "SentencePiece", which only source_sentencepiece.c makes:
 * precompiled_charsmap (base64, may be absent), add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces, user_defined. */
#ifndef TOKENIZER_SPACES_H
#define TOKENIZER_SPACES_H

#include "base/reader.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/text.h"

typedef struct Spaces Spaces;

/* `map` is taken over on success, NULL: none. */
NODISCARD Spaces *spaces_open(const Reader *reader, Charsmap *map, Error *error);
void spaces_free(Spaces *spaces); /* NULL is fine */

NODISCARD bool spaces_append(const Spaces *spaces, const Text *in, Text *out, Error *error);

#endif
