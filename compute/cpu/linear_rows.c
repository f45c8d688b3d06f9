/* The linear of rollouts: an output depends on its own row of x alone, to the bit, however many rows and
 * threads there are. Each output is one or VEC chains of fused multiply-adds whose order is a function of I
 * alone:
 *   [O,I] weights ("dot"): VEC interleaved chains over I, then the fixed tree of vec_sum;
 *   [I,O] weights ("panel"): one chain over I.
 * Tiles and blocks only choose which links of which chains are worked on together; a chain that is put aside
 * is carried on where it stopped. With few rows the weights are read once, in order, at the speed of memory;
 * with many, tiles of chains stay in registers and blocks of weights in the nearest caches. */
#include "compute/cpu/linear_rows.h"

/* Above FEW_ROWS and this, weights are brought into caches in blocks (narrow ones widened there). */
enum { STREAM_ROWS = 32 };

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

/* A tile is DOT_ROWS rows of x by DOT_OUTPUTS outputs; a block of inputs of both fits the first-level
 * cache. */
enum {
  DOT_ROWS = 4,
  DOT_OUTPUTS = VEC == 16 ? 6 : 2,
  DOT_BLOCK = 512,
  DOT_WHOLE = 1024,
  DOT_CACHE = 1 << 18
};

typedef struct DotBlock {
  const void *w;                  /* first output, first input of the block */
  int64_t w_stride, first, count; /* inputs */
  bool begins, ends;              /* the chains begin, end in this block */
} DotBlock;

/* One step of all the chains of a tile: VEC inputs from i on, `part` of them alive. */
INLINE void dot_step(Vec sum[DOT_ROWS][DOT_OUTPUTS], const float *x, int64_t x_stride, const DotBlock *block,
                     bool narrow, bool fetch, int64_t i, int part, const int n, const int m) {
  Vec wv[DOT_OUTPUTS];
#pragma GCC unroll 8
  for (int b = 0; b < m; b++) {
    wv[b] = load_weight(block->w, narrow, b * block->w_stride + i, part);
    /* The next outputs' weights come while the chains are closed. */
    int64_t next = (m + b) * block->w_stride + i;
    if (fetch) __builtin_prefetch((const char *)block->w + next * (narrow ? 2 : 4), 0, 3);
  }
#pragma GCC unroll 8
  for (int a = 0; a < n; a++) {
    Vec xv = vec_load_part(x + a * x_stride + i, part);
#pragma GCC unroll 8
    for (int b = 0; b < m; b++) sum[a][b] = vec_fma(xv, wv[b], sum[a][b]);
  }
}

