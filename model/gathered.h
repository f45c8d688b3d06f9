/* A model whose blocks are sliced over ranks (model/block_weights.h), whole on each of them for a while: for who reads all weights
 * over and over while ranks do not go in step, as generation does.
 *
 *   gathered_open(&gathered, model, &arena, &error)   room for all blocks; of a model that is not sliced nothing
 *   gathered_fetch(&gathered, compute)                all blocks as they are now, from all ranks, which call it together
 *   ... whoever reads gathered_model(&gathered) calls nobody ...
 *   gathered_close(&gathered)
 *
 * The room is not needed before a fetch, nor when all has been read. */
#ifndef MODEL_GATHERED_H
#define MODEL_GATHERED_H

#include "model/model.h"

typedef struct Gathered {
  const Model *of; /* borrowed */
  Model view;      /* it with its blocks in the room; all but `tensors` is borrowed from it */
  Tensor *blocks;  /* [layers] flat bytes; NULL: it is whole as it is */
} Gathered;

/* When model_set_context has been called. */
NODISCARD bool gathered_open(Gathered *gathered, const Model *model, Arena *arena, Error *error);
void gathered_close(Gathered *gathered);                   /* also of a zeroed one, with which ... */
void gathered_fetch(Gathered *gathered, Compute *compute); /* ... this does nothing */
static inline const Model *gathered_model(const Gathered *gathered) {
  return gathered->blocks ? &gathered->view : gathered->of;
}

#endif
