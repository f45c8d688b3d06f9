/* What a saved model says to its readers: padding, end marks, dtypes; what is refused; what does not stay behind. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "formats/safetensors.h"
#include "tests/support/rig.h"
#include "tests/folder.h"

#include <math.h>

static Rig rig;

static void nothing(Rig *unused, void *context) {
  (void)unused;
  (void)context;
}

static void open_rig(const char *model, const char *adapter, bool score, DType dtype) {
  char model_path[512], adapter_path[512];
  RigSpec spec = {
      .model = fixture_path(model_path, sizeof model_path, "models", model), .score = score, .dtype = dtype};
  if (adapter) spec.adapter = fixture_path(adapter_path, sizeof adapter_path, "peft", adapter);
  rig_open(&rig, spec, nothing, NULL);
}

static void write_text(const char *name, const char *text) {
  Error error = {0};
  char *parent = path_parent(temporary_path(&folder, name));
  rig_check(directory_create(parent, &error) && file_write_text(temporary_path(&folder, name), text, &error),
            &error);
  memory_free(parent);
}

static bool save(const SavedTokens *tokens, const char *source, DType dtype, Error *error) {
  char from[512], to[512];
  snprintf(to, sizeof to, "%s", temporary_path(&folder, "out"));
  if (source) snprintf(from, sizeof from, "%s", temporary_path(&folder, source));
  return model_save(&rig.model, rig.spec.score ? &rig.head : NULL, rig.spec.adapter ? &rig.adapter : NULL,
                    tokens, source ? from : NULL, to, dtype, &rig.compute, error);
}

static void must_save(const SavedTokens *tokens, const char *source, DType dtype) {
  Error error = {0};
  rig_check(save(tokens, source, dtype, &error), &error);
}

static void must_not_save(DType dtype, ErrorCode code, const char *message) {
  Error error = {0};
  assert_false(save(NULL, NULL, dtype, &error));
  assert_int_equal(error.code, code);
  if (!strstr(error.message, message)) fail_msg("\"%s\" is not in \"%s\"", message, error.message);
}

static json_t *parse(const char *text) {
  json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
  assert_non_null(value);
  return value;
}

/* The value of a key in a file of what was saved, or "absent". */
static void assert_member(const char *file, const char *key, const char *expected) {
  Error error = {0};
  json_t *config = json_file_read(temporary_path(&folder, file), &error);
  rig_check(config != NULL, &error);
  const json_t *found = json_object_get(config, key);
  char *text = found ? json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
  assert_string_equal(text ? text : "absent", expected);
  free(text);
  json_decref(config);
}

/* Of the model's config; NULL removes the key. */
static void set(const char *key, const char *value) {
  json_object_del(rig.model.config, key);
  if (value) json_object_set_new(rig.model.config, key, parse(value));
}

/* Transformers scores the last token that is not padding, and Drover the last token, which ends the text. */
static void padding_is_never_an_end(void **state) {
  (void)state;
  static const struct {
    const char *pad, *eos;  /* of the base's config.json */
    const char *generation; /* eos_token_id of its generation_config.json */
    int end, other;         /* of the tokenizer and its template: ends, and an id for padding; -1 = none */
    const char *expected;
  } cases[] = {
      {NULL, "2", NULL, -1, -1, "absent"},
      {"null", "2", NULL, -1, -1, "absent"},
      {NULL, "2", NULL, 2, 7, "7"},
      {"7", "2", NULL, 2, 9, "7"},
      {"2", "2", NULL, 2, 7, "7"},
      {"2", "2", NULL, -1, -1, "absent"},
      {"2", "[1, 2]", NULL, -1, -1, "absent"},
      {"5", "2", "[5, 2]", -1, 7, "7"},
      {"5", "2", "5", -1, -1, "absent"},
      {"5", "2", NULL, 5, -1, "absent"},
      {NULL, "2", NULL, 5, 2, "absent"},
      {"1000", "2", NULL, -1, 7, "7"},
      {"-1", "2", NULL, -1, 101, "absent"},
      {"0", "2", NULL, -1, -1, "0"},
  };
  open_rig("llama_score", NULL, true, DTYPE_F32);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    rig_check(directory_remove_all(temporary_path(&folder, "source"), &error), &error);
    rig_check(directory_create(temporary_path(&folder, "source"), &error), &error);
    if (cases[i].generation) {
      char text[64];
      snprintf(text, sizeof text, "{\"eos_token_id\": %s}", cases[i].generation);
      write_text("source/generation_config.json", text);
    }
    set("pad_token_id", cases[i].pad);
    set("eos_token_id", cases[i].eos);
    const SavedTokens tokens = {
        .ends = {cases[i].end}, .end_count = cases[i].end >= 0, .pad = cases[i].other};
    must_save(&tokens, "source", DTYPE_F32);
    assert_member("out/config.json", "pad_token_id", cases[i].expected);
  }
  rig_close(&rig);
}

