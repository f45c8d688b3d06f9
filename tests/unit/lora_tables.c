/* Adapters on the embedding table and the LM head in whole passes: gradients against differences with dropout on, scaled
 * embeddings and logits, recomputation, rows picked or not, and the reading of adapters with more tokens than the base. */
#include "model/head.h"
#include "model/weights.h"
#include "tests/support/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VOCAB = 31, TOKENS = 13, SEQUENCES = 2, MOST_PARAMETERS = 12 };

static const char *const configs[2] = {
    "{\"model_type\":\"llama\",\"vocab_size\":31,\"hidden_size\":24,\"intermediate_size\":20,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64,"
    "\"tie_word_embeddings\":false}",
    "{\"model_type\":\"llama\",\"vocab_size\":31,\"hidden_size\":24,\"intermediate_size\":20,"
    "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64,"
    "\"tie_word_embeddings\":true}"};

static const struct Variant {
  const char *name;
  bool tied;
  const char *targets[3], *copies[2];
  bool tie;
  const char *carried; /* module whose weight comes with the adapter, beside a pair */
} variants[] = {
    {"pairs", false, {"q_proj", "embed_tokens", "lm_head"}, {0}, false, NULL},
    {"pairs over a tied base", true, {"q_proj", "embed_tokens", "lm_head"}, {0}, false, NULL},
    {"a pair for both", true, {"q_proj", "lm_head"}, {0}, true, NULL},
    {"copies", false, {"q_proj"}, {"embed_tokens", "lm_head"}, false, NULL},
    {"a copy of the table of a tied base", true, {"q_proj", "lm_head"}, {"embed_tokens"}, false, NULL},
    {"a copy for both", true, {"q_proj"}, {"embed_tokens"}, true, NULL},
};
enum { VARIANTS = sizeof variants / sizeof *variants };

typedef struct Lab {
  Compute compute;
  Arena memory, step;
  Model model;
  LoraSet set;
  Batch batch;
  Pass pass;
  ParameterList parameters;
} Lab;

static double loss_of(Lab *lab, PassMode mode, Arena *step);
static void every_logprob(Lab *lab, Arena *step, float *logprob);

static void describe(LoraSpec *spec, const struct Variant *v) {
  Error error = {0};
  *spec = (LoraSpec){.r = 3, .alpha = 5, .tie = v->tie};
  for (int i = 0; i < 3 && v->targets[i]; i++) assert_true(lora_spec_target(spec, v->targets[i], &error));
  for (int i = 0; i < 2 && v->copies[i]; i++) assert_true(lora_spec_copied(spec, v->copies[i], &error));
  if (v->carried) assert_true(lora_spec_carried(spec, v->carried, true, &error));
}

/* Scales as no untied llama has them, so that they are seen wherever they belong. */
static void open_model(Lab *lab, const struct Variant *v, float dropout, Arena *memory) {
  Error error = {0};
  LoraSpec spec;
  json_t *json = json_loads(configs[v->tied], 0, NULL);
  assert_true(model_open_config(&lab->model, json, (WeightFormat){.dtype = DTYPE_F32}, &lab->compute, memory,
                                &error));
  json_decref(json);
  lab->model.spec.embedding_scale = 2.5f;
  lab->model.spec.logit_scale = 0.5f;
  lab->model.spec.logit_softcap = 6;
  describe(&spec, v);
  spec.dropout = dropout;
  if (!lora_open(&lab->set, &spec, lab->model.modules, lab->model.module_count, DTYPE_F32, true,
                 &lab->compute, memory, &error))
    fail_msg("%s: %s", v->name, error.message);
  lora_spec_free(&spec);
  lab->set.dropout_key = random_key(5, RANDOM_DROPOUT);
  assert_true(pass_init(&lab->pass, &lab->model, &error));
}

static void close_model(Lab *lab) {
  pass_free(&lab->pass);
  lora_free(&lab->set);
  model_free(&lab->model);
}

