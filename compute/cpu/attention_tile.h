/* The pieces of blockwise attention.
 *
 * A task owns TILE "lanes" (queries in the forward and for dq, keys for dk and dv) and walks over "rows" (the
 * other side). Lane data is kept transposed, [D][TILE], so that the lanes fill vectors and every product is a
 * scalar of a row times a vector of lanes: rows are read where they lie, whatever their stride, and any head
 * size works without tails. Two products serve all passes:
 *
 *     tile_scores:      s[row][lane]   = sum over d of  a[row][d] * b[d][lane]
 *     tile_accumulate:  acc[d][lane]  += sum over rows of a[row][d] * s[row][lane]
 *
 * Lanes beyond the end of a sequence hold zeros and are never stored. */
#ifndef COMPUTE_CPU_ATTENTION_TILE_H
#define COMPUTE_CPU_ATTENTION_TILE_H

#include "compute/cpu/cpu.h"
#include "compute/cpu/vector_math.h"

enum { TILE_VECTORS = 4, TILE = TILE_VECTORS * VEC, TILE_ROWS = 64, TILE_BLOCK = VEC == 16 ? 4 : 2 };

/* A [T,heads,D] tensor at one head: row t of the batch begins at data + t * stride. */
typedef struct HeadRows {
  float *data;
  int64_t stride;
} HeadRows;

static inline HeadRows head_rows(Tensor x, int64_t head) {
  return (HeadRows){f32(x) + head * x.stride[1], x.stride[0]};
}

/* to[d][lane] = scale * row (first + lane), zero in the lanes from count on. Transposes 4 x 4 at a time. */
static inline void tile_load(float *to, HeadRows from, int64_t first, int count, int64_t size, float scale) {
  int lane = 0;
  int64_t blocks = size / 4 * 4;
  const __m128 factor = _mm_set1_ps(scale);
  for (; lane + 4 <= count; lane += 4) {
    const float *row = from.data + (first + lane) * from.stride;
    for (int64_t d = 0; d < blocks; d += 4) {
      __m128 q[4];
      for (int i = 0; i < 4; i++) q[i] = _mm_mul_ps(_mm_loadu_ps(row + i * from.stride + d), factor);
      _MM_TRANSPOSE4_PS(q[0], q[1], q[2], q[3]);
      for (int i = 0; i < 4; i++) _mm_storeu_ps(to + (d + i) * TILE + lane, q[i]);
    }
    for (int i = 0; i < 4; i++) {
      for (int64_t d = blocks; d < size; d++) to[d * TILE + lane + i] = row[i * from.stride + d] * scale;
    }
  }
  for (; lane < TILE; lane++) {
    const float *row = from.data + (first + lane) * from.stride;
    for (int64_t d = 0; d < size; d++) to[d * TILE + lane] = lane < count ? row[d] * scale : 0;
  }
}

/* row (first + lane) = scale[lane] * from[d][lane] */
static inline void tile_store(HeadRows to, int64_t first, int count, int64_t size, const float *from,
                              const float *scale) {
  int lane = 0;
  int64_t blocks = size / 4 * 4;
  for (; lane + 4 <= count; lane += 4) {
    float *row = to.data + (first + lane) * to.stride;
    const __m128 factor = _mm_loadu_ps(scale + lane);
    for (int64_t d = 0; d < blocks; d += 4) {
      __m128 q[4];
      for (int i = 0; i < 4; i++) q[i] = _mm_mul_ps(_mm_loadu_ps(from + (d + i) * TILE + lane), factor);
      _MM_TRANSPOSE4_PS(q[0], q[1], q[2], q[3]);
      for (int i = 0; i < 4; i++) _mm_storeu_ps(row + i * to.stride + d, q[i]);
    }
    for (int i = 0; i < 4; i++) {
      for (int64_t d = blocks; d < size; d++) {
        row[i * to.stride + d] = from[d * TILE + lane + i] * scale[lane + i];
      }
    }
  }
  for (; lane < count; lane++) {
    float *row = to.data + (first + lane) * to.stride;
    for (int64_t d = 0; d < size; d++) row[d] = from[d * TILE + lane] * scale[lane];
  }
}

