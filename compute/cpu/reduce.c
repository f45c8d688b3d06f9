/* Reductions. */
#include "compute/cpu/cpu.h"

/* Eight interleaved sums in double, then a fixed tree: the order is a function of n alone. */
static double square_sum(const float *x, int64_t n) {
  double lane[8] = {0};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int k = 0; k < 8; k++) lane[k] += (double)x[i + k] * (double)x[i + k];
  }
  for (int k = 0; i < n; i++, k++) lane[k] += (double)x[i] * (double)x[i];
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

void CPU(sum_squares)(Compute *c, Tensor out, const Tensor *list, int64_t count) {
  ASSERT(out.dtype == DTYPE_F64);
  int64_t most = 0;
  for (int64_t t = 0; t < count; t++) most = max64(most, spans_of(list[t], list[t]).count);
  size_t mark = scratch_open(c);
  double *parts = (double *)scratch_alloc(c, (size_t)most * sizeof *parts), sum = 0;
  for (int64_t t = 0; t < count && !c->dry; t++) {
    Tensor x = list[t];
    Spans spans = spans_of(x, x);
    ASSERT(spans.rows == 1);
    FOR_SPANS(c, i, spans) {
      Span s = span_at(spans, i);
      parts[i] = square_sum(f32(x) + s.first, s.size);
    }
    double total = 0;
    for (int64_t i = 0; i < spans.count; i++) total += parts[i];
    sum += total;
  }
  if (!c->dry) *(double *)out.data = sum;
  scratch_close(c, mark);
}
