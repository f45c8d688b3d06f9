/* PEFT's adapter directories (tests/fixtures/peft, saved by PEFT 0.21) in and out, and what is refused in them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../temporary.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/weights.h"

#include <math.h>

static Compute compute;

static int open_compute(void **state) {
  (void)state;
  Error error = {0};
  return compute_open(&compute, DEVICE_CPU, 2, &error) ? 0 : -1;
}

static int close_compute(void **state) {
  (void)state;
  compute_close(&compute);
  return 0;
}

static void assert_ok(bool ok, const Error *error) {
  if (!ok) print_error("%s\n", error->message);
  assert_true(ok);
}

/* An adapter over the modules of a tiny model (whose weights are not needed). */
typedef struct Adapted {
  Model model;
  LoraSet set;
  LoraSpec spec;
  Arena arena;
} Adapted;

static void adapted_free(Adapted *adapted) {
  lora_free(&adapted->set);
  lora_spec_free(&adapted->spec);
  model_free(&adapted->model);
  arena_free(&adapted->arena);
}

static bool read_adapter(Adapted *adapted, const char *model, const char *directory, Error *error) {
  char path[512];
  snprintf(path, sizeof path, FIXTURES "/models/%s", model);
  *adapted = (Adapted){0};
  Error setup = {0};
  assert_ok(arena_init(&adapted->arena, "adapter", 1 << 20, &setup), &setup);
  assert_ok(model_open(&adapted->model, path, (WeightFormat){.dtype = DTYPE_F32}, &compute, &adapted->arena,
                       &setup),
            &setup);
  return lora_spec_read(&adapted->spec, directory, error) &&
         lora_open(&adapted->set, &adapted->spec, adapted->model.modules, adapted->model.module_count,
                   adapted->model.dtype, false, &compute, &adapted->arena, error) &&
         lora_read(&adapted->set, directory, &compute, error);
}

static void read_fixture(Adapted *adapted, const char *model, const char *name) {
  char path[512];
  snprintf(path, sizeof path, FIXTURES "/peft/%s", name);
  Error error = {0};
  assert_ok(read_adapter(adapted, model, path, &error), &error);
}

static const LoraPair *pair_of(const Adapted *adapted, const char *module) {
  for (int i = 0; i < adapted->model.module_count; i++)
    if (strcmp(adapted->model.modules[i].name, module) == 0) return &adapted->set.pairs[i];
  fail_msg("no module %s", module);
  return NULL;
}

static void assert_same_file(const char *from, const char *to) {
  SafetensorsFile a, b;
  Error error = {0};
  assert_ok(safetensors_file_open(&a, from, &error), &error);
  assert_ok(safetensors_file_open(&b, to, &error), &error);
  assert_int_equal(a.count, b.count);
  for (size_t i = 0; i < a.count; i++) {
    const SafetensorsEntry *other = safetensors_file_find(&b, a.entries[i].name);
    assert_non_null(other);
    assert_int_equal(other->rank, a.entries[i].rank);
    assert_memory_equal(other->shape, a.entries[i].shape, sizeof(int64_t) * (size_t)other->rank);
    assert_memory_equal(other->data, a.entries[i].data, a.entries[i].bytes);
  }
  assert_string_equal(safetensors_file_metadata(&b, "format"), "pt");
  safetensors_file_close(&a);
  safetensors_file_close(&b);
}

static void assert_same_sets(const LoraSet *a, const LoraSet *b) {
  assert_int_equal(a->count, b->count);
  for (int i = 0; i < a->count; i++) {
    assert_int_equal(tensor_is_none(a->pairs[i].a.value), tensor_is_none(b->pairs[i].a.value));
    if (tensor_is_none(a->pairs[i].a.value)) continue;
    assert_float_equal(a->pairs[i].scale, b->pairs[i].scale, 0);
    assert_int_equal(tensor_bytes(a->pairs[i].a.value), tensor_bytes(b->pairs[i].a.value));
    assert_memory_equal(a->pairs[i].a.value.data, b->pairs[i].a.value.data,
                        tensor_bytes(a->pairs[i].a.value));
    assert_memory_equal(a->pairs[i].b.value.data, b->pairs[i].b.value.data,
                        tensor_bytes(a->pairs[i].b.value));
  }
}

