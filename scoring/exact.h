/* Whether an answer is the reference answer, as people and benchmarks mean it.
 *
 * Both are texts from which a regular expression may take a part: its last match, or the first group of that; where it does not match there
 * is no answer. White space around them counts for nothing. Two texts that are both numbers are equal when the numbers are: 1,000 and
 * $1000.00, 7 and +7.0. A number is written with digits, or digits in groups of three with commas between, a point and digits, a sign or one of
 * $ € £ before it and % or a full stop behind it; the digits are compared, so that no size is too large. */
#ifndef SCORING_EXACT_H
#define SCORING_EXACT_H

#include "base/memory.h"
#include "base/regex.h"

/* The part of a text that is taken: all of it without a pattern. *found: there is one. */
NODISCARD bool exact_extract(const Regex *pattern, RegexScratch *scratch, const char *text, size_t bytes,
                             const char **part, size_t *part_bytes, bool *found, Error *error);

bool exact_equal(const char *a, size_t a_bytes, const char *b, size_t b_bytes);

#endif
