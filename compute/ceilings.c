#include "compute/ceilings.h"

#include "base/log.h"
#include "compute/ops.h"

#include <math.h>

typedef float Quad __attribute__((vector_size(16))); /* what every x86-64 has */

double ceiling_reading(Compute *compute, Arena *arena) {
  const int64_t n = (int64_t)1 << 26, quads = n / 4;
  const size_t mark = arena_mark(arena);
  const Tensor all = tensor_new_1d(arena, DTYPE_F32, n);
  op_fill(compute, all, 1);
  const Quad *data = all.data;
  double best = INFINITY;
  volatile float sink = 0;
  for (int repeat = 0; repeat < 8; repeat++) {
    const double start = time_monotonic();
#pragma omp parallel for num_threads(compute->threads) schedule(static)
    for (int64_t first = 0; first < quads; first += 1024) {
      Quad sum[8] = {0};
      for (int64_t i = first; i < first + 1024; i += 8) {
#pragma GCC unroll 8
        for (int k = 0; k < 8; k++) sum[k] += data[i + k];
      }
      sum[0] += sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
      if (sum[0][0] < 0) sink = sum[0][1]; /* never, but the compiler cannot know */
    }
    best = fmin(best, time_monotonic() - start);
  }
  (void)sink;
  arena_release(arena, mark);
  return (double)n * 4 / best;
}

bool ceiling_product(Compute *compute, Arena *arena, DType weights, double seconds, double *rate,
                     Error *error) {
  enum { N = 2048 };
  const size_t mark = arena_mark(arena);
  const Tensor x = tensor_new_2d(arena, DTYPE_F32, N, N), y = tensor_new_2d(arena, DTYPE_F32, N, N),
               none = {0};
  const Weight w = {.data = tensor_new_2d(arena, weights, N, N)};
  compute_dry_begin(compute);
  op_linear(compute, y, x, w, none, 1, 0);
  if (!compute_dry_end(compute, error)) return false;
  op_fill(compute, x, 0.5f);
  op_fill(compute, w.data, 0.01f);
  double best = INFINITY;
  for (double began = time_monotonic(), last = began; last - began < seconds || best == INFINITY;) {
    op_linear(compute, y, x, w, none, 1, 0);
    const double now = time_monotonic();
    best = fmin(best, now - last);
    last = now;
  }
  *rate = 2.0 * N * N * N / best;
  arena_release(arena, mark);
  return true;
}
