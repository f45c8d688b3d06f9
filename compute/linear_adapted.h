/* op_linear_adapted as several products by a backend's own linear, for a backend or dtypes that have no kernel for it. */
#ifndef COMPUTE_LINEAR_ADAPTED_H
#define COMPUTE_LINEAR_ADAPTED_H

#include "compute/ops.h"

#include <string.h>

typedef void LinearFunction(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta);

/* Where every output has a term, terms come first: a product that adds to its output reads it behind its arithmetic, where a thin one
 * would wait for memory a second time. */
static inline void linear_adapted_in_steps(LinearFunction *linear, Compute *c, Tensor out, Tensor x, Weight w,
                                           Tensor bias, const AdapterTerm *terms, int count, float beta) {
  Tensor none;
  memset(&none, 0, sizeof none); /* in C and in C++ */
  bool first = true;
  for (int i = 0; i < count; i++) first = first && !tensor_is_none(terms[i].u);
  if (!first) linear(c, out, x, w, bias, 1, beta);
  int64_t column = 0;
  for (int i = 0; i < count; i++) {
    const Tensor part = tensor_columns(out, column, terms[i].outputs);
    const Weight b = {terms[i].b, false, false};
    if (!tensor_is_none(terms[i].u)) linear(c, part, terms[i].u, b, none, terms[i].scale, first ? beta : 1);
    column += terms[i].outputs;
  }
  if (first) linear(c, out, x, w, bias, 1, 1);
}

#endif
