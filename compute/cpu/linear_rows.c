/* The linear of rollouts, but of bf16 values on a matrix unit (linear.c): an output depends on its own row of x alone, to the bit, however many rows and
 * threads there are. Each output is one or VEC chains of fused multiply-adds whose order is a function of I
 * alone:
 *   [O,I] weights ("dot"): VEC interleaved chains over I, then the fixed tree of vec_sum;
 *   [I,O] weights ("panel"): one chain over I.
 * Tiles and blocks only choose which links of which chains are worked on together; a chain that is put aside
 * is carried on where it stopped. With few rows, here, the weights are read once, in order, at the speed of memory; with many the same chains are
 * those of product.h, whose tiles load less for a multiply-add. */
#include "compute/cpu/linear_rows.h"

#include "compute/cpu/product.h"

/* From here on packing weights is no slower: of [O,I] and [I,O]. Above FEW_ROWS and below it those of [O,I] are brought into caches in
 * blocks where they are to be widened. */
enum { MANY_ROWS = 96, MANY_ROWS_ACROSS = 33 };

INLINE Vec load_weight(const void *w, bool narrow, int64_t offset, int part) {
  return narrow ? vec_load_bf16_part((const uint16_t *)w + offset, part)
                : vec_load_part((const float *)w + offset, part);
}

INLINE const void *weight_at(const Rows *r, int64_t offset) {
  if (r->of_blocks) return NULL; /* taken block by block */
  return (const char *)r->w.data + offset * (r->narrow ? 2 : 4);
}

/* Widens a block of bf16 weights, or copies one of fp32. */
static void copy_block(float *to, int64_t to_stride, const void *from, bool narrow, int64_t from_stride,
                       int64_t rows, int64_t columns) {
  for (int64_t k = 0; k < rows; k++) {
    for (int64_t i = 0; i < columns; i += VEC) {
      int part = vec_part(columns - i);
      vec_store_part(to + k * to_stride + i, load_weight(from, narrow, k * from_stride + i, part), part);
    }
  }
}

/* -- [O,I] ----------------------------------------------------------------------------------------------- */

/* A tile is DOT_ROWS rows of x by DOT_OUTPUTS outputs; DOT_BLOCK inputs of both, and of the outputs after these, stay in the first-level cache. Up to
 * STREAM_ROWS rows take whole rows of weights: their chains are never put aside. */
enum {
  DOT_ROWS = 4,
  STREAM_ROWS = DOT_ROWS,
  DOT_OUTPUTS = VEC == 16 ? 6 : 3,
  DOT_BLOCK = 1024,
  DOT_STRIDE = DOT_BLOCK + 2 * VEC, /* rows that do not begin a PAGE apart */
  PAGE = 1024,                      /* floats: lines so far apart take each other's place in caches */
  DOT_CACHE = 1 << 18,
  CHUNK = 4, /* steps between two calls for weights to come */
  LINE = 64  /* bytes that come at once */
};

typedef struct DotBlock {
  const void *w;                  /* first output, first input of the block */
  int64_t w_stride, first, count; /* inputs */
  bool begins, ends;              /* the chains begin, end in this block */
} DotBlock;

/* The weights that are wanted next, called for in the order in which they lie, evenly over the work on those that are here:
 * the processor's own prefetching gives up at streams as short as a row, and calls that come all at once wait for each other. */
typedef struct Ahead {
  const char *at, *row_end;
  int64_t row_bytes, stride, left; /* bytes */
  int64_t per_chunk;               /* lines */
} Ahead;

INLINE void call_ahead(Ahead *ahead) {
  if (ahead->left <= 0) return;
  for (int64_t k = 0; k < ahead->per_chunk; k++) {
    __builtin_prefetch(ahead->at, 0, 3);
    ahead->at += LINE;
    if (ahead->at >= ahead->row_end) {
      ahead->row_end += ahead->stride;
      ahead->at = ahead->row_end - ahead->row_bytes;
    }
  }
  ahead->left -= ahead->per_chunk * LINE;
}

