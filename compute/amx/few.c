/* b is the unit's first factor here, whose rows may lie anywhere, so that a weight is taken from where it is; a is packed as the other one. What
 * comes out is c transposed. Sums are those of product.c: in both, links meet in the same order. */
#include "compute/amx/few.h"

#include <omp.h>

/* Rows whose lines would take each other's place in the first-level cache are copied first. */
enum { CROWDED = 2048 };

/* What a thread has for itself: rows of b that are read, and those that are packed. */
static size_t own_bytes(int64_t steps) {
  return rows_bytes(steps) + (size_t)steps * STEP_BYTES;
}

static int64_t steps_at_once(int64_t k) {
  return least(ceil_div(k, STEP), LONG_STEPS);
}

size_t few_bytes(int threads, int64_t m, int64_t k) {
  return (size_t)(ceil_div(m, PANEL) * ceil_div(k, STEP)) * STEP_BYTES +
         (size_t)threads * own_bytes(steps_at_once(k));
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

/* Whether PANEL rows from `first` on are all there, with all links of the steps. */
static bool is_whole(const Product *p, const Stretch *stretch, int64_t first) {
  return first + PANEL <= p->n && p->k - stretch->link >= stretch->steps * STEP;
}

/* Whether rows of b are taken from where they are. */
static bool in_place(const Product *p, const Stretch *stretch, int64_t first) {
  return !p->b.read && p->b.stride * (int64_t)sizeof(uint16_t) % CROWDED != 0 && is_whole(p, stretch, first);
}

/* PANEL rows of b for a stretch. */
static TilePanel panel_of_b(const Product *p, const Stretch *stretch, int64_t first, char *own) {
  uint16_t *rows = (uint16_t *)(void *)own;
  ProductFactor b = p->b;
  if (in_place(p, stretch, first)) {
    b.data = (const uint16_t *)b.data + first * b.stride + stretch->link;
  } else if (b.read && is_whole(p, stretch, first)) {
    b = read_rows(&b, first, p->n, stretch->link, p->k, stretch->steps, rows);
  } else {
    char *packed = own + rows_bytes(stretch->steps);
    pack_panel(packed, b, false, first, p->n, stretch->link, p->k, stretch->steps, rows);
    return packed_panel(packed);
  }
  const int64_t row = b.stride * (int64_t)sizeof(uint16_t);
  return (TilePanel){b.data, row, TILE * row, LINE};
}

/* The rows of b that are wanted next, if they are taken from where they are. */
static TilesAhead rows_ahead(const Product *p, const Stretch *stretch, int64_t first) {
  if (first >= p->n || !in_place(p, stretch, first)) return (TilesAhead){0};
  const char *at = (const char *)((const uint16_t *)p->b.data + first * p->b.stride + stretch->link);
  const int64_t bytes = stretch->steps * LINE;
  return (TilesAhead){at, at + bytes, bytes, p->b.stride * (int64_t)sizeof(uint16_t), PANEL};
}

typedef struct Few {
  const Product *p;
  char *packed_a, *own;
  int64_t panel_bytes; /* of a, with all its steps */
} Few;

/* PANEL columns of c, for a panel of a. */
static void take_block(const Few *few, const Stretch *stretch, int64_t panel, int64_t first, TilePanel b,
                       TilesAhead *ahead) {
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
  const char *a = few->packed_a + panel * few->panel_bytes + stretch->link / STEP * STEP_BYTES;
  if (halves == 1)
    amx_tiles_multiply(b, packed_panel(a), stretch->steps, sums, PANEL * sizeof *sums, more, true, ahead);
  else
    amx_tiles_multiply(b, packed_panel(a), stretch->steps, sums, PANEL * sizeof *sums, more, false, ahead);
  turn_block(turned, sums, 2, halves);
  put_sums(turned, rows, columns, p->alpha, plain ? 0 : stretch->beta, c, p->ldc);
}

/* Columns first .. last - 1 of c, in the order in which the rows of b lie. */
static void take_columns(const Few *few, int64_t first, int64_t last, char *own) {
  const Product *p = few->p;
  for (; first < last; first += PANEL) {
    for (int64_t link = 0; link < p->k; link += LONG_STEPS * STEP) {
      const Stretch stretch = stretch_from(p, link);
      const bool more = link + LONG_STEPS * STEP < p->k;
      const Stretch next = stretch_from(p, more ? link + LONG_STEPS * STEP : 0);
      const TilePanel b = panel_of_b(p, &stretch, first, own);
      TilesAhead ahead = rows_ahead(p, &next, more ? first : first + PANEL);
      for (int64_t panel = 0; panel * PANEL < p->m; panel++)
        take_block(few, &stretch, panel, first, b, &ahead);
    }
  }
}

/* What a thread begins with comes while a is packed. */
static void call_first(const Product *p, int64_t column) {
  const Stretch stretch = stretch_from(p, 0);
  TilesAhead ahead = rows_ahead(p, &stretch, column);
  while (ahead.at) amx_call_ahead(&ahead);
}

static void take_part(const Few *few) {
  const Product *p = few->p;
  const int thread = omp_get_thread_num(), threads = omp_get_num_threads();
  const int64_t steps = ceil_div(p->k, STEP), panels = ceil_div(p->m, PANEL), columns = ceil_div(p->n, PANEL);
  const int64_t first = columns * thread / threads * PANEL;
  call_first(p, first);
#pragma omp for schedule(static)
  for (int64_t i = 0; i < panels * steps; i++) {
    const int64_t panel = i / steps, step = i % steps;
    pack_panel(few->packed_a + panel * few->panel_bytes + step * STEP_BYTES, p->a, true, panel * PANEL, p->m,
               step * STEP, p->k, 1, NULL);
  }
  amx_tiles_begin();
  take_columns(few, first, least(p->n, columns * (thread + 1) / threads * PANEL),
               few->own + (size_t)thread * own_bytes(steps_at_once(p->k)));
  amx_tiles_end();
}

void few_multiply(const Product *p, int threads, char *scratch) {
  Few few = {.p = p, .packed_a = scratch, .panel_bytes = ceil_div(p->k, STEP) * STEP_BYTES};
  few.own = scratch + ceil_div(p->m, PANEL) * few.panel_bytes;
#pragma omp parallel num_threads(threads)
  take_part(&few);
}