/* Readers stop where training taught the model to. */
static void the_ends_of_training_are_written(void **state) {
  (void)state;
  static const struct {
    const char *eos,
        *generation; /* in the base: of config.json; the whole generation_config.json, NULL = none */
    int ends[3];     /* those of training, before a -1 */
    const char *config, *of_generation;
  } cases[] = {
      {"2", NULL, {2, -1}, "2", "2"},
      {"2", NULL, {2, 9, -1}, "[2,9]", "[2,9]"},
      {"2", "{\"eos_token_id\": 2, \"top_p\": 0.5}", {9, 2, -1}, "[2,9]", "[2,9]"},
      {"[2, 3]", "{\"eos_token_id\": [4, 2], \"top_p\": 0.5}", {9, -1}, "[2,3,9]", "[4,2,9]"},
      {NULL, NULL, {9, -1}, "9", "9"},
      {"null", "{\"top_p\": 0.5}", {9, -1}, "9", "9"},
      {"2", "{\"top_p\": 0.5}", {9, -1}, "[2,9]", "[2,9]"},
      {"2", "{\"eos_token_id\": 2, \"top_p\": 0.5}", {2, -1}, "2", "2"},
      {"2", NULL, {-1}, "2", NULL},
  };
  open_rig("llama", NULL, false, DTYPE_F32);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    rig_check(directory_remove_all(temporary_path(&folder, "source"), &error), &error);
    rig_check(directory_remove_all(temporary_path(&folder, "out"), &error), &error);
    rig_check(directory_create(temporary_path(&folder, "source"), &error), &error);
    if (cases[i].generation) write_text("source/generation_config.json", cases[i].generation);
    set("eos_token_id", cases[i].eos);
    SavedTokens tokens = {.pad = -1}, again = {0};
    while (cases[i].ends[tokens.end_count] >= 0) {
      tokens.ends[tokens.end_count] = cases[i].ends[tokens.end_count];
      tokens.end_count++;
    }
    must_save(&tokens, "source", DTYPE_F32);
    assert_member("out/config.json", "eos_token_id", cases[i].config);
    if (!cases[i].of_generation) {
      assert_false(file_exists(temporary_path(&folder, "out/generation_config.json")));
      continue;
    }
    assert_member("out/generation_config.json", "eos_token_id", cases[i].of_generation);
    if (cases[i].generation) assert_member("out/generation_config.json", "top_p", "0.5");
    rig_check(generation_config_ends(&again, temporary_path(&folder, "out"), &error), &error);
    for (int k = 0; k < tokens.end_count; k++) {
      bool found = false;
      for (int j = 0; j < again.end_count; j++) found |= again.ends[j] == tokens.ends[k];
      assert_true(found);
    }
  }
  rig_close(&rig);
}

