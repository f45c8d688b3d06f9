/* The options of `data`. */
#ifndef TOOLS_DATA_CONFIG_H
#define TOOLS_DATA_CONFIG_H

#include "base/option.h"

typedef enum Dedup { DEDUP_NONE, DEDUP_EXACT, DEDUP_NEAR } Dedup;

typedef struct DataConfig {
  OptionStrings data, against;
  char *out, *eval_out, *removed, *report, *model, *columns;
  int format, text, normalize, dedup, shingle;
  double threshold, eval_fraction, overlap_share;
  int64_t shingle_size, permutations, seed, overlap_ngram, ngram, top, max_record;
  bool split_near, drop_broken, drop_empty, drop_overlap;
} DataConfig;

#endif
