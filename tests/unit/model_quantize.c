/* A model whose weights are kept in 4 and 8 bits computes what the BF16 model of the same values computes: logits to the bit; gradients
 * of an adapter but for the order of a sum, since linears with one input are one product only where their weights lie under each
 * other. For a Llama with tied tables, for GPT-2, whose weights lie the other way round, and where some linears stay wide. */
#include "model/head.h"
#include "model/quantize.h"
#include "model/weights.h"
#include "tests/support/block_models.h"
#include "tests/support/device.h"
#include "tests/support/fixture.h"
#include "tests/temporary.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VOCAB = 96, TOKENS = 19, PICKED = 6 };

/* The sum over q, k and v (gate and up) is rounded once or three times: to F32, which makes 2.6e-6 at most, or, of narrow activations, to
 * BF16, which makes 0.008. */
static double gradient_tolerance(const Compute *compute) {
  return device_narrows(compute) ? 0.02 : 1e-5;
}

static const WeightFormat plain = {.dtype = DTYPE_BF16};

/* How weights are quantised, and how far they then are from what they were, relative in the 2-norm: some 10 % in 4 bits and 0.7 % in
 * 8, with the rounding to BF16; of other weights it would be 140 %. */
static const struct {
  WeightFormat format;
  double distance;
} quantized[] = {{{.dtype = DTYPE_BF16, .quantize = MODEL_QUANTIZE_NF4, .int8_tables = true}, 0.15},
                 {{.dtype = DTYPE_BF16, .quantize = MODEL_QUANTIZE_INT8, .int8_tables = true}, 0.01}};

typedef struct Lab {
  Compute compute;
  Arena memory, step;
  Model model;
  LoraSet set;
  Batch batch;
  Pass pass;
  ParameterList parameters;
} Lab;

static const int32_t rows[PICKED] = {0, 3, 8, 11, 14, 18};
static const int32_t targets[PICKED] = {5, 95, 0, 17, 17, 60};
static const float dlogprob[PICKED] = {1, -0.5f, 0.25f, 2, -1, 0.5f};

