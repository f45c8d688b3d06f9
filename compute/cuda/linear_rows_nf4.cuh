/* What the kernels of the linear of rollouts by 4-bit weights share: tiles of compute/nf4.h in shared memory, and how their codes become
 * fragments. */
#ifndef COMPUTE_CUDA_LINEAR_ROWS_NF4_CUH
#define COMPUTE_CUDA_LINEAR_ROWS_NF4_CUH

#include "compute/cuda/blocks.cuh"
#include "compute/cuda/linear_rows.cuh"

/* Bytes of a tile's codes, and the most of its scales, behind them. */
enum { NF4_TILE_CODES = WARP * 16, NF4_TILE_SCALES = NF4_STRIPE * (int)sizeof(float) };
enum { NF4_TILE = NF4_TILE_CODES + NF4_TILE_SCALES };

/* The values of the codes, there for each bank, and those of scales. */
typedef struct Nf4Tables {
  float table[NF4_CODES * WARP], map[NF4_MAP];
} Nf4Tables;

/* By THREADS threads, which meet before they read it. */
template <int THREADS>
__device__ __forceinline__ void fill_tables(Nf4Tables *t, const Nf4Matrix &m) {
  const int slice = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
#pragma unroll
  for (int code = 0; code < NF4_CODES; code++) /* unrolled: or arguments lie in local memory */
    if (code % (THREADS / WARP) == slice) t->table[code * WARP + lane] = m.table[code];
  if (!m.wide && threadIdx.x < NF4_MAP) t->map[threadIdx.x] = m.map[threadIdx.x];
}

/* Where piece `piece` (8 elements) of a row of x lies: pieces of one number of eight rows in different banks. */
__device__ __forceinline__ int x_place(int row, int piece) {
  return row * NF4_BLOCK + (piece ^ row % 8) * 8;
}

/* A tile of a matrix on its way, by a warp. */
__device__ __forceinline__ void bring_tile(const Nf4Matrix &m, uint8_t *to, int64_t tile, int lane) {
  copy_async_16(to + lane * 16, m.codes + tile * NF4_TILE_CODES + lane * 16, true);
  const int bytes = m.wide ? (int)NF4_TILE_SCALES : (int)NF4_STRIPE;
  if (lane * 16 < bytes)
    copy_async_16(to + NF4_TILE_CODES + lane * 16, m.scales + tile * bytes + lane * 16, true);
}

/* The scale of row r of a tile; `group` is that of its block. */
__device__ __forceinline__ float tile_scale(const Nf4Matrix &m, const uint8_t *tile, const Nf4Tables &t,
                                            float mean, float group, int r) {
  const uint8_t *scales = tile + NF4_TILE_CODES;
  if (m.wide) return reinterpret_cast<const float *>(scales)[r];
  return __fadd_rn(__fmul_rn(t.map[scales[r]], group), mean);
}

/* A lane's fragment of the weights of a link, from its 16 bytes of the tile; scale: of rows lane / 4 and 8 further. */
__device__ __forceinline__ void link_fragment(uint32_t (&w)[4], const Pack<uint8_t, 16> &codes, int link,
                                              const Nf4Tables &t, const float scale[2], int lane) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int pair = codes.at[link * 4 + i];
    w[i] = pack_bf16(__fmul_rn(t.table[(pair & 15) * WARP + lane], scale[i % 2]),
                     __fmul_rn(t.table[(pair >> 4) * WARP + lane], scale[i % 2]));
  }
}

/* The kernels of linear_rows_nf4_wgmma.cu: of up to NF4_FEW_ROWS rows, on a card of which Device.wgmma is true. */
void linear_rows_nf4_wgmma(Compute *c, const RowsCall &call, const Nf4Matrix &m);

#endif
