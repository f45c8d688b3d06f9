#include "model/block.h"

#include <math.h>

/* -- parts ------------------------------------------------------------------------------------------------
 */

static Tensor activation_new(const BlockContext *context, int64_t rows, int64_t columns) {
  return tensor_new_2d(context->arena, compute_activation(context->compute, context->model->dtype), rows,
                       columns);
}

static Tensor copy_of(const BlockContext *context, Tensor x) {
  Tensor copy = activation_new(context, x.dim[0], x.dim[1]);
  op_axpby(context->compute, copy, x, 1, 0);
  return copy;
}

/* Where the sum x + f(x) will grow: a copy when x is needed again, else x itself. */
static Tensor residual_start(const BlockContext *context, Tensor x) {
  return context->keep ? copy_of(context, x) : x;
}

static int64_t norm_rows(Tensor x) {
  return x.rank == 3 ? x.dim[0] * x.dim[1] : x.dim[0];
}

Tensor norm_forward(const BlockContext *context, Norm norm, Tensor x, bool in_place, NormState *state) {
  const Model *model = context->model;
  *state = (NormState){.in = x};
  if (context->keep) {
    if (model->spec.norm.kind == NORM_LAYER) {
      state->mean = tensor_new_1d(context->arena, DTYPE_F32, norm_rows(x));
    }
    state->rstd = tensor_new_1d(context->arena, DTYPE_F32, norm_rows(x));
  }
  if (in_place && !context->keep) {
    state->out = x;
  } else if (x.rank == 3) {
    state->out = tensor_new_3d(context->arena, x.dtype, x.dim[0], x.dim[1], x.dim[2]);
  } else {
    state->out = activation_new(context, x.dim[0], x.dim[1]);
  }
  op_norm(context->compute, state->out, state->mean, state->rstd, x, model_tensor(model, norm.weight),
          model_tensor(model, norm.bias), model->spec.norm);
  return state->out;
}

void norm_backward(const BlockContext *context, Norm norm, Tensor dx, Tensor dy, const NormState *state,
                   float beta) {
  const Model *model = context->model;
  op_norm_backward(context->compute, dx, model_grad(model, norm.weight), model_grad(model, norm.bias), dy,
                   state->in, state->mean, state->rstd, model_tensor(model, norm.weight), model->spec.norm,
                   beta);
}

Tensor model_embed(const BlockContext *context, Tensor ids, NormState *norm_state) {
  const Model *model = context->model;
  Tensor x = activation_new(context, ids.dim[0], model->spec.hidden);
  op_embedding(context->compute, x, model_tensor(model, model->embedding), ids, model->spec.embedding_scale,
               0);
  if (model->positions >= 0) {
    op_embedding(context->compute, x, model_positions(model), context->positions, 1, 1);
  }
  NormState unkept;
  if (!model->spec.embedding_norm) return x;
  return norm_forward(context, model->embedding_norm, x, true, norm_state ? norm_state : &unkept);
}

static LoraRows adapter_rows(const BlockContext *context) {
  return (LoraRows){.draws = context->draws, .positions = context->positions};
}

/* out = x W^T + bias + adapter + beta*out */
static void linear_forward(const BlockContext *context, int layer, LinearRole role, Tensor out, Tensor x,
                           float beta, BlockState *state) {
  const Model *model = context->model;
  const Linear linear = model->blocks[layer].linear[role];
  const bool adapted =
      lora_forward(context->compute, context->adapter, linear.id, out, x, beta,
                   context->keep ? &state->lora[role] : NULL, adapter_rows(context), context->arena);
  op_linear(context->compute, out, x, model_weight(model, linear), model_tensor(model, linear.bias), 1,
            adapted ? 1 : beta);
}

/* dx = gradient + beta*dx, through the base weight and the adapter */
static void linear_backward(const BlockContext *context, int layer, LinearRole role, Tensor dx, Tensor dy,
                            Tensor x, float beta, BlockState *state) {
  const Model *model = context->model;
  const Linear linear = model->blocks[layer].linear[role];
  const Tensor dw = model_grad(model, linear.weight);
  if (!tensor_is_none(dw)) {
    op_linear_backward_weight(context->compute, (Weight){dw, model->arch->transposed},
                              model_grad(model, linear.bias), dy, x, 1);
  }
  const bool adapted = lora_backward(context->compute, context->adapter, linear.id, dx, dy, x, beta,
                                     &state->lora[role], context->arena);
  op_linear_backward_input(context->compute, dx, dy, model_weight(model, linear), 1, adapted ? 1 : beta);
}

