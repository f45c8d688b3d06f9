/* Some answers to one prompt: their order and ranks, and what is left out of a record. */
#include "tests/unit/datasets_world.h"

static const char *const hello = "\"prompt\": \"Hi.\"";

/* Opens records of prompt "Hi." with what is given behind it, one a line. */
static bool open_rankings(World *world, Dataset *dataset, const DatasetOptions *options,
                          const char *const *records, size_t count, Error *error) {
  char path[512];
  Buffer text = {0};
  for (size_t i = 0; i < count; i++)
    assert_true(buffer_format(&text, error, "{%s, %s}\n", hello, records[i]));
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "rankings.jsonl"));
  write_text(path, text.data);
  buffer_free(&text);
  return dataset_open_file(dataset, path, options, error);
}

static void must_open(World *world, Dataset *dataset, const DatasetOptions *options, const char *record) {
  Error error = {0};
  if (!open_rankings(world, dataset, options, &record, 1, &error)) fail_msg("%s", error.message);
}

static DatasetCounts counts_of(const Dataset *dataset) {
  return dataset->sources[0].counts;
}

/* ---- Order ----------------------------------------------------------------------------------------- */

static void from_the_best_to_the_worst(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  open_fixture(&dataset, "ranking.jsonl", &options);
  assert_int_equal(dataset.sources[0].format, FORMAT_RANKING);
  assert_int_equal(dataset.count, 2); /* in the third all are equally good */
  assert_int_equal(counts_of(&dataset).no_loss, 1);
  assert_int_equal(counts_of(&dataset).answers, 6);
  assert_int_equal(counts_of(&dataset).pairs, 5 + 1);
  assert_int_equal(dataset.most_sequences, 4);
  const Example first = example_at(&dataset, 0);
  static const char *const texts[] = {"Blue is one.<|im_end|>", "Be short.<|im_end|>", "Blue.<|im_end|>",
                                      "No.<|im_end|>"};
  static const int ranks[] = {0, 1, 1, 2};
  static const float scores[] = {4.5f, 2, 2, 1};
  assert_int_equal(first.answer_count, 4);
  assert_null(first.loss);
  assert_true(first.margin == 0);
  expect_text(world, first.ids, NULL, 0, first.count,
              "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n");
  int tokens = 0, at = first.count;
  for (int k = 0; k < 4; k++) {
    expect_answer(world, &first, k, texts[k]);
    assert_int_equal(first.answers[k].rank, ranks[k]);
    assert_true(first.answers[k].score == scores[k]);
    assert_int_equal(first.answers[k].begin, at); /* one after another behind the prompt */
    at += first.answers[k].count;
    tokens += first.count + first.answers[k].count;
  }
  assert_int_equal(example_tokens(&first), tokens);
  assert_int_equal(example_sequences(&first), 4);
  assert_int_equal(dataset.longest, tokens);
  const Example second = example_at(&dataset, 1); /* with the longer prompt */
  assert_int_equal(dataset.longest_sequence, second.count + second.answers[0].count);
  dataset_close(&dataset);
}

/* Two answers with scores are the same example as chosen and rejected, but for what the data say of them. */
static void two_answers_are_a_pair(void **state) {
  World *world = *state;
  Dataset ranking, pair;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  must_open(world, &ranking, &options, "\"responses\": [\"Go.\", \"See you.\"], \"scores\": [1, 3]");
  const Example of_ranking = example_at(&ranking, 0);
  must_open(world, &pair, &options, "\"chosen\": \"See you.\", \"rejected\": \"Go.\", \"margin\": 0.5");
  const Example of_pair = example_at(&pair, 0);
  for (int k = 0; k < 2; k++) {
    const Sequence one = answer_of(&of_ranking, k), other = answer_of(&of_pair, k);
    assert_int_equal(one.count, other.count);
    assert_memory_equal(one.ids, other.ids, (size_t)one.count * sizeof(int));
    assert_int_equal(of_ranking.answers[k].rank, k);
    assert_int_equal(of_pair.answers[k].rank, k);
  }
  assert_int_equal(of_ranking.count, of_pair.count);
  assert_true(of_ranking.margin == 0 && of_pair.margin == 0.5f); /* a difference of scores is no margin */
  assert_true(of_ranking.answers[0].score == 3 && of_ranking.answers[1].score == 1);
  assert_true(of_pair.answers[0].score == 0.5f && of_pair.answers[1].score == 0);
  dataset_close(&ranking);
  dataset_close(&pair);
}

