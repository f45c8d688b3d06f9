/* The ptx term: log-likelihood of pretraining or SFT text mixed into the policy's updates, so that what it could do
 * before is not forgotten (Ouyang et al. 2022, equation 2: gamma * E[log pi(x)]). */
#ifndef PPO_PTX_H
#define PPO_PTX_H

#include "datasets/order.h"
#include "train/token_loss.h"
#include "train/trainee.h"

typedef struct Ptx {
  Dataset data;
  DataOrder order;
  DataCursor cursor; /* checkpointed */
  Microbatches micro;
  double coef;
  const Example
      *broken; /* of the last ptx_accumulate: the first whose log-probability was not finite, or NULL */
} Ptx;

/* Takes over `data` (closed by ptx_close); without an example in it (train/absent.h) there is nothing but ptx_plan. batch: examples per update; tokens: of a micro-batch. */
NODISCARD bool ptx_init(Ptx *ptx, Dataset data, double coef, int64_t batch, int64_t tokens, uint64_t seed,
                        Error *error);
void ptx_close(Ptx *ptx);

/* Adds coef times the gradient of the mean loss over the next `count` examples, which are the last passes before the actor's step. *loss_sum and *tokens receive the sum
 * of -log p and the number of loss tokens. *draws counts the sequences that were trained on (batch_draw). */
NODISCARD bool ptx_accumulate(Ptx *ptx, int64_t count, Trainee *actor, Pass *pass, PassMode mode,
                              int64_t *draws, Compute *compute, Arena *step, double *loss_sum, double *tokens,
                              Error *error);
/* One pass over the largest micro-batch, for the memory plan. */
void ptx_plan(Ptx *ptx, Trainee *actor, Pass *pass, PassMode mode, Compute *compute, Arena *step);

#endif