static inline void tile_zero(float *x, int64_t size) {
  memset(x, 0, (size_t)size * TILE * sizeof(float));
}

/* n rows by m vectors; both constants where it is called. */
static inline __attribute__((always_inline)) void scores_block(float *s, const float *a, int64_t stride,
                                                               int64_t size, const float *b, const int n,
                                                               const int m) {
  Vec sum[4][TILE_BLOCK];
#pragma GCC unroll 4
  for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < m; j++) sum[i][j] = vec_splat(0.0f);
  }
  for (int64_t d = 0; d < size; d++) {
    Vec lanes[TILE_BLOCK];
#pragma GCC unroll 4
    for (int j = 0; j < m; j++) lanes[j] = vec_load(b + d * TILE + j * VEC);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
      Vec scalar = vec_splat(a[i * stride + d]);
#pragma GCC unroll 4
      for (int j = 0; j < m; j++) sum[i][j] = vec_fma(scalar, lanes[j], sum[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < m; j++) vec_store(s + i * TILE + j * VEC, sum[i][j]);
  }
}

static inline __attribute__((always_inline)) void scores_columns(float *s, const float *a, int64_t stride,
                                                                 int rows, int64_t size, const float *b,
                                                                 const int m) {
  int i = 0;
  for (; i + 4 <= rows; i += 4) scores_block(s + i * TILE, a + i * stride, stride, size, b, 4, m);
  for (; i < rows; i++) scores_block(s + i * TILE, a + i * stride, stride, size, b, 1, m);
}

/* Only the first `vectors` vectors of lanes are computed (rounded up to whole blocks). */
static inline void tile_scores(float *s, HeadRows a, int64_t first, int rows, int64_t size, const float *b,
                               int vectors) {
  const float *row = a.data + first * a.stride;
  if (vectors == 1) {
    scores_columns(s, row, a.stride, rows, size, b, 1);
    return;
  }
  if (vectors == 2 && TILE_BLOCK > 2) {
    scores_columns(s, row, a.stride, rows, size, b, 2);
    return;
  }
  if (vectors == 3 && TILE_BLOCK > 2) {
    scores_columns(s, row, a.stride, rows, size, b, TILE_BLOCK > 2 ? 3 : 1);
    return;
  }
  for (int j = 0; j < vectors; j += TILE_BLOCK) {
    scores_columns(s + j * VEC, row, a.stride, rows, size, b + j * VEC, TILE_BLOCK);
  }
}

