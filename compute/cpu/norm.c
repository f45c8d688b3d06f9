/* LayerNorm (Ba et al. 2016) and RMSNorm (Zhang & Sennrich 2019) over the last dimension. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector.h"

#include <math.h>

/* A tensor [N,C] or [T,H,D] seen as rows: row r begins at row_offset. */
static inline int64_t row_count(Tensor x) {
  return x.rank == 3 ? x.dim[0] * x.dim[1] : x.dim[0];
}

static inline int64_t row_offset(Tensor x, int64_t r) {
  return x.rank == 3 ? r / x.dim[1] * x.stride[0] + r % x.dim[1] * x.stride[1] : r * x.stride[0];
}

static float row_sum(const float *x, int64_t n) {
  Vec sum = vec_splat(0.0f);
  for (int64_t i = 0; i < n; i += VEC) sum += vec_load_part(x + i, vec_part(n - i));
  return vec_sum(sum);
}

/* sum of (x - center)^2; the dead lanes of the last vector are kept out. */
static float row_square_sum(const float *x, int64_t n, float center) {
  Vec sum = vec_splat(0.0f);
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Vec d = vec_load_part(x + i, part) - vec_splat(center);
    if (part < VEC) d = vec_select(vec_less(vec_iota(), vec_splat((float)part)), d, vec_splat(0.0f));
    sum = vec_fma(d, d, sum);
  }
  return vec_sum(sum);
}

static inline Vec weight_at(const float *weight, float offset, int64_t i, int part) {
  if (!weight) return vec_splat(1.0f);
  return vec_load_part(weight + i, part) + vec_splat(offset);
}

static void norm_row(float *out, const float *x, int64_t n, float mean, float rstd, const float *weight,
                     const float *bias, float weight_offset) {
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Vec y = (vec_load_part(x + i, part) - vec_splat(mean)) * vec_splat(rstd);
    if (weight) y = y * weight_at(weight, weight_offset, i, part);
    if (bias) y = y + vec_load_part(bias + i, part);
    vec_store_part(out + i, y, part);
  }
}

void CPU(norm)(Compute *c, Tensor out, Tensor mean, Tensor rstd, Tensor x, Tensor weight, Tensor bias,
               NormSpec spec) {
  size_t mark = scratch_open(c);
  const float *w = CPU(vector_f32)(c, weight), *b = CPU(vector_f32)(c, bias);
  if (!c->dry) {
    int64_t rows = row_count(x), n = x.dim[x.rank - 1];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (rows * n > SPAN)
    for (int64_t r = 0; r < rows; r++) {
      const float *px = f32(x) + row_offset(x, r);
      float m = spec.kind == NORM_LAYER ? row_sum(px, n) / (float)n : 0.0f;
      float s = 1.0f / sqrtf(row_square_sum(px, n, m) / (float)n + spec.eps);
      if (!tensor_is_none(mean)) f32(mean)[r] = m;
      if (!tensor_is_none(rstd)) f32(rstd)[r] = s;
      norm_row(f32(out) + row_offset(out, r), px, n, m, s, w, b, spec.weight_offset);
    }
  }
  scratch_close(c, mark);
}

void CPU(norm_pair)(Compute *c, NormTerms first, NormTerms second, NormSpec spec) {
  CPU(norm)(c, first.out, first.mean, first.rstd, first.x, first.weight, first.bias, spec);
  CPU(norm)(c, second.out, second.mean, second.rstd, second.x, second.weight, second.bias, spec);
}

typedef struct NormRow {
  const float *dy, *x, *weight;
  float mean, rstd, weight_offset;
  int64_t n;
} NormRow;

/* Adds the row's part of dweight and dbias (each may be NULL); returns the means of g and g*xhat, where
 * g = dy * w and xhat = (x - mean) * rstd. */
