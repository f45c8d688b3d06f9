/* Attention of rollouts: each row reads its sequence's keys and values block by block, in order of position,
 * with an online softmax. What is computed for a row is a function of its own query, position and cache
 * alone, so chunked prefill, batching and decoding give the same bits. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/attention_tile.h"
#include "compute/cpu/cache.h"

enum {
  STRIP = 32,
  VALUE_VECTORS = 4
}; /* keys at a time, by their position in the sequence; chains of a head's output */

/* One row and one key head: the query heads that share it. */
typedef struct PagedTask {
  float *q, *out;         /* [group][D padded to VEC] */
  float *scores;          /* [STRIP] */
  float *highest, *total; /* [group] */
  float *keys, *values;   /* [STRIP][padded]: of a cache in 8 bits; else NULL */
  int64_t size, padded, group;
} PagedTask;

/* Keys as they are read, of as many blocks as they lie in. */
typedef struct Strip {
  const void *keys, *values;
  bool narrow; /* BF16; else F32 */
  int count;
  int64_t at[STRIP]; /* where each begins */
} Strip;

/* Keys that are wanted after those of the strip at hand: called for evenly beside the work on these. */
typedef struct Ahead {
  const char *keys, *values;
  int64_t bytes;   /* of a key */
  int count, next; /* keys, the first that was not called for */
  int64_t at[STRIP];
} Ahead;

INLINE void call_ahead(Ahead *ahead, int64_t keys) {
  for (; keys > 0 && ahead->next < ahead->count; keys--, ahead->next++) {
    for (int64_t b = 0; b < ahead->bytes; b += 64) {
      __builtin_prefetch(ahead->keys + ahead->at[ahead->next] + b, 0, 2);
      __builtin_prefetch(ahead->values + ahead->at[ahead->next] + b, 0, 2);
    }
  }
}

INLINE Vec load_cache(const void *p, bool narrow, int64_t offset, int part) {
  return narrow ? vec_load_bf16_part((const uint16_t *)p + offset, part)
                : vec_load_part((const float *)p + offset, part);
}

