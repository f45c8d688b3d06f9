/* Attention over packed sequences, forward, BF16, on a card of compute capability 9.0: by products of warpgroups, with the pipeline
 * within a warpgroup of FlashAttention-3 (Shah et al. 2024, arXiv 2407.08608, algorithm 2). For sm_90a alone; every other card, and what has
 * no tile here, has attention.cu, whose numbers these are but for the order of sums.
 *
 * A block has a tile of queries of one head, each warpgroup 64 of them. Step j of a warpgroup:
 *   S = Q K^T of tile j of keys is issued, then O += P V of tile j - 1; S is waited for, and while the tensor cores still sum P V, the
 *   scores in S become exponentials; then O is waited for and rescaled, and S becomes P: what a lane holds of 16 columns of a sum is its
 *   fragment of the next product's first factor.
 * Q, K and V lie in shared memory in panels of 64 columns with the swizzle of 128 bytes. K is read along its rows, V across them (a
 * transposed factor), so that it comes as it is. A barrier of the block begins a step: tile j of keys and tile j - 1 of values, brought
 * since the step before, are there, and tiles j - 1 of keys and j - 2 of values are free for j + 1 and j.
 *
 * By cp.async of all threads and not by TMA: rows are strided views, sequences begin anywhere, and a descriptor of each tensor would have to
 * be made on the host for each call. It costs 2 * SIZE * KEYS / 8 / THREADS copies of a thread and step (16 of D 128), with addresses some
 * 10% of what is issued beside the products, and there is no warp that runs ahead.
 *
 * Floor (estimates, for an H100). Tensor cores: 4 * D FLOPs for a pair of a query and a key it sees, 4096 a clock and multiprocessor. Exponentials: 16 a
 * clock, so half of that time with D 128, as long with D 64. The second-level cache: 4 * D bytes a key for QUERIES queries, of which it delivers
 * some 24 a clock: with D 128 three quarters of the tensor cores' rate. The paper has 661 TFLOP/s of 989 without a mask (8k, D 128, TMA and a
 * producer), 570 without the producer; expected here are 450 to 540, and with the causal mask 300 to 380 at 2k and 400 to 480 at 8k.
 *
 * Registers of a thread that live through the loop, with D 128: 64 (O) + 64 (S) + 32 (P). */
#include "compute/cuda/attention_forward.cuh"
#include "compute/cuda/attention_tile.cuh"

#include <wgmma.cuh>

