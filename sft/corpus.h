/* The texts of the sft stage: tokenizer and chat template, training and evaluation data, and the order of training. */
#ifndef SFT_CORPUS_H
#define SFT_CORPUS_H

#include "datasets/order.h"
#include "sft/config.h"
#include "train/data.h"

typedef struct Corpus {
  TextTools text;
  Dataset train, eval;
  bool has_eval;
  DataOrder order; /* of train */
} Corpus;

NODISCARD bool corpus_open(Corpus *corpus, const SftConfig *config, Log *log, Error *error);
void corpus_close(Corpus *corpus); /* also of a zeroed one */

/* Tokens of the longest example. */
int64_t corpus_longest(const Corpus *corpus);
/* Updates that the configuration asks for. */
int64_t corpus_updates(const Corpus *corpus, const OptimConfig *config);

#endif
