/* Opening tokenizers: what is read from which file, and what is said about files that are broken. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/companions.h"
#include "base/file.h"
#include "base/random.h"
#include "tokenizer/tokenizer.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[] = "/tmp/drover-tokenizer-XXXXXX";

static int set_up(void **state) {
  (void)state;
  return mkdtemp(directory) ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  Error error = {0};
  return directory_remove_all(directory, &error) ? 0 : -1;
}

static void write_file(const char *name, const char *text) {
  char path[512];
  Error error = {0};
  snprintf(path, sizeof path, "%s/%s", directory, name);
  assert_true(file_write_text(path, text, &error));
}

static void remove_file(const char *name) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  remove(path);
}

static json_t *load_family(const char *family) {
  char path[512];
  json_error_t problem;
  snprintf(path, sizeof path, FIXTURES "/tokenizer/%s/tokenizer.json", family);
  json_t *root = json_load_file(path, 0, &problem);
  if (!root) fail_msg("%s: %s", path, problem.text);
  return root;
}

static void write_json(const char *name, const json_t *root) {
  char *text = json_dumps(root, 0);
  write_file(name, text);
  free(text);
}

/* Only tokenizer.json, of a family. */
static void start_with(const char *family) {
  static const char *const others[] = {"tokenizer_config.json",  "special_tokens_map.json",
                                       "generation_config.json", "config.json",
                                       "chat_template.jinja",    "added_tokens.json"};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) remove_file(others[i]);
  json_t *root = load_family(family);
  write_json("tokenizer.json", root);
  json_decref(root);
}

static Tokenizer *open_here(void) {
  Error error = {0};
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  return tokenizer;
}

static void expect_failure(ErrorCode code, const char *part) {
  Error error = {0};
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  if (tokenizer) fail_msg("opened, but \"%s\" was expected", part);
  if (!strstr(error.message, part)) fail_msg("\"%s\" does not say \"%s\"", error.message, part);
  assert_int_equal(error.code, code);
}

/* ---- broken files ---- */

/* Member `key` of the object at `place` ("model", "pre_tokenizer.pretokenizers[0]" ...) becomes `value`. */
typedef struct Damage {
  const char *family, *place, *key;
  const char *value; /* JSON; NULL removes the member */
  const char *says;  /* part of the message */
} Damage;