namespace {

enum { GROUP = 4 * WARP, GROUP_QUERIES = 64, PANEL = 64 };

/* SIZE: head sizes up to it. GROUPS: warpgroups of a block. KEYS: of a tile. */
// clang-format off
struct Group64 { enum { SIZE = 64, GROUPS = 3, KEYS = 128 }; };
struct Group128 { enum { SIZE = 128, GROUPS = 2, KEYS = 128 }; };
struct Group256 { enum { SIZE = 256, GROUPS = 2, KEYS = 64 }; };
// clang-format on

template <class P>
struct GroupShape {
  enum {
    SIZE = P::SIZE,
    KEYS = P::KEYS,
    THREADS = P::GROUPS * GROUP,
    QUERIES = P::GROUPS * GROUP_QUERIES,
    PANELS = SIZE / PANEL,
    PART = SIZE < 128 ? SIZE : 128, /* columns of a product of values */
    PARTS = SIZE / PART,
    LINKS = KEYS / 16,
    TILE = KEYS * SIZE,
    SHARED = (QUERIES * SIZE + 4 * TILE) * (int)sizeof(bf16)
  };
  static_assert(SHARED <= 226 * 1024, "with what is static");
};

/* -- tiles ------------------------------------------------------------------------------------------------ */

/* Row 0 of the first tile, of keys and of values; two places for each in shared memory. */
template <class S>
struct Tiles {
  const bf16 *k, *v;
  bf16 *keys, *values;
  int count, rows; /* tiles; rows of all */
};

template <class S, int ROWS>
__device__ __forceinline__ void bring(bf16 *to, const HeadView<const bf16> &view, const bf16 *from, int rows,
                                      int size) {
#pragma unroll
  for (int p = 0; p < S::PANELS; p++)
    load_tile<ROWS, PANEL, S::THREADS>(to + p * ROWS * PANEL,
                                       {from + p * PANEL, view.row, rows, size - p * PANEL, true});
}

template <class S>
__device__ __forceinline__ bf16 *place_of(bf16 *ring, int tile) {
  return ring + tile % 2 * S::TILE;
}

template <class S>
__device__ __forceinline__ void bring_keys(const Tiles<S> &t, const ForwardArguments &a, int tile) {
  const int first = tile * S::KEYS;
  if (tile < t.count)
    bring<S, S::KEYS>(place_of<S>(t.keys, tile), a.k, t.k + first * a.k.row, t.rows - first, a.size);
}
template <class S>
__device__ __forceinline__ void bring_values(const Tiles<S> &t, const ForwardArguments &a, int tile) {
  const int first = tile * S::KEYS;
  if (tile < t.count)
    bring<S, S::KEYS>(place_of<S>(t.values, tile), a.v, t.v + first * a.v.row, t.rows - first, a.size);
}

/* Step j begins, for all warpgroups, wherever in the kernel they are: from here on its tiles are there, and those that it needs no longer are
 * replaced. */
template <class S>
__device__ __forceinline__ void begin_step(const Tiles<S> &t, const ForwardArguments &a, int j) {
  copy_async_wait<0>();
  fence_proxy_async();
  meet_threads<1, S::THREADS>();
  bring_keys<S>(t, a, j + 1);
  bring_values<S>(t, a, j);
  copy_async_commit();
}

/* -- what a warpgroup does ---------------------------------------------------------------------------------- */

template <class S>
struct Group {
  float s[S::KEYS / 2];
  float o[S::PARTS][S::PART / 2];
  uint32_t p[S::LINKS][4];
  float highest[2], total[2]; /* of the lane's two rows; total: this lane's part */
};

/* s = Q K^T is under way after this; `queries`: the warpgroup's. */
template <class S>
__device__ __forceinline__ void issue_scores(Group<S> &w, const bf16 *queries, const bf16 *keys) {
  wgmma_fence(w.s);
#pragma unroll
  for (int p = 0; p < S::PANELS; p++) {
    const uint64_t q = wgmma_matrix(queries + p * S::QUERIES * PANEL),
                   k = wgmma_matrix(keys + p * S::KEYS * PANEL);
#pragma unroll
    for (int link = 0; link < PANEL / 16; link++)
      wgmma_bf16<false>(w.s, wgmma_link<false>(q, link), wgmma_link<false>(k, link), p + link > 0);
  }
  wgmma_commit();
}

/* o += P V is under way after this. */
template <class S>
__device__ __forceinline__ void issue_values(Group<S> &w, const bf16 *values) {
#pragma unroll
  for (int part = 0; part < S::PARTS; part++) wgmma_fence(w.o[part], w.p);
#pragma unroll
  for (int part = 0; part < S::PARTS; part++) {
    const uint64_t v = wgmma_matrix(values + part * S::PART * S::KEYS, S::KEYS * (PANEL * sizeof(bf16)));
#pragma unroll
    for (int link = 0; link < S::LINKS; link++)
      wgmma_bf16_registers<true>(w.o[part], w.p[link], wgmma_link<true>(v, link));
  }
  wgmma_commit();
}
template <class S>
__device__ __forceinline__ void wait_values(Group<S> &w) {
#pragma unroll
  for (int part = 0; part < S::PARTS; part++) wgmma_wait<0>(w.o[part]);
}

/* `distance`: of the warp's first query from the tile's first key, `key`. */
template <class S, bool RULED>
__device__ __forceinline__ void apply_rule(Group<S> &w, const ScoreRule &rule, int distance, int key) {
  if (!RULED && !score_cut(distance - S::KEYS + 1, distance + 15, rule.window)) return;
  const int lane = (int)threadIdx.x % WARP;
  distance += lane / 4 - lane % 4 * 2;
  key += lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < S::KEYS / 2; i++) {
    const int column = i / 4 * 8 + i % 2, d = distance + i / 2 % 2 * 8 - column;
    float bend;
    if (RULED) w.s[i] = score_apply(rule, w.s[i], d, key + column, &bend);
    if (!score_seen(d, rule.window)) w.s[i] = -INFINITY;
  }
}

