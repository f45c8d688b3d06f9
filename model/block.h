/* One decoder block, forward and backward, for every architecture that ModelSpec can describe.
 *
 * The same forward serves packed batches (training, scoring) and paged decoding: the context says where keys
 * and values come from. With `keep`, what the backward needs stays in the BlockState; without, the residual
 * stream is updated in place and everything else is given back to the arena. */
#ifndef MODEL_BLOCK_H
#define MODEL_BLOCK_H

#include "model/model.h"

/* What all blocks of one pass share. */
typedef struct BlockContext {
  Compute *compute;
  const Model *model;
  const LoraSet *adapter; /* or NULL */
  Arena *arena;
  bool keep;      /* activations stay for a backward, and dropout is on */
  bool overwrite; /* the residual stream grows in the place of the block's input, which is not wanted again */
  Tensor out;     /* with overwrite: the stream grows here instead; or none */
  /* With keep: room [T,C] and [T,F] that all blocks have for what a norm before a branch makes and for what is activated. The backward makes both again,
   * the same bits from what is kept anyway; none: each block keeps its own. */
  Tensor normed, activated;
  bool state_only;    /* the block runs again for its backward: its output is not wanted */
  Tensor draws;       /* [T] I32 of DropoutSpec; none without dropout */
  Tensor positions;   /* [T] I32 */
  Tensor offsets;     /* [B+1] I32: attention within packed sequences; or none, then ... */
  PagedCache *caches; /* [layers]: attention against a paged cache */
  int64_t reach;      /* columns of its table that hold what the rows look at */
  Tensor sequence;    /* [T] I32: row of the block table */
} BlockContext;

typedef struct NormState {
  Tensor in, out;    /* out is a normalised copy, or `in` itself when updated in place */
  Tensor mean, rstd; /* kept for the backward */
} NormState;

/* Shapes as in ops.h; F = intermediate size. */
typedef struct BlockState {
  Tensor input; /* [T,C] the residual stream coming in */
  NormState norm[NORM_ROLES];
  Tensor projection[3]; /* outputs of the q, k, v linears; only [0] when they are fused */
  Tensor qkv[3];        /* [T,H,D], [T,K,D], [T,K,D]: as attention reads them */
  Tensor attended;      /* [T,H*D] */
  Tensor lse;           /* [T,H] */
  Tensor middle;        /* [T,C] the residual stream between attention and feed-forward */
  Tensor gate, up;      /* [T,F] (strided views of gate_up when fused); plain MLP: up only */
  Tensor gate_up;       /* [T,2F] or none */
  Tensor activated;     /* [T,F] */
  LoraState lora[LINEAR_ROLES];
} BlockState;

/* The rooms of a BlockContext, for a pass of so many rows. */
void block_rooms_new(BlockContext *context, int64_t rows);

/* What is before the blocks leaves for the backward. */
typedef struct EmbedState {
  Tensor table; /* [T,E] rows of the embedding table, where they are projected */
  LoraState project_in;
  NormState norm;
} EmbedState;

/* What is behind the blocks leaves for the backward. */
typedef struct FinishState {
  NormState norm;
  Tensor normed; /* [T,C] after the final norm */
  LoraState project_out;
} FinishState;

/* Token embeddings, learned positions and embedding norm: [T,C], the residual stream before block 0. */
Tensor model_embed(const BlockContext *context, Tensor ids, EmbedState *state);
/* dx [T,C]: the gradient of the residual stream before block 0; used up. */
void model_embed_backward(const BlockContext *context, Tensor ids, Tensor dx, EmbedState *state);

/* Final norm, and the projection to the width of the head: the hidden states [N,E] that heads read, of x [N,C]. */
Tensor model_finish(const BlockContext *context, Tensor x, FinishState *state);
/* The gradient of x, in the place of dhidden [N,E] where their shapes are equal. */
Tensor model_finish_backward(const BlockContext *context, Tensor dhidden, FinishState *state);

/* Runs block `layer` on the residual stream x [T,C] and returns the stream after it: x itself, updated in
 * place, with context->overwrite (but for a norm after the sum, when the activations are kept). With context->state_only the products that only the output needs are left out (a fifth
 * of a Llama block), and what is returned has no meaning. */
Tensor block_forward(const BlockContext *context, int layer, Tensor x, BlockState *state);

/* dx [T,C] comes in as the gradient of the block's output and leaves as that of its input. Gradients of
 * weights and of a trainable adapter accumulate. Some of the state's tensors are overwritten. */
void block_backward(const BlockContext *context, int layer, Tensor dx, BlockState *state);

/* A norm of the model over x [T,C] or [T,H,D]; `in_place` allows the result to take x's place when nothing is
 * kept. */
Tensor norm_forward(const BlockContext *context, Norm norm, Tensor x, bool in_place, NormState *state);
/* dx = gradient + beta*dx; dx may be dy. */
void norm_backward(const BlockContext *context, Norm norm, Tensor dx, Tensor dy, const NormState *state,
                   float beta);

#endif
