/* All of a is packed by all threads together. Then each thread packs some panels of b for itself, as many as stay in its second-level
 * cache, and takes them through the panels of a: a row of c is written from left to right. */
#include "compute/amx/few.h"
#include "compute/amx/pack_whole.h"

#include "base/error.h"
#include "compute/teams.h"

#include <omp.h>
#include <stdatomic.h>

enum { CACHE_BYTES = 768 * 1024 /* of b in the second-level cache */ };

typedef struct Plan {
  int64_t m_panels, n_panels;
  int64_t long_steps;       /* after which sums are put into c: panels of one size in bytes */
  int64_t steps;            /* packed at once */
  int64_t n_block;          /* panels of b that a thread packs at once */
  int64_t m_teams, n_teams; /* shares: m_teams * n_teams */
} Plan;

static int64_t panel_bytes(bool whole, int64_t steps) {
  return whole ? whole_panel_bytes(steps) : steps * STEP_BYTES;
}

static Plan plan_of(int threads, bool whole, int64_t m, int64_t n, int64_t k) {
  Plan plan = {.m_panels = ceil_div(m, PANEL),
               .n_panels = ceil_div(n, PANEL),
               .long_steps = whole ? LONG_STEPS / PARTS : LONG_STEPS};
  plan.steps = least(ceil_div(k, STEP), plan.long_steps);
  const Teams teams = teams_of(threads, plan.m_panels, plan.n_panels);
  plan.m_teams = teams.rows;
  plan.n_teams = teams.columns;
  plan.n_block = least(CACHE_BYTES / panel_bytes(whole, plan.steps), ceil_div(plan.n_panels, plan.n_teams));
  return plan;
}

/* What a thread has for itself: its part of b, which grows with both sizes as what it takes of it need not. */
static size_t own_bytes(const Plan *plan, bool whole) {
  return (size_t)least(CACHE_BYTES, plan->n_panels * panel_bytes(whole, plan->steps));
}

size_t product_amx_scratch(int threads, bool whole, int64_t m, int64_t n, int64_t k) {
  const Plan plan = plan_of(threads, whole, m, n, k);
  const size_t wide =
      (size_t)(plan.m_panels * panel_bytes(whole, plan.steps)) + (size_t)threads * own_bytes(&plan, whole);
  if (whole) return with_first_line(wide);
  const size_t few = few_bytes(threads, least(m, FEW_PANELS * PANEL), k);
  return with_first_line(wide > few ? wide : few);
}

bool product_amx_allowed(void) {
  static atomic_int known; /* 1: yes, 2: no */
  if (!known) known = amx_tiles_ask() ? 1 : 2;
  return known == 1;
}

/* A product and its parts at work. */
typedef struct Work {
  const Product *p;
  Plan plan;
  char *packed_a, *own;
} Work;

static void multiply(bool whole, const char *a, const char *b, int64_t steps, TileSums sums, bool more) {
  if (whole)
    multiply_whole_panels(whole_panel(a), whole_panel(b), steps, sums, more);
  else
    multiply_panels(packed_panel(a), packed_panel(b), steps, sums, more);
}

/* The sums of a block whose factors have something that is not finite. */
static void multiply_marked(const char *a, const char *b, int64_t steps, float *block, bool more) {
  float high[PANEL * PANEL] __attribute__((aligned(LINE)));
  const int64_t stride = PANEL * sizeof *block;
  if (more) memcpy(high, block, sizeof high);
  multiply_panels(whole_panel(a), whole_panel(b), steps, (TileSums){(char *)high, stride, false}, more);
  multiply(true, a, b, steps, (TileSums){(char *)block, stride, false}, more);
  put_marked(block, high, whole_marks(a), whole_marks(b));
}

/* One block of c, whose sums begin with what is there if they are plain. */
static void take_block(const Product *p, const Stretch *stretch, int64_t row, int64_t column, const char *a,
                       const char *b) {
  float *c = p->c + row * p->ldc + column, block[PANEL * PANEL] __attribute__((aligned(LINE)));
  const int64_t rows = least(PANEL, p->m - row), columns = least(PANEL, p->n - column);
  const bool plain = is_plain(p, stretch), more = plain && stretch->beta == 1;
  const bool marked = p->whole && (whole_marks(a) | whole_marks(b)) != 0;
  if (plain && rows == PANEL && columns == PANEL && !marked) {
    multiply(p->whole, a, b, stretch->steps, (TileSums){(char *)c, p->ldc * (int64_t)sizeof *c, false}, more);
    return;
  }
  for (int64_t r = 0; more && r < rows; r++)
    memcpy(block + r * PANEL, c + r * p->ldc, (size_t)columns * sizeof *c);
  if (marked)
    multiply_marked(a, b, stretch->steps, block, more);
  else
    multiply(p->whole, a, b, stretch->steps, (TileSums){(char *)block, PANEL * sizeof *block, false}, more);
  put_sums(block, rows, columns, p->alpha, plain ? 0 : stretch->beta, c, p->ldc);
}

