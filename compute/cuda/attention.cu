/* Attention over packed sequences, forward: FlashAttention-2 (Dao 2023, algorithm 1).
 *
 * bf16: a block has a tile of queries, each warp 16*M of them; keys and values pass through a ring of tiles in
 * shared memory (K0, V0, K1, V1, ...), copied asynchronously STAGES-1 ahead; scores, probabilities and the sums
 * stay in registers. The floor is the tensor cores: 4*D FLOPs per pair of a query and a key it sees, that is
 * 2*D*L*(L+1) per head of a sequence of length L. Next come the loads of operands from shared memory: a fragment
 * of K or V serves M products, and a multiprocessor of sm_80 or sm_90 needs M = 2 to keep its tensor cores fed,
 * while those of sm_86, 89 and 120, half as fast, do with M = 1 and rather have more warps to overlap exponentials
 * with products.
 * Registers per thread that have to live through the loop, for D = 128: M = 2: 128 (sums) + 64 (scores), queries
 * come from shared memory each time; M = 1: 64 + 32 + 32 (queries).
 *
 * On a card of compute capability 9.0 most calls have attention_wgmma.cu instead. f32: attention_forward_f32.cuh. */
#include "compute/cuda/attention_forward.cuh"
#include "compute/cuda/attention_forward_f32.cuh"
#include "compute/cuda/attention_tile.cuh"