static const Damage damages[] = {
    {"gpt2", "", "model", NULL, "tokenizer.json: model: missing"},
    {"gpt2", "", "model", "[]", "model: expected an object, found a list"},
    {"gpt2", "model", "type", "\"Other\"", "tokenizer model Other is not supported"},
    {"gpt2", "model", "type", "\"Unigram\"", "model.vocab: expected a list, found an object"},
    {"gpt2", "", "model", "{\"type\": \"Unigram\", \"vocab\": [[\"a\", 0], [\"b\"]]}",
     "model.vocab[1]: expected [\"token\", score]"},
    {"gpt2", "", "model", "{\"type\": \"Unigram\", \"vocab\": [[\"a\", 0]], \"unk_id\": 1}",
     "model.unk_id: expected"},
    {"gpt2", "model", "type", "\"WordLevel\"", "model.unk_token: expected a string, found nothing"},
    {"gpt2", "", "model", "{\"type\": \"WordPiece\", \"vocab\": {}, \"unk_token\": \"a\"}",
     "model.max_input_chars_per_word: expected"},
    {"gpt2", "model", "type", "3", "model.type: expected a string, found a number"},
    {"gpt2", "model", "vocab", NULL, "model.vocab: expected an object, found nothing"},
    {"gpt2", "model", "vocab", "{\"a\": -1}", "token \"a\": expected an id"},
    {"gpt2", "model", "vocab", "{\"a\": \"b\"}", "token \"a\": expected an id"},
    {"gpt2", "model", "vocab", "{\"a\": 1e300}", "token \"a\": expected an id"},
    {"gpt2", "model", "vocab", "{\"a\": 999999999}", "token \"a\": expected an id"},
    {"gpt2", "model", "vocab", "{\"a\": 0, \"b\": 0}", "have the same id 0"},
    {"gpt2", "model", "merges", NULL, "model.merges: expected a list, found nothing"},
    {"gpt2", "model", "merges", "[\"ab\"]", "model.merges[0]: expected two tokens"},
    {"gpt2", "model", "merges", "[\"h e\", \"a b c\"]", "model.merges[1]: expected two tokens"},
    {"gpt2", "model", "merges", "[[\"a\"]]", "model.merges[0]: expected"},
    {"gpt2", "model", "merges", "[[\"a\", 5]]", "model.merges[0][1]: expected a string"},
    {"gpt2", "model", "merges", "[[\"a\", \"zzz\"]]", "token \"zzz\" is not in the vocabulary"},
    {"gpt2", "model", "merges", "[[\"q\", \"~\"]]", "merged token \"q~\" is not in the vocabulary"},
    {"gpt2", "model", "dropout", "0.1", "model.dropout: BPE dropout is not supported"},
    {"gpt2", "model", "byte_fallback", "1", "model.byte_fallback: expected true or false"},
    {"gpt2", "", "pre_tokenizer", "{\"type\": \"Other\"}", "pre-tokenizer Other is not supported"},
    {"gpt2", "", "pre_tokenizer", "{\"type\": \"CharDelimiterSplit\", \"delimiter\": \"ab\"}",
     "delimiter must be one character"},
    {"gpt2", "", "pre_tokenizer", "{\"type\": \"FixedLength\", \"length\": 0}",
     "pre_tokenizer.length: expected"},
    {"gpt2", "", "pre_tokenizer", "{}", "pre_tokenizer.type: expected a string, found nothing"},
    {"gpt2", "", "pre_tokenizer", "7", "pre_tokenizer: expected an object"},
    {"gpt2", "pre_tokenizer", "add_prefix_space", "\"no\"",
     "pre_tokenizer.add_prefix_space: expected true or false"},
    {"llama3", "pre_tokenizer.pretokenizers[0]", "pattern", "{\"Regex\": \"(\"}",
     "pre_tokenizer.pretokenizers[0].pattern"},
    {"llama3", "pre_tokenizer.pretokenizers[0]", "pattern", "{\"Regex\": \"[a&&b]\"}", "intersection"},
    {"llama3", "pre_tokenizer.pretokenizers[0]", "pattern", "{\"Regex\": \"\\\\bword\"}",
     "this escape is not supported"},
    {"llama3", "pre_tokenizer.pretokenizers[0]", "behavior", "\"Sideways\"", "unknown behavior Sideways"},
    {"llama3", "pre_tokenizer.pretokenizers[0]", "behavior", NULL,
     "behavior: expected a string, found nothing"},
    {"llama2_metaspace", "pre_tokenizer", "replacement", "\"ab\"", "replacement must be one character"},
    {"llama2_metaspace", "pre_tokenizer", "prepend_scheme", "\"last\"", "unknown prepend_scheme last"},
    {"neox", "", "normalizer", "{\"type\": \"Other\"}", "normalizer Other is not supported"},
    {"neox", "", "normalizer", "{\"type\": \"BertNormalizer\"}", "normalizer.clean_text: expected"},
    {"neox", "", "normalizer", "{\"type\": \"Precompiled\"}", "normalizer.precompiled_charsmap: expected"},
    {"neox", "", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAA\"}",
     "normalizer.precompiled_charsmap: base64 text ends early"},
    {"neox", "", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AA*A\"}",
     "normalizer.precompiled_charsmap: character 2 is not base64"},
    {"neox", "", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"CAAAAAAA\"}",
     "the trie of the charsmap has 8 bytes, of 6"},
    {"neox", "", "normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"BAAAAAAAAAD/\"}",
     "a replacement of the charsmap is not UTF-8"},
    {"llama2_legacy", "normalizer.normalizers[1]", "pattern", "{}",
     "normalizer.normalizers[1].pattern.Regex: expected"},
    {"llama2_legacy", "normalizer.normalizers[0]", "prepend", "null",
     "normalizer.normalizers[0].prepend: expected"},
    {"llama2_legacy", "decoder.decoders[3]", "start", "-1", "decoder.decoders[3].start: expected a number"},
    {"llama2_legacy", "decoder", "decoders", "{}", "decoder.decoders: expected a list"},
    {"gpt2", "", "decoder", "{\"type\": \"WordPiece\"}", "decoder.prefix: expected a string"},
    {"gpt2", "", "decoder", "{\"type\": \"CTC\"}", "decoder CTC is not supported: it is for speech"},
    {"gpt2", "", "decoder", "{\"type\": \"Other\"}", "decoder Other is not supported"},
    {"gpt2", "", "post_processor", "{\"type\": \"Other\"}", "post-processor Other is not supported"},
    {"llama3", "post_processor.processors[1]", "special_tokens", "{}", "special_tokens.<|begin_of_text|>"},
    {"llama3", "post_processor.processors[1]", "single", "[]", "the text exactly once"},
    {"gpt2", "model", "end_of_word_suffix",
     "\"0123456789012345678901234567890123456789012345678901234567890123456789\"",
     "model.end_of_word_suffix: 70 bytes: at most 64"},
    {"gpt2", "model", "dropout", "\"0.1\"", "model.dropout: expected a number, found a string"},
    {"gpt2", "", "added_tokens", "{}", "added_tokens: expected a list"},
    {"gpt2", "added_tokens[0]", "content", NULL, "added_tokens[0].content: expected a string"},
    {"gpt2", "added_tokens[0]", "id", "\"x\"", "added_tokens[0].id: expected an integer"},
    {"gpt2", "added_tokens[0]", "content", "\"other\"",
     "added token \"other\" has the id 0, but Transformers gives it the next free one, 800"},
};

