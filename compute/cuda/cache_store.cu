/* Keys and values on their way into the paged cache of rollouts, alone or with the rotation of queries and keys before it, and their norms by head before that. Of
 * few rows the time is that of a launch; the floor of many is reading q, k and v once and writing them once. */
#include "compute/cuda/norm_row.cuh"
#include "compute/cuda/paged.cuh"
#include "compute/cuda/rotary.cuh"

#include "compute/cuda/runtime.cuh"

#include <type_traits>

namespace {

enum { STORE_THREADS = 256 };

template <class From, class To>
struct CacheRows {
  To *keys, *values;
  const From *k, *v;
  const int *table, *sequence, *position;
  int64_t k_row, k_head, v_row, v_head;                        /* strides, in elements */
  int64_t block_stride, head_stride, key_stride, table_stride; /* of the cache; of codes, in keys */
  int rows, heads, size, block_size;
};

/* Where the cache holds row n of a key head. */
template <class From, class To>
__device__ __forceinline__ int64_t cache_offset(const CacheRows<From, To> &a, int64_t n, int head) {
  const int at = a.position[n];
  const int64_t block = a.table[a.sequence[n] * a.table_stride + at / a.block_size];
  return block * a.block_stride + head * a.head_stride + at % a.block_size * a.key_stride;
}

template <int N, class To, class From>
__device__ __forceinline__ void copy_floats(To *to, const From *from) {
  float x[N];
  load_floats<N>(x, from, N);
  store_floats<N>(to, x, N);
}

/* A thread for N neighbouring elements of a key and of a value. */
template <class From, class To, int N>
__global__ void __launch_bounds__(STORE_THREADS) cache_store_kernel(CacheRows<From, To> a) {
  const int64_t packs = a.size / N, index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= a.rows * a.heads * packs) return;
  const int d = (int)(index % packs) * N, head = (int)(index / packs % a.heads);
  const int64_t n = index / packs / a.heads, to = cache_offset(a, n, head) + d;
  copy_floats<N>(a.keys + to, a.k + n * a.k_row + head * a.k_head + d);
  copy_floats<N>(a.values + to, a.v + n * a.v_row + head * a.v_head + d);
}

/* The largest of the warp, in every lane. */
__device__ __forceinline__ unsigned warp_most(unsigned x) {
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) x = max(x, __shfl_xor_sync(FULL_MASK, x, step));
  return x;
}

/* By a warp. As bits, magnitudes are in order, and what is not finite is above the others. */
template <class From>
__device__ __forceinline__ void store_codes(int8_t *codes, float *scales, int64_t place, const From *x,
                                            int size) {
  const int lane = (int)threadIdx.x % WARP;
  unsigned most = 0;
  for (int d = lane; d < size; d += WARP) most = max(most, __float_as_uint(to_float(x[d])) & 0x7fffffffu);
  most = warp_most(most);
  const float scale = most < 0x7f800000u ? __fdiv_rn(__uint_as_float(most), 127.0f) : NAN;
  if (lane == 0) scales[place] = scale;
  for (int d = lane; d < size; d += WARP) {
    /* A scale too small for a float's full precision could make a quotient of more than 127. */
    const float code = scale > 0 ? rintf(__fdiv_rn(to_float(x[d]), scale)) : 0.0f;
    codes[place * size + d] = (int8_t)fmaxf(-127.0f, fminf(127.0f, code));
  }
}

/* A warp for a head's keys (blockIdx.y = 0) or values. */
template <class From>
__global__ void __launch_bounds__(STORE_THREADS)
    cache_store_codes_kernel(CacheRows<From, int8_t> a, float *key_scales, float *value_scales) {
  const int64_t index = ((int64_t)blockIdx.x * STORE_THREADS + threadIdx.x) / WARP, n = index / a.heads;
  const int head = (int)(index % a.heads);
  if (n >= a.rows) return; /* the whole warp */
  const int64_t place = cache_offset(a, n, head);
  if (blockIdx.y == 0) {
    store_codes(a.keys, key_scales, place, a.k + n * a.k_row + head * a.k_head, a.size);
  } else {
    store_codes(a.values, value_scales, place, a.v + n * a.v_row + head * a.v_head, a.size);
  }
}

