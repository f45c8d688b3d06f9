/* A model with its linears and its LM head in 8 bits (compute/q8.h) for a while, made of the weights that it has: for who samples from a
 * policy that is trained in more.
 *
 *   narrowed_open(&narrowed, model, adapter, &compute, &arena, &error)   room for the copies
 *   narrowed_renew(&narrowed, compute, &error)                           copies of the weights as they are now; all ranks call it together
 *   ... whoever reads narrowed.view calls nobody ...
 *   narrowed_close(&narrowed)
 *
 * An adapter stays as it is, over the copies: what it adds is less than the rounding of a weight, and would be lost in it. The table of
 * embeddings is read row by row and stays too; a head that is tied to it gets a copy of its own. Of a model that is sliced over ranks
 * (model/block_weights.h) the view has the rest of the blocks whole as well, so that nothing has to be gathered beside it.
 *
 * On the CPU alone: there codes become values in registers. The room is not needed before it is renewed, nor when all has been read. */
#ifndef MODEL_NARROWED_H
#define MODEL_NARROWED_H

#include "model/model.h"

typedef struct NarrowCopy {
  int of, in; /* indices into the tensors of the model, and of the view */
} NarrowCopy;

typedef struct Narrowed {
  const Model *of; /* borrowed */
  Model view;      /* it with the copies in their places; all but `tensors` is borrowed from it */
  NarrowCopy *copies;
  int count; /* 0: it is not open */
} Narrowed;

/* When model_set_context has been called. adapter: NULL, or what is read over it. ERROR_USAGE on another device than the CPU, and where no
 * linear is in whole blocks. */
NODISCARD bool narrowed_open(Narrowed *narrowed, const Model *model, const LoraSet *adapter,
                             const Compute *compute, Arena *arena, Error *error);
void narrowed_close(Narrowed *narrowed); /* also of a zeroed one, with which ... */
/* ... this does nothing. ERROR_MODEL for a weight that is not finite, or beyond what scales can be. */
NODISCARD bool narrowed_renew(Narrowed *narrowed, Compute *compute, Error *error);

#endif
