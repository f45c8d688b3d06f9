/* b is the unit's first factor here, whose rows may lie anywhere, so that a weight is taken from where it is; a is packed as the other one. What
 * comes out is c transposed. Sums are those of product.c: in both, links meet in the same order. */
#include "compute/amx/few.h"

#include <omp.h>

/* Rows whose lines would take each other's place in the first-level cache are copied first. */
enum { CROWDED = 2048 };

static int64_t steps_at_once(int64_t k) {
  return least(ceil_div(k, STEP), LONG_STEPS);
}

static size_t panel_bytes(int64_t k) {
  return (size_t)ceil_div(k, STEP) * STEP_BYTES;
}

/* What a thread has for itself: a where it packs that alone, and a panel of b, or two bricks of it. */
static size_t own_bytes(int64_t k) {
  const size_t panel = (size_t)steps_at_once(k) * STEP_BYTES, bricks = 2 * BRICK;
  return panel_bytes(k) + (panel > bricks ? panel : bricks);
}

size_t few_bytes(int threads, int64_t m, int64_t k) {
  return (size_t)ceil_div(m, PANEL) * panel_bytes(k) + (size_t)threads * own_bytes(k);
}

/* Words [i][j] of a block to [j][i], of so many tiles down and across. */
static void turn_block(float *to, const float *from, int down, int across) {
  for (int i = 0; i < down; i++) {
    for (int j = 0; j < across; j++) {
      __m512i x[TILE];
      for (int r = 0; r < TILE; r++) x[r] = _mm512_load_si512(from + (i * TILE + r) * PANEL + j * TILE);
      transpose(x);
      for (int r = 0; r < TILE; r++) _mm512_store_si512(to + (j * TILE + r) * PANEL + i * TILE, x[r]);
    }
  }
}

/* Whether PANEL rows of b from `first` on are taken from where they are, with all links of the steps. */
static bool in_place(const Product *p, const Stretch *stretch, int64_t first) {
  return !p->b.blocks && p->b.stride * (int64_t)sizeof(uint16_t) % CROWDED != 0 && first + PANEL <= p->n &&
         p->k - stretch->link >= stretch->steps * STEP;
}

/* PANEL rows of b for a stretch. */
static TilePanel panel_of_b(const Product *p, const Stretch *stretch, int64_t first, char *own) {
  if (!in_place(p, stretch, first)) {
    pack_panel(own, &p->b, false, first, p->n, stretch->link, p->k, stretch->steps);
    return packed_panel(own);
  }
  const char *data = (const char *)((const uint16_t *)p->b.data + first * p->b.stride + stretch->link);
  const int64_t row = p->b.stride * (int64_t)sizeof(uint16_t);
  return (TilePanel){.data = data, .row = row, .tile = TILE * row, .step = LINE};
}

typedef struct Few {
  const Product *p;
  const char *packed_a;
} Few;

/* The sums of bricks of b, of which the first one is there. */
static inline __attribute__((always_inline)) void multiply_bricks(AmxBricks *bricks, TilePanel a,
                                                                  int64_t steps, TileSums sums, bool more) {
  TilePanel b = {.row = BRICK_STRIDE * sizeof(uint16_t), .tile = TILE * BRICK_STRIDE * sizeof(uint16_t)};
  amx_sums_begin(sums, more);
  for (int64_t s = 0; s < steps; s += BLOCK / STEP, bricks->turn++) {
    amx_bring(bricks, bricks->turn + 1);
    amx_written();
    b.data = amx_brick(bricks, bricks->turn);
    for (int i = 0; i < BLOCK / STEP; i++, a.data += a.step, b.data += LINE) amx_sums_add(b, a, sums.half);
  }
  amx_sums_end(sums);
}

/* The sums of rows of b that are taken from where they are, while those behind them are called for in the order in which they lie. Fewer than a whole
 * panel of a take so little time that calls are in the way of what is wanted now. */
static inline __attribute__((always_inline)) void multiply_rows(TilePanel b, TilePanel a, int64_t steps,
                                                                TileSums sums, bool more) {
  const char *ahead = b.data + PANEL * b.row;
  amx_sums_begin(sums, more);
  for (int64_t s = 0; s < steps; s++, a.data += a.step, b.data += b.step) {
    for (int i = 0; i < PANEL; i++, ahead += LINE) __builtin_prefetch(ahead, 0, 2);
    amx_sums_add(b, a, sums.half);
  }
  amx_sums_end(sums);
}

