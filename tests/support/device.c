#include "tests/support/device.h"

#include "compute/product.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void test_device_open(Compute *compute, int threads) {
  static const struct {
    const char *name;
    DeviceKind kind;
  } kinds[] = {{"auto", DEVICE_AUTO}, {"cpu", DEVICE_CPU}, {"cuda", DEVICE_CUDA}};
  const char *name = getenv("DROVER_TEST_BACKEND");
  Error error = {0};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (strcmp(name ? name : "auto", kinds[i].name) != 0) continue;
    if (!compute_open(compute, kinds[i].kind, threads, &error)) fail_msg("%s", error.message);
    return;
  }
  fail_msg("DROVER_TEST_BACKEND is auto, cpu or cuda, not %s", name);
}

void device_arena(Compute *compute, Arena *arena, const char *name, size_t bytes) {
  Error error = {0};
  if (!compute_arena(compute, arena, name, bytes, &error)) fail_msg("%s", error.message);
}

bool device_brief(void) {
  return getenv("DROVER_TEST_BRIEF") != NULL;
}

bool device_offloads(void) {
  Compute compute;
  test_device_open(&compute, 2);
  const bool can = compute_can_offload(&compute);
  compute_close(&compute);
  return can;
}

bool device_narrows(const Compute *compute) {
  return compute_activation(compute, DTYPE_BF16) == DTYPE_BF16 || product_has_matrix_unit();
}

static void *room(size_t bytes) {
  void *memory = malloc(bytes + 1);
  assert_non_null(memory);
  return memory;
}

float *device_values(Compute *compute, Tensor tensor) {
  const size_t count = (size_t)tensor_count(tensor);
  float *values = room(count * sizeof *values);
  void *raw = room(tensor_bytes(tensor));
  memset(raw, 0, tensor_bytes(tensor)); /* nothing is copied in a dry run */
  compute_download(compute, raw, tensor);
  dtype_convert(values, DTYPE_F32, raw, tensor.dtype, count);
  free(raw);
  return values;
}

void device_write(Compute *compute, Tensor tensor, const float *values) {
  void *raw = room(tensor_bytes(tensor));
  dtype_convert(raw, tensor.dtype, values, DTYPE_F32, (size_t)tensor_count(tensor));
  compute_upload(compute, tensor, raw);
  free(raw);
}

void device_random(Compute *compute, Tensor tensor, RandomKey key, uint64_t sample, float centre,
                   float scale) {
  const int64_t count = tensor_count(tensor);
  float *values = room((size_t)count * sizeof *values);
  for (int64_t i = 0; i < count; i++) values[i] = centre + scale * random_normal(key, sample, (uint64_t)i);
  device_write(compute, tensor, values);
  free(values);
}

void device_spoil(Compute *compute, const Arena *arena) {
  const size_t bytes = arena->capacity;
  void *rubbish = room(bytes);
  memset(rubbish, 0xff, bytes);
  compute_upload(compute, tensor_1d(arena->base, DTYPE_U8, (int64_t)bytes), rubbish);
  free(rubbish);
}
