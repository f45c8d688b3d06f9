/* Tensors that lie together in memory, cut into one slice for each rank.
 *
 * A slice begins at the beginning of a tensor or SLICE_GRAIN elements and multiples of that behind it, so that a block of 8-bit moments is
 * never cut and elements keep their place in the vectors that compute on them; and as near to an equal part of the bytes as
 * that allows. Where it begins depends on the tensors and the number of ranks alone. */
#ifndef COMPUTE_SLICES_H
#define COMPUTE_SLICES_H

#include "compute/ops.h"

enum { SLICE_GRAIN = STATE_BLOCK };

/* Element `element` of tensor `tensor`; of block dtypes elements are bytes. */
typedef struct SlicePoint {
  int64_t tensor, element;
} SlicePoint;

/* points[ranks+1]: the slice of rank r is from points[r] up to points[r+1], which is {count, 0} behind the last one. `tensors` are
 * contiguous. */
void slices_cut(const Tensor *tensors, int64_t count, int ranks, SlicePoint *points);
/* The part of tensor `tensor` between two points, which may be none: flat, with elements from *first on. */
Tensor slices_part(Tensor tensor, int64_t index, SlicePoint from, SlicePoint to, int64_t *first);

/* All memory from the first tensor to the end of the last one, as one flat tensor of `dtype` (U8, or the tensors' own): they lie in
 * this order, with less than a cache line between two. */
Tensor slices_memory(const Tensor *tensors, int64_t count, DType dtype);
/* Whether `next` lies so behind `former`. */
bool slices_adjacent(Tensor former, Tensor next);
/* at[ranks+1]: where the slices begin in that memory, in its elements. */
void slices_places(Tensor memory, const Tensor *tensors, int64_t count, const SlicePoint *points, int ranks,
                   int64_t *at);

#endif
