/* What attention and feed-forward are made of: norms, linears with their adapters, and the end of a branch in the
 * residual stream. Shapes as in block.h. */
#ifndef MODEL_BRANCH_H
#define MODEL_BRANCH_H

#include "model/block.h"

/* [rows, columns] in the dtype of activations. */
Tensor activation_new(const BlockContext *context, int64_t rows, int64_t columns);
Tensor activation_copy(const BlockContext *context, Tensor x);
/* The residual stream before and after a branch; to none: only what the backward needs of the branch. */
typedef struct Residual {
  Tensor from, to;
} Residual;
/* Of a branch whose sum x + f(x) may take x's place when the context overwrites, or else gets a new one. */
Residual residual_of(const BlockContext *context, Tensor x);

/* A norm before a branch, into context->normed where there is such room; and, for the backward, once more what was in the room. */
Tensor branch_norm_forward(const BlockContext *context, Norm norm, Tensor x, NormState *state);
void branch_norm_again(const BlockContext *context, Norm norm, const NormState *state);

/* What norm_forward with in_place would work on, of two norms per head x: state's, and as an operation's terms. */
void norm_pair_terms(const BlockContext *context, const Norm norm[2], const Tensor x[2],
                     NormState *const state[2], NormTerms out[2]);
/* The same, done by one operation. */
void norm_pair_forward(const BlockContext *context, const Norm norm[2], const Tensor x[2], Tensor out[2],
                       NormState *const state[2]);

/* A norm per head whose heads have weights of their own (QK_NORM_HEADS), over x [T,H,D]; as norm_forward and norm_backward
 * (block.h) with in_place and beta 0. */
Tensor heads_norm_forward(const BlockContext *context, Norm norm, Tensor x, NormState *state);
void heads_norm_backward(const BlockContext *context, Norm norm, Tensor dx, Tensor dy,
                         const NormState *state);

/* out = x W^T + bias + adapter + beta*out. state: what the adapter keeps for the backward. */
void linear_forward(const BlockContext *context, Linear linear, Tensor out, Tensor x, float beta,
                    LoraState *state);
/* residual.to = residual.from + x W^T + bias + adapter */
void linear_add(const BlockContext *context, Linear linear, Residual residual, Tensor x, LoraState *state);
/* dx = gradient + beta*dx, through the base weight and the adapter. dx and dy must not overlap. */
void linear_backward(const BlockContext *context, Linear linear, Tensor dx, Tensor dy, Tensor x, float beta,
                     LoraState *state);

/* The same for the linear of that role in the layer's block. */
void role_forward(const BlockContext *context, int layer, LinearRole role, Tensor out, Tensor x, float beta,
                  BlockState *state);
void role_backward(const BlockContext *context, int layer, LinearRole role, Tensor dx, Tensor dy, Tensor x,
                   float beta, BlockState *state);

/* The linears of `count` neighbouring roles, which have the same input: out[i] = x W_i^T + bias + adapter. One product where the
 * weights lie under each other, as they do unless blocks or a transposed layout forbid it; then out are the columns of
 * one tensor. */
void roles_new(const BlockContext *context, int layer, LinearRole first, int count, int64_t rows,
               Tensor *out);
void roles_forward(const BlockContext *context, int layer, LinearRole first, int count, const Tensor *out,
                   Tensor x, BlockState *state);
/* As linear_backward, of all of them. */
void roles_backward(const BlockContext *context, int layer, LinearRole first, int count, Tensor dx,
                    const Tensor *dy, Tensor x, float beta, BlockState *state);

bool norm_comes_first(const ModelSpec *spec);
/* The norm on a branch's output, for the placements that have one; NORM_ROLES otherwise. */
NormRole output_norm_role(const ModelSpec *spec, NormRole before, NormRole after);

/* residual.to = residual.from + residual_scale * branch, where the branch ends in linear `role` over x and perhaps a norm. */
void branch_close(const BlockContext *context, int layer, LinearRole role, NormRole norm, Residual residual,
                  Tensor x, BlockState *state);
/* The gradient that enters a branch's last linear: dx itself, or scaled and pulled back through the output norm. */
Tensor branch_open_backward(const BlockContext *context, int layer, NormRole norm, Tensor dx,
                            const BlockState *state);

/* residual.to = residual.from + attention(x); dn = gradient of the branch's input x + beta*dn */
void attention_forward(const BlockContext *context, int layer, Tensor x, Residual residual,
                       BlockState *state);
void attention_backward(const BlockContext *context, int layer, Tensor dn, Tensor dx, Tensor x, float beta,
                        BlockState *state);
/* The same for the feed-forward branch. */
void mlp_forward(const BlockContext *context, int layer, Tensor x, Residual residual, BlockState *state);
void mlp_backward(const BlockContext *context, int layer, Tensor dn, Tensor dx, Tensor x, float beta,
                  BlockState *state);

#endif