/* N pairs of a head from pair `first`, turned, as the type of the activations rounds them. */
template <class T, int N, bool INTERLEAVED, class To>
__device__ __forceinline__ void rotate_to(To *to, const T *from, int pairs, int first, const float *cosine,
                                          const float *sine) {
  constexpr int STEP =
      INTERLEAVED && N > 1 ? 2 * N : N; /* one pack holds the pairs; a lone pair may be unaligned */
  const int low = INTERLEAVED ? 2 * first : first, high = INTERLEAVED ? low + (N > 1 ? N : 1) : first + pairs;
  float x[2 * N];
  if constexpr (STEP == 2 * N) {
    load_floats<2 * N>(x, from + low, 2 * N);
  } else {
    load_floats<N>(x, from + low, N);
    load_floats<N>(x + N, from + high, N);
  }
  turn<N, INTERLEAVED>(x, cosine + first, sine + first);
#pragma unroll
  for (int i = 0; i < 2 * N; i++) x[i] = to_float(from_float<T>(x[i]));
  if constexpr (STEP == 2 * N) {
    store_floats<2 * N>(to + low, x, 2 * N);
  } else {
    store_floats<N>(to + low, x, N);
    store_floats<N>(to + high, x + N, N);
  }
}

/* A row of threads for a token, or for a part of its work (blockIdx.y of gridDim.y): pairs of queries and keys, then what of the
 * keys is not turned and the values. */
template <class T, class To, int N, bool INTERLEAVED>
__global__ void __launch_bounds__(STORE_THREADS)
    rotary_cache_store_kernel(T *q, Rotary r, CacheRows<T, To> a) {
  SHARED_MEMORY(float, tables);
  float *cosine = tables + (int)threadIdx.y * 2 * r.pairs, *sine = cosine + r.pairs;
  const int64_t n = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
  if (n < a.rows) rotary_tables(r, cosine, sine, n);
  __syncthreads();
  if (n >= a.rows) return;
  const int turned = r.pairs / N, rest = a.size / N - 2 * turned, copied = rest + a.size / N;
  const int turns = (r.heads + a.heads) * turned, step = (int)(gridDim.y * blockDim.x);
  for (int i = (int)(blockIdx.y * blockDim.x + threadIdx.x); i < turns + a.heads * copied; i += step) {
    if (i < turns) {
      const int h = i / turned, first = (i - h * turned) * N, kv = h - r.heads;
      if (kv < 0) {
        T *head = q + n * r.token_stride + h * r.head_stride;
        rotate_to<T, N, INTERLEAVED>(head, head, r.pairs, first, cosine, sine);
      } else {
        rotate_to<T, N, INTERLEAVED>(a.keys + cache_offset(a, n, kv), a.k + n * a.k_row + kv * a.k_head,
                                     r.pairs, first, cosine, sine);
      }
      continue;
    }
    const int h = (i - turns) / copied, part = i - turns - h * copied;
    const int64_t to = cache_offset(a, n, h);
    if (part < rest) {
      const int d = (2 * turned + part) * N;
      copy_floats<N>(a.keys + to + d, a.k + n * a.k_row + h * a.k_head + d);
    } else {
      const int d = (part - rest) * N;
      copy_floats<N>(a.values + to + d, a.v + n * a.v_row + h * a.v_head + d);
    }
  }
}

/* THREADS threads take a head: one of queries or keys is normalised, rounded as it would be on its way through memory, and turned out of
 * shared memory; one of values is copied. Of a token's heads a block takes those from blockIdx.y * GROUPS on. M pairs
 * are turned at a time. */
