/* Keys beside those of the format: honoured, refused by name, or passed over and reported. */
#include "tests/unit/datasets_world.h"

#include <sys/stat.h>

/* One record as a file of its own. */
static bool open_record(World *world, const char *record, DatasetKind kind, DatasetFormat format, Log *log,
                        Dataset *dataset, Error *error) {
  char path[512];
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "record.jsonl"));
  write_text(path, record);
  DatasetOptions options = options_of(world, kind);
  options.format = format;
  options.log = log;
  *error = (Error){0};
  return dataset_open_file(dataset, path, &options, error);
}

static void turns_can_be_left_out_of_the_loss(void **state) {
  World *world = *state;
  static const struct {
    const char *record, *loss;
  } table[] = {
      {"{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": \"assistant\", \"content\": "
       "\"Hello.\", \"weight\": 0}, {\"role\": \"user\", \"content\": \"Bye.\"}, {\"role\": \"assistant\", "
       "\"content\": \"See you.\", \"weight\": 1}]}",
       "See you.<|im_end|>"},
      {"{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": \"assistant\", \"content\": "
       "\"Hello.\", \"train\": true}, {\"role\": \"user\", \"content\": \"Bye.\"}, {\"role\": \"assistant\", "
       "\"content\": \"See you.\", \"train\": false}]}",
       "Hello.<|im_end|>"},
      {"{\"conversations\": [{\"from\": \"human\", \"value\": \"Hi.\", \"weight\": 0}, {\"from\": \"gpt\", "
       "\"value\": \"Hello.\", \"weight\": 0}, {\"from\": \"human\", \"value\": \"Bye.\", \"weight\": null}, "
       "{\"from\": \"gpt\", \"value\": \"See you.\", \"weight\": null}]}",
       "See you.<|im_end|>"},
      {"{\"instruction\": \"Bye.\", \"output\": \"See you.\", \"history\": [[\"Hi.\", \"Hello.\"]]}",
       "Hello.<|im_end|>See you.<|im_end|>"},
      {"{\"prompt\": \"Hi.\", \"completion\": \"Hello.\", \"label\": 1, \"weight\": 1}", "Hello.<|im_end|>"}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    Dataset dataset;
    Error error;
    if (!open_record(world, table[i].record, DATASET_SFT, FORMAT_AUTO, NULL, &dataset, &error)) {
      fail_msg("%s: %s", table[i].record, error.message);
    }
    Example example = example_at(&dataset, 0);
    expect_text(world, example.ids, example.loss, 0, example.count, table[i].loss);
    dataset_close(&dataset);
  }
}

static void what_is_not_honoured_is_refused_by_name(void **state) {
  World *world = *state;
  static const struct {
    const char *record;
    DatasetKind kind;
    const char *fragment;
  } table[] = {
      {"{\"prompt\": \"Hi.\", \"completion\": \"No.\", \"weight\": 0}", DATASET_SFT, "'weight': says not to"},
      {"{\"prompt\": \"Hi.\", \"completion\": \"No.\", \"weight\": 0.5}", DATASET_SFT,
       "'weight': expected 0 or 1"},
      {"{\"prompt\": \"Hi.\", \"completion\": \"No.\", \"train\": false}", DATASET_SFT,
       "'train': says not to"},
      {"{\"text\": \"No.\", \"weight\": 0}", DATASET_TEXT, "'weight': says not to"},
      {"{\"prompt\": \"Hi.\", \"completion\": \"No.\", \"system\": \"Be short.\"}", DATASET_SFT,
       "'system': is not"},
      {"{\"prompt\": \"Hi.\", \"completion\": \"No.\", \"history\": [[\"a\", \"b\"]]}", DATASET_SFT,
       "'history'"},
      {"{\"instruction\": \"Hi.\", \"output\": \"No.\", \"history\": [[\"a\"]]}", DATASET_SFT,
       "'history[0]'"},
      {"{\"instruction\": \"Hi.\", \"output\": \"No.\", \"history\": 3}", DATASET_SFT,
       "'history': expected list"},
      {"{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\", \"images\": [1]}]}", DATASET_SFT,
       "'messages[0].images'"},
      {"{\"instruction\": \"Hi.\", \"response\": \"No.\", \"tools\": [{\"a\": 1}]}", DATASET_SFT, "'tools'"},
      {"{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": \"assistant\", \"content\": "
       "\"No.\", "
       "\"weight\": \"1\"}]}",
       DATASET_SFT, "'messages[1].weight': expected 0, 1, false or true"},
      {"{\"prompt\": \"Hi.\", \"chosen\": \"Yes.\", \"rejected\": \"No.\", \"images\": [\"a.png\"]}",
       DATASET_PREFERENCE, "'images'"},
      {"{\"prompt\": \"Hi.\", \"chosen\": \"Yes.\", \"rejected\": \"No.\", \"margin\": 1e39}",
       DATASET_PREFERENCE, "'margin': expected a number below"}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    Dataset dataset;
    Error error;
    if (open_record(world, table[i].record, table[i].kind, FORMAT_AUTO, NULL, &dataset, &error)) {
      fail_msg("%s was taken", table[i].record);
    }
    assert_int_equal(error.code, ERROR_DATA);
    if (!strstr(error.message, table[i].fragment) || !strstr(error.message, "record.jsonl:1: key ")) {
      fail_msg("\"%s\" is not in \"%s\"", table[i].fragment, error.message);
    }
  }
}