/* One step of all the chains of a tile: VEC inputs from i on, `part` of them alive. */
INLINE void dot_step(Vec sum[DOT_ROWS][DOT_OUTPUTS], const float *x, int64_t x_stride, const DotBlock *block,
                     bool narrow, int64_t i, int part, const int n, const int m) {
  Vec wv[DOT_OUTPUTS];
#pragma GCC unroll 8
  for (int b = 0; b < m; b++) wv[b] = load_weight(block->w, narrow, b * block->w_stride + i, part);
#pragma GCC unroll 8
  for (int a = 0; a < n; a++) {
    Vec xv = vec_load_part(x + a * x_stride + i, part);
#pragma GCC unroll 8
    for (int b = 0; b < m; b++) sum[a][b] = vec_fma(xv, wv[b], sum[a][b]);
  }
}

#ifdef __AVX512F__

/* Four rows, outputs o .. o+5. */
INLINE void dot_close_tile(const Rows *r, Vec sum[DOT_ROWS][DOT_OUTPUTS], int64_t t, int64_t o) {
  Vec rows[DOT_OUTPUTS];
#pragma GCC unroll 8
  for (int b = 0; b < DOT_OUTPUTS; b++) rows[b] = vec_quads(sum[0][b], sum[1][b], sum[2][b], sum[3][b]);
  const Vec four = vec_sum_quads(rows[0], rows[1], rows[2], rows[3]);
  const Vec two = vec_sum_quads(rows[4], rows[5], rows[4], rows[5]);
  finish_lanes(r, t, o, _mm512_castps512_ps128(four), 4);
  finish_lanes(r, t, o + 4, _mm512_castps512_ps128(two), 2);
  finish_lanes(r, t + 1, o, _mm512_extractf32x4_ps(four, 1), 4);
  finish_lanes(r, t + 1, o + 4, _mm512_extractf32x4_ps(two, 1), 2);
  finish_lanes(r, t + 2, o, _mm512_extractf32x4_ps(four, 2), 4);
  finish_lanes(r, t + 2, o + 4, _mm512_extractf32x4_ps(two, 2), 2);
  finish_lanes(r, t + 3, o, _mm512_extractf32x4_ps(four, 3), 4);
  finish_lanes(r, t + 3, o + 4, _mm512_extractf32x4_ps(two, 3), 2);
}

#endif

INLINE void dot_close(const Rows *r, Vec sum[DOT_ROWS][DOT_OUTPUTS], int64_t t, int64_t o, const int n,
                      const int m) {
#ifdef __AVX512F__
  if (n == DOT_ROWS && m == DOT_OUTPUTS) {
    dot_close_tile(r, sum, t, o);
    return;
  }
#endif
#pragma GCC unroll 8
  for (int b = 0; b < m; b++) {
    if (n == 4) {
      float total[4];
      _mm_storeu_ps(total, vec_sum4(sum[0][b], sum[1][b], sum[2][b], sum[3][b]));
      for (int a = 0; a < 4; a++) finish(r, t + a, o + b, total[a]);
    } else {
#pragma GCC unroll 8
      for (int a = 0; a < n; a++) finish(r, t + a, o + b, vec_sum(sum[a][b]));
    }
  }
}

