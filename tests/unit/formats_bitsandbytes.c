/* bitsandbytes' tensors as weights: its own dequantised values to the bit, and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "compute/nf4.h"
#include "formats/bitsandbytes.h"
#include "tests/support/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Fixture fixture;

/* A list of tensors as a form would give it. */
static WeightFiles list;

static const SafetensorsEntry *made(const char *name) {
  const SafetensorsEntry *entry = safetensors_file_find(&fixture.file, name);
  assert_non_null(entry);
  return entry;
}

static WeightEntry *add(const char *name, DType dtype, const void *data, size_t count) {
  assert_true(list.count < 16);
  WeightEntry *entry = &list.entries[list.count++];
  *entry = (WeightEntry){.name = name,
                         .path = "some.safetensors",
                         .kind = "?",
                         .dtype = dtype,
                         .rank = 1,
                         .shape = {(int64_t)count},
                         .count = count,
                         .data = data,
                         .bytes = count * dtype_size(dtype)};
  return entry;
}

static WeightEntry *add_made(const char *name, const char *from) {
  const SafetensorsEntry *entry = made(from);
  return add(name, entry->dtype, entry->data, entry->bytes / dtype_size(entry->dtype));
}

static void begin(void) {
  list = (WeightFiles){.entries = memory_zeroed(16, sizeof *list.entries)};
  assert_non_null(list.entries);
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const WeightEntry *)a)->name, ((const WeightEntry *)b)->name);
}

static bool turn(Error *error) {
  qsort(list.entries, list.count, sizeof *list.entries, by_name);
  return bnb_weights(&list, error);
}

/* "x.weight" of 16 by 192, or nested, of 272 by 64; the state is `json`. */
static void add_four(bool nested, const char *json) {
  begin();
  add_made("x.weight", nested ? "tall.packed" : "edges.packed");
  add("x.weight.quant_map", DTYPE_F32, nf4_table, NF4_CODES);
  add("x.weight.quant_state.bitsandbytes__nf4", DTYPE_U8, json, strlen(json));
  if (nested) {
    add_made("x.weight.absmax", "tall.scales");
    add_made("x.weight.nested_absmax", "tall.group");
    add_made("x.weight.nested_quant_map", "map");
  } else {
    add_made("x.weight.absmax", "edges.absmax");
  }
}

#define PLAIN_STATE \
  "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [16, 192]}"

static void assert_values(const char *name, const char *want, size_t count) {
  const WeightEntry *entry = weight_files_find(&list, name);
  assert_non_null(entry);
  assert_int_equal(entry->count, count);
  const size_t size = dtype_size(entry->dtype);
  char *got = test_malloc(count * size);
  weight_read(entry, 0, count, entry->dtype, got);
  assert_memory_equal(got, made(want)->data, count * size);
  weight_read(entry, 7, 100, entry->dtype, got); /* from within a block */
  assert_memory_equal(got, (const char *)made(want)->data + 7 * size, 100 * size);
  test_free(got);
}

static void test_four(void **state) {
  (void)state;
  Error error = {0};
  add_four(false, PLAIN_STATE);
  add("other", DTYPE_F32, made("edges.values")->data, 4);
  assert_true(turn(&error));
  assert_int_equal(list.count, 2);
  assert_values("x.weight", "edges.plain", 16 * 192);
  assert_null(bnb_codes(weight_files_find(&list, "other")));
  weight_files_close(&list);

  char json[256];
  float mean;
  memcpy(&mean, made("tall.mean")->data, sizeof mean);
  snprintf(json, sizeof json,
           "{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [272, 64], "
           "\"nested_blocksize\": 256, \"nested_dtype\": \"float32\", \"nested_offset\": %.17g}",
           (double)mean);
  add_four(true, json);
  assert_true(turn(&error));
  assert_int_equal(list.count, 1);
  assert_values("x.weight", "tall.nested", 272 * 64);
  assert_non_null(bnb_codes(&list.entries[0]));
  weight_files_close(&list);
}

static void test_fp4_and_int8(void **state) {
  (void)state;
  Error error = {0};
  static const char json[] =
      "{\"quant_type\": \"fp4\", \"blocksize\": 128, \"dtype\": \"bfloat16\", \"shape\": [8, 256]}";
  begin();
  add_made("y.weight", "fp4.packed");
  add_made("y.weight.absmax", "fp4.absmax");
  add_made("y.weight.quant_map", "fp4.map");
  add("y.weight.quant_state.bitsandbytes__fp4", DTYPE_U8, json, strlen(json));
  WeightEntry *rows = add_made("z.weight", "int8.weight");
  rows->rank = 2, rows->shape[0] = 5, rows->shape[1] = 24;
  add_made("z.SCB", "int8.SCB");
  add("z.weight_format", DTYPE_U8, json, 1);
  assert_true(turn(&error));
  assert_int_equal(list.count, 2);
  assert_values("y.weight", "fp4.plain", 8 * 256);
  assert_values("z.weight", "int8.plain", 5 * 24);
  weight_files_close(&list);
}

static void test_lies(void **state) {
  (void)state;
  static const struct {
    const char *json, *says;
  } cases[] = {
      {"{\"quant_type\": \"nf4\"", "broken JSON"},
      {"[]", "expected an object"},
      {"{}", "blocksize: expected a whole number"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 0, \"dtype\": \"bfloat16\", \"shape\": [16, 192]}",
       "blocksize"},
      {"{\"quant_type\": \"int3\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [16, 192]}",
       "quant_type"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"int8\", \"shape\": [16, 192]}",
       "dtype: expected"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [16, 193]}",
       "half a byte"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [2147483647, "
       "2147483647]}",
       "half a byte"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [16, -192]}",
       "shape"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 32, \"dtype\": \"bfloat16\", \"shape\": [16, 192]}",
       "x.weight.absmax"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [16, 192], "
       "\"nested_blocksize\": 256, \"nested_offset\": \"much\"}",
       "nested_offset"},
      {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"dtype\": \"bfloat16\", \"shape\": [16, 192], "
       "\"nested_blocksize\": 256, \"nested_offset\": 0.5}",
       "x.weight.absmax"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    add_four(false, cases[i].json);
    assert_false(turn(&error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[i].says) || !strstr(error.message, "some.safetensors"))
      fail_msg("expected '%s' in: %s", cases[i].says, error.message);
    assert_null(list.entries);
  }
  /* its parts missing */
  for (int gone = 0; gone < 4; gone++) {
    Error error = {0};
    if (gone == 2) continue; /* without its state it is a tensor like others */
    add_four(false, PLAIN_STATE);
    list.entries[gone] = list.entries[--list.count];
    assert_false(turn(&error));
    assert_int_equal(error.code, ERROR_MODEL);
  }
}

static int open_fixture(void **state) {
  (void)state;
  fixture_open(&fixture, "nf4/blocks");
  return 0;
}

static int close_fixture(void **state) {
  (void)state;
  fixture_close(&fixture);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_four), cmocka_unit_test(test_fp4_and_int8),
                                     cmocka_unit_test(test_lies)};
  return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
