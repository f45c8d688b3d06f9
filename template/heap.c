/* Memory of one rendering: blocks that are filled one after the other and kept for the next. */
#include "template/values.h"

typedef struct Block {
  struct Block *next;
  size_t size, used;
  _Alignas(16) char data[];
} Block;

enum { FIRST_BLOCK = 16 << 10, LARGEST_BLOCK = 1 << 20 };

struct ValueHeap {
  Block *first, *current;
  size_t limit, used;
  SpanArray spans;
};

ValueHeap *value_heap_open(size_t limit, Error *error) {
  ValueHeap *heap = memory_zeroed(1, sizeof *heap);
  if (!heap) {
    error_out_of_memory(error, "memory of a chat template", sizeof *heap);
    return NULL;
  }
  heap->limit = limit;
  return heap;
}

void value_heap_clear(ValueHeap *heap) {
  for (Block *block = heap->first; block; block = block->next) block->used = 0;
  heap->current = heap->first;
  heap->used = 0;
}

void value_heap_close(ValueHeap *heap) {
  if (!heap) return;
  for (Block *block = heap->first, *next; block; block = next) {
    next = block->next;
    memory_free(block);
  }
  memory_free(heap->spans.items);
  memory_free(heap);
}

/* Makes a block with room for `bytes` the current one. */
static bool next_block(ValueHeap *heap, size_t bytes, Error *error) {
  Block *current = heap->current;
  if (current && current->next && current->next->size >= bytes) {
    heap->current = current->next;
    return true;
  }
  size_t size = current ? current->size * 2 : FIRST_BLOCK;
  if (size > LARGEST_BLOCK) size = LARGEST_BLOCK;
  if (size < bytes) size = bytes;
  Block *block = memory_alloc(sizeof *block + size);
  if (!block) return error_out_of_memory(error, "values of a chat template", size);
  *block = (Block){.next = current ? current->next : NULL, .size = size};
  *(current ? &current->next : &heap->first) = block;
  heap->current = block;
  return true;
}

void *heap_alloc(ValueHeap *heap, size_t bytes, Error *error) {
  if (bytes > heap->limit - heap->used || heap->limit - heap->used - bytes < 16) {
    error_set(error, ERROR_DATA, "the chat template needs too much memory: more than %zu bytes of values",
              heap->limit);
    return NULL;
  }
  bytes = (bytes + 15) & ~(size_t)15;
  Block *block = heap->current;
  if (!block || block->size - block->used < bytes) {
    if (!next_block(heap, bytes, error)) return NULL;
    block = heap->current;
  }
  void *memory = block->data + block->used;
  block->used += bytes;
  heap->used += bytes;
  return memory;
}

SpanArray *heap_spans(ValueHeap *heap) {
  return &heap->spans;
}
