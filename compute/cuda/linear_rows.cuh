/* What the kernels of the linear of rollouts share: the call, the slices of K, the end of every sum.
 *
 * The value of an output is defined alike for all kernels of one kind, whichever tile it falls into: the inputs
 * are cut into SLICES slices by their number alone; within a slice there is one chain of sums in the order of
 * the inputs; then ((0 + slice 0) + slice 1) + ... Where the slices are worked on - side by side in several warps
 * of a block when there are few rows, one after the other in one warp when there are many - does not show. An adapter is one
 * slice more of the BF16 kernels, times its scale: a chain of links over the rank, zeros up to a whole link. */
#ifndef COMPUTE_CUDA_LINEAR_ROWS_CUH
#define COMPUTE_CUDA_LINEAR_ROWS_CUH

#include "compute/cuda/kernel.cuh"

#include <ptx.cuh>

/* SLICE_UNIT inputs are never divided between slices. */
enum { SLICES = 8, SLICE_UNIT = 64 };

/* An AdapterTerm of the outputs from `first` on. */
typedef struct RowsTerm {
  const bf16 *b, *u;
  int64_t b_stride, u_stride;
  int first, rank; /* rank 0: none */
  float scale;
} RowsTerm;

/* out[rows, outputs] = alpha * x[rows, inputs] W^T + bias + beta * out */
typedef struct RowsCall {
  const void *x, *w, *bias; /* bias may be NULL */
  void *out;
  int64_t x_stride, w_stride, out_stride, rows;
  int inputs, outputs;
  float alpha, beta;
  bool bias_narrow, out_narrow; /* BF16, else F32 */
  bool out_packs;               /* four outputs at a multiple of four may be read and written at once */
  int terms;                    /* 0: no adapter; alpha is 1 with one */
  RowsTerm term[ADAPTER_TERMS];
} RowsCall;

/* As op_linear, or with count > 0 op_linear_adapted; shapes are looked at. */
RowsCall rows_call(Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta,
                   const AdapterTerm *terms, int count);
/* Rows of 16-byte pieces of bf16. */
bool rows_in_pieces(Tensor x);

/* The kernels of linear_rows_plain.cu: any mix of dtypes but BF16 with BF16. */
void linear_rows_plain(Compute *c, const RowsCall &call, DType x, DType w, bool transposed);

/* The kernels of linear_rows_wgmma.cu: BF16 with BF16, on a card of which Device.wgmma is true; `pieces`: both factors are rows_in_pieces. */
void linear_rows_wgmma(Compute *c, const RowsCall &call, bool transposed, bool pieces);
/* Whether the program has their code for the card, of compute capability 9.0. */
bool linear_rows_wgmma_usable(void);

/* Where slice p begins and slice p - 1 ends, in SLICE_UNITs. */
__device__ __forceinline__ int slice_edge(int inputs, int p) {
  return (int)((int64_t)((inputs + SLICE_UNIT - 1) / SLICE_UNIT) * p / SLICES);
}

/* A barrier of one of TEAMS teams of THREADS threads. By constants: or all barriers that there are would be taken. */
template <int TEAMS, int THREADS>
__device__ __forceinline__ void meet_team(int team) {
  static_assert(TEAMS == 1 || TEAMS == 4, "each has one");
  if (TEAMS == 1) {
    __syncthreads();
  } else if (team < 2) {
    team == 0 ? meet_threads<1, THREADS>() : meet_threads<2, THREADS>();
  } else {
    team == 2 ? meet_threads<3, THREADS>() : meet_threads<4, THREADS>();
  }
}

/* The term of an output. By constant places: or arguments lie in local memory. */
__device__ __forceinline__ RowsTerm term_of(const RowsCall &call, int output) {
  static_assert(ADAPTER_TERMS == 3, "each is asked");
  RowsTerm term = call.term[0];
  if (call.terms > 1 && output >= call.term[1].first) term = call.term[1];
  if (call.terms > 2 && output >= call.term[2].first) term = call.term[2];
  return term;
}

__device__ __forceinline__ uint32_t load_pair(const bf16 *p, bool valid) {
  return valid ? *reinterpret_cast<const uint32_t *>(p) : 0;
}

/* sums = u b^T of 16 * HIGH outputs from `output` on, all of one term, and 8 * WIDE rows from `row` on. Straight from memory:
 * it is little, and a term's rows begin at any pair of elements. */
