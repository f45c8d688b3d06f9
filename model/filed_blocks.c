#include "model/filed_blocks.h"

#include "base/file.h"
#include "base/memory.h"

enum { PIECE = 1 << 18 }; /* elements that a thread reads before it gives pages back */

FiledBlocks *filed_blocks_new(int64_t layers, int64_t tensors, Error *error) {
  FiledBlocks *blocks = memory_zeroed(1, sizeof *blocks);
  if (blocks) {
    *blocks = (FiledBlocks){.tensors = memory_zeroed((size_t)tensors, sizeof *blocks->tensors),
                            .ends = memory_zeroed((size_t)layers, sizeof *blocks->ends),
                            .layers = (int)layers,
                            .held = -1};
    if (blocks->tensors && blocks->ends) return blocks;
  }
  filed_blocks_free(blocks);
  error_out_of_memory(error, "blocks in files", (size_t)tensors * sizeof(FiledTensor));
  return NULL;
}

void filed_blocks_free(FiledBlocks *blocks) {
  if (!blocks) return;
  weight_files_close(&blocks->files);
  memory_free(blocks->tensors);
  memory_free(blocks->ends);
  memory_free(blocks);
}

void filed_blocks_add(FiledBlocks *blocks, int layer, const WeightEntry *entry, Tensor value) {
  const int count = blocks->ends[blocks->layers - 1];
  blocks->tensors[count] = (FiledTensor){entry, value};
  for (int l = layer; l < blocks->layers; l++) blocks->ends[l] = count + 1;
}

void filed_blocks_take(FiledBlocks *blocks, WeightFiles *files) {
  blocks->files = *files;
  *files = (WeightFiles){0};
}

static int begin_of(const FiledBlocks *blocks, int layer) {
  return layer > 0 ? blocks->ends[layer - 1] : 0;
}

static size_t pieces_of(const FiledTensor *tensor) {
  return (tensor->entry->count + PIECE - 1) / PIECE;
}

/* Pages of the file are given back as they have been read, or the process would count them too. */
static void read_piece(const FiledTensor *tensor, size_t piece) {
  const WeightEntry *entry = tensor->entry;
  const DType type = tensor->value.dtype;
  const size_t first = piece * PIECE, left = entry->count - first, n = left < PIECE ? left : PIECE;
  weight_read(entry, first, n, type, (char *)tensor->value.data + first * dtype_size(type));
  weight_release(entry, first, n);
}

static void read_block(const FiledBlocks *blocks, int layer) {
  const int begin = begin_of(blocks, layer), end = blocks->ends[layer];
#pragma omp parallel
  for (int i = begin; i < end; i++) {
    const size_t pieces = pieces_of(&blocks->tensors[i]);
#pragma omp for schedule(dynamic) nowait
    for (size_t piece = 0; piece < pieces; piece++) read_piece(&blocks->tensors[i], piece);
  }
  /* What is not in order lies all over its tensor. */
  for (int i = begin; i < end; i++)
    if (blocks->tensors[i].entry->read)
      weight_release(blocks->tensors[i].entry, 0, blocks->tensors[i].entry->count);
}

void filed_blocks_use(FiledBlocks *blocks, int layer, int next) {
  if (blocks->held != layer) {
    read_block(blocks, layer);
    blocks->held = layer;
  }
  if (next < 0 || next >= blocks->layers) return;
  for (int i = begin_of(blocks, next); i < blocks->ends[next]; i++)
    file_pages_ahead(blocks->tensors[i].entry->data, blocks->tensors[i].entry->bytes);
}
