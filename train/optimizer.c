#include "train/optimizer.h"

#include "base/memory.h"

#include <math.h>

OptimizerSpec optimizer_spec_of(const OptimConfig *config) {
  return (OptimizerSpec){.kind = (OptimizerKind)config->name,
                         .beta1 = (float)config->beta1,
                         .beta2 = (float)config->beta2,
                         .eps = (float)config->eps,
                         .weight_decay = (float)config->weight_decay,
                         .momentum = (float)config->momentum,
                         .clip = (float)config->clip};
}

static Tensor zeroed_like(Tensor shape, Compute *compute, Arena *arena) {
  Tensor out = tensor_new_like(arena, shape, DTYPE_F32);
  op_fill(compute, out, 0);
  return out;
}

bool optimizer_open(Optimizer *optimizer, const OptimizerSpec *spec, const ParameterList *parameters,
                    Compute *compute, Arena *arena, Error *error) {
  *optimizer = (Optimizer){.spec = *spec, .parameters = parameters};
  optimizer->slots = memory_zeroed(parameters->count ? parameters->count : 1, sizeof *optimizer->slots);
  if (!optimizer->slots) {
    return error_out_of_memory(error, "optimiser", parameters->count * sizeof *optimizer->slots);
  }
  bool has_m = spec->kind != OPTIMIZER_SGD || spec->momentum > 0, has_v = spec->kind == OPTIMIZER_ADAMW;
  for (size_t i = 0; i < parameters->count; i++) {
    Tensor value = parameters->items[i].value;
    OptimizerSlot *slot = &optimizer->slots[i];
    if (has_m) slot->m = zeroed_like(value, compute, arena);
    if (has_v) slot->v = zeroed_like(value, compute, arena);
    if (value.dtype != DTYPE_F32) slot->master = tensor_new_like(arena, value, DTYPE_F32);
  }
  optimizer->square_sum = tensor_new_1d(arena, DTYPE_F64, 1);
  return true;
}

void optimizer_close(Optimizer *optimizer) {
  memory_free(optimizer->slots);
  *optimizer = (Optimizer){0};
}

void optimizer_adopt(Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    OptimizerSlot *slot = &optimizer->slots[i];
    if (tensor_is_none(slot->master)) continue;
    op_axpby(compute, slot->master, optimizer->parameters->items[i].value, 1, 0);
  }
}

void optimizer_zero_gradients(Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    op_fill(compute, optimizer->parameters->items[i].grad, 0);
  }
}

/* Sum of squares of gradients first .. last-1. */
static double square_sum(Optimizer *optimizer, Compute *compute, size_t first, size_t last) {
  double sum = 0;
  compute_upload(compute, optimizer->square_sum, &sum);
  for (size_t i = first; i < last; i++) {
    op_sum_squares(compute, optimizer->square_sum, optimizer->parameters->items[i].grad);
  }
  compute_download(compute, &sum, optimizer->square_sum);
  return sum;
}

static bool not_finite(Optimizer *optimizer, Compute *compute, Error *error) {
  const ParameterList *list = optimizer->parameters;
  size_t first = 0;
  while (first + 1 < list->count && isfinite(square_sum(optimizer, compute, first, first + 1))) first++;
  return error_set(error, ERROR_MODEL,
                   "the gradient is not finite (NaN or infinity), first in %s; a lower optim.lr, more "
                   "optim.warmup_steps or model.dtype f32 may help",
                   list->count ? list->items[first].name : "no parameter");
}

static void update(Optimizer *optimizer, Compute *compute, size_t index, float lr, float grad_scale) {
  const OptimizerSpec *spec = &optimizer->spec;
  const Parameter *parameter = &optimizer->parameters->items[index];
  const OptimizerSlot *slot = &optimizer->slots[index];
  bool mixed = !tensor_is_none(slot->master);
  Tensor p = mixed ? slot->master : parameter->value;
  float decay = parameter->decay ? spec->weight_decay : 0;
  double step = (double)optimizer->step;
  switch (spec->kind) {
    case OPTIMIZER_ADAMW:
      op_adamw(compute, p, slot->m, slot->v, parameter->grad,
               (AdamStep){.lr = lr,
                          .beta1 = spec->beta1,
                          .beta2 = spec->beta2,
                          .eps = spec->eps,
                          .weight_decay = decay,
                          .correction1 = (float)(1 - pow((double)spec->beta1, step)),
                          .correction2 = (float)(1 - pow((double)spec->beta2, step)),
                          .grad_scale = grad_scale});
      break;
    case OPTIMIZER_LION:
      op_lion(compute, p, slot->m, parameter->grad,
              (LionStep){.lr = lr,
                         .beta1 = spec->beta1,
                         .beta2 = spec->beta2,
                         .weight_decay = decay,
                         .grad_scale = grad_scale});
      break;
    case OPTIMIZER_SGD:
      op_sgd(
          compute, p, slot->m, parameter->grad,
          (SgdStep){.lr = lr, .momentum = spec->momentum, .weight_decay = decay, .grad_scale = grad_scale});
      break;
  }
  if (mixed) op_axpby(compute, parameter->value, slot->master, 1, 0);
}

bool optimizer_step(Optimizer *optimizer, Compute *compute, double lr, double *grad_norm, Error *error) {
  const size_t count = optimizer->parameters->count;
  double norm = sqrt(square_sum(optimizer, compute, 0, count));
  *grad_norm = norm;
  if (!isfinite(norm)) return not_finite(optimizer, compute, error);
  /* As torch.nn.utils.clip_grad_norm_. */
  double clip = (double)optimizer->spec.clip;
  double scale = clip > 0 && norm + 1e-6 > clip ? clip / (norm + 1e-6) : 1;
  optimizer->step++;
  for (size_t i = 0; i < count; i++) update(optimizer, compute, i, (float)lr, (float)scale);
  optimizer_zero_gradients(optimizer, compute);
  return true;
}

static bool tensor_state(Checkpoint *checkpoint, const char *prefix, const char *kind, const char *parameter,
                         Tensor value, Error *error) {
  if (tensor_is_none(value)) return true;
  char *name = memory_format("%s.optimizer.%s.%s", prefix, kind, parameter);
  bool ok = name ? checkpoint_tensor(checkpoint, name, value, error)
                 : error_out_of_memory(error, "name", strlen(parameter));
  memory_free(name);
  return ok;
}

bool optimizer_state(Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix, Error *error) {
  char *name = memory_format("%s.optimizer.step", prefix);
  bool ok = name ? checkpoint_int(checkpoint, name, &optimizer->step, error)
                 : error_out_of_memory(error, "name", strlen(prefix));
  memory_free(name);
  for (size_t i = 0; ok && i < optimizer->parameters->count; i++) {
    const char *parameter = optimizer->parameters->items[i].name;
    const OptimizerSlot *slot = &optimizer->slots[i];
    ok = tensor_state(checkpoint, prefix, "m", parameter, slot->m, error) &&
         tensor_state(checkpoint, prefix, "v", parameter, slot->v, error) &&
         tensor_state(checkpoint, prefix, "master", parameter, slot->master, error);
  }
  return ok;
}
