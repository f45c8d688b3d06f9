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

static Tensor uploaded_ids(Pass *pass, const int32_t *values, int64_t count) {
  const Tensor out = tensor_new_1d(pass->context.arena, DTYPE_I32, count);
  compute_upload(pass->context.compute, out, values);
  return out;
}

static LogitEdits uploaded_edits(Pass *pass, TokenRows rows) {
  const RowEdits *edits = rows.edits;
  if (!edits) return (LogitEdits){.penalty = 1};
  LogitEdits out = {.penalty = edits->penalty, .most = edits->most};
  if (edits->penalty != 1) {
    out.ids = uploaded_ids(pass, edits->ids, edits->id_count);
    out.from = uploaded_ids(pass, edits->from, rows.count);
    out.count = uploaded_ids(pass, edits->count, rows.count);
  }
  if (edits->banned_count > 0) {
    out.banned = uploaded_ids(pass, edits->banned, edits->banned_count);
    out.bans = uploaded_ids(pass, edits->bans, rows.count);
  }
  return out;
}

/* With logits multiplied by s before the cap c and the temperature T: s c/s tanh(l / (c/s)) / T, which is the cap c/s and the
 * temperature T/s. Edits are the same of logits as of their multiples. */
static HeadSpec head_spec(const Model *model, float temperature, LogitEdits edits) {
  const float scale = model->spec.logit_scale;
  return (HeadSpec){
      .temperature = temperature / scale, .softcap = model->spec.logit_softcap / scale, .edits = edits};
}

/* The terms of the logits over x [N,C], of the model and the adapter. state: what the adapter's backward needs; its memory,
 * from the arena, is the caller's. */
static HeadTerms head_terms(const BlockContext *context, Tensor x, LoraRows rows, LoraState *state) {
  const Model *model = context->model;
  const LoraCopy *copy = lora_copy(context->adapter, model->head_id);
  HeadTerms terms = {.x = x,
                     .w.data = copy ? copy->weight.value : model_tensor(model, model->head),
                     .padded = copy ? 0 : model_head_rows(model, context->compute),
                     .bias = model_tensor(model, model->head_bias)};
  if (copy && !tensor_is_none(copy->bias.value)) terms.bias = copy->bias.value;
  if (!lora_forward(context->compute, context->adapter, model->head_id, (Tensor){0}, x, 0, state, rows,
                    context->arena))
    return terms;
  const LoraPair *pair = lora_pair(context->adapter, model->head_id);
  terms.u = state->u;
  terms.b = pair->b.value;
  terms.scale = pair->scale;
  return terms;
}

/* Gradients of the terms, as far as they are trained; dx in any case. */
static HeadTerms head_gradients(const BlockContext *context, HeadTerms terms) {
  const Model *model = context->model;
  const LoraCopy *copy = lora_copy(context->adapter, model->head_id);
  const LoraPair *pair = lora_pair(context->adapter, model->head_id);
  HeadTerms gradients = {.x = tensor_new_like(context->arena, terms.x, terms.x.dtype),
                         .w.data = copy ? copy->weight.grad : model_grad(model, model->head),
                         .padded = terms.padded,
                         .bias = model_grad(model, model->head_bias)};
  if (copy && !tensor_is_none(copy->bias.value)) gradients.bias = copy->bias.grad;
  if (!pair) return gradients;
  gradients.u = tensor_new_like(context->arena, terms.u, terms.u.dtype);
  gradients.b = pair->b.grad;
  return gradients;
}

/* The rows' parts of what dropout asks for. The numbers are moved as they are, whatever they stand for. */
static Tensor picked_numbers(Pass *pass, Tensor numbers, Tensor rows) {
  if (tensor_is_none(numbers)) return numbers;
  const Tensor out = tensor_new_1d(pass->context.arena, DTYPE_I32, rows.dim[0]);
  op_gather_rows(pass->context.compute, tensor_2d(out.data, DTYPE_F32, rows.dim[0], 1),
                 tensor_2d(numbers.data, DTYPE_F32, numbers.dim[0], 1), rows);
  return out;
}

