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
                         .clip = (float)config->clip,
                         .eight_bit = config->state == OPTIM_STATE_8BIT};
}

static Tensor zeroed_like(Tensor shape, Compute *compute, Arena *arena) {
  Tensor out = tensor_new_like(arena, shape, DTYPE_F32);
  op_fill(compute, out, 0);
  return out;
}

/* m or v of zeros for a tensor like p. */
static OptimState state_like(Tensor p, bool eight_bit, Compute *compute, Arena *arena) {
  if (!eight_bit) return (OptimState){.data = zeroed_like(p, compute, arena)};
  int64_t blocks = state_blocks(tensor_count(p));
  OptimState state = {tensor_new_2d(arena, DTYPE_U8, blocks, STATE_BLOCK),
                      tensor_new_1d(arena, DTYPE_F32, blocks)};
  op_fill(compute, tensor_1d(state.data.data, DTYPE_F32, blocks * STATE_BLOCK / 4), 0); /* bytes of zero */
  op_fill(compute, state.absmax, 0);
  return state;
}

static OptimTensor tensor_of(const OptimizerSpec *spec, const Parameter *parameter, Compute *compute,
                             Arena *arena) {
  bool has_m = spec->kind != OPTIMIZER_SGD || spec->momentum > 0, has_v = spec->kind == OPTIMIZER_ADAMW;
  OptimTensor t = {.p = parameter->value, .grad = parameter->grad, .decay = parameter->decay};
  bool eight_bit = spec->eight_bit && tensor_count(t.p) >= OPTIMIZER_8BIT_LEAST;
  if (has_m) t.m = state_like(t.p, eight_bit, compute, arena);
  if (has_v) t.v = state_like(t.p, eight_bit, compute, arena);
  if (parameter->value.dtype != DTYPE_F32) {
    t.value = parameter->value;
    t.p = tensor_is_none(parameter->master) ? tensor_new_like(arena, parameter->value, DTYPE_F32)
                                            : parameter->master;
  }
  return t;
}

bool optimizer_open(Optimizer *optimizer, const OptimizerSpec *spec, const ParameterList *parameters,
                    Compute *compute, Arena *arena, Error *error) {
  *optimizer = (Optimizer){.spec = *spec, .parameters = parameters};
  size_t count = parameters->count ? parameters->count : 1;
  optimizer->tensors = memory_zeroed(count, sizeof *optimizer->tensors);
  optimizer->gradients = memory_zeroed(count, sizeof *optimizer->gradients);
  if (!optimizer->tensors || !optimizer->gradients) {
    optimizer_close(optimizer);
    return error_out_of_memory(error, "optimiser", count * sizeof *optimizer->tensors);
  }
  for (size_t i = 0; i < parameters->count; i++) {
    optimizer->tensors[i] = tensor_of(spec, &parameters->items[i], compute, arena);
    optimizer->gradients[i] = parameters->items[i].grad;
  }
  optimizer->square_sum = tensor_new_1d(arena, DTYPE_F64, 1);
  return true;
}

void optimizer_close(Optimizer *optimizer) {
  memory_free(optimizer->tensors);
  memory_free(optimizer->gradients);
  *optimizer = (Optimizer){0};
}

void optimizer_adopt(Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    OptimTensor *t = &optimizer->tensors[i];
    const bool owned = !tensor_is_none(optimizer->parameters->items[i].master);
    if (!tensor_is_none(t->value) && !owned) op_axpby(compute, t->p, t->value, 1, 0);
  }
}

void optimizer_round(const Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    const OptimTensor *t = &optimizer->tensors[i];
    if (!tensor_is_none(t->value)) op_axpby(compute, t->value, t->p, 1, 0);
  }
}

void optimizer_zero_gradients(Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) op_fill(compute, optimizer->gradients[i], 0);
}

/* Sum of squares of gradients first .. last-1. */
static double square_sum(Optimizer *optimizer, Compute *compute, size_t first, size_t last) {
  double sum = 0;
  op_sum_squares(compute, optimizer->square_sum, optimizer->gradients + first, (int64_t)(last - first));
  compute_download(compute, &sum, optimizer->square_sum);
  return sum;
}

