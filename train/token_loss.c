#include "train/token_loss.h"

#include "base/memory.h"

bool token_loss_init(TokenLoss *loss, int64_t token_capacity, Error *error) {
  size_t n = (size_t)token_capacity;
  *loss = (TokenLoss){.rows = memory_zeroed(n, sizeof *loss->rows),
                      .targets = memory_zeroed(n, sizeof *loss->targets),
                      .logprob = memory_zeroed(n, sizeof *loss->logprob),
                      .dlogprob = memory_zeroed(n, sizeof *loss->dlogprob),
                      .capacity = token_capacity};
  if (loss->rows && loss->targets && loss->logprob && loss->dlogprob) return true;
  token_loss_free(loss);
  return error_out_of_memory(error, "loss of a micro-batch", 16 * n);
}

void token_loss_free(TokenLoss *loss) {
  memory_free(loss->rows);
  memory_free(loss->targets);
  memory_free(loss->logprob);
  memory_free(loss->dlogprob);
  *loss = (TokenLoss){0};
}

int64_t token_loss_select(TokenLoss *loss, const Batch *batch, const uint8_t *mask) {
  ASSERT(batch->tokens <= loss->capacity);
  loss->count = 0;
  for (int64_t b = 0; b < batch->sequences; b++) {
    for (int64_t t = batch->offsets[b] + 1; t < batch->offsets[b + 1]; t++) {
      if (!mask[t]) continue;
      loss->rows[loss->count] = (int32_t)(t - 1);
      loss->targets[loss->count] = batch->ids[t];
      loss->count++;
    }
  }
  return loss->count;
}

void token_loss_plan(TokenLoss *loss, int64_t tokens) {
  ASSERT(tokens <= loss->capacity);
  loss->count = tokens;
}

/* In the order of the rows, in double: the same bits for the same micro-batch. */
static double negative_sum(const TokenLoss *loss) {
  double sum = 0;
  for (int64_t n = 0; n < loss->count; n++) sum -= (double)loss->logprob[n];
  return sum;
}

static TokenRows token_rows(const TokenLoss *loss) {
  return (TokenRows){loss->rows, loss->targets, loss->count};
}

double token_loss_evaluate(TokenLoss *loss, Pass *pass) {
  if (loss->count == 0) return 0;
  lm_logprobs(pass, token_rows(loss), 1, loss->logprob, NULL);
  return negative_sum(loss);
}

double token_loss_backward(TokenLoss *loss, Pass *pass, double scale) {
  if (loss->count == 0) return 0;
  for (int64_t n = 0; n < loss->count; n++) loss->dlogprob[n] = -(float)scale;
  lm_logprobs_backward(pass, token_rows(loss), 1, loss->dlogprob, NULL, loss->logprob);
  return negative_sum(loss);
}
