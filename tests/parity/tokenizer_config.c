/* tokenizer.json with the files beside it against AutoTokenizer (tests/fixtures/tokenizer/configs.json). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../temporary.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

#include <string.h>

static json_t *fixture;

static int open_fixture(void **state) {
  (void)state;
  Error error = {0};
  fixture = json_file_read(FIXTURES "/tokenizer/configs.json", &error);
  return fixture ? 0 : -1;
}

static int close_fixture(void **state) {
  (void)state;
  json_decref(fixture);
  return 0;
}

static void write_case(Temporary *t, const json_t *item) {
  char path[512];
  Error error = {0};
  const char *name;
  size_t i;
  json_t *value;
  snprintf(path, sizeof path, FIXTURES "/tokenizer/%s/tokenizer.json",
           json_string_value(json_object_get(item, "family")));
  json_t *root = json_file_read(path, &error);
  assert_non_null(root);
  json_array_foreach(json_object_get(item, "list"), i, value) {
    json_array_append(json_object_get(root, "added_tokens"), value);
  }
  json_object_update(root, json_object_get(item, "changes"));
  assert_true(json_file_write(temporary_path(t, "tokenizer.json"), root, &error));
  json_decref(root);
  json_object_foreach(json_object_get(item, "files"), name, value) {
    assert_true(json_file_write(temporary_path(t, name), value, &error));
  }
}

static void check_ids(const Tokenizer *tokenizer, const char *text, bool special, const json_t *expected,
                      const char *name, IntArray *ids) {
  Error error = {0};
  ids->size = 0;
  assert_true(tokenizer_encode(tokenizer, text, strlen(text), special, ids, &error));
  bool same = ids->size == json_array_size(expected);
  for (size_t i = 0; same && i < ids->size; i++)
    same = ids->data[i] == json_integer_value(json_array_get(expected, i));
  if (same) return;
  for (size_t i = 0; i < ids->size; i++) print_error("%d ", ids->data[i]);
  fail_msg("%s: \"%s\" is tokenised otherwise (special %d)", name, text, (int)special);
}

static int id_of(const json_t *item, const char *key) {
  const json_t *value = json_object_get(item, key);
  return json_is_integer(value) ? (int)json_integer_value(value) : -1;
}

static void check_results(const Tokenizer *tokenizer, const json_t *item, const char *name) {
  const json_t *texts = json_object_get(fixture, "texts"), *results = json_object_get(item, "results");
  IntArray ids = {0};
  for (size_t i = 0; i < json_array_size(texts); i++) {
    const char *text = json_string_value(json_array_get(texts, i));
    const json_t *result = json_array_get(results, i);
    Buffer shown = {0};
    Error error = {0};
    check_ids(tokenizer, text, false, json_object_get(result, "bare"), name, &ids);
    check_ids(tokenizer, text, true, json_object_get(result, "ids"), name, &ids);
    assert_true(tokenizer_decode(tokenizer, ids.data, ids.size, true, &shown, &error));
    const char *expected = json_string_value(json_object_get(result, "shown"));
    if (strcmp(shown.data ? shown.data : "", expected) != 0)
      fail_msg("%s: \"%s\" is shown as \"%s\"", name, expected, shown.data);
    buffer_free(&shown);
  }
  int_array_free(&ids);
  if (tokenizer_vocab_size(tokenizer) != id_of(item, "size"))
    fail_msg("%s: %d tokens", name, tokenizer_vocab_size(tokenizer));
  if (tokenizer_pad(tokenizer) != id_of(item, "pad")) fail_msg("%s: pad %d", name, tokenizer_pad(tokenizer));
  bool by_class = strcmp(json_string_value(json_object_get(item, "class")), "TokenizersBackend") != 0;
  if (by_class) return; /* classes have names of their own for what no file names */
  if (tokenizer_eos(tokenizer) != id_of(item, "eos")) fail_msg("%s: eos %d", name, tokenizer_eos(tokenizer));
  if (tokenizer_bos(tokenizer) != id_of(item, "bos")) fail_msg("%s: bos %d", name, tokenizer_bos(tokenizer));
}

static void files_mean_what_they_mean_to_autotokenizer(void **state) {
  (void)state;
  size_t i, refused_count = 0;
  json_t *item;
  json_array_foreach(json_object_get(fixture, "cases"), i, item) {
    const char *name = json_string_value(json_object_get(item, "name"));
    const char *refused = json_string_value(json_object_get(item, "refused"));
    Temporary t;
    Error error = {0};
    temporary_open(&t);
    write_case(&t, item);
    Tokenizer *tokenizer = tokenizer_open(t.directory, &error);
    if (!tokenizer && !refused) fail_msg("%s: %s", name, error.message);
    if (tokenizer && refused) fail_msg("%s: opened", name);
    if (tokenizer) check_results(tokenizer, item, name);
    if (refused && !strstr(error.message, refused)) fail_msg("%s: %s", name, error.message);
    refused_count += refused != NULL;
    tokenizer_free(tokenizer);
    temporary_close(&t);
  }
  assert_true(i > 40 && refused_count < 5);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(files_mean_what_they_mean_to_autotokenizer)};
  return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
