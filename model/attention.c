/* The attention branch of a block: projections, q/k norms, rotation, attention, output. */
#include "model/branch.h"

/* The heads of q, k and v as views of the projections' outputs (or of their gradients, laid out alike). The query heads of
 * QKV_GROUPS stand at no regular distance: they are in `queries` [T,H*D], a copy or still to be filled. */
static void qkv_views(const ModelSpec *spec, const Tensor projection[3], Tensor queries, Tensor view[3]) {
  const int64_t h = spec->heads, k = spec->kv_heads, d = spec->head_size, group = h / k;
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
    case QKV_GROUPS:
      view[0] = tensor_heads(queries, 0, h, d, d);
      view[1] = tensor_heads(projection[0], group * d, k, (group + 2) * d, d);
      view[2] = tensor_heads(projection[0], (group + 1) * d, k, (group + 2) * d, d);
      return;
  }
}

/* Copies the query heads out of the groups of a projection, or back into them. */
static void group_queries(const BlockContext *context, Tensor queries, Tensor projection, bool back) {
  const ModelSpec *spec = &context->model->spec;
  const int64_t d = spec->head_size, group = spec->heads / spec->kv_heads;
  for (int64_t g = 0; g < spec->kv_heads; g++) {
    const Tensor together = tensor_columns(queries, g * group * d, group * d);
    const Tensor apart = tensor_columns(projection, g * (group + 2) * d, group * d);
    op_axpby(context->compute, back ? apart : together, back ? together : apart, 1, 0);
  }
}

static Tensor queries_new(const BlockContext *context, int64_t rows) {
  const ModelSpec *spec = &context->model->spec;
  return spec->qkv == QKV_GROUPS ? activation_new(context, rows, spec->heads * spec->head_size) : (Tensor){0};
}

static RotarySpec rotary_of(const Model *model, int layer) {
  const int table = model->spec.rope_by_window && model->spec.window[layer] > 0;
  return (RotarySpec){model->rope_frequency[table], model->rope_scale[table], model->spec.rotary_interleaved};
}

static bool is_rotated(const ModelSpec *spec, int layer) {
  return spec->position == POSITION_ROTARY && !spec->without_rotary[layer];
}

/* Turns q and k, or turns their gradients back: at once where they are heads of one tensor. */
static void rotate(const BlockContext *context, int layer, const Tensor qk[2], bool back) {
  const Tensor both = tensor_beside(qk, 2);
  const int calls = tensor_is_none(both) ? 2 : 1;
  if (!is_rotated(&context->model->spec, layer)) return;
  for (int i = 0; i < calls; i++)
    op_rotary(context->compute, calls == 1 ? both : qk[i], context->positions,
              rotary_of(context->model, layer), back);
}

static AttentionSpec attention_of(const Model *model, int layer) {
  const ModelSpec *spec = &model->spec;
  float scale = attention_scale(spec);
  if (spec->scale_by_layer) scale /= (float)(layer + 1);
  return (AttentionSpec){scale, spec->attention_softcap, spec->window[layer], model->alibi,
                         spec->alibi_by_place ? attention_scale(spec) : 0};
}

static int projection_count(const ModelSpec *spec) {
  return spec->qkv == QKV_SEPARATE ? 3 : 1;
}

/* The first of them. */
static LinearRole projection_role(const ModelSpec *spec) {
  return spec->qkv == QKV_SEPARATE ? LINEAR_Q : LINEAR_QKV;
}

static void projections_new(const BlockContext *context, int layer, int64_t rows, Tensor out[3]) {
  roles_new(context, layer, projection_role(&context->model->spec), projection_count(&context->model->spec),
            rows, out);
}

/* Whether what stores keys rotates before that, and whether it normalises before both. */
static bool rotates_last(const BlockContext *context, int layer) {
  const ModelSpec *spec = &context->model->spec;
  return context->caches && is_rotated(spec, layer) && !spec->qk_norm_rotated;
}

