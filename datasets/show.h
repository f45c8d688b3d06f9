/* An example as a person reads it: the text that its ids stand for, with what is learnt between ⟦ and ⟧ (U+27E6, U+27E7). */
#ifndef DATASETS_SHOW_H
#define DATASETS_SHOW_H

#include "datasets/dataset.h"

#define SHOW_BEGIN "\u27e6"
#define SHOW_END   "\u27e7"

/* Sequence k of the example: of a preference an answer after what all of them begin with (the answer marked), else all ids (those in the loss
 * marked; of a prompt none). Appends the ids to *ids and the text to *text, which is NUL-terminated after that. */
NODISCARD bool example_show(const Example *example, int k, const Tokenizer *tokenizer, IntArray *ids,
                            Buffer *text, Error *error);

/* "chosen", "rejected", "answer 3", "example", "prompt". */
const char *example_sequence_name(const Example *example, int k, char out[32]);

/* What is marked, for a person: "the tokens in the loss", "the answers that are compared"; NULL where nothing is. */
const char *dataset_marked(DatasetKind kind);

#endif
