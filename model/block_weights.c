#include "model/block_weights.h"

#include "base/memory.h"
#include "compute/slices.h"

BlockWeights *block_weights_new(int64_t layers, const Comm *comm, Error *error) {
  BlockWeights *weights = memory_zeroed(1, sizeof *weights);
  const size_t blocks = (size_t)layers, ranks = (size_t)comm->size;
  if (weights) {
    *weights = (BlockWeights){.layers = (int)layers,
                              .ranks = comm->size,
                              .held = {-1, -1},
                              .whole = memory_zeroed(blocks, sizeof *weights->whole),
                              .own = memory_zeroed(blocks, sizeof *weights->own),
                              .at = memory_zeroed(blocks * (ranks + 1), sizeof *weights->at)};
    if (weights->whole && weights->own && weights->at) return weights;
  }
  block_weights_free(weights);
  error_out_of_memory(error, "slices of blocks", blocks * ranks * sizeof *weights->at);
  return NULL;
}

void block_weights_free(BlockWeights *weights) {
  if (!weights) return;
  memory_free(weights->whole);
  memory_free(weights->own);
  memory_free(weights->at);
  memory_free(weights);
}

static int64_t *places_of(const BlockWeights *weights, int layer) {
  return weights->at + (int64_t)layer * (weights->ranks + 1);
}

bool block_weights_cut(BlockWeights *weights, int layer, const Tensor *tensors, int64_t count,
                       const Comm *comm, Arena *arena, Error *error) {
  int64_t *at = places_of(weights, layer);
  SlicePoint *points = memory_zeroed((size_t)comm->size + 1, sizeof *points);
  if (!points) return error_out_of_memory(error, "slices", (size_t)comm->size * sizeof *points);
  const Tensor whole = slices_memory(tensors, count, DTYPE_U8);
  slices_cut(tensors, count, comm->size, points);
  slices_places(whole, tensors, count, points, comm->size, at);
  weights->whole[layer] = whole;
  weights->own[layer] = tensor_new_1d(arena, DTYPE_U8, at[comm->rank + 1] - at[comm->rank]);
  memory_free(points);
  return true;
}

Collective block_weights_gather(const BlockWeights *weights, const Compute *compute, int layer, Tensor room) {
  return collective_all_gather(compute, weights->own[layer], room, places_of(weights, layer));
}

/* Starts it on its way into its slot, where it is not there. */
static void fetch(BlockWeights *weights, Compute *compute, int layer) {
  const int slot = layer % 2;
  if (weights->held[slot] == layer) return;
  weights->held[slot] = layer;
  weights->coming[slot] = block_weights_gather(weights, compute, layer, weights->whole[layer]);
}

void block_weights_use(BlockWeights *weights, Compute *compute, int layer, int next) {
  fetch(weights, compute, layer);
  collective_wait(compute, weights->coming[layer % 2]);
  if (next >= 0 && next < weights->layers) fetch(weights, compute, next);
}

bool block_weights_keep(BlockWeights *weights, Compute *compute, int layer, Error *error) {
  const Tensor own = weights->own[layer];
  const int64_t first = places_of(weights, layer)[compute->comm.rank];
  void *copy = memory_alloc(tensor_bytes(own));
  if (!copy) return error_out_of_memory(error, "a slice of a block", tensor_bytes(own));
  compute_download(compute, copy, tensor_rows(weights->whole[layer], first, tensor_count(own)));
  compute_upload(compute, own, copy);
  memory_free(copy);
  weights->held[layer % 2] = layer;
  weights->coming[layer % 2] = (Collective){0};
  return true;
}

void block_weights_ask(BlockWeights *weights, Compute *compute, int layer) {
  int64_t asked = layer;
  comm_broadcast(&compute->comm, 0, &asked, sizeof asked);
  if (layer >= 0) block_weights_use(weights, compute, layer, -1);
}

void block_weights_help(BlockWeights *weights, Compute *compute) {
  for (int64_t asked = 0; asked >= 0;) {
    comm_broadcast(&compute->comm, 0, &asked, sizeof asked);
    if (asked >= 0) block_weights_use(weights, compute, (int)asked, -1);
  }
}

void block_weights_changed(BlockWeights *weights) {
  weights->held[0] = weights->held[1] = -1;
}
