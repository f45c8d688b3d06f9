/* The linear of rollouts on a card of compute capability 9.0: as linear_rows.cu, but a link of the chain is a product of a warpgroup
 * (m64nNk16), weights as the 64, rows of x as the N. For sm_90a alone.
 *
 * Slices, chains within them and the order of their sums are those of linear_rows.cuh, whatever the tile. An element of such a product is made
 * from its row of the one factor and its column of the other, so that N cannot show: ASSUMED of the card, which compute_invariance
 * asks. Its bits may differ from those of mma.sync; on such a card all linears of BF16 rows by BF16 weights, or by blocks that become
 * BF16, are these, for every number of rows and every alignment.
 *
 * Few rows: four teams of a warpgroup, two slices each, with a ring of their own. Many: one team, slices one after the other, a product
 * under way while the next step is waited for. Both factors come by cp.async to tiles with the swizzle of 128 bytes; what would wait for
 * TMA waits for its own copies, a fence and a barrier of the team.
 *
 * Floor (estimates). Few rows: reading W once; a tile of 32 outputs wastes half of a product, which memory gives time for, and fills the
 * multiprocessors where there are 4096 outputs. Many rows: the second-level cache, (OUTPUTS + ROWS) * 2 bytes an input and block, before
 * the tensor cores; 128 x 128 asks it for 64 bytes a clock at their full rate. */
#include "compute/cuda/linear_rows_bring.cuh"
#include "compute/cuda/linear_rows_tile.cuh"

#include <wgmma.cuh>

namespace {

enum { GROUP = 4 * WARP, GROUP_OUTPUTS = 64, STEP = SLICE_UNIT, LINKS = STEP / 16 };

/* TEAMS teams of GROUPS warpgroups work at a tile of OUTPUTS x ROWS, each with a part of the slices; a warpgroup has 64 outputs, or uses the
 * first 32. */
template <class P>
struct GroupTile {
  static constexpr int OUTPUTS = P::OUTPUTS, ROWS = P::ROWS, TEAMS = P::TEAMS, STAGES = P::STAGES,
                       BLOCKS = P::BLOCKS;
  static constexpr int GROUPS = (OUTPUTS + GROUP_OUTPUTS - 1) / GROUP_OUTPUTS, EACH = OUTPUTS / GROUPS;
  static constexpr int TEAM_THREADS = GROUPS * GROUP, THREADS = TEAM_THREADS * TEAMS;
  static constexpr int W_TILE = GROUP_OUTPUTS * STEP, STAGE = GROUPS * W_TILE + ROWS * STEP; /* elements */
  static constexpr int WIDE = ROWS / 8, COUNT = ROWS / 2; /* fragments of a warp, registers of a sum */
  static constexpr bool SIDE = TEAMS > 1;
  static constexpr int OWN = SLICES / TEAMS;           /* slices of a team */
  static constexpr int UNDER_WAY = SIDE ? 0 : 1;       /* products, while a step is waited for */
  static constexpr int AHEAD = STAGES - 1 - UNDER_WAY; /* steps */
  static constexpr size_t PIPELINE = sizeof(bf16) * STAGE * STAGES * TEAMS;
  static constexpr size_t SUMS = sizeof(float) * (SIDE ? SLICES + 1 : 1) * ROWS * sums_stride<OUTPUTS>();
  static constexpr size_t SHARED = PIPELINE > SUMS ? PIPELINE : SUMS;

