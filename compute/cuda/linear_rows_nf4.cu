/* The linear of rollouts by 4-bit weights, few rows: codes become BF16 fragments in registers and are read once. The sum is that of
 * linear_rows.cu (same slices, same links, same order), so that the bits are those for the BF16 matrix of the values.
 *
 * A block has 16 outputs, each of its warps a slice of K; a step is a tile of compute/nf4.h (512 bytes: a lane's 16 are its
 * A fragments of four links), its scales, and 64 inputs of each row of x, by a ring of asynchronous copies.
 *
 * Floor: reading the codes once. Estimates: a lane looks up 32 codes in a table that is there for each bank, 32 reads of
 * shared memory for 512 bytes, which is about what the memory of an H100 delivers and 5 times what that of a 4090 does. x is
 * read once for 16 outputs, from the second-level cache: rows / 8 bytes a weight. A BF16 copy of the weights costs 4.5, from memory
 * where the matrix is larger than that cache. So up to 32 rows are taken, with 4 bytes from the cache and half a byte from memory. */
#include "compute/cuda/linear_rows_nf4.cuh"
#include "compute/cuda/product.cuh"

namespace {

/* Bytes. STAGES - 1 steps are under way: with 8 rows two blocks fit the 99 KiB of the small cards, with 32 one. */
template <int ROWS>
struct Ring {
  static constexpr int STAGES = ROWS <= 16 ? 3 : 2;
  static constexpr int X = NF4_TILE, STAGE = X + ROWS * NF4_BLOCK * (int)sizeof(bf16);
  static constexpr size_t PIPELINE = (size_t)STAGE * STAGES * SLICES;
  static constexpr size_t SUMS = sizeof(float) * (SLICES + 1) * ROWS * sums_stride<NF4_STRIPE>();
  static constexpr size_t SHARED = PIPELINE > SUMS ? PIPELINE : SUMS;
  static_assert(SHARED <= 80 * 1024, "small cards");
};

/* A step of the warp whose 16 outputs are stripe `stripe`. */
template <int ROWS>
__device__ __forceinline__ void bring_step(const RowsCall &call, const Nf4Matrix &m, uint8_t *stage,
                                           int64_t stripe, int64_t row, int step, int lane) {
  typedef Ring<ROWS> R;
  bring_tile(m, stage, stripe * m.blocks + step, lane);
  bf16 *to = reinterpret_cast<bf16 *>(stage + R::X);
  const bf16 *x = (const bf16 *)call.x;
#pragma unroll
  for (int i = 0; i < ROWS * 8 / WARP; i++) {
    const int r = (i * WARP + lane) / 8, piece = lane % 8;
    const bool valid = row + r < call.rows;
    copy_async_16(to + x_place(r, piece),
                  valid ? x + (row + r) * call.x_stride + (int64_t)step * NF4_BLOCK + piece * 8 : x, valid);
  }
}

/* The four links of a step. */
template <int ROWS>
__device__ __forceinline__ void multiply_step(float sums[ROWS / 8][4], const uint8_t *stage,
                                              const Nf4Tables &tables, const float scale[2], int lane) {
  constexpr int WIDE = ROWS / 8;
  const bf16 *x = reinterpret_cast<const bf16 *>(stage + Ring<ROWS>::X);
  const Pack<uint8_t, 16> codes = load_pack<uint8_t, 16>(stage + lane * 16);
  const int low = lane % 8, second = lane / 8 % 2, third = lane / 16;
#pragma unroll
  for (int link = 0; link < NF4_BLOCK / 16; link++) {
    uint32_t w[4], rows[WIDE][2];
    if constexpr (WIDE == 1) {
      load_matrix_x2(rows[0], x + x_place(low, link * 2 + second));
    } else {
#pragma unroll
      for (int j = 0; j < WIDE; j += 2) {
        uint32_t r[4];
        load_matrix_x4(r, x + x_place((j + third) * 8 + low, link * 2 + second));
        rows[j][0] = r[0], rows[j][1] = r[1], rows[j + 1][0] = r[2], rows[j + 1][1] = r[3];
      }
    }
    link_fragment(w, codes, link, tables, scale, lane);
#pragma unroll
    for (int j = 0; j < WIDE; j++) mma_bf16(sums[j], w, rows[j]);
  }
}

template <int ROWS>
__global__ void __launch_bounds__(SLICES *WARP)
    linear_rows_nf4_kernel(const RowsCall call, const Nf4Matrix m) {
  typedef Ring<ROWS> R;
  SHARED_MEMORY(uint8_t, shared);
  __shared__ Nf4Tables tables;
  const int64_t row_tiles = (call.rows + ROWS - 1) / ROWS, row = (int64_t)blockIdx.x % row_tiles * ROWS;
  const int64_t stripe = blockIdx.x / row_tiles;
  const int slice = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP, g = lane / 4;
  uint8_t *pipeline = shared + slice * R::STAGE * R::STAGES;
  int step = slice_edge(call.inputs, slice);
  const int end = slice_edge(call.inputs, slice + 1);
  int next = step, into = 0, from = 0;
  for (int i = 0; i < R::STAGES - 1; i++, next++, into++) {
    if (next < end) bring_step<ROWS>(call, m, pipeline + into * R::STAGE, stripe, row, next, lane);
    copy_async_commit();
  }
  fill_tables<SLICES * WARP>(&tables, m);
  const float mean = m.wide ? 0.0f : *m.mean;
  const int64_t first = (stripe * NF4_STRIPE + g) * m.blocks, second = first + 8 * (int64_t)m.blocks;
  __syncthreads();
  const bool adds =
      call.terms > 0 && slice < ROWS / 8; /* a product of an adapter's slice for each of the first warps */
  float sums[ROWS / 8][4] = {}, added[1][1][4];
  if (adds) adapter_slice(added, call, row + slice * 8, (int)stripe * NF4_STRIPE);
  for (; step < end; step++) {
    const float group[2] = {m.wide ? 0.0f : m.group[(first + step) / NF4_GROUP],
                            m.wide ? 0.0f : m.group[(second + step) / NF4_GROUP]};
    copy_async_wait<R::STAGES - 2>();
    __syncwarp(); /* the step is here for all, and all have done with the stage that is filled now */
    if (next < end) bring_step<ROWS>(call, m, pipeline + into * R::STAGE, stripe, row, next, lane);
    copy_async_commit();
    next++, into = into + 1 == R::STAGES ? 0 : into + 1;
    const uint8_t *stage = pipeline + from * R::STAGE;
    const float scale[2] = {tile_scale(m, stage, tables, mean, group[0], g),
                            tile_scale(m, stage, tables, mean, group[1], g + 8)};
    multiply_step<ROWS>(sums, stage, tables, scale, lane);
    from = from + 1 == R::STAGES ? 0 : from + 1;
  }
  copy_async_wait<0>();
  __syncthreads(); /* the pipelines have run dry: their memory is free */
  constexpr int TILE = ROWS * sums_stride<NF4_STRIPE>();
  float *parts = reinterpret_cast<float *>(shared), *own = parts + slice * TILE;
#pragma unroll
  for (int j = 0; j < ROWS / 8; j++) {
#pragma unroll
    for (int k = 0; k < 4; k++) own[sums_place<NF4_STRIPE>(lane, 0, j, k)] = sums[j][k];
  }
#pragma unroll
  for (int k = 0; k < 4; k++)
    if (adds) parts[SLICES * TILE + sums_place<NF4_STRIPE>(lane, 0, slice, k)] = added[0][0][k];
  __syncthreads();
  finish_tile<SLICES, ROWS, NF4_STRIPE, SLICES * WARP, true>(call, parts, row, (int)stripe * NF4_STRIPE);
}

template <int ROWS>
static void launch_few(Compute *c, const RowsCall &call, const Nf4Matrix &m) {
  static_assert((int)NF4_MAP == SLICES * WARP && (int)NF4_BLOCK == (int)SLICE_UNIT,
                "a thread to a value, a step to a unit");
  const int64_t blocks = call.outputs / NF4_STRIPE * divide_up(call.rows, ROWS);
  LAUNCH(c, (linear_rows_nf4_kernel<ROWS>), dim3((unsigned)blocks), dim3(SLICES * WARP), Ring<ROWS>::SHARED,
         call, m);
}

}  // namespace

bool cuda_linear_rows_nf4(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta,
                          const AdapterTerm *terms, int count) {
  const bool nf4 = w.data.dtype == DTYPE_NF4 || w.data.dtype == DTYPE_NF4_PLAIN;
  if (c->dry || !nf4 || x.dtype != DTYPE_BF16 || x.dim[0] > NF4_FEW_ROWS || !rows_in_pieces(x)) return false;
  if (x.dim[0] == 0) return true;
  const RowsCall call = rows_call(out, x, w, bias, alpha, beta, terms, count);
  const Nf4Matrix m = nf4_matrix(w.data);
  if (c->device->wgmma) {
    linear_rows_nf4_wgmma(c, call, m);
  } else if (call.rows <= 8) {
    launch_few<8>(c, call, m);
  } else if (call.rows <= 16) {
    launch_few<16>(c, call, m);
  } else {
    launch_few<32>(c, call, m);
  }
  return true;
}
