/* A record that cannot be tokenised says its file and line, in every kind of data. */
#include "tests/unit/datasets_world.h"

static void the_place_is_said(void **state) {
  World *world = *state;
  static const struct {
    DatasetKind kind;
    const char *sound, *broken; /* "b" is in no vocabulary, and neither is what would stand for it */
  } cases[] = {
      {DATASET_TEXT, "{\"text\": \"aa\"}", "{\"text\": \"aba\"}"},
      {DATASET_SFT, "{\"text\": \"aa\"}", "{\"text\": \"aba\"}"},
      {DATASET_SFT, "{\"prompt\": \"a\", \"completion\": \"a\"}",
       "{\"prompt\": \"a\", \"completion\": \"b\"}"},
      {DATASET_PROMPT, "{\"prompt\": \"a\"}", "{\"prompt\": \"b\"}"},
      {DATASET_PREFERENCE, "{\"prompt\": \"a\", \"chosen\": \"a\", \"rejected\": \"aa\"}",
       "{\"prompt\": \"a\", \"chosen\": \"a\", \"rejected\": \"b\"}"},
  };
  char directory[512], path[512], expected[600];
  Error error = {0};
  snprintf(directory, sizeof directory, "%s", temporary_path(&world->temporary, "narrow"));
  assert_true(directory_create(directory, &error));
  write_text(
      temporary_path(&world->temporary, "narrow/tokenizer.json"),
      "{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"</s>\": 1, \"\\n\": 2}, \"merges\": [], "
      "\"unk_token\": \"<unk>\"}, \"added_tokens\": [{\"id\": 1, \"content\": \"</s>\", \"special\": "
      "true}]}");
  write_text(temporary_path(&world->temporary, "narrow/tokenizer_config.json"), "{\"eos_token\": \"</s>\"}");
  Tokenizer *tokenizer = tokenizer_open(directory, &error);
  ChatTemplate plain;
  if (!tokenizer || !chat_template_init(&plain, tokenizer, &(ChatOptions){.name = "plain"}, &error))
    fail_msg("%s", error.message);
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "place.jsonl"));
  snprintf(expected, sizeof expected, "%s:3: unk_token <unk> is not in the tokenizer's vocabulary", path);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char text[512];
    Dataset dataset;
    DatasetOptions options = options_of(world, cases[i].kind);
    options.tokenizer = tokenizer;
    options.chat = &plain;
    snprintf(text, sizeof text, "%s\n\n%s\n", cases[i].sound, cases[i].broken);
    write_text(path, text);
    error = (Error){0};
    assert_false(dataset_open_file(&dataset, path, &options, &error));
    if (!strstr(error.message, expected))
      fail_msg("case %zu: '%s' is not in: %s", i, expected, error.message);
    assert_int_equal(error.code, ERROR_MODEL);
  }
  chat_template_free(&plain);
  tokenizer_free(tokenizer);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_place_is_said)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