static void the_dtype_stands_once(void **state) {
  (void)state;
  open_rig("llama", NULL, false, DTYPE_F32);
  set("torch_dtype", "\"float16\"");
  set("dtype", "\"float32\"");
  must_save(NULL, NULL, DTYPE_BF16);
  assert_member("out/config.json", "dtype", "\"bfloat16\"");
  assert_member("out/config.json", "torch_dtype", "absent");
  set("dtype", NULL);
  must_save(NULL, NULL, DTYPE_BF16);
  assert_member("out/config.json", "dtype", "absent");
  assert_member("out/config.json", "torch_dtype", "\"bfloat16\"");
  rig_close(&rig);
}

/* The zero point is that of the head as it was trained. */
static void the_score_head_is_never_rounded(void **state) {
  (void)state;
  SafetensorsSet saved;
  Error error = {0};
  open_rig("llama_score", NULL, true, DTYPE_BF16);
  float *weight = rig.head.weight.data;
  weight[0] = 1 + 0x1p-20f;
  must_save(NULL, NULL, DTYPE_BF16);
  rig_check(safetensors_set_open(&saved, temporary_path(&folder, "out"), "model", &error), &error);
  for (size_t i = 0; i < saved.count; i++) {
    const bool head = strcmp(saved.entries[i]->name, "score.weight") == 0;
    assert_int_equal(saved.entries[i]->dtype, head ? DTYPE_F32 : DTYPE_BF16);
    if (head) assert_memory_equal(saved.entries[i]->data, weight, tensor_bytes(rig.head.weight));
  }
  safetensors_set_close(&saved);
  rig_close(&rig);
}

static void numbers_that_do_not_fit_are_refused(void **state) {
  (void)state;
  open_rig("llama", NULL, false, DTYPE_F32);
  float *weight = rig.model.tensors[3].value.data, kept = weight[5];
  weight[5] = 65519; /* the largest that is rounded to a number of F16 */
  must_save(NULL, NULL, DTYPE_F16);
  Error error = {0};
  rig_check(directory_remove_all(temporary_path(&folder, "out"), &error), &error);
  weight[5] = 65520;
  weight[7] = -1e9f;
  must_not_save(DTYPE_F16, ERROR_MODEL, "2 numbers are beyond what F16 can hold");
  must_not_save(DTYPE_F16, ERROR_MODEL, rig.model.tensors[3].name);
  assert_false(directory_exists(temporary_path(&folder, "out")));
  must_save(NULL, NULL, DTYPE_BF16);
  weight[5] = kept;
  rig_close(&rig);
}

/* Of a last step that went too far, say. */
static void numbers_that_are_not_finite_are_refused(void **state) {
  (void)state;
  static const DType dtypes[] = {DTYPE_F32, DTYPE_BF16, DTYPE_F16};
  char expected[160];
  for (size_t held = 0; held < 2; held++) {
    open_rig("llama", NULL, false, dtypes[held]);
    const ModelTensor *tensor = &rig.model.tensors[3];
    for (size_t i = 0; i < 2; i++) {
      const float wrong = i ? NAN : -INFINITY;
      dtype_convert((char *)tensor->value.data + (7 + i) * dtype_size(dtypes[held]), dtypes[held], &wrong,
                    DTYPE_F32, 1);
    }
    snprintf(expected, sizeof expected, "%s: 2 of %lld values are not finite (NaN or infinite): not saved",
             tensor->name, (long long)tensor_count(tensor->value));
    for (size_t i = 0; i < 3; i++) must_not_save(dtypes[i], ERROR_MODEL, expected);
    assert_false(directory_exists(temporary_path(&folder, "out")));
    rig_close(&rig);
  }
  open_rig("llama_score", NULL, true, DTYPE_F32);
  ((float *)rig.head.weight.data)[3] = NAN;
  must_not_save(DTYPE_F32, ERROR_MODEL, "score.weight: 1 of 32 values are not finite");
  rig_close(&rig);
}

