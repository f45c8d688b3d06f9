/* Language-model head fused with log-softmax: logits exist for a chunk of rows at a time. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector_math.h"

#include <math.h>

enum { CHUNK_FLOATS = 16 << 20 }; /* logits of a chunk: 64 MiB, or one row */

/* Rows of a chunk: of one size, since the head's weight is packed for each. In a dry run the most that fewer rows than these may have, too. */
static int64_t chunk_rows(const Compute *c, int64_t rows, int64_t vocabulary) {
  const int64_t most = max64(1, CHUNK_FLOATS / vocabulary);
  if (c->dry || rows <= most) return max64(1, min64(rows, most));
  const int64_t chunks = (rows + most - 1) / most;
  return (rows + chunks - 1) / chunks;
}

/* What is known of one row's distribution. Logits z are the transformed ones. */
typedef struct RowStats {
  float highest;  /* z of the likeliest token */
  double log_sum; /* log-sum-exp of z - highest */
  double entropy; /* nats */
} RowStats;

/* z = cap(logit) / temperature in place; returns the highest. */
static float transform_row(float *z, int64_t n, HeadSpec spec) {
  Vec highest = vec_splat(-INFINITY), scale = vec_splat(1.0f / spec.temperature);
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Vec y = vec_load_part(z + i, part);
    if (spec.softcap > 0) y = vec_splat(spec.softcap) * vec_tanh(y / vec_splat(spec.softcap));
    y = y * scale;
    vec_store_part(z + i, y, part);
    if (part < VEC) y = vec_select(vec_less(vec_iota(), vec_splat((float)part)), y, highest);
    highest = vec_max(highest, y);
  }
  return vec_highest(highest);
}

static RowStats row_stats(float *z, int64_t n, HeadSpec spec) {
  RowStats stats = {.highest = transform_row(z, n, spec)};
  double sum = 0, weighted = 0; /* of e^y and y e^y with y = z - highest, in double from span to span */
  for (int64_t first = 0; first < n; first += SPAN) {
    Vec s = vec_splat(0.0f), w = vec_splat(0.0f);
    int64_t last = min64(n, first + SPAN);
    for (int64_t i = first; i < last; i += VEC) {
      int part = vec_part(last - i);
      Vec y = vec_load_part(z + i, part) - vec_splat(stats.highest);
      if (part < VEC) y = vec_select(vec_less(vec_iota(), vec_splat((float)part)), y, vec_splat(-1e30f));
      Vec e = vec_exp(y);
      s += e;
      w = vec_fma(vec_max(y, vec_splat(-1e30f)), e, w); /* -infinity times 0 is 0 here */
    }
    sum += (double)vec_sum(s);
    weighted += (double)vec_sum(w);
  }
  stats.log_sum = log(sum);
  stats.entropy = stats.log_sum - weighted / sum;
  return stats;
}

static float row_logprob(const float *z, RowStats stats, int64_t target) {
  return (float)((double)(z[target] - stats.highest) - stats.log_sum);
}

/* z becomes the gradient of the product x W^T + bias:
 *   d logprob / d z_j = [j = target] - p_j,   d entropy / d z_j = -p_j (log p_j + entropy). */
static void row_gradient(float *z, int64_t n, RowStats stats, HeadSpec spec, int64_t target, float dlogprob,
                         float dentropy) {
  float at_target = z[target];
  Vec shift = vec_splat(stats.highest), log_sum = vec_splat((float)stats.log_sum);
  Vec entropy = vec_splat((float)stats.entropy), scale = vec_splat(1.0f / spec.temperature);
  /* derivative of the cap from the capped value y = z * temperature: 1 - (y / cap)^2 */
  Vec to_tanh = vec_splat(spec.softcap > 0 ? spec.temperature / spec.softcap : 0.0f);
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Vec y = vec_max(vec_splat(-1e30f), vec_load_part(z + i, part)); /* what is banned is -infinity */
    Vec log_p = vec_max(vec_splat(-1e30f), (y - shift) - log_sum), p = vec_exp(log_p);
    Vec d = vec_splat(-dlogprob) * p;
    if (dentropy != 0) d = vec_fma(vec_splat(-dentropy) * p, log_p + entropy, d);
    Vec t = y * to_tanh;
    vec_store_part(z + i, d * scale * (vec_splat(1.0f) - t * t), part);
  }
  float t = spec.softcap > 0 ? at_target * spec.temperature / spec.softcap : 0.0f;
  z[target] += dlogprob / spec.temperature * (1.0f - t * t);
}

typedef struct Chunk {
  int64_t first, count;
} Chunk;

static Chunk chunk_at(int64_t first, int64_t rows, int64_t step) {
  return (Chunk){first, min64(step, rows - first)};
}

/* The rows of a chunk; w, bias and b are all of them. */
static HeadTerms chunk_terms(HeadTerms all, Chunk chunk) {
  HeadTerms part = all;
  if (!tensor_is_none(all.x)) part.x = tensor_rows(all.x, chunk.first, chunk.count);
  if (!tensor_is_none(all.u)) part.u = tensor_rows(all.u, chunk.first, chunk.count);
  return part;
}