static HeadTerms picked_terms(Pass *pass, Picked picked, LoraState *state) {
  const BlockContext *context = &pass->context;
  LoraRows rows = {0};
  if (lora_pair(context->adapter, context->model->head_id) && !tensor_is_none(context->draws)) {
    rows.draws = picked_numbers(pass, context->draws, picked.rows);
    rows.positions = picked_numbers(pass, context->positions, picked.rows);
  }
  return head_terms(context, picked.x, rows, state);
}

void lm_logprobs(Pass *pass, TokenRows rows, float temperature, float *logprob, float *entropy) {
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor logprobs = tensor_new_1d(arena, DTYPE_F32, rows.count);
  const Tensor entropies = entropy ? tensor_new_1d(arena, DTYPE_F32, rows.count) : (Tensor){0};
  LoraState state;
  op_head_logprob(c, logprobs, entropies, picked_terms(pass, picked, &state), picked.targets,
                  head_spec(pass->context.model, temperature, uploaded_edits(pass, rows)));
  compute_download(c, logprob, logprobs);
  if (entropy) compute_download(c, entropy, entropies);
  arena_release(arena, mark);
}

void lm_logprobs_backward(Pass *pass, TokenRows rows, float temperature, const float *dlogprob,
                          const float *dentropy, float *logprob_out) {
  const BlockContext *context = &pass->context;
  const Model *model = context->model;
  Compute *c = context->compute;
  Arena *arena = context->arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor logprobs = logprob_out ? tensor_new_1d(arena, DTYPE_F32, rows.count) : (Tensor){0};
  LoraState state;
  const HeadTerms terms = picked_terms(pass, picked, &state), gradients = head_gradients(context, terms);
  op_head_logprob_backward(c, gradients, logprobs, terms, picked.targets,
                           uploaded(pass, dlogprob, rows.count), uploaded(pass, dentropy, rows.count),
                           head_spec(model, temperature, uploaded_edits(pass, rows)));
  if (!tensor_is_none(gradients.u)) {
    lora_backward_thin(c, context->adapter, model->head_id, gradients.x, gradients.u, picked.x, 1, &state,
                       arena);
  }
  op_scatter_add_rows(c, pass->dhidden, gradients.x, picked.rows);
  if (logprob_out) compute_download(c, logprob_out, logprobs);
  arena_release(arena, mark);
}

void head_logits(const BlockContext *context, Tensor out, Tensor x) {
  const ModelSpec *spec = &context->model->spec;
  Compute *c = context->compute;
  const size_t mark = arena_mark(context->arena);
  LoraState state;
  const HeadTerms z = head_terms(context, x, (LoraRows){0}, &state);
  const bool thin = !tensor_is_none(z.u);
  if (thin) op_linear(c, out, z.u, (Weight){.data = z.b}, (Tensor){0}, spec->logit_scale * z.scale, 0);
  op_linear(c, out, x, z.w, z.bias, spec->logit_scale, thin ? 1 : 0);
  if (spec->logit_softcap > 0) op_softcap(c, out, spec->logit_softcap);
  arena_release(context->arena, mark);
}

void lm_logits(Pass *pass, TokenRows rows, float *logits) {
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor out = tensor_new_2d(arena, DTYPE_F32, rows.count, pass->context.model->spec.vocab);
  head_logits(&pass->context, out, picked.x);
  compute_download(pass->context.compute, logits, out);
  arena_release(arena, mark);
}

void score_values(Pass *pass, const ScoreHead *head, TokenRows rows, float *values) {
  Compute *c = pass->context.compute;
  Arena *arena = pass->context.arena;
  const size_t mark = arena_mark(arena);
  const Picked picked = pick(pass, rows);
  const Tensor out = tensor_new_2d(arena, DTYPE_F32, rows.count, 1);
  op_linear(c, out, picked.x, (Weight){.data = head->weight}, (Tensor){0}, 1, 0);
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
    op_linear_backward_weight(c, (Weight){.data = head->weight_grad}, (Tensor){0}, dy, picked.x, 1);
  }
  op_linear_backward_input(c, dx, dy, (Weight){.data = head->weight}, 1, 0);
  op_scatter_add_rows(c, pass->dhidden, dx, picked.rows);
  arena_release(arena, mark);
}
