/* Optimiser steps over lists of tensors, state in F32 or in 8 bits by blocks (compute/dynamic_map.h).
 *
 * One launch serves up to LIST_MOST tensors: their table goes in the kernel's parameters, and a block finds the
 * tensor of its chunk there. One pass over memory, bound by it; bytes per parameter, the gradient's zero included
 * (a BF16 value adds 2):
 *
 *            F32 state   8-bit state
 *   adamw       32         20 + 1/16      p 4+4, gradient 4+4, m and v 4+4 or 1+1 each
 *   lion        24         18 + 1/32
 *   sgd         16 (24 with momentum, 18 + 1/32 in 8 bits) */
#include "compute/cuda/tensor_list.cuh"

#include "compute/dynamic_map.h"

namespace {

enum { THREADS = 256, CHUNK = 4096, LIST_MOST = 54 };
static_assert(CHUNK % STATE_BLOCK == 0 && STATE_BLOCK == 8 * WARP, "a warp has a block of the state");

struct Item {
  float *p, *grad;
  bf16 *value;
  void *m, *v; /* floats or codes */
  float *m_absmax, *v_absmax;
  int64_t count;
  unsigned first; /* chunks of the tensors before it */
  bool decay;
  bool aligned; /* four neighbours may be moved at once */
};

typedef TensorList<Item, LIST_MOST, CHUNK> Table; /* at most 4 KiB with the rule */

/* -- the rules: one element ------------------------------------------------------------------------------- */

struct Adam {
  static const bool has_m = true, has_v = true;
  float keep, rate, inverse_root, beta1, beta2, eps, grad_scale;
};
struct Lion {
  static const bool has_m = true, has_v = false;
  float keep, lr, beta1, beta2, grad_scale;
};
template <bool MOMENTUM>
struct Sgd {
  static const bool has_m = MOMENTUM, has_v = false;
  float weight_decay, lr, momentum, grad_scale;
};

__device__ __forceinline__ void step_element(const Adam &r, bool decay, float &p, float &m, float &v,
                                             float g) {
  g *= r.grad_scale;
  m = r.beta1 * m + (1.0f - r.beta1) * g;
  v = r.beta2 * v + (1.0f - r.beta2) * g * g;
  float denominator = sqrtf(v) * r.inverse_root + r.eps;
  p = p * (decay ? r.keep : 1.0f) - r.rate * m / denominator;
}

__device__ __forceinline__ void step_element(const Lion &r, bool decay, float &p, float &m, float &,
                                             float g) {
  g *= r.grad_scale;
  float u = r.beta1 * m + (1.0f - r.beta1) * g;
  float sign = u > 0 ? 1.0f : u < 0 ? -1.0f : 0.0f;
  p = p * (decay ? r.keep : 1.0f) - r.lr * sign;
  m = r.beta2 * m + (1.0f - r.beta2) * g;
}

template <bool MOMENTUM>
__device__ __forceinline__ void step_element(const Sgd<MOMENTUM> &r, bool decay, float &p, float &m, float &,
                                             float g) {
  float d = g * r.grad_scale + (decay ? r.weight_decay : 0.0f) * p;
  if (MOMENTUM) d = m = r.momentum * m + d;
  p -= r.lr * d;
}

/* -- four neighbours -------------------------------------------------------------------------------------- */

/* x[0..3], of which `part` are there; beyond them 0. */
__device__ __forceinline__ Pack<float, 4> load_four(const float *x, int part, bool aligned) {
  if (part >= 4 && aligned) return load_pack<float, 4>(x);
  Pack<float, 4> four;
#pragma unroll
  for (int i = 0; i < 4; i++) four.at[i] = i < part ? x[i] : 0.0f;
  return four;
}

template <class T>
__device__ __forceinline__ void store_four(T *x, const Pack<T, 4> &four, int part, bool aligned) {
  if (part >= 4 && aligned) {
    store_pack(x, four);
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (i < part) x[i] = four.at[i];
    }
  }
}

/* What every rule writes: the parameter, its rounded value, and the gradient's zero. */
__device__ __forceinline__ void store_parameter(const Item &item, int64_t at, const Pack<float, 4> &p,
                                                int part) {
  store_four(item.p + at, p, part, item.aligned);
  store_four(item.grad + at, Pack<float, 4>{{0, 0, 0, 0}}, part, item.aligned);
  if (!item.value) return;
  Pack<bf16, 4> value;
#pragma unroll
  for (int i = 0; i < 4; i++) value.at[i] = from_float<bf16>(p.at[i]);
  store_four(item.value + at, value, part, item.aligned);
}

