/* What becomes of the product of a query and a key before the softmax: scale, cap, ALiBi's slope and the window, the same
 * in training, in prefill and in decoding.
 *
 * Scores are kept in units of log 2, so that exp(score) is one exp2: a factor log2(e) goes into the scale, the cap and
 * the slopes. A distance is the query's position minus the key's. */
#ifndef COMPUTE_CUDA_SCORE_CUH
#define COMPUTE_CUDA_SCORE_CUH

#include "compute/cuda/kernel.cuh"

#include <climits>

#include <ptx.cuh>

struct ScoreSpec {
  float scale; /* from a product to units of log 2 */
  float cap;   /* 0: none */
  const float *slopes;
  float place_scale; /* of a bias by the key's place; 0: by the distance */
  int window;        /* INT_MAX: all */
};

static inline ScoreSpec score_spec(AttentionSpec spec) {
  return {spec.scale * LOG2_E, spec.softcap * LOG2_E, (const float *)spec.slopes.data,
          spec.place_scale * LOG2_E, spec.window > 0 ? spec.window : INT_MAX};
}

/* Whether a score is its product times a positive scale: then kernels take the fast way, where the scale is part
 * of the exponent. Masks are no rule: they are looked at only where they cut a tile. */
static inline bool score_is_plain(ScoreSpec spec) {
  return spec.scale > 0 && !(spec.cap > 0) && !spec.slopes;
}

/* The same for one head. */
struct ScoreRule {
  float scale, cap, inverse_cap, slope, place_scale;
  int window;
};

__device__ __forceinline__ float score_slope(ScoreSpec spec, int head) {
  if (!spec.slopes) return 0.0f;
  return spec.place_scale != 0 ? spec.slopes[head] : spec.slopes[head] * LOG2_E;
}

__device__ __forceinline__ ScoreRule score_rule(ScoreSpec spec, float slope) {
  return {spec.scale, spec.cap, spec.cap > 0 ? 1.0f / spec.cap : 0.0f, slope, spec.place_scale, spec.window};
}

__device__ __forceinline__ float tanh_fast(float x) {
  return 1.0f - __fdividef(2.0f, 1.0f + exp2_fast(2 * LOG2_E * x));
}

__device__ __forceinline__ float rounded_bf16(float x) {
  return to_float(from_float<bf16>(x));
}

/* `key`: the key's position. `*bend`: d score / d (scale * product). The last step is an fma in every kernel, whatever the compiler would make of it:
 * rows of generation have the same bits in all of them. */
__device__ __forceinline__ float score_apply(ScoreRule rule, float product, int distance, int key,
                                             float *bend) {
  float score = product * rule.scale;
  *bend = 1.0f;
  if (rule.cap > 0) {
    float t = tanh_fast(score * rule.inverse_cap);
    score = rule.cap * t;
    *bend = 1.0f - t * t;
  }
  if (rule.place_scale != 0) {
    return fmaf(rule.place_scale, rounded_bf16(rule.slope * rounded_bf16((float)key)), score);
  }
  return fmaf(rule.slope, -(float)distance, score);
}

/* 0 <= distance < window */
__device__ __forceinline__ bool score_seen(int distance, int window) {
  return (unsigned)distance < (unsigned)window;
}
/* Whether some, or all, of the distances lowest .. highest are out of sight. */
__device__ __forceinline__ bool score_cut(int lowest, int highest, int window) {
  return lowest < 0 || highest >= window;
}
__device__ __forceinline__ bool score_hidden(int lowest, int highest, int window) {
  return highest < 0 || lowest >= window;
}

/* A score, or -infinity for a key that is not seen. */
__device__ __forceinline__ float score_masked(ScoreRule rule, float product, int distance, int key) {
  float bend;
  const float score = score_apply(rule, product, distance, key, &bend);
  return score_seen(distance, rule.window) ? score : -INFINITY;
}

#endif
