#include "ppo/ptx.h"

#include "base/memory.h"

#include <string.h>

bool ptx_init(Ptx *ptx, Dataset data, double coef, int64_t batch, int64_t tokens, uint64_t seed,
              Error *error) {
  *ptx = (Ptx){.data = data, .coef = coef};
  if (!data_order_init(&ptx->order, &ptx->data, seed, true, error) ||
      !packing_plan_init(&ptx->plan, (int)batch, error) || !batch_init(&ptx->batch, tokens, batch, error) ||
      !token_loss_init(&ptx->loss, tokens, error)) {
    ptx_close(ptx);
    return false;
  }
  ptx->picks = memory_zeroed((size_t)batch, sizeof *ptx->picks);
  ptx->lengths = memory_zeroed((size_t)batch, sizeof *ptx->lengths);
  ptx->mask = memory_zeroed((size_t)tokens, 1);
  if (ptx->picks && ptx->lengths && ptx->mask) return true;
  ptx_close(ptx);
  return error_out_of_memory(error, "ptx batch", (unsigned long long)tokens);
}

void ptx_close(Ptx *ptx) {
  data_order_free(&ptx->order);
  dataset_close(&ptx->data);
  packing_plan_free(&ptx->plan);
  batch_free(&ptx->batch);
  token_loss_free(&ptx->loss);
  memory_free(ptx->picks);
  memory_free(ptx->lengths);
  memory_free(ptx->mask);
  *ptx = (Ptx){0};
}

static void fill(Ptx *ptx, int micro) {
  batch_clear(&ptx->batch);
  for (int i = ptx->plan.begins[micro]; i < ptx->plan.begins[micro + 1]; i++) {
    const Example example = dataset_example(&ptx->data, ptx->picks[ptx->plan.members[i]]);
    int64_t first;
    const bool fits = batch_add(&ptx->batch, example.ids, example.count, &first);
    ASSERT(fits);
    memcpy(ptx->mask + first, example.loss, (size_t)example.count);
  }
}

bool ptx_accumulate(Ptx *ptx, int64_t count, const Trainee *actor, Pass *pass, PassMode mode,
                    uint64_t *dropout_sites, Compute *compute, Arena *step, double *loss_sum, double *tokens,
                    Error *error) {
  data_order_take(&ptx->order, &ptx->cursor, (int)count, ptx->picks);
  double loss_tokens = 0;
  for (int64_t i = 0; i < count; i++) {
    const Example example = dataset_example(&ptx->data, ptx->picks[i]);
    ptx->lengths[i] = example.count;
    loss_tokens += example.loss_count;
  }
  if (!packing_plan_make(&ptx->plan, ptx->lengths, (int)count, (int)ptx->batch.token_capacity, true, error)) {
    return error_context(error, "data.ptx");
  }
  *tokens = loss_tokens;
  comm_sum(&compute->comm, &loss_tokens, 1);
  *loss_sum = 0;
  for (int i = 0; i < ptx->plan.count; i++) {
    fill(ptx, i);
    const size_t mark = arena_mark(step);
    pass_forward(pass, compute, actor->model, trainee_adapter(actor), &ptx->batch, mode, (*dropout_sites)++,
                 step);
    (void)token_loss_select(&ptx->loss, &ptx->batch, ptx->mask);
    *loss_sum += token_loss_backward(&ptx->loss, pass, ptx->coef / loss_tokens);
    pass_backward(pass);
    arena_release(step, mark);
  }
  return true;
}

void ptx_plan(Ptx *ptx, const Trainee *actor, Pass *pass, PassMode mode, Compute *compute, Arena *step) {
  const size_t mark = arena_mark(step);
  batch_plan(&ptx->batch);
  pass_forward(pass, compute, actor->model, trainee_adapter(actor), &ptx->batch, mode, 0, step);
  token_loss_plan(&ptx->loss, ptx->batch.token_capacity);
  (void)token_loss_backward(&ptx->loss, pass, 1);
  pass_backward(pass);
  arena_release(step, mark);
}
