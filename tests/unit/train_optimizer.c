/* What stands around the optimisers' mathematics (that is compared with PyTorch in parity/training): clipping,
 * master weights, gradients that are not finite. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train/optimizer.h"

#include <math.h>
#include <string.h>

typedef struct Bench {
  Compute compute;
  Arena arena;
  ParameterList list;
  Optimizer optimizer;
  float value[2][4], grad[2][4];
  uint16_t narrow[4];
} Bench;

static void open_bench(Bench *b, OptimizerSpec spec, bool narrow) {
  Error error = {0};
  double norm;
  *b = (Bench){0};
  assert_true(compute_open(&b->compute, DEVICE_CPU, 1, &error));
  Tensor second = narrow ? tensor_1d(b->narrow, DTYPE_BF16, 4) : tensor_1d(b->value[1], DTYPE_F32, 4);
  Parameter items[2] = {
      {"first", tensor_1d(b->value[0], DTYPE_F32, 4), tensor_1d(b->grad[0], DTYPE_F32, 4), true},
      {"second", second, tensor_1d(b->grad[1], DTYPE_F32, 4), false}};
  for (int i = 0; i < 2; i++) assert_true(parameter_list_push(&b->list, items[i], &error));
  Arena dry;
  arena_init_dry(&dry, "plan");
  compute_dry_begin(&b->compute);
  assert_true(optimizer_open(&b->optimizer, &spec, &b->list, &b->compute, &dry, &error));
  assert_true(optimizer_step(&b->optimizer, &b->compute, 0, &norm, &error));
  optimizer_close(&b->optimizer);
  assert_true(compute_dry_end(&b->compute, &error));
  assert_true(arena_init(&b->arena, "test", dry.peak, &error));
  assert_true(optimizer_open(&b->optimizer, &spec, &b->list, &b->compute, &b->arena, &error));
}

static void close_bench(Bench *b) {
  optimizer_close(&b->optimizer);
  parameter_list_free(&b->list);
  arena_free(&b->arena);
  compute_close(&b->compute);
}

/* SGD makes the update visible: value = -lr * scale * grad. The norm is over both parameters. */
static void one_norm_clips_all(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD, .clip = 1}, false);
  b.grad[0][0] = 3;
  b.grad[1][1] = 4;
  assert_true(optimizer_step(&b.optimizer, &b.compute, 0.5, &norm, &error));
  assert_float_equal(norm, 5, 1e-9);
  assert_float_equal(b.value[0][0], -0.5 * 3 / 5, 1e-6);
  assert_float_equal(b.value[1][1], -0.5 * 4 / 5, 1e-6);
  assert_true(b.grad[0][0] == 0 && b.grad[1][1] == 0);
  b.grad[0][0] = 0.25f; /* below the limit: untouched */
  assert_true(optimizer_step(&b.optimizer, &b.compute, 1, &norm, &error));
  assert_float_equal(b.value[0][0], -0.3 - 0.25, 1e-6);
  close_bench(&b);
}

static void decay_is_for_matrices(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b,
             (OptimizerSpec){
                 .kind = OPTIMIZER_ADAMW, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f, .weight_decay = 0.5f},
             false);
  b.value[0][0] = b.value[1][0] = 1;
  assert_true(optimizer_step(&b.optimizer, &b.compute, 0.1, &norm, &error));
  assert_float_equal(b.value[0][0], 0.95, 1e-6);
  assert_float_equal(b.value[1][0], 1, 0);
  close_bench(&b);
}

/* Steps far below the spacing of bf16 add up in the master copy. */
static void small_steps_are_not_lost_in_bf16(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD}, true);
  b.narrow[0] = bf16_from_float(1);
  optimizer_adopt(&b.optimizer, &b.compute);
  for (int step = 0; step < 100; step++) {
    b.grad[1][0] = -1;
    assert_true(optimizer_step(&b.optimizer, &b.compute, 1e-3, &norm, &error));
    if (step == 0) assert_float_equal(float_from_bf16(b.narrow[0]), 1, 0);
  }
  assert_float_equal(float_from_bf16(b.narrow[0]), 1.1, 0.004);
  close_bench(&b);
}

static void a_gradient_that_is_not_finite_changes_nothing(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD, .clip = 1}, false);
  b.grad[0][0] = 1;
  b.grad[1][2] = NAN;
  assert_false(optimizer_step(&b.optimizer, &b.compute, 1, &norm, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "first in second"));
  assert_true(b.value[0][0] == 0 && b.optimizer.step == 0);
  close_bench(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_norm_clips_all),
      cmocka_unit_test(decay_is_for_matrices),
      cmocka_unit_test(small_steps_are_not_lost_in_bf16),
      cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
