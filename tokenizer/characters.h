/* Normalizers that look at one character at a time: each becomes none, one or a few. */
#ifndef TOKENIZER_CHARACTERS_H
#define TOKENIZER_CHARACTERS_H

#include "tokenizer/text.h"

typedef enum CharacterMap {
  CHARACTERS_LOWERCASE,     /* Lowercase; no rule for the final sigma */
  CHARACTERS_STRIP_ACCENTS, /* StripAccents: without marks */
  CHARACTERS_NMT,           /* Nmt: without control characters, special spaces as a space */
  CHARACTERS_CLEAN,         /* BertNormalizer, clean_text: the same, another list */
  CHARACTERS_CHINESE,       /* BertNormalizer, handle_chinese_chars: a space on both sides of an ideograph */
  CHARACTERS_NO_MN          /* BertNormalizer, strip_accents: without nonspacing marks */
} CharacterMap;

/* Appends what becomes of the characters of `in`. Clears out->from_start when the first ones are left out. */
NODISCARD bool characters_append(CharacterMap map, const Text *in, Text *out, Error *error);

#endif
