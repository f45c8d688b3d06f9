/* The linear of rollouts: an output depends on its own row of x alone, to the bit, however many rows and threads
 * there are. Each output is one chain of fused multiply-adds whose order is a function of I alone:
 *   [O,I] weights: VEC interleaved chains over I, then the fixed tree of vec_sum ("dot" below);
 *   [I,O] weights: one chain over I ("stream" and "panel" below).
 * Tiles only choose which outputs are worked on together. With few rows the weights are read once, at the speed
 * of memory; with many, tiles of accumulators stay in registers. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

#include <math.h>

typedef struct Rows {
  const float *x;
  float *out;
  const float *bias; /* or NULL */
  int64_t x_stride, out_stride, rows, inputs, outputs;
  float alpha, beta;
} Rows;

/* Every sum ends here; fmaf leaves the compiler no choice of rounding. */
static inline void finish(const Rows *r, int64_t t, int64_t o, float sum) {
  float *out = r->out + t * r->out_stride + o;
  float y = r->bias ? fmaf(r->alpha, sum, r->bias[o]) : r->alpha * sum;
  *out = r->beta != 0 ? fmaf(r->beta, *out, y) : y;
}

static inline Vec load_weight(const void *w, bool narrow, int64_t offset, int part) {
  return narrow ? vec_load_bf16_part((const uint16_t *)w + offset, part)
                : vec_load_part((const float *)w + offset, part);
}

/* -- [O,I] ------------------------------------------------------------------------------------------------- */

enum { DOT_ROWS = 4, DOT_OUTPUTS = VEC == 16 ? 6 : 2 };

/* Outputs o .. o+m-1 for rows t .. t+n-1; n and m are constants where it is called. */
static inline __attribute__((always_inline)) void dot_tile(const Rows *r, const void *w, bool narrow,
                                                           int64_t w_stride, int64_t t, int64_t o,
                                                           const int n, const int m) {
  Vec sum[DOT_ROWS][DOT_OUTPUTS];
  for (int a = 0; a < n; a++) {
    for (int b = 0; b < m; b++) sum[a][b] = vec_splat(0.0f);
  }
  const float *x = r->x + t * r->x_stride;
  for (int64_t i = 0; i < r->inputs; i += VEC) {
    int part = vec_part(r->inputs - i);
    Vec wv[DOT_OUTPUTS];
#pragma GCC unroll 8
    for (int b = 0; b < m; b++) wv[b] = load_weight(w, narrow, b * w_stride + i, part);
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) {
      Vec xv = vec_load_part(x + a * r->x_stride + i, part);
#pragma GCC unroll 8
      for (int b = 0; b < m; b++) sum[a][b] = vec_fma(xv, wv[b], sum[a][b]);
    }
  }
  for (int a = 0; a < n; a++) {
    for (int b = 0; b < m; b++) finish(r, t + a, o + b, vec_sum(sum[a][b]));
  }
}

/* All rows for m outputs. */
static inline __attribute__((always_inline)) void dot_outputs(const Rows *r, const void *w, bool narrow,
                                                              int64_t w_stride, int64_t o, const int m) {
  int64_t t = 0;
  for (; t + 4 <= r->rows; t += 4) dot_tile(r, w, narrow, w_stride, t, o, 4, m);
  if (r->rows - t >= 2) {
    dot_tile(r, w, narrow, w_stride, t, o, 2, m);
    t += 2;
  }
  if (r->rows - t == 1) dot_tile(r, w, narrow, w_stride, t, o, 1, m);
}

static inline __attribute__((always_inline)) void dot_range(const Rows *r, Tensor w, bool narrow,
                                                            int64_t first, int64_t last) {
  int64_t stride = w.stride[0], size = narrow ? 2 : 4, o = first;
  for (; o + DOT_OUTPUTS <= last; o += DOT_OUTPUTS) {
    dot_outputs(r, (const char *)w.data + o * stride * size, narrow, stride, o, DOT_OUTPUTS);
  }
  for (; o < last; o++) dot_outputs(r, (const char *)w.data + o * stride * size, narrow, stride, o, 1);
}

/* -- [I,O] ------------------------------------------------------------------------------------------------- */