namespace {

/* SIZE: head sizes up to it. KEYS: of a tile. M: products of 16 queries that a warp has side by side. STAGES: tiles of
 * keys or values in the ring. HELD: the queries' fragments stay in registers. BLOCKS: to fit on a multiprocessor. */
// clang-format off
struct Forward64 { enum { SIZE = 64, KEYS = 64, WARPS = 4, M = 2, STAGES = 2, HELD = true, BLOCKS = 2 }; };
struct Forward80 { enum { SIZE = 80, KEYS = 64, WARPS = 4, M = 2, STAGES = 2, HELD = false, BLOCKS = 2 }; };
struct Forward96 { enum { SIZE = 96, KEYS = 64, WARPS = 4, M = 2, STAGES = 2, HELD = false, BLOCKS = 2 }; };
struct Forward128 { enum { SIZE = 128, KEYS = 64, WARPS = 4, M = 2, STAGES = 2, HELD = false, BLOCKS = 2 }; };
struct Forward128Small { enum { SIZE = 128, KEYS = 64, WARPS = 8, M = 1, STAGES = 3, HELD = true, BLOCKS = 1 }; };
struct Forward256 { enum { SIZE = 256, KEYS = 32, WARPS = 8, M = 1, STAGES = 2, HELD = false, BLOCKS = 1 }; };
// clang-format on

template <class P>
struct ForwardShape {
  enum {
    SIZE = P::SIZE,
    KEYS = P::KEYS,
    WARPS = P::WARPS,
    M = P::M,
    STAGES = P::STAGES,
    HELD = P::HELD,
    BLOCKS = P::BLOCKS,
    THREADS = WARPS * WARP,
    ROWS = 16 * M, /* queries of a warp */
    QUERIES = WARPS * ROWS,
    RING_TILE = KEYS * SIZE,
    SHARED = (QUERIES + STAGES * KEYS) * SIZE * (int)sizeof(bf16)
  };
};

/* -- the ring ------------------------------------------------------------------------------------------- */

struct Ring {
  const bf16 *k, *v; /* of the first key */
  int keys;
};

template <class S>
__device__ __forceinline__ bf16 *ring_slot(bf16 *ring, int chunk) {
  return ring + chunk % S::STAGES * S::RING_TILE;
}

/* Starts the copy of the chunk that comes AHEAD chunks (even: keys, odd: values) after keys `key` ..; always ends a
 * group, so that groups can be counted. */
template <class S, int AHEAD>
__device__ __forceinline__ void ring_load(bf16 *ring, const Ring &r, const ForwardArguments &a, int key) {
  const HeadView<const bf16> &view = AHEAD % 2 ? a.v : a.k;
  const bf16 *from = AHEAD % 2 ? r.v : r.k;
  int first = key + AHEAD / 2 * S::KEYS, rows = r.keys - first;
  if (rows > 0) {
    load_tile<S::KEYS, S::SIZE, S::THREADS>(ring_slot<S>(ring, first / S::KEYS * 2 + AHEAD % 2),
                                            {from + first * view.row, view.row, rows, a.size, view.aligned});
  }
  copy_async_commit();
}

/* The keys from `key` on (or their values: ODD) are there, the chunk before is no longer read; starts the copy of
 * what takes its place. */
template <class S, int ODD>
__device__ __forceinline__ const bf16 *ring_next(bf16 *ring, const Ring &r, const ForwardArguments &a,
                                                 int key) {
  copy_async_wait<S::STAGES - 2>();
  __syncthreads();
  ring_load<S, ODD + S::STAGES - 1>(ring, r, a, key);
  return ring_slot<S>(ring, key / S::KEYS * 2 + ODD);
}

/* -- what a warp does ----------------------------------------------------------------------------------- */

template <class S>
struct ForwardWarp {
  float out[S::M][S::SIZE / 8][4];
  float highest[S::M][2], total[S::M][2]; /* of the rows group and group+8; total: this lane's part */
  uint32_t q[S::HELD ? S::SIZE / 16 : 1][S::M][4];
  LanePlace by_row, by_column;
  const bf16 *queries; /* the warp's rows */
};

/* s = Q K^T */
template <class S>
__device__ __forceinline__ void forward_scores(float (&s)[S::M][S::KEYS / 8][4], ForwardWarp<S> &w,
                                               const bf16 *keys) {
  clear(s);
#pragma unroll
  for (int step = 0; step < S::SIZE / 16; step++) {
    uint32_t(&q)[S::M][4] = w.q[S::HELD ? step : 0];
    if (!S::HELD) load_rows<S::M, S::SIZE>(q, w.queries, w.by_row, 0, step);
#pragma unroll
    for (int n = 0; n < S::KEYS / 16; n++) {
      uint32_t k[4];
      load_matrix_x4(k, fragment<S::SIZE>(keys, w.by_column, 16 * n, step));
      multiply_pair(s, 2 * n, q, k);
    }
  }
}

/* Scores become exponentials, relative to the highest so far. `factor` takes scores to units of log 2. What
 * was summed before is rescaled only when a highest score of the warp has changed: soon it seldom does. */
template <class S>
__device__ __forceinline__ void online_softmax(float (&s)[S::M][S::KEYS / 8][4], ForwardWarp<S> &w,
                                               float factor) {
  float rescale[S::M][2];
  bool changed = false;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float before = w.highest[m][half], highest = before;
#pragma unroll
      for (int n = 0; n < S::KEYS / 8; n++)
        highest = fmaxf(highest, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
      highest = quad_max(highest);
      changed = changed || highest != before;
      rescale[m][half] = exp2_fast((before - highest) * factor);
      float sum = 0, least = -highest * factor;
#pragma unroll
      for (int n = 0; n < S::KEYS / 8; n++) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; e++) {
          s[m][n][e] = exp2_fast(fmaf(s[m][n][e], factor, least));
          sum += s[m][n][e];
        }
      }
      w.highest[m][half] = highest;
      w.total[m][half] = fmaf(w.total[m][half], rescale[m][half], sum);
    }
  }
  if (!__any_sync(FULL_MASK, changed)) return;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int n = 0; n < S::SIZE / 8; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) w.out[m][n][e] *= rescale[m][e / 2];
    }
  }
}

/* out += P V */
template <class S>
__device__ __forceinline__ void forward_values(float (&s)[S::M][S::KEYS / 8][4], ForwardWarp<S> &w,
                                               const bf16 *values) {
#pragma unroll
  for (int step = 0; step < S::KEYS / 16; step++) {
    uint32_t p[S::M][4];
#pragma unroll
    for (int m = 0; m < S::M; m++) pack_operand(p[m], s[m][2 * step], s[m][2 * step + 1]);
#pragma unroll
    for (int n = 0; n < S::SIZE / 16; n++) {
      uint32_t v[4];
      load_matrix_x4_transposed(v, fragment<S::SIZE>(values, w.by_row, 16 * step, n));
      multiply_pair(w.out, 2 * n, p, v);
    }
  }
}

