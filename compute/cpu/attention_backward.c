/* Attention over packed sequences, backward (Dao et al. 2022, algorithm 4): probabilities are recomputed from
 * the stored log-sum-exp. Two passes, each with its own tasks and no shared sums:
 *   dq:      lanes are queries, rows are keys;
 *   dk, dv:  lanes are keys, rows are the queries of all heads that share the key head, in order.
 * With P = exp(score - lse) and delta = sum over d of dout * out:
 *   dV = P^T dout,  dS = P * (dout V^T - delta) * (slope of the cap)
 *   dQ = scale * dS K,  dK = scale * dS^T Q */
#include "compute/cpu/attention_tile.h"

typedef struct Gradient {
  Tensor dq, dk, dv, dout, lse, q, k, v;
  const float *delta; /* [T,H] */
  int64_t size, heads, group;
  AttentionSpec spec;
} Gradient;

/* delta[t,h] */
static void put_delta(const Compute *c, float *delta, Tensor dout, Tensor out) {
  int64_t tokens = out.dim[0], heads = out.dim[1], size = out.dim[2];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (tensor_count(out) > SPAN)
  for (int64_t t = 0; t < tokens; t++) {
    for (int64_t h = 0; h < heads; h++) {
      const float *a = f32(dout) + t * dout.stride[0] + h * dout.stride[1];
      const float *b = f32(out) + t * out.stride[0] + h * out.stride[1];
      Vec sum = vec_splat(0.0f);
      for (int64_t d = 0; d < size; d += VEC) {
        int part = vec_part(size - d);
        sum = vec_fma(vec_load_part(a + d, part), vec_load_part(b + d, part), sum);
      }
      delta[t * heads + h] = vec_sum(sum);
    }
  }
}

/* One vector: scores become P, dP becomes dS. */
static inline void probability(float *score, float *dp, ScoreRule rule, bool plain, Vec distance, Vec key,
                               Vec lse, Vec delta) {
  Vec z = vec_load(score), slope = vec_splat(1.0f);
  if (!plain) z = score_apply(rule, z, distance, key, &slope);
  Vec p = vec_exp(z - lse);
  vec_store(score, p);
  Vec d = p * (vec_load(dp) - delta);
  if (!plain) d = d * slope;
  vec_store(dp, d);
}

/* -- dq -------------------------------------------------------------------------------------------------- */

static int64_t query_floats(int64_t size) {
  return (3 * size + 2 * TILE_ROWS + 3) * TILE;
}

static void query_task(const Gradient *g, TileTask task, float *memory) {
  int64_t size = g->size, h = task.head, first_head = h / g->group;
  float *q = memory, *dout = q + size * TILE, *dq = dout + size * TILE, *s = dq + size * TILE;
  float *dp = s + TILE_ROWS * TILE, *lse = dp + TILE_ROWS * TILE, *delta = lse + TILE, *scale = delta + TILE;
  ScoreRule rule = score_rule(g->spec, h);
  tile_load(q, head_rows(g->q, h), task.lane, task.lanes, size, g->spec.scale);
  tile_load(dout, head_rows(g->dout, h), task.lane, task.lanes, size, 1.0f);
  tile_zero(dq, size);
  for (int i = 0; i < TILE; i++) {
    bool used = i < task.lanes;
    lse[i] = used ? f32(g->lse)[(task.lane + i) * g->lse.stride[0] + h] : 0.0f;
    delta[i] = used ? g->delta[(task.lane + i) * g->heads + h] : 0.0f;
    scale[i] = g->spec.scale;
  }
  HeadRows k = head_rows(g->k, first_head), v = head_rows(g->v, first_head);
  int64_t last = task.lane + task.lanes;
  int64_t first = g->spec.window > 0 ? max64(task.begin, task.lane - g->spec.window + 1) : task.begin;
  for (int64_t key = first; key < last; key += TILE_ROWS) {
    int rows = (int)min64(TILE_ROWS, last - key);
    tile_scores(s, k, key, rows, size, q, task.vectors);
    tile_scores(dp, v, key, rows, size, dout, task.vectors);
    bool plain = score_plain(rule, task.lane - (key + rows - 1), last - 1 - key);
    for (int r = 0; r < rows; r++) {
      for (int j = 0; j < task.vectors * VEC; j += VEC) {
        Vec distance = vec_iota() + vec_splat((float)(task.lane + j - key - r));
        probability(s + r * TILE + j, dp + r * TILE + j, rule, plain, distance,
                    vec_splat((float)(key + r - task.begin)), vec_load(lse + j), vec_load(delta + j));
      }
    }
    tile_accumulate(dq, k, key, rows, size, dp, task.vectors);
  }
  tile_store(head_rows(g->dq, h), task.lane, task.lanes, size, dq, scale);
}

/* -- dk, dv ---------------------------------------------------------------------------------------------- */

static int64_t key_floats(int64_t size) {
  return (4 * size + 2 * TILE_ROWS + 2) * TILE;
}

