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

/* Records of several batches (datasets/team.c): sound ones of different lengths, some with nothing to learn and some too long.
 * `broken`: this line's answer is a number; `torn`: this line is no JSON. */
static void write_many(const char *path, int broken, int torn) {
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  for (int line = 1; line <= 1000; line++) {
    if (line == torn) {
      fputs("{\"prompt\": \n", file);
    } else if (line == broken) {
      fputs("{\"prompt\": \"Add\", \"completion\": 7}\n", file);
    } else {
      fprintf(file, "{\"prompt\": \"Add %d\", \"completion\": \"", line);
      for (int k = 0; k < line % 23; k++) fprintf(file, "one%s", line % 29 ? " " : " and another ");
      fprintf(file, "\", \"key_%d\": 1}\n", line / 300);
    }
  }
  assert_int_equal(fclose(file), 0);
}

static void threads_make_the_same_cache(void **state) {
  World *world = *state;
  char path[512], caches[2][512];
  FileMap maps[2];
  Dataset datasets[2];
  Error error = {0};
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "many.jsonl"));
  write_many(path, 0, 0);
  for (int i = 0; i < 2; i++) {
    DatasetOptions options = options_of(world, DATASET_SFT);
    snprintf(caches[i], sizeof caches[i], "%s", temporary_path(&world->temporary, i ? "five" : "one"));
    options.cache_dir = caches[i];
    options.threads = i ? 5 : 1;
    options.max_length = 60;
    if (!dataset_open_file(&datasets[i], path, &options, &error)) fail_msg("%s", error.message);
    maps[i] = datasets[i].sources[0].map;
  }
  const DatasetCounts *counts = &datasets[0].sources[0].counts;
  assert_int_equal(counts->records, 1000);
  assert_true(counts->too_long > 0 && counts->examples + counts->too_long + counts->no_loss == 1000);
  assert_string_equal(datasets[0].sources[0].passed.text, "key_0, key_1, key_2, key_3");
  assert_int_equal(maps[0].size, maps[1].size);
  assert_memory_equal(maps[0].data, maps[1].data, maps[0].size);
  for (int i = 0; i < 2; i++) dataset_close(&datasets[i]);
}

/* Of several faults the first in the file is said, whoever finds it. */
static void the_first_fault_is_said(void **state) {
  World *world = *state;
  static const int faults[][3] = {{700, 703, 700}, {703, 700, 700}, {1000, 0, 1000}, {1, 2, 1}};
  char path[512], expected[600];
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "faults.jsonl"));
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
    for (int threads = 1; threads <= 4; threads += 3) {
      DatasetOptions options = options_of(world, DATASET_SFT);
      Dataset dataset;
      Error error = {0};
      options.threads = threads;
      write_many(path, faults[i][0], faults[i][1]);
      assert_false(dataset_open_file(&dataset, path, &options, &error));
      snprintf(expected, sizeof expected, "%s:%d:", path, faults[i][2]);
      if (!strstr(error.message, expected)) fail_msg("'%s' is not in: %s", expected, error.message);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_place_is_said),
                                     cmocka_unit_test(threads_make_the_same_cache),
                                     cmocka_unit_test(the_first_fault_is_said)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