/* `distance`: of the warp's first query from the tile's first key, `key`. */
template <class S, bool RULED>
__device__ __forceinline__ void forward_rule(float (&s)[S::M][S::KEYS / 8][4], ScoreRule rule, int distance,
                                             int key) {
  bool cut = score_cut(distance - S::KEYS + 1, distance + S::ROWS - 1, rule.window);
  if (!RULED && !cut) return;
  int lane = (int)threadIdx.x % WARP;
  distance += lane / 4 - lane % 4 * 2;
  key += lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int n = 0; n < S::KEYS / 8; n++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int d = distance + 16 * m + e / 2 * 8 - 8 * n - e % 2;
        float bend;
        if (RULED) s[m][n][e] = score_apply(rule, s[m][n][e], d, key + 8 * n + e % 2, &bend);
        if (!score_seen(d, rule.window)) s[m][n][e] = -INFINITY;
      }
    }
  }
}

/* Divides by the sums and writes the warp's rows, through the shared memory where its queries were. */
template <class S>
__device__ __forceinline__ void forward_finish(ForwardWarp<S> &w, const ForwardArguments &a,
                                               const TileRows &tile, float factor) {
  int lane = (int)threadIdx.x % WARP, first = tile.first + (int)threadIdx.x / WARP * S::ROWS;
  int count = tile.length - first;
  float inverse[S::M][2];
#pragma unroll
  for (int m = 0; m < S::M; m++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float total = quad_sum(w.total[m][half]);
      int row = 16 * m + 8 * half + lane / 4;
      inverse[m][half] = 1.0f / total;
      if (a.lse && lane % 4 == 0 && row < count) {
        a.lse[(tile.begin + first + row) * a.lse_row + tile.head] =
            (w.highest[m][half] * factor + log2f(total)) * LOG_2;
      }
    }
  }
  bf16 *rows = const_cast<bf16 *>(w.queries);
  __syncwarp();
  put_result(rows, w.out, inverse);
  store_rows<S::ROWS, S::SIZE>(a.out, tile.begin + first, tile.head, count, a.size, rows);
}

/* -- the kernel ----------------------------------------------------------------------------------------- */

template <class S>
__device__ __forceinline__ void forward_start(ForwardWarp<S> &w, const bf16 *queries) {
  w.by_row = place_rows<S::SIZE>();
  w.by_column = place_columns<S::SIZE>();
  w.queries = queries;
  clear(w.out);
#pragma unroll
  for (int m = 0; m < S::M; m++) {
    w.highest[m][0] = w.highest[m][1] = LOWEST;
    w.total[m][0] = w.total[m][1] = 0;
#pragma unroll
    for (int n = 0; n < S::SIZE / 8; n++)
      w.out[m][n][0] = w.out[m][n][1] = w.out[m][n][2] = w.out[m][n][3] = 0;
  }
  if (S::HELD) {
#pragma unroll
    for (int step = 0; step < S::SIZE / 16; step++) {
      load_rows<S::M, S::SIZE>(w.q[S::HELD ? step : 0], queries, w.by_row, 0, step);
    }
  }
}

/* The queries and the first chunks are on their way. */
template <class S>
__device__ __forceinline__ Ring forward_copies(bf16 *queries, bf16 *ring, const ForwardArguments &a,
                                               TileRows tile, int first_key, int last_key) {
  int kv_head = tile.head / a.group;
  load_tile<S::QUERIES, S::SIZE, S::THREADS>(
      queries, {head_row(a.q, tile.begin + tile.first, tile.head), a.q.row, tile.length - tile.first, a.size,
                a.q.aligned});
  Ring r = {head_row(a.k, tile.begin + first_key, kv_head), head_row(a.v, tile.begin + first_key, kv_head),
            last_key - first_key};
  ring_load<S, 0>(ring, r, a, 0);
  if (S::STAGES > 2) ring_load<S, 1>(ring, r, a, 0);
  if (S::STAGES > 3) ring_load<S, 2>(ring, r, a, 0);
  return r;
}

