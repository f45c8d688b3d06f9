/* As many rows of a as stay in the second-level cache are packed by all threads together. Then each thread packs its panels of b, one after the other,
 * and takes the tiles of a through each. */
#include "compute/cpu/product_tile.h"

#include "compute/teams.h"

enum {
  CACHE_FLOATS = 1 << 18 /* of a for each thread */
};

typedef struct Plan {
  int64_t tiles, panels;  /* of all of a, of b */
  int64_t links, stretch; /* of a chain, at once */
  int64_t m_teams, n_teams;
  int64_t block; /* tiles of a that are packed at once */
} Plan;

static int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/* Tiles of one height, or of two that differ by a row. */
static int64_t first_row(int64_t m, int64_t tiles, int64_t tile) {
  return m * tile / tiles;
}

static int64_t tile_floats(int64_t links, int chains) {
  return (links * chains + VEC) * GROUP;
}

static int64_t tiles_in_cache(int64_t links, int chains) {
  return max64(2, CACHE_FLOATS / tile_floats(links, chains));
}

static Plan plan_of(int threads, int64_t m, int64_t n, int64_t k, int chains) {
  Plan plan = {
      .tiles = ceil_div(m, TILE_ROWS), .panels = ceil_div(n, TILE_COLUMNS), .links = ceil_div(k, chains)};
  plan.stretch = ceil_div(plan.links, max64(1, ceil_div(plan.links, PRODUCT_LINKS / chains)));
  if (chains > 1) plan.stretch = ceil_div(plan.stretch * VEC, STEP) * STEP / VEC; /* whole steps */
  const Teams teams = teams_of(threads, plan.tiles, plan.panels);
  plan.m_teams = teams.rows;
  plan.n_teams = teams.columns;
  plan.block = min64(plan.tiles, tiles_in_cache(plan.links, chains) * plan.m_teams);
  return plan;
}

/* Floats of a thread's panel of b, and of what its chains are when they are put aside. */
static int64_t panel_floats(const Plan *plan, int chains) {
  return (plan->stretch * chains + VEC) * TILE_COLUMNS;
}

static int64_t carry_floats(const Plan *plan, int64_t tiles, int chains) {
  return TREE_LEVELS * TILE_FLOATS + (plan->links > plan->stretch ? tiles * chains * TILE_FLOATS : 0);
}

int64_t CPU(product_floats)(int threads, int64_t m, int64_t n, int64_t k, int chains) {
  const Plan plan = plan_of(threads, m, n, k, chains);
  /* However many teams fewer rows or links have. */
  const int64_t tile = tile_floats(plan.links, chains), most = threads * max64(CACHE_FLOATS, 2 * tile),
                tiles = min64(plan.tiles, tiles_in_cache(plan.links, chains) * threads);
  return min64(plan.tiles * tile, most) +
         threads * (panel_floats(&plan, chains) + carry_floats(&plan, tiles, chains));
}

typedef struct Work {
  const Product *p;
  Plan plan;
  float *packed_a, *own;
  int64_t own_floats;
} Work;

/* A stretch of the first k links. */
INLINE void pack_rows(float *to, int64_t width, const ProductFactor *f, const Product *p, int64_t row,
                      int64_t rows, Stretch stretch, const int lanes) {
  if (f->across) {
    pack_across(to, width, f, row, rows, stretch.first, min64(stretch.first + stretch.count, p->k));
  } else {
    if (p->chains == 1) stretch.count = min64(stretch.count, p->k - stretch.first);
    pack_along(to, width, f, p->k, p->chains, row, rows, stretch, lanes);
  }
}

static void pack_a(const Work *work, int64_t first_tile, int64_t tile) {
  const Product *p = work->p;
  const Plan *plan = &work->plan;
  const int64_t row = first_row(p->m, plan->tiles, first_tile + tile),
                rows = first_row(p->m, plan->tiles, first_tile + tile + 1) - row;
  float *to = work->packed_a + tile * tile_floats(plan->links, p->chains);
  if (p->more > 0) {
    pack_along(to, GROUP, &p->more_a, p->more, 1, row, rows, (Stretch){.count = p->more}, GROUP);
    for (int64_t i = 0; i < p->more * GROUP; i++) to[i] *= p->more_scale;
    pack_rows(to + p->more * GROUP, GROUP, &p->a, p, row, rows, (Stretch){.count = p->k}, GROUP);
    return;
  }
  for (int64_t l = 0; l < plan->links; l += plan->stretch) {
    const Stretch stretch = {.first = l, .count = min64(plan->stretch, plan->links - l)};
    pack_rows(to, GROUP, &p->a, p, row, rows, stretch, GROUP);
    to += stretch.count * p->chains * GROUP;
  }
}

