#include "train/optimizer.h"

#include "base/memory.h"
#include "compute/collective.h"

#include <math.h>
#include <stdio.h>

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

/* With moments, and p and grad as they are. */
static OptimTensor moments_of(const OptimizerSpec *spec, const Parameter *parameter, Compute *compute,
                              Arena *arena) {
  bool has_m = spec->kind != OPTIMIZER_SGD || spec->momentum > 0, has_v = spec->kind == OPTIMIZER_ADAMW;
  OptimTensor t = {.p = parameter->value, .grad = parameter->grad, .decay = parameter->decay};
  const int64_t count = parameter->whole ? parameter->whole : tensor_count(t.p);
  const bool eight_bit = spec->eight_bit && count >= OPTIMIZER_8BIT_LEAST;
  if (has_m) t.m = state_like(t.p, eight_bit, compute, arena);
  if (has_v) t.v = state_like(t.p, eight_bit, compute, arena);
  return t;
}

static OptimTensor tensor_of(const OptimizerSpec *spec, const Parameter *parameter, Compute *compute,
                             Arena *arena) {
  OptimTensor t = moments_of(spec, parameter, compute, arena);
  if (parameter->value.dtype != DTYPE_F32) {
    t.value = parameter->value;
    t.p = tensor_is_none(parameter->master) ? tensor_new_like(arena, parameter->value, DTYPE_F32)
                                            : parameter->master;
  }
  return t;
}

static bool open_lists(Optimizer *optimizer, const OptimizerSpec *spec, const ParameterList *all,
                       const ParameterList *updated, const ParameterList *counted, Error *error) {
  *optimizer = (Optimizer){.spec = *spec, .parameters = updated, .counted = counted, .all = all};
  const size_t count = updated->count + 1, gradients = counted->count + 1; /* there may be none */
  optimizer->tensors = memory_zeroed(count, sizeof *optimizer->tensors);
  optimizer->gradients = memory_zeroed(gradients, sizeof *optimizer->gradients);
  if (!optimizer->tensors || !optimizer->gradients) {
    optimizer_close(optimizer);
    return error_out_of_memory(error, "optimiser", count * sizeof *optimizer->tensors);
  }
  return true;
}

bool optimizer_open_parts(Optimizer *optimizer, const OptimizerSpec *spec, const ParameterList *all,
                          const ParameterList *updated, const ParameterList *counted, Compute *compute,
                          Arena *arena, Error *error) {
  if (!open_lists(optimizer, spec, all, updated, counted, error)) return false;
  for (size_t i = 0; i < updated->count; i++)
    optimizer->tensors[i] = tensor_of(spec, &updated->items[i], compute, arena);
  for (size_t i = 0; i < counted->count; i++) optimizer->gradients[i] = counted->items[i].grad;
  optimizer->square_sum = tensor_new_1d(arena, DTYPE_F64, 1);
  return true;
}

bool optimizer_open(Optimizer *optimizer, const OptimizerSpec *spec, const ParameterList *parameters,
                    Compute *compute, Arena *arena, Error *error) {
  return optimizer_open_parts(optimizer, spec, parameters, parameters, parameters, compute, arena, error);
}

bool optimizer_open_offloaded(Optimizer *optimizer, const OptimizerSpec *spec,
                              const ParameterList *parameters, Compute *compute, Arena *state, Arena *pinned,
                              Error *error) {
  if (!open_lists(optimizer, spec, parameters, parameters, parameters, error)) return false;
  size_t largest = 0;
  optimizer->host = compute->host;
  for (size_t i = 0; i < parameters->count; i++) {
    const Parameter *parameter = &parameters->items[i];
    ASSERT(tensor_is_none(parameter->master));
    OptimTensor t = moments_of(spec, parameter, compute->host, state);
    t.p = tensor_new_like(state, parameter->value, DTYPE_F32);
    t.grad = tensor_is_none(parameter->sum) ? zeroed_like(parameter->value, compute->host, pinned)
                                            : parameter->sum;
    optimizer->tensors[i] = t;
    optimizer->gradients[i] = t.grad;
    if (tensor_bytes(parameter->value) > largest) largest = tensor_bytes(parameter->value);
  }
  for (int i = 0; i < 2; i++) optimizer->staging[i] = arena_alloc(pinned, largest);
  optimizer->square_sum = tensor_new_1d(state, DTYPE_F64, 1);
  return true;
}

Compute *optimizer_compute(const Optimizer *optimizer, Compute *compute) {
  return optimizer->host ? optimizer->host : compute;
}

