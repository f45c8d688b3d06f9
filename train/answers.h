/* Answers of a preference as sequences of a micro-batch: what the stages that compare answers share. */
#ifndef TRAIN_ANSWERS_H
#define TRAIN_ANSWERS_H

#include "datasets/dataset.h"
#include "train/packer.h"

/* Adds a sequence: the prompt, which may have no ids, and behind it the answer. Returns the row of its first token. */
int64_t answer_pack(Packer *packer, const Example *example, const ExampleAnswer *answer);

#endif