template <class S, bool RULED>
__global__ void __launch_bounds__(S::THREADS, S::BLOCKS) attention_kernel(ForwardArguments a) {
  static_assert(S::STAGES >= 2 && S::STAGES <= 4, "copies to begin with");
  SHARED_MEMORY(bf16, queries);
  __shared__ TileRows kept; /* until the end, where registers are free again */
  bf16 *ring = queries + S::QUERIES * S::SIZE;
  TileRows tile;
  if (!find_tile(&tile, a.packing, S::QUERIES, true)) return;
  if (threadIdx.x == 0) kept = tile;
  int first_key = max(0, tile.first - a.score.window + 1);
  int last_key = min(tile.length, tile.first + S::QUERIES);
  Ring source = forward_copies<S>(queries, ring, a, tile, first_key, last_key);
  copy_async_wait<S::STAGES - 2>();
  __syncthreads();

  ForwardWarp<S> w;
  int warp_row = (int)threadIdx.x / WARP * S::ROWS;
  int from_first = tile.first + warp_row - first_key;
  /* Rows beyond the sequence count as before its first key: to such a warp every tile of keys is hidden. */
  if (from_first >= source.keys) from_first = -S::ROWS;
  forward_start(w, queries + warp_row * S::SIZE);
  ScoreRule rule = score_rule(a.score, score_slope(a.score, tile.head));
  rule.inverse_cap = a.inverse_cap;
  float factor = RULED ? 1.0f : a.score.scale; /* RULED: in the scores already */
  for (int key = 0; key < source.keys; key += S::KEYS) {
    int distance = from_first - key;
    bool hidden = score_hidden(distance - S::KEYS + 1, distance + S::ROWS - 1, a.score.window);
    float s[S::M][S::KEYS / 8][4];
    const bf16 *keys = ring_next<S, 0>(ring, source, a, key);
    if (!hidden) {
      forward_scores<S>(s, w, keys);
      forward_rule<S, RULED>(s, rule, distance, first_key + key);
      online_softmax<S>(s, w, factor);
    }
    const bf16 *values = ring_next<S, 1>(ring, source, a, key);
    if (!hidden) forward_values<S>(s, w, values);
  }
  forward_finish<S>(w, a, kept, factor);
}

template <class S>
static void forward_launch(Compute *c, const ForwardArguments &a, int64_t rows) {
  unsigned blocks = packing_blocks(a.packing, rows, S::QUERIES);
  if (score_is_plain(a.score)) {
    LAUNCH(c, (attention_kernel<S, false>), blocks, S::THREADS, S::SHARED, a);
  } else {
    LAUNCH(c, (attention_kernel<S, true>), blocks, S::THREADS, S::SHARED, a);
  }
}

/* Two blocks of 4 wide warps where shared memory and tensor cores are those of a data centre's card; else one
 * of 8 warps. */
static void forward_128(Compute *c, const ForwardArguments &a, int64_t rows) {
  if (c->device->shared_per_block > 128 * 1024) {
    forward_launch<ForwardShape<Forward128>>(c, a, rows);
  } else {
    forward_launch<ForwardShape<Forward128Small>>(c, a, rows);
  }
}

static void attention_bf16(Compute *c, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, Packing packing,
                           AttentionSpec spec) {
  ForwardArguments a = {.q = head_view<const bf16>(q),
                        .k = head_view<const bf16>(k),
                        .v = head_view<const bf16>(v),
                        .out = head_view<bf16>(out),
                        .lse = data<float>(lse),
                        .lse_row = tensor_is_none(lse) ? 0 : lse.stride[0],
                        .packing = packing,
                        .score = score_spec(spec),
                        .inverse_cap = spec.softcap > 0 ? 1.0f / (spec.softcap * LOG2_E) : 0.0f,
                        .group = (int)(q.dim[1] / k.dim[1]),
                        .size = (int)q.dim[2]};
  int64_t rows = q.dim[0];
  if (c->device->wgmma && attention_wgmma(c, a, rows)) return;
  if (a.size <= 64) {
    forward_launch<ForwardShape<Forward64>>(c, a, rows);
  } else if (a.size <= 80) {
    forward_launch<ForwardShape<Forward80>>(c, a, rows);
  } else if (a.size <= 96) {
    forward_launch<ForwardShape<Forward96>>(c, a, rows);
  } else if (a.size <= 128) {
    forward_128(c, a, rows);
  } else {
    forward_launch<ForwardShape<Forward256>>(c, a, rows);
  }
}

}  // namespace

extern "C" void cuda_attention(Compute *c, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                               Tensor offsets, AttentionSpec spec) {
  attention_check(q, k, v, out);
  if (c->dry) return;
  Packing packing = packing_of(offsets, q);
  if (q.dtype == DTYPE_F32) {
    attention_f32(c, out, lse, q, k, v, packing, spec);
  } else {
    ASSERT(q.dtype == DTYPE_BF16);
    attention_bf16(c, out, lse, q, k, v, packing, spec);
  }
}
