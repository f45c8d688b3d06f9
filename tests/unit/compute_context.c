/* The compute context, tensors and their views, parameter lists. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "compute/ops.h"
#include "compute/parameter.h"

static void test_open(void **state) {
  (void)state;
  Compute c;
  Error error = {0};
  assert_false(compute_open(&c, DEVICE_CUDA, 1, &error));
  assert_int_equal(error.code, ERROR_DEVICE);
  assert_non_null(strstr(error.message, "CUDA"));
  error = (Error){0};
  assert_true(compute_open(&c, DEVICE_AUTO, 3, &error));
  assert_int_equal(c.threads, 3);
  assert_memory_equal(compute_device_name(&c), "cpu (avx", 8);
  compute_close(&c);
  assert_true(compute_open(&c, DEVICE_CPU, 0, &error));
  assert_true(c.threads >= 1);
  compute_close(&c);
  compute_close(&c); /* nothing left to do */
}

/* A dry run must not touch tensors: these are addresses that fault. */
static void test_dry_run(void **state) {
  (void)state;
  Compute c;
  Arena dry;
  Error error = {0};
  assert_true(compute_open(&c, DEVICE_CPU, 2, &error));
  arena_init_dry(&dry, "dry");
  Tensor x = tensor_new_2d(&dry, DTYPE_F32, 40, 64), out = tensor_new_2d(&dry, DTYPE_F32, 40, 900),
         none = {0};
  Weight w = {tensor_new_2d(&dry, DTYPE_BF16, 900, 64), false};
  Tensor ids = tensor_new_1d(&dry, DTYPE_I32, 40), logprob = tensor_new_1d(&dry, DTYPE_F32, 40);
  compute_dry_begin(&c);
  op_linear(&c, out, x, w, none, 1, 0);
  size_t first = c.scratch.peak;
  op_head_logprob(&c, logprob, none, x, w, none, ids, (HeadSpec){.temperature = 1});
  size_t second = c.scratch.peak;
  compute_upload(&c, x, NULL);
  compute_download(&c, NULL, x);
  assert_true(first > 0 && second > first);
  assert_true(compute_dry_end(&c, &error));
  assert_true(c.scratch.capacity >= second);
  assert_false(c.scratch.dry);
  /* a smaller plan keeps what the larger one got */
  compute_dry_begin(&c);
  op_linear(&c, out, x, w, none, 1, 0);
  assert_true(compute_dry_end(&c, &error));
  assert_true(c.scratch.capacity >= second);
  compute_close(&c);
}

static void test_upload(void **state) {
  (void)state;
  Compute c;
  Arena arena;
  Error error = {0};
  assert_true(compute_open(&c, DEVICE_CPU, 1, &error));
  assert_true(compute_arena(&c, &arena, "test", 4096, &error));
  float values[6] = {1, 2, 3, 4, 5, 6}, back[6] = {0};
  Tensor x = tensor_new_2d(&arena, DTYPE_F32, 2, 3);
  compute_upload(&c, x, values);
  compute_download(&c, back, x);
  assert_memory_equal(back, values, sizeof values);
  compute_arena_free(&c, &arena);
  compute_close(&c);
}

static void test_views(void **state) {
  (void)state;
  float data[4 * 12];
  for (int i = 0; i < 48; i++) data[i] = (float)i;
  Tensor x = tensor_2d(data, DTYPE_F32, 4, 12);
  assert_true(tensor_is_contiguous(x));
  assert_int_equal(tensor_bytes(x), sizeof data);
  Tensor rows = tensor_rows(x, 1, 2);
  assert_ptr_equal(rows.data, data + 12);
  assert_true(tensor_is_contiguous(rows));
  assert_int_equal(tensor_count(rows), 24);
  Tensor columns = tensor_columns(x, 3, 5);
  assert_ptr_equal(columns.data, data + 3);
  assert_false(tensor_is_contiguous(columns));
  assert_true(tensor_is_contiguous(tensor_rows(columns, 2, 1)));
  /* heads of [head][q, k] rows: the k of each of two heads of three */
  Tensor heads = tensor_heads(x, 3, 2, 6, 3);
  assert_int_equal(heads.rank, 3);
  float *k = (float *)heads.data + 2 * heads.stride[0] + 1 * heads.stride[1];
  assert_true(*k == 2 * 12 + 9);
  assert_true(tensor_is_none((Tensor){0}));
  assert_false(tensor_is_none(x));
}

static void test_parameters(void **state) {
  (void)state;
  ParameterList list = {0};
  Error error = {0};
  for (int i = 0; i < 200; i++) {
    assert_true(parameter_list_push(&list, (Parameter){.name = i % 2 ? "odd" : "even"}, &error));
  }
  assert_int_equal(list.count, 200);
  assert_string_equal(list.items[199].name, "odd");
  parameter_list_free(&list);
  memory_fail_after(0);
  assert_false(parameter_list_push(&list, (Parameter){.name = "none"}, &error));
  memory_fail_after(-1);
  assert_int_equal(error.code, ERROR_MEMORY);
  parameter_list_free(&list);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_open),  cmocka_unit_test(test_dry_run),    cmocka_unit_test(test_upload),
      cmocka_unit_test(test_views), cmocka_unit_test(test_parameters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