static void norm_backward_sums(NormRow row, float *dweight, float *dbias, float *mean_g, float *mean_gx) {
  Vec sum_g = vec_splat(0.0f), sum_gx = vec_splat(0.0f);
  for (int64_t i = 0; i < row.n; i += VEC) {
    int part = vec_part(row.n - i);
    Vec dy = vec_load_part(row.dy + i, part);
    Vec xhat = (vec_load_part(row.x + i, part) - vec_splat(row.mean)) * vec_splat(row.rstd);
    Vec g = dy * weight_at(row.weight, row.weight_offset, i, part);
    sum_g += g;
    sum_gx = vec_fma(g, xhat, sum_gx);
    if (dweight) vec_store_part(dweight + i, vec_fma(dy, xhat, vec_load_part(dweight + i, part)), part);
    if (dbias) vec_store_part(dbias + i, vec_load_part(dbias + i, part) + dy, part);
  }
  *mean_g = vec_sum(sum_g) / (float)row.n;
  *mean_gx = vec_sum(sum_gx) / (float)row.n;
}

/* dx = rstd * (g - mean(g) - xhat * mean(g*xhat)) + beta * dx; RMSNorm has no mean(g). */
static void norm_backward_row(float *dx, NormRow row, float mean_g, float mean_gx, float beta) {
  for (int64_t i = 0; i < row.n; i += VEC) {
    int part = vec_part(row.n - i);
    Vec xhat = (vec_load_part(row.x + i, part) - vec_splat(row.mean)) * vec_splat(row.rstd);
    Vec g = vec_load_part(row.dy + i, part) * weight_at(row.weight, row.weight_offset, i, part);
    Vec d = vec_splat(row.rstd) * (g - vec_splat(mean_g) - xhat * vec_splat(mean_gx));
    if (beta != 0) d = vec_fma(vec_splat(beta), vec_load_part(dx + i, part), d);
    vec_store_part(dx + i, d, part);
  }
}

/* total += the parts, one after the other. */
static void add_parts(float *total, const float *parts, int64_t count, int64_t stride, int64_t n) {
  for (int64_t k = 0; k < count; k++) {
    for (int64_t i = 0; i < n; i++) total[i] += parts[k * stride + i];
  }
}

void CPU(norm_backward)(Compute *c, Tensor dx, Tensor dweight, Tensor dbias, Tensor dy, Tensor x, Tensor mean,
                        Tensor rstd, Tensor weight, NormSpec spec, float beta) {
  size_t mark = scratch_open(c);
  int64_t rows = row_count(x), n = x.dim[x.rank - 1], threads = c->threads;
  const float *w = CPU(vector_f32)(c, weight);
  float *parts = scratch_floats(c, threads * 2 * n); /* per thread: dweight, dbias */
  if (!c->dry) {
    bool layer = spec.kind == NORM_LAYER;
    bool want_weight = !tensor_is_none(dweight), want_bias = !tensor_is_none(dbias);
#pragma omp parallel for num_threads(c->threads) schedule(static, 1) if (rows * n > SPAN)
    for (int64_t k = 0; k < threads; k++) {
      float *part_weight = parts + k * 2 * n, *part_bias = part_weight + n;
      memset(part_weight, 0, (size_t)(2 * n) * sizeof(float));
      for (int64_t r = rows * k / threads; r < rows * (k + 1) / threads; r++) {
        NormRow row = {.dy = f32(dy) + row_offset(dy, r),
                       .x = f32(x) + row_offset(x, r),
                       .weight = w,
                       .mean = layer ? f32(mean)[r] : 0.0f,
                       .rstd = f32(rstd)[r],
                       .weight_offset = spec.weight_offset,
                       .n = n};
        float mean_g, mean_gx;
        norm_backward_sums(row, want_weight ? part_weight : NULL, want_bias ? part_bias : NULL, &mean_g,
                           &mean_gx);
        norm_backward_row(f32(dx) + row_offset(dx, r), row, layer ? mean_g : 0.0f, mean_gx, beta);
      }
    }
    if (want_weight) add_parts(f32(dweight), parts, threads, 2 * n, n);
    if (want_bias) add_parts(f32(dbias), parts + n, threads, 2 * n, n);
  }
  scratch_close(c, mark);
}
