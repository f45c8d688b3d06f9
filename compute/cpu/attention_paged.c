/* Attention of rollouts: each row reads its sequence's keys and values block by block, in order of position,
 * with an online softmax. What is computed for a row is a function of its own query, position and cache
 * alone, so chunked prefill, batching and decoding give the same bits. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/attention_tile.h"
#include "compute/cpu/cache.h"

enum {
  STRIP = 64,
  VALUE_VECTORS = 4
}; /* keys at a time, counted from the start of their block; chains of a head's output */

/* One row and one key head: the query heads that share it. */
typedef struct PagedTask {
  float *q, *out;         /* [group][D padded to VEC] */
  float *scores;          /* [STRIP] */
  float *highest, *total; /* [group] */
  float *keys, *values;   /* [STRIP][padded]: of a cache in 8 bits; else NULL */
  int64_t size, padded, group;
} PagedTask;

/* Keys of one block, as they are read. */
typedef struct Strip {
  const void *keys, *values;
  bool narrow; /* BF16; else F32 */
  int64_t offset, stride;
  int count;
} Strip;

INLINE Vec load_cache(const void *p, bool narrow, int64_t offset, int part) {
  return narrow ? vec_load_bf16_part((const uint16_t *)p + offset, part)
                : vec_load_part((const float *)p + offset, part);
}

/* `whole`: D is a multiple of VEC. */
INLINE void strip_scores(const PagedTask *task, const float *q, const Strip *strip, bool narrow, bool whole) {
  for (int i = 0; i < strip->count; i += 4) {
    Vec sum[4] = {vec_splat(0.0f), vec_splat(0.0f), vec_splat(0.0f), vec_splat(0.0f)};
    int64_t at[4];
    for (int k = 0; k < 4; k++) at[k] = strip->offset + min64(i + k, strip->count - 1) * strip->stride;
    for (int64_t d = 0; d < task->size; d += VEC) {
      int part = whole ? VEC : vec_part(task->size - d);
      Vec qv = vec_load(q + d);
#pragma GCC unroll 4
      for (int k = 0; k < 4; k++)
        sum[k] = vec_fma(qv, load_cache(strip->keys, narrow, at[k] + d, part), sum[k]);
    }
    _mm_storeu_ps(task->scores + i, vec_sum4(sum[0], sum[1], sum[2], sum[3]));
  }
}

/* Scores of a strip become exponentials; `distance` and `place` are those of its first key. Returns the factor for what was summed before. */
static float strip_softmax(const PagedTask *task, int64_t g, ScoreRule rule, int count, float distance,
                           float place) {
  float *s = task->scores;
  Vec highest = vec_splat(task->highest[g]);
  for (int i = 0; i < count; i += VEC) {
    Vec lane = vec_iota() + vec_splat((float)i);
    Vec score = score_apply(rule, vec_load(s + i), vec_splat(distance) - lane, vec_splat(place) + lane, NULL);
    score = vec_select(vec_less(lane, vec_splat((float)count)), score, vec_splat(-1e38f));
    vec_store(s + i, score);
    highest = vec_max(highest, score);
  }
  Vec top = vec_splat(vec_highest(highest)), sum = vec_splat(0.0f);
  for (int i = 0; i < count; i += VEC) {
    Vec p = vec_exp(vec_load(s + i) - top);
    vec_store(s + i, p);
    sum += p;
  }
  float rescale = vec_first(vec_exp(vec_splat(task->highest[g]) - top));
  task->highest[g] = vec_first(top);
  task->total[g] = __builtin_fmaf(task->total[g], rescale, vec_sum(sum));
  return rescale;
}