static bool norm_comes_first(const ModelSpec *spec) {
  return spec->placement == NORM_PRE || spec->placement == NORM_SANDWICH;
}

/* The norm on a branch's output, for the placements that have one; NORM_ROLES otherwise. */
static NormRole output_norm_role(const ModelSpec *spec, NormRole before, NormRole after) {
  if (spec->placement == NORM_OUTPUT) return before;
  if (spec->placement == NORM_SANDWICH) return after;
  return NORM_ROLES;
}

/* Linear `role` over x, where only what its adapter keeps for the backward is wanted. */
static void linear_state(const BlockContext *context, int layer, LinearRole role, Tensor x,
                         BlockState *state) {
  const Linear linear = context->model->blocks[layer].linear[role];
  lora_forward(context->compute, context->adapter, linear.id, (Tensor){0}, x, 0, &state->lora[role],
               adapter_rows(context), context->arena);
}

/* residual += branch, where the branch ends in linear `role` over x and perhaps a norm. residual none: only what the
 * backward needs of it. */
static void branch_close(const BlockContext *context, int layer, LinearRole role, NormRole norm,
                         Tensor residual, Tensor x, BlockState *state) {
  const bool wanted = !tensor_is_none(residual);
  if (norm == NORM_ROLES) {
    if (wanted) {
      linear_forward(context, layer, role, residual, x, 1, state);
    } else {
      linear_state(context, layer, role, x, state);
    }
    return;
  }
  Tensor out = activation_new(context, x.dim[0], context->model->spec.hidden);
  linear_forward(context, layer, role, out, x, 0, state);
  out = norm_forward(context, context->model->blocks[layer].norm[norm], out, true, &state->norm[norm]);
  if (wanted) op_axpby(context->compute, residual, out, 1, 1);
}

/* The gradient that enters a branch's last linear: dx itself, or pulled back through the output norm. */
static Tensor branch_open_backward(const BlockContext *context, int layer, NormRole norm, Tensor dx,
                                   const BlockState *state) {
  if (norm == NORM_ROLES) return dx;
  Tensor d = activation_new(context, dx.dim[0], dx.dim[1]);
  norm_backward(context, context->model->blocks[layer].norm[norm], d, dx, &state->norm[norm], 0);
  return d;
}

/* -- attention --------------------------------------------------------------------------------------------
 */

/* The heads of q, k and v as views of the projections' outputs (or of their gradients, laid out alike). */
static void qkv_views(const ModelSpec *spec, const Tensor projection[3], Tensor view[3]) {
  const int64_t h = spec->heads, k = spec->kv_heads, d = spec->head_size;
  switch (spec->qkv) {
    case QKV_SEPARATE:
      view[0] = tensor_heads(projection[0], 0, h, d, d);
      view[1] = tensor_heads(projection[1], 0, k, d, d);
      view[2] = tensor_heads(projection[2], 0, k, d, d);
      return;
    case QKV_BLOCKS:
      view[0] = tensor_heads(projection[0], 0, h, d, d);
      view[1] = tensor_heads(projection[0], h * d, k, d, d);
      view[2] = tensor_heads(projection[0], (h + k) * d, k, d, d);
      return;
    case QKV_HEADS:
      for (int i = 0; i < 3; i++) view[i] = tensor_heads(projection[0], i * d, h, 3 * d, d);
      return;
  }
}

static RotarySpec rotary_of(const Model *model, int layer) {
  const int table = model->spec.rope_by_window && model->spec.window[layer] > 0;
  return (RotarySpec){model->rope_frequency[table], model->rope_scale[table], model->spec.rotary_interleaved};
}

static AttentionSpec attention_of(const Model *model, int layer) {
  const ModelSpec *spec = &model->spec;
  float scale = spec->attention_scale;
  if (scale == 0) scale = 1 / sqrtf((float)spec->head_size);
  if (spec->scale_by_layer) scale /= (float)(layer + 1);
  return (AttentionSpec){scale, spec->attention_softcap, spec->window[layer], model->alibi};
}

static int projection_count(const ModelSpec *spec) {
  return spec->qkv == QKV_SEPARATE ? 3 : 1;
}

static LinearRole projection_role(const ModelSpec *spec, int i) {
  return spec->qkv == QKV_SEPARATE ? (LinearRole)(LINEAR_Q + i) : LINEAR_QKV;
}

