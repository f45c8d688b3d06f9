/* SentencePiece's compiled normalisation, "precompiled_charsmap": what strings of characters become.
 *
 * Layout, little endian: u32 bytes of the trie, the trie, then replacement strings, each with a NUL behind it. The trie is
 * a double array of u32 units (Darts-clone): bits 0-7 and 31 hold the byte that leads to a unit, bit 8 says that a
 * string ends there, bits 10-30 the distance to its children, to be shifted left by 8 when bit 9 is set; where a string
 * ends, the unit at that distance holds the place of its replacement.
 *
 * Applied as `tokenizers` does: a grapheme of less than 6 bytes that begins with a string of the map is replaced as a
 * whole, by what the shortest such string becomes; of others each character is looked up by itself. (SentencePiece
 * looks for the longest string at every place.) */
#ifndef TOKENIZER_CHARSMAP_H
#define TOKENIZER_CHARSMAP_H

#include "tokenizer/text.h"

typedef struct Charsmap Charsmap;

/* ERROR_MODEL when the bytes are none. They are copied. */
NODISCARD Charsmap *charsmap_open(const char *bytes, size_t count, Error *error);
void charsmap_free(Charsmap *map);

/* Appends what `in` becomes. */
NODISCARD bool charsmap_append(const Charsmap *map, const Text *in, Text *out, Error *error);

/* The longest string of the map that a text begins with, as SentencePiece looks for it: its bytes, 0 where there is none, and what it
 * becomes (borrowed). */
size_t charsmap_longest(const Charsmap *map, const char *text, size_t bytes, const char **out,
                        size_t *out_bytes);

#endif