/* Keys that say nothing, or that mean nothing for this use, pass; the others' names are told. */
static void other_keys_are_reported(void **state) {
  World *world = *state;
  char lines[2048] = "";
  FILE *nowhere = fopen("/dev/null", "w");
  Log log;
  log_init(&log, nowhere, LOG_INFO);
  log.sink = keep_line;
  log.sink_context = lines;
  static const char record[] =
      "{\"id\": 7, \"messages\": [{\"role\": \"user\", \"content\": \"Hi.\", \"name\": null}, {\"role\": "
      "\"assistant\", "
      "\"content\": \"Hello.\", \"tool_calls\": null, \"reasoning_content\": \"\"}], \"tools\": [], "
      "\"system\": null, "
      "\"source\": \"s\", \"idx\": 1}\n{\"id\": 8, \"messages\": [{\"role\": \"user\", \"content\": \"\"}, "
      "{\"role\": "
      "\"assistant\", \"content\": \"\"}], \"late\": 1}\n";
  for (int reuse = 0; reuse < 2; reuse++) {
    Dataset dataset;
    Error error;
    lines[0] = '\0';
    assert_true(open_record(world, record, DATASET_SFT, FORMAT_AUTO, &log, &dataset, &error));
    assert_int_equal(dataset.reused, reuse);
    assert_non_null(strstr(lines, "keys that are passed over: id, source, idx, late\n"));
    assert_non_null(strstr(lines, "1 of 2 records have an empty answer"));
    assert_int_equal(dataset.sources[0].counts.empty, 1);
    dataset_close(&dataset);
  }
  Dataset dataset;
  Error error;
  /* A raw text is what it is; a label that is a class is no verdict. */
  assert_true(open_record(world, "{\"text\": \"A text.\", \"label\": false, \"system\": \"x\"}", DATASET_TEXT,
                          FORMAT_AUTO, NULL, &dataset, &error));
  assert_string_equal(dataset.sources[0].passed.text, "label, system");
  dataset_close(&dataset);
  assert_true(open_record(world, "{\"prompt\": \"\", \"label\": false}", DATASET_PROMPT, FORMAT_AUTO, NULL,
                          &dataset, &error));
  assert_int_equal(dataset.sources[0].counts.empty, 1);
  dataset_close(&dataset);
  fclose(nowhere);
}

static void many_names_end_in_dots(void **state) {
  World *world = *state;
  Buffer record = {0};
  Error error = {0};
  Dataset dataset;
  assert_true(buffer_text(&record, "{\"text\": \"A text.\"", &error));
  for (int i = 0; i < 40; i++) assert_true(buffer_format(&record, &error, ", \"a_column_%d\": %d", i, i));
  assert_true(buffer_text(&record, "}\n", &error));
  assert_true(open_record(world, record.data, DATASET_TEXT, FORMAT_AUTO, NULL, &dataset, &error));
  const char *names = dataset.sources[0].passed.text;
  assert_string_equal(names + strlen(names) - 5, ", ...");
  assert_non_null(strstr(names, "a_column_0, a_column_1, "));
  dataset_close(&dataset);
  buffer_free(&record);
}