/* -- one chunk of a tensor -------------------------------------------------------------------------------- */

/* Elements begin .. begin+count-1 with F32 state. */
template <class Rule>
__device__ __forceinline__ void step_floats(const Item &item, const Rule &rule, int64_t begin, int count) {
  float *all_m = (float *)item.m, *all_v = (float *)item.v;
#pragma unroll 2
  for (int i = 4 * (int)threadIdx.x; i < count; i += 4 * THREADS) {
    int64_t at = begin + i;
    int part = count - i;
    Pack<float, 4> m = {}, v = {}, p = load_four(item.p + at, part, item.aligned);
    Pack<float, 4> g = load_four(item.grad + at, part, item.aligned);
    if (Rule::has_m) m = load_four(all_m + at, part, item.aligned);
    if (Rule::has_v) v = load_four(all_v + at, part, item.aligned);
#pragma unroll
    for (int k = 0; k < 4; k++) step_element(rule, item.decay, p.at[k], m.at[k], v.at[k], g.at[k]);
    if (Rule::has_m) store_four(all_m + at, m, part, item.aligned);
    if (Rule::has_v) store_four(all_v + at, v, part, item.aligned);
    store_parameter(item, at, p, part);
  }
}

/* A lane's eight elements of a block of the state: four at 4 * lane, four at 128 + 4 * lane. */
struct Eight {
  Pack<float, 4> half[2];
};

__device__ __forceinline__ Eight decode(const uint8_t *codes, float absmax, const float *values) {
  Eight x;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    Pack<uint8_t, 4> four = load_pack<uint8_t, 4>(codes + h * STATE_BLOCK / 2 + 4 * (threadIdx.x % WARP));
#pragma unroll
    for (int k = 0; k < 4; k++) x.half[h].at[k] = values[four.at[k]] * absmax;
  }
  return x;
}

/* All lanes. SIGNED: m, else v. */
template <bool SIGNED>
__device__ __forceinline__ void encode(uint8_t *codes, float *absmax, const Eight &x) {
  float most = 0;
#pragma unroll
  for (int i = 0; i < 8; i++) most = fmaxf(most, fabsf(x.half[i / 4].at[i % 4]));
  most = warp_max(most);
  float inverse = dynamic_inverse(most);
#pragma unroll
  for (int h = 0; h < 2; h++) {
    Pack<uint8_t, 4> four;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      float scaled = x.half[h].at[k] * inverse;
      four.at[k] = SIGNED ? dynamic_signed_code(scaled) : dynamic_unsigned_code(scaled);
    }
    store_pack(codes + h * STATE_BLOCK / 2 + 4 * (threadIdx.x % WARP), four);
  }
  if (threadIdx.x % WARP == 0) *absmax = most;
}

/* One block of the state, by a warp. Its elements are `part` from `at` on; the codes of the rest are those of 0 and
 * stay so, for p and gradient read as 0 there. */
template <class Rule>
__device__ __forceinline__ void step_block(const Item &item, const Rule &rule, int64_t at, int part,
                                           const float *signed_values, const float *unsigned_values) {
  uint8_t *m_codes = (uint8_t *)item.m + at, *v_codes = (uint8_t *)item.v + at;
  float *m_absmax = item.m_absmax + at / STATE_BLOCK, *v_absmax = item.v_absmax + at / STATE_BLOCK;
  Eight p, g, m, v = {};
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int offset = h * STATE_BLOCK / 2 + 4 * (int)(threadIdx.x % WARP);
    p.half[h] = load_four(item.p + at + offset, part - offset, item.aligned);
    g.half[h] = load_four(item.grad + at + offset, part - offset, item.aligned);
  }
  m = decode(m_codes, *m_absmax, signed_values);
  if (Rule::has_v) v = decode(v_codes, *v_absmax, unsigned_values);
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int h = i / 4, k = i % 4;
    step_element(rule, item.decay, p.half[h].at[k], m.half[h].at[k], v.half[h].at[k], g.half[h].at[k]);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    int offset = h * STATE_BLOCK / 2 + 4 * (int)(threadIdx.x % WARP);
    store_parameter(item, at + offset, p.half[h], part - offset);
  }
  encode<true>(m_codes, m_absmax, m);
  if (Rule::has_v) encode<false>(v_codes, v_absmax, v);
}

