#include "model/pass.h"

#include "base/memory.h"

bool pass_init(Pass *pass, const Model *model, Error *error) {
  *pass = (Pass){0};
  pass->blocks = memory_zeroed((size_t)model->spec.layers, sizeof *pass->blocks);
  return pass->blocks || error_out_of_memory(error, "block states", sizeof *pass->blocks);
}

void pass_free(Pass *pass) {
  memory_free(pass->blocks);
  *pass = (Pass){0};
}

void pass_record(Pass *pass, PassRecords *records) {
  pass->records = records->compute ? records : NULL;
}

static Tensor upload(Compute *compute, Arena *arena, const int32_t *values, int64_t count) {
  Tensor out = tensor_new_1d(arena, DTYPE_I32, count);
  compute_upload(compute, out, values);
  return out;
}

/* The batch of a dry run is a size alone. */
static bool serves_batch(const Compute *compute, const Model *model, const Batch *batch) {
  bool serves = true;
  for (int64_t b = 0; !compute->dry && b < batch->sequences; b++)
    serves = serves && model_serves(model, batch->offsets[b + 1] - batch->offsets[b]);
  return serves;
}

/* Whether nothing is moved beside the operations. */
static bool recordable(const Pass *pass, const Model *model) {
  return pass->records && !pass->offload.host && !model->gradients && !model->block_weights;
}

static PassRecord *find_record(const Pass *pass) {
  const BlockContext *context = &pass->context;
  const Compute *c = context->compute;
  if (c->dry || !recordable(pass, context->model)) return NULL;
  return pass_records_find(
      pass->records,
      (PassKey){context->model, context->adapter, pass->mode, pass->tokens, context->offsets.dim[0] - 1,
                context->arena->base + arena_mark(context->arena), c->scratch.base});
}

/* From ids to hidden states. */
static void run_forward(void *context_pass) {
  Pass *pass = context_pass;
  BlockContext *context = &pass->context;
  const Model *model = context->model;
  Compute *compute = context->compute;
  Arena *arena = context->arena;
  Tensor x = model_embed(context, pass->ids, &pass->embed);
  /* Three launches more of a block, which a card might wait for. */
  if (pass->mode == PASS_TRAIN && compute_on_host(compute)) block_rooms_new(context, x.dim[0]);
  const int64_t layers = model->spec.layers;
  const bool offloaded = pass->mode == PASS_RECOMPUTE && pass->offload.host;
  if (offloaded) offload_begin(&pass->offload, x, layers, arena);
  for (int layer = 0; layer < layers; layer++) {
    BlockState *state = &pass->blocks[layer];
    model_use_block(model, compute, layer, layer + 1);
    if (pass->mode == PASS_RECOMPUTE) {
      /* Only input and output outlive a block: the stream grows in the output, and the rest is released. */
      const Tensor out = offloaded ? offload_out(&pass->offload, compute, layer, layers)
                                   : tensor_new_like(arena, x, x.dtype);
      const size_t mark = arena_mark(arena);
      context->out = out;
      const Tensor end = block_forward(context, layer, x, state);
      context->out = (Tensor){0};
      if (end.data != out.data) op_axpby(compute, out, end, 1, 0);
      state->input = x;
      arena_release(arena, mark);
      x = out;
    } else {
      x = block_forward(context, layer, x, state);
    }
  }
  pass->hidden = model_finish(context, x, &pass->finish);
  if (pass->mode != PASS_INFERENCE) {
    pass->dhidden = tensor_new_like(arena, pass->hidden, pass->hidden.dtype);
    op_fill(compute, pass->dhidden, 0);
  }
}

void pass_forward(Pass *pass, Compute *compute, const Model *model, const LoraSet *adapter,
                  const Batch *batch, PassMode mode, Arena *arena) {
  pass->context = (BlockContext){.compute = compute,
                                 .model = model,
                                 .adapter = adapter,
                                 .arena = arena,
                                 .keep = mode != PASS_INFERENCE,
                                 .overwrite = mode != PASS_TRAIN};
  BlockContext *context = &pass->context;
  ASSERT(serves_batch(compute, model, batch));
  if (recordable(pass, model)) batch = pass_records_pad(pass->records, batch);
  pass->mode = mode;
  pass->tokens = batch->tokens;
  pass->ids = upload(compute, arena, batch->ids, batch->tokens);
  context->positions = upload(compute, arena, batch->positions, batch->tokens);
  if (context->keep && adapter && adapter->spec.dropout > 0) {
    context->draws = upload(compute, arena, batch->draws, batch->tokens);
  }
  context->offsets = upload(compute, arena, batch->offsets, batch->sequences + 1);
  pass->record = find_record(pass);
  if (pass->record) {
    pass_records_run(pass->records, &pass->record->forward, run_forward, pass, arena, true);
  } else {
    run_forward(pass);
  }
}

void pass_forward_idle(const Model *model, Compute *compute) {
  for (int layer = 0; layer < model->spec.layers; layer++) model_use_block(model, compute, layer, layer + 1);
}

static void tell_before(const PassWatch *watch, int layer) {
  if (watch) watch->before(watch->self, layer);
}

static void tell_after(const PassWatch *watch, int layer) {
  if (watch) watch->after(watch->self, layer);
}

void pass_backward_idle(const Model *model, Compute *compute, const PassWatch *watch) {
  tell_after(watch, BEHIND_BLOCKS);
  for (int layer = (int)model->spec.layers - 1; layer >= 0; layer--) {
    model_use_block(model, compute, layer, layer - 1);
    tell_before(watch, layer);
    tell_after(watch, layer);
  }
  tell_after(watch, BEFORE_BLOCKS);
}

static void run_backward(void *context_pass) {
  Pass *pass = context_pass;
  const BlockContext *context = &pass->context;
  const Model *model = context->model;
  Compute *compute = context->compute;
  const BlockGradients *gradients = model->gradients;
  const bool offloaded = pass->mode == PASS_RECOMPUTE && pass->offload.host;
  const size_t mark = arena_mark(context->arena);
  pass->context.state_only = true; /* for blocks that run again */
  pass->context.overwrite = false;
  if (gradients) block_gradients_begin(gradients, compute);
  const Tensor dx = model_finish_backward(context, pass->dhidden, &pass->finish);
  tell_after(pass->watch, BEHIND_BLOCKS);
  for (int layer = (int)model->spec.layers - 1; layer >= 0; layer--) {
    const size_t block_mark = arena_mark(context->arena);
    BlockState *state = &pass->blocks[layer];
    /* One wait: what is called for here comes and goes while this block computes. */
    if (offloaded || gradients) compute_offload_wait(compute);
    if (gradients) block_gradients_next(gradients, compute, layer);
    model_use_block(model, compute, layer, layer - 1);
    if (pass->mode == PASS_RECOMPUTE) {
      const Tensor input = offloaded ? offload_in(&pass->offload, compute, layer) : state->input;
      (void)block_forward(context, layer, input, state);
    }
    tell_before(pass->watch, layer);
    block_backward(context, layer, dx, state);
    tell_after(pass->watch, layer);
    arena_release(context->arena, block_mark);
  }
  if (gradients) block_gradients_end(gradients, compute);
  model_embed_backward(context, pass->ids, dx, &pass->embed);
  tell_after(pass->watch, BEFORE_BLOCKS);
  arena_release(context->arena, mark);
}

void pass_backward(Pass *pass) {
  ASSERT(pass->mode != PASS_INFERENCE);
  if (pass->record && !pass->watch) {
    pass_records_run(pass->records, &pass->record->backward, run_backward, pass, pass->context.arena, false);
  } else {
    run_backward(pass);
  }
}
