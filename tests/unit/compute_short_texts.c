/* Attention over texts shorter than a tile of queries: warps without rows make no products. Counted on the emulated card. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "compute/ops.h"
#include "tests/support/device.h"

/* Products so far; there where the test is linked with the emulated card. */
extern uint64_t host_products(void) __attribute__((weak));

typedef struct Products {
  uint64_t forward, backward;
} Products;

/* Of a text of `length` tokens, one head. */
static Products products_of(int64_t length, int64_t size) {
  Compute c;
  Arena arena;
  Error error = {0};
  test_device_open(&c, 1);
  device_arena(&c, &arena, "test", 1 << 20);
  Tensor x[8];
  for (int i = 0; i < 8; i++) {
    x[i] = tensor_new_3d(&arena, DTYPE_BF16, length, 1, size);
    device_random(&c, x[i], random_key(3, RANDOM_TEST), (uint64_t)i, 0, 1);
  }
  const Tensor lse = tensor_new_2d(&arena, DTYPE_F32, length, 1),
               offsets = tensor_new_1d(&arena, DTYPE_I32, 2);
  const AttentionSpec spec = {.scale = 0.1F};
  const int32_t ends[2] = {0, (int32_t)length};
  compute_upload(&c, offsets, ends);
  compute_dry_begin(&c);
  op_attention_backward(&c, x[4], x[5], x[6], x[7], x[3], lse, x[0], x[1], x[2], offsets, spec);
  assert_true(compute_dry_end(&c, &error));
  Products out = {0};
  uint64_t before = host_products();
  op_attention(&c, x[3], lse, x[0], x[1], x[2], offsets, spec);
  free(device_values(&c, x[3])); /* waits for it */
  out.forward = host_products() - before;
  before = host_products();
  op_attention_backward(&c, x[4], x[5], x[6], x[7], x[3], lse, x[0], x[1], x[2], offsets, spec);
  free(device_values(&c, x[4]));
  out.backward = host_products() - before;
  compute_arena_free(&c, &arena);
  compute_close(&c);
  return out;
}

/* Both lengths lie in one tile of queries. 64 keys are one tile of the forward, so that its products grow with the rows; the
 * backward goes by 32 keys, or 32 queries, of which 64 tokens have three pairs that see each other and 32 tokens one. */
static void idle_warps_make_no_products(void **state) {
  (void)state;
  if (!host_products) skip();
  static const int64_t sizes[] = {64, 96, 128};
  for (int i = 0; i < 3; i++) {
    const Products half = products_of(32, sizes[i]), whole = products_of(64, sizes[i]);
    print_message("    D %d: forward %d and %d, backward %d and %d\n", (int)sizes[i], (int)half.forward,
                  (int)whole.forward, (int)half.backward, (int)whole.backward);
    assert_true(half.forward > 0 && half.backward > 0);
    assert_int_equal(whole.forward, 2 * half.forward);
    assert_int_equal(whole.backward, 3 * half.backward);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(idle_warps_make_no_products)};
  return cmocka_run_group_tests_name("compute/short_texts", tests, NULL, NULL);
}
