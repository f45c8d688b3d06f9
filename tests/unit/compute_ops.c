/* The operation table test: every operation of ops.def, on the processor and the card, against a plain
 * double-precision reference; every comparison is shown to fail on a perturbed result.
 *
 * DROVER_TEST_OP=name,name runs these operations only; DROVER_TEST_BACKEND=cuda that backend only, which must
 * then be there. DROVER_CPU names the processor's code path.
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

static bool chosen(const char *op) {
  const char *list = getenv("DROVER_TEST_OP");
  size_t length = strlen(op);
  if (!list || !*list) return true;
  for (const char *p = strstr(list, op); p; p = strstr(p + 1, op)) {
    if ((p == list || p[-1] == ',') && (p[length] == 0 || p[length] == ',')) return true;
  }
  return false;
}

static bool backend_is(const char *name) {
  const char *backend = getenv("DROVER_TEST_BACKEND");
  return backend && strcmp(backend, name) == 0;
}

static void run_case(Test *t, const Case *row) {
  t->shape = row->shape;
  t->tolerance = row->tolerance;
  t->op = row->op;
  t->draws = 0;
  t->comparisons = t->guards = 0;
  t->c.row_invariant = false;
  /* No workspace that another row planned. */
  compute_arena_free(&t->c, &t->c.scratch);
  arena_init_dry(&t->c.scratch, "scratch");
  row->run(t);
  check_guards(t);
  assert_true(t->comparisons > 0);
  arena_release(&t->arena, 0);
  arena_release(&t->host, 0);
}

/* All rows, so that a message tells of each that fails. */
static void run_all(Test *t) {
  Error error = {0};
  assert_true(compute_arena(&t->c, &t->arena, "test", (size_t)1 << 27, &error));
  assert_true(arena_init(&t->host, "host", (size_t)1 << 29, &error));
  t->mirror = t->c.device ? malloc(t->arena.capacity) : t->arena.base;
  assert_non_null(t->mirror);
  for (int i = 0; i < CASES; i++) {
    bool runs = !(cases[i].shape.flags & NARROW) || t->c.backend->narrow_activations;
    if (runs && chosen(cases[i].op)) run_case(t, &cases[i]);
  }
  if (test_on_device(t)) free(t->mirror);
  arena_free(&t->host);
  compute_arena_free(&t->c, &t->arena);
  compute_close(&t->c);
  if (t->failures) fail_msg("%d comparisons failed", t->failures);
}

static void test_cpu(void **state) {
  (void)state;
  Test t = {0};
  Error error = {0};
  if (!compute_open(&t.c, DEVICE_CPU, 2, &error)) fail_msg("%s", error.message);
  run_all(&t);
}

static void test_cuda(void **state) {
  (void)state;
  Test t = {0};
  Error error = {0};
  if (!compute_open(&t.c, DEVICE_CUDA, 2, &error)) {
    if (backend_is("cuda")) fail_msg("%s", error.message);
    print_message("%s\n", error.message);
    skip();
  }
  run_all(&t);
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
  assert_true(difference(DTYPE_F32, expected, NULL, (double[]){1, 2, 3}, 3, TINY) == 0);
  assert_true(difference(DTYPE_F32, expected, NULL, (double[]){1, 2.1, 3}, 3, TINY) > 0.01);
  assert_true(isinf(difference(DTYPE_F32, expected, NULL, (double[]){1, NAN, 3}, 3, TINY)));
  assert_true(isinf(difference(DTYPE_F32, expected, NULL, (double[]){1, INFINITY, 3}, 3, TINY)));
  /* What bf16 rounds 2.003 to is as good as it gets; its other neighbour is not, and F32 does better. */
  const double fine[] = {2.003}, near[] = {2.0}, far[] = {2.015625};
  assert_true(difference(DTYPE_BF16, fine, NULL, near, 1, TINY) == 0);
  assert_true(difference(DTYPE_BF16, fine, NULL, far, 1, TINY) > 1e-3);
  assert_true(difference(DTYPE_F32, fine, NULL, near, 1, TINY) > 5e-4);
  const double terms[] = {1.0};
  assert_true(difference(DTYPE_F32, fine, terms, near, 1, TINY) == 0);
  assert_true(difference(DTYPE_F32, fine, terms, far, 1, TINY) > 1e-4);
  assert_true(rounding(DTYPE_BF16, 1) == 0x1p-8 && rounding(DTYPE_BF16, -1.99) == 0x1p-8);
  assert_true(rounding(DTYPE_F32, 1) == 0);
}

#define TABLE cmocka_unit_test(test_comparison), cmocka_unit_test(test_every_operation_has_a_row)

int main(void) {
  const struct CMUnitTest both[] = {TABLE, cmocka_unit_test(test_cpu), cmocka_unit_test(test_cuda)};
  const struct CMUnitTest cpu[] = {TABLE, cmocka_unit_test(test_cpu)};
  const struct CMUnitTest cuda[] = {TABLE, cmocka_unit_test(test_cuda)};
  if (backend_is("cpu")) return cmocka_run_group_tests(cpu, NULL, NULL);
  if (backend_is("cuda")) return cmocka_run_group_tests(cuda, NULL, NULL);
  return cmocka_run_group_tests(both, NULL, NULL);
}
