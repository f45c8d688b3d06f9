/* A model in 8 bits beside its own weights: the copies are what reading it with model.quantize int8 makes, to the byte, they follow
 * the weights when they are renewed and not before, and the model itself stays as it is. For a Llama with tied tables, for GPT-2, whose
 * weights lie the other way round, and where a linear is in no whole blocks. */
#include "model/head.h"
#include "model/narrowed.h"
#include "model/weights.h"
#include "tests/support/block_models.h"
#include "tests/support/device.h"
#include "tests/temporary.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS = 19, VOCAB = 96 };

/* 7 or 4 linears a layer, 6 of the last, and the head. */
static const int copies[BLOCK_CONFIGS] = {15, 9, 7};

static const WeightFormat formats[] = {{.dtype = DTYPE_F32}, {.dtype = DTYPE_BF16}};
static const WeightFormat eight_bits = {
    .dtype = DTYPE_BF16, .quantize = MODEL_QUANTIZE_INT8, .int8_tables = true};

static void must(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

/* A model of a config, and what is made of it. */
typedef struct Lab {
  Compute compute;
  Arena arena;
  Model model;
  Narrowed narrowed;
} Lab;

static void open_parts(Lab *lab, json_t *config, WeightFormat format, bool narrow, Arena *arena) {
  Error error = {0};
  must(model_open_config(&lab->model, config, format, &lab->compute, arena, &error), &error);
  if (narrow) must(narrowed_open(&lab->narrowed, &lab->model, NULL, &lab->compute, arena, &error), &error);
}

static void close_parts(Lab *lab) {
  narrowed_close(&lab->narrowed);
  model_free(&lab->model);
}

static void lab_open(Lab *lab, const char *text, WeightFormat format, bool narrow) {
  Error error = {0};
  Arena dry;
  json_t *config = json_loads(text, 0, NULL);
  *lab = (Lab){0};
  must(compute_open(&lab->compute, DEVICE_CPU, 2, &error), &error);
  arena_init_dry(&dry, "weights");
  open_parts(lab, config, format, narrow, &dry);
  close_parts(lab);
  device_arena(&lab->compute, &lab->arena, "weights", dry.peak);
  device_spoil(&lab->compute, &lab->arena);
  open_parts(lab, config, format, narrow, &lab->arena);
  json_decref(config);
}

static void lab_close(Lab *lab) {
  close_parts(lab);
  compute_arena_free(&lab->compute, &lab->arena);
  compute_close(&lab->compute);
}

/* Values that BF16 has, so that both dtypes have the same; `round`: which ones. */
static void fill(Lab *lab, uint64_t round) {
  for (int i = 0; i < lab->model.tensor_count; i++) {
    const Tensor x = lab->model.tensors[i].value;
    device_random(&lab->compute, x, random_key(round, RANDOM_TEST), (uint64_t)i, x.rank == 1 ? 1 : 0, 0.3f);
    float *values = x.data;
    for (int64_t k = 0; x.dtype == DTYPE_F32 && k < tensor_count(x); k++)
      values[k] = float_from_bf16(bf16_from_float(values[k]));
  }
}

static void renew(Lab *lab) {
  Error error = {0};
  must(narrowed_renew(&lab->narrowed, &lab->compute, &error), &error);
}

static Tensor copy_of(const Lab *lab, int index) {
  return lab->narrowed.view.tensors[lab->narrowed.copies[index].in].value;
}

/* The copies beside the tensors of a model that was read in 8 bits. */
static void assert_read_alike(const Lab *lab, const Lab *read) {
  for (int i = 0; i < lab->narrowed.count; i++) {
    const int of = lab->narrowed.copies[i].of;
    const Tensor copy = copy_of(lab, i), expected = read->model.tensors[of].value;
    assert_int_equal(expected.dtype, DTYPE_Q8);
    assert_int_equal(copy.dtype, DTYPE_Q8);
    assert_int_equal(tensor_bytes(copy), tensor_bytes(expected));
    if (memcmp(copy.data, expected.data, tensor_bytes(copy)) != 0)
      fail_msg("%s is another", lab->model.tensors[of].name);
  }
}

static void save(Lab *lab, const char *directory) {
  Error error = {0};
  must(model_save(&lab->model, NULL, NULL, NULL, NULL, directory, lab->model.dtype, &lab->compute, &error),
       &error);
}

static void as_quantised(void **state) {
  (void)state;
  for (int c = 0; c < BLOCK_CONFIGS; c++) {
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
      Temporary folder;
      Error error = {0};
      Lab lab, read;
      temporary_open(&folder);
      char directory[512];
      snprintf(directory, sizeof directory, "%s", temporary_path(&folder, "model"));
      lab_open(&lab, block_configs[c], formats[f], true);
      lab_open(&read, block_configs[c], eight_bits, false);
      assert_int_equal(lab.narrowed.count, copies[c]);
      fill(&lab, 1);
      save(&lab, directory);
      must(model_read(&read.model, directory, &read.compute, NULL, &error), &error);
      renew(&lab);
      assert_read_alike(&lab, &read);
      lab_close(&read);
      lab_close(&lab);
      temporary_close(&folder);
    }
  }
}

