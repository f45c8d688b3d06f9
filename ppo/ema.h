/* A running mean of the actor's trained weights (Polyak averaging): mean <- decay * mean + (1 - decay) * weights after
 * each rollout's updates. Kept in fp32 whatever the weights' type; of many ranks each keeps the means of what it updates. */
#ifndef PPO_EMA_H
#define PPO_EMA_H

#include "train/trainee.h"

typedef struct Ema {
  Trainee *actor; /* borrowed */
  Tensor *means;  /* of actor->optimizer.parameters; NULL = off */
  double decay;
} Ema;

/* decay 0 leaves it off, and every call does nothing. Means begin as the actor's present weights. */
NODISCARD bool ema_open(Ema *ema, double decay, Trainee *actor, Compute *compute, TrainMemory *memory,
                        Error *error);
void ema_close(Ema *ema);
static inline bool ema_is_on(const Ema *ema) {
  return ema->means != NULL;
}

void ema_update(Ema *ema, Compute *compute);
/* Puts the means in the place of the actor's weights: for saving, at the end of a run. All ranks call it. */
void ema_apply(const Ema *ema, Compute *compute);
NODISCARD bool ema_state(Ema *ema, Checkpoint *checkpoint, Error *error);

#endif
