#include "ppo/moving_reference.h"

#include "base/memory.h"

static bool push(MovingReference *reference, const char *name, Tensor from, Tensor to, Error *error) {
  if (tensor_is_none(from)) return true;
  ASSERT(from.dtype == to.dtype && tensor_count(from) == tensor_count(to));
  const size_t bytes = (reference->count + 1) * sizeof *reference->items;
  MovingTensor *items = memory_resize(reference->items, bytes);
  if (!items) return error_out_of_memory(error, "the reference's tensors", bytes);
  reference->items = items;
  items[reference->count++] = (MovingTensor){name, from, to};
  return true;
}

static bool push_matrix(MovingReference *reference, const LoraMatrix *from, const LoraMatrix *to,
                        Error *error) {
  return push(reference, from->name, from->value, to->value, error);
}

/* What is trained of an adapter; two names of one matrix once. */
static bool list_adapter(MovingReference *reference, const LoraSet *from, const LoraSet *to, Error *error) {
  ASSERT(from->count == to->count);
  bool ok = true;
  for (int id = 0; ok && id < from->count; id++) {
    const LoraPair *p = &from->pairs[id], *q = &to->pairs[id];
    const LoraCopy *c = &from->copies[id], *d = &to->copies[id];
    if (!p->shared) {
      ok = push_matrix(reference, &p->a, &q->a, error) && push_matrix(reference, &p->b, &q->b, error);
    }
    if (ok && !c->shared && !c->frozen) {
      ok = push_matrix(reference, &c->weight, &d->weight, error) &&
           push_matrix(reference, &c->bias, &d->bias, error);
    }
  }
  return ok;
}

static bool list_model(MovingReference *reference, const Model *from, const Model *to, Error *error) {
  ASSERT(from->tensor_count == to->tensor_count);
  for (int i = 0; i < from->tensor_count; i++) {
    if (!push(reference, from->tensors[i].name, from->tensors[i].value, to->tensors[i].value, error))
      return false;
  }
  return true;
}

bool moving_reference_open(MovingReference *reference, int64_t every, const PpoModels *models, Error *error) {
  *reference = (MovingReference){.every = every};
  if (every <= 0) return true;
  const Predictor *from = &models->actor.predictor, *to = &models->reference;
  if (from->adapted) return list_adapter(reference, &from->adapter, &to->adapter, error);
  return list_model(reference, from->model, to->model, error);
}

void moving_reference_close(MovingReference *reference) {
  memory_free(reference->items);
  *reference = (MovingReference){0};
}

void moving_reference_follow(const MovingReference *reference, int64_t updates, Compute *compute) {
  if (reference->every <= 0 || updates % reference->every != 0) return;
  for (size_t i = 0; i < reference->count; i++)
    op_axpby(compute, reference->items[i].to, reference->items[i].from, 1, 0);
}

bool moving_reference_state(const MovingReference *reference, Checkpoint *checkpoint, Error *error) {
  for (size_t i = 0; i < reference->count; i++) {
    char *name = memory_format("reference.value.%s", reference->items[i].name);
    const bool ok = name ? checkpoint_tensor(checkpoint, name, reference->items[i].to, error)
                         : error_out_of_memory(error, "name", 0);
    memory_free(name);
    if (!ok) return false;
  }
  return true;
}
