/* A model, perhaps under an adapter, that writes: opened in a dry memory for the plan, and then in a real one. */
#ifndef TOOLS_GENERATE_POLICY_H
#define TOOLS_GENERATE_POLICY_H

#include "train/trainee.h"

typedef struct Policy {
  TrainMemory memory;
  Model model;
  LoraSet adapter;
  bool adapted;
} Policy;

/* In its memory. adapter: PEFT directory, or NULL. Sequences have up to `longest` tokens, or as many as the model has positions for.
 * ERROR_MODEL for a reward model's adapter. policy_close after a failure, too. */
NODISCARD bool policy_open(Policy *policy, const char *model, const char *adapter, WeightFormat format,
                           int64_t longest, Compute *compute, Error *error);
/* All but the memory; also of a zeroed one. */
void policy_close(Policy *policy);
const LoraSet *policy_adapter(const Policy *policy); /* or NULL */

#endif
