#include "compute/tensor.h"

#include "compute/nf4.h"
#include "compute/q8.h"

static Tensor contiguous(void *data, DType dtype, int rank, const int64_t *dim) {
  ASSERT(rank >= 1 && rank <= TENSOR_MAX_RANK);
  Tensor x = {.data = data, .dtype = dtype, .rank = rank};
  int64_t stride = 1;
  for (int i = rank - 1; i >= 0; i--) {
    ASSERT(dim[i] >= 0);
    x.dim[i] = dim[i];
    x.stride[i] = stride;
    stride *= dim[i];
  }
  return x;
}

Tensor tensor_over(void *data, DType dtype, int rank, const int64_t *dim) {
  return contiguous(data, dtype, rank, dim);
}

Tensor tensor_1d(void *data, DType dtype, int64_t n) {
  return contiguous(data, dtype, 1, (int64_t[]){n});
}

Tensor tensor_2d(void *data, DType dtype, int64_t rows, int64_t columns) {
  return contiguous(data, dtype, 2, (int64_t[]){rows, columns});
}

static Tensor from_arena(Arena *arena, DType dtype, int rank, const int64_t *dim) {
  Tensor x = contiguous(NULL, dtype, rank, dim);
  x.data = arena_alloc(arena, tensor_bytes(x));
  return x;
}

Tensor tensor_new_1d(Arena *arena, DType dtype, int64_t n) {
  return from_arena(arena, dtype, 1, (int64_t[]){n});
}

Tensor tensor_new_2d(Arena *arena, DType dtype, int64_t rows, int64_t columns) {
  return from_arena(arena, dtype, 2, (int64_t[]){rows, columns});
}

Tensor tensor_new_3d(Arena *arena, DType dtype, int64_t a, int64_t b, int64_t c) {
  return from_arena(arena, dtype, 3, (int64_t[]){a, b, c});
}

Tensor tensor_new_like(Arena *arena, Tensor shape, DType dtype) {
  return from_arena(arena, dtype, shape.rank, shape.dim);
}

/* Integer arithmetic: the address of a dry tensor is no object that a pointer may be moved in. */
static void *moved(Tensor x, int64_t elements) {
  return (void *)((uintptr_t)x.data + (uintptr_t)elements * dtype_size(x.dtype));
}

Tensor tensor_rows(Tensor x, int64_t first, int64_t count) {
  ASSERT(first >= 0 && count >= 0 && first + count <= x.dim[0]);
  x.data = moved(x, first * x.stride[0]);
  x.dim[0] = count;
  return x;
}

Tensor tensor_columns(Tensor x, int64_t first, int64_t count) {
  ASSERT(x.rank == 2 && first >= 0 && count >= 0 && first + count <= x.dim[1]);
  x.data = moved(x, first);
  x.dim[1] = count;
  return x;
}

Tensor tensor_heads(Tensor x, int64_t first, int64_t heads, int64_t head_stride, int64_t size) {
  ASSERT(x.rank >= 2 && first >= 0 && heads >= 1 && size >= 1);
  ASSERT(first + (heads - 1) * head_stride + size <= tensor_count(tensor_rows(x, 0, x.dim[0] ? 1 : 0)) ||
         x.dim[0] == 0);
  return (Tensor){.data = moved(x, first),
                  .dtype = x.dtype,
                  .rank = 3,
                  .dim = {x.dim[0], heads, size},
                  .stride = {x.stride[0], head_stride, 1}};
}

Tensor tensor_head(Tensor x, int64_t head) {
  ASSERT(x.rank == 3 && head >= 0 && head < x.dim[1]);
  x.data = moved(x, head * x.stride[1]);
  x.dim[1] = 1;
  return x;
}

Tensor tensor_stacked(const Tensor *parts, int count) {
  Tensor all = parts[0];
  for (int i = 0; i < count; i++) {
    const Tensor x = parts[i];
    if (tensor_is_none(x) || dtype_is_blocks(x.dtype) || x.dtype != all.dtype || x.rank != all.rank)
      return (Tensor){0};
    if (!tensor_is_contiguous(x) || (x.rank > 1 && x.dim[1] != all.dim[1])) return (Tensor){0};
    if (i == 0) continue;
    if (x.data != moved(all, tensor_count(all))) return (Tensor){0};
    all.dim[0] += x.dim[0];
  }
  return all;
}

Tensor tensor_beside(const Tensor *parts, int count) {
  Tensor all = parts[0];
  for (int i = 1; i < count && !tensor_is_none(all); i++) {
    const Tensor x = parts[i];
    bool alike = !tensor_is_none(x) && x.dtype == all.dtype && x.rank == all.rank && x.dim[0] == all.dim[0];
    alike = alike && x.stride[0] == all.stride[0] && x.stride[1] == all.stride[1] && x.dim[2] == all.dim[2];
    if (!alike || x.data != moved(all, all.dim[1] * all.stride[1])) return (Tensor){0};
    all.dim[1] += x.dim[1];
  }
  return all;
}

int64_t tensor_count(Tensor x) {
  int64_t count = 1;
  for (int i = 0; i < x.rank; i++) count *= x.dim[i];
  return count;
}

size_t tensor_bytes(Tensor x) {
  if (x.dtype == DTYPE_Q8) return q8_bytes(x.dim[0], x.dim[1]);
  if (dtype_is_blocks(x.dtype)) return nf4_bytes(x.dtype, x.dim[0], x.dim[1]);
  return (size_t)tensor_count(x) * dtype_size(x.dtype);
}

bool tensor_is_contiguous(Tensor x) {
  int64_t stride = 1;
  for (int i = x.rank - 1; i >= 0; i--) {
    if (x.dim[i] != 1 && x.stride[i] != stride) return false;
    stride *= x.dim[i];
  }
  return true;
}
