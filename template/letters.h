/* Strings letter by letter: upper, lower and title case, what they consist of, and what is cut off their ends. */
#ifndef TEMPLATE_LETTERS_H
#define TEMPLATE_LETTERS_H

#include "template/run.h"

typedef enum LettersChange {
  CHANGE_UPPER,
  CHANGE_LOWER,
  CHANGE_CAPITALIZE,
  CHANGE_TITLE, /* str.title: a letter behind none begins a word */
  CHANGE_WORDS, /* |title: words begin behind space and - ( { [ < */
  CHANGE_SWAP
} LettersChange;

NODISCARD bool letters_change(Run *run, const ValueString *string, LettersChange change, Value *out);

typedef enum LettersClass {
  LETTERS_LOWER,
  LETTERS_UPPER,
  LETTERS_TITLE,
  LETTERS_SPACE,
  LETTERS_ALPHA,
  LETTERS_DIGIT,
  LETTERS_DECIMAL,
  LETTERS_ALNUM,
  LETTERS_ASCII,
  LETTERS_PRINTABLE,
  LETTERS_IDENTIFIER
} LettersClass;

/* str.islower, isupper ... */
bool letters_are(const ValueString *string, LettersClass kind);

/* The part [*begin, *end) that str.strip leaves; characters: what is cut off, NULL: space. */
NODISCARD bool letters_strip(Run *run, const ValueString *string, const ValueString *characters, bool left,
                             bool right, size_t *begin, size_t *end);

#endif
