/* adamw, lion, sgd, sum_squares. Sizes: elements of the first tensor, steps, tensors. */
#ifndef TESTS_COMPUTE_OPS_OPTIMIZERS_H
#define TESTS_COMPUTE_OPS_OPTIMIZERS_H

#include "harness.h"

enum { EIGHT_BIT = 1 << 24 }; /* block-wise 8-bit state */

/* One step of one element: *p, *m, *v from the scaled gradient. */
typedef struct StepRule {
  double lr, beta1, beta2, eps, weight_decay, correction1, correction2, momentum;
} StepRule;
typedef void (*StepReference)(const StepRule *rule, bool decay, double g, double *p, double *m, double *v);

typedef struct StepTensor {
  double *p, *m, *v;
} StepTensor;

typedef struct StepCase {
  int64_t count;
  OptimTensor *list;
  StepTensor *expected;
} StepCase;

static const double GRAD_SCALE = 0.5;

/* Sizes of all kinds, zero among them. */
static inline int64_t step_size(const Test *t, int64_t tensor) {
  int64_t n = t->shape.size[0];
  return tensor == 0 ? n : (n / 2 + 37 * tensor) % (n + 1);
}

static inline Tensor step_floats(Test *t, int64_t n, double scale) {
  bool few = t->shape.size[2] <= 4; /* with gaps that are watched */
  Tensor x = few ? random_1d(t, DTYPE_F32, n, scale) : tensor_new_1d(&t->arena, DTYPE_F32, n);
  for (int64_t i = 0; i < n && !few; i++) store(t, x, i, scale * draw_normal(t));
  return x;
}

static inline OptimState step_state(Test *t, int64_t n) {
  if (!(t->shape.flags & EIGHT_BIT)) return (OptimState){.data = step_floats(t, n, 0)};
  OptimState state = {tensor_new_2d(&t->arena, DTYPE_U8, state_blocks(n), STATE_BLOCK),
                      tensor_new_1d(&t->arena, DTYPE_F32, state_blocks(n))};
  memset(host_of(t, state.data.data), 0, tensor_bytes(state.data));
  memset(host_of(t, state.absmax.data), 0, tensor_bytes(state.absmax));
  return state;
}

/* Every second tensor is the master copy of a bf16 parameter, every third has no decay. */
static inline StepCase step_case(Test *t, bool has_m, bool has_v) {
  StepCase k = {.count = t->shape.size[2]};
  k.list = arena_alloc(&t->host, (size_t)k.count * sizeof *k.list);
  k.expected = arena_alloc(&t->host, (size_t)k.count * sizeof *k.expected);
  for (int64_t i = 0; i < k.count; i++) {
    int64_t n = step_size(t, i);
    OptimTensor *one = &k.list[i];
    *one = (OptimTensor){.p = step_floats(t, n, 1), .grad = step_floats(t, n, 1), .decay = i % 3 != 2};
    if (has_m) one->m = step_state(t, n);
    if (has_v) one->v = step_state(t, n);
    if (i % 2) one->value = tensor_new_1d(&t->arena, DTYPE_BF16, n);
    k.expected[i] = (StepTensor){doubles(t, one->p), zeros(t, n), zeros(t, n)};
  }
  return k;
}

/* -- 8-bit state: what is kept of m and v is compared after every step, from what was kept before it -- */

/* The dynamic map by its definition, in order of size: zero, one, and the middles of base * 2^i cells of decade
 * i; with base 1 their negatives too. Codes name places in it: of a signed map the distance to zero's. */
static inline void dynamic_map(double map[256], bool is_signed) {
  int zero = is_signed ? 127 : 0, count = 1;
  map[zero] = 0;
  for (int decade = 0; decade < 7; decade++) {
    int cells = (is_signed ? 1 : 2) << decade;
    for (int i = 0; i < cells; i++, count++) {
      map[zero + count] = pow(10, decade - 6) * (0.1 + 0.9 * (i + 0.5) / cells);
      if (is_signed) map[zero - count] = -map[zero + count];
    }
  }
  map[zero + count] = 1;
  assert_int_equal(zero + count, 255);
}

static inline int map_place(uint8_t code, bool is_signed) {
  return !is_signed ? code : code == 128 ? 255 : 127 + (int8_t)code;
}

static inline void step_load_state(Test *t, OptimState state, bool is_signed, double *out, int64_t n) {
  if (tensor_is_none(state.data)) return;
  const uint8_t *codes = host_of(t, state.data.data);
  double map[256];
  dynamic_map(map, is_signed);
  for (int64_t i = 0; i < n; i++) {
    out[i] = map[map_place(codes[i], is_signed)] * load(t, state.absmax, i / STATE_BLOCK);
  }
}

static inline void step_load(Test *t, StepCase *k) {
  for (int64_t i = 0; i < k->count; i++) {
    const OptimTensor *one = &k->list[i];
    int64_t n = tensor_count(one->p);
    for (int64_t j = 0; j < n; j++) k->expected[i].p[j] = at(t, one->p, j);
    step_load_state(t, one->m, true, k->expected[i].m, n);
    step_load_state(t, one->v, false, k->expected[i].v, n);
  }
}

