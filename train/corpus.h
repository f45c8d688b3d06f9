/* The data of a supervised stage: tokenizer and chat template, training and evaluation data, and the order of training. */
#ifndef TRAIN_CORPUS_H
#define TRAIN_CORPUS_H

#include "train/data.h"

typedef struct Corpus {
  TextTools text;
  Dataset train;
  Dataset eval;      /* data.eval, or the part of data.train held out */
  Dataset reference; /* data.reference: SFT examples */
  bool has_eval, has_reference;
  DataOrder order; /* of train */
} Corpus;

/* kind: of train and eval. The tokenizer is the model's. */
NODISCARD bool corpus_open(Corpus *corpus, DatasetKind kind, const ModelConfig *model, const DataConfig *data,
                           const RunConfig *run, Log *log, Error *error);
void corpus_close(Corpus *corpus); /* also of a zeroed one */

int64_t corpus_longest(const Corpus *corpus); /* tokens of the longest example: all answers of a preference */
int64_t corpus_longest_sequence(const Corpus *corpus); /* of the longest sequence: one answer */
int64_t corpus_most_sequences(const Corpus *corpus);   /* of one example */
/* Updates that the configuration asks for: optim.max_steps, or what optim.epochs give. */
int64_t corpus_updates(const Corpus *corpus, const OptimConfig *config);

#endif
