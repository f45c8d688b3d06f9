/* Optimisers over a list of parameters: AdamW, Lion, SGD, with clipping by the global gradient norm.
 *
 * State lies in the arena given at opening (which may be dry): m, v in fp32 or in 8 bits by blocks (Dettmers et
 * al. 2022). A BF16 parameter has an fp32 master that is updated in its stead and rounded into it: its owner's, or else a
 * copy in the arena.
 * The mathematics is in compute (ops.def: adamw, lion, sgd); here are the state, the norm, and what must survive
 * a restart. */
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "compute/ops.h"
#include "compute/parameter.h"
#include "train/checkpoint.h"
#include "train/config.h"

typedef enum OptimizerKind { OPTIMIZER_ADAMW, OPTIMIZER_LION, OPTIMIZER_SGD } OptimizerKind;

typedef struct OptimizerSpec {
  OptimizerKind kind;
  float beta1, beta2, eps, weight_decay, momentum;
  float clip;     /* global norm; 0 = off */
  bool eight_bit; /* m and v of tensors of OPTIMIZER_8BIT_LEAST elements and more are kept in 8 bits */
} OptimizerSpec;

/* As in bitsandbytes: small tensors (norms, biases) save nothing, and are the delicate ones. */
enum { OPTIMIZER_8BIT_LEAST = 4096 };

OptimizerSpec optimizer_spec_of(const OptimConfig *config);

typedef struct Optimizer {
  OptimizerSpec spec;
  const ParameterList *parameters; /* that it updates; borrowed, as is ... */
  const ParameterList *counted;    /* ... whose gradients make the norm, ... */
  const ParameterList *all;        /* ... and what both are parts of: the former, but on a rank of many */
  OptimTensor *tensors;            /* one per parameter; p is its exact value, F32: itself or its master */
  Tensor *gradients;               /* of the counted ones */
  Tensor square_sum;               /* F64 [1] */
  int64_t step;                    /* updates done */
  /* Of optimizer_open_offloaded: the processor's operations, and values on their way to the device; else NULL. */
  Compute *host;
  void *staging[2];
} Optimizer;

/* In a real arena m and v are zeroed; call optimizer_adopt when the parameters have their values. */
NODISCARD bool optimizer_open(Optimizer *optimizer, const OptimizerSpec *spec,
                              const ParameterList *parameters, Compute *compute, Arena *arena, Error *error);
/* The same on a rank of many: it updates parts of the parameters or all, and counts parts in the norm, which over all ranks are each
 * counted once (train/shard.h). */
NODISCARD bool optimizer_open_parts(Optimizer *optimizer, const OptimizerSpec *spec, const ParameterList *all,
                                    const ParameterList *updated, const ParameterList *counted,
                                    Compute *compute, Arena *arena, Error *error);
/* optimizer_open with exact values and moments in `state`, memory of the host, where the processor's operations (compute->host, which is
 * open) make the updates: the bits are those of the CPU backend for the same gradients. `pinned` is compute_host_arena's: it takes
 * the gradients that have no sum there yet, and the values that go back. Tensors of `tensors` and `gradients` are on the host then. */
NODISCARD bool optimizer_open_offloaded(Optimizer *optimizer, const OptimizerSpec *spec,
                                        const ParameterList *parameters, Compute *compute, Arena *state,
                                        Arena *pinned, Error *error);
/* What computes on `tensors`: compute, or its host. */
Compute *optimizer_compute(const Optimizer *optimizer, Compute *compute);
void optimizer_close(Optimizer *optimizer);
/* Master copies take the parameters' present values; masters that the parameters' owners keep have theirs already. */
void optimizer_adopt(Optimizer *optimizer, Compute *compute);
/* After the exact values were set by other means than a step: the rounded ones follow. */
void optimizer_round(const Optimizer *optimizer, Compute *compute);

/* One update from the accumulated gradients, which are zeroed afterwards; of many ranks all make it together. *grad_norm receives
 * their norm before clipping. A norm that is not finite is ERROR_MODEL naming the parameter where that began (the first one in the
 * order of the backward pass), and nothing has changed then: weights, moments and step are those before it. */
NODISCARD bool optimizer_step(Optimizer *optimizer, Compute *compute, double lr, double *grad_norm,
                              Error *error);
void optimizer_zero_gradients(Optimizer *optimizer, Compute *compute);

/* The parameters' exact values, step and moments to or from a checkpoint (see checkpoint.h), under names that begin with
 * `prefix`. All that is saved is fp32 or codes, whatever the values are rounded to in memory: a checkpoint of one backend can
 * be read by the other. */
NODISCARD bool optimizer_state(Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix,
                               Error *error);

/* One F32 tensor like tensors[i].p, in the same memory, as "PREFIX.<its parameter>". */
NODISCARD bool optimizer_tensor_state(const Optimizer *optimizer, Checkpoint *checkpoint, const char *prefix,
                                      size_t i, Tensor value, Error *error);

#endif
