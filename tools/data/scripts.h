/* Scripts of Unicode: which one a character is written in, as the property Script has it. */
#ifndef TOOLS_DATA_SCRIPTS_H
#define TOOLS_DATA_SCRIPTS_H

#include "tokenizer/text.h"

/* X(enum suffix, name in Unicode). "none" is what belongs to no script (digits, punctuation, emoji), or to one that is not here. */
#define SCRIPT_LIST(X)        \
  X(NONE, "none")             \
  X(ARABIC, "Arabic")         \
  X(ARMENIAN, "Armenian")     \
  X(BENGALI, "Bengali")       \
  X(CYRILLIC, "Cyrillic")     \
  X(DEVANAGARI, "Devanagari") \
  X(ETHIOPIC, "Ethiopic")     \
  X(GEORGIAN, "Georgian")     \
  X(GREEK, "Greek")           \
  X(GUJARATI, "Gujarati")     \
  X(GURMUKHI, "Gurmukhi")     \
  X(HAN, "Han")               \
  X(HANGUL, "Hangul")         \
  X(HEBREW, "Hebrew")         \
  X(HIRAGANA, "Hiragana")     \
  X(KANNADA, "Kannada")       \
  X(KATAKANA, "Katakana")     \
  X(KHMER, "Khmer")           \
  X(LAO, "Lao")               \
  X(LATIN, "Latin")           \
  X(MALAYALAM, "Malayalam")   \
  X(MYANMAR, "Myanmar")       \
  X(SINHALA, "Sinhala")       \
  X(TAMIL, "Tamil")           \
  X(TELUGU, "Telugu")         \
  X(THAI, "Thai")             \
  X(TIBETAN, "Tibetan")

typedef enum Script {
#define X(id, name) SCRIPT_##id,
  SCRIPT_LIST(X)
#undef X
      SCRIPT_COUNT
} Script;

extern const char *const script_names[SCRIPT_COUNT];

Script script_of(uint32_t character);
/* Whether words are written without spaces between them. */
bool script_has_no_spaces(Script script);

typedef struct ScriptTally {
  uint64_t characters[SCRIPT_COUNT];
} ScriptTally;

/* Adds the characters of well-formed UTF-8. */
void scripts_count(ScriptTally *tally, const char *text, size_t bytes);
/* The script with most characters; SCRIPT_NONE when there is none of any. Of equal ones the first by name. */
Script scripts_main(const ScriptTally *tally);

#endif
