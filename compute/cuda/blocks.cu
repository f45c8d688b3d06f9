/* Weights of block dtypes become BF16 matrices, for products of many rows. The floor is their bytes: half a byte or one is read and
 * two are written for each weight. */
#include "compute/cuda/blocks.cuh"

#include "compute/cuda/pointwise.cuh"

#include "compute/q8.h"

Nf4Matrix nf4_matrix(Tensor w) {
  const Nf4Parts at = nf4_parts(w.dtype, w.dim[0], w.dim[1]);
  const uint8_t *data = (const uint8_t *)w.data;
  Nf4Matrix m = {};
  m.codes = data, m.scales = data + at.scales;
  m.wide = w.dtype == DTYPE_NF4_PLAIN ? (const float *)(data + at.scales) : NULL;
  m.group = (const float *)(data + at.group), m.map = (const float *)(data + at.map);
  m.mean = (const float *)(data + at.mean);
  for (int i = 0; i < NF4_CODES; i++) m.table[i] = nf4_table[i];
  m.blocks = (int)(w.dim[1] / NF4_BLOCK);
  m.tiles = w.dim[0] / NF4_STRIPE * m.blocks;
  return m;
}

namespace {

/* -- 4 bits --------------------------------------------------------------------------------------------- */

/* Of row r of a tile. */
__device__ __forceinline__ float nf4_scale(const Nf4Matrix &m, int64_t tile, int r) {
  const int64_t place = tile * NF4_STRIPE + r;
  if (m.wide) return m.wide[place];
  const int64_t block = (tile / m.blocks * NF4_STRIPE + r) * m.blocks + tile % m.blocks;
  return __fadd_rn(__fmul_rn(m.map[m.scales[place]], m.group[block / NF4_GROUP]), *m.mean);
}

enum {
  NF4_WARPS = 4,
  TILE_STRIDE = NF4_BLOCK + 8 /* so that the rows of a fragment lie in different banks */
};

/* A warp takes a tile: each lane the 16 bytes of its fragments, by way of shared memory, from which whole rows of 128 bytes are
 * written. */
__global__ void __launch_bounds__(NF4_WARPS *WARP) nf4_kernel(bf16 *out, Nf4Matrix m) {
  __shared__ float table[NF4_CODES];
  __shared__ __align__(16) bf16 values[NF4_WARPS][NF4_STRIPE * TILE_STRIDE];
  const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP, g = lane / 4, c = lane % 4;
  const int64_t tile = (int64_t)blockIdx.x * NF4_WARPS + warp;
#pragma unroll
  for (int code = 0; code < NF4_CODES; code++) /* unrolled: or arguments lie in local memory */
    if ((int)threadIdx.x == code) table[code] = m.table[code];
  __syncthreads();
  if (tile >= m.tiles) return;
  bf16 *own = values[warp];
  const Pack<uint8_t, 16> codes = load_pack<uint8_t, 16>(m.codes + tile * (WARP * 16) + lane * 16);
  const float scale[2] = {nf4_scale(m, tile, g), nf4_scale(m, tile, g + 8)};
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int half = i % 2, row = g + 8 * half, column = i / 4 * 16 + 2 * c + i % 4 / 2 * 8;
    Pack<bf16, 2> pair;
    pair.at[0] = from_float<bf16>(__fmul_rn(table[codes.at[i] & 15], scale[half]));
    pair.at[1] = from_float<bf16>(__fmul_rn(table[codes.at[i] >> 4], scale[half]));
    store_pack<bf16, 2>(own + row * TILE_STRIDE + column, pair);
  }
  __syncwarp();
  bf16 *to = out + tile / m.blocks * NF4_STRIPE * m.blocks * NF4_BLOCK + tile % m.blocks * NF4_BLOCK;
#pragma unroll
  for (int i = 0; i < NF4_STRIPE * NF4_BLOCK / 8 / WARP; i++) {
    const int pack = i * WARP + lane, row = pack / (NF4_BLOCK / 8), column = pack % (NF4_BLOCK / 8) * 8;
    store_pack<bf16, 8>(to + (int64_t)row * m.blocks * NF4_BLOCK + column,
                        load_pack<bf16, 8>(own + row * TILE_STRIDE + column));
  }
}

/* -- 8 bits --------------------------------------------------------------------------------------------- */

struct Widen {
  Rows<bf16> out;
  Rows<const int8_t> codes;
  Rows<const float> scales;
};

template <int N>
__device__ __forceinline__ void apply(const Widen &op, int64_t row, int64_t column, int count) {
  const float scale = row_of(op.scales, row)[column / Q8_BLOCK];
  for (int i = 0; i < count; i++)
    row_of(op.out, row)[column + i] = from_float<bf16>(q8_value(row_of(op.codes, row)[column + i], scale));
}

}  // namespace

Weight cuda_plain_weight(Compute *c, Weight w) {
  if (!dtype_is_blocks(w.data.dtype)) return w;
  ASSERT(!w.transposed);
  const int64_t outputs = w.data.dim[0], inputs = w.data.dim[1];
  const Tensor out = tensor_2d(scratch_new<bf16>(c, outputs * inputs), DTYPE_BF16, outputs, inputs);
  if (!c->dry && w.data.dtype == DTYPE_Q8) {
    const int8_t *codes = (const int8_t *)w.data.data;
    const float *scales = (const float *)((const char *)w.data.data + q8_scales_at(outputs, inputs));
    walk_launch<8>(c, Walk{outputs, inputs, true},
                   Widen{rows_of<bf16>(out), {codes, inputs}, {scales, inputs / Q8_BLOCK}});
  } else if (!c->dry) {
    const Nf4Matrix m = nf4_matrix(w.data);
    LAUNCH(c, nf4_kernel, (unsigned)divide_up(m.tiles, NF4_WARPS), NF4_WARPS * WARP, 0, data<bf16>(out), m);
  }
  Weight values = {};
  values.data = out;
  return values;
}
