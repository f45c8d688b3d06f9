/* Linears of F32 on a processor. Forward to the bit: sums are the chains of fused multiply-adds that compute/cpu/product.h and compute/cpu/linear_rows.c say,
 * whatever the number of rows, columns and threads. Those that a matrix unit takes are near double, as its product has them, and rows do not depend on each other. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "compute/amx/product.h"
#include "compute/compute.h"
#include "compute/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  THIN = 48 /* fewer outputs are the library's, in training */,
  RANK = 12,
  LONG_SUM = 2048 /* links, with those of an adapter */,
  STEP = 64,
  SHORT_SUM = 64 /* fewer links are not for a matrix unit */,
  FEW_ROWS = 128 /* nor these, in the gradient of a weight */
};

typedef struct Case {
  int64_t T, I, O;
  bool transposed, row_invariant, biased, adapted;
  float alpha, beta;
} Case;

/* The factors: [T,I + 5], [O,I + 3] or [I,O + 3], [O], [T,RANK + 1], [O,RANK] and what is in out. */
typedef struct Sides {
  float *x, *w, *bias, *u, *b, *out;
  int64_t x_stride, w_stride, u_stride;
} Sides;

static float *noise(int64_t count, uint64_t stream) {
  float *values = malloc((size_t)count * sizeof *values);
  for (int64_t i = 0; i < count; i++)
    values[i] = random_normal(random_key(7, RANDOM_TEST), stream, (uint64_t)i);
  return values;
}

static Sides sides_new(const Case *k) {
  Sides s = {.x_stride = k->I + 5, .u_stride = RANK + 1, .w_stride = (k->transposed ? k->O : k->I) + 3};
  s.x = noise(k->T * s.x_stride, 1);
  s.w = noise((k->transposed ? k->I : k->O) * s.w_stride, 2);
  s.bias = noise(k->O, 3);
  s.u = noise(k->T * s.u_stride, 4);
  s.b = noise(k->O * RANK, 5);
  s.out = noise(k->T * k->O, 6);
  return s;
}

static void sides_free(Sides *s) {
  float *all[] = {s->x, s->w, s->bias, s->u, s->b, s->out};
  for (int i = 0; i < 6; i++) free(all[i]);
}

static float weight_at(const Case *k, const Sides *s, int64_t o, int64_t i) {
  return k->transposed ? s->w[i * s->w_stride + o] : s->w[o * s->w_stride + i];
}

/* Chain `which` of `chains` over the links [first, last), behind what sum is. */
static float chain(const Case *k, const Sides *s, int64_t t, int64_t o, int64_t first, int64_t last,
                   int which, int chains, float sum) {
  for (int64_t i = first + which; i < last; i += chains)
    sum = fmaf(s->x[t * s->x_stride + i], weight_at(k, s, o, i), sum);
  return sum;
}

/* Those of a vector's lanes: halves are added to each other. */
static float lanes(const Case *k, const Sides *s, int64_t t, int64_t o, int vector) {
  float sum[16];
  for (int c = 0; c < vector; c++) sum[c] = chain(k, s, t, o, 0, k->I, c, vector, 0);
  for (int half = vector / 2; half > 0; half /= 2)
    for (int c = 0; c < half; c++) sum[c] += sum[c + half];
  return sum[0];
}

static float finished(const Case *k, float sum, float bias, float beta, float old) {
  const float y = k->biased ? fmaf(k->alpha, sum, bias) : k->alpha * sum;
  return beta != 0 ? fmaf(beta, old, y) : y;
}

