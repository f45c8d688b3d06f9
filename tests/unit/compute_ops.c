/* The operation table test: every operation of ops.def, on every backend this machine can run, against a
 * plain double-precision reference; every comparison is shown to fail on a perturbed result.
 *
 * To add an operation: write its reference and its run function beside its kin in compute_ops/NAME.h, add
 * rows (operation, run, {sizes, flags}, tolerance) to that file's CASES. An operation without a row fails the
 * test. */
#include "compute_ops/harness.h"

#include "compute_ops/attention.h"
#include "compute_ops/heads.h"
#include "compute_ops/norms.h"
#include "compute_ops/optimizers.h"
#include "compute_ops/pointwise.h"
#include "compute_ops/products.h"
#include "compute_ops/rows.h"

static const Case cases[] = {PRODUCT_CASES,   ROW_CASES,  NORM_CASES,     ATTENTION_CASES,
                             POINTWISE_CASES, HEAD_CASES, OPTIMIZER_CASES};
enum { CASES = sizeof cases / sizeof *cases };

static void run_case(const Case *row, const Backend *backend) {
  Test *t = calloc(1, sizeof *t);
  Error error = {0};
  assert_non_null(t);
  assert_true(compute_open(&t->c, DEVICE_CPU, 2, &error));
  t->c.backend = backend;
  t->shape = row->shape;
  t->tolerance = row->tolerance;
  t->op = row->op;
  assert_true(compute_arena(&t->c, &t->arena, "test", (size_t)1 << 28, &error));
  row->run(t);
  check_guards(t);
  assert_true(t->comparisons > 0);
  compute_arena_free(&t->c, &t->arena);
  compute_close(&t->c);
  free(t);
}

static void run_all(const Backend *backend) {
  for (int i = 0; i < CASES; i++) run_case(&cases[i], backend);
}

static void test_cpu_v3(void **state) {
  (void)state;
  run_all(&backend_cpu_v3);
}

static void test_cpu_v4(void **state) {
  (void)state;
  Compute c;
  Error error = {0};
  assert_true(compute_open(&c, DEVICE_CPU, 1, &error));
  bool runs = c.backend == &backend_cpu_v4;
  compute_close(&c);
  if (!runs) skip();
  run_all(&backend_cpu_v4);
}

static void test_every_operation_has_a_row(void **state) {
  (void)state;
  for (int i = 0; op_names[i]; i++) {
    bool found = false;
    for (int k = 0; k < CASES; k++) found = found || strcmp(op_names[i], cases[k].op) == 0;
    if (!found) fail_msg("no row for operation %s", op_names[i]);
  }
}

static void test_comparison(void **state) {
  (void)state;
  const double expected[] = {1, 2, 3};
  assert_true(difference(expected, (double[]){1, 2, 3}, 3, TINY) == 0);
  assert_true(difference(expected, (double[]){1, 2.1, 3}, 3, TINY) > 0.01);
  assert_true(isinf(difference(expected, (double[]){1, NAN, 3}, 3, TINY)));
  assert_true(isinf(difference(expected, (double[]){1, INFINITY, 3}, 3, TINY)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_comparison),
      cmocka_unit_test(test_every_operation_has_a_row),
      cmocka_unit_test(test_cpu_v3),
      cmocka_unit_test(test_cpu_v4),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