/* `whole`: D is a multiple of VEC. */
INLINE void strip_scores(const PagedTask *task, const float *q, const Strip *strip, Ahead *ahead, bool narrow,
                         bool whole) {
  const int64_t called = (3 + task->group) / task->group;
  for (int i = 0; i < strip->count; i += 4) {
    call_ahead(ahead, called);
    Vec sum[4] = {vec_splat(0.0f), vec_splat(0.0f), vec_splat(0.0f), vec_splat(0.0f)};
    int64_t at[4];
    for (int k = 0; k < 4; k++) at[k] = strip->at[min64(i + k, strip->count - 1)];
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
    const int64_t at = strip->at[i] + d;
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

static void dequantise(const PagedTask *task, float *out, Tensor codes, Tensor scales, int64_t slot) {
  const int8_t *row = (const int8_t *)codes.data + slot * task->size;
  const Vec scale = vec_splat(f32(scales)[slot]);
  int64_t d = 0;
  for (; d + VEC <= task->size; d += VEC) vec_store(out + d, vec_load_i8(row + d) * scale);
  if (d < task->size) vec_store(out + d, vec_load_i8_part(row + d, vec_part(task->size - d)) * scale);
}

/* Keys from `first` on to the end of their strip or to `position`: 0 where there are none. */
static int strip_count(int64_t first, int64_t position) {
  return (int)max64(0, min64((first / STRIP + 1) * STRIP, position + 1) - first);
}

/* Where keys first .. first+count-1 lie, in elements of `cache`. */
static void strip_places(int64_t at[STRIP], PagedCache paged, Tensor cache, int64_t sequence, int64_t kv_head,
                         int64_t first, int count) {
  const int64_t block_size = cache.dim[2];
  for (int i = 0; i < count;) {
    const int64_t offset = cache_offset(paged, cache, sequence, first + i, kv_head);
    const int end = (int)min64(count, i + block_size - (first + i) % block_size);
    for (int64_t k = 0; i < end; k++) at[i++] = offset + k * cache.stride[2];
  }
}

/* Keys first .. of a sequence, up to the end of their strip or to `position`. Codes become values once for all heads of the group. */
static void strip_open(Strip *strip, const PagedTask *task, PagedCache cache, int64_t sequence, int64_t first,
                       int64_t position, int64_t kv_head) {
  strip->count = strip_count(first, position);
  if (cache.keys.dtype != DTYPE_I8) {
    strip->keys = cache.keys.data;
    strip->values = cache.values.data;
    strip->narrow = cache.keys.dtype == DTYPE_BF16;
    strip_places(strip->at, cache, cache.keys, sequence, kv_head, first, strip->count);
    return;
  }
  strip_places(strip->at, cache, cache.key_scales, sequence, kv_head, first, strip->count);
  strip->keys = task->keys;
  strip->values = task->values;
  strip->narrow = false;
  for (int i = 0; i < strip->count; i++) {
    dequantise(task, task->keys + i * task->padded, cache.keys, cache.key_scales, strip->at[i]);
    dequantise(task, task->values + i * task->padded, cache.values, cache.value_scales, strip->at[i]);
    strip->at[i] = i * task->padded;
  }
}

INLINE void strip_heads(const PagedTask *task, const Strip *strip, Ahead *ahead, bool narrow, float distance,
                        float place, AttentionSpec spec, int64_t first_head) {
  for (int64_t g = 0; g < task->group; g++) {
    float *q = task->q + g * task->padded, *out = task->out + g * task->padded;
    if (task->size % VEC == 0) {
      strip_scores(task, q, strip, ahead, narrow, true);
    } else {
      strip_scores(task, q, strip, ahead, narrow, false);
    }
    float rescale = strip_softmax(task, g, score_rule(spec, first_head + g), strip->count, distance, place);
    strip_values(task, out, strip, narrow, rescale);
  }
}

/* The strip of keys that begins at `first`, if there is one. */
static Ahead ahead_of(PagedCache cache, int64_t sequence, int64_t first, int64_t position, int64_t kv_head) {
  const int64_t size = (int64_t)dtype_size(cache.keys.dtype);
  Ahead ahead = {.keys = cache.keys.data, .values = cache.values.data, .bytes = cache.keys.dim[3] * size};
  ahead.count = strip_count(first, position);
  strip_places(ahead.at, cache, cache.keys, sequence, kv_head, first, ahead.count);
  for (int i = 0; i < ahead.count; i++) ahead.at[i] *= size;
  return ahead;
}

static void paged_strip(const PagedTask *task, const Strip *strip, Ahead *ahead, float distance, float place,
                        AttentionSpec spec, int64_t first_head) {
  if (strip->narrow) {
    strip_heads(task, strip, ahead, true, distance, place, spec, first_head);
  } else {
    strip_heads(task, strip, ahead, false, distance, place, spec, first_head);
  }
}

/* One row of queries and what it looks at. */
typedef struct PagedRow {
  int64_t sequence, position, kv_head;
} PagedRow;

static int64_t first_key(int64_t position, AttentionSpec spec) {
  return spec.window > 0 ? max64(0, position - spec.window + 1) : 0;
}

/* `then`: the row that this thread will probably take next, or NULL. */
static void paged_row(const PagedTask *task, float *out, int64_t out_stride, const float *q, int64_t q_stride,
                      PagedCache cache, PagedRow row, const PagedRow *then, AttentionSpec spec) {
  const int64_t position = row.position;
  memset(task->out, 0, (size_t)(task->group * task->padded) * sizeof(float));
  memset(task->q, 0, (size_t)(task->group * task->padded) * sizeof(float));
  for (int64_t g = 0; g < task->group; g++) {
    for (int64_t d = 0; d < task->size; d++) task->q[g * task->padded + d] = q[g * q_stride + d] * spec.scale;
    task->highest[g] = -1e30f;
    task->total[g] = 0;
  }
  Strip strip;
  for (int64_t key = first_key(position, spec); key <= position; key += strip.count) {
    strip_open(&strip, task, cache, row.sequence, key, position, row.kv_head);
    Ahead ahead = {0};
    if (key + strip.count <= position) {
      ahead = ahead_of(cache, row.sequence, key + strip.count, position, row.kv_head);
    } else if (then) {
      ahead = ahead_of(cache, then->sequence, first_key(then->position, spec), then->position, then->kv_head);
    }
    paged_strip(task, &strip, &ahead, (float)(position - key), (float)key, spec, row.kv_head * task->group);
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
      const int64_t next = i + c->threads;
      PagedRow then = {0};
      if (next < rows * kv_heads)
        then = (PagedRow){i32(sequence)[next / kv_heads], i32(position)[next / kv_heads], next % kv_heads};
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
                f32(q) + n * q.stride[0] + kv * group * q.stride[1], q.stride[1], cache,
                (PagedRow){i32(sequence)[n], i32(position)[n], kv}, next < rows * kv_heads ? &then : NULL,
                spec);
    }
  }
  scratch_close(c, mark);
}