static json_t *at_place(json_t *root, const char *place) {
  char copy[128];
  json_t *value = root;
  snprintf(copy, sizeof copy, "%s", place);
  for (char *part = strtok(copy, "."); part; part = strtok(NULL, ".")) {
    char *bracket = strchr(part, '[');
    if (bracket) *bracket = 0;
    value = json_object_get(value, part);
    if (bracket) value = json_array_get(value, (size_t)atoi(bracket + 1));
  }
  assert_non_null(value);
  return value;
}

static void test_damage(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
    const Damage *damage = &damages[i];
    start_with(damage->family);
    json_t *root = load_family(damage->family), *object = at_place(root, damage->place);
    if (damage->value) {
      json_t *value = json_loads(damage->value, JSON_DECODE_ANY, NULL);
      assert_non_null(value);
      json_object_set_new(object, damage->key, value);
    } else {
      json_object_del(object, damage->key);
    }
    write_json("tokenizer.json", root);
    json_decref(root);
    expect_failure(ERROR_MODEL, damage->says);
    expect_failure(ERROR_MODEL, "/tokenizer.json: ");
  }
}

static void test_not_json(void **state) {
  (void)state;
  start_with("gpt2");
  char path[512];
  Buffer text = {0};
  Error error = {0};
  snprintf(path, sizeof path, "%s/tokenizer.json", directory);
  assert_true(file_read(path, &text, &error));
  for (size_t part = 1; part < 8; part++) { /* truncated */
    text.data[text.size * part / 8] = 0;
    char *copy = memory_copy_string(text.data);
    write_file("tokenizer.json", copy);
    expect_failure(ERROR_MODEL, "tokenizer.json:1: broken JSON: ");
    memory_free(copy);
    buffer_free(&text);
    start_with("gpt2");
    assert_true(file_read(path, &text, &error));
  }
  buffer_free(&text);
  write_file("tokenizer.json", "");
  expect_failure(ERROR_MODEL, "tokenizer.json");
  write_file("tokenizer.json", "[1]");
  expect_failure(ERROR_MODEL, "expected a JSON object");
  start_with("gpt2");
  write_file("tokenizer_config.json", "{\"bos_token\": 5}");
  expect_failure(ERROR_MODEL, "tokenizer_config.json: bos_token: expected a string, found a number");
  write_file("tokenizer_config.json", "{\n\n oops");
  expect_failure(ERROR_MODEL, "tokenizer_config.json:3: broken JSON: ");
  remove_file("tokenizer.json");
  remove_file("tokenizer_config.json");
  expect_failure(ERROR_FILE, "tokenizer.json");
}

static void test_deep_nesting(void **state) {
  (void)state;
  start_with("gpt2");
  json_t *root = load_family("gpt2"), *inner = json_pack("{s:s}", "type", "NFC");
  for (int i = 0; i < 100; i++) inner = json_pack("{s:s, s:[o]}", "type", "Sequence", "normalizers", inner);
  json_object_set_new(root, "normalizer", inner);
  write_json("tokenizer.json", root);
  json_decref(root);
  expect_failure(ERROR_MODEL, "nested too deeply");
}

