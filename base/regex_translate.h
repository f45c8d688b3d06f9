/* For regex.c alone: a pattern in PCRE2's spelling. */
#ifndef BASE_REGEX_TRANSLATE_H
#define BASE_REGEX_TRANSLATE_H

#include "base/memory.h"
#include "base/regex.h"

/* Appends the pattern as PCRE2 (with UTF, UCP and '\n' as the one newline; MULTILINE for Oniguruma) reads it. ERROR_MODEL
 * with the place of the first thing that is not known to mean the same there. */
NODISCARD bool regex_translate(const char *pattern, size_t bytes, RegexSyntax syntax, Buffer *out,
                               Error *error);

#endif
