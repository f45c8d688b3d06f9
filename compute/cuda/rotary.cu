/* Rotary position embedding (Su et al. 2021), in place. A block takes tokens: the sines and cosines of a token
 * are computed once, into shared memory, for all its heads. The floor is reading and writing x once. */
#include "compute/cuda/rotary.cuh"

namespace {

/* N pairs of a head, from pair `first`. */
template <class T, int N, bool INTERLEAVED>
__device__ __forceinline__ void rotate(T *head, int pairs, int first, const float *cosine,
                                       const float *sine) {
  constexpr bool TOGETHER = INTERLEAVED && N > 1; /* one pack holds the pairs; a lone pair may be unaligned */
  T *low = head + (INTERLEAVED ? 2 * first : first), *high = low + (INTERLEAVED ? 1 : pairs);
  float x[2 * N];
  if (TOGETHER) {
    load_floats<2 * N>(x, low, 2 * N);
  } else {
    load_floats<N>(x, low, N);
    load_floats<N>(x + N, high, N);
  }
  turn<N, INTERLEAVED>(x, cosine + first, sine + first);
  if (TOGETHER) {
    store_floats<2 * N>(low, x, 2 * N);
  } else {
    store_floats<N>(low, x, N);
    store_floats<N>(high, x + N, N);
  }
}

template <class T, int N, bool INTERLEAVED>
__global__ void rotary_kernel(T *x, Rotary r) {
  SHARED_MEMORY(float, tables);
  float *cosine = tables + (int)threadIdx.y * 2 * r.pairs, *sine = cosine + r.pairs;
  int64_t t = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
  if (t < r.tokens) rotary_tables(r, cosine, sine, t);
  __syncthreads();
  if (t >= r.tokens) return;
  int per_head = r.pairs / N;
  for (int i = (int)threadIdx.x; i < r.heads * per_head; i += (int)blockDim.x) {
    int h = i / per_head;
    rotate<T, N, INTERLEAVED>(x + t * r.token_stride + h * r.head_stride, r.pairs, (i - h * per_head) * N,
                              cosine, sine);
  }
}

enum { ROTARY_THREADS = 256 };

template <class T, int N, bool INTERLEAVED>
static void rotary_launch(Compute *c, Tensor x, Rotary r) {
  int items = r.heads * (r.pairs / N), most = items > r.pairs ? items : r.pairs, across = WARP;
  while (across < most && across < ROTARY_THREADS) across *= 2;
  int down = ROTARY_THREADS / across;
  size_t shared = (size_t)(down * 2 * r.pairs) * sizeof(float);
  LAUNCH(c, (rotary_kernel<T, N, INTERLEAVED>), dim3((unsigned)divide_up(r.tokens, down)),
         dim3((unsigned)across, (unsigned)down), shared, (T *)x.data, r);
}

template <class T>
static void rotary(Compute *c, Tensor x, Rotary r, bool interleaved) {
  constexpr int N = PACK<T>;
  int64_t size = sizeof(T);
  bool aligned =
      (uintptr_t)x.data % 16 == 0 && r.head_stride * size % 16 == 0 && r.token_stride * size % 16 == 0;
  if (interleaved) {
    if (aligned && r.pairs % (N / 2) == 0) return rotary_launch<T, N / 2, true>(c, x, r);
    return rotary_launch<T, 1, true>(c, x, r);
  }
  if (aligned && r.pairs % N == 0) return rotary_launch<T, N, false>(c, x, r);
  return rotary_launch<T, 1, false>(c, x, r);
}

}  // namespace

extern "C" void cuda_rotary(Compute *c, Tensor x, Tensor positions, RotarySpec spec, bool inverse) {
  if (c->dry) return;
  const Rotary r = rotary_of(x, positions, spec, inverse);
  if (r.pairs == 0) return;
  WITH_TYPE(x.dtype, T, rotary<T>(c, x, r, spec.interleaved));
}
