#include "model/offload.h"

void offload_begin(Offload *offload, Tensor first, int64_t layers, Arena *step) {
  arena_release(offload->host, 0);
  offload->kept = arena_alloc(offload->host, (size_t)(layers - 1) * tensor_bytes(first));
  offload->slot[0] = first;
  offload->slot[1] = tensor_new_like(step, first, first.dtype);
}

static Tensor slot_of(const Offload *offload, int64_t layer) {
  return offload->slot[layer % 2];
}

/* Integer arithmetic: the address may be a dry one. */
static char *kept_of(const Offload *offload, int64_t layer) {
  return (char *)((uintptr_t)offload->kept + (uintptr_t)layer * tensor_bytes(offload->slot[0]));
}

Tensor offload_out(Offload *offload, Compute *compute, int64_t layer, int64_t layers) {
  compute_offload_wait(compute); /* for the input of layer-1, which is in the room of the output */
  if (layer < layers - 1) compute_offload(compute, kept_of(offload, layer), slot_of(offload, layer));
  return slot_of(offload, layer + 1);
}

Tensor offload_in(Offload *offload, Compute *compute, int64_t layer) {
  if (layer > 0) compute_prefetch(compute, slot_of(offload, layer - 1), kept_of(offload, layer - 1));
  return slot_of(offload, layer);
}
