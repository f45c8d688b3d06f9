/* The blocks of the KV cache: which are free, and how many sequences use each of the others.
 *
 * A block that holds a stretch of a prompt may be used by several sequences at once; it is written before it
 * is shared and never after, so sharing needs no copies. Pure bookkeeping on the host. */
#ifndef ROLLOUT_BLOCKS_H
#define ROLLOUT_BLOCKS_H

#include "base/error.h"

#include <stdint.h>

typedef struct BlockManager {
  int32_t *users; /* [count] sequences that use the block; 0 = free */
  int32_t *free;  /* stack of the free blocks, [free_count] */
  int64_t count, free_count;
} BlockManager;

NODISCARD bool blocks_init(BlockManager *blocks, int64_t count, Error *error);
void blocks_free(BlockManager *blocks);

int32_t blocks_take(BlockManager *blocks); /* a free block, now with one user; asserts there is one */
void blocks_share(BlockManager *blocks, int32_t block);   /* one more user */
void blocks_release(BlockManager *blocks, int32_t block); /* one user less; the last one frees it */

#endif