static void fill(Lab *lab) {
  const RandomKey key = random_key(9, RANDOM_TEST);
  for (int i = 0; i < lab->model.tensor_count; i++) {
    const Tensor x = lab->model.tensors[i].value;
    device_random(&lab->compute, x, key, (uint64_t)i, x.rank == 1 ? 1 : 0, 0.3f);
  }
  for (size_t i = 0; i < lab->parameters.count; i++)
    device_random(&lab->compute, lab->parameters.items[i].value, key, 100 + i, 0, 0.3f);
}

static void fill_batch(Lab *lab) {
  Error error = {0};
  const int lengths[SEQUENCES] = {6, 7};
  assert_true(batch_init(&lab->batch, TOKENS, SEQUENCES, &error));
  for (int b = 0, next = 0; b < SEQUENCES; b++) {
    int32_t ids[TOKENS];
    int64_t first;
    for (int i = 0; i < lengths[b]; i++)
      ids[i] = (int32_t)random_below(random_key(3, RANDOM_TEST), 1000, (uint64_t)next++, VOCAB);
    assert_true(batch_add(&lab->batch, ids, lengths[b], &first));
    batch_draw(&lab->batch, (uint64_t)b + 17);
  }
}

static void lab_open(Lab *lab, const struct Variant *v, float dropout) {
  Error error = {0};
  Arena memory, step;
  *lab = (Lab){0};
  test_device_open(&lab->compute, 2);
  fill_batch(lab);
  arena_init_dry(&memory, "memory");
  arena_init_dry(&step, "step");
  compute_dry_begin(&lab->compute);
  open_model(lab, v, dropout, &memory);
  (void)loss_of(lab, PASS_TRAIN, &step);
  (void)loss_of(lab, PASS_RECOMPUTE, &step); /* either may take more memory */
  every_logprob(lab, &step, (float[TOKENS]){0});
  close_model(lab);
  assert_true(compute_dry_end(&lab->compute, &error));
  device_arena(&lab->compute, &lab->memory, "memory", memory.peak);
  device_arena(&lab->compute, &lab->step, "step", step.peak); /* what was planned is enough */
  device_spoil(&lab->compute, &lab->step);
  open_model(lab, v, dropout, &lab->memory);
  assert_true(lora_parameters(&lab->set, &lab->parameters, &error));
  assert_in_range(lab->parameters.count, 3, MOST_PARAMETERS);
  fill(lab);
}

static void lab_close(Lab *lab) {
  close_model(lab);
  parameter_list_free(&lab->parameters);
  batch_free(&lab->batch);
  compute_arena_free(&lab->compute, &lab->memory);
  compute_arena_free(&lab->compute, &lab->step);
  compute_close(&lab->compute);
}

/* ---- gradients ---- */

enum { PICKED = 7 };
static const int32_t rows[PICKED] = {0, 2, 4, 6, 8, 9, 12};
static const int32_t targets[PICKED] = {3, 30, 0, 7, 7, 12, 1};
static const float dlogprob[PICKED] = {1, -0.5f, 0.25f, 2, -1, 0.5f, 1.5f};
static const float dentropy[PICKED] = {0.5f, 0, -0.25f, 0.1f, 1, -1, 0.2f};

/* Its dropout is that of training, the same every time: a mask is a function of sequence, position and module. */
static double loss_of(Lab *lab, PassMode mode, Arena *step) {
  float logprob[PICKED] = {0}, entropy[PICKED] = {0}, again[PICKED] = {0};
  const TokenRows picked = token_rows(rows, targets, PICKED);
  const size_t mark = arena_mark(step);
  pass_forward(&lab->pass, &lab->compute, &lab->model, &lab->set, &lab->batch, mode, step);
  lm_logprobs(&lab->pass, picked, 0.7f, logprob, entropy);
  lm_logprobs_backward(&lab->pass, picked, 0.7f, dlogprob, dentropy, again);
  pass_backward(&lab->pass);
  arena_release(step, mark);
  double loss = 0;
  for (int i = 0; i < PICKED; i++) {
    assert_true(fabsf(again[i] - logprob[i]) < 1e-5f);
    loss += (double)dlogprob[i] * logprob[i] + (double)dentropy[i] * entropy[i];
  }
  return loss;
}