/* How much farther than the nearest value the kept one is from x, both in units of absmax. A mean square above
 * zero stays above it. */
static inline double code_excess(const double map[256], int place, bool is_signed, double x) {
  double best = INFINITY;
  for (int i = !is_signed && x > 0; i < 256; i++) best = fmin(best, fabs(map[i] - x));
  return (!is_signed && x > 0 && place == 0 ? 1 : fabs(map[place] - x)) - best;
}

/* Factors are the largest elements, codes the nearest ones, and what fills the last block up stays zero. */
static inline void compare_state(Test *t, OptimState state, bool is_signed, const double *expected,
                                 int64_t n) {
  int64_t blocks = state_blocks(n);
  double map[256], *largest = zeros(t, blocks), *excess = zeros(t, n), *fill = zeros(t, STATE_BLOCK);
  const uint8_t *codes = host_of(t, state.data.data);
  dynamic_map(map, is_signed);
  for (int64_t i = 0; i < n; i++) {
    largest[i / STATE_BLOCK] = fmax(largest[i / STATE_BLOCK], fabs(expected[i]));
  }
  compare(t, "absmax", largest, state.absmax);
  for (int64_t i = 0; i < n; i++) {
    double most = load(t, state.absmax, i / STATE_BLOCK);
    int place = map_place(codes[i], is_signed);
    excess[i] = most > 0 ? code_excess(map, place, is_signed, expected[i] / most) : codes[i];
  }
  compare_arrays(t, is_signed ? "codes of m" : "codes of v", DTYPE_F32, zeros(t, n), excess, n, 1);
  for (int64_t i = n; i < blocks * STATE_BLOCK; i++) fill[i - n] = codes[i];
  compare_arrays(t, "codes beyond the end", DTYPE_F32, zeros(t, STATE_BLOCK), fill, STATE_BLOCK, 1);
}

/* -- a step -- */

/* New gradients, and what a step with them makes of the expected state. */
static inline void step_expect(Test *t, StepCase *k, const StepRule *rule, StepReference reference) {
  if (t->shape.flags & EIGHT_BIT) step_load(t, k);
  for (int64_t i = 0; i < k->count; i++) {
    Tensor grad = k->list[i].grad;
    StepTensor *e = &k->expected[i];
    for (int64_t j = 0; j < tensor_count(grad); j++) {
      store(t, grad, j, j % 10 == 9 ? 0 : draw_normal(t)); /* the sign of 0 is 0 */
      reference(rule, k->list[i].decay, GRAD_SCALE * at(t, grad, j), &e->p[j], &e->m[j], &e->v[j]);
    }
  }
}

static inline void step_compare(Test *t, const StepCase *k) {
  if (k->count == 0) t->comparisons++; /* no tensor: nothing may happen */
  bool eight_bit = t->shape.flags & EIGHT_BIT;
  for (int64_t i = 0; i < k->count; i++) {
    const OptimTensor *one = &k->list[i];
    compare(t, "p", k->expected[i].p, one->p);
    const OptimState state[2] = {one->m, one->v};
    const double *expected[2] = {k->expected[i].m, k->expected[i].v};
    for (int j = 0; j < 2; j++) {
      if (tensor_is_none(state[j].data)) continue;
      if (eight_bit) compare_state(t, state[j], j == 0, expected[j], tensor_count(one->p));
      if (!eight_bit) compare(t, j == 0 ? "m" : "v", expected[j], state[j].data);
    }
    compare_exact(t, "gradient left", zeros(t, tensor_count(one->grad)), one->grad);
    if (tensor_is_none(one->value)) continue;
    double *p = doubles(t, one->p);
    for (int64_t j = 0; j < tensor_count(one->p); j++) p[j] = rounded(DTYPE_BF16, p[j]);
    compare_exact(t, "value", p, one->value);
  }
}

static void adamw_reference(const StepRule *r, bool decay, double g, double *p, double *m, double *v) {
  *p *= 1 - r->lr * (decay ? r->weight_decay : 0);
  *m = r->beta1 * *m + (1 - r->beta1) * g;
  *v = r->beta2 * *v + (1 - r->beta2) * g * g;
  *p -= r->lr * (*m / r->correction1) / (sqrt(*v / r->correction2) + r->eps);
}

static void test_adamw(Test *t) {
  StepCase k = step_case(t, true, true);
  AdamStep step = {.lr = 0.01f,
                   .beta1 = 0.9f,
                   .beta2 = 0.95f,
                   .eps = 1e-3f,
                   .weight_decay = 0.1f,
                   .grad_scale = (float)GRAD_SCALE};
  StepRule rule = {.lr = (double)step.lr,
                   .beta1 = (double)step.beta1,
                   .beta2 = (double)step.beta2,
                   .eps = (double)step.eps,
                   .weight_decay = (double)step.weight_decay};
  for (int64_t s = 1; s <= t->shape.size[1]; s++) {
    rule.correction1 = 1 - pow(rule.beta1, (double)s);
    rule.correction2 = 1 - pow(rule.beta2, (double)s);
    step.correction1 = (float)rule.correction1;
    step.correction2 = (float)rule.correction2;
    step_expect(t, &k, &rule, adamw_reference);
    RUN(t, op_adamw(&t->c, k.list, k.count, step));
    if (t->shape.flags & EIGHT_BIT) step_compare(t, &k);
  }
  step_compare(t, &k);
}