static void what_peft_saved_goes_round(void **state) {
  (void)state;
  static const char *const names[][2] = {{"llama", "llama_all"},     {"llama", "llama_qv"},
                                         {"llama", "llama_pattern"}, {"gpt2", "gpt2_all"},
                                         {"gpt2", "gpt2_c_attn"},    {"gpt_neox", "gpt_neox_rslora"}};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Temporary t;
    temporary_open(&t);
    Adapted first, second;
    Error error = {0};
    char file[512];
    read_fixture(&first, names[i][0], names[i][1]);
    assert_ok(lora_save(&first.set, NULL, 0, (ScoreZero){0}, (LoraBase){"some/base", "0a1b"}, t.directory,
                        &compute, &error),
              &error);
    snprintf(file, sizeof file, FIXTURES "/peft/%s/adapter_model.safetensors", names[i][1]);
    assert_same_file(file, temporary_path(&t, "adapter_model.safetensors"));
    assert_ok(read_adapter(&second, names[i][0], t.directory, &error), &error);
    assert_same_sets(&first.set, &second.set);
    json_t *config = json_file_read(temporary_path(&t, "adapter_config.json"), &error);
    assert_int_equal(json_is_true(json_object_get(config, "fan_in_fan_out")),
                     strcmp(names[i][0], "gpt2") == 0);
    assert_string_equal(json_string_value(json_object_get(config, "task_type")), "CAUSAL_LM");
    assert_string_equal(json_string_value(json_object_get(config, "base_model_name_or_path")), "some/base");
    assert_string_equal(json_string_value(json_object_get(config, "revision")), "0a1b");
    json_decref(config);
    adapted_free(&first);
    adapted_free(&second);
    temporary_close(&t);
  }
}

static void ranks_and_scales_are_those_of_peft(void **state) {
  (void)state;
  Adapted adapted;
  read_fixture(&adapted, "llama",
               "llama_pattern"); /* r 4, alpha 8; down_proj r 2; layer 1's o_proj alpha 3 */
  const LoraPair *down = pair_of(&adapted, "model.layers.0.mlp.down_proj");
  assert_int_equal(down->a.value.dim[0], 2);
  assert_float_equal(down->scale, 4, 0);
  assert_float_equal(pair_of(&adapted, "model.layers.0.self_attn.o_proj")->scale, 2, 0);
  assert_float_equal(pair_of(&adapted, "model.layers.1.self_attn.o_proj")->scale, 0.75f, 0);
  assert_true(tensor_is_none(pair_of(&adapted, "model.layers.1.self_attn.q_proj")->a.value));
  adapted_free(&adapted);
  read_fixture(&adapted, "gpt_neox", "gpt_neox_rslora"); /* alpha 6 over sqrt 4 */
  assert_float_equal(pair_of(&adapted, "gpt_neox.layers.0.attention.query_key_value")->scale, 3, 0);
  adapted_free(&adapted);
}

static void a_reward_adapter_carries_its_score_head(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Adapted adapted;
  Error error = {0};
  float weight[32], again[32];
  ScoreZero zero;
  bool found;
  read_fixture(&adapted, "llama", "cls_llama");
  assert_true(adapted.spec.sequence_classification);
  assert_ok(lora_read_score(FIXTURES "/peft/cls_llama", 32, weight, &zero, &found, &error), &error);
  assert_true(found);
  assert_true(zero.shift == 0 && !zero.known);
  assert_ok(lora_save(&adapted.set, weight, 32, (ScoreZero){-1.5f, true}, (LoraBase){0}, t.directory,
                      &compute, &error),
            &error);
  assert_same_file(FIXTURES "/peft/cls_llama/adapter_model.safetensors",
                   temporary_path(&t, "adapter_model.safetensors"));
  assert_ok(lora_read_score(t.directory, 32, again, &zero, &found, &error), &error);
  assert_memory_equal(weight, again, sizeof weight);
  assert_true(zero.shift == -1.5f && zero.known);
  json_t *config = json_file_read(temporary_path(&t, "adapter_config.json"), &error);
  assert_string_equal(json_string_value(json_object_get(config, "task_type")), "SEQ_CLS");
  assert_string_equal(json_string_value(json_array_get(json_object_get(config, "modules_to_save"), 0)),
                      "score");
  json_decref(config);
  assert_false(lora_read_score(FIXTURES "/peft/cls_llama", 31, weight, &zero, &found, &error));
  assert_non_null(strstr(error.message, "expected the shape [1, 31], found [1, 32]"));
  error = (Error){0};
  assert_ok(lora_read_score(FIXTURES "/peft/llama_qv", 32, again, &zero, &found, &error), &error);
  assert_false(found);
  ScoreHead head; /* the same by way of the model's function */
  assert_ok(score_head_open(&head, &adapted.model, t.directory, true, 0, &compute, &adapted.arena, &error),
            &error);
  assert_memory_equal(head.weight.data, weight, sizeof weight);
  assert_true(head.zero.shift == -1.5f && head.zero.known);
  adapted_free(&adapted);
  temporary_close(&t);
}

