/* The linear of rollouts: an output depends on its own row of x alone, to the bit, however many rows there are
 * and wherever it stands among them. The definition of the sum is in linear_rows.cuh; here both factors are BF16
 * and a link of the chain is one m16n8k16 product of the tensor cores (16 inputs, fp32 sums), weights as the 16,
 * rows of x as the 8. An element of such a product is made from its row of the one and its column of the other,
 * so that neither neighbours nor the place in the tile can show.
 *
 * One kernel, many tiles (OUTPUTS x ROWS). Few rows: 8 teams of one warp, each with a slice of K and a pipeline
 * of its own of asynchronous copies (no barrier of the block until the end), partial sums met in shared memory.
 * Many rows: one team of all warps, slices one after the other. No workspace and no second kernel either way.
 *
 * Floor. Few rows: reading W once. 16 x 8 keeps 3 stages of 16 KiB of weights per block under way, two blocks on
 * an H100 multiprocessor: 96 KiB, where 3.35 TB/s at 0.8 us ask for 20; a ring of half the length two blocks on a small card's,
 * 32 KiB, which asks for 6 to 8. A step of a warp (2 KiB of weights) takes
 * about 110 instructions, a fifth of what can be issued while memory delivers it: the tensor-core path is bound by
 * memory at one row as well, and needs no twin without tensor cores. Many rows: the rate of mma.sync, and the
 * second-level cache, which delivers (OUTPUTS + ROWS) * 2 bytes per input and block. choose_tile weighs these. */
#include "compute/cuda/linear_rows_bring.cuh"
#include "compute/cuda/linear_rows_tile.cuh"

#include "compute/cuda/product.cuh"

namespace {

/* A team of WARPS_O x WARPS_R warps works at a tile of OUTPUTS x ROWS; TEAMS teams side by side have a slice of K
 * each. STEP inputs are brought at a time, STAGES - 1 steps ahead. All fit the 99 KiB of the small cards; BLOCKS of them have
 * their registers on a multiprocessor. */
template <class P>
struct Tile {
  static constexpr int OUTPUTS = P::OUTPUTS, ROWS = P::ROWS, WARPS_O = P::WARPS_O, WARPS_R = P::WARPS_R;
  static constexpr int TEAMS = P::TEAMS, STEP = P::STEP, STAGES = P::STAGES, BLOCKS = P::BLOCKS;
  static constexpr int TEAM_THREADS = WARPS_O * WARPS_R * WARP, THREADS = TEAM_THREADS * TEAMS;
  static constexpr int W_TILE = OUTPUTS * STEP, STAGE = W_TILE + ROWS * STEP; /* elements */
  /* 16 x 8 products of a warp. */
  static constexpr int HIGH = OUTPUTS / WARPS_O / 16, WIDE = ROWS / WARPS_R / 8;
  static constexpr size_t PIPELINE = sizeof(bf16) * STAGE * STAGES * TEAMS;
  static constexpr bool SIDE =
      TEAMS > 1; /* slices side by side: their sums meet in shared memory, an adapter's too */
  static constexpr size_t SUMS = sizeof(float) * (TEAMS + SIDE) * ROWS * sums_stride<OUTPUTS>();
  static constexpr size_t SHARED = PIPELINE > SUMS ? PIPELINE : SUMS;