INLINE void dot_close(const Rows *r, Vec sum[DOT_ROWS][DOT_OUTPUTS], int64_t t, int64_t o, const int n,
                      const int m) {
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
INLINE void dot_tile(const Rows *r, const DotBlock *block, bool narrow, bool fetch, float *carry, int64_t t,
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
  for (; i + VEC <= block->count; i += VEC) dot_step(sum, x, r->x_stride, block, narrow, fetch, i, VEC, n, m);
  if (i < block->count) {
    dot_step(sum, x, r->x_stride, block, narrow, false, i, vec_part(block->count - i), n, m);
  }
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

/* All rows for m outputs; `fetch` with the first tile. */
INLINE void dot_rows(const Rows *r, const DotBlock *block, bool narrow, bool fetch, float *carry, int64_t o,
                     const int m) {
  int64_t t = 0;
  for (; t + 4 <= r->rows; t += 4) {
    float *own = carry + t * m * VEC;
    if (fetch && t == 0) {
      dot_tile(r, block, narrow, true, own, t, o, 4, m);
    } else {
      dot_tile(r, block, narrow, false, own, t, o, 4, m);
    }
  }
  for (; t + 2 <= r->rows; t += 2) dot_tile(r, block, narrow, false, carry + t * m * VEC, t, o, 2, m);
  for (; t < r->rows; t++) dot_tile(r, block, narrow, false, carry + t * m * VEC, t, o, 1, m);
}

INLINE void dot_outputs(const Rows *r, bool narrow, float *scratch, int64_t o, const int m) {
  int64_t stride = r->w.stride[0], inputs = r->inputs;
  bool whole = !r->of_blocks && (r->rows <= FEW_ROWS || (!narrow && inputs <= DOT_WHOLE) || inputs == 0);
  float *carry = scratch + DOT_OUTPUTS * DOT_BLOCK;
  int64_t step = whole ? inputs : DOT_BLOCK;
  int64_t first = 0;
  do {
    int64_t count = min64(step, inputs - first);
    DotBlock block = {.w = weight_at(r, o * stride + first),
                      .w_stride = stride,
                      .first = first,
                      .count = count,
                      .begins = first == 0,
                      .ends = first + count == inputs};
    if (whole) {
      dot_rows(r, &block, narrow, m > 1, carry, o, m);
    } else if (r->of_blocks) {
      for (int b = 0; b < m; b++)
        blocks_to_floats(&r->blocks, (o + b) * r->blocks.per_row + first / BLOCK, count / BLOCK,
                         scratch + b * DOT_BLOCK);
      block.w = scratch;
      block.w_stride = DOT_BLOCK;
      dot_rows(r, &block, false, false, carry, o, m);
    } else if (narrow) {
      copy_block(scratch, DOT_BLOCK, block.w, true, stride, m, count);
      block.w = scratch;
      block.w_stride = DOT_BLOCK;
      dot_rows(r, &block, false, false, carry, o, m);
    } else {
      dot_rows(r, &block, false, false, carry, o, m);
    }
    first += count;
  } while (first < inputs);
}

INLINE void dot_range_of(const Rows *r, bool narrow, float *scratch, int64_t first, int64_t last) {
  int64_t o = first;
  for (; o + DOT_OUTPUTS <= last; o += DOT_OUTPUTS) dot_outputs(r, narrow, scratch, o, DOT_OUTPUTS);
  for (; o < last; o++) dot_outputs(r, narrow, scratch, o, 1);
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
  return r->rows > FEW_ROWS ? DOT_OUTPUTS * DOT_BLOCK + dot_rows_at_once(r) * DOT_OUTPUTS * VEC : 0;
}

/* -- [I,O] ----------------------------------------------------------------------------------------------- */

/* A tile is PANEL_ROWS rows by PANEL outputs. Few rows: blocks of STREAM_BLOCK inputs are run through from
 * side to side, so that memory sees a few long streams. Many rows: a panel's block is packed first. */
enum {
  PANEL_ROWS = VEC == 16 ? 6 : 3,
  PANEL_VECTORS = VEC == 16 ? 4 : 2,
  PANEL = PANEL_VECTORS * VEC,
  STREAM_BLOCK = 8,
  PACK_BLOCK = 128
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

static void panel_range_streamed(const Rows *r, float *scratch, int64_t first, int64_t last) {
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

static void panel_range_packed(const Rows *r, float *scratch, int64_t first, int64_t last) {
  float *carry = scratch + PACK_BLOCK * PANEL;
  for (int64_t o = first; o < last; o += PANEL) {
    for (int64_t i = 0; i < r->inputs; i += PACK_BLOCK) {
      PanelBlock block = panel_block(r, i, PACK_BLOCK, o, last);
      copy_block(scratch, PANEL, block.w, r->narrow, block.w_stride, block.count, block.width);
      block.w = scratch;
      block.w_stride = PANEL;
      panel_rows(r, &block, false, carry);
    }
    panel_close(r, carry, o, (int)min64(PANEL, last - o));
  }
}

/* Scratch of a thread that has at most `outputs` outputs. Never less with more rows, though few rows need the
 * most: a dry run of the largest step plans for the smaller ones. */
static int64_t panel_floats(const Rows *r, int64_t outputs) {
  int64_t streamed = min64(r->rows, STREAM_ROWS) * outputs;
  return r->rows <= STREAM_ROWS ? streamed : max64(streamed, (PACK_BLOCK + r->rows) * PANEL);
}

static void panel_range(const Rows *r, float *scratch, int64_t first, int64_t last) {
  if (r->rows <= STREAM_ROWS) {
    panel_range_streamed(r, scratch, first, last);
  } else {
    panel_range_packed(r, scratch, first, last);
  }
}

/* -- the operation --------------------------------------------------------------------------------------- */

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
  /* Whole tiles to each thread. */
  int64_t outputs = weight_outputs(w), unit = w.transposed ? PANEL : DOT_OUTPUTS * 8;
  int64_t units = (outputs + unit - 1) / unit, most = (units + c->threads - 1) / c->threads * unit;
  int64_t per_thread = w.transposed ? panel_floats(&r, most) : dot_floats(&r);
  per_thread = (per_thread + VEC - 1) / VEC * VEC;
  float *scratch = scratch_floats(c, c->threads * per_thread);
  if (!c->dry && r.rows > 0) {
#pragma omp parallel for num_threads(c->threads) \
    schedule(static, 1) if (units > 1 && (r.rows + 8) * r.inputs * outputs > 1 << 16)
    for (int64_t k = 0; k < c->threads; k++) {
      int64_t first = units * k / c->threads * unit,
              last = min64(units * (k + 1) / c->threads * unit, outputs);
      if (w.transposed) {
        panel_range(&r, scratch + k * per_thread, first, last);
      } else {
        dot_range(&r, scratch + k * per_thread, first, last);
      }
    }
  }
  scratch_close(c, mark);
}