static void what_is_not_finite_is_not_saved(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Adapted adapted;
  read_fixture(&adapted, "llama", "cls_llama");
  float head[32] = {0}, *a = NULL;
  int id = 0;
  while (tensor_is_none(adapted.set.pairs[id].a.value)) id++;
  a = adapted.set.pairs[id].a.value.data;
  for (int which = 0; which < 2; which++) {
    char expected[256];
    Error error = {0};
    const float former = a[1];
    *(which ? &a[1] : &head[3]) = which ? INFINITY : NAN;
    snprintf(expected, sizeof expected, "%s: 1 of ",
             which ? adapted.set.pairs[id].a.name : "base_model.model.score.weight");
    assert_false(
        lora_save(&adapted.set, head, 32, (ScoreZero){0}, (LoraBase){0}, t.directory, &compute, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_non_null(strstr(error.message, expected));
    assert_false(file_exists(temporary_path(&t, "adapter_model.safetensors")));
    a[1] = former;
    head[3] = 0;
  }
  adapted_free(&adapted);
  temporary_close(&t);
}

/* ---- changed configurations ---- */

/* A copy of a fixture whose config has the keys of `changes` set over it. */
static void write_changed(Temporary *t, const char *fixture, const char *changes) {
  char from[512];
  Error error = {0};
  snprintf(from, sizeof from, FIXTURES "/peft/%s/adapter_config.json", fixture);
  json_t *config = json_file_read(from, &error), *extra = json_loads(changes, 0, NULL);
  assert_non_null(config);
  assert_non_null(extra);
  json_object_update(config, extra);
  assert_ok(json_file_write(temporary_path(t, "adapter_config.json"), config, &error), &error);
  snprintf(from, sizeof from, FIXTURES "/peft/%s/adapter_model.safetensors", fixture);
  assert_ok(file_copy(from, temporary_path(t, "adapter_model.safetensors"), &error), &error);
  json_decref(config);
  json_decref(extra);
}

static void other_ways_to_name_the_modules(void **state) {
  (void)state;
  static const char *const changes[] = {
      "{\"target_modules\": \".*self_attn\\\\.(q|v)_proj\"}",
      "{\"target_modules\": [\"q_proj\", \"k_proj\", \"v_proj\"], \"exclude_modules\": [\"k_proj\"]}",
      "{\"target_modules\": [\"q_proj\", \"v_proj\"], \"layers_to_transform\": [0, 1]}"};
  Adapted expected;
  read_fixture(&expected, "llama", "llama_qv");
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    Temporary t;
    temporary_open(&t);
    write_changed(&t, "llama_qv", changes[i]);
    Adapted adapted;
    Error error = {0};
    assert_ok(read_adapter(&adapted, "llama", t.directory, &error), &error);
    assert_same_sets(&expected.set, &adapted.set);
    adapted_free(&adapted);
    temporary_close(&t);
  }
  adapted_free(&expected);
}

static void alpha_patterns_are_regular_expressions(void **state) {
  (void)state;
  static const struct {
    const char *pattern;
    float scale[2]; /* of q_proj in layers 0 and 1; alpha 8 over r 4 unless the pattern matches: 20 over 4 */
  } cases[] = {{"q_proj", {5, 5}},
               {"layers.1.self_attn.q_proj", {2, 5}},
               {"model\\\\.layers\\\\.\\\\d\\\\.self_attn\\\\.\\\\w+", {5, 5}},
               {"layers.(0|2).*", {5, 2}},
               {"^model.layers.0.self_attn.q_proj", {5, 2}},
               {"proj", {2, 2}}, /* the part after a dot, whole */
               {"q_pro", {2, 2}},
               {"layers\\\\.[\\\\d]+\\\\.self_attn\\\\.q_proj", {5, 5}}, /* escapes in a class */
               {"[[:alpha:]", {2, 2}},                                   /* in Python no class of letters */
               {"layers.{1}(?:0|2).*?", {5, 2}}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Temporary t;
    temporary_open(&t);
    char changes[256];
    snprintf(changes, sizeof changes, "{\"alpha_pattern\": {\"%s\": 20}}", cases[i].pattern);
    write_changed(&t, "llama_qv", changes);
    Adapted adapted;
    Error error = {0};
    assert_ok(read_adapter(&adapted, "llama", t.directory, &error), &error);
    float first = pair_of(&adapted, "model.layers.0.self_attn.q_proj")->scale;
    float second = pair_of(&adapted, "model.layers.1.self_attn.q_proj")->scale;
    if (first != cases[i].scale[0] || second != cases[i].scale[1])
      fail_msg("%s: %g and %g", cases[i].pattern, (double)first, (double)second);
    adapted_free(&adapted);
    temporary_close(&t);
  }
}

static void options_that_are_not_supported_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *changes, *message;
  } cases[] = {
      {"{\"use_dora\": true}", "adapter_config.json: use_dora: an adapter with this option is not supported"},
      {"{\"lora_bias\": true}", "lora_bias: an"},
      {"{\"bias\": \"all\"}", "bias: expected \"none\", found \"all\""},
      {"{\"trainable_token_indices\": [1]}", "trainable_token_indices: an"},
      {"{\"layer_replication\": [[0, 2]]}", "layer_replication: an"},
      {"{\"use_something_new\": true}", "use_something_new: an"},
      {"{\"init_lora_weights\": \"pissa\"}", "init_lora_weights: \"pissa\" changes the base weights"},
      {"{\"init_lora_weights\": \"olora\"}", "\"olora\" changes the base weights"},
      {"{\"modules_to_save\": [\"embed_tokens\"]}",
       "tensor base_model.model.model.embed_tokens.weight is missing"},
      {"{\"modules_to_save\": [\"k_proj\"]}",
       "module to save \"k_proj\": expected the embedding table or the LM head (there are: lm_head, "
       "embed_tokens)"},
      {"{\"modules_to_save\": [\"norm\"]}",
       "module to save \"norm\": expected the embedding table or the LM head"},
      {"{\"modules_to_save\": [\"\"]}", "modules_to_save[0]: expected the name of a module"},
      {"{\"ensure_weight_tying\": 1}", "ensure_weight_tying: expected true or false"},
      {"{\"peft_type\": \"LOHA\"}", "peft_type: expected \"LORA\", found \"LOHA\""},
      {"{\"task_type\": \"SEQ_2_SEQ_LM\"}", "\"SEQ_2_SEQ_LM\" is not supported"},
      {"{\"r\": 0}", "r: expected a number from 1 to 65536, found 0"},
      {"{\"lora_alpha\": \"8\"}", "lora_alpha: expected a number, found a string"},
      {"{\"target_modules\": [1]}", "target_modules[0]: expected a string, found a number"},
      {"{\"target_modules\": [\"q_proj\"]}", "unexpected tensor"},
      {"{\"target_modules\": [\"q_proj\", \"v_proj\", \"k_proj\"]}", "k_proj.lora_A.weight is missing"},
      {"{\"target_modules\": [\"q_proj\", \"wq\"]}", "\"wq\" is no linear of this model"},
      {"{\"alpha_pattern\": {\"(q)_proj\\\\1\": 2}}", "alpha_pattern: \"(q)_proj\\1\": \"\\1\" at byte 16"},
      {"{\"rank_pattern\": {\"q_proj(\": 4}}", "rank_pattern: \"q_proj(\""},
      {"{\"alpha_pattern\": {\"((((a{1,250}){1,250}){1,250}){1,250})\": 2}}",
       "regular expression is too large"},
      {"{\"alpha_pattern\": {\"q_proj\": \"2\"}}", "alpha_pattern.q_proj: expected a number, found a string"},
      {"{\"alpha_pattern\": {\"q_proj\": 1e300}}", "alpha_pattern.q_proj: expected a number from 0 to 65536"},
      {"{\"alpha_pattern\": [\"q_proj\"]}", "alpha_pattern: expected an object"},
      {"{\"lora_alpha\": 1e300}", "lora_alpha: expected a number from 0 to 65536, found 1e+300"},
      {"{\"lora_alpha\": -8}", "lora_alpha: expected a number from 0 to 65536, found -8"},
      {"{\"lora_alpha\": null}", "lora_alpha: expected a number, found nothing"},
      {"{\"lora_dropout\": 2}", "lora_dropout: expected a number from 0 to 1"},
      {"{\"r\": 8}",
       "adapter_config.json: r is 8 for model.layers.0.self_attn.q_proj, but the rank of its tensors"},
      {"{\"rank_pattern\": {\"layers.1.*v_proj\": 3}}",
       "rank_pattern is 3 for model.layers.1.self_attn.v_proj, but the rank of its tensors in"},
      {"{\"use_rslora\": \"yes\"}", "use_rslora: expected true or false"},
      {"{\"an_option_to_come\": \"cubic\"}", "an_option_to_come: an adapter with this option"},
      {"{\"an_option_to_come\": 0.5}", "an_option_to_come: an adapter with this option"},
      {"{\"bias\": 1}", "bias: expected a string"},
      {"{\"exclude_modules\": [\"k_proj\", \"v_proj\"]}",
       "exclude_modules leaves out the module model.layers.0.self_attn.v_proj, which has tensors"},
      {"{\"exclude_modules\": \".*layers.[1].*\"}", "exclude_modules leaves out the module model.layers.1."},
      {"{\"target_modules\": \".*q_proj\"}",
       "target_modules leaves out the module model.layers.0.self_attn.v_proj"},
      {"{\"layers_to_transform\": 1}", "layers_to_transform leaves out the module model.layers.0."}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Temporary t;
    temporary_open(&t);
    write_changed(&t, "llama_qv", cases[i].changes);
    Adapted adapted;
    Error error = {0};
    assert_false(read_adapter(&adapted, "llama", t.directory, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[i].message))
      fail_msg("\"%s\" is not in \"%s\"", cases[i].message, error.message);
    adapted_free(&adapted);
    temporary_close(&t);
  }
  /* and what is recorded but harmless is not */
  Temporary t;
  temporary_open(&t);
  write_changed(&t, "llama_qv",
                "{\"init_lora_weights\": \"gaussian\", \"use_dora\": false, \"loftq_config\": {}}");
  Adapted adapted;
  Error error = {0};
  assert_ok(read_adapter(&adapted, "llama", t.directory, &error), &error);
  adapted_free(&adapted);
  temporary_close(&t);
}

