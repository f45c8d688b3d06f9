#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"

#include <string.h>

static void zero_bytes_are_a_block(void **state) {
  (void)state;
  void *a = memory_alloc(0), *b = memory_zeroed(0, 8);
  assert_non_null(a);
  assert_non_null(b);
  a = memory_resize(a, 0);
  assert_non_null(a);
  memory_free(a);
  memory_free(b);
  memory_free(NULL);
}

static void zeroed_is_zero_and_checks_overflow(void **state) {
  (void)state;
  unsigned char *bytes = memory_zeroed(100, 3);
  for (int i = 0; i < 300; i++) assert_int_equal(bytes[i], 0);
  memory_free(bytes);
  volatile size_t huge = SIZE_MAX / 2;
  assert_null(memory_zeroed(huge, 3));
}

static void fails_after_the_count(void **state) {
  (void)state;
  void *blocks[3];
  memory_fail_after(2);
  for (int i = 0; i < 3; i++) blocks[i] = memory_alloc(8);
  assert_null(memory_copy_string("x"));
  assert_null(memory_format("%d", 1));
  assert_null(memory_zeroed(1, 1));
  void *same = memory_resize(blocks[0], 1000);
  memory_fail_after(-1);
  assert_non_null(blocks[0]);
  assert_non_null(blocks[1]);
  assert_null(blocks[2]);
  assert_null(same);
  memset(blocks[0], 1, 8); /* still valid after the failed resize */
  memory_free(blocks[0]);
  memory_free(blocks[1]);
  void *again = memory_alloc(8);
  assert_non_null(again);
  memory_free(again);
}

static void format_makes_a_string(void **state) {
  (void)state;
  char *text = memory_format("%s-%05d", "model", 3);
  assert_string_equal(text, "model-00003");
  memory_free(text);
}

static void buffer_grows_and_ends_in_nul(void **state) {
  (void)state;
  Buffer buffer = {0};
  Error error = {0};
  assert_true(buffer_append(&buffer, NULL, 0, &error));
  assert_string_equal(buffer.data, "");
  for (int i = 0; i < 1000; i++) assert_true(buffer_format(&buffer, &error, "%d,", i % 10));
  assert_int_equal(buffer.size, 2000);
  assert_int_equal(buffer.data[2000], 0);
  assert_memory_equal(buffer.data + 1990, "5,6,7,8,9,", 10);
  size_t capacity = buffer.capacity;
  buffer_clear(&buffer);
  assert_int_equal(buffer.size, 0);
  assert_string_equal(buffer.data, "");
  assert_int_equal(buffer.capacity, capacity);
  assert_true(buffer_text(&buffer, "again", &error));
  assert_string_equal(buffer.data, "again");
  buffer_free(&buffer);
  assert_null(buffer.data);
  buffer_free(&buffer);
}

static void buffer_reports_lack_of_memory(void **state) {
  (void)state;
  Buffer buffer = {0};
  Error error = {0};
  assert_true(buffer_text(&buffer, "kept", &error));
  memory_fail_after(0);
  bool grown = true;
  for (int i = 0; i < 100 && grown; i++) grown = buffer_text(&buffer, "more", &error);
  memory_fail_after(-1);
  assert_false(grown);
  assert_int_equal(error.code, ERROR_MEMORY);
  assert_memory_equal(buffer.data, "kept", 4); /* what was there is still there */
  Error overflow = {0};
  assert_false(buffer_append(&buffer, "", SIZE_MAX - 2, &overflow));
  assert_int_equal(overflow.code, ERROR_MEMORY);
  buffer_free(&buffer);
}

static void int_array_grows(void **state) {
  (void)state;
  IntArray array = {0};
  Error error = {0};
  for (int i = 0; i < 1000; i++) assert_true(int_array_push(&array, i * i, &error));
  const int more[] = {-1, -2, -3};
  assert_true(int_array_append(&array, more, 3, &error));
  assert_true(int_array_append(&array, NULL, 0, &error));
  assert_int_equal(array.size, 1003);
  for (int i = 0; i < 1000; i++) assert_int_equal(array.data[i], i * i);
  assert_memory_equal(array.data + 1000, more, sizeof more);
  int_array_free(&array);
  memory_fail_after(0);
  bool ok = int_array_push(&array, 1, &error);
  memory_fail_after(-1);
  assert_false(ok);
  assert_int_equal(error.code, ERROR_MEMORY);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(zero_bytes_are_a_block),
      cmocka_unit_test(zeroed_is_zero_and_checks_overflow),
      cmocka_unit_test(fails_after_the_count),
      cmocka_unit_test(format_makes_a_string),
      cmocka_unit_test(buffer_grows_and_ends_in_nul),
      cmocka_unit_test(buffer_reports_lack_of_memory),
      cmocka_unit_test(int_array_grows),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