template <int HIGH, int WIDE>
__device__ __forceinline__ void adapter_slice(float (&sums)[HIGH][WIDE][4], const RowsCall &call, int64_t row,
                                              int output) {
  const RowsTerm term = term_of(call, output);
  const int lane = (int)threadIdx.x % WARP, group = lane / 4, pair = lane % 4 * 2;
#pragma unroll
  for (int i = 0; i < HIGH; i++) {
#pragma unroll
    for (int j = 0; j < WIDE; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0;
  }
  const bf16 *b_row = term.b + (output + group - term.first) * term.b_stride;
  const bf16 *u_row = term.u + (row + group) * term.u_stride;
  const int outputs = call.outputs - output - group;
  const int rows = (int)min(call.rows - row - group, (int64_t)(8 * WIDE));
#pragma unroll 1
  for (int k = pair; k - pair < term.rank; k += 16) {
    uint32_t b[HIGH][4], u[WIDE][2];
#pragma unroll
    for (int i = 0; i < HIGH; i++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int o = i * 16 + e % 2 * 8, at = k + e / 2 * 8;
        b[i][e] = load_pair(b_row + o * term.b_stride + at, o < outputs && at < term.rank);
      }
    }
#pragma unroll
    for (int j = 0; j < WIDE; j++) {
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const int n = j * 8, at = k + e * 8;
        u[j][e] = load_pair(u_row + n * term.u_stride + at, n < rows && at < term.rank);
      }
    }
#pragma unroll
    for (int i = 0; i < HIGH; i++) {
#pragma unroll
      for (int j = 0; j < WIDE; j++) mma_bf16(sums[i][j], b[i], u[j]);
    }
  }
}

template <class T>
__device__ __forceinline__ void put_four(const RowsCall &call, int64_t row, int o, const float sum[4]) {
  T *out = (T *)call.out + row * call.out_stride + o;
  const int count = min(4, call.outputs - o);
  const bool packs = call.out_packs && count == 4;
  Pack<T, 4> y, before = {};
  if (call.beta != 0) {
    if (packs) {
      before = load_pack<T, 4>(out);
    } else {
      for (int i = 0; i < count; i++) before.at[i] = out[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float value = call.alpha * sum[i];
    if (call.bias && i < count) {
      value = fmaf(
          call.alpha, sum[i],
          call.bias_narrow ? to_float(((const bf16 *)call.bias)[o + i]) : ((const float *)call.bias)[o + i]);
    }
    if (call.beta != 0) value = fmaf(call.beta, to_float(before.at[i]), value);
    y.at[i] = from_float<T>(value);
  }
  if (packs) {
    store_pack(out, y);
  } else {
    for (int i = 0; i < count; i++) out[i] = y.at[i];
  }
}

/* Elements between rows of a tile of sums: no two threads of a warp that store a fragment, or read four
 * outputs, meet in a bank. */
template <int OUTPUTS>
__host__ __device__ constexpr int sums_stride() {
  return OUTPUTS + 4;
}

/* Where a lane's element e of the product of outputs 16 * i .. and rows 8 * j .. lies in a tile of sums. */
template <int OUTPUTS>
__device__ __forceinline__ int sums_place(int lane, int i, int j, int e) {
  return (j * 8 + lane % 4 * 2 + e % 2) * sums_stride<OUTPUTS>() + i * 16 + lane / 4 + e / 2 * 8;
}

/* Adds up PARTS tiles of sums[PARTS][ROWS][sums_stride] in order and writes the outputs. ADAPTED: one more is an adapter's,
 * where the call has one. The block has met since they were stored. */
template <int PARTS, int ROWS, int OUTPUTS, int THREADS, bool ADAPTED>
__device__ __forceinline__ void finish_tile(const RowsCall &call, const float *sums, int64_t first_row,
                                            int first_output) {
  constexpr int FOURS = OUTPUTS / 4, STRIDE = sums_stride<OUTPUTS>();
  for (int i = (int)threadIdx.x; i < ROWS * FOURS; i += THREADS) {
    const int row = i / FOURS, column = i % FOURS * 4;
    if (first_row + row >= call.rows || first_output + column >= call.outputs) continue;
    float sum[4] = {0, 0, 0, 0};
#pragma unroll
    for (int p = 0; p < PARTS; p++) {
      const Pack<float, 4> part = load_pack<float, 4>(sums + (p * ROWS + row) * STRIDE + column);
#pragma unroll
      for (int k = 0; k < 4; k++) sum[k] += part.at[k];
    }
    if (ADAPTED && call.terms > 0) {
      const float scale = term_of(call, first_output + column).scale;
      const Pack<float, 4> part = load_pack<float, 4>(sums + (PARTS * ROWS + row) * STRIDE + column);
#pragma unroll
      for (int k = 0; k < 4; k++) sum[k] = fmaf(scale, part.at[k], sum[k]);
    }
    if (call.out_narrow) {
      put_four<bf16>(call, first_row + row, first_output + column, sum);
    } else {
      put_four<float>(call, first_row + row, first_output + column, sum);
    }
  }
}

#endif
