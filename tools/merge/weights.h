/* Which weights an adapter is merged into, and in which types. */
#ifndef TOOLS_MERGE_WEIGHTS_H
#define TOOLS_MERGE_WEIGHTS_H

#include "base/log.h"
#include "train/config.h"

typedef enum MergeQuantize {
  MERGE_QUANTIZE_AUTO,
  MERGE_QUANTIZE_NONE,
  MERGE_QUANTIZE_NF4,
  MERGE_QUANTIZE_INT8
} MergeQuantize;
extern const char *const merge_quantize_choices[]; /* in the order of MergeQuantize */

typedef struct MergeWeights {
  WeightFormat trained; /* of the base as the adapter was trained over it */
  DType into_loaded;    /* of --into in memory */
  DType filed;          /* of the files that are merged into: BF16 or F16 where all are, else F32 */
} MergeWeights;

/* quantize: MergeQuantize; tables: ModelTables. into: or NULL. ERROR_USAGE for an `into` where the base is not in 4 or 8 bits, or that is itself quantised; ERROR_MODEL where it is not what the base was made from. */
NODISCARD bool merge_weights_find(MergeWeights *weights, const char *model, const char *adapter,
                                  const char *into, int quantize, int tables, Log *log, Error *error);

#endif