/* As prompts: the best answer is the reference. */
static void prompts_keep_the_best_answer(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PROMPT);
  open_fixture(&dataset, "ranking.jsonl", &options);
  const Example example = example_at(&dataset, 0);
  assert_string_equal(example.prompt, "Name a colour.");
  assert_string_equal(example.reference, "Blue is one.");
  dataset_close(&dataset);
}

/* ---- What is left out ------------------------------------------------------------------------------ */

/* The answers that stay, in order, with their ranks. */
static void expect_stay(World *world, const Dataset *dataset, const char *const *texts, const int *ranks,
                        int count) {
  const Example example = example_at(dataset, 0);
  assert_int_equal(example.answer_count, count);
  for (int k = 0; k < count; k++) {
    expect_answer(world, &example, k, texts[k]);
    assert_int_equal(example.answers[k].rank, ranks[k]);
  }
}

static const char long_one[] =
    "\"responses\": [\"Hi.\", \"the sea and the ships and the sea and the ships\", \"Go.\", \"Bye.\"], "
    "\"scores\": [3, 2, 1, 2]";

static void a_long_answer_is_left_out(void **state) {
  World *world = *state;
  Dataset all, dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  must_open(world, &all, &options, long_one);
  const int longest = (int)all.longest_sequence;
  dataset_close(&all);
  char lines[2048] = "";
  FILE *nowhere = fopen("/dev/null", "w");
  Log log;
  log_init(&log, nowhere, LOG_INFO);
  log.sink = keep_line;
  log.sink_context = lines;
  options.log = &log;
  options.max_length = longest - 1;
  must_open(world, &dataset, &options, long_one);
  expect_stay(world, &dataset, (const char *[]){"Hi.<|im_end|>", "Bye.<|im_end|>", "Go.<|im_end|>"},
              (int[]){0, 1, 2}, 3);
  assert_int_equal(counts_of(&dataset).answers_too_long, 1);
  assert_int_equal(counts_of(&dataset).answers, 3);
  assert_int_equal(counts_of(&dataset).too_long, 0);
  assert_non_null(strstr(lines, "1 of 4 answers left out of records that stay: longer than data.max_length"));
  dataset_close(&dataset);
  /* Two ranks are needed: here one is left, and the record goes. */
  static const char *const records[] = {
      "\"responses\": [\"Hi.\", \"the sea and the ships and the sea and the ships\", \"Go.\"], \"scores\": "
      "[1, 2, 1]",
      "\"responses\": [\"Hi.\", \"Go.\"], \"scores\": [1, 2]"};
  Error error = {0};
  assert_true(open_rankings(world, &dataset, &options, records, 2, &error));
  assert_int_equal(dataset.count, 1);
  assert_int_equal(counts_of(&dataset).too_long, 1);
  assert_int_equal(counts_of(&dataset).answers_too_long, 0);
  dataset_close(&dataset);
  options.truncation = TRUNCATION_ERROR;
  assert_false(open_rankings(world, &dataset, &options, (const char *[]){long_one}, 1, &error));
  assert_int_equal(error.code, ERROR_DATA);
  assert_non_null(strstr(error.message, "rankings.jsonl:1: "));
  fclose(nowhere);
}

/* With `truncate` the prompt loses as much as the longest answer needs, the same for all; an answer that is too long alone is
 * left out. */