static void lion_reference(const StepRule *r, bool decay, double g, double *p, double *m, double *v) {
  (void)v;
  double u = r->beta1 * *m + (1 - r->beta1) * g;
  *p = *p * (1 - r->lr * (decay ? r->weight_decay : 0)) - r->lr * (u > 0 ? 1 : u < 0 ? -1 : 0);
  *m = r->beta2 * *m + (1 - r->beta2) * g;
}

static void test_lion(Test *t) {
  StepCase k = step_case(t, true, false);
  LionStep step = {
      .lr = 0.01f, .beta1 = 0.9f, .beta2 = 0.99f, .weight_decay = 0.1f, .grad_scale = (float)GRAD_SCALE};
  StepRule rule = {.lr = (double)step.lr,
                   .beta1 = (double)step.beta1,
                   .beta2 = (double)step.beta2,
                   .weight_decay = (double)step.weight_decay};
  for (int64_t s = 1; s <= t->shape.size[1]; s++) {
    step_expect(t, &k, &rule, lion_reference);
    RUN(t, op_lion(&t->c, k.list, k.count, step));
    if (t->shape.flags & EIGHT_BIT) step_compare(t, &k);
  }
  step_compare(t, &k);
}

static void sgd_reference(const StepRule *r, bool decay, double g, double *p, double *m, double *v) {
  (void)v;
  *m = r->momentum * *m + g + (decay ? r->weight_decay : 0) * *p;
  *p -= r->lr * *m;
}

static void test_sgd(Test *t) {
  bool momentum = !(t->shape.flags & NO_WEIGHT);
  StepCase k = step_case(t, momentum, false);
  SgdStep step = {
      .lr = 0.01f, .momentum = momentum ? 0.9f : 0, .weight_decay = 0.1f, .grad_scale = (float)GRAD_SCALE};
  StepRule rule = {
      .lr = (double)step.lr, .momentum = (double)step.momentum, .weight_decay = (double)step.weight_decay};
  for (int64_t s = 1; s <= t->shape.size[1]; s++) {
    step_expect(t, &k, &rule, sgd_reference);
    RUN(t, op_sgd(&t->c, k.list, k.count, step));
    if (t->shape.flags & EIGHT_BIT) step_compare(t, &k);
  }
  step_compare(t, &k);
}

static void test_sum_squares(Test *t) {
  int64_t count = t->shape.size[2];
  Tensor *list = arena_alloc(&t->host, (size_t)count * sizeof *list), out;
  double expected = 0;
  for (int64_t i = 0; i < count; i++) {
    list[i] = step_floats(t, step_size(t, i), 1);
    double *values = doubles(t, list[i]);
    expected += dot(values, values, list[i].dim[0]);
  }
  out = tensor_new_1d(&t->arena, DTYPE_F64, 1);
  store(t, out, 0, 3); /* overwritten */
  RUN(t, op_sum_squares(&t->c, out, list, count));
  compare(t, "sum", &expected, out);
}

#define STEP_SHAPES(op, run, tolerance)                                                  \
  {op, run, {{1, 1, 1}, 0}, tolerance}, {op, run, {{20, 5, 1}, 0}, tolerance},           \
      {op, run, {{9001, 3, 4}, 0}, tolerance}, {op, run, {{300, 2, 150}, 0}, tolerance}, \
      {op, run, {{0, 1, 1}, 0}, tolerance}, {                                            \
    op, run, {{70, 1, 0}, 0}, tolerance                                                  \
  }

#define EIGHT_BIT_SHAPES(op, run)                                                                \
  {op, run, {{1, 2, 1}, EIGHT_BIT}, 2e-6}, {op, run, {{257, 5, 1}, EIGHT_BIT}, 2e-6},            \
      {op, run, {{9001, 3, 4}, EIGHT_BIT}, 2e-6}, {op, run, {{700, 2, 150}, EIGHT_BIT}, 2e-6}, { \
    op, run, {{0, 1, 1}, EIGHT_BIT}, 2e-6                                                        \
  }

#define OPTIMIZER_CASES                                                                     \
  STEP_SHAPES("adamw", test_adamw, 2e-6), STEP_SHAPES("lion", test_lion, 2e-6),             \
      STEP_SHAPES("sgd", test_sgd, 2e-6), {"sgd", test_sgd, {{33, 4, 2}, NO_WEIGHT}, 2e-6}, \
      EIGHT_BIT_SHAPES("adamw", test_adamw), EIGHT_BIT_SHAPES("lion", test_lion),           \
      EIGHT_BIT_SHAPES("sgd", test_sgd), STEP_SHAPES("sum_squares", test_sum_squares, 1e-12)

#endif
