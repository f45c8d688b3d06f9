/* GGUF as a model: what its metadata become, and what of them is refused by name. Files are those of tests/fixtures/gguf with some bytes
 * changed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/arch.h"
#include "model/gguf_config.h"
#include "model/source.h"
#include "tests/folder.h"

static char *find(Buffer *bytes, const char *text, size_t size) {
  char *found = memmem(bytes->data, bytes->size, text, size);
  assert_non_null(found);
  return found;
}

/* A fixture in which `from` is `to`, of the same length, everywhere; or, `value` not 0, the u32 behind the key `from` is that. */
static const char *changed(const char *name, const char *from, const char *to, uint32_t value) {
  char path[512];
  Buffer bytes = {0};
  Error error = {0};
  FileWriter writer;
  snprintf(path, sizeof path, FIXTURES "/gguf/%s.gguf", name);
  assert_true(file_read(path, &bytes, &error));
  for (char *at = bytes.data;
       to && (at = memmem(at, (size_t)(bytes.data + bytes.size - at), from, strlen(from)));)
    memcpy(at, to, strlen(to));
  if (value) memcpy(find(&bytes, from, strlen(from)) + strlen(from) + 4, &value, sizeof value);
  const char *made = temporary_path(&folder, "changed.gguf");
  assert_true(file_writer_open(&writer, made, &error) &&
              file_writer_write(&writer, bytes.data, bytes.size, &error) &&
              file_writer_commit(&writer, &error));
  buffer_free(&bytes);
  return made;
}

static void refused(const char *path, const char *reason) {
  Error error = {0};
  json_t *config = gguf_config_read(path, &error);
  if (config) fail_msg("was read, expected: %s", reason);
  if (error.code != ERROR_MODEL || !strstr(error.message, reason) || !strstr(error.message, "changed.gguf"))
    fail_msg("%d: %s, expected: %s", error.code, error.message, reason);
}

static double number(const json_t *config, const char *key) {
  const json_t *value = json_object_get(config, key);
  if (!json_is_number(value)) fail_msg("no number %s", key);
  return json_number_value(value);
}

static json_t *read_config(const char *name) {
  char path[512], *shown;
  Error error = {0};
  snprintf(path, sizeof path, FIXTURES "/gguf/%s.gguf", name);
  json_t *config = model_config_read(path, &shown, &error);
  if (!config) fail_msg("%s", error.message);
  memory_free(shown);
  return config;
}

/* What the models were made from (tests/fixtures/make_gguf.py). */
static void metadata_become_a_configuration(void **state) {
  (void)state;
  json_t *config = read_config("llama_mixed");
  assert_string_equal(json_string_value(json_object_get(config, "model_type")), "llama");
  assert_true(number(config, "head_dim") == 24 && number(config, "num_key_value_heads") == 2 &&
              number(config, "rms_norm_eps") == 1e-5 && number(config, "rope_theta") == 50000 &&
              number(config, "eos_token_id") == 2);
  assert_true(json_is_true(json_object_get(config, "tie_word_embeddings")));
  json_decref(config);
  config = read_config("llama3");
  const json_t *rope = json_object_get(config, "rope_scaling");
  assert_string_equal(json_string_value(json_object_get(rope, "rope_type")), "llama3");
  assert_true(number(rope, "factor") == 8);
  /* only their quotients count, and they are found to the rounding of the factors */
  const double high = number(rope, "high_freq_factor") / number(rope, "low_freq_factor");
  const double original = number(rope, "original_max_position_embeddings") / number(rope, "low_freq_factor");
  assert_true(high > 3.999 && high < 4.001 && original > 63.99 && original < 64.01);
  json_decref(config);
  config = read_config("gemma3");
  assert_int_equal(json_array_size(json_object_get(config, "layer_types")), 6);
  assert_string_equal(json_string_value(json_array_get(json_object_get(config, "layer_types"), 5)),
                      "full_attention");
  assert_true(number(config, "sliding_window") == 5 && number(config, "rope_local_base_freq") == 1e4 &&
              number(config, "query_pre_attn_scalar") == 48);
  assert_true(number(json_object_get(config, "rope_scaling"), "factor") == 2);
  json_decref(config);
}

static void architectures_are_known(void **state) {
  (void)state;
  refused(changed("llama", "llama", "lamas", 0),
          "general.architecture: lamas is not supported (known: llama, ");
  refused(changed("llama", "model", "mmpro", 0), "general.type: expected model, found mmpro");
}

static void keys_are_known(void **state) {
  (void)state;
  refused(changed("llama", "llama.vocab_size", "llama.expert_cnt", 0),
          "key 'llama.expert_cnt' is not known for llama");
  refused(changed("llama", "llama.vocab_size", NULL, 100),
          "llama.vocab_size: expected 101, the rows of token_embd.weight, found 100");
  refused(changed("llama", "llama.block_count", "llama.block_kount", 0), "llama.block_count: is missing");
  refused(changed("llama", "llama.block_count", NULL, 1000), "llama.block_count: expected at most 256");
  refused(changed("llama_mixed", "llama.attention.value_length", NULL, 23),
          "llama.attention.value_length: expected 24, the length of keys, found 23");
  refused(changed("gemma", "gemma.attention.head_count_kv", "gemma.attention.head_count_kx", 0),
          "key 'gemma.attention.head_count_kx' is not known for gemma");
}

static void scalings_are_known(void **state) {
  (void)state;
  refused(changed("llama_linear", "linear", "banana", 0),
          "llama.rope.scaling.type: banana is not supported (known: none, linear, yarn)");
  refused(changed("llama", "llama.rope.dimension_count", "llama.rope.dimension_kount", 0),
          "key 'llama.rope.dimension_kount' is not known");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(metadata_become_a_configuration),
                                     cmocka_unit_test(architectures_are_known),
                                     cmocka_unit_test(keys_are_known), cmocka_unit_test(scalings_are_known)};
  return cmocka_run_group_tests_name("unit/model_gguf", tests, open_folder, close_folder);
}