static void zero_gradients(Lab *lab) {
  for (size_t i = 0; i < lab->parameters.count; i++) op_fill(&lab->compute, lab->parameters.items[i].grad, 0);
}

/* The slope along a random direction of parameter p, by two central differences extrapolated to 0: good to some 5e-3 of
 * itself with fp32 losses at this step (tests/unit/model_pass.c). */
static double difference(Lab *lab, size_t p, const float *start, RandomKey key, double h) {
  static const struct { int at, weight; } points[] = {{-2, 1}, {-1, -8}, {1, 8}, {2, -1}};
  const Tensor x = lab->parameters.items[p].value;
  const int64_t count = tensor_count(x);
  float *moved = malloc((size_t)count * sizeof *moved);
  double slope = 0;
  for (int k = 0; k < 4; k++) {
    for (int64_t i = 0; i < count; i++)
      moved[i] = (float)(start[i] + points[k].at * h * random_normal(key, p, (uint64_t)i));
    device_write(&lab->compute, x, moved);
    slope += points[k].weight * loss_of(lab, PASS_TRAIN, &lab->step) / (12 * h);
  }
  device_write(&lab->compute, x, start);
  free(moved);
  return slope;
}

static void gradients_are_slopes(void **state) {
  (void)state;
  const RandomKey key = random_key(21, RANDOM_TEST);
  for (int v = 0; v < VARIANTS; v++) {
    Lab lab;
    lab_open(&lab, &variants[v], 0.3f);
    zero_gradients(&lab);
    (void)loss_of(&lab, PASS_TRAIN, &lab.step);
    float *gradient[MOST_PARAMETERS];
    for (size_t p = 0; p < lab.parameters.count; p++)
      gradient[p] = device_values(&lab.compute, lab.parameters.items[p].grad);
    for (size_t p = 0; p < lab.parameters.count; p++) {
      float *start = device_values(&lab.compute, lab.parameters.items[p].value);
      double slope = 0;
      for (int64_t i = 0; i < tensor_count(lab.parameters.items[p].value); i++)
        slope += (double)gradient[p][i] * random_normal(key, p, (uint64_t)i);
      const double found = difference(&lab, p, start, key, 1e-3);
      if (!(fabs(found - slope) <= 8e-3 * (1 + fabs(slope))))
        fail_msg("%s, %s: gradient gives %.6f, differences %.6f", variants[v].name,
                 lab.parameters.items[p].name, slope, found);
      free(start);
    }
    for (size_t p = 0; p < lab.parameters.count; p++) free(gradient[p]);
    lab_close(&lab);
  }
}

static void recomputation_changes_nothing(void **state) {
  (void)state;
  for (int v = 0; v < VARIANTS; v++) {
    Lab lab;
    float *kept[MOST_PARAMETERS];
    lab_open(&lab, &variants[v], 0.3f);
    for (int round = 0; round < 2; round++) {
      zero_gradients(&lab);
      (void)loss_of(&lab, round ? PASS_RECOMPUTE : PASS_TRAIN, &lab.step);
      for (size_t p = 0; p < lab.parameters.count; p++) {
        const Parameter *parameter = &lab.parameters.items[p];
        float *values = device_values(&lab.compute, parameter->grad);
        if (round == 0) {
          kept[p] = values;
          continue;
        }
        if (memcmp(values, kept[p], tensor_bytes(parameter->grad)) != 0)
          fail_msg("%s: %s differs with recomputation", variants[v].name, parameter->name);
        free(values);
        free(kept[p]);
      }
    }
    lab_close(&lab);
  }
}

/* Of id 4 behind every token, with dropout. */
static void every_logprob(Lab *lab, Arena *step, float *logprob) {
  int32_t all[TOKENS], target[TOKENS];
  for (int t = 0; t < TOKENS; t++) {
    all[t] = t;
    target[t] = 4;
  }
  const size_t mark = arena_mark(step);
  pass_forward(&lab->pass, &lab->compute, &lab->model, &lab->set, &lab->batch, PASS_TRAIN, step);
  lm_logprobs(&lab->pass, token_rows(all, target, TOKENS), 1, logprob, NULL);
  arena_release(step, mark);
}