/* Of training: one chain, in parts of one size where it is long, the adapter's links at its beginning. */
static float in_parts(Case k, const Sides *s, int64_t t, int64_t o) {
  const int64_t most = (LONG_SUM - (k.adapted ? RANK : 0)) / STEP * STEP, parts = (k.I + most - 1) / most;
  const int64_t step = (k.I + parts * STEP - 1) / (parts * STEP) * STEP;
  float y = s->out[t * k.O + o], beta = k.beta;
  for (int64_t i = 0; i < k.I; i += step, beta = 1, k.biased = false) {
    const int64_t last = i + step < k.I ? i + step : k.I;
    float sum = 0;
    for (int64_t r = 0; k.adapted && i == 0 && r < RANK; r++)
      sum = fmaf(s->u[t * s->u_stride + r] * 0.7f, s->b[o * RANK + r], sum);
    sum = chain(&k, s, t, o, i, last, 0, 1, sum);
    y = finished(&k, sum, s->bias[o], beta, y);
  }
  return y;
}

static float expected(const Case *k, const Sides *s, int64_t t, int64_t o, int vector) {
  if (!k->row_invariant) return in_parts(*k, s, t, o);
  const float sum = k->transposed ? chain(k, s, t, o, 0, k->I, 0, 1, 0) : lanes(k, s, t, o, vector);
  return finished(k, sum, s->bias[o], k->beta, s->out[t * k->O + o]);
}

static void run(Compute *c, const Case *k, Sides *s, Tensor out) {
  const int64_t rows = k->transposed ? k->I : k->O, columns = k->transposed ? k->O : k->I;
  const Tensor x = tensor_columns(tensor_2d(s->x, DTYPE_F32, k->T, s->x_stride), 0, k->I);
  const Weight w = {.data = tensor_columns(tensor_2d(s->w, DTYPE_F32, rows, s->w_stride), 0, columns),
                    .transposed = k->transposed};
  const Tensor bias = k->biased ? tensor_1d(s->bias, DTYPE_F32, k->O) : (Tensor){0};
  const AdapterTerm term = {k->O, tensor_columns(tensor_2d(s->u, DTYPE_F32, k->T, s->u_stride), 0, RANK),
                            tensor_2d(s->b, DTYPE_F32, k->O, RANK), 0.7f};
  c->row_invariant = k->row_invariant;
  if (k->adapted) {
    op_linear_adapted(c, out, x, w, bias, &term, 1, k->beta);
  } else {
    op_linear(c, out, x, w, bias, k->alpha, k->beta);
  }
}

static Compute open_cpu(int threads) {
  Compute c;
  Error error = {0};
  if (!compute_open(&c, DEVICE_CPU, threads, &error)) fail_msg("%s", error.message);
  return c;
}

static bool on_unit(const Case *k) {
  return !k->row_invariant && k->O >= THIN && k->I >= SHORT_SUM && product_has_matrix_unit();
}

/* What it is in double precision, within `most`. */
static double near_double(const Case *k, const Sides *s, int64_t t, int64_t o, double *most) {
  const double alpha = k->adapted ? 1 : (double)k->alpha;
  double sum = (k->biased ? (double)s->bias[o] : 0) + (double)k->beta * (double)s->out[t * k->O + o];
  *most = fabs(sum);
  for (int64_t i = 0; i < k->I; i++) {
    const double link = alpha * (double)s->x[t * s->x_stride + i] * (double)weight_at(k, s, o, i);
    sum += link;
    *most += fabs(link);
  }
  for (int64_t r = 0; k->adapted && r < RANK; r++) {
    const double link = 0.7 * (double)s->u[t * s->u_stride + r] * (double)s->b[o * RANK + r];
    sum += link;
    *most += fabs(link);
  }
  *most *= 2e-7;
  return sum;
}

static void check_on_unit(Compute *c, const Case *k, Sides *s, const float *out) {
  for (int64_t t = 0; t < k->T; t++) {
    for (int64_t o = 0; o < k->O; o++) {
      double most;
      const double want = near_double(k, s, t, o, &most), got = (double)out[t * k->O + o];
      if (!(fabs(got - want) <= most))
        fail_msg("%d x %d -> %d, at %d, %d: %g, expected %g", (int)k->T, (int)k->I, (int)k->O, (int)t, (int)o,
                 got, want);
    }
  }
  float *row = malloc((size_t)k->O * sizeof *row);
  for (int64_t t = 0; t < k->T; t += 1 + k->T / 5) {
    Case one = *k;
    Sides its = *s;
    one.T = 1;
    its.x += t * s->x_stride;
    its.u += t * s->u_stride;
    memcpy(row, s->out + t * k->O, (size_t)k->O * sizeof *row);
    run(c, &one, &its, tensor_2d(row, DTYPE_F32, 1, k->O));
    assert_memory_equal(row, out + t * k->O, (size_t)k->O * sizeof *row);
  }
  free(row);
}

