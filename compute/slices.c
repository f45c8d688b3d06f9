#include "compute/slices.h"

enum { LINE = 64 /* bytes; arenas align to it */ };

static int64_t element_size(Tensor x) {
  return dtype_is_blocks(x.dtype) ? 1 : (int64_t)dtype_size(x.dtype);
}

static int64_t elements(Tensor x) {
  return (int64_t)tensor_bytes(x) / element_size(x);
}

/* The point of `tensors` that is nearest to `bytes` behind the beginning of tensor i. */
static SlicePoint nearest(const Tensor *tensors, int64_t i, int64_t bytes) {
  const int64_t grain = SLICE_GRAIN * element_size(tensors[i]);
  const int64_t element = (bytes + grain / 2) / grain * SLICE_GRAIN;
  return element < elements(tensors[i]) ? (SlicePoint){i, element} : (SlicePoint){i + 1, 0};
}

void slices_cut(const Tensor *tensors, int64_t count, int ranks, SlicePoint *points) {
  int64_t total = 0, before = 0, i = 0;
  for (int64_t t = 0; t < count; t++) total += (int64_t)tensor_bytes(tensors[t]);
  points[0] = (SlicePoint){0, 0};
  for (int r = 1; r < ranks; r++) {
    const int64_t target = total / ranks * r + total % ranks * r / ranks;
    while (i < count && target - before >= (int64_t)tensor_bytes(tensors[i]))
      before += (int64_t)tensor_bytes(tensors[i++]);
    points[r] = i < count ? nearest(tensors, i, target - before) : (SlicePoint){count, 0};
  }
  points[ranks] = (SlicePoint){count, 0};
}

/* How much of tensor `index` of n elements lies before the point. */
static int64_t before(SlicePoint point, int64_t index, int64_t n) {
  return index < point.tensor ? n : index > point.tensor ? 0 : point.element;
}

Tensor slices_part(Tensor tensor, int64_t index, SlicePoint from, SlicePoint to, int64_t *first) {
  ASSERT(!dtype_is_blocks(tensor.dtype) && tensor_is_contiguous(tensor));
  const int64_t n = elements(tensor), end = before(to, index, n);
  *first = before(from, index, n);
  return tensor_rows(tensor_1d(tensor.data, tensor.dtype, n), *first, end - *first);
}

/* Integer arithmetic, here and below: addresses may be dry ones. */
static uintptr_t end_of(Tensor x) {
  return (uintptr_t)x.data + tensor_bytes(x);
}

Tensor slices_memory(const Tensor *tensors, int64_t count, DType dtype) {
  const uintptr_t bytes = end_of(tensors[count - 1]) - (uintptr_t)tensors[0].data;
  return tensor_1d(tensors[0].data, dtype, (int64_t)(bytes / dtype_size(dtype)));
}

bool slices_adjacent(Tensor former, Tensor next) {
  const uintptr_t end = end_of(former), begin = (uintptr_t)next.data;
  return begin >= end && begin - end < LINE;
}

void slices_places(Tensor memory, const Tensor *tensors, int64_t count, const SlicePoint *points, int ranks,
                   int64_t *at) {
  const uintptr_t size = dtype_size(memory.dtype);
  for (int r = 0; r < ranks; r++) {
    const SlicePoint point = points[r];
    uintptr_t place = end_of(memory);
    if (point.tensor < count) {
      const Tensor x = tensors[point.tensor];
      place = (uintptr_t)x.data + (uintptr_t)(point.element * element_size(x));
    }
    at[r] = (int64_t)((place - (uintptr_t)memory.data) / size);
  }
  at[ranks] = tensor_count(memory);
}
