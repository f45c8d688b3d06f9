#include "ppo/ema.h"

#include "base/memory.h"

/* What this rank keeps means of: what it updates. */
static const ParameterList *ema_list(const Ema *ema) {
  return ema->actor->optimizer.parameters;
}

bool ema_open(Ema *ema, double decay, Trainee *actor, Compute *compute, TrainMemory *memory, Error *error) {
  Arena *arena = actor->optimizer.host ? &memory->state : &memory->optimizer;
  compute = optimizer_compute(&actor->optimizer, compute);
  *ema = (Ema){.actor = actor, .decay = decay};
  if (decay <= 0) return true;
  const ParameterList *list = ema_list(ema);
  ema->means = memory_zeroed(list->count + 1, sizeof *ema->means); /* of many ranks one may update nothing */
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
  for (size_t i = 0; ema->means && i < ema_list(ema)->count; i++) {
    op_axpby(compute, ema->means[i], ema->actor->optimizer.tensors[i].p, (float)(1 - ema->decay),
             (float)ema->decay);
  }
}

void ema_apply(const Ema *ema, Compute *compute) {
  if (!ema->means) return;
  for (size_t i = 0; i < ema_list(ema)->count; i++) {
    op_axpby(optimizer_compute(&ema->actor->optimizer, compute), ema->actor->optimizer.tensors[i].p,
             ema->means[i], 1, 0);
  }
  optimizer_round(&ema->actor->optimizer, compute);
  shard_share_values(&ema->actor->shard);
}

bool ema_state(Ema *ema, Checkpoint *checkpoint, Error *error) {
  for (size_t i = 0; ema->means && i < ema_list(ema)->count; i++) {
    if (!optimizer_tensor_state(&ema->actor->optimizer, checkpoint, "ema", i, ema->means[i], error))
      return false;
  }
  return true;
}
