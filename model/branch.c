#include "model/branch.h"

Tensor activation_new(const BlockContext *context, int64_t rows, int64_t columns) {
  return tensor_new_2d(context->arena, compute_activation(context->compute, context->model->dtype), rows,
                       columns);
}

Tensor activation_copy(const BlockContext *context, Tensor x) {
  Tensor copy = activation_new(context, x.dim[0], x.dim[1]);
  op_axpby(context->compute, copy, x, 1, 0);
  return copy;
}

Residual residual_of(const BlockContext *context, Tensor x) {
  return (Residual){x, context->overwrite ? x : activation_new(context, x.dim[0], x.dim[1])};
}

static int64_t norm_rows(Tensor x) {
  return x.rank == 3 ? x.dim[0] * x.dim[1] : x.dim[0];
}

/* Room for what the backward of a norm over x needs beside x. */
static NormState norm_statistics_new(const BlockContext *context, Tensor x) {
  NormState state = {.in = x};
  if (context->keep) {
    if (context->model->spec.norm.kind == NORM_LAYER) {
      state.mean = tensor_new_1d(context->arena, DTYPE_F32, norm_rows(x));
    }
    state.rstd = tensor_new_1d(context->arena, DTYPE_F32, norm_rows(x));
  }
  return state;
}

/* Room for all that a norm over x leaves behind. */
static NormState norm_state_new(const BlockContext *context, Tensor x, bool in_place) {
  NormState state = norm_statistics_new(context, x);
  if (in_place && !context->keep) {
    state.out = x;
  } else if (x.rank == 3) {
    state.out = tensor_new_3d(context->arena, x.dtype, x.dim[0], x.dim[1], x.dim[2]);
  } else {
    state.out = activation_new(context, x.dim[0], x.dim[1]);
  }
  return state;
}

static void norm_run(const BlockContext *context, Norm norm, const NormState *state) {
  const Model *model = context->model;
  op_norm(context->compute, state->out, state->mean, state->rstd, state->in, model_tensor(model, norm.weight),
          model_tensor(model, norm.bias), model->spec.norm);
}

Tensor norm_forward(const BlockContext *context, Norm norm, Tensor x, bool in_place, NormState *state) {
  *state = norm_state_new(context, x, in_place);
  norm_run(context, norm, state);
  return state->out;
}

Tensor branch_norm_forward(const BlockContext *context, Norm norm, Tensor x, NormState *state) {
  if (tensor_is_none(context->normed)) return norm_forward(context, norm, x, false, state);
  *state = norm_statistics_new(context, x);
  state->out = context->normed;
  norm_run(context, norm, state);
  return state->out;
}

void branch_norm_again(const BlockContext *context, Norm norm, const NormState *state) {
  if (!tensor_is_none(context->normed)) norm_run(context, norm, state);
}

static NormTerms norm_terms(const Model *model, Norm norm, const NormState *state) {
  return (NormTerms){state->out,
                     state->mean,
                     state->rstd,
                     state->in,
                     model_tensor(model, norm.weight),
                     model_tensor(model, norm.bias)};
}

void norm_pair_terms(const BlockContext *context, const Norm norm[2], const Tensor x[2],
                     NormState *const state[2], NormTerms out[2]) {
  for (int i = 0; i < 2; i++) {
    *state[i] = norm_state_new(context, x[i], true);
    out[i] = norm_terms(context->model, norm[i], state[i]);
  }
}

void norm_pair_forward(const BlockContext *context, const Norm norm[2], const Tensor x[2], Tensor out[2],
                       NormState *const state[2]) {
  NormTerms terms[2];
  norm_pair_terms(context, norm, x, state, terms);
  op_norm_pair(context->compute, terms[0], terms[1], context->model->spec.norm);
  for (int i = 0; i < 2; i++) out[i] = state[i]->out;
}

void norm_backward(const BlockContext *context, Norm norm, Tensor dx, Tensor dy, const NormState *state,
                   float beta) {
  const Model *model = context->model;
  op_norm_backward(context->compute, dx, model_grad(model, norm.weight), model_grad(model, norm.bias), dy,
                   state->in, state->mean, state->rstd, model_tensor(model, norm.weight), model->spec.norm,
                   beta);
}

/* The weight of head h, or its gradient: a row of one tensor, or the tensor h places after the first. */
static Tensor head_weight(Tensor (*part)(const Model *, int), const Model *model, Norm norm, int64_t h) {
  const Tensor first = part(model, norm.weight);
  if (first.rank != 2) return part(model, tensor_is_none(first) ? -1 : norm.weight + (int)h);
  return tensor_1d(tensor_rows(first, h, 1).data, first.dtype, first.dim[1]);
}

