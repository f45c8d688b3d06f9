/* Added tokens: strings that are one token wherever they stand, cut out of the text before everything else.
 *
 * Two sets: tokens with "normalized": false are looked for in the raw text, the others in the normalised text
 * (after being normalised themselves). In each, the leftmost match wins, of several there the longest. */
#ifndef TOKENIZER_ADDED_H
#define TOKENIZER_ADDED_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct AddedToken {
  const char *text; /* as written in the file; NUL-terminated, borrowed */
  size_t bytes;
  const char *pattern; /* what is looked for: text, or its normalised form; borrowed */
  size_t pattern_bytes;
  int id;
  bool special, normalized;
  bool lstrip, rstrip; /* swallow the white space before / after */
  bool single_word;    /* only between characters that are no letters, digits, marks or _ */
} AddedToken;

/* A part of a text: an added token, or text between them (token NULL). */
typedef struct AddedPart {
  size_t begin, end;
  const AddedToken *token;
} AddedPart;

typedef struct AddedParts {
  AddedPart *data;
  size_t size, capacity;
} AddedParts;

/* An index over some tokens: those that begin with a byte, longest first. */
typedef struct AddedSet {
  const AddedToken **tokens; /* ordered by first byte, then longest first */
  uint32_t first[257];       /* tokens[first[b] .. first[b+1]) begin with byte b */
} AddedSet;

/* Indexes those of `count` tokens whose `normalized` is as given. The tokens must outlive the set. */
NODISCARD bool added_set_init(AddedSet *set, const AddedToken *tokens, size_t count, bool normalized,
                              Error *error);
void added_set_free(AddedSet *set);

/* Replaces parts by the parts of the text, in order; empty stretches are left out. */
NODISCARD bool added_split(const AddedSet *set, const char *text, size_t bytes, AddedParts *parts,
                           Error *error);
void added_parts_free(AddedParts *parts);

#endif
