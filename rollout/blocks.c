#include "rollout/blocks.h"

#include "base/memory.h"

bool blocks_init(BlockManager *blocks, int64_t count, Error *error) {
  *blocks = (BlockManager){.count = count, .free_count = count};
  blocks->users = memory_zeroed((size_t)count, sizeof *blocks->users);
  blocks->free = memory_zeroed((size_t)count, sizeof *blocks->free);
  if (!blocks->users || !blocks->free) {
    blocks_free(blocks);
    return error_out_of_memory(error, "cache blocks", (unsigned long long)count * sizeof *blocks->free);
  }
  /* The stack's top is block 0: a run that needs few blocks touches few pages of the cache. */
  for (int64_t i = 0; i < count; i++) blocks->free[i] = (int32_t)(count - 1 - i);
  return true;
}

void blocks_free(BlockManager *blocks) {
  memory_free(blocks->users);
  memory_free(blocks->free);
  *blocks = (BlockManager){0};
}

int32_t blocks_take(BlockManager *blocks) {
  ASSERT(blocks->free_count > 0);
  const int32_t block = blocks->free[--blocks->free_count];
  ASSERT(blocks->users[block] == 0);
  blocks->users[block] = 1;
  return block;
}

void blocks_share(BlockManager *blocks, int32_t block) {
  ASSERT(block >= 0 && block < blocks->count && blocks->users[block] > 0);
  blocks->users[block]++;
}

void blocks_release(BlockManager *blocks, int32_t block) {
  ASSERT(block >= 0 && block < blocks->count && blocks->users[block] > 0);
  if (--blocks->users[block] == 0) blocks->free[blocks->free_count++] = block;
}
