#include "model/gathered.h"

#include "base/memory.h"

/* The tensors of a block, from its slot to its room. Integer arithmetic: the addresses may be dry. */
static void move_block(Model *view, int layer, Tensor slot, Tensor room) {
  for (int i = 0; i < view->tensor_count; i++) {
    Tensor *value = &view->tensors[i].value;
    if (view->tensors[i].layer != layer) continue;
    value->data = (void *)((uintptr_t)room.data + ((uintptr_t)value->data - (uintptr_t)slot.data));
  }
}

bool gathered_open(Gathered *gathered, const Model *model, Arena *arena, Error *error) {
  const BlockWeights *weights = model->block_weights;
  *gathered = (Gathered){.of = model};
  if (!weights) return true;
  const size_t count = (size_t)model->tensor_count;
  Model *view = &gathered->view;
  *view = *model;
  view->block_weights = NULL;
  view->gradients = NULL;
  view->tensors = memory_zeroed(count, sizeof *view->tensors);
  gathered->blocks = memory_zeroed((size_t)weights->layers, sizeof *gathered->blocks);
  if (!view->tensors || !gathered->blocks) {
    gathered_close(gathered);
    return error_out_of_memory(error, "a gathered model", count * sizeof *view->tensors);
  }
  memcpy(view->tensors, model->tensors, count * sizeof *view->tensors);
  for (int layer = 0; layer < weights->layers; layer++) {
    gathered->blocks[layer] = tensor_new_like(arena, weights->whole[layer], DTYPE_U8);
    move_block(view, layer, weights->whole[layer], gathered->blocks[layer]);
  }
  return true;
}

void gathered_close(Gathered *gathered) {
  memory_free(gathered->view.tensors);
  memory_free(gathered->blocks);
  *gathered = (Gathered){0};
}

void gathered_fetch(Gathered *gathered, Compute *compute) {
  Collective last = {0};
  for (int layer = 0; gathered->blocks && layer < gathered->of->spec.layers; layer++)
    last = block_weights_gather(gathered->of->block_weights, compute, layer, gathered->blocks[layer]);
  collective_wait(compute, last);
}
