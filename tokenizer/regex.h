/* Regular expressions as tokenizer files write them (Oniguruma's Ruby syntax, Unicode), on PCRE2.
 *
 * Where the two engines differ, the pattern is translated (\s, \S, \w, \W, ^ and $ per line) or refused with a
 * message (\b, \h, nested and intersected classes, POSIX classes): never a silent difference. */
#ifndef TOKENIZER_REGEX_H
#define TOKENIZER_REGEX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct Regex Regex;
typedef struct RegexScratch RegexScratch; /* per thread; serves any number of patterns */

/* literal: the pattern is plain text. ERROR_MODEL with the reason when the pattern is broken or refused. */
NODISCARD Regex *regex_compile(const char *pattern, size_t bytes, bool literal, Error *error);
void regex_free(Regex *regex);

NODISCARD RegexScratch *regex_scratch_new(Error *error);
void regex_scratch_free(RegexScratch *scratch);

typedef struct RegexMatch {
  size_t begin, end;
} RegexMatch;

/* Finds all matches in well-formed UTF-8 one after another: begin with {0}. Sets *found. An empty match right after
 * the previous match is skipped. */
typedef struct RegexCursor {
  size_t from;     /* where the search goes on */
  size_t last_end; /* end of the previous match */
  bool started;
} RegexCursor;
NODISCARD bool regex_next(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes,
                          RegexCursor *cursor, RegexMatch *match, bool *found, Error *error);

#endif
