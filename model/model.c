#include "model/model.h"

#include "base/memory.h"

#include <string.h>

void model_free(Model *model) {
  for (int i = 0; i < model->tensor_count; i++) memory_free(model->tensors[i].name);
  for (int i = 0; i < model->module_count; i++) memory_free(model->modules[i].name);
  memory_free(model->tensors);
  memory_free(model->modules);
  memory_free(model->blocks);
  memory_free(model->gradients);
  block_weights_free(model->block_weights);
  filed_blocks_free(model->filed);
  memory_free(model->directory);
  json_decref(model->config);
  *model = (Model){0};
}

void model_set_context(Model *model, Compute *compute, int64_t longest) {
  ModelSpec *spec = &model->spec;
  RopeSpec *const ropes[] = {&spec->rope, &spec->rope_local};
  for (int i = 0; spec->position == POSITION_ROTARY && i < (spec->rope_by_window ? 2 : 1); i++) {
    const bool was = rope_is_extended(ropes[i]);
    ropes[i]->context = (double)longest;
    if (!was && !rope_is_extended(ropes[i])) continue;
    float values[ROPE_MAX_PAIRS]; /* as many as these kinds have (config_rope_fits) */
    rope_frequencies(ropes[i], spec->rotary_size, values, &model->rope_scale[i]);
    compute_upload(compute, model->rope_frequency[i], values);
  }
}

bool model_serves(const Model *model, int64_t length) {
  const ModelSpec *spec = &model->spec;
  return spec->position != POSITION_ROTARY ||
         (rope_serves(&spec->rope, length) &&
          (!spec->rope_by_window || rope_serves(&spec->rope_local, length)));
}

ModelProducts model_products(const Model *model) {
  ModelProducts out = {0};
  for (int64_t layer = 0; layer < model->spec.layers; layer++) {
    for (int role = 0; role < LINEAR_ROLES; role++) {
      const Linear linear = model->blocks[layer].linear[role];
      if (linear.id < 0) continue;
      out.blocks += (double)tensor_count(model->tensors[linear.weight].value);
      out.bytes += (double)tensor_bytes(model->tensors[linear.weight].value);
    }
  }
  if (model->head >= 0) {
    out.head = (double)tensor_count(model_tensor(model, model->head));
    out.bytes += (double)tensor_bytes(model_tensor(model, model->head));
  }
  return out;
}

bool model_parameters(const Model *model, ParameterList *list, Error *error) {
  for (int i = 0; i < model->tensor_count; i++) {
    const ModelTensor *t = &model->tensors[i];
    /* Norm weights and biases are vectors: what keeps the scale of the activations is not decayed. */
    Parameter parameter = {.name = t->name,
                           .layer = t->layer,
                           .value = t->value,
                           .grad = t->grad,
                           .sum = t->sum,
                           .decay = t->value.rank > 1};
    if (!parameter_list_push(list, parameter, error)) return false;
  }
  return true;
}

Tensor model_table_new(Compute *compute, Arena *arena, DType dtype, int64_t rows, int64_t columns) {
  const int64_t all = compute_table_rows(compute, rows);
  const Tensor table = tensor_new_2d(arena, dtype, all, columns);
  if (!arena->dry && all > rows) op_fill(compute, tensor_rows(table, rows, all - rows), 0);
  return tensor_rows(table, 0, rows);
}

int64_t model_head_rows(const Model *model, const Compute *compute) {
  if (dtype_is_blocks(model_tensor(model, model->head).dtype)) return 0;
  return compute_table_rows(compute, model->spec.vocab);
}

bool model_keep_block(const Model *model, Compute *compute, int layer, Error *error) {
  return !model->block_weights || block_weights_keep(model->block_weights, compute, layer, error);
}

int model_next_in_memory(const Model *model, int layer, int former) {
  const uintptr_t behind = former < 0 ? 0 : (uintptr_t)model->tensors[former].value.data;
  int next = -1;
  for (int i = 0; i < model->tensor_count; i++) {
    const uintptr_t place = (uintptr_t)model->tensors[i].value.data;
    if (model->tensors[i].layer != layer || place <= behind) continue;
    if (next < 0 || place < (uintptr_t)model->tensors[next].value.data) next = i;
  }
  return next;
}