template <class T, int M, bool INTERLEAVED, int THREADS>
__global__ void __launch_bounds__(STORE_THREADS)
    norm_rotary_cache_store_kernel(Norm<T> query, Norm<T> key, Rotary r, CacheRows<T, T> a) {
  constexpr int N = PACK<T>, GROUPS = STORE_THREADS / THREADS;
  SHARED_MEMORY(float, shared); /* T [GROUPS, size], then the tables */
  const int lane = (int)threadIdx.x % THREADS, group = (int)threadIdx.x / THREADS;
  T *const row = reinterpret_cast<T *>(shared) + group * a.size;
  float *const cosine = reinterpret_cast<float *>(reinterpret_cast<T *>(shared) + GROUPS * a.size);
  float *const sine = cosine + r.pairs;
  const int n = (int)blockIdx.x, heads = r.heads + 2 * a.heads;
  rotary_tables(r, cosine, sine, n);
  __syncthreads();
  for (int first = (int)blockIdx.y * GROUPS; first < heads; first += (int)gridDim.y * GROUPS) {
    const int h = first + group, kv = h - r.heads;
    const bool of_query = kv < 0, live = kv < a.heads; /* else of values, or none: only in the warp's sums */
    const Norm<T> &norm = of_query ? query : key;
    const int from = live ? n * norm.heads + (of_query ? h : kv) : 0;
    float x[1][N], mean, rstd;
    norm_row<T, N, THREADS, 1>(x, &mean, &rstd, norm, row_of(norm.x, norm.heads, from), lane, live);
    if (live && lane * N < a.size) store_floats<N>(row + lane * N, x[0], N);
    __syncwarp();
    if (live) {
      T *const to = of_query ? row_of(query.out, query.heads, from) : a.keys + cache_offset(a, n, kv);
      for (int pair = lane * M; pair < r.pairs; pair += THREADS * M)
        rotate_to<T, M, INTERLEAVED>(to, row, r.pairs, pair, cosine, sine);
      for (int d = 2 * r.pairs + lane * N; d < a.size; d += THREADS * N) copy_floats<N>(to + d, row + d);
    } else if (h < heads) {
      const int head = kv - a.heads;
      T *const to = a.values + cache_offset(a, n, head);
      const T *const v = a.v + n * a.v_row + head * a.v_head;
      for (int d = lane * N; d < a.size; d += THREADS * N) copy_floats<N>(to + d, v + d);
    }
    __syncwarp(); /* the row has been read */
  }
}

/* -- host ----------------------------------------------------------------------------------------------- */

template <class From, class To>
static CacheRows<From, To> cache_rows(PagedCache cache, Tensor k, Tensor v, Tensor sequence,
                                      Tensor position) {
  const Tensor places = cache_places(cache);
  CacheRows<From, To> a = {};
  a.keys = data<To>(cache.keys);
  a.values = data<To>(cache.values);
  a.k = data<const From>(k);
  a.v = data<const From>(v);
  a.table = data<const int>(cache.table);
  a.sequence = data<const int>(sequence);
  a.position = data<const int>(position);
  a.k_row = k.stride[0];
  a.k_head = k.stride[1];
  a.v_row = v.stride[0];
  a.v_head = v.stride[1];
  a.block_stride = places.stride[0];
  a.head_stride = places.stride[1];
  a.key_stride = places.stride[2];
  a.table_stride = cache.table.stride[0];
  a.rows = (int)k.dim[0];
  a.heads = (int)k.dim[1];
  a.size = (int)k.dim[2];
  a.block_size = (int)cache.keys.dim[2];
  return a;
}

/* Whether packs of `count` elements begin at multiples of their size. */
static bool packed_in(Tensor x, int64_t count) {
  bool fits = (uintptr_t)x.data % ((size_t)count * dtype_size(x.dtype)) == 0;
  for (int i = 0; i + 1 < x.rank; i++) fits = fits && x.stride[i] % count == 0;
  return fits && x.dim[x.rank - 1] % count == 0;
}

static bool all_packed(PagedCache cache, Tensor k, Tensor v, int64_t count) {
  return packed_in(k, count) && packed_in(v, count) && packed_in(cache.keys, count) &&
         packed_in(cache.values, count);
}

template <class From, class To, int N>
static void launch_store(Compute *c, const CacheRows<From, To> &a) {
  const int64_t threads = (int64_t)a.rows * a.heads * (a.size / N);
  LAUNCH(c, (cache_store_kernel<From, To, N>), (unsigned)divide_up(threads, STORE_THREADS), STORE_THREADS, 0,
         a);
}