typedef struct KeyTile {
  float *k, *v, *dk, *dv, *s, *dp;
} KeyTile;

/* The part of one query head. */
static void key_task_head(const Gradient *g, TileTask task, KeyTile tile, int64_t h) {
  ScoreRule rule = score_rule(g->spec, h);
  HeadRows q = head_rows(g->q, h), dout = head_rows(g->dout, h);
  int64_t size = g->size, end = task.end;
  if (g->spec.window > 0) end = min64(end, task.lane + task.lanes - 1 + g->spec.window);
  for (int64_t query = task.lane; query < end; query += TILE_ROWS) {
    int rows = (int)min64(TILE_ROWS, end - query);
    tile_scores(tile.s, q, query, rows, size, tile.k, task.vectors);
    tile_scores(tile.dp, dout, query, rows, size, tile.v, task.vectors);
    bool plain = score_plain(rule, query - (task.lane + task.lanes - 1), query + rows - 1 - task.lane);
    for (int r = 0; r < rows; r++) {
      Vec lse = vec_splat(f32(g->lse)[(query + r) * g->lse.stride[0] + h]);
      Vec delta = vec_splat(g->delta[(query + r) * g->heads + h]);
      for (int j = 0; j < task.vectors * VEC; j += VEC) {
        Vec distance = vec_splat((float)(query + r - task.lane - j)) - vec_iota();
        Vec key = vec_iota() + vec_splat((float)(task.lane + j - task.begin));
        probability(tile.s + r * TILE + j, tile.dp + r * TILE + j, rule, plain, distance, key, lse, delta);
      }
    }
    tile_accumulate(tile.dv, dout, query, rows, size, tile.s, task.vectors);
    tile_accumulate(tile.dk, q, query, rows, size, tile.dp, task.vectors);
  }
}

static void key_task(const Gradient *g, TileTask task, float *memory) {
  int64_t size = g->size, span = size * TILE, kv = task.head;
  KeyTile tile = {.k = memory, .v = memory + span, .dk = memory + 2 * span, .dv = memory + 3 * span};
  tile.s = memory + 4 * span;
  tile.dp = tile.s + TILE_ROWS * TILE;
  float *scale = tile.dp + TILE_ROWS * TILE, *one = scale + TILE;
  tile_load(tile.k, head_rows(g->k, kv), task.lane, task.lanes, size, g->spec.scale);
  tile_load(tile.v, head_rows(g->v, kv), task.lane, task.lanes, size, 1.0f);
  tile_zero(tile.dk, size);
  tile_zero(tile.dv, size);
  for (int i = 0; i < TILE; i++) {
    scale[i] = g->spec.scale;
    one[i] = 1.0f;
  }
  for (int64_t h = kv * g->group; h < (kv + 1) * g->group; h++) key_task_head(g, task, tile, h);
  tile_store(head_rows(g->dk, kv), task.lane, task.lanes, size, tile.dk, scale);
  tile_store(head_rows(g->dv, kv), task.lane, task.lanes, size, tile.dv, one);
}

void CPU(attention_backward)(Compute *c, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor out, Tensor lse,
                             Tensor q, Tensor k, Tensor v, Tensor offsets, AttentionSpec spec) {
  int64_t heads = q.dim[1], kv_heads = k.dim[1], size = q.dim[2];
  size_t mark = scratch_open(c);
  int64_t *first_tile = scratch_alloc(c, (size_t)offsets.dim[0] * sizeof *first_tile);
  float *delta = scratch_floats(c, q.dim[0] * heads);
  int64_t per_thread = max64(query_floats(size), key_floats(size));
  float *memory = scratch_floats(c, c->threads * per_thread);
  if (!c->dry) {
    Gradient g = {.dq = dq,
                  .dk = dk,
                  .dv = dv,
                  .dout = dout,
                  .lse = lse,
                  .q = q,
                  .k = k,
                  .v = v,
                  .delta = delta,
                  .size = size,
                  .heads = heads,
                  .group = heads / kv_heads,
                  .spec = spec};
    put_delta(c, delta, dout, out);
    count_tiles(first_tile, offsets);
    int64_t tiles = first_tile[offsets.dim[0] - 1];
    /* Tasks are independent and their cost varies: any thread may take any. */
#pragma omp parallel num_threads(c->threads) if (tiles * heads > 1)
    {
      float *own = memory + omp_get_thread_num() * per_thread;
#pragma omp for schedule(dynamic, 1) nowait
      for (int64_t i = 0; i < tiles * kv_heads; i++) {
        key_task(&g, tile_task(first_tile, offsets, i / kv_heads, i % kv_heads), own);
      }
#pragma omp for schedule(dynamic, 1)
      for (int64_t i = 0; i < tiles * heads; i++) {
        query_task(&g, tile_task(first_tile, offsets, tiles - 1 - i / heads, i % heads), own);
      }
    }
  }
  scratch_close(c, mark);
}