static void check(const Case *k, int threads) {
  Compute c = open_cpu(threads);
  Error error = {0};
  const int vector = strstr(compute_device_name(&c), "avx512") ? 16 : 8;
  Sides s = sides_new(k);
  float *out = malloc((size_t)(k->T * k->O) * sizeof *out);
  memcpy(out, s.out, (size_t)(k->T * k->O) * sizeof *out);
  const Tensor to = tensor_2d(out, DTYPE_F32, k->T, k->O);
  compute_dry_begin(&c);
  run(&c, k, &s, to);
  if (!compute_dry_end(&c, &error)) fail_msg("%s", error.message);
  run(&c, k, &s, to);
  if (on_unit(k)) check_on_unit(&c, k, &s, out);
  for (int64_t t = 0; t < (on_unit(k) ? 0 : k->T); t++) {
    for (int64_t o = 0; o < k->O; o++) {
      const float want = expected(k, &s, t, o, vector), got = out[t * k->O + o];
      if (memcmp(&want, &got, sizeof got) != 0)
        fail_msg("%d x %d -> %d, %d threads, at %d, %d: %a, expected %a", (int)k->T, (int)k->I, (int)k->O,
                 threads, (int)t, (int)o, (double)got, (double)want);
    }
  }
  free(out);
  sides_free(&s);
  compute_close(&c);
}

static const int64_t row_counts[] = {1, 7, 9, 33, 47, 48, 61, 300};
static const int64_t sizes[][2] = {{1, 1}, {16, 48}, {70, 50}, {130, 17}, {576, 30}, {2100, 3}, {4200, 2}};

static void check_all(bool row_invariant) {
  int n = 0;
  for (int t = 0; t < 8; t++)
    for (int size = 0; size < 7; size++, n++) {
      if (row_counts[t] * sizes[size][0] * sizes[size][1] > 3 << 19) continue;
      Case k = {.T = row_counts[t],
                .I = sizes[size][0],
                .O = sizes[size][1] + (row_invariant ? 0 : THIN - 1),
                .transposed = n % 2};
      k.row_invariant = row_invariant;
      k.biased = n % 3 == 0;
      k.alpha = n % 4 ? 1 : 0.3f;
      k.beta = n % 5 ? 0 : n % 2 ? 1 : -1.7f;
      check(&k, 1 + n % 3);
    }
}

static void test_training(void **state) {
  (void)state;
  check_all(false);
}

static void test_row_invariant(void **state) {
  (void)state;
  check_all(true);
}

static void test_adapted(void **state) {
  (void)state;
  static const int64_t inputs[] = {64, 70, 576, 2040, 2100};
  for (int i = 0; i < 5; i++)
    for (int n = 0; n < 4; n++) {
      const Case k = {.T = n % 2 ? 19 : 3,
                      .I = inputs[i],
                      .O = 50,
                      .transposed = n / 2,
                      .biased = n % 2,
                      .adapted = true,
                      .alpha = 1,
                      .beta = n % 2 ? 0 : 0.4f};
      check(&k, 2);
    }
}

typedef enum Operation { FORWARD, BACKWARD_INPUT, BACKWARD_WEIGHT } Operation;

static void operate(Compute *c, Operation operation, Tensor x, Weight w, Tensor y) {
  const Tensor none = {0};
  if (operation == FORWARD) op_linear(c, y, x, w, none, 1, 0);
  if (operation == BACKWARD_INPUT) op_linear_backward_input(c, x, y, w, 1, 0);
  if (operation == BACKWARD_WEIGHT) op_linear_backward_weight(c, w, none, y, x, 1);
}

