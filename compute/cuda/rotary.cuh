/* The rotation of pairs by a token's angles: of an activation in place (rotary.cu), and of keys on their way into the cache
 * (cache_store.cu). */
#ifndef COMPUTE_CUDA_ROTARY_CUH
#define COMPUTE_CUDA_ROTARY_CUH

#include "compute/cuda/pointwise.cuh"

struct Rotary {
  int64_t tokens, token_stride, head_stride;
  int heads, pairs;
  const int32_t *positions;
  const float *inverse_frequency;
  float scale;
  bool inverse;
};

/* The tables of this block's tokens, one row of threads a token: cosines, then sines, of each token. */
__device__ __forceinline__ void rotary_tables(const Rotary &r, float *cosine, float *sine, int64_t t) {
  float position = (float)r.positions[t];
  for (int i = (int)threadIdx.x; i < r.pairs; i += (int)blockDim.x) {
    /* An fp32 product, as Transformers has it: at large positions the rounding shows. */
    float s, co;
    sincosf(position * r.inverse_frequency[i], &s, &co);
    cosine[i] = co * r.scale;
    sine[i] = (r.inverse ? -s : s) * r.scale;
  }
}

/* The two halves of N pairs as they lie in memory: N neighbours each, or in turn. */
template <int N, bool INTERLEAVED>
__device__ __forceinline__ void turn(float *x, const float *cosine, const float *sine) {
#pragma unroll
  for (int i = 0; i < N; i++) {
    float &a = x[INTERLEAVED ? 2 * i : i], &b = x[INTERLEAVED ? 2 * i + 1 : N + i];
    float turned = a * cosine[i] - b * sine[i];
    b = b * cosine[i] + a * sine[i];
    a = turned;
  }
}

/* Of x [T,H,D]. */
static inline Rotary rotary_of(Tensor x, Tensor positions, RotarySpec spec, bool inverse) {
  const int64_t pairs = spec.inverse_frequency.dim[0];
  ASSERT(2 * pairs <= x.dim[2] && pairs <= 1024 && spec.inverse_frequency.dtype == DTYPE_F32);
  return {x.dim[0],
          x.stride[0],
          x.stride[1],
          (int)x.dim[1],
          (int)pairs,
          data<const int32_t>(positions),
          data<const float>(spec.inverse_frequency),
          spec.scale,
          inverse};
}

#endif
