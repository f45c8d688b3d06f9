/* Cross-entropy of tokens in packed batches: the loss of SFT, of pretraining, and of PPO's ptx term.
 *
 *   L = - sum over loss tokens of log p(token | tokens before it) / N
 *
 * N counts the loss tokens of the whole update, over all micro-batches (and ranks), so that the split into
 * micro-batches does not matter. The gradient of each token's log-probability is therefore known beforehand,
 * -weight/N, and forward and backward of the head are one call. */
#ifndef TRAIN_TOKEN_LOSS_H
#define TRAIN_TOKEN_LOSS_H

#include "model/batch.h"
#include "model/head.h"

typedef struct TokenLoss {
  int32_t *rows, *targets;
  float *logprob, *dlogprob;
  int64_t count, capacity;
} TokenLoss;

NODISCARD bool token_loss_init(TokenLoss *loss, int64_t token_capacity, Error *error);
void token_loss_free(TokenLoss *loss);

/* Collects the rows of a batch whose next token is in the loss. mask[tokens]: 1 where the token itself enters
 * the loss. The first token of a sequence never does: nothing predicts it. Returns their number. */
int64_t token_loss_select(TokenLoss *loss, const Batch *batch, const uint8_t *mask);

/* As if `tokens` rows were selected: for the dry run of the memory plan. */
void token_loss_plan(TokenLoss *loss, int64_t tokens);

/* Sum of -log p over the selected rows; no gradient. */
double token_loss_evaluate(TokenLoss *loss, Pass *pass);
/* The same, and adds `scale` times its gradient to the pass (scale = 1/N, or ptx_coef/N). */
double token_loss_backward(TokenLoss *loss, Pass *pass, double scale);

#endif