template <class Rule>
__device__ __forceinline__ void step_codes(const Item &item, const Rule &rule, int64_t begin, int count) {
  __shared__ float signed_values[256], unsigned_values[256];
  static_assert(THREADS == 256, "a thread has a code");
  signed_values[threadIdx.x] = dynamic_signed_value((uint8_t)threadIdx.x);
  if (Rule::has_v) unsigned_values[threadIdx.x] = dynamic_unsigned_value((uint8_t)threadIdx.x);
  __syncthreads();
  for (int i = (int)threadIdx.x / WARP * STATE_BLOCK; i < count; i += THREADS / WARP * STATE_BLOCK) {
    step_block(item, rule, begin + i, count - i, signed_values, unsigned_values);
  }
}

/* -- the list --------------------------------------------------------------------------------------------- */

template <class Rule, bool CODES>
__global__ void __launch_bounds__(THREADS) step_kernel(const __grid_constant__ Table table, const Rule rule) {
  const Chunk<Item> chunk = list_chunk(table, blockIdx.x);
  const Item item = chunk.item;
  if constexpr (CODES) {
    step_codes(item, rule, chunk.begin, chunk.count);
  } else {
    step_floats(item, rule, chunk.begin, chunk.count);
  }
}

static bool has_codes(const OptimTensor *t) {
  return !tensor_is_none(t->m.data) && t->m.data.dtype == DTYPE_U8;
}

static Item item_of(const OptimTensor *t) {
  ASSERT(t->p.dtype == DTYPE_F32 && tensor_count(t->grad) == tensor_count(t->p));
  Item item = {};
  item.p = data<float>(t->p);
  item.grad = data<float>(t->grad);
  item.value = data<bf16>(t->value);
  item.m = t->m.data.data;
  item.v = t->v.data.data;
  item.m_absmax = data<float>(t->m.absmax);
  item.v_absmax = data<float>(t->v.absmax);
  item.count = tensor_count(t->p);
  item.decay = t->decay;
  uintptr_t bits = (uintptr_t)item.p | (uintptr_t)item.grad | (uintptr_t)item.value * 2;
  if (!has_codes(t)) bits |= (uintptr_t)item.m | (uintptr_t)item.v;
  item.aligned = bits % 16 == 0;
  return item;
}

/* The tensors of the list with this kind of state. */
template <class Rule, bool CODES>
static void step_some(Compute *c, const OptimTensor *list, int64_t count, const Rule &rule) {
  Table table = {};
  for (int64_t i = 0; i < count; i++) {
    if (has_codes(&list[i]) != CODES || tensor_count(list[i].p) == 0) continue;
    if (table.count == LIST_MOST) {
      LAUNCH(c, (step_kernel<Rule, CODES>), dim3(table.chunks), dim3(THREADS), 0, table, rule);
      table = {};
    }
    list_add(&table, item_of(&list[i]));
  }
  LAUNCH(c, (step_kernel<Rule, CODES>), dim3(table.chunks), dim3(THREADS), 0, table, rule);
}

template <class Rule>
static void step_all(Compute *c, const OptimTensor *list, int64_t count, const Rule &rule) {
  static_assert(sizeof(Table) + sizeof(Rule) <= 4096, "the parameters of a kernel");
  if (c->dry) return;
  for (int64_t i = 0; i < count; i++) {
    ASSERT(!Rule::has_m || !tensor_is_none(list[i].m.data));
    ASSERT(!Rule::has_v || has_codes(&list[i]) == (list[i].v.data.dtype == DTYPE_U8));
  }
  step_some<Rule, false>(c, list, count, rule);
  if constexpr (Rule::has_m) step_some<Rule, true>(c, list, count, rule);
}

}  // namespace

extern "C" void cuda_adamw(Compute *c, const OptimTensor *list, int64_t count, AdamStep step) {
  Adam rule = {1.0f - step.lr * step.weight_decay,
               step.lr / step.correction1,
               1.0f / sqrtf(step.correction2),
               step.beta1,
               step.beta2,
               step.eps,
               step.grad_scale};
  step_all(c, list, count, rule);
}

extern "C" void cuda_lion(Compute *c, const OptimTensor *list, int64_t count, LionStep step) {
  Lion rule = {1.0f - step.lr * step.weight_decay, step.lr, step.beta1, step.beta2, step.grad_scale};
  step_all(c, list, count, rule);
}

extern "C" void cuda_sgd(Compute *c, const OptimTensor *list, int64_t count, SgdStep step) {
  if (step.momentum > 0) {
    step_all(c, list, count, Sgd<true>{step.weight_decay, step.lr, step.momentum, step.grad_scale});
  } else {
    step_all(c, list, count, Sgd<false>{step.weight_decay, step.lr, 0, step.grad_scale});
  }
}