/* Steps `step` .. step + steps - 1 of a stretch, of a panel of f that has `rows` rows in all. */
static void pack_steps(const Product *p, const Stretch *stretch, char *panel, const ProductFactor *f,
                       bool pairs, int64_t first, int64_t rows, int64_t step, int64_t steps) {
  const int64_t link = stretch->link + step * STEP;
  if (p->whole)
    pack_whole_panel(panel, f, pairs, first, rows, link, p->k, step, steps);
  else
    pack_panel(panel + step * STEP_BYTES, f, pairs, first, rows, link, p->k, steps);
}

/* Packs `count` panels of b from panel n on, in the order in which its rows lie. */
static void pack_panels(const Product *p, const Stretch *stretch, int64_t n, int64_t count, char *to) {
  const int64_t at_once = p->b.across ? 1 : stretch->steps, bytes = panel_bytes(p->whole, stretch->steps);
  for (int64_t s = 0; s < stretch->steps; s += at_once) {
    for (int64_t q = 0; q < count; q++)
      pack_steps(p, stretch, to + q * bytes, &p->b, true, (n + q) * PANEL, p->n, s, at_once);
  }
}

static void take_share(const Work *work, const Stretch *stretch, int share, char *packed_b) {
  const Product *p = work->p;
  const Plan *plan = &work->plan;
  const int64_t team = share / plan->n_teams, place = share % plan->n_teams;
  const int64_t m_first = plan->m_panels * team / plan->m_teams;
  const int64_t m_last = plan->m_panels * (team + 1) / plan->m_teams;
  const int64_t n_last = plan->n_panels * (place + 1) / plan->n_teams;
  const int64_t bytes = panel_bytes(p->whole, stretch->steps);
  for (int64_t n = plan->n_panels * place / plan->n_teams; n < n_last; n += plan->n_block) {
    const int64_t count = least(plan->n_block, n_last - n);
    pack_panels(p, stretch, n, count, packed_b);
    for (int64_t i = m_first; i < m_last; i++) {
      for (int64_t q = 0; q < count; q++)
        take_block(p, stretch, i * PANEL, (n + q) * PANEL, work->packed_a + i * bytes, packed_b + q * bytes);
    }
  }
}

/* What a thread does; all of them are here at once. */
static void take_part(const Work *work) {
  const Product *p = work->p;
  const Plan *plan = &work->plan;
  const int shares = (int)(plan->m_teams * plan->n_teams), thread = omp_get_thread_num();
  amx_tiles_begin();
  for (int64_t link = 0; link < p->k; link += plan->long_steps * STEP) {
    const Stretch stretch = stretch_from(p, link, plan->long_steps);
    const int64_t bytes = panel_bytes(p->whole, stretch.steps);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < plan->m_panels; i++)
      pack_steps(p, &stretch, work->packed_a + i * bytes, &p->a, false, i * PANEL, p->m, 0, stretch.steps);
    for (int share = thread; share < shares; share += omp_get_num_threads())
      take_share(work, &stretch, share, work->own + (size_t)thread * own_bytes(plan, p->whole));
#pragma omp barrier
  }
  amx_tiles_end();
}

void product_amx(int threads, bool whole, int64_t m, int64_t n, int64_t k, float alpha, ProductFactor a,
                 ProductFactor b, float beta, float *c, int64_t ldc, void *scratch) {
  if (m == 0 || n == 0) return;
  ASSERT(k > 0 && !a.blocks && !(b.blocks && b.across));
  ASSERT(!whole || (!a.narrow && !b.narrow && !b.blocks));
  const Product p = {whole, m, n, k, alpha, beta, a, b, c, ldc};
  if (few_is_for(m, &b)) {
    few_multiply(&p, threads, first_line(scratch));
    return;
  }
  Work work = {.p = &p, .plan = plan_of(threads, whole, m, n, k), .packed_a = first_line(scratch)};
  work.own = work.packed_a + work.plan.m_panels * panel_bytes(whole, work.plan.steps);
#pragma omp parallel num_threads(threads)
  take_part(&work);
}
