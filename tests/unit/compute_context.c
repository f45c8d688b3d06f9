/* The compute context, tensors and their views, parameter lists. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "compute/ops.h"
#include "compute/parameter.h"
#include "tests/support/device.h"

#include <stdlib.h>

static void test_open(void **state) {
  (void)state;
  Compute c;
  Error error = {0};
  const bool has_cuda = compute_open(&c, DEVICE_CUDA, 1, &error);
  if (has_cuda) {
    assert_ptr_equal(c.backend, backend_cuda);
    compute_close(&c);
  } else { /* not built in, or no card */
    assert_int_equal(error.code, ERROR_DEVICE);
    assert_non_null(strstr(error.message, "CUDA"));
    error = (Error){0};
  }
  assert_true(compute_open(&c, DEVICE_AUTO, 3, &error));
  assert_int_equal(c.threads, 3);
  if (has_cuda)
    assert_ptr_equal(c.backend, backend_cuda);
  else
    assert_memory_equal(compute_device_name(&c), "cpu (avx", 8);
  compute_close(&c);
  assert_true(compute_open(&c, DEVICE_CPU, 0, &error));
  assert_memory_equal(compute_device_name(&c), "cpu (avx", 8);
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
  test_device_open(&c, 2);
  arena_init_dry(&dry, "dry");
  Tensor x = tensor_new_2d(&dry, DTYPE_F32, 40, 64), out = tensor_new_2d(&dry, DTYPE_F32, 40, 900),
         none = {0};
  Weight w = {.data = tensor_new_2d(&dry, DTYPE_BF16, 900, 64)};
  Tensor ids = tensor_new_1d(&dry, DTYPE_I32, 40), logprob = tensor_new_1d(&dry, DTYPE_F32, 40);
  compute_dry_begin(&c);
  op_linear(&c, out, x, w, none, 1, 0);
  size_t first = c.scratch.peak;
  op_head_logprob(&c, logprob, none, (HeadTerms){.x = x, .w = w}, ids, (HeadSpec){.temperature = 1});
  size_t second = c.scratch.peak;
  compute_upload(&c, x, NULL);
  compute_download(&c, NULL, x);
  assert_true(second > 0 && second >= first);
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

/* A plan is enough for fewer rows as well: the head's logits come in chunks of one size, which is larger for four rows of this vocabulary than for five. */
static void test_fewer_rows(void **state) {
  (void)state;
  enum { ROWS = 5, VOCABULARY = 1 << 22 };
  Compute c;
  Error error = {0};
  assert_true(compute_open(&c, DEVICE_CPU, 2, &error));
  float x[ROWS] = {1, 2, 3, 4, 5}, logprob[ROWS], fewer[ROWS], *w = malloc(VOCABULARY * sizeof *w);
  int32_t ids[ROWS] = {0, 1, 2, 3, 4};
  assert_non_null(w);
  for (int i = 0; i < VOCABULARY; i++) w[i] = (float)(i % 1000) * 0.001f;
  HeadTerms z = {.x = tensor_2d(x, DTYPE_F32, ROWS, 1),
                 .w = {.data = tensor_2d(w, DTYPE_F32, VOCABULARY, 1)}};
  const HeadSpec spec = {.temperature = 1};
  const Tensor all = tensor_1d(logprob, DTYPE_F32, ROWS), targets = tensor_1d(ids, DTYPE_I32, ROWS),
               none = {0};
  compute_dry_begin(&c);
  op_head_logprob(&c, all, none, z, targets, spec);
  assert_true(compute_dry_end(&c, &error));
  op_head_logprob(&c, all, none, z, targets, spec);
  z.x = tensor_rows(z.x, 0, ROWS - 1);
  op_head_logprob(&c, tensor_1d(fewer, DTYPE_F32, ROWS - 1), none, z, tensor_1d(ids, DTYPE_I32, ROWS - 1),
                  spec);
  assert_memory_equal(fewer, logprob, (ROWS - 1) * sizeof *fewer);
  free(w);
  compute_close(&c);
}

