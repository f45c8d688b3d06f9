/* The linear of rollouts by 4-bit weights, few rows, on a card of compute capability 9.0: codes become the first factor's fragments in
 * registers and are read once, as in linear_rows_nf4.cu; the product is that of linear_rows_wgmma.cu (same slices, links and order), so that the
 * bits are those for the BF16 matrix of the values. That a product has the same bits with its first factor from registers and from shared memory is
 * ASSUMED of the card, which compute_blocks asks.
 *
 * A warp has a stripe of 16 outputs, as a tile of compute/nf4.h has: a lane's 16 bytes are its fragments of four links. Four teams of a
 * warpgroup with two slices each; its first STRIPES warps have a stripe, the others multiply zeros. */
#include "compute/cuda/linear_rows_nf4.cuh"
#include "compute/cuda/product.cuh"

#include <wgmma.cuh>

namespace {

enum { TEAMS = 4, GROUP = 4 * WARP, OWN = SLICES / TEAMS, LINKS = NF4_BLOCK / 16 };

/* Bytes. The rows of x of all teams lie first, at multiples of 1024. */
template <int ROWS, int STRIPES>
struct GroupRing {
  static constexpr int STAGES = 4, AHEAD = STAGES - 1, COUNT = ROWS / 2, WIDE = ROWS / 8,
                       OUTPUTS = STRIPES * NF4_STRIPE;
  static constexpr int X = ROWS * NF4_BLOCK * (int)sizeof(bf16), TILE = NF4_TILE;
  static constexpr int TEAM_X = STAGES * X, TEAM_TILES = STAGES * STRIPES * TILE;
  static constexpr size_t PIPELINE = (size_t)(TEAM_X + TEAM_TILES) * TEAMS;
  static constexpr size_t SUMS = sizeof(float) * (SLICES + 1) * ROWS * sums_stride<OUTPUTS>();
  static constexpr size_t SHARED = PIPELINE > SUMS ? PIPELINE : SUMS;
  static_assert(X % 1024 == 0 && WIDE <= TEAMS && SHARED <= 110 * 1024, "two blocks");
};

/* Where a thread stands. */
typedef struct Place {
  uint8_t *stages, *tiles; /* of rows; of codes and scales, of this warp */
  int64_t row, stripe;
  int thread, lane; /* of the team; of the warp */
  bool real;        /* the warp has a stripe */
} Place;

template <int ROWS, int STRIPES>
__device__ __forceinline__ void bring_step(const RowsCall &call, const Nf4Matrix &m, const Place &p, int step,
                                           int stage) {
  typedef GroupRing<ROWS, STRIPES> R;
  if (p.real) bring_tile(m, p.tiles + stage * STRIPES * R::TILE, p.stripe * m.blocks + step, p.lane);
  bf16 *to = reinterpret_cast<bf16 *>(p.stages + stage * R::X);
  const bf16 *x = (const bf16 *)call.x;
#pragma unroll
  for (int i = 0; i < ROWS * 8; i += GROUP) {
    const int r = (i + p.thread) / 8, piece = p.thread % 8;
    if (ROWS * 8 < GROUP && r >= ROWS) break;
    const bool valid = p.row + r < call.rows;
    copy_async_16(to + x_place(r, piece),
                  valid ? x + (p.row + r) * call.x_stride + (int64_t)step * NF4_BLOCK + piece * 8 : x, valid);
  }
}

/* sums += the links of steps step .. edge - 1, the next of which are brought. */
template <int ROWS, int STRIPES>
__device__ __forceinline__ void multiply_slice(float (&sums)[ROWS / 2], uint32_t (&w)[LINKS][4],
                                               const RowsCall &call, const Nf4Matrix &m, const Place &p,
                                               const Nf4Tables &tables, int first, int *step, int edge,
                                               int end, int team) {
  typedef GroupRing<ROWS, STRIPES> R;
  const int64_t low = (p.stripe * NF4_STRIPE + p.lane / 4) * m.blocks, high = low + 8 * (int64_t)m.blocks;
  const float mean = m.wide ? 0.0f : *m.mean;
  for (; *step < edge; ++*step) {
    const bool grouped = p.real && !m.wide;
    const float group[2] = {grouped ? m.group[(low + *step) / NF4_GROUP] : 0.0f,
                            grouped ? m.group[(high + *step) / NF4_GROUP] : 0.0f};
    copy_async_wait<R::AHEAD - 1>();
    fence_proxy_async();
    wgmma_wait<0>(); /* the stage that is filled now was read */
    meet_team<TEAMS, GROUP>(team);
    if (*step + R::AHEAD < end)
      bring_step<ROWS, STRIPES>(call, m, p, *step + R::AHEAD, (*step - first + R::AHEAD) % R::STAGES);
    copy_async_commit();
    const int stage = (*step - first) % R::STAGES;
    const uint8_t *tile = p.tiles + stage * STRIPES * R::TILE;
    const Pack<uint8_t, 16> codes = load_pack<uint8_t, 16>(tile + p.lane * 16);
    const float scale[2] = {p.real ? tile_scale(m, tile, tables, mean, group[0], p.lane / 4) : 0.0f,
                            p.real ? tile_scale(m, tile, tables, mean, group[1], p.lane / 4 + 8) : 0.0f};
#pragma unroll
    for (int link = 0; link < LINKS; link++) link_fragment(w[link], codes, link, tables, scale, p.lane);
    const uint64_t x = wgmma_matrix(p.stages + stage * R::X);
    wgmma_fence(sums, w);
#pragma unroll
    for (int link = 0; link < LINKS; link++)
      wgmma_bf16_registers<false>(sums, w[link], wgmma_link<false>(x, link));
    wgmma_commit();
  }
  wgmma_wait<0>(sums);
}

template <int ROWS, int STRIPES>
__global__ void __launch_bounds__(TEAMS *GROUP, ROWS <= 16 ? 2 : 1)
    linear_rows_nf4_wgmma_kernel(const RowsCall call, const Nf4Matrix m) {
  typedef GroupRing<ROWS, STRIPES> R;
  SHARED_MEMORY_1024(uint8_t, shared);
  __shared__ Nf4Tables tables;
  const int64_t row_tiles = (call.rows + ROWS - 1) / ROWS, row = (int64_t)blockIdx.x % row_tiles * ROWS;
  const int output = (int)(blockIdx.x / row_tiles) * R::OUTPUTS;
  const int team = (int)threadIdx.x / GROUP, high = (int)threadIdx.x % GROUP / WARP;
  Place p;
  p.thread = (int)threadIdx.x % GROUP, p.lane = (int)threadIdx.x % WARP;
  p.stages = shared + team * R::TEAM_X;
  /* Warps beyond the stripes read the first one's codes, and scale them by zero. */
  p.tiles = shared + TEAMS * R::TEAM_X + team * R::TEAM_TILES + (high < STRIPES ? high : 0) * R::TILE;
  p.row = row, p.stripe = output / NF4_STRIPE + high;
  p.real = high < STRIPES && output + high * NF4_STRIPE < call.outputs;
  const int first = slice_edge(call.inputs, team * OWN), end = slice_edge(call.inputs, (team + 1) * OWN);
#pragma unroll 1
  for (int i = 0; i < R::AHEAD; i++) {
    if (first + i < end) bring_step<ROWS, STRIPES>(call, m, p, first + i, i);
    copy_async_commit();
  }
  fill_tables<TEAMS * GROUP>(&tables, m);
  __syncthreads();
  const bool adds = call.terms > 0 && team < R::WIDE && p.real;
  float sums[OWN][R::COUNT], added[1][1][4];
  if (adds) adapter_slice(added, call, row + team * 8, output + high * NF4_STRIPE);
  uint32_t w[LINKS][4];
  int step = first;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
#pragma unroll
    for (int k = 0; k < R::COUNT; k++) sums[i][k] = 0;
    multiply_slice<ROWS, STRIPES>(sums[i], w, call, m, p, tables, first, &step,
                                  slice_edge(call.inputs, team * OWN + i + 1), end, team);
  }
  copy_async_wait<0>();
  __syncthreads(); /* the pipelines have run dry: their memory is free */
  constexpr int PART = ROWS * sums_stride<R::OUTPUTS>();
  float *parts = reinterpret_cast<float *>(shared);
  if (high < STRIPES) {
#pragma unroll
    for (int i = 0; i < OWN; i++) {
#pragma unroll
      for (int k = 0; k < R::COUNT; k++)
        parts[(team * OWN + i) * PART + sums_place<R::OUTPUTS>(p.lane, high, k / 4, k % 4)] = sums[i][k];
    }
  }
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (adds) parts[SLICES * PART + sums_place<R::OUTPUTS>(p.lane, high, team, k)] = added[0][0][k];
  __syncthreads();
  finish_tile<SLICES, ROWS, R::OUTPUTS, TEAMS * GROUP, true>(call, parts, row, output);
}