static bool reused_with(World *world, const char *record, const char *columns, bool by_safety) {
  char path[512];
  Dataset dataset;
  Error error = {0};
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "named.jsonl"));
  write_text(path, record);
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  options.columns = columns;
  options.by_safety = by_safety;
  if (!dataset_open_file(&dataset, path, &options, &error)) fail_msg("%s", error.message);
  const bool reused = dataset.reused;
  dataset_close(&dataset);
  return reused;
}

/* What decides the examples decides whether a cache is theirs. */
static void names_and_verdicts_are_in_the_digest(void **state) {
  World *world = *state;
  static const char record[] =
      "{\"prompt\": \"Hi.\", \"response_0\": \"Hello.\", \"response_1\": \"No.\", \"better_response_id\": 0, "
      "\"safer_response_id\": 1}\n";
  static const char swapped[] = "{\"response_0\": \"response_1\", \"response_1\": \"response_0\"}";
  assert_false(reused_with(world, record, NULL, false));
  assert_true(reused_with(world, record, NULL, false));
  assert_false(reused_with(world, record, NULL, true));
  assert_false(reused_with(world, record, swapped, true));
  assert_true(reused_with(world, record, swapped, true));
}

static void trees_without_an_answer_are_counted(void **state) {
  World *world = *state;
  Dataset dataset;
  Error error;
  assert_true(open_record(
      world,
      "{\"prompt\": {\"text\": \"Hi.\", \"role\": \"prompter\", \"replies\": []}}\n"
      "{\"prompt\": {\"text\": \"Hi.\", \"role\": \"prompter\", \"replies\": [{\"text\": \"Hello.\", "
      "\"role\": \"assistant\", \"replies\": []}]}}\n",
      DATASET_SFT, FORMAT_AUTO, NULL, &dataset, &error));
  assert_int_equal(dataset.sources[0].format, FORMAT_OASST);
  assert_int_equal(dataset.sources[0].counts.records, 2);
  assert_int_equal(dataset.sources[0].counts.no_loss, 1);
  assert_int_equal(dataset.sources[0].counts.examples, 1);
  dataset_close(&dataset);
}

static void a_directory_shows_what_it_holds(void **state) {
  World *world = *state;
  char directory[512], path[600];
  DatasetFormat format = FORMAT_AUTO;
  DatasetKind kind;
  Error error = {0};
  snprintf(directory, sizeof directory, "%s", temporary_path(&world->temporary, "shards"));
  assert_int_equal(mkdir(directory, 0700), 0);
  snprintf(path, sizeof path, "%s/a.jsonl", directory);
  write_text(path, "{\"prompt\": \"Hi.\", \"responses\": [\"a\", \"b\"], \"scores\": [1, 2]}\n");
  assert_true(dataset_detect(directory, NULL, &format, &kind, &error));
  assert_int_equal(format, FORMAT_RANKING);
  assert_int_equal(kind, DATASET_PREFERENCE);
  assert_true(dataset_detect("-", NULL, &format, &kind, &error)); /* it is known now */
  format = FORMAT_AUTO;
  assert_false(dataset_detect("-", NULL, &format, &kind, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  write_text(path, "{\"question\": \"Hi.\", \"good\": \"a\", \"bad\": \"b\"}\n");
  error = (Error){0};
  assert_true(dataset_detect(path, "{\"prompt\": \"question\", \"chosen\": \"good\", \"rejected\": \"bad\"}",
                             &format, &kind, &error));
  assert_int_equal(format, FORMAT_PREFERENCE);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(turns_can_be_left_out_of_the_loss),
                                     cmocka_unit_test(what_is_not_honoured_is_refused_by_name),
                                     cmocka_unit_test(other_keys_are_reported),
                                     cmocka_unit_test(many_names_end_in_dots),
                                     cmocka_unit_test(names_and_verdicts_are_in_the_digest),
                                     cmocka_unit_test(trees_without_an_answer_are_counted),
                                     cmocka_unit_test(a_directory_shows_what_it_holds)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