  static_assert(EACH == GROUP_OUTPUTS || (EACH == 32 && GROUPS == 1), "whole warps");
  static_assert(!SIDE || (GROUPS == 1 && WIDE <= TEAMS),
                "a warp has no more than one product of the adapter's slice");
  static_assert(ROWS % 8 == 0 && AHEAD >= 1 && SHARED <= 227 * 1024, "fits");
};

/* What a thread brings, of its warpgroup's weights and of its team's rows, and where the ring stands. */
template <class T, bool TRANSPOSED>
struct Ring {
  static constexpr int HEIGHT = TRANSPOSED ? STEP : T::EACH;
  Route<HEIGHT, GROUP_OUTPUTS, GROUP> w;
  Route<T::ROWS, STEP, T::TEAM_THREADS> x;
  bf16 *stages;
  int group, rows, outputs, inputs; /* warpgroup of the team; what is left of the tile, and in all */
  int next, end, into,
      from; /* step to bring, the last one's successor, stage that it goes to, stage to multiply */
};

template <class T, bool TRANSPOSED, bool ALIGNED>
__device__ __forceinline__ void bring_step(Ring<T, TRANSPOSED> *r) {
  if (r->next < r->end) {
    bf16 *stage = r->stages + r->into * T::STAGE;
    const int inputs = r->inputs - r->next * STEP;
    bring<ALIGNED>(&r->w, stage + r->group * T::W_TILE, TRANSPOSED ? inputs : r->outputs,
                   TRANSPOSED ? r->outputs : inputs);
    bring<ALIGNED>(&r->x, stage + T::GROUPS * T::W_TILE, r->rows, inputs);
  }
  copy_async_commit();
  r->next++, r->into = r->into + 1 == T::STAGES ? 0 : r->into + 1;
}

/* sums += the links of steps step .. edge - 1. */
template <class T, bool TRANSPOSED, bool ALIGNED>
__device__ __forceinline__ void multiply_slice(float (&sums)[T::COUNT], Ring<T, TRANSPOSED> *r, int *step,
                                               int edge, int team) {
  for (; *step < edge; ++*step) {
    copy_async_wait<T::AHEAD - 1>();
    fence_proxy_async();
    wgmma_wait<T::UNDER_WAY>();
    meet_team<T::TEAMS, T::TEAM_THREADS>(
        team); /* the step is here, and the stage that is filled now was read */
    bring_step<T, TRANSPOSED, ALIGNED>(r);
    const bf16 *stage = r->stages + r->from * T::STAGE;
    const uint64_t w = wgmma_matrix(stage + r->group * T::W_TILE),
                   x = wgmma_matrix(stage + T::GROUPS * T::W_TILE);
    wgmma_fence(sums);
#pragma unroll
    for (int link = 0; link < LINKS; link++)
      wgmma_bf16<TRANSPOSED>(sums, wgmma_link<TRANSPOSED>(w, link), wgmma_link<false>(x, link));
    wgmma_commit();
    r->from = r->from + 1 == T::STAGES ? 0 : r->from + 1;
  }
  wgmma_wait<0>(sums);
}

template <int COUNT>
__device__ __forceinline__ void clear(float (&sums)[COUNT]) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) sums[i] = 0;
}

/* Of a warp: outputs 16 * high .. of the tile. */
template <class T>
__device__ __forceinline__ void store_sums(float *tile, const float (&sums)[T::COUNT], int high) {
  const int lane = (int)threadIdx.x % WARP;
#pragma unroll
  for (int i = 0; i < T::COUNT; i++) tile[sums_place<T::OUTPUTS>(lane, high, i / 4, i % 4)] = sums[i];
}