/* Files with bytes changed at random either do not open or work. */
static void test_random_damage(void **state) {
  (void)state;
  static const char *const families[] = {"llama3", "llama2_legacy", "odd_one"};
  RandomKey key = random_key(7, RANDOM_TEST);
  size_t opened = 0, refused = 0;
  for (uint64_t round = 0; round < 300; round++) {
    char path[512];
    Buffer text = {0};
    Error error = {0};
    snprintf(path, sizeof path, FIXTURES "/tokenizer/%s/tokenizer.json", families[round % 3]);
    assert_true(file_read(path, &text, &error));
    for (uint64_t k = 0; k < 1 + round % 4; k++) {
      uint32_t at = random_below(key, round, 2 * k, (uint32_t)(round % 2 ? text.size : 1500));
      text.data[at] = (char)(32 + random_below(key, round, 2 * k + 1, 95));
    }
    write_file("tokenizer.json", text.data);
    Tokenizer *tokenizer = tokenizer_open(directory, &error);
    if (tokenizer) {
      IntArray ids = {0};
      Buffer back = {0};
      static const char sample[] = "Hello  <s> wörld\n 123 <|eot_id|>\t 早上 [LEFT]";
      opened++;
      if (tokenizer_encode(tokenizer, sample, sizeof sample - 1, true, &ids, &error))
        assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, true, &back, &error));
      int_array_free(&ids);
      buffer_free(&back);
      tokenizer_free(tokenizer);
    } else {
      refused++;
      assert_true(error.code != ERROR_NONE && error.message[0] != 0);
    }
    buffer_free(&text);
  }
  print_message("%zu opened, %zu refused\n", opened, refused);
  assert_true(opened > 10 && refused > 100);
}

/* ---- the companion files ---- */

static void test_special_ids(void **state) {
  (void)state;
  size_t count;
  start_with("smollm2");
  Tokenizer *tokenizer = open_here();
  assert_int_equal(tokenizer_bos(tokenizer), -1);
  assert_int_equal(tokenizer_eos(tokenizer), -1);
  assert_int_equal(tokenizer_unk(tokenizer), 0); /* the model's own */
  assert_true(tokenizer_is_special(tokenizer, 1) && !tokenizer_is_special(tokenizer, 50));
  assert_false(tokenizer_is_special(tokenizer, -1) || tokenizer_is_special(tokenizer, 1 << 20));
  assert_null(tokenizer_chat_template(tokenizer, "default"));
  char digest[33], other[33];
  tokenizer_digest(tokenizer, digest);
  tokenizer_free(tokenizer);

  write_file("config.json", "{\"bos_token_id\": 1, \"eos_token_id\": [2, 0], \"pad_token_id\": null}");
  tokenizer = open_here();
  assert_int_equal(tokenizer_bos(tokenizer), 1);
  assert_int_equal(tokenizer_eos(tokenizer), 2);
  assert_true(tokenizer_is_eos(tokenizer, 0) && !tokenizer_is_eos(tokenizer, 1));
  tokenizer_digest(tokenizer, other);
  assert_string_not_equal(digest, other);
  tokenizer_free(tokenizer);

  write_file("generation_config.json", "{\"eos_token_id\": 0}");
  write_file("special_tokens_map.json", "{\"pad_token\": {\"content\": \"<repo_name>\", \"lstrip\": false}}");
  write_file("tokenizer_config.json",
             "{\"bos_token\": null, \"eos_token\": {\"content\": \"<|im_end|>\"}, "
             "\"chat_template\": [{\"name\": \"rag\", \"template\": \"x\"}, "
             "{\"name\": \"default\", \"template\": \"y\"}]}");
  tokenizer = open_here();
  assert_int_equal(tokenizer_eos(tokenizer), 2);
  assert_int_equal(tokenizer_pad(tokenizer), tokenizer_id(tokenizer, "<repo_name>"));
  const int *eos = tokenizer_eos_ids(tokenizer, &count);
  assert_int_equal(count, 2); /* config.json's list does not count beside generation_config.json */
  assert_int_equal(eos[1], 0);
  assert_string_equal(tokenizer_chat_template(tokenizer, "default"), "y");
  tokenizer_free(tokenizer);
  write_file("chat_template.jinja", "{{ z }}");
  tokenizer = open_here();
  assert_string_equal(tokenizer_chat_template(tokenizer, "default"), "{{ z }}");
  tokenizer_free(tokenizer);
}

static size_t encoded(const Tokenizer *tokenizer, const char *text, bool add_special, int ids[32]) {
  Error error = {0};
  IntArray array = {0};
  assert_true(tokenizer_encode(tokenizer, text, strlen(text), add_special, &array, &error));
  assert_true(array.size <= 32);
  if (array.size > 0) memcpy(ids, array.data, array.size * sizeof *ids);
  size_t count = array.size;
  int_array_free(&array);
  return count;
}