/* PANEL columns of c, for a panel of a: by bricks, or else by b. */
static void take_block(const Few *few, const Stretch *stretch, int64_t panel, int64_t first,
                       AmxBricks *bricks, TilePanel b) {
  const Product *p = few->p;
  float sums[PANEL * PANEL] __attribute__((aligned(LINE))),
      turned[PANEL * PANEL] __attribute__((aligned(LINE)));
  const int64_t rows = least(PANEL, p->m - panel * PANEL), columns = least(PANEL, p->n - first);
  const bool plain = is_plain(p, stretch), more = plain && stretch->beta == 1;
  const int halves = rows <= TILE ? 1 : 2;
  float *c = p->c + panel * PANEL * p->ldc + first;
  if (more) {
    for (int64_t r = 0; r < rows; r++)
      memcpy(turned + r * PANEL, c + r * p->ldc, (size_t)columns * sizeof *c);
    turn_block(sums, turned, halves, 2);
  }
  const TilePanel a =
      packed_panel(few->packed_a + panel * (int64_t)panel_bytes(p->k) + stretch->link / STEP * STEP_BYTES);
  const TileSums half = {(char *)sums, PANEL * sizeof *sums, true},
                 whole = {(char *)sums, PANEL * sizeof *sums, false};
  if (bricks && halves == 1)
    multiply_bricks(bricks, a, stretch->steps, half, more);
  else if (bricks)
    multiply_bricks(bricks, a, stretch->steps, whole, more);
  else if (halves == 1)
    multiply_panels(b, a, stretch->steps, half, more);
  else if (panel == 0 && in_place(p, stretch, first))
    multiply_rows(b, a, stretch->steps, whole, more);
  else
    multiply_panels(b, a, stretch->steps, whole, more);
  turn_block(turned, sums, 2, halves);
  put_sums(turned, rows, columns, p->alpha, plain ? 0 : stretch->beta, c, p->ldc);
}

/* Columns first .. last - 1 of c. */
static void take_columns(const Few *few, int64_t first, int64_t last, char *own) {
  const Product *p = few->p;
  AmxBricks bricks = {.blocks = p->b.blocks, .row = first, .last = last, .slots = own};
  const bool by_bricks = bricks.blocks && p->m <= PANEL; /* else they are read once for all panels of a */
  if (by_bricks) memset(own, 0, 2 * BRICK);              /* for rows that there are not */
  if (by_bricks) amx_bring(&bricks, 0);
  for (; first < last; first += PANEL) {
    for (int64_t link = 0; link < p->k; link += LONG_STEPS * STEP) {
      const Stretch stretch = stretch_from(p, link, LONG_STEPS);
      const TilePanel b = by_bricks ? (TilePanel){0} : panel_of_b(p, &stretch, first, own);
      for (int64_t panel = 0; panel * PANEL < p->m; panel++)
        take_block(few, &stretch, panel, first, by_bricks ? &bricks : NULL, b);
    }
  }
}

/* Packs the steps of a from `first` on, of all panels one after the other. */
static void pack_steps(const Product *p, char *to, int64_t first, int64_t last) {
  const int64_t steps = ceil_div(p->k, STEP);
  for (int64_t i = first; i < last; i++) {
    const int64_t row = i / steps * PANEL, link = i % steps * STEP;
    if (p->m <= TILE)
      pack_tile(to + i * STEP_BYTES, &p->a, true, row, p->m, link, p->k);
    else
      pack_step(to + i * STEP_BYTES, &p->a, true, row, p->m, link, p->k);
  }
}

static void take_part(const Product *p, char *shared, char *own) {
  const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
  const int64_t steps = ceil_div(p->m, PANEL) * ceil_div(p->k, STEP), columns = ceil_div(p->n, PANEL);
  const bool alone =
      p->m <= TILE; /* which takes less time than to wait for the others, and for lines of their caches */
  if (alone) {
    pack_steps(p, own, 0, steps);
  } else {
    pack_steps(p, shared, steps * thread / threads, steps * (thread + 1) / threads);
#pragma omp barrier
  }
  const Few few = {p, alone ? own : shared};
  amx_tiles_begin();
  take_columns(&few, columns * thread / threads * PANEL,
               least(p->n, columns * (thread + 1) / threads * PANEL), own + panel_bytes(p->k));
  amx_tiles_end();
}

void few_multiply(const Product *p, int threads, char *scratch) {
  char *own = scratch + ceil_div(p->m, PANEL) * (int64_t)panel_bytes(p->k);
#pragma omp parallel num_threads(threads)
  take_part(p, scratch, own + (size_t)omp_get_thread_num() * own_bytes(p->k));
}
