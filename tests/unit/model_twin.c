/* Which directories bitsandbytes made from which: 4 bits and 8, over copies in other precisions and with other prefixes; and what only looks like it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/dtype.h"
#include "base/file.h"
#include "base/random.h"
#include "compute/nf4.h"
#include "formats/safetensors.h"
#include "model/twin.h"
#include "tests/support/fixture.h"
#include "tests/temporary.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 48, WIDTH = 192, COUNT = ROWS * WIDTH, BLOCK = 64, BLOCKS = COUNT / BLOCK };

static Temporary folder;
static Fixture fixture;

static void must(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

/* The weight of the one linear; `other` is added to each value with a random sign, in units of the deviation. */
static void linear_values(float other, float out[COUNT]) {
  for (uint64_t i = 0; i < COUNT; i++)
    out[i] = 0.02f * (random_normal(random_key(5, RANDOM_TEST), 0, i) +
                      other * random_normal(random_key(5, RANDOM_TEST), 1, i));
}

static void norm_values(float scale, float out[WIDTH]) {
  for (uint64_t i = 0; i < WIDTH; i++)
    out[i] = scale * (1 + 0.1f * random_normal(random_key(5, RANDOM_TEST), 2, i));
}

typedef struct Part {
  const char *name;
  DType dtype;
  int rank;
  int64_t dim[2];
  const void *data;
} Part;

static const char *write_parts(const char *name, const Part *parts, int count) {
  static char paths[8][512];
  static int next;
  char *directory = paths[next++ % 8];
  Error error = {0};
  SafetensorsWriter writer = {0};
  snprintf(directory, sizeof *paths, "%s", temporary_path(&folder, name));
  must(directory_create(directory, &error), &error);
  char *config = path_join(directory, "config.json"), *path = path_join(directory, "model.safetensors");
  must(file_write_text(
           config,
           "{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":192,\"intermediate_size\":48,"
           "\"num_hidden_layers\":1,\"num_attention_heads\":2,\"rms_norm_eps\":1e-5}",
           &error),
       &error);
  for (int i = 0; i < count; i++)
    must(safetensors_writer_declare(&writer, parts[i].name, parts[i].dtype, parts[i].rank, parts[i].dim,
                                    &error),
         &error);
  must(safetensors_writer_begin(&writer, path, &error), &error);
  const SafetensorsEntry *entry;
  while ((entry = safetensors_writer_next(&writer)) != NULL)
    must(safetensors_writer_write(&writer, parts[entry->index].data, entry->bytes, &error), &error);
  must(safetensors_writer_finish(&writer, &error), &error);
  safetensors_writer_free(&writer);
  memory_free(config);
  memory_free(path);
  return directory;
}

#define LINEAR "model.layers.0.mlp.up_proj"

/* A model of a norm and a linear. */
static const char *write_wide(const char *name, DType dtype, float other, float scale, bool prefix) {
  static float linear[COUNT], norm[WIDTH];
  static char stored[COUNT * sizeof(float)], stored_norm[WIDTH * sizeof(float)];
  const size_t skip = prefix ? 0 : strlen("model.");
  linear_values(other, linear);
  norm_values(scale, norm);
  dtype_convert(stored, dtype, linear, DTYPE_F32, COUNT);
  dtype_convert(stored_norm, dtype, norm, DTYPE_F32, WIDTH);
  const Part parts[] = {{&LINEAR ".weight" [skip], dtype, 2, { ROWS, WIDTH }, stored},
                        {&"model.norm.weight" [skip], dtype, 1, { WIDTH }, stored_norm}};
  return write_parts(name, parts, 2);
}