/* The statistics of head h; none where none are kept. */
static Tensor head_rows(Tensor statistics, int64_t h, int64_t rows) {
  return tensor_is_none(statistics) ? statistics : tensor_rows(statistics, h * rows, rows);
}

Tensor heads_norm_forward(const BlockContext *context, Norm norm, Tensor x, NormState *state) {
  const Model *model = context->model;
  const int64_t rows = x.dim[0];
  *state = norm_state_new(context, x, true);
  for (int64_t h = 0; h < x.dim[1]; h++) {
    op_norm(context->compute, tensor_head(state->out, h), head_rows(state->mean, h, rows),
            head_rows(state->rstd, h, rows), tensor_head(x, h), head_weight(model_tensor, model, norm, h),
            (Tensor){0}, model->spec.norm);
  }
  return state->out;
}

void heads_norm_backward(const BlockContext *context, Norm norm, Tensor dx, Tensor dy,
                         const NormState *state) {
  const Model *model = context->model;
  const int64_t rows = dy.dim[0];
  for (int64_t h = 0; h < dy.dim[1]; h++) {
    op_norm_backward(context->compute, tensor_head(dx, h), head_weight(model_grad, model, norm, h),
                     (Tensor){0}, tensor_head(dy, h), tensor_head(state->in, h),
                     head_rows(state->mean, h, rows), head_rows(state->rstd, h, rows),
                     head_weight(model_tensor, model, norm, h), model->spec.norm, 0);
  }
}

static LoraRows adapter_rows(const BlockContext *context) {
  return (LoraRows){.draws = context->draws, .positions = context->positions};
}

typedef Tensor TensorOf(const Model *model, int index); /* model_tensor or model_grad */

/* The weights, or their gradients, of several linears under each other, and so their biases: none where there are none. False where
 * they lie otherwise. */
static bool stacked(const Model *model, TensorOf *of, const Linear *linear, int count, Tensor *weight,
                    Tensor *bias) {
  Tensor weights[LORA_JOINED] = {0}, biases[LORA_JOINED] = {0};
  int biased = 0;
  ASSERT(count <= LORA_JOINED);
  for (int i = 0; i < count; i++) {
    weights[i] = of(model, linear[i].weight);
    biases[i] = of(model, linear[i].bias);
    biased += linear[i].bias >= 0;
  }
  if (model->arch->transposed) return false;
  *weight = tensor_stacked(weights, count);
  *bias = tensor_stacked(biases, count);
  return !tensor_is_none(*weight) && (biased == 0 || !tensor_is_none(*bias));
}

/* out[i] = x W_i^T + bias + adapter + beta*out of linears with one input, in decoding. One product where roles_new has found that
 * they can be. */
static void linears_decode(const BlockContext *context, const Linear *linear, int count, const Tensor *out,
                           Tensor x, float beta) {
  const Model *model = context->model;
  Compute *c = context->compute;
  const size_t mark = arena_mark(context->arena);
  AdapterTerm terms[LORA_JOINED];
  int ids[LORA_JOINED];
  for (int i = 0; i < count; i++) ids[i] = linear[i].id;
  const int adapted = lora_terms(c, context->adapter, ids, count, out, x, terms, NULL, context->arena);
  Tensor weight, bias;
  const Tensor all = tensor_beside(out, count);
  const bool at_once = !tensor_is_none(all) && stacked(model, model_tensor, linear, count, &weight, &bias);
  for (int i = 0; i < (at_once ? 1 : count); i++) {
    const Tensor to = at_once ? all : out[i], b = at_once ? bias : model_tensor(model, linear[i].bias);
    const Weight w = at_once ? (Weight){.data = weight} : model_weight(model, linear[i]);
    if (at_once ? adapted > 0 : !tensor_is_none(terms[i].u)) {
      op_linear_adapted(c, to, x, w, b, &terms[i], at_once ? count : 1, beta);
    } else {
      op_linear(c, to, x, w, b, 1, beta);
    }
  }
  arena_release(context->arena, mark);
}

void linear_forward(const BlockContext *context, Linear linear, Tensor out, Tensor x, float beta,
                    LoraState *state) {
  const Model *model = context->model;
  if (context->caches) {
    linears_decode(context, &linear, 1, &out, x, beta);
    return;
  }
  const bool adapted = lora_forward(context->compute, context->adapter, linear.id, out, x, beta,
                                    context->keep ? state : NULL, adapter_rows(context), context->arena);
  op_linear(context->compute, out, x, model_weight(model, linear), model_tensor(model, linear.bias), 1,
            adapted ? 1 : beta);
}

