#include "ppo/ptx.h"

#include <math.h>

bool ptx_init(Ptx *ptx, Dataset data, double coef, int64_t batch, int64_t tokens, uint64_t seed,
              Error *error) {
  *ptx = (Ptx){.data = data, .coef = coef};
  /* Its own order: with the prompts' seed, files of equal length would be visited side by side. */
  if ((data.count == 0 ||
       data_order_init(&ptx->order, &ptx->data, random_seed(seed, RANDOM_PRETRAIN), true, error)) &&
      microbatches_init(&ptx->micro, batch, 1, tokens, token_loss_pack, error)) {
    return true;
  }
  ptx_close(ptx);
  return false;
}

void ptx_close(Ptx *ptx) {
  data_order_free(&ptx->order);
  dataset_close(&ptx->data);
  microbatches_free(&ptx->micro);
  *ptx = (Ptx){0};
}

/* Forward, loss and backward of the micro-batch that is filled in. */
static double learn(Ptx *ptx, Trainee *actor, Pass *pass, PassMode mode, double scale, bool last,
                    Compute *compute, Arena *step) {
  const size_t mark = arena_mark(step);
  pass_forward(pass, compute, actor->predictor.model, predictor_adapter(&actor->predictor),
               &ptx->micro.packer.batch, mode, step);
  const double sum = token_loss_backward(&ptx->micro.packer, pass, scale);
  trainee_backward(actor, pass, last);
  arena_release(step, mark);
  return sum;
}

bool ptx_accumulate(Ptx *ptx, int64_t count, Trainee *actor, Pass *pass, PassMode mode, int64_t *draws,
                    Compute *compute, Arena *step, double *loss_sum, double *tokens, Error *error) {
  int64_t own;
  data_order_take(&ptx->order, &ptx->cursor, (int)count, ptx->micro.refs);
  microbatches_take(&ptx->micro, &ptx->data, count);
  if (!microbatches_share(&ptx->micro, count, &compute->comm, &own, error) ||
      !microbatches_plan(&ptx->micro, own, true, error)) {
    return error_context(error, "data.ptx");
  }
  *tokens = 0;
  for (int64_t i = 0; i < own; i++) *tokens += ptx->micro.examples[i].loss_count;
  comm_sum(&compute->comm, tokens, 1);
  *loss_sum = 0;
  ptx->broken = NULL;
  ptx->micro.draw = (uint64_t)*draws;
  *draws += count;
  const int packed = ptx->micro.packer.plan.count, passes = trainee_passes(actor, compute, packed);
  for (int i = packed; i < passes; i++) trainee_stand_by(actor, compute, packed == 0 && i + 1 == passes);
  for (int i = 0; i < packed; i++) {
    microbatches_fill(&ptx->micro, i);
    *loss_sum += learn(ptx, actor, pass, mode, ptx->coef / *tokens, i + 1 == packed, compute, step);
    if (!ptx->broken && !isfinite(*loss_sum))
      ptx->broken = microbatches_broken(&ptx->micro, packer_rows(&ptx->micro.packer));
  }
  comm_sum(&compute->comm, loss_sum, 1);
  return true;
}

void ptx_plan(Ptx *ptx, Trainee *actor, Pass *pass, PassMode mode, Compute *compute, Arena *step) {
  packer_dry(&ptx->micro.packer);
  (void)learn(ptx, actor, pass, mode, 1, true, compute, step);
}
