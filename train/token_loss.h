/* Cross-entropy of tokens in packed batches: the loss of SFT, of pretraining, and of PPO's ptx term.
 *
 *   L = - sum over loss tokens of log p(token | tokens before it) / N
 *
 * N counts the loss tokens of the whole update, over all micro-batches (and ranks), so that the split into
 * micro-batches does not matter. The gradient of each token's log-probability is therefore known beforehand,
 * -weight/N, and forward and backward of the head are one call. */
#ifndef TRAIN_TOKEN_LOSS_H
#define TRAIN_TOKEN_LOSS_H

#include "train/microbatches.h"

/* A PackExample: asks for the rows whose next token is in the loss. The first token of a sequence never is: nothing
 * predicts it. */
void token_loss_pack(Packer *packer, const Example *example);

/* Reads log p at the rows asked for; no gradient. */
void token_loss_read(Packer *packer, Pass *pass);
/* Sum of -log p over the rows that were read, in nats. */
double token_loss_sum(const Packer *packer);
/* Both, and adds `scale` times the gradient of the sum to the pass (scale = 1/N, or ptx_coef/N). */
double token_loss_backward(Packer *packer, Pass *pass, double scale);

#endif