static void test_added_specials(void **state) {
  (void)state;
  int plain[32], special[32];
  start_with("llama2_legacy");
  write_file("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}");
  Tokenizer *tokenizer = open_here(); /* the file's post-processor: BOS */
  size_t count = encoded(tokenizer, "Hello", false, plain);
  assert_int_equal(encoded(tokenizer, "Hello", true, special), count + 1);
  assert_int_equal(special[0], 1);
  assert_true(tokenizer_adds_bos(tokenizer) && !tokenizer_adds_eos(tokenizer));
  write_file(
      "tokenizer_config.json",
      "{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\", \"add_bos_token\": false, \"add_eos_token\": true}");
  assert_null(tokenizer_note(tokenizer));
  tokenizer_free(tokenizer);
  tokenizer = open_here(); /* the file decides, and that is said */
  assert_int_equal(encoded(tokenizer, "Hello", true, special), count + 1);
  assert_int_equal(special[0], 1);
  assert_non_null(strstr(tokenizer_note(tokenizer), "tokenizer_config.json: add_bos_token is false, but"));
  tokenizer_free(tokenizer);
}

static void test_config_added_tokens(void **state) {
  (void)state;
  int ids[32];
  start_with("gpt2");
  write_file("tokenizer_config.json",
             "{\"eos_token\": \"<|endoftext|>\", \"added_tokens_decoder\": {\"800\": "
             "{\"content\": \"<extra>\", \"special\": true}, \"0\": {\"content\": \"<|endoftext|>\"}}}");
  Tokenizer *tokenizer = open_here();
  assert_int_equal(tokenizer_vocab_size(tokenizer), 801);
  assert_int_equal(tokenizer_id(tokenizer, "<extra>"), 800);
  assert_null(tokenizer_token(tokenizer, 850));
  assert_int_equal(encoded(tokenizer, "<extra>", false, ids), 1);
  assert_int_equal(ids[0], 800);
  tokenizer_free(tokenizer);
  write_file("tokenizer_config.json", "{\"added_tokens_decoder\": {\"5\": {\"content\": \"<extra>\"}}}");
  expect_failure(ERROR_MODEL, "has the id 5, but Transformers gives it the next free one, 800");
  write_file("tokenizer_config.json", "{\"added_tokens_decoder\": {\"five\": {\"content\": \"<extra>\"}}}");
  expect_failure(ERROR_MODEL, "\"five\" is not an id");
}

static void test_copy_files(void **state) {
  (void)state;
  char other[] = "/tmp/drover-copy-XXXXXX", path[512];
  Error error = {0};
  Buffer first = {0}, second = {0};
  assert_non_null(mkdtemp(other));
  start_with("gpt2");
  write_file("tokenizer_config.json", "{ \"eos_token\" :\"<|endoftext|>\"}\n\n");
  write_file("config.json", "{}");
  assert_true(companions_copy(directory, other, &error));
  snprintf(path, sizeof path, "%s/tokenizer_config.json", other);
  assert_true(file_read(path, &first, &error));
  assert_string_equal(first.data, "{ \"eos_token\" :\"<|endoftext|>\"}\n\n");
  snprintf(path, sizeof path, "%s/config.json", other);
  assert_false(file_exists(path)); /* not the tokenizer's */
  Tokenizer *tokenizer = tokenizer_open(other, &error);
  assert_non_null(tokenizer);
  tokenizer_free(tokenizer);
  buffer_free(&first);
  buffer_free(&second);
  assert_true(directory_remove_all(other, &error));
}

/* Every allocation in turn fails: an error, and nothing is lost (checked by the sanitizer builds). */
static void test_out_of_memory(void **state) {
  (void)state;
  start_with("odd_one");
  long failures = 0;
  static const char text[] = "Ein  \xff Fuß 12 [LEFT] whole day";
  for (long allowed = 0;; allowed += allowed < 60 ? 1 : 1 + allowed / 16) {
    Error error = {0};
    IntArray ids = {0};
    TokenSpans spans = {0};
    Buffer back = {0};
    memory_fail_after(allowed);
    Tokenizer *tokenizer = tokenizer_open(directory, &error);
    bool done = tokenizer &&
                tokenizer_encode_spans(tokenizer, text, sizeof text - 1, true, &ids, &spans, &error) &&
                tokenizer_decode(tokenizer, ids.data, ids.size, true, &back, &error);
    memory_fail_after(-1);
    tokenizer_free(tokenizer);
    int_array_free(&ids);
    token_spans_free(&spans);
    buffer_free(&back);
    if (done) break;
    if (error.code != ERROR_MEMORY) fail_msg("allocation %ld: %s", allowed, error.message);
    failures++;
  }
  assert_true(failures > 50);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_damage),        cmocka_unit_test(test_not_json),
      cmocka_unit_test(test_deep_nesting),  cmocka_unit_test(test_random_damage),
      cmocka_unit_test(test_special_ids),   cmocka_unit_test(test_added_specials),
      cmocka_unit_test(test_copy_files),    cmocka_unit_test(test_config_added_tokens),
      cmocka_unit_test(test_out_of_memory),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