static void pack_b(const Product *p, float *to, int64_t column, int64_t columns, Stretch stretch) {
  const int64_t width = tile_vectors(columns) * VEC;
  if (p->more == 0) {
    pack_rows(to, width, &p->b, p, column, columns, stretch, VEC);
    return;
  }
  pack_along(to, width, &p->more_b, p->more, 1, column, columns, (Stretch){.count = p->more}, VEC);
  pack_rows(to + p->more * width, width, &p->b, p, column, columns, (Stretch){.count = p->k}, VEC);
}

/* What is packed next: at tile `tile` of `tiles` its part. */
static Coming next_of_b(const Product *p, int64_t column, Stretch stretch, int64_t tile, int64_t tiles) {
  const int64_t next = stretch.ends ? column + TILE_COLUMNS : column,
                columns = min64(TILE_COLUMNS, p->n - next);
  const int64_t bytes = p->b.narrow ? 2 : 4, calls = stretch.count * p->chains;
  const int64_t link = stretch.ends ? 0 : (stretch.first + stretch.count) * p->chains,
                links = min64(calls, p->k - link);
  const Coming nothing = {(const char *)p->c, 0};
  if (p->b.blocks || columns <= 0 || links <= 0) return nothing;
  const char *data = p->b.data;
  if (p->b.across) /* with each tile a line of every row */
    return tile * LINE < columns * bytes
               ? (Coming){data + (link * p->b.stride + next) * bytes + tile * LINE, p->b.stride * bytes}
               : nothing;
  if (p->b.stride > links) return nothing;
  const int64_t step = ceil_div(columns * bytes, tiles); /* rows without gaps: in the order of addresses */
  return (Coming){data + next * p->b.stride * bytes + tile * calls * step, step};
}

/* Tiles [first, last) of the packed ones by one panel. */
static void take_panel(const Work *work, int64_t base, int64_t first, int64_t last, int64_t panel,
                       float *own) {
  const Product *p = work->p;
  const Plan *plan = &work->plan;
  const int64_t column = panel * TILE_COLUMNS;
  float *packed_b = own, *tree = own + panel_floats(plan, p->chains),
        *carry = tree + TREE_LEVELS * TILE_FLOATS;
  const int columns = (int)min64(TILE_COLUMNS, p->n - column);
  int64_t l = 0;
  do {
    const int64_t count = min64(plan->stretch, plan->links - l);
    const Stretch stretch = {.first = l, .count = count, .begins = l == 0, .ends = l + count == plan->links};
    pack_b(p, packed_b, column, columns, stretch);
    for (int64_t i = first; i < last; i++) {
      const int64_t row = first_row(p->m, plan->tiles, base + i);
      const Tile tile = {
          .p = p,
          .row = row,
          .column = column,
          .rows = (int)(first_row(p->m, plan->tiles, base + i + 1) - row),
          .columns = columns,
          .a = work->packed_a + i * tile_floats(plan->links, p->chains) + l * p->chains * GROUP,
          .b = packed_b,
          .stretch = stretch,
          .carry = carry + (i - first) * p->chains * TILE_FLOATS,
          .tree = tree,
          .coming = next_of_b(p, column, stretch, i - first, last - first),
      };
      take_tile(&tile);
    }
    l += count;
  } while (l < plan->links);
}

/* What a thread does; all of them are here at once. */
static void take_part(const Work *work) {
  const Plan *plan = &work->plan;
  const int64_t thread = omp_get_thread_num(), shares = plan->m_teams * plan->n_teams;
  for (int64_t base = 0; base < plan->tiles; base += plan->block) {
    const int64_t tiles = min64(plan->block, plan->tiles - base);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < tiles; i++) pack_a(work, base, i);
    for (int64_t share = thread; share < shares; share += omp_get_num_threads()) {
      const int64_t team = share / plan->n_teams, place = share % plan->n_teams;
      for (int64_t panel = plan->panels * place / plan->n_teams;
           panel < plan->panels * (place + 1) / plan->n_teams; panel++)
        take_panel(work, base, tiles * team / plan->m_teams, tiles * (team + 1) / plan->m_teams, panel,
                   work->own + thread * work->own_floats);
    }
#pragma omp barrier
  }
}

void CPU(product)(int threads, const Product *p, float *scratch) {
  if (p->m == 0 || p->n == 0) return;
  const int64_t links = p->k + p->more;
  ASSERT(p->chains == 1 || (p->chains == VEC && !p->a.across && !p->b.across && p->more == 0));
  ASSERT(p->more == 0 || links <= PRODUCT_LINKS);
  Work work = {.p = p, .plan = plan_of(threads, p->m, p->n, links, p->chains), .packed_a = scratch};
  work.own = scratch + work.plan.block * tile_floats(work.plan.links, p->chains);
  work.own_floats =
      panel_floats(&work.plan, p->chains) + carry_floats(&work.plan, work.plan.block, p->chains);
#pragma omp parallel num_threads(threads) if ((p->m + 8) * p->n * links > 1 << 16)
  take_part(&work);
}