void linear_add(const BlockContext *context, Linear linear, Residual residual, Tensor x, LoraState *state) {
  const Model *model = context->model;
  const Weight w = model_weight(model, linear);
  const Tensor bias = model_tensor(model, linear.bias), to = residual.to;
  if (residual.from.data == to.data) {
    linear_forward(context, linear, to, x, 1, state);
  } else if (lora_forward_add(context->compute, context->adapter, linear.id, to, residual.from, x,
                              context->keep ? state : NULL, adapter_rows(context), context->arena)) {
    op_linear(context->compute, to, x, w, bias, 1, 1);
  } else {
    op_linear_add(context->compute, to, residual.from, x, w, bias, 1);
  }
}

static void linear_gradients(const BlockContext *context, Linear linear, Tensor dy, Tensor x) {
  const Model *model = context->model;
  const Tensor dw = model_grad(model, linear.weight);
  if (tensor_is_none(dw)) return;
  op_linear_backward_weight(
      context->compute,
      (Weight){dw, model->arch->transposed, model_tensor(model, linear.weight).dtype == DTYPE_BF16},
      model_grad(model, linear.bias), dy, x, 1);
}

void linear_backward(const BlockContext *context, Linear linear, Tensor dx, Tensor dy, Tensor x, float beta,
                     LoraState *state) {
  const Model *model = context->model;
  linear_gradients(context, linear, dy, x);
  const bool adapted =
      lora_backward(context->compute, context->adapter, linear.id, dx, dy, x, beta, state, context->arena);
  op_linear_backward_input(context->compute, dx, dy, model_weight(model, linear), 1, adapted ? 1 : beta);
}

void role_forward(const BlockContext *context, int layer, LinearRole role, Tensor out, Tensor x, float beta,
                  BlockState *state) {
  linear_forward(context, context->model->blocks[layer].linear[role], out, x, beta, &state->lora[role]);
}

void role_backward(const BlockContext *context, int layer, LinearRole role, Tensor dx, Tensor dy, Tensor x,
                   float beta, BlockState *state) {
  linear_backward(context, context->model->blocks[layer].linear[role], dx, dy, x, beta, &state->lora[role]);
}

void roles_new(const BlockContext *context, int layer, LinearRole first, int count, int64_t rows,
               Tensor *out) {
  const Model *model = context->model;
  const Linear *linear = &model->blocks[layer].linear[first];
  Tensor weight, bias, all = {0};
  if (stacked(model, model_tensor, linear, count, &weight, &bias))
    all = activation_new(context, rows, weight.dim[0]);
  int64_t column = 0;
  for (int i = 0; i < count; i++) {
    const int64_t outputs = weight_outputs(model_weight(model, linear[i]));
    out[i] =
        tensor_is_none(all) ? activation_new(context, rows, outputs) : tensor_columns(all, column, outputs);
    column += outputs;
  }
}

void roles_forward(const BlockContext *context, int layer, LinearRole first, int count, const Tensor *out,
                   Tensor x, BlockState *state) {
  const Model *model = context->model;
  const Linear *linear = &model->blocks[layer].linear[first];
  LoraState *states[LORA_JOINED];
  int ids[LORA_JOINED], adapted = 0;
  if (context->caches) {
    linears_decode(context, linear, count, out, x, 0);
    return;
  }
  for (int i = 0; i < count; i++) {
    ids[i] = linear[i].id;
    states[i] = &state->lora[first + i];
    adapted += lora_pair(context->adapter, ids[i]) != NULL;
  }
  Tensor weight, bias;
  const Tensor all = tensor_beside(out, count);
  const bool at_once = !tensor_is_none(all) && stacked(model, model_tensor, linear, count, &weight, &bias);
  LoraState *const *kept = context->keep ? states : NULL;
  if (adapted == count && !lora_drops(context->adapter, kept != NULL, adapter_rows(context))) {
    AdapterTerm terms[LORA_JOINED];
    const size_t mark = arena_mark(context->arena);
    lora_terms(context->compute, context->adapter, ids, count, out, x, terms, kept, context->arena);
    if (at_once) op_linear_adapted(context->compute, all, x, (Weight){.data = weight}, bias, terms, count, 0);
    for (int i = 0; !at_once && i < count; i++) /* the same sums */
      op_linear_adapted(context->compute, out[i], x, model_weight(model, linear[i]),
                        model_tensor(model, linear[i].bias), &terms[i], 1, 0);
    if (!kept) arena_release(context->arena, mark);
    return;
  }
  /* Adapters on all come first, as in linear_forward. */
  const bool before = adapted == count;
  const float beta = before ? 1 : 0;
  if (before)
    lora_forward_joined(context->compute, context->adapter, ids, count, out, x, 0, kept,
                        adapter_rows(context), context->arena);
  if (at_once) {
    op_linear(context->compute, all, x, (Weight){.data = weight}, bias, 1, beta);
  } else {
    for (int i = 0; i < count; i++)
      op_linear(context->compute, out[i], x, model_weight(model, linear[i]),
                model_tensor(model, linear[i].bias), 1, beta);
  }
  if (!before)
    lora_forward_joined(context->compute, context->adapter, ids, count, out, x, 1, kept,
                        adapter_rows(context), context->arena);
}