static void projections_new(const BlockContext *context, int layer, int64_t rows, Tensor out[3]) {
  const Model *model = context->model;
  for (int i = 0; i < projection_count(&model->spec); i++) {
    const Linear linear = model->blocks[layer].linear[projection_role(&model->spec, i)];
    out[i] = activation_new(context, rows, weight_outputs(model_weight(model, linear)));
  }
}

/* Normalises q (which = 0) or k (1), per head or over the whole projection. */
static Tensor qk_norm(const BlockContext *context, int layer, int which, Tensor projection, Tensor view,
                      BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const NormRole role = which == 0 ? NORM_Q : NORM_K;
  const Norm norm = context->model->blocks[layer].norm[role];
  if (spec->qk_norm == QK_NORM_HEAD) return norm_forward(context, norm, view, true, &state->norm[role]);
  ASSERT(spec->qkv == QKV_SEPARATE);
  Tensor out = norm_forward(context, norm, projection, true, &state->norm[role]);
  return tensor_heads(out, 0, view.dim[1], spec->head_size, spec->head_size);
}

/* Projections, clamp, q/k norms and rotary: state->qkv as attention reads it. */
static void qkv_forward(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const Model *model = context->model;
  const ModelSpec *spec = &model->spec;
  Tensor seen[3];
  projections_new(context, layer, x.dim[0], state->projection);
  for (int i = 0; i < projection_count(spec); i++) {
    linear_forward(context, layer, projection_role(spec, i), state->projection[i], x, 0, state);
    seen[i] = state->projection[i];
    if (spec->clip_qkv > 0) {
      op_clamp(context->compute, seen[i], spec->clip_qkv);
      /* The backward asks what was clamped, before the rotation below changes it. */
      if (context->keep) seen[i] = copy_of(context, seen[i]);
    }
  }
  qkv_views(spec, seen, state->qkv);
  for (int i = 0; i < 2; i++) {
    if (spec->qk_norm != QK_NORM_NONE) {
      state->qkv[i] = qk_norm(context, layer, i, seen[i], state->qkv[i], state);
    }
    if (spec->position == POSITION_ROTARY) {
      op_rotary(context->compute, state->qkv[i], context->positions, rotary_of(model, layer), false);
    }
  }
}

static void attention_forward(const BlockContext *context, int layer, Tensor x, Tensor residual,
                              BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const int64_t rows = x.dim[0];
  Compute *c = context->compute;
  qkv_forward(context, layer, x, state);
  state->attended = activation_new(context, rows, spec->heads * spec->head_size);
  const Tensor out = tensor_heads(state->attended, 0, spec->heads, spec->head_size, spec->head_size);
  const AttentionSpec attention = attention_of(context->model, layer);
  if (context->caches) {
    const PagedCache cache = context->caches[layer];
    op_cache_store(c, cache, state->qkv[1], state->qkv[2], context->sequence, context->positions);
    op_attention_paged(c, out, state->qkv[0], cache, context->sequence, context->positions, attention);
  } else {
    state->lse = tensor_new_2d(context->arena, DTYPE_F32, rows, spec->heads);
    op_attention(c, out, state->lse, state->qkv[0], state->qkv[1], state->qkv[2], context->offsets,
                 attention);
  }
  branch_close(context, layer, LINEAR_O, output_norm_role(spec, NORM_ATTENTION, NORM_ATTENTION_POST),
               residual, state->attended, state);
}

static void qkv_backward(const BlockContext *context, int layer, Tensor dprojection[3], Tensor dqkv[3],
                         BlockState *state) {
  const Model *model = context->model;
  const ModelSpec *spec = &model->spec;
  for (int i = 0; i < 2; i++) {
    if (spec->position == POSITION_ROTARY) {
      op_rotary(context->compute, dqkv[i], context->positions, rotary_of(model, layer), true);
    }
    if (spec->qk_norm == QK_NORM_NONE) continue;
    const NormRole role = i == 0 ? NORM_Q : NORM_K;
    const Tensor d = spec->qk_norm == QK_NORM_HEAD ? dqkv[i] : dprojection[i];
    norm_backward(context, model->blocks[layer].norm[role], d, d, &state->norm[role], 0);
  }
  if (spec->clip_qkv > 0) {
    for (int i = 0; i < projection_count(spec); i++) {
      op_clamp_backward(context->compute, dprojection[i], state->projection[i], spec->clip_qkv);
    }
  }
}