static void cutting_is_of_the_prompt(void **state) {
  World *world = *state;
  Dataset all, cut;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  must_open(world, &all, &options, long_one);
  const Example whole = example_at(&all, 0);
  const Sequence middle = answer_of(&whole, 1);
  options.truncation = TRUNCATION_CUT;
  options.max_length = middle.count - 2;
  must_open(world, &cut, &options, long_one);
  const Example part = example_at(&cut, 0);
  assert_int_equal(part.answer_count, 4);
  assert_int_equal(part.count, whole.count - 2);
  assert_int_equal(counts_of(&cut).truncated, 1);
  for (int k = 0; k < 4; k++) {
    const Sequence before = answer_of(&whole, k), after = answer_of(&part, k);
    assert_int_equal(after.count, before.count - 2);
    assert_memory_equal(after.ids, before.ids + 2, (size_t)after.count * sizeof(int));
  }
  dataset_close(&cut);
  options.max_length = whole.answers[1].count - 1;
  must_open(world, &cut, &options, long_one);
  expect_stay(world, &cut, (const char *[]){"Hi.<|im_end|>", "Bye.<|im_end|>", "Go.<|im_end|>"},
              (int[]){0, 1, 2}, 3);
  assert_int_equal(counts_of(&cut).answers_too_long, 1);
  dataset_close(&cut);
  dataset_close(&all);
}

/* Whole conversations may have prompts of their own. */
static void prompts_that_differ_are_counted(void **state) {
  World *world = *state;
  static const struct {
    const char *record;
    uint64_t unequal;
  } cases[] = {{"\"chosen\": \"Go.\", \"rejected\": \"Bye.\"", 0},
               {"\"chosen\": \"Go.\", \"rejected\": \"Go. Bye.\"", 0}, /* one begins as the other */
               {"\"chosen\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", "
                "\"content\": \"Go.\"}], "
                "\"rejected\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", "
                "\"content\": \"Bye.\"}]",
                0},
               {"\"chosen\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", "
                "\"content\": \"Go.\"}], "
                "\"rejected\": [{\"role\": \"user\", \"content\": \"B\"}, {\"role\": \"assistant\", "
                "\"content\": \"Bye.\"}]",
                1},
               {"\"chosen\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", "
                "\"content\": \"Go.\"}], "
                "\"rejected\": [{\"role\": \"user\", \"content\": \"A\"}, {\"role\": \"assistant\", "
                "\"content\": \"Go.\"}, "
                "{\"role\": \"user\", \"content\": \"B\"}, {\"role\": \"assistant\", \"content\": \"Bye.\"}]",
                1}};
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Dataset dataset;
    must_open(world, &dataset, &options, cases[i].record);
    assert_int_equal(dataset.count, 1);
    assert_int_equal(counts_of(&dataset).unequal.records, cases[i].unequal);
    assert_int_equal(counts_of(&dataset).unequal.line, cases[i].unequal);
    dataset_close(&dataset);
  }
}

static void equal_answers(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  /* Of one rank: one of them stays. */
  must_open(world, &dataset, &options, "\"responses\": [\"Go.\", \"Hi.\", \"Go.\"], \"scores\": [1, 2, 1]");
  expect_stay(world, &dataset, (const char *[]){"Hi.<|im_end|>", "Go.<|im_end|>"}, (int[]){0, 1}, 2);
  assert_int_equal(counts_of(&dataset).answers_no_loss, 1);
  assert_int_equal(counts_of(&dataset).pairs, 1);
  dataset_close(&dataset);
  /* Of different ranks: neither. */
  must_open(world, &dataset, &options,
            "\"responses\": [\"Go.\", \"Hi.\", \"Go.\", \"Bye.\"], \"scores\": [1, 2, 3, 0]");
  expect_stay(world, &dataset, (const char *[]){"Hi.<|im_end|>", "Bye.<|im_end|>"}, (int[]){0, 1}, 2);
  assert_int_equal(counts_of(&dataset).answers_no_loss, 2);
  dataset_close(&dataset);
  Error error = {0};
  static const char *const nothing[] = {"\"responses\": [\"Go.\", \"Go.\"], \"scores\": [1, 2]",
                                        "\"responses\": [\"Go.\", \"Hi.\"], \"scores\": [2, 2]",
                                        "\"responses\": [\"Go.\", \"\"], \"scores\": [2, 1]"};
  assert_true(open_rankings(world, &dataset, &options, nothing, 3, &error));
  assert_int_equal(dataset.count, 1);
  assert_int_equal(counts_of(&dataset).no_loss, 2);
  assert_int_equal(counts_of(&dataset).empty, 1); /* an empty answer has its end mark */
  dataset_close(&dataset);
}