/* The backward pass goes from the last parameter to the first, and what is not finite spreads on its way: the last one in
 * the list is nearest to where it began. */
static bool not_finite(Optimizer *optimizer, Compute *compute, Error *error) {
  const ParameterList *list = optimizer->parameters;
  size_t last = list->count;
  while (last > 1 && isfinite(square_sum(optimizer, compute, last - 1, last))) last--;
  return error_set(error, ERROR_MODEL, "the gradient is not finite (NaN or infinite), first in %s",
                   last ? list->items[last - 1].name : "no parameter");
}

static void update(Optimizer *optimizer, Compute *compute, float lr, float grad_scale) {
  const OptimizerSpec *spec = &optimizer->spec;
  const OptimTensor *list = optimizer->tensors;
  int64_t count = (int64_t)optimizer->parameters->count;
  double step = (double)optimizer->step;
  switch (spec->kind) {
    case OPTIMIZER_ADAMW:
      op_adamw(compute, list, count,
               (AdamStep){.lr = lr,
                          .beta1 = spec->beta1,
                          .beta2 = spec->beta2,
                          .eps = spec->eps,
                          .weight_decay = spec->weight_decay,
                          .correction1 = (float)(1 - pow((double)spec->beta1, step)),
                          .correction2 = (float)(1 - pow((double)spec->beta2, step)),
                          .grad_scale = grad_scale});
      break;
    case OPTIMIZER_LION:
      op_lion(compute, list, count,
              (LionStep){.lr = lr,
                         .beta1 = spec->beta1,
                         .beta2 = spec->beta2,
                         .weight_decay = spec->weight_decay,
                         .grad_scale = grad_scale});
      break;
    case OPTIMIZER_SGD:
      op_sgd(compute, list, count,
             (SgdStep){.lr = lr,
                       .momentum = spec->momentum,
                       .weight_decay = spec->weight_decay,
                       .grad_scale = grad_scale});
      break;
  }
}

bool optimizer_step(Optimizer *optimizer, Compute *compute, double lr, double *grad_norm, Error *error) {
  const size_t count = optimizer->parameters->count;
  double norm = sqrt(square_sum(optimizer, compute, 0, count));
  *grad_norm = norm;
  if (!isfinite(norm)) {
    not_finite(optimizer, compute, error);
    optimizer_zero_gradients(optimizer, compute);
    return false;
  }
  /* As torch.nn.utils.clip_grad_norm_. */
  double clip = (double)optimizer->spec.clip;
  double scale = clip > 0 && norm + 1e-6 > clip ? clip / (norm + 1e-6) : 1;
  optimizer->step++;
  update(optimizer, compute, (float)lr, (float)scale);
  return true;
}

static bool tensor_state(Checkpoint *checkpoint, const char *prefix, const char *kind, const char *parameter,
                         Tensor value, Error *error) {
  if (tensor_is_none(value)) return true;
  char *name = memory_format("%s.%s.%s", prefix, kind, parameter);
  bool ok = name ? checkpoint_tensor(checkpoint, name, value, error)
                 : error_out_of_memory(error, "name", strlen(parameter));
  memory_free(name);
  return ok;
}

bool optimizer_state(Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix, Error *error) {
  char *name = memory_format("%s.optimizer.step", prefix);
  bool ok = name ? checkpoint_count(checkpoint, name, &optimizer->step, error)
                 : error_out_of_memory(error, "name", strlen(prefix));
  memory_free(name);
  for (size_t i = 0; ok && i < optimizer->parameters->count; i++) {
    const char *parameter = optimizer->parameters->items[i].name;
    const OptimTensor *t = &optimizer->tensors[i];
    ok = tensor_state(checkpoint, prefix, "value", parameter, t->p, error) &&
         tensor_state(checkpoint, prefix, "optimizer.m", parameter, t->m.data, error) &&
         tensor_state(checkpoint, prefix, "optimizer.m_absmax", parameter, t->m.absmax, error) &&
         tensor_state(checkpoint, prefix, "optimizer.v", parameter, t->v.data, error) &&
         tensor_state(checkpoint, prefix, "optimizer.v_absmax", parameter, t->v.absmax, error);
  }
  if (ok && checkpoint->loading) optimizer_round(optimizer, checkpoint->compute);
  return ok;
}