/* Values d .. d + n * VEC - 1 of the output: n chains over the keys, n a constant where it is called. */
INLINE void values_part(const PagedTask *task, float *out, const Strip *strip, bool narrow, float rescale,
                        int64_t d, int part, const int n) {
  Vec sum[VALUE_VECTORS];
#pragma GCC unroll 4
  for (int v = 0; v < n; v++) sum[v] = vec_load(out + d + v * VEC) * vec_splat(rescale);
  for (int i = 0; i < strip->count; i++) {
    const Vec p = vec_splat(task->scores[i]);
    const int64_t at = strip->offset + i * strip->stride + d;
#pragma GCC unroll 4
    for (int v = 0; v < n; v++)
      sum[v] = vec_fma(p, load_cache(strip->values, narrow, at + v * VEC, part), sum[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < n; v++) vec_store(out + d + v * VEC, sum[v]);
}

INLINE void strip_values(const PagedTask *task, float *out, const Strip *strip, bool narrow, float rescale) {
  int64_t d = 0;
  for (; d + VALUE_VECTORS * VEC <= task->size; d += VALUE_VECTORS * VEC)
    values_part(task, out, strip, narrow, rescale, d, VEC, VALUE_VECTORS);
  for (; d < task->size; d += VEC)
    values_part(task, out, strip, narrow, rescale, d, vec_part(task->size - d), 1);
}

static void dequantise(const PagedTask *task, float *out, Tensor codes, Tensor scales, int64_t slot,
                       int count) {
  for (int64_t i = 0; i < count; i++) {
    const int8_t *row = (const int8_t *)codes.data + (slot + i) * task->size;
    const Vec scale = vec_splat(f32(scales)[slot + i]);
    int64_t d = 0;
    for (; d + VEC <= task->size; d += VEC)
      vec_store(out + i * task->padded + d, vec_load_i8(row + d) * scale);
    if (d < task->size)
      vec_store(out + i * task->padded + d, vec_load_i8_part(row + d, vec_part(task->size - d)) * scale);
  }
}

static void fetch(Tensor cache, int64_t offset, int64_t rows) {
  const size_t size = dtype_size(cache.dtype);
  const char *data = (const char *)cache.data + (size_t)offset * size;
  for (size_t at = 0; at < (size_t)(rows * cache.stride[2]) * size; at += 64)
    __builtin_prefetch(data + at, 0, 3);
}

/* Codes become values once for all heads of the group. */
static Strip strip_open(const PagedTask *task, PagedCache cache, int64_t sequence, int64_t key,
                        int64_t kv_head, int count) {
  if (cache.keys.dtype != DTYPE_I8) {
    return (Strip){cache.keys.data,
                   cache.values.data,
                   cache.keys.dtype == DTYPE_BF16,
                   cache_offset(cache, cache.keys, sequence, key, kv_head),
                   cache.keys.stride[2],
                   count};
  }
  const int64_t slot = cache_offset(cache, cache.key_scales, sequence, key, kv_head);
  dequantise(task, task->keys, cache.keys, cache.key_scales, slot, count);
  dequantise(task, task->values, cache.values, cache.value_scales, slot, count);
  return (Strip){task->keys, task->values, false, 0, task->padded, count};
}

INLINE void strip_heads(const PagedTask *task, const Strip *strip, bool narrow, float distance, float place,
                        AttentionSpec spec, int64_t first_head) {
  for (int64_t g = 0; g < task->group; g++) {
    float *q = task->q + g * task->padded, *out = task->out + g * task->padded;
    if (task->size % VEC == 0) {
      strip_scores(task, q, strip, narrow, true);
    } else {
      strip_scores(task, q, strip, narrow, false);
    }
    float rescale = strip_softmax(task, g, score_rule(spec, first_head + g), strip->count, distance, place);
    strip_values(task, out, strip, narrow, rescale);
  }
}

static void paged_strip(const PagedTask *task, const Strip *strip, float distance, float place,
                        AttentionSpec spec, int64_t first_head) {
  if (strip->narrow) {
    strip_heads(task, strip, true, distance, place, spec, first_head);
  } else {
    strip_heads(task, strip, false, distance, place, spec, first_head);
  }
}

static void paged_row(const PagedTask *task, float *out, int64_t out_stride, const float *q, int64_t q_stride,
                      PagedCache cache, int64_t sequence, int64_t position, int64_t kv_head,
                      AttentionSpec spec) {
  memset(task->out, 0, (size_t)(task->group * task->padded) * sizeof(float));
  memset(task->q, 0, (size_t)(task->group * task->padded) * sizeof(float));
  for (int64_t g = 0; g < task->group; g++) {
    for (int64_t d = 0; d < task->size; d++) task->q[g * task->padded + d] = q[g * q_stride + d] * spec.scale;
    task->highest[g] = -1e30f;
    task->total[g] = 0;
  }
  int64_t block_size = cache.keys.dim[2];
  int64_t key = spec.window > 0 ? max64(0, position - spec.window + 1) : 0;
  while (key <= position) {
    int64_t within = key % block_size;
    int64_t end = key - within + min64(block_size, (within / STRIP + 1) * STRIP);
    int count = (int)(min64(end, position + 1) - key);
    const Strip strip = strip_open(task, cache, sequence, key, kv_head, count);
    const int64_t next = key + count;
    if (!task->keys) fetch(cache.values, strip.offset, count);
    if (next <= position) {
      fetch(cache.keys, cache_offset(cache, cache.keys, sequence, next, kv_head),
            min64(min64(STRIP, block_size), position + 1 - next));
    }
    paged_strip(task, &strip, (float)(position - key), (float)key, spec, kv_head * task->group);
    key = next;
  }
  for (int64_t g = 0; g < task->group; g++) {
    float inverse = 1.0f / task->total[g];
    for (int64_t d = 0; d < task->size; d++)
      out[g * out_stride + d] = task->out[g * task->padded + d] * inverse;
  }
}

void CPU(attention_paged)(Compute *c, Tensor out, Tensor q, PagedCache cache, Tensor sequence,
                          Tensor position, AttentionSpec spec) {
  int64_t rows = q.dim[0], heads = q.dim[1], size = q.dim[2], kv_heads = cache.keys.dim[1];
  const bool codes = cache_check(cache);
  ASSERT(heads % kv_heads == 0 && cache.keys.dim[3] == size);
  int64_t group = heads / kv_heads, padded = (size + VEC - 1) / VEC * VEC;
  int64_t per_thread = 2 * group * padded + STRIP + 2 * group + VEC + (codes ? 2 * STRIP * padded : 0);
  size_t mark = scratch_open(c);
  float *memory = scratch_floats(c, c->threads * per_thread);
  if (!c->dry) {
    /* Tasks are independent and their cost varies: any thread may take any. */
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 1) if (rows * kv_heads > 1)
    for (int64_t i = 0; i < rows * kv_heads; i++) {
      int64_t n = i / kv_heads, kv = i % kv_heads;
      float *own = memory + omp_get_thread_num() * per_thread;
      PagedTask task = {
          .q = own, .out = own + group * padded, .size = size, .padded = padded, .group = group};
      task.scores = task.out + group * padded;
      task.highest = task.scores + STRIP;
      task.total = task.highest + group;
      if (codes) {
        task.keys = task.total + group + VEC;
        task.values = task.keys + STRIP * padded;
      }
      paged_row(&task, f32(out) + n * out.stride[0] + kv * group * out.stride[1], out.stride[1],
                f32(q) + n * q.stride[0] + kv * group * q.stride[1], q.stride[1], cache, i32(sequence)[n],
                i32(position)[n], kv, spec);
    }
  }
  scratch_close(c, mark);
}