/* dn = gradient of the branch's input + beta*dn, where x is that input */
static void attention_backward(const BlockContext *context, int layer, Tensor dn, Tensor dx, Tensor x,
                               float beta, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const size_t mark = arena_mark(context->arena);
  const Tensor d = branch_open_backward(
      context, layer, output_norm_role(spec, NORM_ATTENTION, NORM_ATTENTION_POST), dx, state);
  Tensor dattended = activation_new(context, x.dim[0], spec->heads * spec->head_size);
  linear_backward(context, layer, LINEAR_O, dattended, d, state->attended, 0, state);

  Tensor dprojection[3], dqkv[3];
  projections_new(context, layer, x.dim[0], dprojection);
  qkv_views(spec, dprojection, dqkv);
  op_attention_backward(context->compute, dqkv[0], dqkv[1], dqkv[2],
                        tensor_heads(dattended, 0, spec->heads, spec->head_size, spec->head_size),
                        tensor_heads(state->attended, 0, spec->heads, spec->head_size, spec->head_size),
                        state->lse, state->qkv[0], state->qkv[1], state->qkv[2], context->offsets,
                        attention_of(context->model, layer));
  qkv_backward(context, layer, dprojection, dqkv, state);
  for (int i = 0; i < projection_count(spec); i++) {
    linear_backward(context, layer, projection_role(spec, i), dn, dprojection[i], x, i == 0 ? beta : 1,
                    state);
  }
  arena_release(context->arena, mark);
}

/* -- feed-forward -----------------------------------------------------------------------------------------
 */

static void mlp_forward(const BlockContext *context, int layer, Tensor x, Tensor residual,
                        BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const int64_t rows = x.dim[0], inner = spec->intermediate;
  Compute *c = context->compute;
  if (spec->gate_up_fused) {
    state->gate_up = activation_new(context, rows, 2 * inner);
    linear_forward(context, layer, LINEAR_GATE_UP, state->gate_up, x, 0, state);
    state->gate = tensor_columns(state->gate_up, 0, inner);
    state->up = tensor_columns(state->gate_up, inner, inner);
  } else {
    if (spec->gated) {
      state->gate = activation_new(context, rows, inner);
      linear_forward(context, layer, LINEAR_GATE, state->gate, x, 0, state);
    }
    state->up = activation_new(context, rows, inner);
    linear_forward(context, layer, LINEAR_UP, state->up, x, 0, state);
  }
  state->activated = context->keep ? activation_new(context, rows, inner) : state->up;
  if (spec->gated) {
    op_gated(c, state->activated, state->gate, state->up, spec->activation);
  } else {
    op_activation(c, state->activated, state->up, spec->activation);
  }
  branch_close(context, layer, LINEAR_DOWN, output_norm_role(spec, NORM_MLP, NORM_MLP_POST), residual,
               state->activated, state);
}

/* dn = gradient of the branch's input + beta*dn, where x is that input */
static void mlp_backward(const BlockContext *context, int layer, Tensor dn, Tensor dx, Tensor x, float beta,
                         BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  Compute *c = context->compute;
  const size_t mark = arena_mark(context->arena);
  const Tensor d =
      branch_open_backward(context, layer, output_norm_role(spec, NORM_MLP, NORM_MLP_POST), dx, state);
  Tensor dactivated = activation_new(context, x.dim[0], spec->intermediate);
  linear_backward(context, layer, LINEAR_DOWN, dactivated, d, state->activated, 0, state);
  if (!spec->gated) {
    op_activation_backward(c, dactivated, dactivated, state->up, spec->activation);
    linear_backward(context, layer, LINEAR_UP, dn, dactivated, x, beta, state);
  } else {
    /* The gradients take the place of gate and up, which are not needed again. */
    op_gated_backward(c, state->gate, state->up, dactivated, state->gate, state->up, spec->activation);
    if (spec->gate_up_fused) {
      linear_backward(context, layer, LINEAR_GATE_UP, dn, state->gate_up, x, beta, state);
    } else {
      linear_backward(context, layer, LINEAR_GATE, dn, state->gate, x, beta, state);
      linear_backward(context, layer, LINEAR_UP, dn, state->up, x, 1, state);
    }
  }
  arena_release(context->arena, mark);
}

/* -- the block --------------------------------------------------------------------------------------------
 */