static void must(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

static void open_model(Lab *lab, const char *directory, WeightFormat format, Arena *memory) {
  Error error = {0};
  LoraSpec spec = {.r = 4, .alpha = 8};
  must(lora_spec_target(&spec, "all-linear", &error), &error);
  must(model_open(&lab->model, directory, format, &lab->compute, memory, &error), &error);
  must(lora_open(&lab->set, &spec, lab->model.modules, lab->model.module_count, DTYPE_BF16, true,
                 &lab->compute, memory, &error),
       &error);
  lora_spec_free(&spec);
  must(pass_init(&lab->pass, &lab->model, &error), &error);
}

static void close_model(Lab *lab) {
  pass_free(&lab->pass);
  lora_free(&lab->set);
  model_free(&lab->model);
}

static void learn(Lab *lab, Arena *step, float *logits, float *logprob) {
  const TokenRows picked = token_rows(rows, targets, PICKED);
  const size_t mark = arena_mark(step);
  pass_forward(&lab->pass, &lab->compute, &lab->model, &lab->set, &lab->batch, PASS_RECOMPUTE, step);
  lm_logits(&lab->pass, picked, logits);
  lm_logprobs_backward(&lab->pass, picked, 1, dlogprob, NULL, logprob);
  pass_backward(&lab->pass);
  arena_release(step, mark);
}

typedef struct Results {
  float logits[PICKED * VOCAB], logprob[PICKED];
} Results;

static void lab_open(Lab *lab, const char *directory, WeightFormat format) {
  Error error = {0};
  Arena memory, step;
  *lab = (Lab){0};
  test_device_open(&lab->compute, 2);
  must(batch_init(&lab->batch, TOKENS, 2, &error), &error);
  int32_t ids[TOKENS];
  int64_t first;
  for (int i = 0; i < TOKENS; i++)
    ids[i] = (int32_t)random_below(random_key(3, RANDOM_TEST), 1000, (uint64_t)i, VOCAB);
  assert_true(batch_add(&lab->batch, ids, 12, &first) && batch_add(&lab->batch, ids + 12, 7, &first));
  arena_init_dry(&memory, "memory");
  arena_init_dry(&step, "step");
  compute_dry_begin(&lab->compute);
  Results nothing = {0};
  open_model(lab, directory, format, &memory);
  learn(lab, &step, nothing.logits, nothing.logprob);
  close_model(lab);
  must(compute_dry_end(&lab->compute, &error), &error);
  device_arena(&lab->compute, &lab->memory, "memory", memory.peak);
  device_arena(&lab->compute, &lab->step, "step", step.peak);
  open_model(lab, directory, format, &lab->memory);
  must(model_read(&lab->model, directory, &lab->compute, NULL, &error), &error);
  must(lora_parameters(&lab->set, &lab->parameters, &error), &error);
  for (size_t i = 0; i < lab->parameters.count; i++) {
    device_random(&lab->compute, lab->parameters.items[i].value, random_key(9, RANDOM_TEST), i, 0, 0.2f);
    op_fill(&lab->compute, lab->parameters.items[i].grad, 0);
  }
}

static void lab_close(Lab *lab) {
  close_model(lab);
  parameter_list_free(&lab->parameters);
  batch_free(&lab->batch);
  compute_arena_free(&lab->compute, &lab->memory);
  compute_arena_free(&lab->compute, &lab->step);
  compute_close(&lab->compute);
}

/* A directory of random weights. */
static void save_model(const char *config, const char *directory) {
  Error error = {0};
  Compute compute;
  Arena dry, arena;
  Model model;
  json_t *json = json_loads(config, 0, NULL);
  must(compute_open(&compute, DEVICE_CPU, 2, &error), &error);
  arena_init_dry(&dry, "weights");
  must(model_open_config(&model, json, plain, &compute, &dry, &error), &error);
  model_free(&model);
  must(compute_arena(&compute, &arena, "weights", dry.peak, &error), &error);
  must(model_open_config(&model, json, plain, &compute, &arena, &error), &error);
  for (int i = 0; i < model.tensor_count; i++) {
    const Tensor x = model.tensors[i].value;
    device_random(&compute, x, random_key(1, RANDOM_TEST), (uint64_t)i, x.rank == 1 ? 1 : 0, 0.3f);
  }
  must(model_save(&model, NULL, NULL, NULL, NULL, directory, DTYPE_BF16, &compute, &error), &error);
  model_free(&model);
  json_decref(json);
  compute_arena_free(&compute, &arena);
  compute_close(&compute);
}

/* The values of `from` go to the plain model, turned back where its weights lie the other way. Returns how many were quantised. */
static int give_values(Lab *from, Lab *to, double distance) {
  int count = 0;
  for (int i = 0; i < from->model.tensor_count; i++) {
    Error error = {0};
    const ModelTensor *tensor = &from->model.tensors[i];
    if (!dtype_is_blocks(tensor->value.dtype)) continue;
    const int64_t O = tensor->value.dim[0], I = tensor->value.dim[1];
    float *values = test_malloc((size_t)(O * I) * sizeof *values),
          *turned = test_malloc((size_t)(O * I) * sizeof *values);
    must(dequantize_tensor(tensor->value, values, &from->compute, &error), &error);
    for (int64_t o = 0; o < O; o++)
      for (int64_t k = 0; k < I; k++) turned[tensor->turned ? k * O + o : o * I + k] = values[o * I + k];
    float *original = device_values(&to->compute, to->model.tensors[i].value);
    assert_relative(tensor->name, turned, original, O * I, distance);
    free(original);
    device_write(&to->compute, to->model.tensors[i].value, turned);
    test_free(values);
    test_free(turned);
    count++;
  }
  return count;
}

/* What is saved of a quantised model is the model of its values, as files lie. */
static void saved_is_dequantised(Lab *blocks, Lab *values, const char *directory) {
  Error error = {0};
  Lab saved;
  must(model_save(&blocks->model, NULL, NULL, NULL, NULL, directory, DTYPE_BF16, &blocks->compute, &error),
       &error);
  lab_open(&saved, directory, plain);
  for (int i = 0; i < values->model.tensor_count; i++) {
    const Tensor expected = values->model.tensors[i].value, found = saved.model.tensors[i].value;
    float *a = device_values(&values->compute, expected), *b = device_values(&saved.compute, found);
    assert_int_equal(tensor_count(expected), tensor_count(found));
    assert_memory_equal(a, b, (size_t)tensor_count(found) * sizeof *a);
    free(a);
    free(b);
  }
  lab_close(&saved);
}

static void same_bits_of(int kind) {
  static const int quantized_tensors[] = {
      15, 9, 8}; /* the table, 7 or 4 linears a layer; of the last, table, head and 6 */
  for (int c = 0; c < 3; c++) {
    Temporary folder;
    temporary_open(&folder);
    char directory[512];
    snprintf(directory, sizeof directory, "%s", temporary_path(&folder, "model"));
    save_model(block_configs[c], directory);
    Lab blocks, values;
    lab_open(&blocks, directory, quantized[kind].format);
    lab_open(&values, directory, plain);
    assert_int_equal(give_values(&blocks, &values, quantized[kind].distance), quantized_tensors[c]);
    saved_is_dequantised(&blocks, &values, temporary_path(&folder, "saved"));
    Results a, b;
    learn(&blocks, &blocks.step, a.logits, a.logprob);
    learn(&values, &values.step, b.logits, b.logprob);
    assert_memory_equal(a.logits, b.logits, sizeof a.logits);
    assert_memory_equal(a.logprob, b.logprob, sizeof a.logprob);
    for (size_t i = 0; i < blocks.parameters.count; i++) {
      const Parameter *p = &blocks.parameters.items[i];
      float *x = device_values(&blocks.compute, p->grad);
      float *y = device_values(&values.compute, values.parameters.items[i].grad);
      assert_relative(p->name, x, y, tensor_count(p->grad), gradient_tolerance(&blocks.compute));
      free(x);
      free(y);
    }
    lab_close(&blocks);
    lab_close(&values);
    temporary_close(&folder);
  }
}

static void same_bits(void **state) {
  (void)state;
  for (int kind = 0; kind < 2; kind++) same_bits_of(kind);
}

/* Rows of one block: one of weights that are too small to count, one of magnitude `large`. */
static void give_extremes(void *context, int64_t first, int64_t count, float *values) {
  const float *large = context;
  for (int64_t i = 0; i < count; i++) {
    const int64_t block = (first + i) / 64;
    values[i] = (i % 2 ? 1 : -1) * (block == 3 ? 1e-35f : block == 5 ? *large : 0.5f);
  }
}

/* Kernels may rely on the range of scales. */
static void extreme_scales(void **state) {
  (void)state;
  static const DType dtypes[] = {DTYPE_NF4, DTYPE_NF4_PLAIN, DTYPE_Q8};
  const WeightEntry entry = {.name = "layers.7.up.weight", .path = "model.safetensors"};
  Compute compute;
  Arena arena;
  test_device_open(&compute, 1);
  device_arena(&compute, &arena, "test", 1 << 20);
  for (int d = 0; d < 3; d++) {
    if (dtypes[d] == DTYPE_NF4 && compute.backend->nf4_wide_scales) continue;
    Tensor out = tensor_new_2d(&arena, dtypes[d], 16, 64);
    float large = 1e35f, values[16 * 64];
    Error error = {0};
    assert_false(quantize_tensor(out, false, &entry, give_extremes, &large, &compute, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_non_null(strstr(error.message, "model.safetensors: layers.7.up.weight: "));
    large = 0.25f;
    error = (Error){0};
    must(quantize_tensor(out, false, &entry, give_extremes, &large, &compute, &error), &error);
    must(dequantize_tensor(out, values, &compute, &error), &error);
    if (dtypes[d] == DTYPE_NF4) continue; /* its scales are about their mean */
    for (int i = 3 * 64; i < 4 * 64; i++) assert_true(values[i] == 0);
    assert_true(values[0] == -0.5f && values[5 * 64 + 1] == 0.25f);
  }
  compute_arena_free(&compute, &arena);
  compute_close(&compute);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits), cmocka_unit_test(extreme_scales)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