template <class T, bool TRANSPOSED, bool ALIGNED>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) linear_rows_wgmma_kernel(const RowsCall call) {
  SHARED_MEMORY_1024(bf16, shared);
  const int64_t row_tiles = (call.rows + T::ROWS - 1) / T::ROWS;
  const int64_t row = (int64_t)blockIdx.x % row_tiles * T::ROWS;
  const int output = (int)(blockIdx.x / row_tiles) * T::OUTPUTS;
  const int team = (int)threadIdx.x / T::TEAM_THREADS, thread = (int)threadIdx.x % T::TEAM_THREADS;
  const int group = thread / GROUP, first = output + group * GROUP_OUTPUTS;
  const int high = thread / WARP; /* the warp's 16 outputs */
  const bool has_outputs = high * 16 < T::OUTPUTS;

  int step = slice_edge(call.inputs, team * T::OWN);
  typedef Ring<T, TRANSPOSED> R;
  R r;
  r.w = route<decltype(R::w), GROUP_OUTPUTS>(
      call.w, call.w_stride, TRANSPOSED ? step * STEP : first, TRANSPOSED ? first : step * STEP,
      TRANSPOSED ? STEP * call.w_stride : (int64_t)STEP, thread % GROUP);
  r.x = route<decltype(R::x), STEP>(call.x, call.x_stride, row, step * STEP, STEP, thread);
  r.stages = shared + team * T::STAGE * T::STAGES;
  r.group = group, r.inputs = call.inputs, r.outputs = call.outputs - first;
  r.rows = (int)min(call.rows - row, (int64_t)T::ROWS);
  r.next = step, r.end = slice_edge(call.inputs, (team + 1) * T::OWN), r.into = r.from = 0;
#pragma unroll 1
  for (int i = 0; i < T::AHEAD; i++) bring_step<T, TRANSPOSED, ALIGNED>(&r);

  float *parts = reinterpret_cast<float *>(shared);
  constexpr int PART = T::ROWS * sums_stride<T::OUTPUTS>();
  float sums[T::SIDE ? T::OWN : 1][T::COUNT];
  if constexpr (T::SIDE) {
    /* An adapter's slice: a product for a warp each, made while the first steps are on their way. */
    const bool adds = call.terms > 0 && team < T::WIDE && has_outputs && output + high * 16 < call.outputs;
    float added[1][1][4];
    if (adds) adapter_slice(added, call, row + team * 8, output + high * 16);
#pragma unroll
    for (int i = 0; i < T::OWN; i++) {
      clear(sums[i]);
      multiply_slice<T, TRANSPOSED, ALIGNED>(sums[i], &r, &step,
                                             slice_edge(call.inputs, team * T::OWN + i + 1), team);
    }
    copy_async_wait<0>();
    __syncthreads(); /* the pipelines have run dry: their memory is free */
    if (has_outputs) {
#pragma unroll
      for (int i = 0; i < T::OWN; i++) store_sums<T>(parts + (team * T::OWN + i) * PART, sums[i], high);
    }
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (adds) parts[SLICES * PART + sums_place<T::OUTPUTS>(thread % WARP, high, team, k)] = added[0][0][k];
  } else {
    float total[T::COUNT];
    clear(total);
#pragma unroll 1
    for (int slice = 0; slice < SLICES; slice++) {
      clear(sums[0]);
      multiply_slice<T, TRANSPOSED, ALIGNED>(sums[0], &r, &step, slice_edge(call.inputs, slice + 1), team);
#pragma unroll
      for (int i = 0; i < T::COUNT; i++) total[i] += sums[0][i];
    }
    if (call.terms > 0 && output + high * 16 < call.outputs) {
      float added[1][T::WIDE][4];
      adapter_slice(added, call, row, output + high * 16);
      const float scale = term_of(call, output + high * 16).scale;
#pragma unroll
      for (int i = 0; i < T::COUNT; i++) total[i] = fmaf(scale, added[0][i / 4][i % 4], total[i]);
    }
    copy_async_wait<0>();
    __syncthreads();
    store_sums<T>(parts, total, high);
  }
  __syncthreads();
  finish_tile<T::SIDE ? SLICES : 1, T::ROWS, T::OUTPUTS, T::THREADS, T::SIDE>(call, parts, row, output);
}

/* -- the choice of a tile -------------------------------------------------------------------------------- */