/* Outputs o .. o+m-1 for rows t .. t+n-1; n and m are constants where it is called. */
INLINE void dot_tile(const Rows *r, const DotBlock *block, bool narrow, Ahead *ahead, float *carry, int64_t t,
                     int64_t o, const int n, const int m) {
  Vec sum[DOT_ROWS][DOT_OUTPUTS];
#pragma GCC unroll 8
  for (int a = 0; a < n; a++) {
#pragma GCC unroll 8
    for (int b = 0; b < m; b++) {
      sum[a][b] = vec_splat(0.0f);
      if (!block->begins) sum[a][b] = vec_load(carry + (a * m + b) * VEC);
    }
  }
  const float *x = r->x + t * r->x_stride + block->first;
  int64_t i = 0;
  for (; i + CHUNK * VEC <= block->count; i += CHUNK * VEC) {
    call_ahead(ahead);
    for (int k = 0; k < CHUNK; k++) dot_step(sum, x, r->x_stride, block, narrow, i + k * VEC, VEC, n, m);
  }
  for (; i + VEC <= block->count; i += VEC) dot_step(sum, x, r->x_stride, block, narrow, i, VEC, n, m);
  if (i < block->count) dot_step(sum, x, r->x_stride, block, narrow, i, vec_part(block->count - i), n, m);
  if (block->ends) {
    dot_close(r, sum, t, o, n, m);
    return;
  }
#pragma GCC unroll 8
  for (int a = 0; a < n; a++) {
#pragma GCC unroll 8
    for (int b = 0; b < m; b++) vec_store(carry + (a * m + b) * VEC, sum[a][b]);
  }
}

/* All rows for m outputs. */
INLINE void dot_rows(const Rows *r, const DotBlock *block, bool narrow, Ahead *ahead, float *carry, int64_t o,
                     const int m) {
  int64_t t = 0;
  for (; t + 4 <= r->rows; t += 4) dot_tile(r, block, narrow, ahead, carry + t * m * VEC, t, o, 4, m);
  for (; t + 2 <= r->rows; t += 2) dot_tile(r, block, narrow, ahead, carry + t * m * VEC, t, o, 2, m);
  for (; t < r->rows; t++) dot_tile(r, block, narrow, ahead, carry + t * m * VEC, t, o, 1, m);
}

/* How the weights of m outputs are gone through: `step` inputs at a time. */
typedef struct DotPlan {
  int64_t step, per_chunk; /* inputs; lines called for in each chunk */
} DotPlan;

static DotPlan dot_plan(const Rows *r, bool narrow, int64_t m) {
  const int64_t parts = r->rows <= STREAM_ROWS ? 1 : max64(1, (r->inputs + DOT_BLOCK - 1) / DOT_BLOCK);
  const int64_t step = (r->inputs + parts * BLOCK - 1) / (parts * BLOCK) * BLOCK; /* parts of one size */
  const int64_t tiles = r->rows / 4 + r->rows % 4 / 2 + r->rows % 2;
  const int64_t lines = m * step * (narrow ? 2 : 4) / LINE, chunks = max64(1, tiles * (step / (CHUNK * VEC)));
  return (DotPlan){.step = step, .per_chunk = (lines + chunks - 1) / chunks};
}

/* What comes after `count` inputs from `first` on of outputs o .. o+m-1. */
INLINE Ahead ahead_of(const Rows *r, bool narrow, const DotPlan *plan, int64_t o, int64_t first, int64_t m) {
  if (r->of_blocks || m == 1) return (Ahead){0};
  const int64_t row = r->w.stride[0], bytes = narrow ? 2 : 4;
  const bool last = first + plan->step >= r->inputs;
  Ahead ahead = {.at = weight_at(r, last ? (o + m) * row : o * row + first + plan->step),
                 .per_chunk = plan->per_chunk,
                 .stride = row * bytes};
  ahead.row_bytes = min64(plan->step, r->inputs - (last ? 0 : first + plan->step)) * bytes;
  ahead.left = m * ahead.row_bytes;
  ahead.row_end = ahead.at + ahead.row_bytes;
  return ahead;
}