/* A row's logits, and what dropout leaves of them, do not depend on which rows are asked for beside it. */
static void rows_are_their_own(void **state) {
  (void)state;
  int32_t target[PICKED];
  float every[TOKENS], some[PICKED], without[PICKED];
  Lab lab;
  for (int i = 0; i < PICKED; i++) target[i] = 4;
  lab_open(&lab, &variants[0], 0.3f);
  const size_t mark = arena_mark(&lab.step);
  pass_forward(&lab.pass, &lab.compute, &lab.model, &lab.set, &lab.batch, PASS_TRAIN, &lab.step);
  lm_logprobs(&lab.pass, token_rows(rows, target, PICKED), 1, some, NULL);
  arena_release(&lab.step, mark);
  pass_forward(&lab.pass, &lab.compute, &lab.model, &lab.set, &lab.batch, PASS_INFERENCE, &lab.step);
  lm_logprobs(&lab.pass, token_rows(rows, target, PICKED), 1, without, NULL);
  arena_release(&lab.step, mark);
  every_logprob(&lab, &lab.step, every);
  float dropped = 0;
  for (int i = 0; i < PICKED; i++) {
    if (!(fabsf(some[i] - every[rows[i]]) < 1e-5f))
      fail_msg("row %d: %g among some, %g among all", rows[i], (double)some[i], (double)every[rows[i]]);
    dropped = fmaxf(dropped, fabsf(some[i] - without[i]));
  }
  assert_true(dropped > 1e-2f); /* there was something to be wrong about */
  lab_close(&lab);
}

/* ---- merging, with the scale of embeddings ---- */

static void merged_is_equal(void **state) {
  (void)state;
  Error error = {0};
  for (int v = 0; v < VARIANTS; v++) {
    Lab lab;
    float before[PICKED], after[PICKED];
    if (variants[v].tied && !variants[v].tie) continue; /* has no room for the head */
    lab_open(&lab, &variants[v], 0);
    const size_t mark = arena_mark(&lab.step);
    const TokenRows picked = token_rows(rows, targets, PICKED);
    pass_forward(&lab.pass, &lab.compute, &lab.model, &lab.set, &lab.batch, PASS_INFERENCE, &lab.step);
    lm_logprobs(&lab.pass, picked, 1, before, NULL);
    arena_release(&lab.step, mark);
    for (int id = 0; id < lab.model.module_count; id++) {
      const LoraModule *module = &lab.model.modules[id];
      if (module->kind == LORA_LINEAR || (module->kind == LORA_HEAD && variants[v].tied)) continue;
      float *weight = device_values(&lab.compute, module->weight);
      assert_true(lora_merge(&lab.set, id, weight, &lab.compute, &error));
      device_write(&lab.compute, module->weight, weight);
      free(weight);
      lab.set.pairs[id].scale = 0;
      if (lora_copy(&lab.set, id))
        op_axpby(&lab.compute, lab.set.copies[id].weight.value, module->weight, 1, 0);
    }
    for (int id = 0; id < lab.model.module_count; id++)
      if (lab.set.pairs[id].shared) lab.set.pairs[id].scale = 0;
    pass_forward(&lab.pass, &lab.compute, &lab.model, &lab.set, &lab.batch, PASS_INFERENCE, &lab.step);
    lm_logprobs(&lab.pass, picked, 1, after, NULL);
    for (int i = 0; i < PICKED; i++)
      if (!(fabsf(before[i] - after[i]) < 2e-5f))
        fail_msg("%s: %g, merged %g", variants[v].name, (double)before[i], (double)after[i]);
    lab_close(&lab);
  }
}

/* ---- a table that comes with the adapter ---- */