enum { PANEL_ROWS = VEC == 16 ? 6 : 3, PANEL_VECTORS = VEC == 16 ? 4 : 2, PANEL = PANEL_VECTORS * VEC };

/* A tile of n rows and the outputs o .. o+width-1, width <= PANEL. */
static inline __attribute__((always_inline)) void panel_tile(const Rows *r, const void *w, bool narrow,
                                                             int64_t w_stride, int64_t t, int64_t o,
                                                             int width, const int n) {
  Vec sum[PANEL_ROWS][PANEL_VECTORS];
  int part[PANEL_VECTORS];
  for (int b = 0; b < PANEL_VECTORS; b++) {
    int left = width - b * VEC;
    part[b] = left < 0 ? 0 : left < VEC ? left : VEC;
    for (int a = 0; a < n; a++) sum[a][b] = vec_splat(0.0f);
  }
  const float *x = r->x + t * r->x_stride;
  for (int64_t i = 0; i < r->inputs; i++) {
    Vec wv[PANEL_VECTORS];
#pragma GCC unroll 8
    for (int b = 0; b < PANEL_VECTORS; b++)
      wv[b] = load_weight(w, narrow, i * w_stride + o + b * VEC, part[b]);
#pragma GCC unroll 8
    for (int a = 0; a < n; a++) {
      Vec xv = vec_splat(x[a * r->x_stride + i]);
#pragma GCC unroll 8
      for (int b = 0; b < PANEL_VECTORS; b++) sum[a][b] = vec_fma(xv, wv[b], sum[a][b]);
    }
  }
  float lanes[PANEL];
  for (int a = 0; a < n; a++) {
    for (int b = 0; b < PANEL_VECTORS; b++) vec_store(lanes + b * VEC, sum[a][b]);
    for (int k = 0; k < width; k++) finish(r, t + a, o + k, lanes[k]);
  }
}

static inline __attribute__((always_inline)) void panel_range(const Rows *r, Tensor w, bool narrow,
                                                              int64_t first, int64_t last) {
  for (int64_t o = first; o < last; o += PANEL) {
    int width = (int)min64(PANEL, last - o);
    int64_t t = 0;
    for (; t + PANEL_ROWS <= r->rows; t += PANEL_ROWS) {
      panel_tile(r, w.data, narrow, w.stride[0], t, o, width, PANEL_ROWS);
    }
    for (; t < r->rows; t++) panel_tile(r, w.data, narrow, w.stride[0], t, o, width, 1);
  }
}

/* -- the operation ----------------------------------------------------------------------------------------- */

static void run_range(const Rows *r, Weight w, int64_t first, int64_t last) {
  bool narrow = w.data.dtype == DTYPE_BF16;
  if (w.transposed) {
    if (narrow) {
      panel_range(r, w.data, true, first, last);
    } else {
      panel_range(r, w.data, false, first, last);
    }
  } else if (narrow) {
    dot_range(r, w.data, true, first, last);
  } else {
    dot_range(r, w.data, false, first, last);
  }
}

void CPU(linear_rows)(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta) {
  size_t mark = scratch_open(c);
  const float *b = CPU(vector_f32)(c, bias);
  if (!c->dry) {
    ASSERT(w.data.dtype == DTYPE_F32 || w.data.dtype == DTYPE_BF16);
    Rows r = {.x = f32(x),
              .out = f32(out),
              .bias = b,
              .x_stride = x.stride[0],
              .out_stride = out.stride[0],
              .rows = x.dim[0],
              .inputs = x.dim[1],
              .outputs = weight_outputs(w),
              .alpha = alpha,
              .beta = beta};
    /* Whole cache lines and tiles to each thread. */
    int64_t unit = w.transposed ? PANEL : DOT_OUTPUTS * 8, units = (r.outputs + unit - 1) / unit;
#pragma omp parallel for num_threads(c->threads) schedule(static, 1) if (units > 1)
    for (int64_t k = 0; k < c->threads; k++) {
      int64_t first = units * k / c->threads * unit, last = units * (k + 1) / c->threads * unit;
      run_range(&r, w, first, min64(last, r.outputs));
    }
  }
  scratch_close(c, mark);
}
