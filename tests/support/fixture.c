#include "tests/support/fixture.h"

#include "base/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

const char *fixture_path(char *out, size_t size, const char *folder, const char *name) {
  snprintf(out, size, "%s/%s/%s", FIXTURES, folder, name);
  return out;
}

void fixture_open(Fixture *fixture, const char *name) {
  *fixture = (Fixture){0};
  char path[512];
  snprintf(path, sizeof path, "%s/%s.safetensors", FIXTURES, name);
  Error error = {0};
  if (!safetensors_file_open(&fixture->file, path, &error)) fail_msg("%s", error.message);
}

void fixture_close(Fixture *fixture) {
  for (size_t i = 0; i < fixture->count; i++) free(fixture->arrays[i]);
  free(fixture->arrays);
  safetensors_file_close(&fixture->file);
  *fixture = (Fixture){0};
}

bool fixture_has(const Fixture *fixture, const char *name) {
  return safetensors_file_find(&fixture->file, name) != NULL;
}

/* An aligned copy that the fixture owns. */
static void *copy_array(Fixture *fixture, const char *name, DType dtype, int64_t *count) {
  const SafetensorsEntry *entry = safetensors_file_find(&fixture->file, name);
  if (!entry) fail_msg("%s has no array \"%s\"", fixture->file.path, name);
  if (entry->dtype != dtype) fail_msg("%s: \"%s\" is %s", fixture->file.path, name, dtype_name(entry->dtype));
  void **arrays = realloc(fixture->arrays, (fixture->count + 1) * sizeof *arrays);
  void *copy = malloc(entry->bytes + 1);
  assert_non_null(arrays);
  assert_non_null(copy);
  memcpy(copy, entry->data, entry->bytes);
  fixture->arrays = arrays;
  fixture->arrays[fixture->count++] = copy;
  if (count) *count = (int64_t)(entry->bytes / dtype_size(dtype));
  return copy;
}

const float *fixture_floats(Fixture *fixture, const char *name, int64_t *count) {
  return copy_array(fixture, name, DTYPE_F32, count);
}

const int32_t *fixture_ints(Fixture *fixture, const char *name, int64_t *count) {
  return copy_array(fixture, name, DTYPE_I32, count);
}

float fixture_float(Fixture *fixture, const char *name) {
  int64_t count;
  const float *values = fixture_floats(fixture, name, &count);
  assert_int_equal(count, 1);
  return values[0];
}

double largest_difference(const float *a, const float *b, int64_t count) {
  double largest = 0;
  for (int64_t i = 0; i < count; i++) {
    const double difference = fabs((double)a[i] - (double)b[i]);
    if (isnan(difference)) return INFINITY;
    if (difference > largest) largest = difference;
  }
  return largest;
}

double relative_difference(const float *a, const float *b, int64_t count) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < count; i++) {
    const double d = (double)a[i] - (double)b[i];
    difference += d * d;
    norm += (double)b[i] * (double)b[i];
  }
  if (isnan(difference) || isnan(norm)) return INFINITY;
  if (norm == 0) return difference == 0 ? 0 : INFINITY;
  return sqrt(difference / norm);
}

static void judge(const char *what, const char *kind, double difference, double tolerance) {
  if (!(difference <= tolerance))
    fail_msg("%s: %s difference %.3g, tolerance %.3g", what, kind, difference, tolerance);
}

void assert_near(const char *what, const float *a, const float *b, int64_t count, double tolerance) {
  judge(what, "largest", largest_difference(a, b, count), tolerance);
}

void assert_relative(const char *what, const float *a, const float *b, int64_t count, double tolerance) {
  judge(what, "relative", relative_difference(a, b, count), tolerance);
}

void assert_number(const char *what, double a, double b, double tolerance) {
  if (!(fabs(a - b) <= tolerance)) fail_msg("%s: %.9g, expected %.9g", what, a, b);
}