/* The same quantised from values in `from`, as bitsandbytes would. kind: "nf4", "fp4" or "int8". */
static const char *write_narrow(const char *name, const char *kind, DType from) {
  static float linear[COUNT], norm[WIDTH], absmax[BLOCKS], rows[ROWS];
  static uint8_t packed[COUNT / 2];
  static int8_t codes[COUNT];
  static char stored_norm[WIDTH * sizeof(float)];
  float table[16];
  const bool eight = strcmp(kind, "int8") == 0;
  linear_values(0, linear);
  norm_values(1, norm);
  dtype_convert(stored_norm, DTYPE_BF16, norm, DTYPE_F32, WIDTH);
  char stored[COUNT * sizeof(float)];
  dtype_convert(stored, from, linear, DTYPE_F32, COUNT);
  dtype_convert(linear, DTYPE_F32, stored, from, COUNT);
  memcpy(table, nf4_table, sizeof table);
  if (strcmp(kind, "fp4") == 0)
    memcpy(table, safetensors_file_find(&fixture.file, "fp4.map")->data, sizeof table);
  const int unit = eight ? WIDTH : BLOCK;
  for (int u = 0; u < COUNT / unit; u++) {
    float most = 0;
    for (int i = u * unit; i < (u + 1) * unit; i++) most = fmaxf(most, fabsf(linear[i]));
    if (eight) rows[u] = most;
    if (!eight) absmax[u] = most;
    for (int i = u * unit; i < (u + 1) * unit; i++) {
      int best = 0;
      for (int k = 1; k < 16; k++)
        if (fabsf(table[k] - linear[i] / most) < fabsf(table[best] - linear[i] / most)) best = k;
      codes[i] = (int8_t)(eight ? lrintf(127 * linear[i] / most) : best);
    }
  }
  for (int i = 0; i < COUNT / 2; i++)
    packed[i] = (uint8_t)((uint8_t)codes[2 * i] << 4 | (codes[2 * i + 1] & 15));
  char json[200], state[100];
  snprintf(json, sizeof json,
           "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"bfloat16\", \"shape\": [%d, %d]}", kind,
           BLOCK, ROWS, WIDTH);
  snprintf(state, sizeof state, LINEAR ".weight.quant_state.bitsandbytes__%s", kind);
  const Part norm_part = {"model.norm.weight", DTYPE_BF16, 1, {WIDTH}, stored_norm};
  if (eight) {
    const Part parts[] = {norm_part,
                          {LINEAR ".weight", DTYPE_I8, 2, {ROWS, WIDTH}, codes},
                          {LINEAR ".SCB", DTYPE_F32, 1, {ROWS}, rows}};
    return write_parts(name, parts, 3);
  }
  const Part parts[] = {norm_part,
                        {LINEAR ".weight", DTYPE_U8, 1, {COUNT / 2}, packed},
                        {LINEAR ".weight.absmax", DTYPE_F32, 1, {BLOCKS}, absmax},
                        {LINEAR ".weight.quant_map", DTYPE_F32, 1, {16}, table},
                        {state, DTYPE_U8, 1, {(int64_t)strlen(json)}, json}};
  return write_parts(name, parts, 5);
}

static bool twins(const char *a, const char *b) {
  Error error = {0};
  bool one, other;
  must(weights_are_twins(a, b, &one, &error) && weights_are_twins(b, a, &other, &error), &error);
  assert_int_equal(one, other);
  return one;
}

static void what_was_quantised_is_known(void **state) {
  (void)state;
  static const char *const kinds[] = {"nf4", "fp4", "int8"};
  const char *const wide[] = {write_wide("f32", DTYPE_F32, 0, 1, true),
                              write_wide("bf16", DTYPE_BF16, 0, 1, true),
                              write_wide("short", DTYPE_BF16, 0, 1, false)};
  const char *const others[] = {write_wide("other", DTYPE_F32, 0.05f, 1, true),
                                write_wide("norm", DTYPE_F32, 0, 1.02f, true)};
  for (int k = 0; k < 3; k++) {
    const char *narrow = write_narrow(kinds[k], kinds[k], DTYPE_BF16);
    const char *kind;
    Error error = {0};
    must(weights_kind(narrow, &kind, &error), &error);
    assert_non_null(kind);
    for (int i = 0; i < 3; i++)
      if (!twins(wide[i], narrow)) fail_msg("%s is not known as made from %s", kinds[k], wide[i]);
    for (int i = 0; i < 2; i++)
      if (twins(others[i], narrow)) fail_msg("%s is taken as made from %s", kinds[k], others[i]);
    assert_false(twins(narrow, narrow));
  }
  assert_false(twins(wide[0], wide[1])); /* weights.rounded of a digest tells that */
}

static int open_all(void **state) {
  (void)state;
  temporary_open(&folder);
  fixture_open(&fixture, "nf4/blocks");
  return 0;
}

static int close_all(void **state) {
  (void)state;
  fixture_close(&fixture);
  temporary_close(&folder);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_quantised_is_known)};
  return cmocka_run_group_tests(tests, open_all, close_all);
}
