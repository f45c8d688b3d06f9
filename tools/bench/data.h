/* Data of measured workloads, from a counter: nothing but lengths matters. Files are JSON Lines. */
#ifndef TOOLS_BENCH_DATA_H
#define TOOLS_BENCH_DATA_H

#include "base/memory.h"

#include <stdint.h>

/* Appends so many words, separated by spaces. `state` goes on. */
NODISCARD bool words_append(Buffer *out, uint64_t *state, int64_t count, Error *error);
/* Prompts of exactly `length` tokens of the model's tokenizer, what that adds to a text among them. */
NODISCARD bool data_prompts(const char *model, const char *path, int64_t count, int64_t length, Error *error);
/* One long text. */
NODISCARD bool data_texts(const char *path, Error *error);
/* Pairs of answers, each of more than `length` tokens with its prompt, which alone may be cut to that. */
NODISCARD bool data_pairs(const char *path, int64_t count, int64_t length, Error *error);

#endif
