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

/* Outputs first .. last-1 of weights of blocks, for at most FEW_ROWS rows (linear_rows_blocks.c). */
void CPU(linear_rows_of_blocks)(const Rows *r, int64_t first, int64_t last);

#endif