/* It is the base's table, and so the head of a tied one: nothing changes when the base takes it. */
static void a_carried_table_is_the_heads_too(void **state) {
  (void)state;
  static const struct Variant carried = {.name = "a table of its own over a tied base",
                                         .tied = true,
                                         .targets = {"q_proj", "embed_tokens"},
                                         .carried = "model.embed_tokens"};
  Lab lab;
  float before[PICKED], after[PICKED];
  const TokenRows picked = token_rows(rows, targets, PICKED);
  lab_open(&lab, &carried, 0);
  int id = 0;
  while (lab.model.modules[id].kind != LORA_EMBEDDING) id++;
  const Tensor table = lab.set.copies[id].weight.value;
  device_random(&lab.compute, table, random_key(11, RANDOM_TEST), 0, 0, 0.3f);
  const size_t mark = arena_mark(&lab.step);
  for (int k = 0; k < 2; k++) {
    pass_forward(&lab.pass, &lab.compute, &lab.model, &lab.set, &lab.batch, PASS_INFERENCE, &lab.step);
    lm_logprobs(&lab.pass, picked, 1, k ? after : before, NULL);
    arena_release(&lab.step, mark);
    op_axpby(&lab.compute, lab.model.modules[id].weight, table, 1, 0);
  }
  assert_memory_equal(before, after, sizeof before);
  lab_close(&lab);
}

/* ---- beginning ---- */

static void fresh_adapters_change_nothing(void **state) {
  (void)state;
  Error error = {0};
  for (int v = 0; v < VARIANTS; v++) {
    Lab lab;
    float with[PICKED], without[PICKED];
    lab_open(&lab, &variants[v], 0);
    assert_true(lora_initialize(&lab.set, &lab.compute, 4, &error));
    const size_t mark = arena_mark(&lab.step);
    for (int k = 0; k < 2; k++) {
      pass_forward(&lab.pass, &lab.compute, &lab.model, k ? NULL : &lab.set, &lab.batch, PASS_INFERENCE,
                   &lab.step);
      lm_logprobs(&lab.pass, token_rows(rows, targets, PICKED), 1, k ? without : with, NULL);
      arena_release(&lab.step, mark);
    }
    assert_memory_equal(with, without, sizeof with);
    lab_close(&lab);
  }
}

/* ---- a larger vocabulary ---- */

static void more_tokens_than_the_base_are_refused(void **state) {
  (void)state;
  static const char *const adapters[] = {FIXTURES "/peft/llama_saved", FIXTURES "/peft/llama_tables"};
  for (size_t i = 0; i < 2; i++) {
    Error error = {0};
    Compute compute;
    Arena dry;
    Model model;
    LoraSpec spec;
    LoraSet set;
    test_device_open(&compute, 1);
    arena_init_dry(&dry, "dry");
    json_t *json = json_load_file(FIXTURES "/models/llama/config.json", 0, NULL);
    json_object_set_new(json, "vocab_size", json_integer(99)); /* the adapter's base has 101 */
    compute_dry_begin(&compute);
    assert_true(model_open_config(&model, json, (WeightFormat){.dtype = DTYPE_F32}, &compute, &dry, &error));
    assert_true(lora_spec_read(&spec, adapters[i], &error));
    assert_true(
        lora_open(&set, &spec, model.modules, model.module_count, DTYPE_F32, false, &compute, &dry, &error));
    assert_false(lora_read(&set, adapters[i], &compute, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, "of a vocabulary of 101 tokens, and the base has 99") ||
        !strstr(error.message, "drover tokenizer add"))
      fail_msg("%s", error.message);
    error = (Error){0};
    assert_true(compute_dry_end(&compute, &error));
    lora_free(&set);
    lora_spec_free(&spec);
    model_free(&model);
    json_decref(json);
    compute_close(&compute);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_are_slopes),
      cmocka_unit_test(recomputation_changes_nothing),
      cmocka_unit_test(rows_are_their_own),
      cmocka_unit_test(merged_is_equal),
      cmocka_unit_test(a_carried_table_is_the_heads_too),
      cmocka_unit_test(fresh_adapters_change_nothing),
      cmocka_unit_test(more_tokens_than_the_base_are_refused),
  };
  return cmocka_run_group_tests_name("unit/lora_tables", tests, NULL, NULL);
}
