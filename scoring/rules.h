/* Rules: rewards that need nothing but the answer and its record. One number for each rule of a source, and its reward is their sum.
 *
 *   length      -min(1, |n - L| / L) of an answer of n tokens: 0 at the length L that is asked for, -1 at twice that and at nothing
 *   repetition  -(1 - d / m) where d of the m runs of N tokens are different: 0 where none comes twice
 *   format      1 where a regular expression matches anywhere, else 0
 *   exact       1 where the answer is the reference answer, else 0 (scoring/exact.h)
 *   json        1 where the answer is JSON, or an object, or a list; else 0
 *
 * The end token is not counted. */
#ifndef SCORING_RULES_H
#define SCORING_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

double rule_length(int64_t tokens, int64_t target);

/* run: N, at least 1. order: [count] working space. An answer of less than N tokens repeats nothing. */
double rule_repetition(const int32_t *ids, int64_t count, int64_t run, int64_t *order);

typedef enum RuleJson { RULE_JSON_NONE, RULE_JSON_ANY, RULE_JSON_OBJECT, RULE_JSON_LIST } RuleJson;
extern const char *const rule_json_names[]; /* "none", "any", "object", "list", NULL */
double rule_json(const char *text, size_t bytes, RuleJson kind);

#endif
