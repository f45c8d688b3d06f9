/* One launch over many tensors of different sizes: the list goes in the kernel's parameters, every tensor is cut into
 * chunks, a block has one chunk, and finds its tensor in the list. */
#ifndef COMPUTE_CUDA_TENSOR_LIST_CUH
#define COMPUTE_CUDA_TENSOR_LIST_CUH

#include "compute/cuda/kernel.cuh"

#include <climits>

/* Item: what a kernel knows of one tensor, with `int64_t count` elements and `unsigned first`, the chunks of the tensors
 * before it, which list_add fills in. A kernel's parameters are at most 4 KiB on every driver. */
template <class Item, int MOST_, int CHUNK_>
struct TensorList {
  enum { MOST = MOST_, CHUNK = CHUNK_ };
  Item items[MOST];
  int count;
  unsigned chunks; /* of all: the blocks of the launch */
};

template <class Item, int MOST, int CHUNK>
static void list_add(TensorList<Item, MOST, CHUNK> *list, Item item) {
  ASSERT(list->count < MOST);
  item.first = list->chunks;
  list->items[list->count++] = item;
  const int64_t chunks = list->chunks + divide_up(item.count, CHUNK);
  ASSERT(chunks <= INT_MAX);
  list->chunks = (unsigned)chunks;
}

/* Where a block works: `count` elements of the item from `begin` on. */
template <class Item>
struct Chunk {
  const Item &item;
  int64_t begin;
  int count;
};

/* The item is the last whose first chunk is not beyond this one. */
template <class Item, int MOST, int CHUNK>
__device__ __forceinline__ Chunk<Item> list_chunk(const TensorList<Item, MOST, CHUNK> &list, unsigned chunk) {
  int low = 0, high = list.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (list.items[middle].first <= chunk) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const Item &item = list.items[low];
  const int64_t begin = (int64_t)(chunk - item.first) * CHUNK, left = item.count - begin;
  return {item, begin, left < CHUNK ? (int)left : CHUNK};
}

#endif