// clang-format off
struct Group32x8 { enum { OUTPUTS = 32, ROWS = 8, TEAMS = 4, STAGES = 5, BLOCKS = 1 }; };
struct Group32x16 { enum { OUTPUTS = 32, ROWS = 16, TEAMS = 4, STAGES = 5, BLOCKS = 1 }; };
struct Group32x32 { enum { OUTPUTS = 32, ROWS = 32, TEAMS = 4, STAGES = 4, BLOCKS = 1 }; };
struct Group64x8 { enum { OUTPUTS = 64, ROWS = 8, TEAMS = 4, STAGES = 3, BLOCKS = 2 }; };
struct Group64x32 { enum { OUTPUTS = 64, ROWS = 32, TEAMS = 4, STAGES = 4, BLOCKS = 1 }; };
struct Group64x64 { enum { OUTPUTS = 64, ROWS = 64, TEAMS = 1, STAGES = 6, BLOCKS = 2 }; };
struct Group128x128 { enum { OUTPUTS = 128, ROWS = 128, TEAMS = 1, STAGES = 6, BLOCKS = 1 }; };
// clang-format on

template <class T, bool ALIGNED>
static void launch_tile(Compute *c, const RowsCall &call, bool transposed) {
  const int64_t blocks = divide_up(call.outputs, T::OUTPUTS) * divide_up(call.rows, T::ROWS);
  const dim3 grid((unsigned)blocks), block(T::THREADS);
  if constexpr (T::EACH == GROUP_OUTPUTS) {
    if (transposed) {
      LAUNCH(c, (linear_rows_wgmma_kernel<T, true, ALIGNED>), grid, block, T::SHARED, call);
      return;
    }
  }
  ASSERT(!transposed);
  LAUNCH(c, (linear_rows_wgmma_kernel<T, false, ALIGNED>), grid, block, T::SHARED, call);
}

template <class P, bool ALIGNED>
constexpr TileChoice group_tile() {
  typedef GroupTile<P> T;
  return {T::OUTPUTS, T::ROWS,        STEP * T::AHEAD * T::TEAMS,
          T::BLOCKS,  (int)T::SHARED, launch_tile<T, ALIGNED>};
}

/* Of two that are as good the first is taken. */
static const TileChoice tiles[] = {group_tile<Group32x8, true>(),   group_tile<Group32x16, true>(),
                                   group_tile<Group32x32, true>(),  group_tile<Group64x8, true>(),
                                   group_tile<Group64x32, true>(),  group_tile<Group64x64, true>(),
                                   group_tile<Group128x128, true>()};
static const TileChoice unaligned_tiles[] = {group_tile<Group64x32, false>(),
                                             group_tile<Group64x64, false>()};

/* Transposed weights lie in rows of 64 outputs: warpgroups use all of theirs. */
template <int COUNT>
static const TileChoice &choose_tile(const TileChoice (&list)[COUNT], int multiprocessors,
                                     const RowsCall &call, bool transposed) {
  CardRates card = rates_of(90);
  card.products = 2048; /* by wgmma */
  const TileChoice *best = nullptr;
  double least = 0;
  for (const TileChoice &tile : list) {
    if (transposed && tile.outputs % GROUP_OUTPUTS) continue;
    const double time = tile_time(tile, card, multiprocessors, call.rows, call.outputs, call.inputs);
    if (!best || time < least) best = &tile, least = time;
  }
  return *best;
}

}  // namespace

extern "C" RowsTile cuda_linear_rows_wgmma_tile(int multiprocessors, int64_t rows, int64_t outputs,
                                                int64_t inputs) {
  RowsCall call = {};
  call.rows = rows, call.outputs = (int)outputs, call.inputs = (int)inputs;
  const TileChoice &tile = choose_tile(tiles, multiprocessors, call, false);
  return {tile.outputs, tile.rows, resident_blocks(tile, rates_of(90))};
}

bool linear_rows_wgmma_usable(void) {
  return device_has_code(linear_rows_wgmma_kernel<GroupTile<Group64x64>, false, true>);
}

void linear_rows_wgmma(Compute *c, const RowsCall &call, bool transposed, bool pieces) {
  const int multiprocessors = c->device->multiprocessors;
  const TileChoice &tile = pieces ? choose_tile(tiles, multiprocessors, call, transposed)
                                  : choose_tile(unaligned_tiles, multiprocessors, call, transposed);
  tile.launch(c, call, transposed);
}