/* The verdicts of a safe-rlhf pair come along, seen from the chosen side. */
static void verdicts_stay_with_the_pair(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  for (int by_safety = 0; by_safety < 2; by_safety++) {
    options.by_safety = by_safety;
    must_open(world, &dataset, &options,
              "\"response_0\": \"Go.\", \"response_1\": \"See you.\", \"better_response_id\": 1, "
              "\"safer_response_id\": 0, \"is_response_0_safe\": true, \"is_response_1_safe\": false");
    const Example example = example_at(&dataset, 0);
    const PairLabels *labels = &example.labels;
    expect_answer(world, &example, 0, by_safety ? "Go.<|im_end|>" : "See you.<|im_end|>");
    assert_int_equal(labels->better, by_safety ? -1 : 1);
    assert_int_equal(labels->safer, by_safety ? 1 : -1);
    assert_int_equal(labels->chosen_safe, by_safety ? 1 : -1);
    assert_int_equal(labels->rejected_safe, by_safety ? -1 : 1);
    dataset_close(&dataset);
  }
  must_open(world, &dataset, &options, "\"chosen\": \"Go.\", \"rejected\": \"See you.\"");
  const PairLabels none = {0}, of_pair = example_at(&dataset, 0).labels;
  assert_memory_equal(&of_pair, &none, sizeof none);
  dataset_close(&dataset);
}

/* ---- What is refused ------------------------------------------------------------------------------- */

static void records_that_are_no_ranking(void **state) {
  World *world = *state;
  static const struct {
    const char *record, *message;
  } cases[] = {
      {"\"responses\": [\"Go.\", \"Hi.\"], \"scores\": [1, 1e39]",
       "key 'scores[1]': expected a number below 3.4e38"},
      {"\"responses\": [\"Go.\", \"Hi.\"], \"scores\": [1, 2], \"margin\": 1", "key 'margin': is of a pair"},
  };
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Dataset dataset;
    Error error = {0};
    assert_false(open_rankings(world, &dataset, &options, &cases[i].record, 1, &error));
    assert_int_equal(error.code, ERROR_DATA);
    if (!strstr(error.message, cases[i].message)) fail_msg("%s", error.message);
    assert_non_null(strstr(error.message, "rankings.jsonl:1: "));
  }
}

static void too_many_answers(void **state) {
  World *world = *state;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  for (int more = 0; more < 2; more++) {
    Dataset dataset;
    Error error = {0};
    Buffer record = {0};
    assert_true(buffer_text(&record, "\"responses\": [", &error));
    for (int k = 0; k < MOST_ANSWERS + more; k++)
      assert_true(buffer_format(&record, &error, "%s\"a%d\"", k ? "," : "", k));
    assert_true(buffer_text(&record, "], \"scores\": [", &error));
    for (int k = 0; k < MOST_ANSWERS + more; k++)
      assert_true(buffer_format(&record, &error, "%s%d", k ? "," : "", k));
    assert_true(buffer_text(&record, "]", &error));
    const char *text = record.data;
    const bool ok = open_rankings(world, &dataset, &options, &text, 1, &error);
    assert_int_equal(ok, !more);
    if (ok) {
      assert_int_equal(dataset.most_sequences, MOST_ANSWERS);
      assert_int_equal(counts_of(&dataset).pairs, MOST_ANSWERS * (MOST_ANSWERS - 1) / 2);
      dataset_close(&dataset);
    } else {
      assert_int_equal(error.code, ERROR_DATA);
      assert_non_null(strstr(error.message, "65 answers to one prompt, expected at most 64"));
    }
    buffer_free(&record);
  }
}