/* Scores become exponentials, relative to the highest so far. `factor` takes scores to units of log 2; `rescale`: by which the sums of
 * the tiles before are to be multiplied. Whether that is anything but 1 in the warp. */
template <class S>
__device__ __forceinline__ bool exponentials(Group<S> &w, float (&rescale)[2], float factor) {
  bool changed = false;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float before = w.highest[half];
    float highest = before;
#pragma unroll
    for (int i = 2 * half; i < S::KEYS / 2; i += 4) highest = fmaxf(highest, fmaxf(w.s[i], w.s[i + 1]));
    highest = quad_max(highest);
    changed = changed || highest != before;
    rescale[half] = exp2_fast((before - highest) * factor);
    float sum = 0;
    const float least = -highest * factor;
#pragma unroll
    for (int i = 2 * half; i < S::KEYS / 2; i += 4) {
#pragma unroll
      for (int e = i; e < i + 2; e++) {
        w.s[e] = exp2_fast(fmaf(w.s[e], factor, least));
        sum += w.s[e];
      }
    }
    w.highest[half] = highest;
    w.total[half] = fmaf(w.total[half], rescale[half], sum);
  }
  return __any_sync(FULL_MASK, changed);
}

template <class S>
__device__ __forceinline__ void rescale_values(Group<S> &w, const float (&rescale)[2]) {
#pragma unroll
  for (int part = 0; part < S::PARTS; part++) {
#pragma unroll
    for (int i = 0; i < S::PART / 2; i++) w.o[part][i] *= rescale[i / 2 % 2];
  }
}

/* Exponentials become the first factor of the next product. */
template <class S>
__device__ __forceinline__ void pack_probabilities(Group<S> &w) {
#pragma unroll
  for (int link = 0; link < S::LINKS; link++) {
#pragma unroll
    for (int i = 0; i < 4; i++) w.p[link][i] = pack_bf16(w.s[8 * link + 2 * i], w.s[8 * link + 2 * i + 1]);
  }
}

/* Divides by the sums and writes the warp's rows, through the shared memory where its queries were: the step of its last values has begun, so that
 * all have done with those. */
template <class S>
__device__ __forceinline__ void finish(Group<S> &w, const ForwardArguments &a, const TileRows &tile,
                                       bf16 *queries, float factor) {
  const int lane = (int)threadIdx.x % WARP, warp_row = (int)threadIdx.x / WARP * 16;
  const int first = tile.first + warp_row, count = tile.length - first;
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float total = quad_sum(w.total[half]);
    const int row = 8 * half + lane / 4;
    inverse[half] = 1.0f / total;
    if (a.lse && lane % 4 == 0 && row < count)
      a.lse[(tile.begin + first + row) * a.lse_row + tile.head] =
          (w.highest[half] * factor + log2f(total)) * LOG_2;
  }
#pragma unroll
  for (int p = 0; p < S::PANELS; p++) {
    bf16 *rows = queries + (p * S::QUERIES + warp_row) * PANEL;
#pragma unroll
    for (int i = 0; i < PANEL / 2; i += 2) {
      const int half = i / 2 % 2, at = p * PANEL % S::PART / 2 + i;
      const float(&o)[S::PART / 2] = w.o[p * PANEL / S::PART];
      *reinterpret_cast<uint32_t *>(rows + piece_offset<PANEL>(8 * half + lane / 4, i / 4) + lane % 4 * 2) =
          pack_bf16(o[at] * inverse[half], o[at + 1] * inverse[half]);
    }
    HeadView<bf16> out = a.out;
    out.data += p * PANEL;
    store_rows<16, PANEL>(out, tile.begin + first, tile.head, count, a.size - p * PANEL, rows);
  }
}

/* -- the kernel --------------------------------------------------------------------------------------------- */