  static_assert(TEAMS == 1 || (TEAMS == SLICES && TEAM_THREADS == WARP), "a warp to a slice, or all to all");
  static_assert(!SIDE || HIGH * WIDE <= TEAMS, "a warp has no more than one product of the adapter's slice");
  static_assert(SLICE_UNIT % STEP == 0 && STEP % 16 == 0, "steps end where slices end");
  static_assert(SHARED <= 99 * 1024, "small cards");
};

/* What a thread brings of both factors. */
template <class T, bool TRANSPOSED>
struct Routes {
  static constexpr int HEIGHT = TRANSPOSED ? T::STEP : T::OUTPUTS, WIDTH = TRANSPOSED ? T::OUTPUTS : T::STEP;
  Route<HEIGHT, WIDTH, T::TEAM_THREADS> w;
  Route<T::ROWS, T::STEP, T::TEAM_THREADS> x;
};

template <class T, bool TRANSPOSED>
__device__ __forceinline__ Routes<T, TRANSPOSED> routes(const RowsCall &call, int64_t row, int output, int k,
                                                        int thread) {
  typedef Routes<T, TRANSPOSED> R;
  return {
      route<decltype(R::w), R::WIDTH>(call.w, call.w_stride, TRANSPOSED ? k : output, TRANSPOSED ? output : k,
                                      TRANSPOSED ? T::STEP * call.w_stride : T::STEP, thread),
      route<decltype(R::x), T::STEP>(call.x, call.x_stride, row, k, T::STEP, thread)};
}

/* One step of inputs of both factors, of which so many are left. */
template <class T, bool TRANSPOSED, bool ALIGNED>
__device__ __forceinline__ void bring_stage(Routes<T, TRANSPOSED> *r, bf16 *stage, int rows, int outputs,
                                            int inputs) {
  bring<ALIGNED>(&r->w, stage, TRANSPOSED ? inputs : outputs, TRANSPOSED ? outputs : inputs);
  bring<ALIGNED>(&r->x, stage + T::W_TILE, rows, inputs);
}

template <class T>
struct Fragments {
  uint32_t w[T::HIGH][4], x[T::WIDE][2];
};

/* The fragments of 16 inputs, number `link` of a stage, for the warp at (warp_o, warp_r) of the team. */
template <class T, bool TRANSPOSED>
__device__ __forceinline__ void load_fragments(Fragments<T> *f, const bf16 *stage, int link, int warp_o,
                                               int warp_r) {
  const int lane = (int)threadIdx.x % WARP, low = lane % 8, second = lane / 8 % 2, third = lane / 16;
  const bf16 *x = stage + T::W_TILE;
#pragma unroll
  for (int i = 0; i < T::HIGH; i++) {
    const int output = (warp_o * T::HIGH + i) * 16;
    if (TRANSPOSED) {
      load_matrix_x4_transposed(f->w[i],
                                stage + place<T::OUTPUTS>(link * 16 + third * 8 + low, output / 8 + second));
    } else {
      load_matrix_x4(f->w[i], stage + place<T::STEP>(output + second * 8 + low, link * 2 + third));
    }
  }
  const int row = warp_r * T::WIDE * 8 + low;
  if constexpr (T::WIDE == 1) {
    load_matrix_x2(f->x[0], x + place<T::STEP>(row, link * 2 + second));
  } else {
    static_assert(T::WIDE % 2 == 0, "loaded in pairs");
#pragma unroll
    for (int i = 0; i < T::WIDE; i += 2) {
      uint32_t r[4];
      load_matrix_x4(r, x + place<T::STEP>(row + (i + third) * 8, link * 2 + second));
      f->x[i][0] = r[0], f->x[i][1] = r[1], f->x[i + 1][0] = r[2], f->x[i + 1][1] = r[3];
    }
  }
}

/* The sums of a warp: [output / 16][row / 8][element of the fragment]. */
template <class T>
struct Sums {
  float at[T::HIGH][T::WIDE][4];
};

/* The links of a stage; the fragments of one come while the products of the one before are made. */
template <class T, bool TRANSPOSED>
__device__ __forceinline__ void multiply_stage(Sums<T> *sums, const bf16 *stage, int warp_o, int warp_r) {
  constexpr int LINKS = T::STEP / 16;
  Fragments<T> f[2];
  load_fragments<T, TRANSPOSED>(&f[0], stage, 0, warp_o, warp_r);
#pragma unroll
  for (int link = 0; link < LINKS; link++) {
    if (link + 1 < LINKS) load_fragments<T, TRANSPOSED>(&f[(link + 1) % 2], stage, link + 1, warp_o, warp_r);
#pragma unroll
    for (int i = 0; i < T::HIGH; i++) {
#pragma unroll
      for (int j = 0; j < T::WIDE; j++) mma_bf16(sums->at[i][j], f[link % 2].w[i], f[link % 2].x[j]);
    }
  }
}

/* total += sums; sums = 0: a slice has ended. */
template <class T>
__device__ __forceinline__ void close_slice(Sums<T> *total, Sums<T> *sums) {
#pragma unroll
  for (int i = 0; i < T::HIGH; i++) {
#pragma unroll
    for (int j = 0; j < T::WIDE; j++) {
#pragma unroll
      for (int k = 0; k < 4; k++) {
        total->at[i][j][k] += sums->at[i][j][k];
        sums->at[i][j][k] = 0;
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void store_sums(float *tile, const Sums<T> &sums, int warp_o, int warp_r) {
  const int lane = (int)threadIdx.x % WARP;
#pragma unroll
  for (int i = 0; i < T::HIGH; i++) {
#pragma unroll
    for (int j = 0; j < T::WIDE; j++) {
#pragma unroll
      for (int k = 0; k < 4; k++)
        tile[sums_place<T::OUTPUTS>(lane, warp_o * T::HIGH + i, warp_r * T::WIDE + j, k)] = sums.at[i][j][k];
    }
  }
}

/* total += scale * an adapter's slice, for which `sums` is used. */
template <class T>
__device__ __forceinline__ void add_slice(Sums<T> *total, Sums<T> *sums, const RowsCall &call, int64_t row,
                                          int output, int warp_o, int warp_r) {
  const float scale = term_of(call, output).scale;
  adapter_slice(sums->at, call, row + warp_r * T::WIDE * 8, output + warp_o * T::HIGH * 16);
#pragma unroll
  for (int i = 0; i < T::HIGH; i++) {
#pragma unroll
    for (int j = 0; j < T::WIDE; j++) {
#pragma unroll
      for (int k = 0; k < 4; k++) total->at[i][j][k] = fmaf(scale, sums->at[i][j][k], total->at[i][j][k]);
    }
  }
}

template <class T>
__device__ __forceinline__ void meet_team() {
  if (T::TEAM_THREADS == WARP) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

/* Neighbouring blocks have the same weights and other rows, so that the weights come from memory once. */
template <class T, bool TRANSPOSED, bool ALIGNED>
__global__ void __launch_bounds__(T::THREADS, T::BLOCKS) linear_rows_kernel(const RowsCall call) {
  SHARED_MEMORY(bf16, shared);
  const int64_t row_tiles = (call.rows + T::ROWS - 1) / T::ROWS;
  const int64_t row = (int64_t)blockIdx.x % row_tiles * T::ROWS;
  const int output = (int)(blockIdx.x / row_tiles) * T::OUTPUTS;
  const int team = (int)threadIdx.x / T::TEAM_THREADS, thread = (int)threadIdx.x % T::TEAM_THREADS;
  const int warp_o = thread / WARP % T::WARPS_O, warp_r = thread / WARP / T::WARPS_O;
  bf16 *pipeline = shared + team * T::STAGE * T::STAGES;
  constexpr int STEPS = SLICE_UNIT / T::STEP; /* of a unit */
  int step = slice_edge(call.inputs, team) * STEPS;
  int slice = team, edge = step; /* where the slice ends: one team goes from one to the next */
  const int end = slice_edge(call.inputs, T::TEAMS == 1 ? SLICES : team + 1) * STEPS;

  Routes<T, TRANSPOSED> way = routes<T, TRANSPOSED>(call, row, output, step * T::STEP, thread);
  const int rows = (int)min(call.rows - row, (int64_t)T::ROWS), outputs = call.outputs - output;
  Sums<T> sums = {}, total = {};
  int next = step, into = 0, from = 0; /* step to bring, stage that it goes to, stage to multiply */
  for (int i = 0; i < T::STAGES - 1; i++) {
    if (next < end) {
      bring_stage<T, TRANSPOSED, ALIGNED>(&way, pipeline + into * T::STAGE, rows, outputs,
                                          call.inputs - next * T::STEP);
    }
    copy_async_commit();
    next++, into++;
  }
  /* An adapter's slice: of slices side by side a product for a warp each, made while the first steps are on their way. */
  const bool adds = T::SIDE && call.terms > 0 && team < T::HIGH * T::WIDE;
  float added[1][1][4];
  if (adds) adapter_slice(added, call, row + team / T::HIGH * 8, output + team % T::HIGH * 16);
  for (; step < end; step++) {
    copy_async_wait<T::STAGES - 2>();
    meet_team<T>(); /* the step is here for all, and all have done with the stage that is filled now */
    if (next < end) {
      bring_stage<T, TRANSPOSED, ALIGNED>(&way, pipeline + into * T::STAGE, rows, outputs,
                                          call.inputs - next * T::STEP);
    }
    copy_async_commit();
    next++, into = into + 1 == T::STAGES ? 0 : into + 1;
    multiply_stage<T, TRANSPOSED>(&sums, pipeline + from * T::STAGE, warp_o, warp_r);
    from = from + 1 == T::STAGES ? 0 : from + 1;
    if (T::TEAMS == 1) {
      while (edge <= step) edge = slice_edge(call.inputs, ++slice) * STEPS; /* past slices of nothing */
      if (step + 1 == edge) close_slice(&total, &sums);
    }
  }
  copy_async_wait<0>();
  __syncthreads(); /* the pipelines have run dry: their memory is free */
  float *parts = reinterpret_cast<float *>(shared);
  if (!T::SIDE && call.terms > 0) add_slice<T>(&total, &sums, call, row, output, warp_o, warp_r);
  if (adds) {
    float *tile = parts + T::TEAMS * T::ROWS * sums_stride<T::OUTPUTS>();
#pragma unroll
    for (int k = 0; k < 4; k++)
      tile[sums_place<T::OUTPUTS>(thread, team % T::HIGH, team / T::HIGH, k)] = added[0][0][k];
  }
  store_sums<T>(parts + team * T::ROWS * sums_stride<T::OUTPUTS>(), T::TEAMS == 1 ? total : sums, warp_o,
                warp_r);
  __syncthreads();
  finish_tile<T::TEAMS, T::ROWS, T::OUTPUTS, T::THREADS, T::SIDE>(call, parts, row, output);
}

/* -- the choice of a tile -------------------------------------------------------------------------------- */

/* Short: less under way, and two blocks to the 100 KiB that a multiprocessor of a small card has. */
// clang-format off
struct Short16x8 { enum { OUTPUTS = 16, ROWS = 8, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 64, STAGES = 2, BLOCKS = 2 }; };
struct Short32x8 { enum { OUTPUTS = 32, ROWS = 8, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 32, STAGES = 2, BLOCKS = 2 }; };
struct Short32x16 { enum { OUTPUTS = 32, ROWS = 16, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 32, STAGES = 2, BLOCKS = 2 }; };
struct Shape16x8 { enum { OUTPUTS = 16, ROWS = 8, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 64, STAGES = 4, BLOCKS = 2 }; };
struct Shape32x8 { enum { OUTPUTS = 32, ROWS = 8, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 32, STAGES = 4, BLOCKS = 2 }; };
struct Shape32x16 { enum { OUTPUTS = 32, ROWS = 16, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 32, STAGES = 4, BLOCKS = 2 }; };
struct Shape32x32 { enum { OUTPUTS = 32, ROWS = 32, WARPS_O = 1, WARPS_R = 1, TEAMS = SLICES, STEP = 32, STAGES = 3, BLOCKS = 2 }; };
struct Shape64x32 { enum { OUTPUTS = 64, ROWS = 32, WARPS_O = 2, WARPS_R = 2, TEAMS = 1, STEP = 64, STAGES = 8, BLOCKS = 2 }; };
struct Shape64x64 { enum { OUTPUTS = 64, ROWS = 64, WARPS_O = 2, WARPS_R = 2, TEAMS = 1, STEP = 64, STAGES = 6, BLOCKS = 2 }; };
struct Shape64x128 { enum { OUTPUTS = 64, ROWS = 128, WARPS_O = 2, WARPS_R = 4, TEAMS = 1, STEP = 64, STAGES = 4, BLOCKS = 2 }; };
struct Shape128x128 { enum { OUTPUTS = 128, ROWS = 128, WARPS_O = 2, WARPS_R = 4, TEAMS = 1, STEP = 64, STAGES = 3, BLOCKS = 1 }; };
// clang-format on

typedef Tile<Shape16x8> Tile16x8;
typedef Tile<Shape32x8> Tile32x8;
typedef Tile<Shape32x16> Tile32x16;
typedef Tile<Shape32x32> Tile32x32;
typedef Tile<Shape64x32> Tile64x32;
typedef Tile<Shape64x64> Tile64x64;
typedef Tile<Shape64x128> Tile64x128;
typedef Tile<Shape128x128> Tile128x128;

template <class T, bool ALIGNED>
static void launch_tile(Compute *c, const RowsCall &call, bool transposed) {
  const int64_t blocks = divide_up(call.outputs, T::OUTPUTS) * divide_up(call.rows, T::ROWS);
  if (transposed) {
    LAUNCH(c, (linear_rows_kernel<T, true, ALIGNED>), dim3((unsigned)blocks), dim3(T::THREADS), T::SHARED,
           call);
  } else {
    LAUNCH(c, (linear_rows_kernel<T, false, ALIGNED>), dim3((unsigned)blocks), dim3(T::THREADS), T::SHARED,
           call);
  }
}

template <class T, bool ALIGNED>
constexpr TileChoice tile_choice() {
  return {T::OUTPUTS, T::ROWS,        T::STEP * (T::STAGES - 1) * T::TEAMS,
          T::BLOCKS,  (int)T::SHARED, launch_tile<T, ALIGNED>};
}

/* Of two that are as good the first is taken. */
static const TileChoice tiles[] = {tile_choice<Tile16x8, true>(),   tile_choice<Tile<Short16x8>, true>(),
                                   tile_choice<Tile32x8, true>(),   tile_choice<Tile<Short32x8>, true>(),
                                   tile_choice<Tile32x16, true>(),  tile_choice<Tile<Short32x16>, true>(),
                                   tile_choice<Tile32x32, true>(),  tile_choice<Tile64x32, true>(),
                                   tile_choice<Tile64x64, true>(),  tile_choice<Tile64x128, true>(),
                                   tile_choice<Tile128x128, true>()};
/* Odd sizes and strides: the loads decide, whatever the tile. */
static const TileChoice unaligned_tiles[] = {tile_choice<Tile16x8, false>(), tile_choice<Tile64x64, false>()};

/* Whether every tile lies within one term. */
static bool tile_keeps_to_terms(const TileChoice &tile, const RowsCall &call) {
  bool keeps = true;
  for (int i = 1; i < call.terms; i++) keeps = keeps && call.term[i].first % tile.outputs == 0;
  return keeps;
}

/* The first of the list, of 16 outputs, does for every call. */
static const TileChoice &choose_tile(const TileChoice *list, int count, int capability, int multiprocessors,
                                     const RowsCall &call) {
  const CardRates &card = rates_of(capability);
  int best = 0;
  double least = 0;
  for (int i = 0; i < count; i++) {
    const double time = tile_time(list[i], card, multiprocessors, call.rows, call.outputs, call.inputs);
    if (i == 0 || (time < least && tile_keeps_to_terms(list[i], call))) best = i, least = time;
  }
  return list[best];
}

template <int COUNT>
static const TileChoice &choose_tile(const TileChoice (&list)[COUNT], const Compute *c,
                                     const RowsCall &call) {
  return choose_tile(list, COUNT, c->device->capability, c->device->multiprocessors, call);
}

/* -- the operation --------------------------------------------------------------------------------------- */

}  // namespace

bool rows_in_pieces(Tensor x) {
  return (uintptr_t)x.data % 16 == 0 && x.stride[0] % 8 == 0 && x.dim[1] % 8 == 0;
}

/* Pairs of elements at addresses of pairs. */
static bool in_pairs(Tensor x) {
  return x.dtype == DTYPE_BF16 && (uintptr_t)x.data % 4 == 0 && x.stride[0] % 2 == 0 && x.dim[1] % 2 == 0;
}

bool cuda_linear_rows_adapts(Tensor x, Weight w, const AdapterTerm *terms, int count) {
  bool fits = x.dtype == DTYPE_BF16 && (w.data.dtype == DTYPE_BF16 || dtype_is_blocks(w.data.dtype));
  int64_t first = 0;
  for (int i = 0; i < count; i++) {
    fits = fits && first % 16 == 0;
    if (!tensor_is_none(terms[i].u)) fits = fits && in_pairs(terms[i].u) && in_pairs(terms[i].b);
    first += terms[i].outputs;
  }
  return fits;
}

static RowsTerm rows_term(const AdapterTerm &t, int64_t first, int64_t rows) {
  RowsTerm term = {};
  term.first = (int)first;
  if (tensor_is_none(t.u)) return term;
  ASSERT(t.u.dim[0] == rows && t.b.dim[0] == t.outputs && t.u.dim[1] == t.b.dim[1]);
  term.u = data<bf16>(t.u), term.b = data<bf16>(t.b);
  term.u_stride = t.u.stride[0], term.b_stride = t.b.stride[0];
  term.rank = (int)t.u.dim[1];
  term.scale = t.scale;
  return term;
}

RowsCall rows_call(Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta,
                   const AdapterTerm *terms, int count) {
  const bool narrow = out.dtype == DTYPE_BF16;
  ASSERT(x.rank == 2 && out.rank == 2 && w.data.rank == 2 && x.dim[0] == out.dim[0]);
  ASSERT(x.dim[1] == weight_inputs(w) && out.dim[1] == weight_outputs(w));
  ASSERT(x.dim[1] <= INT32_MAX / 2 && out.dim[1] <= INT32_MAX / 2);
  ASSERT(narrow || out.dtype == DTYPE_F32);
  ASSERT(tensor_is_none(bias) || bias.dtype == DTYPE_F32 || bias.dtype == DTYPE_BF16);
  RowsCall call = {};
  call.x = x.data, call.w = w.data.data, call.bias = bias.data, call.out = out.data;
  call.x_stride = x.stride[0], call.w_stride = w.data.stride[0], call.out_stride = out.stride[0];
  call.rows = x.dim[0], call.inputs = (int)x.dim[1], call.outputs = (int)out.dim[1];
  call.alpha = alpha, call.beta = beta;
  call.bias_narrow = bias.dtype == DTYPE_BF16, call.out_narrow = narrow;
  call.out_packs = (uintptr_t)out.data % (narrow ? 8 : 16) == 0 && out.stride[0] % 4 == 0;
  ASSERT(count == 0 || (count <= ADAPTER_TERMS && alpha == 1));
  call.terms = count;
  for (int64_t i = 0, first = 0; i < count; first += terms[i++].outputs)
    call.term[i] = rows_term(terms[i], first, call.rows);
  return call;
}

extern "C" RowsTile cuda_linear_rows_tile(int capability, int multiprocessors, int64_t rows, int64_t outputs,
                                          int64_t inputs) {
  RowsCall call = {};
  call.rows = rows, call.outputs = (int)outputs, call.inputs = (int)inputs;
  const int count = (int)(sizeof tiles / sizeof *tiles);
  const TileChoice &tile = choose_tile(tiles, count, capability, multiprocessors, call);
  return {tile.outputs, tile.rows, resident_blocks(tile, rates_of(capability))};
}

extern "C" void cuda_linear_rows(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha,
                                 float beta, const AdapterTerm *terms, int count) {
  if (c->dry) return;
  const RowsCall call = rows_call(out, x, w, bias, alpha, beta, terms, count);
  if (call.rows == 0 || call.outputs == 0) return;
  if (x.dtype != DTYPE_BF16 || w.data.dtype != DTYPE_BF16) {
    ASSERT(count == 0);
    linear_rows_plain(c, call, x.dtype, w.data.dtype, w.transposed);
  } else if (c->device->wgmma) {
    linear_rows_wgmma(c, call, w.transposed, rows_in_pieces(x) && rows_in_pieces(w.data));
  } else if (rows_in_pieces(x) && rows_in_pieces(w.data)) {
    choose_tile(tiles, c, call).launch(c, call, w.transposed);
  } else {
    choose_tile(unaligned_tiles, c, call).launch(c, call, w.transposed);
  }
}