static Tensor block_forward_sequential(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const Block *block = &context->model->blocks[layer];
  const bool first = norm_comes_first(spec), post = spec->placement == NORM_POST;

  Tensor sum = residual_start(context, x);
  Tensor n =
      first ? norm_forward(context, block->norm[NORM_ATTENTION], x, false, &state->norm[NORM_ATTENTION]) : x;
  attention_forward(context, layer, n, sum, state);
  state->middle =
      post ? norm_forward(context, block->norm[NORM_ATTENTION], sum, true, &state->norm[NORM_ATTENTION])
           : sum;

  /* A norm after the sum is part of the block, and its backward needs the sum. */
  sum = context->state_only && !post ? (Tensor){0} : residual_start(context, state->middle);
  n = first ? norm_forward(context, block->norm[NORM_MLP], state->middle, false, &state->norm[NORM_MLP])
            : state->middle;
  mlp_forward(context, layer, n, sum, state);
  return post ? norm_forward(context, block->norm[NORM_MLP], sum, true, &state->norm[NORM_MLP]) : sum;
}

static Tensor block_forward_parallel(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const Block *block = &context->model->blocks[layer];
  const Tensor n1 =
      norm_forward(context, block->norm[NORM_ATTENTION], x, false, &state->norm[NORM_ATTENTION]);
  Tensor n2 = n1;
  if (!context->model->spec.parallel_shared) {
    n2 = norm_forward(context, block->norm[NORM_MLP], x, false, &state->norm[NORM_MLP]);
  }
  const Tensor sum = context->state_only ? (Tensor){0} : residual_start(context, x);
  attention_forward(context, layer, n1, sum, state);
  mlp_forward(context, layer, n2, sum, state);
  return sum;
}

Tensor block_forward(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const size_t mark = arena_mark(context->arena);
  *state = (BlockState){.input = x};
  const Tensor out = context->model->spec.parallel ? block_forward_parallel(context, layer, x, state)
                                                   : block_forward_sequential(context, layer, x, state);
  if (!context->keep) arena_release(context->arena, mark);
  return out;
}

static void block_backward_parallel(const BlockContext *context, int layer, Tensor dx, BlockState *state) {
  const Block *block = &context->model->blocks[layer];
  const bool shared = context->model->spec.parallel_shared;
  const NormState *n1 = &state->norm[NORM_ATTENTION], *n2 = shared ? n1 : &state->norm[NORM_MLP];
  /* Both branches read the same dx, so it changes only after both. */
  Tensor d1 = activation_new(context, dx.dim[0], dx.dim[1]);
  Tensor d2 = shared ? d1 : activation_new(context, dx.dim[0], dx.dim[1]);
  mlp_backward(context, layer, d2, dx, n2->out, 0, state);
  attention_backward(context, layer, d1, dx, n1->out, shared ? 1 : 0, state);
  norm_backward(context, block->norm[NORM_ATTENTION], dx, d1, n1, 1);
  if (!shared) norm_backward(context, block->norm[NORM_MLP], dx, d2, n2, 1);
}

static void block_backward_sequential(const BlockContext *context, int layer, Tensor dx, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const Block *block = &context->model->blocks[layer];
  typedef void BranchBackward(const BlockContext *, int, Tensor, Tensor, Tensor, float, BlockState *);
  const struct {
    BranchBackward *backward;
    NormRole norm;
    Tensor input;
  } branch[2] = {{mlp_backward, NORM_MLP, state->middle}, {attention_backward, NORM_ATTENTION, state->input}};

  Tensor dn = activation_new(context, dx.dim[0], dx.dim[1]);
  for (int i = 0; i < 2; i++) {
    const NormState *norm = &state->norm[branch[i].norm];
    if (spec->placement == NORM_POST) norm_backward(context, block->norm[branch[i].norm], dx, dx, norm, 0);
    if (norm_comes_first(spec)) {
      branch[i].backward(context, layer, dn, dx, norm->out, 0, state);
      norm_backward(context, block->norm[branch[i].norm], dx, dn, norm, 1);
    } else {
      branch[i].backward(context, layer, dn, dx, branch[i].input, 0, state);
      op_axpby(context->compute, dx, dn, 1, 1);
    }
  }
}

void block_backward(const BlockContext *context, int layer, Tensor dx, BlockState *state) {
  const size_t mark = arena_mark(context->arena);
  if (context->model->spec.parallel) {
    block_backward_parallel(context, layer, dx, state);
  } else {
    block_backward_sequential(context, layer, dx, state);
  }
  arena_release(context->arena, mark);
}
