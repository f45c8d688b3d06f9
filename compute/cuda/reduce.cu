/* Reductions. Two stages: a part for each chunk of each tensor, then the parts in order, so that the order of the
 * sum is a function of the sizes alone. The floor is reading the tensors once; squares and sums are in double
 * precision, one conversion and one multiply-add an element, which consumer cards (1/64 of their fp32 rate)
 * should do about as fast as their memory delivers, by their data sheets. */
#include "compute/cuda/pointwise.cuh"
#include "compute/cuda/tensor_list.cuh"

namespace {

enum { THREADS = 256, CHUNK = 16384, LIST_MOST = 160, TOTAL_THREADS = 1024 };

struct SquareItem {
  const float *x;
  int64_t count;
  unsigned first; /* chunks of the items before it */
  bool aligned;
};

typedef TensorList<SquareItem, LIST_MOST, CHUNK> SquareList;
static_assert(sizeof(SquareList) <= 4000, "fits the parameters of a kernel");

/* The sum of x over the block in thread 0. */
template <int N>
__device__ __forceinline__ double block_sum_double(double x) {
  __shared__ double part[N / WARP];
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(FULL_MASK, x, step);
  if (threadIdx.x % WARP == 0) part[threadIdx.x / WARP] = x;
  __syncthreads();
  double sum = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < N / WARP; i++) sum += part[i];
  }
  return sum;
}

/* parts[chunk] = sum of squares of the chunk; the order is the same whether it is read by packs or not. */
__global__ void square_parts_kernel(double *parts, const __grid_constant__ SquareList list) {
  const Chunk<SquareItem> chunk = list_chunk(list, blockIdx.x);
  const bool aligned = chunk.item.aligned;
  const float *x = chunk.item.x + chunk.begin;
  const int count = chunk.count;
  double sum = 0;
#pragma unroll 4
  for (int i = (int)threadIdx.x * 4; i < count; i += THREADS * 4) {
    float v[4];
    if (aligned) {
      load_floats<4>(v, x + i, count - i < 4 ? count - i : 4);
    } else {
#pragma unroll
      for (int k = 0; k < 4; k++) v[k] = i + k < count ? x[i + k] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) sum = fma((double)v[k], (double)v[k], sum);
  }
  sum = block_sum_double<THREADS>(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(TOTAL_THREADS)
    square_total_kernel(double *out, const double *parts, int count) {
  double sum = 0;
#pragma unroll 4
  for (int i = (int)threadIdx.x; i < count; i += TOTAL_THREADS) sum += parts[i];
  sum = block_sum_double<TOTAL_THREADS>(sum);
  if (threadIdx.x == 0) *out = sum;
}

/* As many of the tensors from `*next` on as fit one list; *next is then the first that does not. */
static SquareList list_tensors(const Tensor *tensors, int64_t count, int64_t *next) {
  SquareList list = {};
  int64_t t = *next;
  for (; t < count && list.count < LIST_MOST; t++) {
    const int64_t n = tensor_count(tensors[t]);
    ASSERT(tensors[t].dtype == DTYPE_F32 && tensor_is_contiguous(tensors[t]));
    if (n > 0) {
      list_add(&list, {data<const float>(tensors[t]), n, 0, (uintptr_t)tensors[t].data % 16 == 0});
    }
  }
  *next = t;
  return list;
}

}  // namespace

extern "C" void cuda_sum_squares(Compute *c, Tensor out, const Tensor *list, int64_t count) {
  ASSERT(out.dtype == DTYPE_F64);
  int64_t chunks = 0, done = 0;
  for (int64_t t = 0; t < count; t++) chunks += divide_up(tensor_count(list[t]), CHUNK);
  ASSERT(chunks <= INT32_MAX);
  size_t mark = scratch_open(c);
  double *parts = scratch_new<double>(c, chunks);
  if (!c->dry) {
    for (int64_t t = 0; t < count;) {
      const SquareList some = list_tensors(list, count, &t);
      LAUNCH(c, square_parts_kernel, dim3(some.chunks), dim3(THREADS), 0, parts + done, some);
      done += some.chunks;
    }
    LAUNCH(c, square_total_kernel, dim3(1), dim3(TOTAL_THREADS), 0, data<double>(out), parts, (int)chunks);
  }
  scratch_close(c, mark);
}
