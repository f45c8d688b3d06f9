/* One forward pass over a packed batch, and its backward.
 *
 *   pass_init(&pass, model);             once; host memory for the blocks' states
 *   pass_forward(&pass, ...);            hidden states of every token, activations kept if training
 *   lm_logprobs(...), score_values(...)  heads, on rows that the caller picks (model/head.h)
 *   ..._backward(...)                    add to pass.dhidden
 *   pass_backward(&pass);                weights' and adapter's gradients accumulate
 *
 * Everything is taken from the step arena and given back by the caller (arena_mark / arena_release). The same
 * calls with dry arenas and compute->dry size the arena. */
#ifndef MODEL_PASS_H
#define MODEL_PASS_H

#include "model/batch.h"
#include "model/block.h"
#include "model/model.h"
#include "model/offload.h"
#include "model/pass_records.h"

typedef enum PassMode {
  PASS_INFERENCE, /* nothing kept; no backward */
  PASS_TRAIN,     /* activations kept */
  PASS_RECOMPUTE /* only each block's input kept, on the device or in host memory; the backward runs the block again */
} PassMode;

/* Told how far a backward pass has come, by what goes on beside it. `layer` goes down: BEHIND_BLOCKS, the blocks from the last
 * one on, BEFORE_BLOCKS (compute/parameter.h). What is behind the blocks has its gradient from the heads, before the pass. */
typedef struct PassWatch {
  void *self;
  void (*before)(void *self, int layer); /* of blocks: the pass comes to it */
  void (*after)(void *self, int layer);  /* its gradients are what this pass makes of them */
} PassWatch;

typedef struct Pass {
  BlockContext context; /* compute, model, adapter, arena, positions, offsets */
  PassMode mode;
  int64_t tokens;
  Tensor ids; /* [T] */
  EmbedState embed;
  BlockState *blocks; /* [layers] */
  FinishState finish;
  Offload
      offload;    /* offload.host: set after pass_init where PASS_RECOMPUTE keeps the inputs in host memory */
  Tensor hidden;  /* [T,E] as heads read them; E = C but for OPT-350m */
  Tensor dhidden; /* [T,E], zeroed by pass_forward in the training modes */
  const PassWatch *watch; /* of the next backward; borrowed, or NULL */
  PassRecords *records;   /* of pass_record; borrowed, or NULL */
  PassRecord *record;     /* of the pass at hand, or NULL */
} Pass;

NODISCARD bool pass_init(Pass *pass, const Model *model, Error *error);
void pass_free(Pass *pass);
/* Passes are recorded, and batches padded for that (model/pass_records.h). Not with zeroed records. Several may have the same. */
void pass_record(Pass *pass, PassRecords *records);

/* Runs the model over the batch. Dropout is on only in the training modes; its masks are functions of the sequences' draws
 * (batch_draw) and of adapter->dropout_key, random_key(seed, RANDOM_DROPOUT). */
void pass_forward(Pass *pass, Compute *compute, const Model *model, const LoraSet *adapter,
                  const Batch *batch, PassMode mode, Arena *arena);

/* Adds to the gradients of the model's tensors that have one, and of the adapter when it is trainable.
 * Consumes pass.dhidden. */
void pass_backward(Pass *pass);
/* Passes without tokens, of a rank that has none left where others have: blocks are used, and the watch is told, as in the others'. */
void pass_forward_idle(const Model *model, Compute *compute);
void pass_backward_idle(const Model *model, Compute *compute, const PassWatch *watch);

#endif
