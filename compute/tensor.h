/* A tensor is a typed, strided view of memory that someone else owns (an arena, a mapped file).
 *
 * Passed by value. Strides count elements; the last dimension of every tensor given to an operation is
 * contiguous. A tensor of a block dtype (dtype_is_blocks) is a whole matrix [O,I] under one pointer: it has no views, and its
 * strides mean nothing. A tensor without data ({0}) stands for "none" where an operation allows it. In a dry run the
 * data pointer is not null but must not be touched. */
#ifndef COMPUTE_TENSOR_H
#define COMPUTE_TENSOR_H

#include "base/arena.h"
#include "base/dtype.h"

#include <stdint.h>

enum { TENSOR_MAX_RANK = 4 };

typedef struct Tensor {
  void *data;
  DType dtype;
  int rank;
  int64_t dim[TENSOR_MAX_RANK];
  int64_t stride[TENSOR_MAX_RANK]; /* elements */
} Tensor;

/* Contiguous tensors over given memory. Unused trailing dimensions are left out by rank. */
Tensor tensor_over(void *data, DType dtype, int rank, const int64_t *dim);
Tensor tensor_1d(void *data, DType dtype, int64_t n);
Tensor tensor_2d(void *data, DType dtype, int64_t rows, int64_t columns);

/* Contiguous tensors from an arena (uninitialised). */
Tensor tensor_new_1d(Arena *arena, DType dtype, int64_t n);
Tensor tensor_new_2d(Arena *arena, DType dtype, int64_t rows, int64_t columns);
Tensor tensor_new_3d(Arena *arena, DType dtype, int64_t a, int64_t b, int64_t c);
Tensor tensor_new_like(Arena *arena, Tensor shape, DType dtype);

/* Views. */
Tensor tensor_rows(Tensor x, int64_t first, int64_t count);    /* first dimension */
Tensor tensor_columns(Tensor x, int64_t first, int64_t count); /* of a 2-d tensor: strided rows */
/* [T, ...] seen as [T, heads, size]: head h of row t begins at first + h*head_stride elements of that row. */
Tensor tensor_heads(Tensor x, int64_t first, int64_t heads, int64_t head_stride, int64_t size);
Tensor tensor_head(Tensor x, int64_t head); /* of [T, H, D]: [T, 1, D] */

/* One tensor over several, where they are alike and lie so that there can be one; else none. Of matrices or vectors, each
 * contiguous and the next where it ends: their rows. Of 2-d or [T, H, D] tensors beside each other in every row: their columns, or
 * heads. */
Tensor tensor_stacked(const Tensor *parts, int count);
Tensor tensor_beside(const Tensor *parts, int count);

static inline bool tensor_is_none(Tensor x) {
  return x.data == NULL;
}
int64_t tensor_count(Tensor x); /* elements */
size_t tensor_bytes(Tensor x);
bool tensor_is_contiguous(Tensor x);

#endif