static void expect_failure(const char *model, const char *directory, ErrorCode code, const char *message) {
  Adapted adapted;
  Error error = {0};
  assert_false(read_adapter(&adapted, model, directory, &error));
  assert_int_equal(error.code, code);
  if (!strstr(error.message, message)) fail_msg("\"%s\" is not in \"%s\"", message, error.message);
  adapted_free(&adapted);
}

static void files_that_do_not_fit_are_refused(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Error error = {0};
  expect_failure("llama", temporary_path(&t, "nowhere"), ERROR_FILE, "adapter_config.json");
  expect_failure("qwen3", FIXTURES "/peft/llama_qv", ERROR_MODEL,
                 "q_proj.lora_B.weight: expected the shape [48, 4]");
  expect_failure("gpt2", FIXTURES "/peft/llama_qv", ERROR_MODEL, "is no linear of this model");
  write_changed(&t, "llama_qv", "{}");
  Buffer content = {0};
  assert_ok(file_read(temporary_path(&t, "adapter_model.safetensors"), &content, &error), &error);
  FILE *torn = fopen(temporary_path(&t, "adapter_model.safetensors"), "wb");
  assert_int_equal(fwrite(content.data, 1, content.size - 5, torn), content.size - 5);
  fclose(torn);
  buffer_free(&content);
  expect_failure("llama", t.directory, ERROR_MODEL, "adapter_model.safetensors");
  assert_ok(file_copy(FIXTURES "/peft/llama_qv/adapter_config.json", temporary_path(&t, "adapter_model.bin"),
                      &error),
            &error);
  assert_int_equal(remove(temporary_path(&t, "adapter_model.safetensors")), 0);
  expect_failure("llama", t.directory, ERROR_MODEL, "only adapters saved as safetensors are read");
  assert_ok(file_write_text(temporary_path(&t, "adapter_config.json"), "{\n\"r\": 4,\n", &error), &error);
  expect_failure("llama", t.directory, ERROR_MODEL, "adapter_config.json:3: broken JSON");
  temporary_close(&t);
}