/* Brings the block into scratch: one that is to be widened, or whose rows begin at the same place of the caches (PAGE). */
INLINE bool dot_copy(const Rows *r, bool narrow, DotBlock *block, float *scratch, int64_t o, const int m) {
  if (r->of_blocks) {
    for (int b = 0; b < m; b++)
      blocks_to_floats(&r->blocks, (o + b) * r->blocks.per_row + block->first / BLOCK, block->count / BLOCK,
                       scratch + b * DOT_STRIDE);
  } else if (r->rows > FEW_ROWS && (narrow || block->w_stride % PAGE == 0)) {
    copy_block(scratch, DOT_STRIDE, block->w, narrow, block->w_stride, m, block->count);
  } else {
    return false;
  }
  block->w = scratch;
  block->w_stride = DOT_STRIDE;
  return true;
}

INLINE void dot_outputs(const Rows *r, bool narrow, const DotPlan *plan, float *scratch, int64_t o,
                        const int m) {
  const int64_t stride = r->w.stride[0], inputs = r->inputs;
  float *carry = scratch + DOT_OUTPUTS * DOT_STRIDE;
  int64_t first = 0;
  do {
    const int64_t count = min64(plan->step, inputs - first);
    DotBlock block = {.w = weight_at(r, o * stride + first),
                      .w_stride = stride,
                      .first = first,
                      .count = count,
                      .begins = first == 0,
                      .ends = first + count == inputs};
    Ahead ahead = ahead_of(r, narrow, plan, o, first, m);
    if (dot_copy(r, narrow, &block, scratch, o, m)) {
      dot_rows(r, &block, false, &ahead, carry, o, m);
    } else {
      dot_rows(r, &block, narrow, &ahead, carry, o, m);
    }
    first += count;
  } while (first < inputs);
}

INLINE void dot_range_of(const Rows *r, bool narrow, float *scratch, int64_t first, int64_t last) {
  const DotPlan plan = dot_plan(r, narrow, DOT_OUTPUTS);
  int64_t o = first;
  for (; o + DOT_OUTPUTS <= last; o += DOT_OUTPUTS) dot_outputs(r, narrow, &plan, scratch, o, DOT_OUTPUTS);
  for (; o < last; o++) dot_outputs(r, narrow, &plan, scratch, o, 1);
}

/* As many rows of x as stay in the second-level cache while the weights go by. */
static int64_t dot_rows_at_once(const Rows *r) {
  int64_t rows = DOT_CACHE / max64(1, r->inputs) / DOT_ROWS * DOT_ROWS;
  return min64(r->rows, max64(FEW_ROWS * DOT_ROWS, rows));
}

static void dot_range(const Rows *all, float *scratch, int64_t first, int64_t last) {
  if (all->of_blocks && all->rows <= FEW_ROWS) {
    CPU(linear_rows_of_blocks)(all, first, last);
    return;
  }
  int64_t step = dot_rows_at_once(all);
  for (int64_t t = 0; t < all->rows; t += step) {
    Rows r = *all;
    r.x += t * r.x_stride;
    r.out += t * r.out_stride;
    r.rows = min64(step, all->rows - t);
    if (r.narrow) {
      dot_range_of(&r, true, scratch, first, last);
    } else {
      dot_range_of(&r, false, scratch, first, last);
    }
  }
}

/* Scratch of a thread: a widened block, and the chains of all rows. */
static int64_t dot_floats(const Rows *r) {
  return r->rows > STREAM_ROWS ? DOT_OUTPUTS * DOT_STRIDE + dot_rows_at_once(r) * DOT_OUTPUTS * VEC : 0;
}

/* -- [I,O] ----------------------------------------------------------------------------------------------- */

/* A tile is PANEL_ROWS rows by PANEL outputs. Blocks of STREAM_BLOCK inputs are run through from
 * side to side, so that memory sees a few long streams. */
enum {
  PANEL_ROWS = VEC == 16 ? 6 : 3,
  PANEL_VECTORS = VEC == 16 ? 4 : 2,
  PANEL = PANEL_VECTORS * VEC,
  STREAM_BLOCK = 8
};

