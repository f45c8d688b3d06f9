#include "model/branch.h"

/* As Gemma has it, whose scale is a tensor of the weights' dtype. */
static float embedding_scale(const Model *model) {
  const float scale = model->spec.embedding_scale;
  const bool rounded = model->spec.embedding_scale_rounded && model->dtype == DTYPE_BF16;
  return rounded ? float_from_bf16(bf16_from_float(scale)) : scale;
}

Tensor model_embed(const BlockContext *context, Tensor ids, EmbedState *state) {
  const Model *model = context->model;
  Tensor x = activation_new(context, ids.dim[0], model_width(&model->spec));
  const LoraCopy *copy = lora_copy(context->adapter, model->embedding_id);
  const Tensor table = copy ? copy->weight.value : model_tensor(model, model->embedding);
  op_embedding(context->compute, x, table, ids, embedding_scale(model), 0);
  lora_embed(context->compute, context->adapter, model->embedding_id, x, ids, embedding_scale(model),
             context->arena);
  if (model->project_in.weight >= 0) {
    state->table = x;
    x = activation_new(context, ids.dim[0], model->spec.hidden);
    linear_forward(context, model->project_in, x, state->table, 0, &state->project_in);
  }
  if (model->positions >= 0) {
    op_embedding(context->compute, x, model_positions(model), context->positions, 1, 1);
  }
  if (!model->spec.embedding_norm) return x;
  return norm_forward(context, model->embedding_norm, x, true, &state->norm);
}

void model_embed_backward(const BlockContext *context, Tensor ids, Tensor dx, EmbedState *state) {
  const Model *model = context->model;
  const LoraCopy *copy = lora_copy(context->adapter, model->embedding_id);
  const LoraPair *pair = lora_pair(context->adapter, model->embedding_id);
  const Tensor dtable = copy ? copy->weight.grad : model_grad(model, model->embedding);
  const bool trained = !tensor_is_none(dtable) || (pair && !tensor_is_none(pair->b.grad));
  const Tensor dpositions = model->positions >= 0 ? model_position_grads(model) : (Tensor){0};
  if (!trained && tensor_is_none(dpositions) && model->project_in.weight < 0) return;
  if (model->spec.embedding_norm) {
    norm_backward(context, model->embedding_norm, dx, dx, &state->norm, 0);
  }
  if (!tensor_is_none(dpositions)) {
    op_embedding_backward(context->compute, dpositions, dx, context->positions, 1);
  }
  if (model->project_in.weight >= 0) {
    const Tensor dlookup = activation_new(context, dx.dim[0], model_width(&model->spec));
    linear_backward(context, model->project_in, dlookup, dx, state->table, 0, &state->project_in);
    dx = dlookup;
  }
  if (!tensor_is_none(dtable)) {
    op_embedding_backward(context->compute, dtable, dx, ids, embedding_scale(model));
  }
  lora_embed_backward(context->compute, context->adapter, model->embedding_id, dx, ids,
                      embedding_scale(model), context->arena);
}

Tensor model_finish(const BlockContext *context, Tensor x, FinishState *state) {
  const Model *model = context->model;
  *state = (FinishState){0};
  state->normed =
      model->spec.final_norm ? norm_forward(context, model->final_norm, x, true, &state->norm) : x;
  if (model->project_out.weight < 0) return state->normed;
  const Tensor hidden = activation_new(context, x.dim[0], model_width(&model->spec));
  linear_forward(context, model->project_out, hidden, state->normed, 0, &state->project_out);
  return hidden;
}

Tensor model_finish_backward(const BlockContext *context, Tensor dhidden, FinishState *state) {
  const Model *model = context->model;
  Tensor dx = dhidden;
  if (model->project_out.weight >= 0) {
    dx = activation_new(context, dhidden.dim[0], model->spec.hidden);
    linear_backward(context, model->project_out, dx, dhidden, state->normed, 0, &state->project_out);
  }
  if (model->spec.final_norm) norm_backward(context, model->final_norm, dx, dx, &state->norm, 0);
  return dx;
}

void block_rooms_new(BlockContext *context, int64_t rows) {
  const ModelSpec *spec = &context->model->spec;
  if (norm_comes_first(spec) && !spec->parallel)
    context->normed = activation_new(context, rows, spec->hidden);
  context->activated = activation_new(context, rows, spec->intermediate);
}

static Tensor block_forward_sequential(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const ModelSpec *spec = &context->model->spec;
  const Block *block = &context->model->blocks[layer];
  const bool first = norm_comes_first(spec), post = spec->placement == NORM_POST;

  Residual sum = residual_of(context, x);
  if (!tensor_is_none(context->out)) sum.to = context->out;
  Tensor n =
      first ? branch_norm_forward(context, block->norm[NORM_ATTENTION], x, &state->norm[NORM_ATTENTION]) : x;
  attention_forward(context, layer, n, sum, state);
  state->middle =
      post ? norm_forward(context, block->norm[NORM_ATTENTION], sum.to, true, &state->norm[NORM_ATTENTION])
           : sum.to;

  /* A norm after the sum is part of the block, and its backward needs the sum. */
  const bool wanted = !context->state_only || post;
  sum = wanted ? residual_of(context, state->middle) : (Residual){.from = state->middle};
  n = first ? branch_norm_forward(context, block->norm[NORM_MLP], state->middle, &state->norm[NORM_MLP])
            : state->middle;
  mlp_forward(context, layer, n, sum, state);
  return post ? norm_forward(context, block->norm[NORM_MLP], sum.to, true, &state->norm[NORM_MLP]) : sum.to;
}

static Tensor block_forward_parallel(const BlockContext *context, int layer, Tensor x, BlockState *state) {
  const Block *block = &context->model->blocks[layer];
  const Tensor n1 =
      norm_forward(context, block->norm[NORM_ATTENTION], x, false, &state->norm[NORM_ATTENTION]);
  Tensor n2 = n1;
  if (!context->model->spec.parallel_shared) {
    n2 = norm_forward(context, block->norm[NORM_MLP], x, false, &state->norm[NORM_MLP]);
  }
  Residual sum = context->state_only ? (Residual){.from = x} : residual_of(context, x);
  if (!tensor_is_none(context->out)) sum.to = context->out;
  attention_forward(context, layer, n1, sum, state);
  sum.from = sum.to;
  mlp_forward(context, layer, n2, sum, state);
  return sum.to;
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
      branch_norm_again(context, block->norm[branch[i].norm], norm);
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