template <class From>
static void launch_codes(Compute *c, PagedCache cache, const CacheRows<From, int8_t> &a) {
  const dim3 grid((unsigned)divide_up((int64_t)a.rows * a.heads * WARP, STORE_THREADS), 2);
  LAUNCH(c, cache_store_codes_kernel<From>, grid, STORE_THREADS, 0, a, data<float>(cache.key_scales),
         data<float>(cache.value_scales));
}

/* As many blocks for a token as there is work for their threads, until every multiprocessor has two. */
template <class T, class To, int N, bool INTERLEAVED>
static void launch_rotary_store(Compute *c, T *q, const Rotary &r, const CacheRows<T, To> &a) {
  const int64_t items = (r.heads + a.heads) * (r.pairs / N) + a.heads * ((2 * a.size - 2 * r.pairs) / N);
  int64_t across = WARP;
  while (across < items && across < STORE_THREADS) across *= 2;
  const int64_t down = STORE_THREADS / across, blocks = divide_up(a.rows, down);
  const int64_t most = divide_up(items, across), wanted = divide_up(2 * c->device->multiprocessors, blocks);
  const size_t shared = (size_t)(down * 2 * r.pairs) * sizeof(float);
  LAUNCH(c, (rotary_cache_store_kernel<T, To, N, INTERLEAVED>),
         dim3((unsigned)blocks, (unsigned)(most < wanted ? most : wanted)),
         dim3((unsigned)across, (unsigned)down), shared, q, r, a);
}

/* Packs of 16 bytes of activations where everything allows them. */
template <class T, class To>
static void rotary_store(Compute *c, T *q, const Rotary &r, const CacheRows<T, To> &a, bool packed,
                         bool interleaved) {
  constexpr int N = PACK<T>;
  if (interleaved) {
    if (packed && r.pairs % (N / 2) == 0) return launch_rotary_store<T, To, N / 2, true>(c, q, r, a);
    return launch_rotary_store<T, To, 1, true>(c, q, r, a);
  }
  if (packed && r.pairs % N == 0) return launch_rotary_store<T, To, N, false>(c, q, r, a);
  return launch_rotary_store<T, To, 1, false>(c, q, r, a);
}

template <class T, int M, bool INTERLEAVED, int THREADS>
static void launch_norm_store(Compute *c, const Norm<T> &query, const Norm<T> &key, const Rotary &r,
                              const CacheRows<T, T> &a) {
  constexpr int GROUPS = STORE_THREADS / THREADS;
  const int64_t most = divide_up(r.heads + 2 * a.heads, GROUPS);
  const int64_t wanted = divide_up(2 * c->device->multiprocessors, a.rows);
  const size_t bytes = (size_t)(GROUPS * a.size) * sizeof(T) + (size_t)(2 * r.pairs) * sizeof(float);
  LAUNCH(c, (norm_rotary_cache_store_kernel<T, M, INTERLEAVED, THREADS>),
         dim3((unsigned)a.rows, (unsigned)(most < wanted ? most : wanted)), STORE_THREADS, bytes, query, key,
         r, a);
}

/* False where a head is more than a warp holds in a pack each, or pairs do not come in packs. */
template <class T>
static bool norm_store(Compute *c, const NormTerms &query, const NormTerms &key, const NormSpec &spec,
                       const Rotary &r, const CacheRows<T, T> &a, bool interleaved) {
  constexpr int N = PACK<T>;
  const RowPlan plan = row_plan(a.size / N);
  const Norm<T> q = norm_of<T>(query, spec), k = norm_of<T>(key, spec);
  const int unit = interleaved ? N / 2 : N;
  if (plan.threads > WARP || plan.packs > 1 || r.pairs % unit != 0 || 2 * r.pairs % N != 0) return false;
  const auto launch = [&](auto threads) {
    constexpr int THREADS = decltype(threads)::value;
    if (interleaved) {
      launch_norm_store<T, N / 2, true, THREADS>(c, q, k, r, a);
    } else {
      launch_norm_store<T, N, false, THREADS>(c, q, k, r, a);
    }
  };
  if (plan.threads == 8) launch(std::integral_constant<int, 8>());
  if (plan.threads == 16) launch(std::integral_constant<int, 16>());
  if (plan.threads == 32) launch(std::integral_constant<int, 32>());
  return true;
}