void optimizer_close(Optimizer *optimizer) {
  memory_free(optimizer->tensors);
  memory_free(optimizer->gradients);
  *optimizer = (Optimizer){0};
}

/* -- in host memory --------------------------------------------------------------------------------------- */

/* The value of parameter i as it goes to the device or comes from there. */
static Tensor staged(const Optimizer *optimizer, size_t i) {
  const Tensor value = optimizer->parameters->items[i].value;
  return tensor_over(optimizer->staging[i % 2], value.dtype, value.rank, value.dim);
}

/* Rounds parameter i and sends it; while it is on its way the next one may be staged. */
static void send_value(const Optimizer *optimizer, Compute *compute, size_t i) {
  const Tensor value = staged(optimizer, i);
  op_axpby(optimizer->host, value, optimizer->tensors[i].p, 1, 0);
  compute_offload_finish(compute); /* the one before */
  compute_prefetch(compute, optimizer->parameters->items[i].value, value.data);
}

/* All values are there, and the room of the last one may be used again. */
static void end_sending(const Optimizer *optimizer, Compute *compute) {
  if (optimizer->host) compute_offload_finish(compute);
}

static bool summed_on_device(const Optimizer *optimizer, size_t i) {
  return optimizer->host && tensor_is_none(optimizer->parameters->items[i].sum);
}

/* Gradients that the device summed come to the host and are zero there again; those of blocks are here or on their way. */
static void gather_gradients(const Optimizer *optimizer, Compute *compute) {
  const ParameterList *list = optimizer->parameters;
  for (size_t i = 0; i < list->count; i++) {
    if (summed_on_device(optimizer, i))
      compute_offload(compute, optimizer->gradients[i].data, list->items[i].grad);
  }
  compute_offload_finish(compute);
  for (size_t i = 0; i < list->count; i++) {
    if (summed_on_device(optimizer, i)) op_fill(compute, list->items[i].grad, 0);
  }
}

/* -- values ----------------------------------------------------------------------------------------------- */

static void adopt_from_device(Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    const Tensor value = staged(optimizer, i);
    compute_download(compute, value.data, optimizer->parameters->items[i].value);
    op_axpby(optimizer->host, optimizer->tensors[i].p, value, 1, 0);
  }
}

void optimizer_adopt(Optimizer *optimizer, Compute *compute) {
  if (optimizer->host) {
    adopt_from_device(optimizer, compute);
    return;
  }
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    OptimTensor *t = &optimizer->tensors[i];
    const bool owned = !tensor_is_none(optimizer->parameters->items[i].master);
    if (!tensor_is_none(t->value) && !owned) op_axpby(compute, t->p, t->value, 1, 0);
  }
}

void optimizer_round(const Optimizer *optimizer, Compute *compute) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    const OptimTensor *t = &optimizer->tensors[i];
    if (optimizer->host) send_value(optimizer, compute, i);
    if (!tensor_is_none(t->value)) op_axpby(compute, t->value, t->p, 1, 0);
  }
  end_sending(optimizer, compute);
}

void optimizer_zero_gradients(Optimizer *optimizer, Compute *compute) {
  if (optimizer->host) gather_gradients(optimizer, compute); /* none is on its way any more */
  Compute *place = optimizer_compute(optimizer, compute);
  for (size_t i = 0; i < optimizer->parameters->count; i++) op_fill(place, optimizer->tensors[i].grad, 0);
}

/* Sum of squares of gradients first .. last-1. */
static double square_sum(Optimizer *optimizer, Compute *compute, size_t first, size_t last) {
  double sum = 0;
  compute = optimizer_compute(optimizer, compute);
  op_sum_squares(compute, optimizer->square_sum, optimizer->gradients + first, (int64_t)(last - first));
  compute_download(compute, &sum, optimizer->square_sum);
  return sum;
}

static int64_t number_of(const ParameterList *list, const char *name) {
  size_t i = 0;
  while (i < list->count && list->items[i].name != name) i++;
  return (int64_t)i;
}

/* The backward pass goes from the last parameter to the first, and what is not finite spreads on its way: the last one in
 * the list is nearest to where it began. */
static bool not_finite(Optimizer *optimizer, Compute *compute, Error *error) {
  int64_t last = 0;
  for (size_t i = 0; i < optimizer->counted->count; i++) {
    if (isfinite(square_sum(optimizer, compute, i, i + 1))) continue;
    const int64_t number = number_of(optimizer->all, optimizer->counted->items[i].name);
    if (number > last) last = number;
  }
  comm_all_reduce(&compute->comm, COMM_MAX, DTYPE_I64, &last, 1);
  return error_set(error, ERROR_MODEL, "the gradient is not finite (NaN or infinite), first in %s",
                   optimizer->all->count ? optimizer->all->items[last].name : "no parameter");
}