static bool stores_normed(const BlockContext *context, int layer) {
  return rotates_last(context, layer) && context->model->spec.qk_norm == QK_NORM_HEAD;
}

/* Normalises q and k, per head or over their whole projections. */
static void qk_norms(const BlockContext *context, int layer, const Tensor projection[2], Tensor view[2],
                     BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const Norm *of = context->model->blocks[layer].norm, norm[2] = {of[NORM_Q], of[NORM_K]};
  NormState *const states[2] = {&state->norm[NORM_Q], &state->norm[NORM_K]};
  if (spec->qk_norm == QK_NORM_NONE || stores_normed(context, layer)) return;
  if (spec->qk_norm == QK_NORM_HEAD) {
    norm_pair_forward(context, norm, view, view, states);
    return;
  }
  for (int i = 0; i < 2; i++) {
    if (spec->qk_norm == QK_NORM_HEADS) {
      view[i] = heads_norm_forward(context, norm[i], view[i], states[i]);
      continue;
    }
    ASSERT(spec->qkv == QKV_SEPARATE);
    const Tensor out = norm_forward(context, norm[i], projection[i], true, states[i]);
    view[i] = tensor_heads(out, 0, view[i].dim[1], spec->head_size, spec->head_size);
  }
}

/* Projections, clamp, q/k norms and rotary: state->qkv as attention reads it, but that on the way into a cache a rotation at the
 * end, and norms by head before it, are left to what stores it. */
static void qkv_forward(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  Tensor seen[3];
  projections_new(context, layer, x.dim[0], state->projection);
  roles_forward(context, layer, projection_role(spec), projection_count(spec), state->projection, x, state);
  for (int i = 0; i < projection_count(spec); i++) {
    seen[i] = state->projection[i];
    if (spec->clip_qkv > 0) {
      op_clamp(context->compute, seen[i], spec->clip_qkv);
      /* The backward asks what was clamped, before the rotation below changes it. */
      if (context->keep) seen[i] = activation_copy(context, seen[i]);
    }
  }
  const Tensor queries = queries_new(context, x.dim[0]);
  if (!tensor_is_none(queries)) group_queries(context, queries, seen[0], false);
  qkv_views(spec, seen, queries, state->qkv);
  if (spec->qk_norm_rotated) rotate(context, layer, state->qkv, false);
  qk_norms(context, layer, seen, state->qkv, state);
  if (!spec->qk_norm_rotated && !context->caches) rotate(context, layer, state->qkv, false);
}

/* Into the cache, normalised and rotated. */
static void qkv_store(const BlockContext *context, int layer, PagedCache cache, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  Compute *c = context->compute;
  Tensor *const qkv = state->qkv;
  if (stores_normed(context, layer)) {
    const Norm *of = context->model->blocks[layer].norm, norm[2] = {of[NORM_Q], of[NORM_K]};
    NormState *const states[2] = {&state->norm[NORM_Q], &state->norm[NORM_K]};
    NormTerms terms[2];
    norm_pair_terms(context, norm, qkv, states, terms);
    op_norm_rotary_cache_store(c, cache, terms[0], terms[1], qkv[2], context->sequence, context->positions,
                               rotary_of(context->model, layer), spec->norm);
    for (int i = 0; i < 2; i++) qkv[i] = terms[i].out;
  } else if (rotates_last(context, layer)) {
    op_rotary_cache_store(c, cache, qkv[0], qkv[1], qkv[2], context->sequence, context->positions,
                          rotary_of(context->model, layer));
  } else {
    op_cache_store(c, cache, qkv[1], qkv[2], context->sequence, context->positions);
  }
}

