/* What the files of the row-invariant linear share (linear_rows.c says what it is). */
#ifndef COMPUTE_CPU_LINEAR_ROWS_H
#define COMPUTE_CPU_LINEAR_ROWS_H

#include "compute/cpu/cpu.h"

#include "compute/cpu/blocks.h"

#include <math.h>

/* Up to here the weights are read once, in order, for all rows. */
enum { FEW_ROWS = 8 };

typedef struct Rows {
  const float *x;
  float *out;
  const float *bias; /* or NULL */
  int64_t x_stride, out_stride, rows, inputs;
  float alpha, beta;
  Tensor w;
  bool narrow; /* bf16 */
  bool of_blocks;
  Blocks blocks;
} Rows;

/* Every sum ends here; fmaf leaves the compiler no choice of rounding. */
INLINE void finish(const Rows *r, int64_t t, int64_t o, float sum) {
  float *out = r->out + t * r->out_stride + o;
  float y = r->bias ? fmaf(r->alpha, sum, r->bias[o]) : r->alpha * sum;
  *out = r->beta != 0 ? fmaf(r->beta, *out, y) : y;
}

#ifdef __AVX512F__

/* The same for `count` outputs from o on, a lane each. */
INLINE void finish_lanes(const Rows *r, int64_t t, int64_t o, __m128 sum, const int count) {
  float *out = r->out + t * r->out_stride + o;
  const __mmask8 lanes = (__mmask8)((1 << count) - 1);
  const __m128 alpha = _mm_set1_ps(r->alpha);
  __m128 y =
      r->bias ? _mm_fmadd_ps(alpha, sum, _mm_maskz_loadu_ps(lanes, r->bias + o)) : _mm_mul_ps(alpha, sum);
  if (r->beta != 0) y = _mm_fmadd_ps(_mm_set1_ps(r->beta), _mm_maskz_loadu_ps(lanes, out), y);
  _mm_mask_storeu_ps(out, lanes, y);
}

#endif

/* Outputs first .. last-1 of weights of blocks, for at most FEW_ROWS rows (linear_rows_blocks.c). */
void CPU(linear_rows_of_blocks)(const Rows *r, int64_t first, int64_t last);

#endif