/* Whether heads are read, kept and written by 16 bytes, and in one type. */
static bool norm_store_fits(PagedCache cache, const NormTerms &query, const NormTerms &key, Tensor v) {
  const int64_t pack = 16 / (int64_t)dtype_size(key.x.dtype);
  return cache.keys.dtype == key.x.dtype && terms_aligned(query) && terms_aligned(key) &&
         packed_in(query.x, pack) && packed_in(query.out, pack) && all_packed(cache, key.x, v, pack);
}

}  // namespace

extern "C" void cuda_cache_store(Compute *c, PagedCache cache, Tensor k, Tensor v, Tensor sequence,
                                 Tensor position) {
  ASSERT(k.dtype == v.dtype);
  if (c->dry) return;
  if (cache.keys.dtype == DTYPE_I8) {
    WITH_TYPE(k.dtype, From,
              launch_codes(c, cache, cache_rows<From, int8_t>(cache, k, v, sequence, position)));
    return;
  }
  enum { WIDE = 4 };
  WITH_TYPE(k.dtype, From, WITH_TYPE(cache.keys.dtype, To, {
              const CacheRows<From, To> a = cache_rows<From, To>(cache, k, v, sequence, position);
              if (all_packed(cache, k, v, WIDE)) {
                launch_store<From, To, WIDE>(c, a);
              } else {
                launch_store<From, To, 1>(c, a);
              }
            }));
}

extern "C" void cuda_rotary_cache_store(Compute *c, PagedCache cache, Tensor q, Tensor k, Tensor v,
                                        Tensor sequence, Tensor position, RotarySpec spec) {
  ASSERT(q.dtype == k.dtype && k.dtype == v.dtype);
  if (c->dry || k.dim[0] == 0) return;
  if (cache.keys.dtype == DTYPE_I8) { /* a scale is of the whole head, once it is turned */
    const Tensor qk[2] = {q, k}, both = tensor_beside(qk, 2);
    cuda_rotary(c, tensor_is_none(both) ? q : both, position, spec, false);
    if (tensor_is_none(both)) cuda_rotary(c, k, position, spec, false);
    cuda_cache_store(c, cache, k, v, sequence, position);
    return;
  }
  const Rotary r = rotary_of(q, position, spec, false);
  WITH_TYPE(k.dtype, T, WITH_TYPE(cache.keys.dtype, To, {
              const CacheRows<T, To> a = cache_rows<T, To>(cache, k, v, sequence, position);
              const bool packed = packed_in(q, PACK<T>) && all_packed(cache, k, v, PACK<T>);
              rotary_store<T, To>(c, data<T>(q), r, a, packed, spec.interleaved);
            }));
}

extern "C" void cuda_norm_rotary_cache_store(Compute *c, PagedCache cache, NormTerms query, NormTerms key,
                                             Tensor v, Tensor sequence, Tensor position, RotarySpec spec,
                                             NormSpec norm) {
  ASSERT(query.x.dtype == key.x.dtype && key.x.dtype == v.dtype);
  ASSERT(tensor_is_none(query.rstd) && tensor_is_none(key.rstd));
  if (c->dry || key.x.dim[0] == 0) return;
  bool done = false;
  if (norm_store_fits(cache, query, key, v)) {
    const Rotary r = rotary_of(query.x, position, spec, false);
    WITH_TYPE(key.x.dtype, T, {
      const CacheRows<T, T> a = cache_rows<T, T>(cache, key.x, v, sequence, position);
      done = norm_store<T>(c, query, key, norm, r, a, spec.interleaved);
    });
  }
  if (done) return;
  cuda_norm_pair(c, query, key, norm);
  cuda_rotary_cache_store(c, cache, query.out, key.out, v, sequence, position, spec);
}