static void every_failed_allocation_is_reported(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  bool ok = false;
  for (long n = 0; !ok; n++) {
    Adapted adapted = {0};
    Error error = {0};
    assert_ok(arena_init(&adapted.arena, "adapter", 1 << 20, &error), &error);
    assert_ok(model_open(&adapted.model, FIXTURES "/models/llama", (WeightFormat){.dtype = DTYPE_F32},
                         &compute, &adapted.arena, &error),
              &error);
    memory_fail_after(n);
    ok = lora_spec_read(&adapted.spec, FIXTURES "/peft/llama_pattern", &error) &&
         lora_open(&adapted.set, &adapted.spec, adapted.model.modules, adapted.model.module_count,
                   adapted.model.dtype, false, &compute, &adapted.arena, &error) &&
         lora_read(&adapted.set, FIXTURES "/peft/llama_pattern", &compute, &error) &&
         lora_save(&adapted.set, NULL, 0, (ScoreZero){0}, (LoraBase){0}, t.directory, &compute, &error);
    memory_fail_after(-1);
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    adapted_free(&adapted);
    assert_true(n < 10000);
  }
  temporary_close(&t);
}

/* ---- merging while saving ---- */

static void a_merged_directory_has_the_deltas(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Adapted adapted;
  Error error = {0};
  read_fixture(&adapted, "gpt2", "gpt2_c_attn");
  const Model *model = &adapted.model;
  assert_ok(model_read(&adapted.model, FIXTURES "/models/gpt2", &compute, NULL, &error), &error);
  assert_ok(model_save(model, NULL, &adapted.set, NULL, NULL, temporary_path(&t, "out"), DTYPE_F32, &compute,
                       &error),
            &error);
  Adapted merged;
  read_fixture(&merged, "gpt2", "gpt2_c_attn");
  assert_ok(model_read(&merged.model, temporary_path(&t, "out"), &compute, NULL, &error), &error);
  for (int i = 0; i < model->tensor_count; i++) {
    const bool adapts = strstr(model->tensors[i].name, "c_attn.weight") != NULL;
    const Tensor before = model->tensors[i].value, after = merged.model.tensors[i].value;
    if (!adapts) {
      assert_memory_equal(before.data, after.data, tensor_bytes(before));
      continue;
    }
    assert_memory_not_equal(before.data, after.data, tensor_bytes(before));
  }
  const Linear qkv = model->blocks[1].linear[LINEAR_QKV];
  const LoraPair *pair = &adapted.set.pairs[qkv.id];
  const float *w = model->tensors[qkv.weight].value.data, *m = merged.model.tensors[qkv.weight].value.data;
  const float *a = pair->a.value.data, *b = pair->b.value.data;
  const int64_t inputs = 24, outputs = 72, r = pair->a.value.dim[0];
  for (int64_t i = 0; i < inputs; i++)
    for (int64_t o = 0; o < outputs; o++) {
      double expected = (double)w[i * outputs + o];
      for (int64_t k = 0; k < r; k++)
        expected += (double)pair->scale * (double)b[o * r + k] * (double)a[k * inputs + i];
      assert_true(fabs(expected - (double)m[i * outputs + o]) < 1e-6);
    }
  adapted_free(&adapted);
  adapted_free(&merged);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_peft_saved_goes_round),
                                     cmocka_unit_test(ranks_and_scales_are_those_of_peft),
                                     cmocka_unit_test(a_reward_adapter_carries_its_score_head),
                                     cmocka_unit_test(what_is_not_finite_is_not_saved),
                                     cmocka_unit_test(other_ways_to_name_the_modules),
                                     cmocka_unit_test(alpha_patterns_are_regular_expressions),
                                     cmocka_unit_test(options_that_are_not_supported_are_refused),
                                     cmocka_unit_test(files_that_do_not_fit_are_refused),
                                     cmocka_unit_test(every_failed_allocation_is_reported),
                                     cmocka_unit_test(a_merged_directory_has_the_deltas)};
  return cmocka_run_group_tests(tests, open_compute, close_compute);
}
