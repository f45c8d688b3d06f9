/* The feed-forward branch of a block: plain or gated. */
#include "model/branch.h"

static void activate(const BlockContext *context, const BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  if (spec->gated) {
    op_gated(context->compute, state->activated, state->gate, state->up, spec->activation);
  } else {
    op_activation(context->compute, state->activated, state->up, spec->activation);
  }
}

void mlp_forward(const BlockContext *context, int layer, Tensor x, Residual residual, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const int64_t rows = x.dim[0], inner = spec->intermediate;
  if (spec->gate_up_fused) {
    state->gate_up = activation_new(context, rows, 2 * inner);
    role_forward(context, layer, LINEAR_GATE_UP, state->gate_up, x, 0, state);
    state->gate = tensor_columns(state->gate_up, 0, inner);
    state->up = tensor_columns(state->gate_up, inner, inner);
  } else if (spec->gated) {
    Tensor out[2];
    roles_new(context, layer, LINEAR_GATE, 2, rows, out);
    roles_forward(context, layer, LINEAR_GATE, 2, out, x, state);
    state->gate = out[0];
    state->up = out[1];
  } else {
    state->up = activation_new(context, rows, inner);
    role_forward(context, layer, LINEAR_UP, state->up, x, 0, state);
  }
  const bool room = !tensor_is_none(context->activated);
  state->activated = room            ? context->activated
                     : context->keep ? activation_new(context, rows, inner)
                                     : state->up;
  activate(context, state);
  branch_close(context, layer, LINEAR_DOWN, output_norm_role(spec, NORM_MLP, NORM_MLP_POST), residual,
               state->activated, state);
}

void mlp_backward(const BlockContext *context, int layer, Tensor dn, Tensor dx, Tensor x, float beta,
                  BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  Compute *c = context->compute;
  const size_t mark = arena_mark(context->arena);
  const Tensor d =
      branch_open_backward(context, layer, output_norm_role(spec, NORM_MLP, NORM_MLP_POST), dx, state);
  if (!tensor_is_none(context->activated)) activate(context, state);
  Tensor dactivated = activation_new(context, x.dim[0], spec->intermediate);
  role_backward(context, layer, LINEAR_DOWN, dactivated, d, state->activated, 0, state);
  if (!spec->gated) {
    op_activation_backward(c, dactivated, dactivated, state->up, spec->activation);
    role_backward(context, layer, LINEAR_UP, dn, dactivated, x, beta, state);
  } else {
    /* The gradients take the place of gate and up, which are not needed again. */
    op_gated_backward(c, state->gate, state->up, dactivated, state->gate, state->up, spec->activation);
    if (spec->gate_up_fused) {
      role_backward(context, layer, LINEAR_GATE_UP, dn, state->gate_up, x, beta, state);
    } else {
      roles_backward(context, layer, LINEAR_GATE, 2, dn, (Tensor[]){state->gate, state->up}, x, beta, state);
    }
  }
  arena_release(context->arena, mark);
}
