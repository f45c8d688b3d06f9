/* Regular expressions on PCRE2: of files that others wrote, and of our users.
 *
 * A pattern of a file is written for another engine: Oniguruma with Ruby's syntax in tokenizer.json, Python's re in PEFT's
 * adapter_config.json. regex_translate.c reads it by a list of what is known to mean the same in PCRE2, spells
 * what only looks different, and refuses everything else with its place. Patterns come from strangers, so compiling
 * and matching have limits of length, memory and steps. */
#ifndef BASE_REGEX_H
#define BASE_REGEX_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum RegexSyntax {
  REGEX_LITERAL,   /* plain text */
  REGEX_ONIGURUMA, /* Ruby's syntax over Unicode, as `tokenizers` compiles it */
  REGEX_PYTHON,    /* re without flags, over str */
  REGEX_PCRE2      /* its own, over Unicode: what our users write for us */
} RegexSyntax;

typedef struct Regex Regex;
typedef struct RegexScratch RegexScratch; /* per thread; serves any number of patterns */

/* The pattern is well-formed UTF-8. ERROR_MODEL with place and reason when it is broken, refused or too large. */
NODISCARD Regex *regex_compile(const char *pattern, size_t bytes, RegexSyntax syntax, Error *error);
void regex_free(Regex *regex);

NODISCARD RegexScratch *regex_scratch_new(Error *error);
void regex_scratch_free(RegexScratch *scratch);

typedef struct RegexMatch {
  size_t begin, end;
} RegexMatch;

/* Finds all matches in well-formed UTF-8 one after another: begin with {0}. Sets *found. An empty match right after
 * the previous match is skipped. ERROR_DATA when matching takes too many steps or too much memory. */
typedef struct RegexCursor {
  size_t from;     /* where the search goes on */
  size_t last_end; /* end of the previous match */
  bool started;
} RegexCursor;
NODISCARD bool regex_next(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes,
                          RegexCursor *cursor, RegexMatch *match, bool *found, Error *error);

/* What the first group took in the last match that was found with this scratch: false when the pattern has none, or it took no
 * part. */
bool regex_group(const RegexScratch *scratch, RegexMatch *group);

/* Whether the pattern matches from the first byte on (re.match), or with `whole` the whole text (re.fullmatch). Not
 * for literals. */
NODISCARD bool regex_matches(const Regex *regex, RegexScratch *scratch, const char *text, size_t bytes,
                             bool whole, bool *matches, Error *error);

#endif