template <int ROWS, int STRIPES>
static void launch(Compute *c, const RowsCall &call, const Nf4Matrix &m) {
  typedef GroupRing<ROWS, STRIPES> R;
  const int64_t blocks = divide_up(call.outputs, R::OUTPUTS) * divide_up(call.rows, ROWS);
  LAUNCH(c, (linear_rows_nf4_wgmma_kernel<ROWS, STRIPES>), dim3((unsigned)blocks), dim3(TEAMS * GROUP),
         R::SHARED, call, m);
}

/* Half of a product is used where all of it would leave multiprocessors idle. */
template <int ROWS>
static void launch_rows(Compute *c, const RowsCall &call, const Nf4Matrix &m) {
  if (divide_up(call.outputs, 4 * NF4_STRIPE) >= c->device->multiprocessors) {
    launch<ROWS, 4>(c, call, m);
  } else {
    launch<ROWS, 2>(c, call, m);
  }
}

}  // namespace

void linear_rows_nf4_wgmma(Compute *c, const RowsCall &call, const Nf4Matrix &m) {
  if (call.rows <= 8) {
    launch_rows<8>(c, call, m);
  } else if (call.rows <= 16) {
    launch_rows<16>(c, call, m);
  } else {
    launch_rows<32>(c, call, m);
  }
}
