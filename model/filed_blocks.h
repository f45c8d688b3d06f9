/* The blocks of a frozen model, which lie in its files: one is in memory at a time, read when it is used.
 *
 * A pass over a thousand tokens multiplies each weight as often, beside which reading and converting it once more is a hundredth of the
 * iteration that it is part of. What the system keeps of files it takes back where memory is wanted, and reads again from the disk then. The values are, to the
 * bit, those that model_read would leave in memory. The files stay mapped: who replaces them by others does no harm, who writes into them does. */
#ifndef MODEL_FILED_BLOCKS_H
#define MODEL_FILED_BLOCKS_H

#include "compute/tensor.h"
#include "formats/weight_files.h"

/* Where a tensor of a block comes from, and where it lies while the block is there. */
typedef struct FiledTensor {
  const WeightEntry *entry;
  Tensor value;
} FiledTensor;

typedef struct FiledBlocks {
  WeightFiles files;
  FiledTensor *tensors; /* in order of blocks */
  int *ends;            /* [layers] how many tensors there are up to the end of the block */
  int layers;
  int held; /* the block that is there; -1: none */
} FiledBlocks;

/* Without files yet; `tensors`: how many there are at most. */
NODISCARD FiledBlocks *filed_blocks_new(int64_t layers, int64_t tensors, Error *error);
void filed_blocks_free(FiledBlocks *blocks); /* NULL is allowed; closes the files */

/* The next tensor, of block `layer`, which is not below that of the former; its entry is of `files`, which filed_blocks_take then takes over. */
void filed_blocks_add(FiledBlocks *blocks, int layer, const WeightEntry *entry, Tensor value);
void filed_blocks_take(FiledBlocks *blocks, WeightFiles *files);

/* Block `layer` is there for what is computed next, and `next` is called for from the disk, where there is such a block. */
void filed_blocks_use(FiledBlocks *blocks, int layer, int next);

#endif