/* Edited where that is asked for; slopes: of the edits, for the backward, or none. */
static void chunk_logits(Compute *c, Tensor logits, HeadTerms z, HeadSpec spec, Chunk chunk, Tensor slopes) {
  const bool thin = !tensor_is_none(z.u);
  if (thin) CPU(linear)(c, logits, z.u, (Weight){.data = z.b}, (Tensor){0}, z.scale, 0.0f);
  CPU(linear)(c, logits, z.x, z.w, z.bias, 1.0f, thin ? 1.0f : 0.0f);
  if (!logits_edited(spec.edits)) return;
  ASSERT(!(spec.softcap > 0));
  CPU(edit_logits)(c, logits, edits_rows(spec.edits, chunk.first, chunk.count), slopes);
}

/* Room for the slopes of a chunk's edits; none without them. */
static Tensor chunk_slopes(Compute *c, HeadSpec spec, int64_t rows) {
  if (tensor_is_none(spec.edits.ids)) return (Tensor){0};
  return tensor_2d(scratch_floats(c, rows * spec.edits.most), DTYPE_F32, rows, spec.edits.most);
}

/* dz: gradient of the chunk's logits */
static void chunk_backward(Compute *c, HeadTerms d, Tensor dz, HeadTerms z) {
  if (!tensor_is_none(d.x)) CPU(linear_backward_input)(c, d.x, dz, z.w, 1.0f, 0.0f);
  d.w.narrow = z.w.data.dtype == DTYPE_BF16;
  CPU(linear_backward_weight)(c, d.w, d.bias, dz, z.x, 1.0f);
  if (tensor_is_none(z.u)) return;
  if (!tensor_is_none(d.u)) CPU(linear_backward_input)(c, d.u, dz, (Weight){.data = z.b}, z.scale, 0.0f);
  CPU(linear_backward_weight)(c, (Weight){.data = d.b}, (Tensor){0}, dz, z.u, z.scale);
}

void CPU(head_logprob)(Compute *c, Tensor logprob, Tensor entropy, HeadTerms z, Tensor targets,
                       HeadSpec spec) {
  int64_t rows = z.x.dim[0], n = weight_outputs(z.w), step = chunk_rows(c, rows, n);
  size_t mark = scratch_open(c);
  Tensor logits = tensor_2d(scratch_floats(c, step * n), DTYPE_F32, step, n);
  for (int64_t first = 0; first < rows; first += step) {
    Chunk chunk = chunk_at(first, rows, step);
    chunk_logits(c, tensor_rows(logits, 0, chunk.count), chunk_terms(z, chunk), spec, chunk, (Tensor){0});
    if (c->dry) break;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (chunk.count * n > SPAN)
    for (int64_t r = 0; r < chunk.count; r++) {
      float *row = f32(logits) + r * n;
      int64_t target = i32(targets)[first + r];
      ASSERT(target >= 0 && target < n);
      RowStats stats = row_stats(row, n, spec);
      f32(logprob)[first + r] = row_logprob(row, stats, target);
      if (!tensor_is_none(entropy)) f32(entropy)[first + r] = (float)stats.entropy;
    }
  }
  scratch_close(c, mark);
}

void CPU(head_logprob_backward)(Compute *c, HeadTerms d, Tensor logprob, HeadTerms z, Tensor targets,
                                Tensor dlogprob, Tensor dentropy, HeadSpec spec) {
  int64_t rows = z.x.dim[0], n = weight_outputs(z.w), step = chunk_rows(c, rows, n);
  size_t mark = scratch_open(c);
  Tensor logits = tensor_2d(scratch_floats(c, step * n), DTYPE_F32, step, n);
  const Tensor slopes = chunk_slopes(c, spec, step);
  for (int64_t first = 0; first < rows; first += step) {
    Chunk chunk = chunk_at(first, rows, step);
    Tensor part = tensor_rows(logits, 0, chunk.count);
    HeadTerms terms = chunk_terms(z, chunk);
    chunk_logits(c, part, terms, spec, chunk, slopes);
#pragma omp parallel for num_threads(c->threads) schedule(static) if (chunk.count * n > SPAN)
    for (int64_t r = 0; r < (c->dry ? 0 : chunk.count); r++) {
      float *logit = f32(logits) + r * n;
      int64_t row = first + r, target = i32(targets)[row];
      ASSERT(target >= 0 && target < n);
      RowStats stats = row_stats(logit, n, spec);
      if (!tensor_is_none(logprob)) f32(logprob)[row] = row_logprob(logit, stats, target);
      row_gradient(logit, n, stats, spec, target, f32(dlogprob)[row],
                   tensor_is_none(dentropy) ? 0.0f : f32(dentropy)[row]);
    }
    if (logits_edited(spec.edits))
      CPU(edit_logits_backward)(c, part, edits_rows(spec.edits, first, chunk.count), slopes);
    chunk_backward(c, chunk_terms(d, chunk), part, terms);
  }
  scratch_close(c, mark);
}
