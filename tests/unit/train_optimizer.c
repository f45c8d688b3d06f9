/* What stands around the optimisers' mathematics (that is compared with PyTorch in parity/training): clipping,
 * master weights, gradients that are not finite. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/support/device.h"
#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bench {
  Compute compute;
  Arena arena, state;
  ParameterList list; /* two of four elements each, at first zero */
  Optimizer optimizer;
} Bench;

static float get(Bench *b, Tensor tensor, int i) {
  float *values = device_values(&b->compute, tensor), value = values[i];
  free(values);
  return value;
}

static void set(Bench *b, Tensor tensor, int i, float value) {
  float *values = device_values(&b->compute, tensor);
  values[i] = value;
  device_write(&b->compute, tensor, values);
  free(values);
}

static Tensor value_of(const Bench *b, int parameter) {
  return b->list.items[parameter].value;
}
static Tensor grad_of(const Bench *b, int parameter) {
  return b->list.items[parameter].grad;
}

static void open_bench(Bench *b, OptimizerSpec spec, bool narrow) {
  Error error = {0};
  double norm;
  *b = (Bench){0};
  test_device_open(&b->compute, 1);
  device_arena(&b->compute, &b->arena, "parameters", 4096);
  for (int i = 0; i < 2; i++) {
    const Parameter p = {.name = i ? "second" : "first",
                         .value = tensor_new_1d(&b->arena, i && narrow ? DTYPE_BF16 : DTYPE_F32, 4),
                         .grad = tensor_new_1d(&b->arena, DTYPE_F32, 4),
                         .decay = i == 0};
    device_write(&b->compute, p.value, (float[4]){0});
    device_write(&b->compute, p.grad, (float[4]){0});
    assert_true(parameter_list_push(&b->list, p, &error));
  }
  Arena dry;
  arena_init_dry(&dry, "plan");
  compute_dry_begin(&b->compute);
  assert_true(optimizer_open(&b->optimizer, &spec, &b->list, &b->compute, &dry, &error));
  assert_true(optimizer_step(&b->optimizer, &b->compute, 0, &norm, &error));
  optimizer_close(&b->optimizer);
  assert_true(compute_dry_end(&b->compute, &error));
  device_arena(&b->compute, &b->state, "optimizer", dry.peak);
  assert_true(optimizer_open(&b->optimizer, &spec, &b->list, &b->compute, &b->state, &error));
}

static void close_bench(Bench *b) {
  optimizer_close(&b->optimizer);
  parameter_list_free(&b->list);
  compute_arena_free(&b->compute, &b->state);
  compute_arena_free(&b->compute, &b->arena);
  compute_close(&b->compute);
}

/* SGD makes the update visible: value = -lr * scale * grad. The norm is over both parameters. */
static void one_norm_clips_all(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD, .clip = 1}, false);
  set(&b, grad_of(&b, 0), 0, 3);
  set(&b, grad_of(&b, 1), 1, 4);
  assert_true(optimizer_step(&b.optimizer, &b.compute, 0.5, &norm, &error));
  assert_float_equal(norm, 5, 1e-9);
  assert_float_equal(get(&b, value_of(&b, 0), 0), -0.5 * 3 / 5, 1e-6);
  assert_float_equal(get(&b, value_of(&b, 1), 1), -0.5 * 4 / 5, 1e-6);
  assert_true(get(&b, grad_of(&b, 0), 0) == 0 && get(&b, grad_of(&b, 1), 1) == 0);
  set(&b, grad_of(&b, 0), 0, 0.25f); /* below the limit: untouched */
  assert_true(optimizer_step(&b.optimizer, &b.compute, 1, &norm, &error));
  assert_float_equal(get(&b, value_of(&b, 0), 0), -0.3 - 0.25, 1e-6);
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
  set(&b, value_of(&b, 0), 0, 1);
  set(&b, value_of(&b, 1), 0, 1);
  assert_true(optimizer_step(&b.optimizer, &b.compute, 0.1, &norm, &error));
  assert_float_equal(get(&b, value_of(&b, 0), 0), 0.95, 1e-6);
  assert_float_equal(get(&b, value_of(&b, 1), 0), 1, 0);
  close_bench(&b);
}

/* Steps far below the spacing of bf16 add up in the master copy. */
static void small_steps_are_not_lost_in_bf16(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD}, true);
  set(&b, value_of(&b, 1), 0, 1);
  optimizer_adopt(&b.optimizer, &b.compute);
  for (int step = 0; step < 100; step++) {
    set(&b, grad_of(&b, 1), 0, -1);
    assert_true(optimizer_step(&b.optimizer, &b.compute, 1e-3, &norm, &error));
    if (step == 0) assert_float_equal(get(&b, value_of(&b, 1), 0), 1, 0);
  }
  assert_float_equal(get(&b, value_of(&b, 1), 0), 1.1, 0.004);
  close_bench(&b);
}

/* A master that the parameter's owner keeps is what is stepped; it is not taken from the rounded value. */
static void an_owned_master_is_stepped(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD}, true);
  Optimizer optimizer;
  Parameter *narrow = &b.list.items[1];
  narrow->master = tensor_new_1d(&b.arena, DTYPE_F32, 4);
  device_write(&b.compute, narrow->master, (float[4]){1.001f, 1, 1, 1}); /* BF16 has 1 and 1.0078 */
  assert_true(optimizer_open(&optimizer, &b.optimizer.spec, &b.list, &b.compute, &b.arena, &error));
  optimizer_adopt(&optimizer, &b.compute);
  optimizer_round(&optimizer, &b.compute);
  assert_float_equal(get(&b, value_of(&b, 1), 0), 1, 0);
  set(&b, grad_of(&b, 1), 0, -1);
  assert_true(optimizer_step(&optimizer, &b.compute, 0.004, &norm, &error));
  assert_float_equal(get(&b, narrow->master, 0), 1.005, 1e-6);
  assert_float_equal(get(&b, value_of(&b, 1), 0), 1.0078125, 0);
  optimizer_close(&optimizer);
  close_bench(&b);
}

static void a_gradient_that_is_not_finite_changes_nothing(void **state) {
  (void)state;
  Bench b;
  Error error = {0};
  double norm;
  open_bench(&b, (OptimizerSpec){.kind = OPTIMIZER_SGD, .clip = 1}, false);
  set(&b, grad_of(&b, 0), 0, 1);
  set(&b, grad_of(&b, 1), 2, NAN);
  assert_false(optimizer_step(&b.optimizer, &b.compute, 1, &norm, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "first in second"));
  assert_true(get(&b, value_of(&b, 0), 0) == 0 && b.optimizer.step == 0);
  /* The next step is as if that one had not been. */
  set(&b, grad_of(&b, 0), 1, 0.5f);
  assert_true(optimizer_step(&b.optimizer, &b.compute, 1, &norm, &error));
  assert_float_equal(norm, 0.5, 1e-9);
  assert_true(get(&b, value_of(&b, 0), 0) == 0 && get(&b, value_of(&b, 1), 2) == 0);
  close_bench(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_norm_clips_all),
      cmocka_unit_test(decay_is_for_matrices),
      cmocka_unit_test(small_steps_are_not_lost_in_bf16),
      cmocka_unit_test(an_owned_master_is_stepped),
      cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