static void merged_numbers_are_finite(void **state) {
  (void)state;
  open_rig("llama", "llama_qv", false, DTYPE_F32);
  for (int id = 0; id < rig.adapter.count; id++) {
    LoraPair *pair = &rig.adapter.pairs[id];
    if (tensor_is_none(pair->a.value)) continue;
    for (int64_t i = 0; i < tensor_count(pair->a.value); i++) ((float *)pair->a.value.data)[i] = 3e38f;
    for (int64_t i = 0; i < tensor_count(pair->b.value); i++) ((float *)pair->b.value.data)[i] = 3e38f;
    break;
  }
  must_not_save(DTYPE_F32, ERROR_MODEL,
                "q_proj.weight: with the adapter added, 1024 numbers are infinite or NaN");
  assert_false(directory_exists(temporary_path(&folder, "out")));
  rig_close(&rig);
}

static void old_weights_go(void **state) {
  (void)state;
  open_rig("llama", NULL, false, DTYPE_F32);
  write_text("out/model-00001-of-00002.safetensors", "old");
  write_text("out/model-00002-of-00002.safetensors", "old");
  write_text("out/model.safetensors.index.json", "old");
  write_text("out/model-notes.safetensors", "mine");
  write_text("out/model-1-of-2.safetensors", "mine");
  must_save(NULL, NULL, DTYPE_F32);
  assert_false(file_exists(temporary_path(&folder, "out/model-00001-of-00002.safetensors")));
  assert_false(file_exists(temporary_path(&folder, "out/model-00002-of-00002.safetensors")));
  assert_false(file_exists(temporary_path(&folder, "out/model.safetensors.index.json")));
  assert_true(file_exists(temporary_path(&folder, "out/model-notes.safetensors")));
  assert_true(file_exists(temporary_path(&folder, "out/model-1-of-2.safetensors")));
  write_text("out/model-00001-of-00002.safetensors/x", "cannot be unlinked");
  must_not_save(DTYPE_F32, ERROR_FILE, "cannot remove");
  must_not_save(DTYPE_F32, ERROR_FILE, "model-00001-of-00002.safetensors");
  rig_close(&rig);
}

static void the_files_of_the_tokenizer_and_the_code_come_along(void **state) {
  (void)state;
  static const char *const taken[] = {"tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "tokenizer.model",
                                      "tokenizer.model.v3",
                                      "spiece.model",
                                      "tekken.json",
                                      "qwen.tiktoken",
                                      "tokenization_qwen.py",
                                      "modeling_qwen.py",
                                      "generation_utils.py",
                                      "chat_template.jinja",
                                      "additional_chat_templates/tool_use.jinja",
                                      "generation_config.json"};
  static const char *const left[] = {"README.md", "training_args.bin", "model.safetensors.index.json",
                                     "pytorch_model.bin", "my_tokenizer.json"};
  char name[128];
  open_rig("llama", NULL, false, DTYPE_F32);
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    snprintf(name, sizeof name, "source/%s", taken[i]);
    write_text(name, "{}");
  }
  for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
    snprintf(name, sizeof name, "source/%s", left[i]);
    write_text(name, "{}");
  }
  must_save(NULL, "source", DTYPE_F32);
  for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
    snprintf(name, sizeof name, "out/%s", taken[i]);
    if (!file_exists(temporary_path(&folder, name))) fail_msg("%s is missing", name);
  }
  for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
    snprintf(name, sizeof name, "out/%s", left[i]);
    if (file_exists(temporary_path(&folder, name))) fail_msg("%s was copied", name);
  }
  rig_close(&rig);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_folder, close_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(padding_is_never_an_end),
      TEST(the_ends_of_training_are_written),
      TEST(the_dtype_stands_once),
      TEST(the_score_head_is_never_rounded),
      TEST(numbers_that_do_not_fit_are_refused),
      TEST(numbers_that_are_not_finite_are_refused),
      TEST(merged_numbers_are_finite),
      TEST(old_weights_go),
      TEST(the_files_of_the_tokenizer_and_the_code_come_along),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
