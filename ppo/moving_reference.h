/* A reference that follows the policy (ppo.reference_every): every so many updates it becomes what the policy is then, so that the penalty on
 * the KL holds the policy near where it was not long ago, and not near where the run began (Liu et al. 2025, "ProRL: prolonged
 * reinforcement learning expands reasoning boundaries in large language models", section 3.3; of preferences Gorbatovski et al. 2024, "Learn your
 * reference model for real good alignment"). The optimiser keeps its state.
 *
 * Values are copied as the passes use them: of all weights, or of the adapter, which the reference has a copy of then. They are part of a
 * checkpoint. */
#ifndef PPO_MOVING_REFERENCE_H
#define PPO_MOVING_REFERENCE_H

#include "ppo/models.h"
#include "train/checkpoint.h"

typedef struct MovingTensor {
  const char *name; /* borrowed */
  Tensor from, to;
} MovingTensor;

typedef struct MovingReference {
  int64_t every;
  MovingTensor *items;
  size_t count;
} MovingReference;

/* every 0 leaves the reference as it is, and every call does nothing. */
NODISCARD bool moving_reference_open(MovingReference *reference, int64_t every, const PpoModels *models,
                                     Error *error);
void moving_reference_close(MovingReference *reference);
/* After `updates` updates. */
void moving_reference_follow(const MovingReference *reference, int64_t updates, Compute *compute);
NODISCARD bool moving_reference_state(const MovingReference *reference, Checkpoint *checkpoint, Error *error);

#endif
