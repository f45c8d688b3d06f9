/* Text as records are compared: folded, and cut into words.
 *
 * Folded: NFC, lower case (character by character), every run of white space one space, none at the ends.
 *
 * Words of folded text are runs of letters, digits and marks (\w of UTS #18); where words are written without spaces (Han,
 * Hiragana, Katakana, Khmer, Lao, Myanmar, Thai) each character is one. Every other visible character is a sign of its own. A
 * word or sign is known by 32 bits of its hash: two that differ have the same with a probability of 2^-32. */
#ifndef TOOLS_DATA_WORDS_H
#define TOOLS_DATA_WORDS_H

#include "base/memory.h"
#include "tokenizer/normalize.h"

typedef enum Folding { FOLDING_NONE, FOLDING_SPACE, FOLDING_FULL } Folding;
extern const char *const folding_names[]; /* "none", "space", "full", NULL */

typedef struct Folder {
  Normalizer steps;
  Text text, spare;
} Folder;

NODISCARD bool folder_init(Folder *folder, Error *error);
void folder_free(Folder *folder);
/* Appends well-formed UTF-8: as it is, with runs of white space as one space, or folded. */
NODISCARD bool folder_fold(Folder *folder, Folding folding, const char *text, size_t bytes, Buffer *out,
                           Error *error);

typedef struct UnitArray {
  uint32_t *data;
  size_t size, capacity;
} UnitArray;

NODISCARD bool unit_array_push(UnitArray *array, uint32_t unit, Error *error);
void unit_array_free(UnitArray *array);

typedef struct Words {
  UnitArray units;        /* of the words */
  UnitArray begin, end;   /* their bytes in the folded text */
  UnitArray signed_units; /* of words and signs */
} Words;

/* Replaces what is there by the words of folded text of less than 4 GiB. */
NODISCARD bool words_cut(Words *words, const char *folded, size_t bytes, Error *error);
/* Replaces `out` by the characters but for spaces. */
NODISCARD bool characters_cut(UnitArray *out, const char *folded, size_t bytes, Error *error);
void words_free(Words *words);

#endif