typedef struct PanelBlock {
  const void *w;                  /* first input of the block, first output of the panel */
  int64_t w_stride, first, count; /* inputs */
  int width;                      /* outputs */
} PanelBlock;

/* Carries on the chains of n rows (a constant where it is called), which lie at carry[row][PANEL]. */
INLINE void panel_tile(const Rows *r, const PanelBlock *block, bool narrow, float *carry, int64_t t,
                       const int n) {
  Vec sum[PANEL_ROWS][PANEL_VECTORS];
  int part[PANEL_VECTORS];
#pragma GCC unroll 8
  for (int b = 0; b < PANEL_VECTORS; b++) {
    int left = block->width - b * VEC;
    part[b] = left > VEC ? VEC : left < 0 ? 0 : left;
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) {
      sum[a][b] = vec_splat(0.0f);
      if (block->first > 0) sum[a][b] = vec_load(carry + (t + a) * PANEL + b * VEC);
    }
  }
  const float *x = r->x + t * r->x_stride + block->first;
  for (int64_t i = 0; i < block->count; i++) {
    Vec wv[PANEL_VECTORS];
#pragma GCC unroll 8
    for (int b = 0; b < PANEL_VECTORS; b++) {
      wv[b] = load_weight(block->w, narrow, i * block->w_stride + b * VEC, part[b]);
    }
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) {
      Vec xv = vec_splat(x[a * r->x_stride + i]);
#pragma GCC unroll 8
      for (int b = 0; b < PANEL_VECTORS; b++) sum[a][b] = vec_fma(xv, wv[b], sum[a][b]);
    }
  }
#pragma GCC unroll 8
  for (int a = 0; a < n; a++) {
#pragma GCC unroll 8
    for (int b = 0; b < PANEL_VECTORS; b++) vec_store(carry + (t + a) * PANEL + b * VEC, sum[a][b]);
  }
}

INLINE void panel_rows(const Rows *r, const PanelBlock *block, bool narrow, float *carry) {
  int64_t t = 0;
  for (; t + PANEL_ROWS <= r->rows; t += PANEL_ROWS) panel_tile(r, block, narrow, carry, t, PANEL_ROWS);
  if (PANEL_ROWS > 4 && t + 4 <= r->rows) {
    panel_tile(r, block, narrow, carry, t, PANEL_ROWS > 4 ? 4 : 1);
    t += 4;
  }
  for (; t + 2 <= r->rows; t += 2) panel_tile(r, block, narrow, carry, t, 2);
  for (; t < r->rows; t++) panel_tile(r, block, narrow, carry, t, 1);
}

static void panel_close(const Rows *r, const float *carry, int64_t o, int width) {
  for (int64_t t = 0; t < r->rows; t++) {
    for (int k = 0; k < width; k++) finish(r, t, o + k, r->inputs ? carry[t * PANEL + k] : 0.0f);
  }
}

static PanelBlock panel_block(const Rows *r, int64_t i, int64_t step, int64_t o, int64_t last) {
  return (PanelBlock){.w = weight_at(r, i * r->w.stride[0] + o),
                      .w_stride = r->w.stride[0],
                      .first = i,
                      .count = min64(step, r->inputs - i),
                      .width = (int)min64(PANEL, last - o)};
}

static void panel_range(const Rows *r, float *scratch, int64_t first, int64_t last) {
  for (int64_t i = 0; i < r->inputs; i += STREAM_BLOCK) {
    for (int64_t o = first; o < last; o += PANEL) {
      PanelBlock block = panel_block(r, i, STREAM_BLOCK, o, last);
      float *carry = scratch + (o - first) * r->rows;
      if (r->narrow) {
        panel_rows(r, &block, true, carry);
      } else {
        panel_rows(r, &block, false, carry);
      }
    }
  }
  for (int64_t o = first; o < last; o += PANEL) {
    panel_close(r, scratch + (o - first) * r->rows, o, (int)min64(PANEL, last - o));
  }
}

