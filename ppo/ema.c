#include "ppo/ema.h"

#include "base/memory.h"

#include <stdio.h>

bool ema_open(Ema *ema, double decay, const Trainee *actor, Compute *compute, TrainMemory *memory,
              Error *error) {
  Arena *arena = actor->optimizer.host ? &memory->state : &memory->optimizer;
  compute = optimizer_compute(&actor->optimizer, compute);
  *ema = (Ema){.actor = actor, .decay = decay};
  if (decay <= 0) return true;
  const ParameterList *list = &actor->parameters;
  ema->means = memory_zeroed(list->count, sizeof *ema->means);
  if (!ema->means) return error_out_of_memory(error, "running means", list->count * sizeof *ema->means);
  for (size_t i = 0; i < list->count; i++) {
    ema->means[i] = tensor_new_like(arena, list->items[i].value, DTYPE_F32);
    op_axpby(compute, ema->means[i], actor->optimizer.tensors[i].p, 1, 0);
  }
  return true;
}

void ema_close(Ema *ema) {
  memory_free(ema->means);
  *ema = (Ema){0};
}

void ema_update(Ema *ema, Compute *compute) {
  compute = optimizer_compute(&ema->actor->optimizer, compute);
  for (size_t i = 0; ema->means && i < ema->actor->parameters.count; i++) {
    op_axpby(compute, ema->means[i], ema->actor->optimizer.tensors[i].p, (float)(1 - ema->decay),
             (float)ema->decay);
  }
}

void ema_apply(const Ema *ema, Compute *compute) {
  for (size_t i = 0; ema->means && i < ema->actor->parameters.count; i++) {
    op_axpby(optimizer_compute(&ema->actor->optimizer, compute), ema->actor->optimizer.tensors[i].p,
             ema->means[i], 1, 0);
  }
  if (ema->means) optimizer_round(&ema->actor->optimizer, compute);
}

bool ema_state(Ema *ema, Checkpoint *checkpoint, Error *error) {
  for (size_t i = 0; ema->means && i < ema->actor->parameters.count; i++) {
    char name[512];
    snprintf(name, sizeof name, "ema.%s", ema->actor->parameters.items[i].name);
    if (!optimizer_tensor_state(&ema->actor->optimizer, checkpoint, name, ema->means[i], error)) return false;
  }
  return true;
}