template <class S, bool RULED>
__global__ void __launch_bounds__(S::THREADS, 1) attention_wgmma_kernel(const ForwardArguments a) {
  SHARED_MEMORY_1024(bf16, queries);
  __shared__ TileRows kept; /* until the end, where registers are free again */
  TileRows tile;
  if (!find_tile(&tile, a.packing, S::QUERIES, true)) return;
  if (threadIdx.x == 0) kept = tile;
  const int first_key = max(0, tile.first - a.score.window + 1);
  const int kv_head = tile.head / a.group;
  Tiles<S> t;
  t.k = head_row(a.k, tile.begin + first_key, kv_head), t.v = head_row(a.v, tile.begin + first_key, kv_head);
  t.keys = queries + S::QUERIES * S::SIZE, t.values = t.keys + 2 * S::TILE;
  t.rows = min(tile.length, tile.first + S::QUERIES) - first_key;
  t.count = (t.rows + S::KEYS - 1) / S::KEYS;
  bring<S, S::QUERIES>(queries, a.q, head_row(a.q, tile.begin + tile.first, tile.head),
                       tile.length - tile.first, a.size);
  bring_keys<S>(t, a, 0);
  copy_async_commit();

  const int group = (int)threadIdx.x / GROUP, from_first = tile.first + group * GROUP_QUERIES - first_key;
  /* The warpgroup sees something of tiles begin .. end - 1; of none, where all of its rows are beyond the sequence. */
  const bool has_rows = tile.first + group * GROUP_QUERIES < tile.length;
  const int begin = has_rows ? max(0, from_first - a.score.window + 1) / S::KEYS : t.count;
  const int end = has_rows ? min(t.count, (from_first + GROUP_QUERIES - 1) / S::KEYS + 1) : t.count;
  const int distance =
      from_first + (int)threadIdx.x % GROUP / WARP * 16; /* of the warp, from the first key */
  const bf16 *own = queries + group * GROUP_QUERIES * PANEL;
  ScoreRule rule = score_rule(a.score, score_slope(a.score, tile.head));
  rule.inverse_cap = a.inverse_cap;
  const float factor = RULED ? 1.0f : a.score.scale; /* RULED: in the scores already */

  int j = 0;
#pragma unroll 1
  for (; j < begin; j++) begin_step<S>(t, a, j);
  if (begin < end) {
    Group<S> w = {};
    w.highest[0] = w.highest[1] = LOWEST;
    float rescale[2];
    begin_step<S>(t, a, j);
    issue_scores<S>(w, own, place_of<S>(t.keys, j));
    wgmma_wait<0>(w.s);
    apply_rule<S, RULED>(w, rule, distance - j * S::KEYS, first_key + j * S::KEYS);
    exponentials<S>(w, rescale, factor);
    pack_probabilities<S>(w);
#pragma unroll 1
    for (j++; j < end; j++) {
      begin_step<S>(t, a, j);
      issue_scores<S>(w, own, place_of<S>(t.keys, j));
      issue_values<S>(w, place_of<S>(t.values, j - 1));
      wgmma_wait<1>(w.s);
      apply_rule<S, RULED>(w, rule, distance - j * S::KEYS, first_key + j * S::KEYS);
      const bool changed = exponentials<S>(w, rescale, factor);
      wait_values<S>(w);
      if (changed) rescale_values<S>(w, rescale);
      pack_probabilities<S>(w);
    }
    begin_step<S>(t, a, j);
    issue_values<S>(w, place_of<S>(t.values, j - 1));
    wait_values<S>(w);
    finish<S>(w, a, kept, queries, factor);
    j++;
  }
#pragma unroll 1
  for (; j <= t.count; j++) begin_step<S>(t, a, j); /* for the other warpgroups */
}

template <class P>
static void launch(Compute *c, const ForwardArguments &a, int64_t rows) {
  typedef GroupShape<P> S;
  const unsigned blocks = packing_blocks(a.packing, rows, S::QUERIES);
  if (score_is_plain(a.score)) {
    LAUNCH(c, (attention_wgmma_kernel<S, false>), blocks, S::THREADS, S::SHARED, a);
  } else {
    LAUNCH(c, (attention_wgmma_kernel<S, true>), blocks, S::THREADS, S::SHARED, a);
  }
}

}  // namespace

bool attention_wgmma(Compute *c, const ForwardArguments &a, int64_t rows) {
  if (!a.q.aligned || !a.k.aligned || !a.v.aligned) return false;
  if (a.size <= 64) {
    launch<Group64>(c, a, rows);
  } else if (a.size <= 96) {
    return false; /* zeros up to 128 would take what it gains */
  } else if (a.size <= 128) {
    launch<Group128>(c, a, rows);
  } else {
    launch<Group256>(c, a, rows);
  }
  return true;
}
