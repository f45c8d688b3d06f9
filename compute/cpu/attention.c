/* Attention over packed sequences, forward: FlashAttention's online softmax (Dao et al. 2022, algorithm 1)
 * with the queries of a tile in vector lanes; see attention_tile.h. */
#include "compute/cpu/attention_tile.h"

#include <math.h>

/* Workspace of one thread. */
typedef struct Forward {
  float *q, *out; /* [D][TILE] */
  float *scores;  /* [TILE_ROWS][TILE] */
  float *highest, *total;
} Forward;

static int64_t forward_floats(int64_t size) {
  return (2 * size + TILE_ROWS + 2) * TILE;
}

static Forward forward_at(float *memory, int64_t size) {
  Forward f = {.q = memory};
  f.out = f.q + size * TILE;
  f.scores = f.out + size * TILE;
  f.highest = f.scores + TILE_ROWS * TILE;
  f.total = f.highest + TILE;
  return f;
}

/* Scores of `rows` keys for vector v of the queries become exponentials relative to the new highest score;
 * what was summed before is rescaled. `distance` is that of the first key, `place` its position. */
static void online_softmax(Forward f, ScoreRule rule, bool plain, int rows, int v, Vec distance,
                           int64_t place, int64_t size) {
  float *s = f.scores + v * VEC;
  Vec before = vec_load(f.highest + v * VEC), highest = before;
  for (int r = 0; plain && r < rows; r++) highest = vec_max(highest, vec_load(s + r * TILE));
  for (int r = 0; !plain && r < rows; r++) {
    Vec score = score_apply(rule, vec_load(s + r * TILE), distance - vec_splat((float)r),
                            vec_splat((float)(place + r)), NULL);
    vec_store(s + r * TILE, score);
    highest = vec_max(highest, score);
  }
  Vec rescale = vec_exp(before - highest), sum = vec_splat(0.0f);
  for (int r = 0; r < rows; r++) {
    Vec p = vec_exp(vec_load(s + r * TILE) - highest);
    vec_store(s + r * TILE, p);
    sum += p;
  }
  vec_store(f.highest + v * VEC, highest);
  vec_store(f.total + v * VEC, vec_fma(vec_load(f.total + v * VEC), rescale, sum));
  for (int64_t d = 0; d < size; d++) {
    float *o = f.out + d * TILE + v * VEC;
    vec_store(o, vec_load(o) * rescale);
  }
}

static void forward_task(Forward f, TileTask task, HeadRows out, float *lse, int64_t lse_stride, HeadRows q,
                         HeadRows k, HeadRows v, int64_t size, AttentionSpec spec) {
  ScoreRule rule = score_rule(spec, task.head);
  tile_load(f.q, q, task.lane, task.lanes, size, spec.scale);
  tile_zero(f.out, size);
  for (int i = 0; i < TILE; i++) {
    f.highest[i] = -1e30f; /* above the score of a masked key, so that exp(masked - highest) is 0 */
    f.total[i] = 0;
  }
  int64_t last = task.lane + task.lanes;
  int64_t first = spec.window > 0 ? max64(task.begin, task.lane - spec.window + 1) : task.begin;
  for (int64_t key = first; key < last; key += TILE_ROWS) {
    int rows = (int)min64(TILE_ROWS, last - key);
    tile_scores(f.scores, k, key, rows, size, f.q, task.vectors);
    bool plain = score_plain(rule, task.lane - (key + rows - 1), last - 1 - key);
    for (int j = 0; j < task.vectors; j++) {
      Vec distance = vec_iota() + vec_splat((float)(task.lane + j * VEC - key));
      online_softmax(f, rule, plain, rows, j, distance, key - task.begin, size);
    }
    tile_accumulate(f.out, v, key, rows, size, f.scores, task.vectors);
  }
  for (int i = 0; i < task.lanes; i++) {
    if (lse) lse[(task.lane + i) * lse_stride] = f.highest[i] + logf(f.total[i]);
    f.total[i] = 1.0f / f.total[i];
  }
  tile_store(out, task.lane, task.lanes, size, f.out, f.total);
}

void CPU(attention)(Compute *c, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v, Tensor offsets,
                    AttentionSpec spec) {
  int64_t heads = q.dim[1], group = heads / k.dim[1], size = q.dim[2];
  ASSERT(heads % k.dim[1] == 0 && k.dim[2] == size && v.dim[2] == size);
  size_t mark = scratch_open(c);
  int64_t *first_tile = scratch_alloc(c, (size_t)offsets.dim[0] * sizeof *first_tile);
  float *memory = scratch_floats(c, c->threads * forward_floats(size));
  if (!c->dry) {
    count_tiles(first_tile, offsets);
    int64_t tiles = first_tile[offsets.dim[0] - 1];
    float *plse = f32(lse);
    int64_t lse_stride = tensor_is_none(lse) ? 0 : lse.stride[0];
    /* Tasks are independent and their cost varies: any thread may take any. Long ones (late tiles) first. */
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 1) if (tiles * heads > 1)
    for (int64_t i = 0; i < tiles * heads; i++) {
      int64_t h = i % heads;
      TileTask task = tile_task(first_tile, offsets, tiles - 1 - i / heads, h);
      Forward f = forward_at(memory + omp_get_thread_num() * forward_floats(size), size);
      forward_task(f, task, head_rows(out, h), plse ? plse + h : NULL, lse_stride, head_rows(q, h),
                   head_rows(k, h / group), head_rows(v, h / group), size, spec);
    }
  }
  scratch_close(c, mark);
}
