#include "model/head.h"

/* The rows of a call on the device, and the hidden states they pick. Released by the caller. */
typedef struct Picked {
  Tensor rows, targets; /* [N] I32 */
  Tensor x;             /* [N,C] */
} Picked;

static Picked pick(Pass *pass, TokenRows rows) {
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  Picked picked = {.rows = tensor_new_1d(arena, DTYPE_I32, rows.count),
                   .targets = tensor_new_1d(arena, DTYPE_I32, rows.count),
                   .x = tensor_new_2d(arena, pass->hidden.dtype, rows.count, pass->hidden.dim[1])};
  compute_upload(c, picked.rows, rows.rows);
  if (rows.targets) compute_upload(c, picked.targets, rows.targets);
  op_gather_rows(c, picked.x, pass->hidden, picked.rows);
  return picked;
}

static Tensor uploaded(Pass *pass, const float *values, int64_t count) {
  if (!values) return (Tensor){0};
  Tensor out = tensor_new_1d(pass->context.arena, DTYPE_F32, count);
  compute_upload(pass->context.compute, out, values);
  return out;
}

/* With logits multiplied by s before the cap c and the temperature T: s c/s tanh(l / (c/s)) / T, which is the cap c/s and the
 * temperature T/s. */
static HeadSpec head_spec(const Model *model, float temperature) {
  const float scale = model->spec.logit_scale;
  return (HeadSpec){.temperature = temperature / scale, .softcap = model->spec.logit_softcap / scale};
}

static HeadTerms head_terms(const Model *model, Tensor x) {
  return (HeadTerms){.x = x, .w = model_head(model), .bias = model_tensor(model, model->head_bias)};
}

void lm_logprobs(Pass *pass, TokenRows rows, float temperature, float *logprob, float *entropy) {
  const Model *model = pass->context.model;
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor logprobs = tensor_new_1d(arena, DTYPE_F32, rows.count);
  const Tensor entropies = entropy ? tensor_new_1d(arena, DTYPE_F32, rows.count) : (Tensor){0};
  op_head_logprob(c, logprobs, entropies, head_terms(model, picked.x), picked.targets,
                  head_spec(model, temperature));
  compute_download(c, logprob, logprobs);
  if (entropy) compute_download(c, entropy, entropies);
  arena_release(arena, mark);
}

void lm_logprobs_backward(Pass *pass, TokenRows rows, float temperature, const float *dlogprob,
                          const float *dentropy, float *logprob_out) {
  const Model *model = pass->context.model;
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor logprobs = logprob_out ? tensor_new_1d(arena, DTYPE_F32, rows.count) : (Tensor){0};
  const HeadTerms gradients = {.x = tensor_new_like(arena, picked.x, picked.x.dtype),
                               .w = {model_grad(model, model->head), false},
                               .bias = model_grad(model, model->head_bias)};
  op_head_logprob_backward(c, gradients, logprobs, head_terms(model, picked.x), picked.targets,
                           uploaded(pass, dlogprob, rows.count), uploaded(pass, dentropy, rows.count),
                           head_spec(model, temperature));
  op_scatter_add_rows(c, pass->dhidden, gradients.x, picked.rows);
  if (logprob_out) compute_download(c, logprob_out, logprobs);
  arena_release(arena, mark);
}

void lm_logits(Pass *pass, TokenRows rows, float *logits) {
  const Model *model = pass->context.model;
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor out = tensor_new_2d(arena, DTYPE_F32, rows.count, model->spec.vocab);
  op_linear(c, out, picked.x, model_head(model), model_tensor(model, model->head_bias),
            model->spec.logit_scale, 0);
  if (model->spec.logit_softcap > 0) op_softcap(c, out, model->spec.logit_softcap);
  compute_download(c, logits, out);
  arena_release(arena, mark);
}

void score_values(Pass *pass, const ScoreHead *head, TokenRows rows, float *values) {
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor out = tensor_new_2d(arena, DTYPE_F32, rows.count, 1);
  op_linear(c, out, picked.x, (Weight){head->weight, false}, (Tensor){0}, 1, 0);
  compute_download(c, values, out);
  if (!c->dry) {
    for (int64_t n = 0; n < rows.count; n++) values[n] -= head->zero.shift;
  }
  arena_release(arena, mark);
}

void score_values_backward(Pass *pass, const ScoreHead *head, TokenRows rows, const float *dvalues) {
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor dy = tensor_new_2d(arena, DTYPE_F32, rows.count, 1);
  const Tensor dx = tensor_new_like(arena, picked.x, picked.x.dtype);
  compute_upload(c, dy, dvalues);
  if (!tensor_is_none(head->weight_grad)) {
    op_linear_backward_weight(c, (Weight){head->weight_grad, false}, (Tensor){0}, dy, picked.x, 1);
  }
  op_linear_backward_input(c, dx, dy, (Weight){head->weight, false}, 1, 0);
  op_scatter_add_rows(c, pass->dhidden, dx, picked.rows);
  arena_release(arena, mark);
}