static void test_upload(void **state) {
  (void)state;
  Compute c;
  Arena arena;
  Error error = {0};
  test_device_open(&c, 1);
  assert_true(compute_arena(&c, &arena, "test", 4096, &error));
  float values[6] = {1, 2, 3, 4, 5, 6}, back[6] = {0};
  Tensor x = tensor_new_2d(&arena, DTYPE_F32, 2, 3);
  compute_upload(&c, x, values);
  compute_download(&c, back, x);
  assert_memory_equal(back, values, sizeof values);
  compute_arena_free(&c, &arena);
  compute_close(&c);
}

/* What a card's memory is taken for, and a limit below what it has. */
static void test_memory(void **state) {
  (void)state;
  Compute c;
  Arena first, second;
  Error error = {0};
  test_device_open(&c, 1);
  const DeviceMemory fresh = compute_device_memory(&c);
  if (fresh.total == 0) { /* it computes in ordinary memory */
    compute_close(&c);
    skip();
  }
  assert_true(fresh.free <= fresh.total && fresh.arenas == 0);
  const size_t mib = (size_t)1 << 20;
  c.memory_limit = fresh.overhead + 3 * mib;
  assert_true(compute_arena(&c, &first, "first", 2 * mib, &error));
  assert_false(compute_arena(&c, &second, "second", 2 * mib, &error));
  assert_int_equal(error.code, ERROR_MEMORY);
  assert_non_null(strstr(error.message, "second wants"));
  assert_non_null(strstr(error.message, "device.memory_limit"));
  error = (Error){0};
  assert_true(compute_arena(&c, &second, "second", mib, &error));
  assert_int_equal(compute_device_memory(&c).arenas, 3 * mib);
  compute_arena_free(&c, &first);
  assert_int_equal(compute_device_memory(&c).arenas, mib);
  assert_int_equal(compute_device_memory(&c).peak, 3 * mib);
  compute_arena_free(&c, &second);
  c.memory_limit = 0;
  assert_false(compute_arena(&c, &first, "all", 2 * fresh.total, &error));
  assert_int_equal(error.code, ERROR_MEMORY);
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
  /* one over several, where they follow each other */
  const Tensor halves[2] = {tensor_rows(x, 0, 3), tensor_rows(x, 3, 1)};
  const Tensor stacked = tensor_stacked(halves, 2);
  const Tensor apart[2] = {tensor_rows(x, 0, 2), tensor_rows(x, 3, 1)};
  assert_memory_equal(&x, &stacked, sizeof x);
  assert_true(tensor_is_none(tensor_stacked(apart, 2)));
  assert_true(tensor_is_none(tensor_stacked((Tensor[]){halves[0], {0}}, 2)));
  assert_true(tensor_is_none(tensor_stacked((Tensor[]){columns, halves[1]}, 2)));
  const Tensor beside[2] = {tensor_columns(x, 3, 5), tensor_columns(x, 8, 2)};
  const Tensor gap[2] = {beside[0], tensor_columns(x, 9, 2)};
  const Tensor both = tensor_beside(beside, 2), expected = tensor_columns(x, 3, 7);
  assert_memory_equal(&both, &expected, sizeof both);
  assert_true(tensor_is_none(tensor_beside(gap, 2)));
  assert_true(tensor_is_none(tensor_beside(halves, 2)));
  const Tensor joined[2] = {tensor_heads(x, 0, 2, 3, 3), tensor_heads(x, 6, 1, 3, 3)};
  assert_int_equal(tensor_beside(joined, 2).dim[1], 3);
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
      cmocka_unit_test(test_open),       cmocka_unit_test(test_dry_run), cmocka_unit_test(test_fewer_rows),
      cmocka_unit_test(test_upload),     cmocka_unit_test(test_memory),  cmocka_unit_test(test_views),
      cmocka_unit_test(test_parameters),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
