#include "model/model.h"

#include "base/memory.h"

#include <string.h>

void model_free(Model *model) {
  for (int i = 0; i < model->tensor_count; i++) memory_free(model->tensors[i].name);
  for (int i = 0; i < model->module_count; i++) memory_free(model->modules[i].name);
  memory_free(model->tensors);
  memory_free(model->modules);
  memory_free(model->blocks);
  memory_free(model->directory);
  json_decref(model->config);
  *model = (Model){0};
}

bool model_parameters(const Model *model, ParameterList *list, Error *error) {
  for (int i = 0; i < model->tensor_count; i++) {
    const ModelTensor *t = &model->tensors[i];
    /* Norm weights and biases are vectors: what keeps the scale of the activations is not decayed. */
    Parameter parameter = {.name = t->name, .value = t->value, .grad = t->grad, .decay = t->value.rank > 1};
    if (!parameter_list_push(list, parameter, error)) return false;
  }
  return true;
}

bool model_make_trainable(Model *model, Compute *compute, Arena *arena, ParameterList *list, Error *error) {
  for (int i = 0; i < model->tensor_count; i++) {
    ModelTensor *t = &model->tensors[i];
    t->grad = tensor_new_like(arena, t->value, DTYPE_F32);
    if (!arena->dry) op_fill(compute, t->grad, 0);
  }
  return model_parameters(model, list, error);
}

bool score_head_parameters(const ScoreHead *head, ParameterList *list, Error *error) {
  Parameter parameter = {
      .name = "score.weight", .value = head->weight, .grad = head->weight_grad, .decay = true};
  return parameter_list_push(list, parameter, error);
}

bool score_head_make_trainable(ScoreHead *head, Compute *compute, Arena *arena, ParameterList *list,
                               Error *error) {
  head->weight_grad = tensor_new_like(arena, head->weight, DTYPE_F32);
  if (!arena->dry) op_fill(compute, head->weight_grad, 0);
  return score_head_parameters(head, list, error);
}

int64_t model_parameter_count(const Model *model) {
  int64_t count = 0;
  for (int i = 0; i < model->tensor_count; i++) count += tensor_count(model->tensors[i].value);
  return count;
}