/* -- the operation --------------------------------------------------------------------------------------- */

/* How outputs are shared out: whole tiles to each thread, and its scratch in floats. */
typedef struct FewPlan {
  int64_t unit, units, per_thread;
} FewPlan;

/* For at most `most` rows: a dry run of the largest step plans for the smaller ones. */
static FewPlan few_plan(const Compute *c, const Rows *r, Weight w, int64_t most) {
  Rows few = *r;
  few.rows = min64(r->rows, most);
  FewPlan plan = {.unit = w.transposed ? PANEL : DOT_OUTPUTS * 8};
  plan.units = (weight_outputs(w) + plan.unit - 1) / plan.unit;
  const int64_t outputs = (plan.units + c->threads - 1) / c->threads * plan.unit;
  plan.per_thread = w.transposed ? few.rows * outputs : dot_floats(&few);
  plan.per_thread = (plan.per_thread + VEC - 1) / VEC * VEC;
  return plan;
}

static void few_rows(const Compute *c, const Rows *r, Weight w, const FewPlan *plan, float *scratch) {
  const int64_t outputs = weight_outputs(w), units = plan->units;
#pragma omp parallel for num_threads(c->threads) \
    schedule(static, 1) if (units > 1 && (r->rows + 8) * r->inputs * outputs > 1 << 16)
  for (int64_t k = 0; k < c->threads; k++) {
    const int64_t first = units * k / c->threads * plan->unit,
                  last = min64(units * (k + 1) / c->threads * plan->unit, outputs);
    if (w.transposed) {
      panel_range(r, scratch + k * plan->per_thread, first, last);
    } else {
      dot_range(r, scratch + k * plan->per_thread, first, last);
    }
  }
}

void CPU(linear_rows)(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta) {
  size_t mark = scratch_open(c);
  const bool of_blocks = dtype_is_blocks(w.data.dtype);
  ASSERT(w.data.dtype == DTYPE_F32 || w.data.dtype == DTYPE_BF16 || of_blocks);
  Rows r = {.x = f32(x),
            .out = f32(out),
            .bias = CPU(vector_f32)(c, bias),
            .x_stride = x.stride[0],
            .out_stride = out.stride[0],
            .rows = x.dim[0],
            .inputs = x.dim[1],
            .alpha = alpha,
            .beta = beta,
            .w = w.data,
            .narrow = w.data.dtype == DTYPE_BF16,
            .of_blocks = of_blocks};
  if (of_blocks) r.blocks = blocks_of(w.data, c->dry);
  const int64_t outputs = weight_outputs(w), many = w.transposed ? MANY_ROWS_ACROSS : MANY_ROWS;
  const int chains = w.transposed ? 1 : VEC;
  const FewPlan few = few_plan(c, &r, w, many - 1);
  int64_t floats = c->threads * few.per_thread;
  if (r.rows >= many)
    floats = max64(floats, CPU(product_floats)(c->threads, r.rows, outputs, r.inputs, chains));
  float *scratch = scratch_floats(c, floats);
  if (!c->dry && r.rows >= many) {
    const ProductFactor b = {.data = w.data.data,
                             .stride = w.data.stride[0],
                             .narrow = r.narrow,
                             .across = w.transposed,
                             .blocks = of_blocks ? &r.blocks : NULL};
    const Product p = {.m = r.rows,
                       .n = outputs,
                       .k = r.inputs,
                       .chains = chains,
                       .a = {.data = r.x, .stride = r.x_stride},
                       .b = b,
                       .alpha = alpha,
                       .beta = beta,
                       .bias = r.bias,
                       .c = r.out,
                       .ldc = r.out_stride};
    CPU(product)(c->threads, &p, scratch);
  } else if (!c->dry && r.rows > 0) {
    few_rows(c, &r, w, &few, scratch);
  }
  scratch_close(c, mark);
}