static void roles_gradients(const BlockContext *context, const Linear *linear, int count, const Tensor *dy,
                            Tensor x) {
  const Model *model = context->model;
  const Tensor all = tensor_beside(dy, count);
  Tensor weight, bias;
  if (!tensor_is_none(all) && stacked(model, model_grad, linear, count, &weight, &bias)) {
    const bool narrow = model_tensor(model, linear[0].weight).dtype == DTYPE_BF16;
    op_linear_backward_weight(context->compute, (Weight){.data = weight, .narrow = narrow}, bias, all, x, 1);
    return;
  }
  for (int i = 0; i < count; i++) linear_gradients(context, linear[i], dy[i], x);
}

void roles_backward(const BlockContext *context, int layer, LinearRole first, int count, Tensor dx,
                    const Tensor *dy, Tensor x, float beta, BlockState *state) {
  const Model *model = context->model;
  const Linear *linear = &model->blocks[layer].linear[first];
  LoraState *states[LORA_JOINED];
  int ids[LORA_JOINED];
  for (int i = 0; i < count; i++) {
    ids[i] = linear[i].id;
    states[i] = &state->lora[first + i];
  }
  roles_gradients(context, linear, count, dy, x);
  if (lora_backward_joined(context->compute, context->adapter, ids, count, dx, dy, x, beta, states,
                           context->arena))
    beta = 1;
  Tensor weight, bias;
  const Tensor all = tensor_beside(dy, count);
  if (!tensor_is_none(all) && stacked(model, model_tensor, linear, count, &weight, &bias)) {
    op_linear_backward_input(context->compute, dx, all, (Weight){.data = weight}, 1, beta);
    return;
  }
  for (int i = 0; i < count; i++)
    op_linear_backward_input(context->compute, dx, dy[i], model_weight(model, linear[i]), 1, i ? 1 : beta);
}

bool norm_comes_first(const ModelSpec *spec) {
  return spec->placement == NORM_PRE || spec->placement == NORM_SANDWICH;
}

NormRole output_norm_role(const ModelSpec *spec, NormRole before, NormRole after) {
  if (spec->placement == NORM_OUTPUT) return before;
  if (spec->placement == NORM_SANDWICH) return after;
  return NORM_ROLES;
}

/* A linear over x, where only what its adapter keeps for the backward is wanted. */
static void linear_state(const BlockContext *context, Linear linear, Tensor x, LoraState *state) {
  lora_forward(context->compute, context->adapter, linear.id, (Tensor){0}, x, 0, state, adapter_rows(context),
               context->arena);
}

void branch_close(const BlockContext *context, int layer, LinearRole role, NormRole norm, Residual residual,
                  Tensor x, BlockState *state) {
  const Block *block = &context->model->blocks[layer];
  const Linear linear = block->linear[role];
  const float scale = context->model->spec.residual_scale;
  const bool wanted = !tensor_is_none(residual.to);
  if (norm == NORM_ROLES && !wanted) {
    linear_state(context, linear, x, &state->lora[role]);
    return;
  }
  if (norm == NORM_ROLES && scale == 1) {
    linear_add(context, linear, residual, x, &state->lora[role]);
    return;
  }
  Tensor out = activation_new(context, x.dim[0], context->model->spec.hidden);
  linear_forward(context, linear, out, x, 0, &state->lora[role]);
  if (norm != NORM_ROLES) out = norm_forward(context, block->norm[norm], out, true, &state->norm[norm]);
  if (wanted && residual.from.data != residual.to.data)
    op_axpby(context->compute, residual.to, residual.from, 1, 0);
  if (wanted) op_axpby(context->compute, residual.to, out, scale, 1);
}

Tensor branch_open_backward(const BlockContext *context, int layer, NormRole norm, Tensor dx,
                            const BlockState *state) {
  const float scale = context->model->spec.residual_scale;
  if (norm == NORM_ROLES && scale == 1) return dx;
  Tensor d = activation_new(context, dx.dim[0], dx.dim[1]);
  if (scale != 1) {
    op_axpby(context->compute, d, dx, scale, 0);
    dx = d;
  }
  if (norm != NORM_ROLES)
    norm_backward(context, context->model->blocks[layer].norm[norm], d, dx, &state->norm[norm], 0);
  return d;
}