/* Whether an operation of T rows, I inputs and O outputs has the bits of a product on the matrix unit. */
static bool is_of_unit(Operation operation, int64_t T, int64_t I, int64_t O) {
  Compute c = open_cpu(2);
  Error error = {0};
  float *values[] = {noise(T * I, 1), noise(O * I, 2), noise(T * O, 3)};
  const Tensor x = tensor_2d(values[0], DTYPE_F32, T, I), w = tensor_2d(values[1], DTYPE_F32, O, I),
               y = tensor_2d(values[2], DTYPE_F32, T, O);
  const ProductFactor x_rows = {.data = values[0], .stride = I}, w_rows = {.data = values[1], .stride = I},
                      y_rows = {.data = values[2], .stride = O};
  const struct {
    int64_t m, n, k;
    ProductFactor a, b;
    float *c;
  } products[] = {{T, O, I, x_rows, w_rows, values[2]},
                  {T, I, O, y_rows, w_rows, values[0]},
                  {O, I, T, y_rows, x_rows, values[1]}},
    p = products[operation];
  ProductFactor a = p.a, b = p.b;
  a.across = operation == BACKWARD_WEIGHT;
  b.across = operation != FORWARD;
  const size_t count = (size_t)(p.m * p.n);
  float *expected = malloc(count * sizeof *expected);
  memcpy(expected, p.c, count * sizeof *expected);
  void *scratch = malloc(product_amx_scratch(2, true, p.m, p.n, p.k));
  product_amx(2, true, p.m, p.n, p.k, 1, a, b, operation == BACKWARD_WEIGHT, expected, p.n, scratch);
  compute_dry_begin(&c);
  operate(&c, operation, x, (Weight){.data = w}, y);
  if (!compute_dry_end(&c, &error)) fail_msg("%s", error.message);
  operate(&c, operation, x, (Weight){.data = w}, y);
  const bool same = memcmp(p.c, expected, count * sizeof *expected) == 0;
  free(scratch);
  free(expected);
  for (int i = 0; i < 3; i++) free(values[i]);
  compute_close(&c);
  return same;
}

/* What the matrix unit takes of F32, to the last size; of the forward whatever the number of rows. */
static void test_on_unit(void **state) {
  (void)state;
  Compute c = open_cpu(1); /* DROVER_CPU counts from here on */
  compute_close(&c);
  if (!product_has_matrix_unit()) skip();
  for (int64_t T = 1; T < 300; T += 149) {
    assert_true(is_of_unit(FORWARD, T, SHORT_SUM, THIN));
    assert_false(is_of_unit(FORWARD, T, SHORT_SUM - 1, THIN));
    assert_false(is_of_unit(FORWARD, T, SHORT_SUM, THIN - 1));
    assert_true(is_of_unit(BACKWARD_INPUT, T, THIN, SHORT_SUM));
    assert_false(is_of_unit(BACKWARD_INPUT, T, THIN, SHORT_SUM - 1));
    assert_false(is_of_unit(BACKWARD_INPUT, T, THIN - 1, SHORT_SUM));
  }
  assert_true(is_of_unit(BACKWARD_WEIGHT, FEW_ROWS, THIN, THIN));
  assert_true(is_of_unit(BACKWARD_WEIGHT, FEW_ROWS, THIN, 5000)); /* more outputs than are taken at once */
  assert_false(is_of_unit(BACKWARD_WEIGHT, FEW_ROWS - 1, THIN, THIN));
  assert_false(is_of_unit(BACKWARD_WEIGHT, FEW_ROWS, THIN - 1, THIN));
  assert_false(is_of_unit(BACKWARD_WEIGHT, FEW_ROWS, THIN, THIN - 1));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_training), cmocka_unit_test(test_row_invariant),
                                     cmocka_unit_test(test_adapted), cmocka_unit_test(test_on_unit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