/* In the order of the weights, so that those of linears with the same input are side by side too. */
static void place_gradients(Model *model, Compute *compute, int layer, Arena *arena, bool sums) {
  for (int i = model_next_in_memory(model, layer, -1); i >= 0; i = model_next_in_memory(model, layer, i)) {
    ModelTensor *t = &model->tensors[i];
    *(sums ? &t->sum : &t->grad) =
        i == model->head ? model_table_new(compute, arena, DTYPE_F32, t->value.dim[0], t->value.dim[1])
                         : tensor_new_like(arena, t->value, DTYPE_F32);
  }
}

/* Of what is in no block. */
static void place_outer_gradients(Model *model, Compute *compute, Arena *arena) {
  place_gradients(model, compute, BEFORE_BLOCKS, arena, false);
  place_gradients(model, compute, BEHIND_BLOCKS, arena, false);
}

static void zero_gradients(const Model *model, Compute *compute) {
  for (int i = 0; i < model->tensor_count; i++) op_fill(compute, model->tensors[i].grad, 0);
}

bool model_make_trainable(Model *model, Compute *compute, Arena *arena, ParameterList *list, Error *error) {
  for (int layer = 0; layer < model->spec.layers; layer++)
    place_gradients(model, compute, layer, arena, false);
  place_outer_gradients(model, compute, arena);
  if (!arena->dry) zero_gradients(model, compute);
  return model_parameters(model, list, error);
}

/* Of the largest block. */
static size_t block_bytes(Model *model, Compute *compute) {
  Arena sizes;
  arena_init_dry(&sizes, "gradients of a block");
  for (int layer = 0; layer < model->spec.layers; layer++) {
    place_gradients(model, compute, layer, &sizes, false);
    arena_release(&sizes, 0);
  }
  return sizes.peak;
}

bool model_make_trainable_in_slots(Model *model, Compute *compute, Arena *arena, ParameterList *list,
                                   Error *error) {
  const size_t bytes = block_bytes(model, compute);
  void *const slots[] = {arena_alloc(arena, bytes), arena_alloc(arena, bytes)};
  for (int layer = 0; layer < model->spec.layers; layer++) {
    Arena slot;
    arena_init_over(&slot, "gradients of a block", slots[layer % 2], bytes);
    place_gradients(model, compute, layer, &slot, false);
  }
  place_outer_gradients(model, compute, arena);
  if (!arena->dry) zero_gradients(model, compute);
  return model_parameters(model, list, error);
}

bool model_make_trainable_offloaded(Model *model, Compute *compute, Arena *arena, Arena *host,
                                    ParameterList *list, Error *error) {
  ASSERT(!model->gradients);
  BlockGradients *gradients = memory_zeroed(1, sizeof *gradients);
  if (!gradients) return error_out_of_memory(error, "gradients", sizeof *gradients);
  model->gradients = gradients;
  block_gradients_init(gradients, model->spec.layers, block_bytes(model, compute), arena, host);
  for (int layer = 0; layer < model->spec.layers; layer++) {
    Arena slot = block_gradients_slot(gradients, layer), sums = block_gradients_sums(gradients, layer);
    place_gradients(model, compute, layer, &slot, false);
    place_gradients(model, compute, layer, &sums, true);
  }
  place_outer_gradients(model, compute, arena);
  if (!arena->dry) zero_gradients(model, compute);
  return model_parameters(model, list, error);
}

bool score_head_parameters(const ScoreHead *head, ParameterList *list, Error *error) {
  Parameter parameter = {.name = "score.weight",
                         .layer = BEHIND_BLOCKS,
                         .value = head->weight,
                         .grad = head->weight_grad,
                         .decay = true};
  return parameter_list_push(list, parameter, error);
}

bool score_head_make_trainable(ScoreHead *head, Compute *compute, Arena *arena, ParameterList *list,
                               Error *error) {
  head->weight_grad = tensor_new_like(arena, head->weight, DTYPE_F32);
  if (!arena->dry) op_fill(compute, head->weight_grad, 0);
  return score_head_parameters(head, list, error);
}

bool model_is_quantized(const Model *model) {
  bool found = false;
  for (int i = 0; i < model->tensor_count; i++) found |= dtype_is_blocks(model->tensors[i].value.dtype);
  return found;
}

int64_t model_parameter_count(const Model *model) {
  int64_t count = 0;
  for (int i = 0; i < model->tensor_count; i++) count += tensor_count(model->tensors[i].value);
  return count;
}