void attention_forward(const BlockContext *context, int layer, Tensor x, Residual residual,
                       BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const int64_t rows = x.dim[0];
  Compute *c = context->compute;
  qkv_forward(context, layer, x, state);
  state->attended = activation_new(context, rows, spec->heads * spec->head_size);
  const Tensor out = tensor_heads(state->attended, 0, spec->heads, spec->head_size, spec->head_size);
  const AttentionSpec attention = attention_of(context->model, layer);
  if (context->caches) {
    PagedCache cache = context->caches[layer];
    cache.table = tensor_columns(cache.table, 0, context->reach);
    qkv_store(context, layer, cache, state);
    op_attention_paged(c, out, state->qkv[0], cache, context->sequence, context->positions, attention);
  } else {
    state->lse = tensor_new_2d(context->arena, DTYPE_F32, rows, spec->heads);
    op_attention(c, out, state->lse, state->qkv[0], state->qkv[1], state->qkv[2], context->offsets,
                 attention);
  }
  branch_close(context, layer, LINEAR_O, output_norm_role(spec, NORM_ATTENTION, NORM_ATTENTION_POST),
               residual, state->attended, state);
}

/* The gradient of q (which = 0) or k (1) takes its own place. */
static void qk_norm_backward(const BlockContext *context, int layer, int which, Tensor dprojection,
                             Tensor dview, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const NormRole role = which == 0 ? NORM_Q : NORM_K;
  const Norm norm = context->model->blocks[layer].norm[role];
  if (spec->qk_norm == QK_NORM_NONE) return;
  if (spec->qk_norm == QK_NORM_HEADS) {
    heads_norm_backward(context, norm, dview, dview, &state->norm[role]);
  } else {
    const Tensor d = spec->qk_norm == QK_NORM_HEAD ? dview : dprojection;
    norm_backward(context, norm, d, d, &state->norm[role], 0);
  }
}

static void qkv_backward(const BlockContext *context, int layer, Tensor dprojection[3], Tensor dqkv[3],
                         Tensor dqueries, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  if (!spec->qk_norm_rotated) rotate(context, layer, dqkv, true);
  for (int i = 0; i < 2; i++) qk_norm_backward(context, layer, i, dprojection[i], dqkv[i], state);
  if (spec->qk_norm_rotated) rotate(context, layer, dqkv, true);
  if (!tensor_is_none(dqueries)) group_queries(context, dqueries, dprojection[0], true);
  if (spec->clip_qkv > 0) {
    for (int i = 0; i < projection_count(spec); i++) {
      op_clamp_backward(context->compute, dprojection[i], state->projection[i], spec->clip_qkv);
    }
  }
}

void attention_backward(const BlockContext *context, int layer, Tensor dn, Tensor dx, Tensor x, float beta,
                        BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const size_t mark = arena_mark(context->arena);
  const Tensor d = branch_open_backward(
      context, layer, output_norm_role(spec, NORM_ATTENTION, NORM_ATTENTION_POST), dx, state);
  Tensor dattended = activation_new(context, x.dim[0], spec->heads * spec->head_size);
  role_backward(context, layer, LINEAR_O, dattended, d, state->attended, 0, state);

  Tensor dprojection[3], dqkv[3];
  projections_new(context, layer, x.dim[0], dprojection);
  const Tensor dqueries = queries_new(context, x.dim[0]);
  qkv_views(spec, dprojection, dqueries, dqkv);
  op_attention_backward(context->compute, dqkv[0], dqkv[1], dqkv[2],
                        tensor_heads(dattended, 0, spec->heads, spec->head_size, spec->head_size),
                        tensor_heads(state->attended, 0, spec->heads, spec->head_size, spec->head_size),
                        state->lse, state->qkv[0], state->qkv[1], state->qkv[2], context->offsets,
                        attention_of(context->model, layer));
  qkv_backward(context, layer, dprojection, dqkv, dqueries, state);
  roles_backward(context, layer, projection_role(spec), projection_count(spec), dn, dprojection, x, beta,
                 state);
  arena_release(context->arena, mark);
}