/* Over all ranks. */
static double gradient_norm(Optimizer *optimizer, Compute *compute) {
  double sum = square_sum(optimizer, compute, 0, optimizer->counted->count);
  if (!compute->dry) comm_sum(&compute->comm, &sum, 1);
  return sqrt(sum);
}

/* Of `count` tensors from the first-th on. */
static void update(const Optimizer *optimizer, Compute *compute, size_t first, int64_t count, float lr,
                   float grad_scale) {
  const OptimizerSpec *spec = &optimizer->spec;
  const OptimTensor *list = optimizer->tensors + first;
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

/* One tensor after the other: its value goes to the device while the next one is updated. */
static void update_on_host(const Optimizer *optimizer, Compute *compute, float lr, float grad_scale) {
  for (size_t i = 0; i < optimizer->parameters->count; i++) {
    update(optimizer, optimizer->host, i, 1, lr, grad_scale);
    send_value(optimizer, compute, i);
  }
  end_sending(optimizer, compute);
}

bool optimizer_step(Optimizer *optimizer, Compute *compute, double lr, double *grad_norm, Error *error) {
  const size_t count = optimizer->parameters->count;
  if (optimizer->host) gather_gradients(optimizer, compute);
  const double norm = gradient_norm(optimizer, compute);
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
  if (optimizer->host) {
    update_on_host(optimizer, compute, (float)lr, (float)scale);
  } else {
    update(optimizer, compute, 0, (int64_t)count, (float)lr, (float)scale);
  }
  return true;
}

/* One tensor that belongs to parameter i, or to a part of it, called "PREFIX.<parameter>"; an element of it stands for `grain` of the
 * parameter's. */
static bool tensor_state(const Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix, size_t i,
                         Tensor value, int64_t grain, Error *error) {
  if (tensor_is_none(value)) return true;
  const Parameter *parameter = &optimizer->parameters->items[i];
  const int64_t blocks = state_blocks(parameter->whole);
  char *name = memory_format("%s.%s", prefix, parameter->name);
  bool ok;
  if (!name) {
    ok = error_out_of_memory(error, "name", strlen(parameter->name));
  } else if (parameter->whole == 0) {
    ok = (optimizer->host ? checkpoint_host_tensor : checkpoint_tensor)(checkpoint, name, value, error);
  } else {
    const int64_t whole = grain > 1                 ? blocks
                          : value.dtype == DTYPE_U8 ? blocks * STATE_BLOCK
                                                    : parameter->whole;
    const Tensor flat = tensor_1d(value.data, value.dtype, tensor_count(value));
    ok = checkpoint_part(checkpoint, name, flat, parameter->first / grain, whole, error);
  }
  memory_free(name);
  return ok;
}

bool optimizer_tensor_state(const Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix, size_t i,
                            Tensor value, Error *error) {
  return tensor_state(optimizer, checkpoint, prefix, i, value, 1, error);
}

bool optimizer_state(Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix, Error *error) {
  char *name = memory_format("%s.optimizer.step", prefix);
  bool ok = name ? checkpoint_count(checkpoint, name, &optimizer->step, error)
                 : error_out_of_memory(error, "name", strlen(prefix));
  memory_free(name);
  for (size_t i = 0; ok && i < optimizer->parameters->count; i++) {
    const OptimTensor *t = &optimizer->tensors[i];
    const struct {
      const char *kind;
      Tensor value;
      int64_t grain;
    } parts[] = {{"value", t->p, 1},
                 {"optimizer.m", t->m.data, 1},
                 {"optimizer.m_absmax", t->m.absmax, STATE_BLOCK},
                 {"optimizer.v", t->v.data, 1},
                 {"optimizer.v_absmax", t->v.absmax, STATE_BLOCK}};
    for (size_t k = 0; ok && k < sizeof parts / sizeof *parts; k++) {
      char group[64];
      snprintf(group, sizeof group, "%s.%s", prefix, parts[k].kind);
      ok = tensor_state(optimizer, checkpoint, group, i, parts[k].value, parts[k].grain, error);
    }
  }
  if (ok && checkpoint->loading) optimizer_round(optimizer, checkpoint->compute);
  return ok;
}