static inline __attribute__((always_inline)) void accumulate_block(float *acc, const float *a, int64_t stride,
                                                                   int rows, const float *s, const int n,
                                                                   const int m) {
  Vec sum[4][TILE_BLOCK];
#pragma GCC unroll 4
  for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < m; j++) sum[i][j] = vec_load(acc + i * TILE + j * VEC);
  }
  for (int r = 0; r < rows; r++) {
    Vec lanes[TILE_BLOCK];
#pragma GCC unroll 4
    for (int j = 0; j < m; j++) lanes[j] = vec_load(s + r * TILE + j * VEC);
#pragma GCC unroll 4
    for (int i = 0; i < n; i++) {
      Vec scalar = vec_splat(a[r * stride + i]);
#pragma GCC unroll 4
      for (int j = 0; j < m; j++) sum[i][j] = vec_fma(scalar, lanes[j], sum[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < n; i++) {
#pragma GCC unroll 4
    for (int j = 0; j < m; j++) vec_store(acc + i * TILE + j * VEC, sum[i][j]);
  }
}

static inline __attribute__((always_inline)) void accumulate_columns(float *acc, const float *a,
                                                                     int64_t stride, int rows, int64_t size,
                                                                     const float *s, const int m) {
  int64_t d = 0;
  for (; d + 4 <= size; d += 4) accumulate_block(acc + d * TILE, a + d, stride, rows, s, 4, m);
  for (; d < size; d++) accumulate_block(acc + d * TILE, a + d, stride, rows, s, 1, m);
}

static inline void tile_accumulate(float *acc, HeadRows a, int64_t first, int rows, int64_t size,
                                   const float *s, int vectors) {
  const float *row = a.data + first * a.stride;
  if (vectors == 1) {
    accumulate_columns(acc, row, a.stride, rows, size, s, 1);
    return;
  }
  if (vectors == 2 && TILE_BLOCK > 2) {
    accumulate_columns(acc, row, a.stride, rows, size, s, 2);
    return;
  }
  if (vectors == 3 && TILE_BLOCK > 2) {
    accumulate_columns(acc, row, a.stride, rows, size, s, TILE_BLOCK > 2 ? 3 : 1);
    return;
  }
  for (int j = 0; j < vectors; j += TILE_BLOCK) {
    accumulate_columns(acc + j * VEC, row, a.stride, rows, size, s + j * VEC, TILE_BLOCK);
  }
}

/* From products to scores: cap, ALiBi bias, mask. `key` is the key's position, `distance` the query's minus it; a key is
 * seen when 0 <= distance < window. */
typedef struct ScoreRule {
  float cap, slope, window; /* 0: no cap; 0: no bias; a huge window: all */
  float place_scale;
} ScoreRule;

static inline ScoreRule score_rule(AttentionSpec spec, int64_t head) {
  return (ScoreRule){.cap = spec.softcap,
                     .slope = tensor_is_none(spec.slopes) ? 0.0f : f32(spec.slopes)[head],
                     .window = spec.window > 0 ? (float)spec.window : 1e30f,
                     .place_scale = spec.place_scale};
}

/* Masked scores come out so low that their exponential is 0. `slope` (may be NULL) receives d score / d
 * product of the cap. */
static inline Vec score_apply(ScoreRule rule, Vec product, Vec distance, Vec key, Vec *slope) {
  if (rule.cap > 0) {
    Vec t = vec_tanh(product / vec_splat(rule.cap));
    product = vec_splat(rule.cap) * t;
    if (slope) *slope = vec_splat(1.0f) - t * t;
  }
  if (rule.slope != 0 && rule.place_scale != 0) {
    Vec bias = vec_round_bf16(vec_splat(rule.slope) * vec_round_bf16(key));
    product = vec_fma(vec_splat(rule.place_scale), bias, product);
  } else if (rule.slope != 0) {
    product = product - vec_splat(rule.slope) * distance;
  }
  Mask seen = mask_and(vec_less(vec_splat(-0.5f), distance), vec_less(distance, vec_splat(rule.window)));
  return vec_select(seen, product, vec_splat(-1e38f));
}

/* Whether score_apply changes nothing for a tile whose distances lie in lowest .. highest. */
static inline bool score_plain(ScoreRule rule, int64_t lowest, int64_t highest) {
  return rule.cap == 0 && rule.slope == 0 && lowest >= 0 && (float)highest < rule.window;
}

/* The tasks of a batch: one per (sequence, head, tile of lanes). first_tile[b] is the number of tiles before
 * sequence b. */
typedef struct TileTask {
  int64_t begin, end; /* rows of the sequence */
  int64_t lane;       /* row of the task's first lane */
  int lanes, vectors; /* in use */
  int64_t head;
} TileTask;

static inline void count_tiles(int64_t *first_tile, Tensor offsets) {
  int64_t sequences = offsets.dim[0] - 1;
  first_tile[0] = 0;
  for (int64_t b = 0; b < sequences; b++) {
    int64_t length = i32(offsets)[b + 1] - i32(offsets)[b];
    ASSERT(length >= 0);
    first_tile[b + 1] = first_tile[b] + (length + TILE - 1) / TILE;
  }
}

static inline TileTask tile_task(const int64_t *first_tile, Tensor offsets, int64_t tile, int64_t head) {
  int64_t low = 0, high = offsets.dim[0] - 1;
  while (high - low > 1) { /* first_tile[low] <= tile < first_tile[high] */
    int64_t middle = (low + high) / 2;
    if (first_tile[middle] <= tile) {
      low = middle;
    } else {
      high = middle;
    }
  }
  TileTask task = {.begin = i32(offsets)[low], .end = i32(offsets)[low + 1], .head = head};
  task.lane = task.begin + (tile - first_tile[low]) * TILE;
  task.lanes = (int)min64(TILE, task.end - task.lane);
  task.vectors = (task.lanes + VEC - 1) / VEC;
  return task;
}

#endif