/* ---- Single answers -------------------------------------------------------------------------------- */

/* What is an example of each answer of a record, and how good it is: its text, and the ranks in a word. */
static void expect_singles(World *world, const char *record, const char *const *texts, const char *verdicts) {
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_UNPAIRED);
  must_open(world, &dataset, &options, record);
  assert_int_equal(dataset.count, strlen(verdicts));
  for (uint64_t i = 0; i < dataset.count; i++) {
    const Example example = example_at(&dataset, i);
    assert_int_equal(example.answer_count, 1);
    assert_int_equal(example.answers[0].rank, verdicts[i] == 'g' ? 0 : 1);
    assert_int_equal(example_sequences(&example), 1);
    assert_int_equal(example_tokens(&example), example.count + example.answers[0].count);
    expect_text(world, example.ids, NULL, 0, example.count,
                "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n");
    expect_answer(world, &example, 0, texts[i]);
  }
  assert_int_equal(dataset.most_sequences, 1);
  dataset_close(&dataset);
  must_open(world, &dataset, &options, record); /* from the cache */
  assert_true(dataset.reused);
  dataset_close(&dataset);
}

static void single_answers(void **state) {
  World *world = *state;
  static const char *const texts[] = {"Go.<|im_end|>", "See you.<|im_end|>"};
  expect_singles(world, "\"completion\": \"Go.\", \"label\": true", texts, "g");
  expect_singles(world, "\"completion\": \"Go.\", \"label\": false", texts, "b");
  expect_singles(world, "\"chosen\": \"Go.\", \"rejected\": \"See you.\"", texts, "gb");
  expect_singles(world, "\"response_0\": \"See you.\", \"response_1\": \"Go.\", \"better_response_id\": 1",
                 texts, "gb");
}

/* One that is too long is left out, or loses the earliest of its prompt; never of itself. */
static void long_single_answers(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_UNPAIRED);
  const char *record =
      "\"chosen\": \"Go.\", \"rejected\": \"the sea and the ships and the sea and the ships\"";
  must_open(world, &dataset, &options, record);
  const Example good = example_at(&dataset, 0), bad = example_at(&dataset, 1);
  const int good_tokens = example_tokens(&good), answer = bad.answers[0].count;
  options.max_length = example_tokens(&bad) - 2;
  assert_true(good_tokens <= options.max_length);
  dataset_close(&dataset);
  must_open(world, &dataset, &options, record);
  assert_int_equal(dataset.count, 1);
  assert_int_equal(counts_of(&dataset).too_long, 1);
  dataset_close(&dataset);
  options.truncation = TRUNCATION_CUT;
  must_open(world, &dataset, &options, record);
  assert_int_equal(dataset.count, 2);
  const Example cut = example_at(&dataset, 1);
  assert_int_equal(cut.answers[0].count, answer);
  assert_int_equal(example_tokens(&cut), options.max_length);
  dataset_close(&dataset);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(from_the_best_to_the_worst),
                                     cmocka_unit_test(two_answers_are_a_pair),
                                     cmocka_unit_test(prompts_keep_the_best_answer),
                                     cmocka_unit_test(a_long_answer_is_left_out),
                                     cmocka_unit_test(cutting_is_of_the_prompt),
                                     cmocka_unit_test(prompts_that_differ_are_counted),
                                     cmocka_unit_test(equal_answers),
                                     cmocka_unit_test(verdicts_stay_with_the_pair),
                                     cmocka_unit_test(records_that_are_no_ranking),
                                     cmocka_unit_test(too_many_answers),
                                     cmocka_unit_test(single_answers),
                                     cmocka_unit_test(long_single_answers)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
