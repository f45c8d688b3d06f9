/* Tiny checkpoints as Drover loads and saves them: what their tests share. */
#ifndef TESTS_UNIT_MODEL_WEIGHTS_WORLD_H
#define TESTS_UNIT_MODEL_WEIGHTS_WORLD_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/temporary.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/weights.h"

#include <math.h>

static Compute compute;

static inline int open_compute(void **state) {
  (void)state;
  Error error = {0};
  return compute_open(&compute, DEVICE_CPU, 2, &error) ? 0 : -1;
}

static inline int close_compute(void **state) {
  (void)state;
  compute_close(&compute);
  return 0;
}

/* A model with the memory it lies in. */
typedef struct Loaded {
  Model model;
  ScoreHead head;
  Arena arena;
} Loaded;

static inline void loaded_free(Loaded *loaded) {
  model_free(&loaded->model);
  arena_free(&loaded->arena);
}

static inline void assert_ok(bool ok, const Error *error) {
  if (!ok) print_error("%s\n", error->message);
  assert_true(ok);
}

/* Plans in a dry arena, then opens and reads in a real one of exactly that size. */
static inline bool load(Loaded *loaded, const char *directory, DType dtype, Error *error) {
  Arena dry;
  arena_init_dry(&dry, "plan");
  *loaded = (Loaded){0};
  compute_dry_begin(&compute);
  bool ok = model_open(&loaded->model, directory, (WeightFormat){.dtype = dtype}, &compute, &dry, error);
  Error ignored = {0};
  ok = compute_dry_end(&compute, ok ? error : &ignored) && ok;
  model_free(&loaded->model);
  return ok && compute_arena(&compute, &loaded->arena, "model", dry.peak, error) &&
         model_open(&loaded->model, directory, (WeightFormat){.dtype = dtype}, &compute, &loaded->arena,
                    error) &&
         model_read(&loaded->model, directory, &compute, NULL, error);
}

static inline void load_fixture(Loaded *loaded, const char *name, DType dtype) {
  char path[512];
  snprintf(path, sizeof path, FIXTURES "/models/%s", name);
  Error error = {0};
  assert_ok(load(loaded, path, dtype, &error), &error);
}

static inline void save(const Loaded *loaded, const ScoreHead *head, const char *source,
                        const char *directory, DType dtype) {
  Error error = {0};
  assert_ok(model_save(&loaded->model, head, NULL, NULL, source, directory, dtype, &compute, &error), &error);
}

static inline void assert_same_tensors(const Model *a, const Model *b) {
  assert_int_equal(a->tensor_count, b->tensor_count);
  for (int i = 0; i < a->tensor_count; i++) {
    assert_string_equal(a->tensors[i].name, b->tensors[i].name);
    assert_int_equal(tensor_bytes(a->tensors[i].value), tensor_bytes(b->tensors[i].value));
    assert_memory_equal(a->tensors[i].value.data, b->tensors[i].value.data,
                        tensor_bytes(a->tensors[i].value));
  }
}

static inline void write_text(const char *path, const char *text) {
  Error error = {0};
  assert_ok(file_write_text(path, text, &error), &error);
}

#endif
