#include "model/block_gradients.h"

#include <string.h>

void block_gradients_init(BlockGradients *gradients, int64_t layers, size_t bytes, Arena *device,
                          Arena *host) {
  enum { ALIGNMENT = 64 }; /* of an arena's blocks */
  bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  *gradients = (BlockGradients){.layers = layers, .bytes = bytes};
  for (int i = 0; i < 2; i++) gradients->slot[i] = arena_alloc(device, bytes);
  gradients->host = arena_alloc(host, (size_t)layers * bytes);
  if (!host->dry) memset(gradients->host, 0, (size_t)layers * bytes);
}

/* Integer arithmetic: the address may be a dry one. */
static void *sums_of(const BlockGradients *gradients, int64_t layer) {
  return (void *)((uintptr_t)gradients->host + (uintptr_t)layer * gradients->bytes);
}

Arena block_gradients_slot(const BlockGradients *gradients, int64_t layer) {
  Arena arena;
  arena_init_over(&arena, "gradients of a block", gradients->slot[layer % 2], gradients->bytes);
  return arena;
}

Arena block_gradients_sums(const BlockGradients *gradients, int64_t layer) {
  Arena arena;
  arena_init_over(&arena, "gradients of a block", sums_of(gradients, layer), gradients->bytes);
  return arena;
}

static Tensor on_device(const BlockGradients *gradients, int64_t layer) {
  return tensor_1d(gradients->slot[layer % 2], DTYPE_U8, (int64_t)gradients->bytes);
}

static void fetch(const BlockGradients *gradients, Compute *compute, int64_t layer) {
  compute_prefetch(compute, on_device(gradients, layer), sums_of(gradients, layer));
}

static void send(const BlockGradients *gradients, Compute *compute, int64_t layer) {
  compute_offload(compute, sums_of(gradients, layer), on_device(gradients, layer));
}

void block_gradients_begin(const BlockGradients *gradients, Compute *compute) {
  fetch(gradients, compute, gradients->layers - 1);
}

/* In this order: both are of the same slot. */
void block_gradients_next(const BlockGradients *gradients, Compute *compute, int64_t layer) {
  if (layer + 1 < gradients->layers) send(gradients, compute, layer + 1);
  if (layer > 0) fetch(gradients, compute, layer - 1);
}

void block_gradients_end(const BlockGradients *gradients, Compute *compute) {
  send(gradients, compute, 0);
}