static void read_logits(Lab *lab, const Model *model, Batch *batch, Arena *step, float *logits) {
  Error error = {0};
  Pass pass;
  int32_t rows[TOKENS];
  for (int i = 0; i < TOKENS; i++) rows[i] = i;
  must(pass_init(&pass, model, &error), &error);
  pass_forward(&pass, &lab->compute, model, NULL, batch, PASS_INFERENCE, step);
  lm_logits(&pass, token_rows(rows, NULL, TOKENS), logits);
  pass_free(&pass);
}

/* Of all tokens; the caller frees them. */
static float *logits_of(Lab *lab, const Model *model) {
  Error error = {0};
  Arena dry, step;
  Batch batch;
  int32_t ids[TOKENS];
  int64_t first;
  float *logits = calloc(TOKENS * VOCAB, sizeof *logits);
  assert_non_null(logits);
  for (int i = 0; i < TOKENS; i++)
    ids[i] = (int32_t)random_below(random_key(3, RANDOM_TEST), 1000, (uint64_t)i, VOCAB);
  must(batch_init(&batch, TOKENS, 1, &error), &error);
  assert_true(batch_add(&batch, ids, TOKENS, &first));
  arena_init_dry(&dry, "step");
  compute_dry_begin(&lab->compute);
  read_logits(lab, model, &batch, &dry, logits);
  must(compute_dry_end(&lab->compute, &error), &error);
  device_arena(&lab->compute, &step, "step", dry.peak);
  read_logits(lab, model, &batch, &step, logits);
  batch_free(&batch);
  compute_arena_free(&lab->compute, &step);
  return logits;
}

/* Root mean square of the difference, as a share of that of `a`. */
static double distance(const float *a, const float *b) {
  double difference = 0, size = 0;
  for (int i = 0; i < TOKENS * VOCAB; i++) {
    difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    size += (double)a[i] * a[i];
  }
  return sqrt(difference / size);
}

/* The view computes nearly what the model does, of the weights at its last renewal. */
static void follows(void **state) {
  (void)state;
  for (int c = 0; c < BLOCK_CONFIGS; c++) {
    Lab lab;
    lab_open(&lab, block_configs[c], formats[0], true);
    fill(&lab, 1);
    renew(&lab);
    float *before = logits_of(&lab, &lab.narrowed.view);
    fill(&lab, 2);
    renew(&lab);
    float *exact = logits_of(&lab, &lab.model), *narrow = logits_of(&lab, &lab.narrowed.view);
    printf("config %d: logits differ by %.2g, from those of other weights by %.2g\n", c,
           distance(exact, narrow), distance(exact, before));
    assert_true(distance(exact, narrow) > 1e-4 && distance(exact, narrow) < 0.15);
    assert_true(distance(exact, before) > 0.5);
    free(before);
    free(exact);
    free(narrow);
    lab_close(&lab);
  }
}

static void refusals(void **state) {
  (void)state;
  static const float bad[] = {NAN, INFINITY, -1e35f};
  Lab lab;
  lab_open(&lab, block_configs[0], formats[0], true);
  const ModelTensor *tensor = &lab.model.tensors[lab.narrowed.copies[3].of];
  for (int i = 0; i < 3; i++) {
    Error error = {0};
    fill(&lab, 1);
    ((float *)tensor->value.data)[70] = bad[i];
    assert_false(narrowed_renew(&lab.narrowed, &lab.compute, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_non_null(strstr(error.message, tensor->name));
  }
  lab_close(&lab);
}

/* No linear and no head of 80 channels is in whole blocks. */
static void nothing_fits(void **state) {
  (void)state;
  static const char config[] =
      "{\"model_type\":\"llama\",\"vocab_size\":96,\"hidden_size\":80,\"intermediate_size\":80,"
      "\"num_hidden_layers\":1,\"num_attention_heads\":5,\"num_key_value_heads\":5,"
      "\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64,\"tie_word_embeddings\":true}";
  Error error = {0};
  Lab lab;
  Narrowed narrowed;
  lab_open(&lab, config, formats[0], false);
  assert_false(narrowed_open(&narrowed, &lab.model, NULL, &lab.compute, &lab.arena, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "multiples of 64"));
  lab_close(&lab);
}

/* A card would make 16 bits of them again. */
static void no_card(void **state) {
  (void)state;
  Error error = {0};
  Compute compute;
  Lab lab;
  Narrowed narrowed;
  test_device_open(&compute, 1);
  if (compute_on_host(&compute)) {
    compute_close(&compute);
    skip();
  }
  lab_open(&lab, block_configs[0], formats[0], false);
  assert_false(narrowed_open(&narrowed, &lab.model, NULL, &compute, &lab.arena, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "expected the CPU"));
  lab_close(&lab);
  compute_close(&compute);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(as_quantised), cmocka_unit_test(follows),
                                     cmocka_unit_test(refusals), cmocka_unit_test(nothing_fits),
                                     cmocka_unit_test(no_card)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
