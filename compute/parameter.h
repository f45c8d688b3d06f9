/* A trainable tensor and its gradient: what an optimiser sees of a model, an adapter or a head. */
#ifndef COMPUTE_PARAMETER_H
#define COMPUTE_PARAMETER_H

#include "compute/tensor.h"

#include <limits.h>

/* Of what is in no block of a model: in front of the blocks, like the table of embeddings (also where the head is tied to it), and behind
 * them, like an LM head of its own. */
enum { BEFORE_BLOCKS = -1, BEHIND_BLOCKS = INT_MAX };

typedef struct Parameter {
  const char *name; /* as in the checkpoint; borrowed from the owner */
  int layer;        /* the block that it is part of, or one of the former */
  Tensor value;     /* F32 or BF16 */
  Tensor master;    /* F32: the exact value, where `value` is rounded and its owner keeps one; else none */
  Tensor grad;      /* F32, same shape, accumulated by backward passes */
  Tensor sum;       /* where the sum of the gradient lies in host memory; none: grad is the sum */
  bool decay;       /* weight decay applies (matrices yes; norms and biases no) */
  /* Of a part of a parameter, whose tensors are flat then: from which element on, and how many the parameter has. Else 0 and 0. */
  int64_t first, whole;
} Parameter;

typedef struct ParameterList {
  Parameter *items;
  size_t count;
  size_t capacity;
} ParameterList;

NODISCARD bool parameter_list_push(ParameterList *list, Parameter parameter, Error *error);
void parameter_list_free(ParameterList *list);

#endif
