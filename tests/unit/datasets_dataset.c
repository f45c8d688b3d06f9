/* Records of every format -> ids, masks, limits, split. */
#include "tests/unit/datasets_world.h"

#include <time.h>

/* ---- Formats and masks ----------------------------------------------------------------------------- */

static void alpaca_records(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  open_fixture(&dataset, "alpaca.jsonl", &options);
  assert_int_equal(dataset.sources[0].format, FORMAT_ALPACA);
  assert_int_equal(dataset.count, 3);
  Example example = example_at(&dataset, 1);
  assert_int_equal(example.line, 2);
  expect_loss(world, &example, "The sum is 5.<|im_end|>");
  expect_text(world, example.ids, NULL, 0, example.prompt_count,
              "<|im_start|>user\nAdd the numbers.\n\n2 and 3<|im_end|>\n<|im_start|>assistant\n");
  example = example_at(&dataset, 2);
  assert_int_equal(example.line, 4);
  expect_loss(world, &example, "Hello!<|im_end|>");
  dataset_close(&dataset);
  options.chat = &world->alpaca;
  open_fixture(&dataset, "alpaca.jsonl", &options);
  example = example_at(&dataset, 1);
  expect_loss(world, &example, "The sum is 5.</s>");
  Buffer text = {0};
  Error error = {0};
  assert_true(
      tokenizer_decode(world->tokenizer, example.ids, (size_t)example.prompt_count, false, &text, &error));
  assert_non_null(
      strstr(text.data, "### Instruction:\nAdd the numbers.\n\n### Input:\n2 and 3\n\n### Response:\n"));
  buffer_free(&text);
  assert_int_equal(example.ids[0], tokenizer_bos(world->tokenizer));
  assert_int_not_equal(example.ids[1], tokenizer_bos(world->tokenizer));
  dataset_close(&dataset);
  dataset_close(&dataset);
}

static void dialogues_learn_every_turn(void **state) {
  World *world = *state;
  static const char *const names[] = {"messages.jsonl", "sharegpt.jsonl"};
  static const DatasetFormat formats[] = {FORMAT_MESSAGES, FORMAT_SHAREGPT};
  for (int f = 0; f < 2; f++) {
    Dataset dataset;
    DatasetOptions options = options_of(world, DATASET_SFT);
    open_fixture(&dataset, names[f], &options);
    assert_int_equal(dataset.sources[0].format, formats[f]);
    assert_int_equal(dataset.count, 2);
    Example example = example_at(&dataset, 0);
    expect_loss(world, &example, "Blue is one.<|im_end|>");
    example = example_at(&dataset, 1);
    expect_loss(world, &example, "Hello.<|im_end|>See you.<|im_end|>");
    expect_text(
        world, example.ids, NULL, 0, example.count,
        "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\n"
        "Hello.<|im_end|>\n<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\nSee you.<|im_end|>");
    dataset_close(&dataset);
  }
}

static void prompt_completion_records(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  open_fixture(&dataset, "prompt_completion.jsonl", &options);
  Example example = example_at(&dataset, 1);
  expect_loss(world, &example, "Hello.<|im_end|>");
  dataset_close(&dataset);
  options.chat = &world->plain;
  open_fixture(&dataset, "prompt_completion.jsonl", &options);
  example = example_at(&dataset, 0);
  expect_loss(world, &example, "Blue is one.</s>");
  expect_text(world, example.ids, NULL, 0, example.count, "<s>Name a colour.Blue is one.</s>");
  dataset_close(&dataset);
}

static void inputs_too_when_asked(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  options.train_on_inputs = true;
  open_fixture(&dataset, "prompt_completion.jsonl", &options);
  for (uint64_t i = 0; i < dataset.count; i++) {
    Example example = example_at(&dataset, i);
    assert_int_equal(example.loss_count, example.count - 1);
    assert_int_equal(example.loss[0], 0);
    for (int t = 1; t < example.count; t++) assert_int_equal(example.loss[t], 1);
  }
  dataset_close(&dataset);
}

static void plain_text(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_TEXT);
  options.chat = NULL;
  open_fixture(&dataset, "text.jsonl", &options);
  assert_int_equal(dataset.sources[0].format, FORMAT_TEXT);
  assert_int_equal(dataset.count, 2);
  Example example = example_at(&dataset, 0);
  expect_text(world, example.ids, NULL, 0, example.count, "<s>A short text.</s>");
  expect_loss(world, &example, "A short text.</s>");
  example = example_at(&dataset, 1);
  assert_int_equal(example.line, 4);
  expect_loss(world, &example, "Zeile \u00fc mit \U0001f600 und mehr.</s>");
  dataset_close(&dataset);
}

/* The token again and again is one BOS, without a step for each that moves all the others. */
static void repeated_bos_is_dropped_at_once(void **state) {
  World *world = *state;
  enum { COUNT = 1000000 }; /* minutes when each moves the rest */
  char *path = memory_copy_string(temporary_path(&world->temporary, "bos.jsonl"));
  FILE *file = fopen(path, "w");
  assert_non_null(file);
  fputs("{\"text\": \"", file);
  for (int i = 0; i < COUNT; i++) fputs("<s>", file);
  fputs("A short text.\"}\n", file);
  assert_int_equal(fclose(file), 0);
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_TEXT);
  options.chat = NULL;
  Error error = {0};
  clock_t begin = clock();
  if (!dataset_open_file(&dataset, path, &options, &error)) fail_msg("%s", error.message);
  assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 15);
  Example example = example_at(&dataset, 0);
  expect_text(world, example.ids, NULL, 0, example.count, "<s>A short text.</s>");
  dataset_close(&dataset);
  memory_free(path);
}

static void long_text_is_cut_into_pieces(void **state) {
  World *world = *state;
  Dataset whole, pieces;
  DatasetOptions options = options_of(world, DATASET_TEXT);
  open_fixture(&whole, "text.jsonl", &options);
  options.max_length = 7;
  open_fixture(&pieces, "text.jsonl", &options);
  assert_int_equal(whole.sources[0].counts.loss_tokens, pieces.sources[0].counts.loss_tokens);
  assert_int_equal(pieces.sources[0].counts.too_long, 0);
  uint64_t at = 0;
  for (uint64_t i = 0; i < whole.count; i++) {
    Example text = example_at(&whole, i);
    int begin = 0;
    do {
      Example piece = example_at(&pieces, at++);
      assert_true(piece.count <= 7);
      assert_int_equal(piece.line, text.line);
      assert_memory_equal(piece.ids, text.ids + begin, (size_t)piece.count * sizeof(int));
      begin += piece.count - 1; /* one token of overlap */
    } while (begin + 1 < text.count);
  }
  assert_int_equal(at, pieces.count);
  dataset_close(&whole);
  dataset_close(&pieces);
}

static void preference_records(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  open_fixture(&dataset, "preference.jsonl", &options);
  assert_int_equal(dataset.sources[0].format, FORMAT_PREFERENCE);
  assert_int_equal(dataset.count, 4); /* the fifth has two equal sides */
  assert_int_equal(dataset.sources[0].counts.no_loss, 1);
  Example first = example_at(&dataset, 0);
  assert_true(first.margin == 1.5f);
  assert_null(first.loss);
  assert_int_equal(first.answer_count, 2);
  assert_int_equal(first.answers[0].rank, 0);
  assert_int_equal(first.answers[1].rank, 1);
  expect_answer(world, &first, 0, "Blue is one.<|im_end|>");
  expect_answer(world, &first, 1, "No.<|im_end|>");
  for (uint64_t i = 1; i < 4; i++) { /* message lists, whole conversations, Anthropic's text */
    Example example = example_at(&dataset, i);
    assert_true(example.margin == 0);
    expect_answer(world, &example, 0, "See you.<|im_end|>");
    expect_answer(world, &example, 1, "Go.<|im_end|>");
    const char *prompt = i == 2 ? "<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n"
                                : "<|im_start|>user\nHi.<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
                                  "<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n";
    expect_text(world, example.ids, NULL, 0, example.prompt_count, prompt);
  }
  dataset_close(&dataset);
}

static void prompt_records(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PROMPT);
  open_fixture(&dataset, "prompts.jsonl", &options);
  assert_int_equal(dataset.count, 3);
  Example example = example_at(&dataset, 0);
  assert_int_equal(example.count, example.prompt_count);
  assert_string_equal(example.prompt, "Name a colour.");
  assert_string_equal(example.reference, "");
  expect_text(world, example.ids, NULL, 0, example.count,
              "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n");
  example = example_at(&dataset, 1);
  assert_non_null(strstr(example.prompt, "Be short."));
  assert_non_null(strstr(example.prompt, "Hi."));
  example = example_at(&dataset, 2);
  assert_string_equal(example.prompt, "Bye.");
  assert_string_equal(example.reference, "See you.");
  expect_text(world, example.ids, NULL, 0, example.count,
              "<|im_start|>user\nBye.<|im_end|>\n<|im_start|>assistant\n");
  dataset_close(&dataset);
  static const char *const others[] = {"alpaca.jsonl", "messages.jsonl", "sharegpt.jsonl",
                                       "prompt_completion.jsonl", "preference.jsonl"};
  for (int i = 0; i < 5; i++) {
    open_fixture(&dataset, others[i], &options);
    example = example_at(&dataset, 0);
    assert_string_equal(example.prompt, "Name a colour.");
    assert_string_equal(example.reference, "Blue is one.");
    dataset_close(&dataset);
  }
}

/* ---- Limits ---------------------------------------------------------------------------------------- */

static void long_records_are_dropped_and_counted(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  options.max_length = 60;
  open_fixture(&dataset, "long.jsonl", &options);
  assert_int_equal(dataset.count, 2);
  assert_int_equal(dataset.sources[0].counts.records, 3);
  assert_int_equal(dataset.sources[0].counts.too_long, 1);
  assert_int_equal(example_at(&dataset, 1).line, 3);
  assert_true(dataset.longest <= 60);
  dataset_close(&dataset);
}

/* A later turn that lies beyond the limit counts, though it is not looked at; cut, the turns before it are learnt. */
static void a_turn_beyond_the_limit_is_too_long(void **state) {
  World *world = *state;
  Dataset dataset;
  Error error = {0};
  DatasetOptions options = options_of(world, DATASET_SFT);
  char path[512];
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "beyond.jsonl"));
  assert_true(file_write_text(path,
                              "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": "
                              "\"assistant\", \"content\": \"Bye.\"}, "
                              "{\"role\": \"user\", \"content\": \"0123456789 0123456789 0123456789 "
                              "0123456789 0123456789 0123456789\"}, "
                              "{\"role\": \"assistant\", \"content\": \"See you.\"}]}\n"
                              "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": "
                              "\"assistant\", \"content\": \"Bye.\"}]}\n",
                              &error));
  options.max_length = 60;
  assert_true(dataset_open_file(&dataset, path, &options, &error));
  assert_int_equal(dataset.sources[0].counts.too_long, 1);
  assert_int_equal(dataset.sources[0].counts.examples, 1);
  dataset_close(&dataset);
  options.truncation = TRUNCATION_CUT;
  assert_true(dataset_open_file(&dataset, path, &options, &error));
  assert_int_equal(dataset.sources[0].counts.truncated, 1);
  assert_int_equal(example_at(&dataset, 0).loss_count, example_at(&dataset, 1).loss_count);
  dataset_close(&dataset);
}

static void long_records_are_cut_when_asked(void **state) {
  World *world = *state;
  Dataset whole, cut;
  DatasetOptions options = options_of(world, DATASET_SFT);
  open_fixture(&whole, "long.jsonl", &options);
  Example all = example_at(&whole, 1);
  options.truncation = TRUNCATION_CUT;
  options.max_length = all.count - 5;
  open_fixture(&cut, "long.jsonl", &options);
  assert_int_equal(cut.count, 3);
  assert_int_equal(cut.sources[0].counts.truncated, 1);
  Example part = example_at(&cut, 1);
  assert_int_equal(part.count, all.count - 5); /* its beginning, and no end mark put on */
  assert_memory_equal(part.ids, all.ids, (size_t)part.count * sizeof(int));
  assert_false(tokenizer_is_eos(world->tokenizer, part.ids[part.count - 1]));
  dataset_close(&cut);
  options.max_length = all.prompt_count - 3; /* nothing of the answer is left */
  open_fixture(&cut, "long.jsonl", &options);
  assert_int_equal(cut.count, 2);
  assert_int_equal(cut.sources[0].counts.no_loss, 1);
  dataset_close(&cut);
  dataset_close(&whole);
}

static void long_prompts_keep_their_end(void **state) {
  World *world = *state;
  Dataset whole, cut;
  DatasetOptions options = options_of(world, DATASET_PROMPT);
  options.chat = &world->plain; /* with BOS in front */
  open_fixture(&whole, "long.jsonl", &options);
  Example all = example_at(&whole, 1);
  options.truncation = TRUNCATION_CUT;
  options.max_length = 9;
  open_fixture(&cut, "long.jsonl", &options);
  Example part = example_at(&cut, 1);
  assert_int_equal(part.count, 9);
  assert_int_equal(part.ids[0], tokenizer_bos(world->tokenizer));
  assert_memory_equal(part.ids + 1, all.ids + all.count - 8, 8 * sizeof(int));
  dataset_close(&cut);
  dataset_close(&whole);
}

static void long_preferences_lose_their_first_tokens(void **state) {
  World *world = *state;
  Dataset whole, cut;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  open_fixture(&whole, "preference.jsonl", &options);
  Example all = example_at(&whole, 1);
  const Sequence chosen = answer_of(&all, 0), rejected = answer_of(&all, 1);
  int longer = chosen.count > rejected.count ? chosen.count : rejected.count;
  options.truncation = TRUNCATION_CUT;
  options.max_length = longer - 4;
  open_fixture(&cut, "preference.jsonl", &options);
  Example part = example_at(&cut, 1);
  const Sequence cut_chosen = answer_of(&part, 0), cut_rejected = answer_of(&part, 1);
  assert_int_equal(cut_chosen.count, chosen.count - 4);
  assert_int_equal(cut_rejected.count, rejected.count - 4);
  assert_int_equal(cut.longest, example_tokens(&part));
  assert_int_equal(cut.longest_sequence, longer - 4);
  assert_int_equal(part.prompt_count, all.prompt_count - 4);
  assert_memory_equal(cut_chosen.ids, chosen.ids + 4, (size_t)cut_chosen.count * sizeof(int));
  assert_memory_equal(cut_rejected.ids, rejected.ids + 4, (size_t)cut_rejected.count * sizeof(int));
  dataset_close(&cut);
  options.max_length = 3; /* no answer fits: cutting one would falsify it */
  Error error = {0};
  assert_false(dataset_open_file(&cut, FIXTURES "/data/preference.jsonl", &options, &error));
  assert_int_equal(error.code, ERROR_DATA);
  assert_non_null(strstr(error.message, "no usable example"));
  dataset_close(&whole);
}

static void long_records_can_be_an_error(void **state) {
  World *world = *state;
  Dataset dataset;
  Error error = {0};
  DatasetOptions options = options_of(world, DATASET_SFT);
  options.truncation = TRUNCATION_ERROR;
  options.max_length = 60;
  assert_false(dataset_open_file(&dataset, FIXTURES "/data/long.jsonl", &options, &error));
  assert_int_equal(error.code, ERROR_DATA);
  assert_non_null(strstr(error.message, "long.jsonl:2: "));
  assert_non_null(strstr(error.message, "data.max_length is 60"));
}

/* Every allocation in turn fails once: a clean error, nothing lost (the address sanitizer looks). */
static void memory_may_run_out(void **state) {
  World *world = *state;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  const char *path = FIXTURES "/data/ranking.jsonl"; /* what takes most */
  char cache[512];
  snprintf(cache, sizeof cache, "%s/memory", world->temporary.directory);
  options.cache_dir = cache;
  bool ok = false;
  long count = 0;
  for (; !ok; count++) {
    Dataset dataset;
    Error error = {0};
    assert_true(count < 10000);
    memory_fail_after(count);
    ok = dataset_open_file(&dataset, path, &options, &error);
    memory_fail_after(-1);
    if (ok) {
      dataset_close(&dataset);
    } else {
      assert_int_equal(error.code, ERROR_MEMORY);
    }
  }
  assert_true(count > 30);
}

/* ---- Several sources, split ------------------------------------------------------------------------ */

static void sources_one_after_another(void **state) {
  World *world = *state;
  Error error = {0};
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  OptionSource items[] = {{.path = (char *)FIXTURES "/data/messages.jsonl", .weight = 1},
                          {.path = (char *)FIXTURES "/data/alpaca.jsonl", .weight = 0.5}};
  OptionSources sources = {.items = items, .count = 2};
  assert_true(dataset_open(&dataset, &sources, &options, &error));
  assert_int_equal(dataset.count, 5);
  Example example = example_at(&dataset, 4);
  assert_int_equal(example.source, 1);
  assert_int_equal(example.line, 4);
  dataset_close(&dataset);
  items[1].weight = 0;
  assert_false(dataset_open(&dataset, &sources, &options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
}

static void split_keeps_prompts_together(void **state) {
  World *world = *state;
  Error error = {0};
  Buffer text = {0};
  for (int i = 0; i < 100; i++) { /* 50 prompts, each twice */
    assert_true(buffer_format(&text, &error,
                              "{\"prompt\": \"Question %d?\", \"completion\": \"Answer %d\"}\n", i / 2, i));
  }
  char path[512];
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "split.jsonl"));
  write_text(path, text.data);
  buffer_free(&text);
  Dataset train, eval, again;
  DatasetOptions options = options_of(world, DATASET_SFT);
  options.eval_fraction = 0.2;
  options.part = DATASET_TRAIN_PART;
  assert_true(dataset_open_file(&train, path, &options, &error));
  options.part = DATASET_EVAL_PART;
  assert_true(dataset_open_file(&eval, path, &options, &error));
  assert_true(eval.reused);
  assert_int_equal(train.count, 80);
  assert_int_equal(eval.count, 20);
  int side[101] = {0};
  for (uint64_t i = 0; i < train.count; i++) side[example_at(&train, i).line] = 1;
  for (uint64_t i = 0; i < eval.count; i++) {
    assert_int_equal(side[example_at(&eval, i).line], 0);
    side[example_at(&eval, i).line] = 2;
  }
  for (int i = 0; i < 50; i++) assert_int_equal(side[2 * i + 1], side[2 * i + 2]);
  options.seed++;
  assert_true(dataset_open_file(&again, path, &options, &error));
  int moved = 0;
  for (uint64_t i = 0; i < again.count; i++) moved += side[example_at(&again, i).line] != 2;
  assert_true(moved > 0);
  dataset_close(&train);
  dataset_close(&eval);
  dataset_close(&again);
}

/* ---- Bad input ------------------------------------------------------------------------------------- */

static void bad_input(void **state) {
  World *world = *state;
  static const struct {
    const char *file;
    DatasetKind kind;
    DatasetFormat format;
    ErrorCode code;
    const char *fragments[3];
  } table[] = {
      {"empty.jsonl", DATASET_SFT, 0, ERROR_DATA, {"empty.jsonl", "no records"}},
      {"blank.jsonl", DATASET_SFT, 0, ERROR_DATA, {"blank.jsonl", "no records"}},
      {"number.jsonl",
       DATASET_SFT,
       0,
       ERROR_DATA,
       {"number.jsonl:2: key 'completion': expected string", "found a number"}},
      {"missing.jsonl", DATASET_SFT, 0, ERROR_DATA, {"missing.jsonl:3: key 'output'", "missing"}},
      {"broken.jsonl", DATASET_SFT, 0, ERROR_DATA, {"broken.jsonl:2:32: broken JSON"}},
      {"torn.jsonl", DATASET_SFT, 0, ERROR_DATA, {"torn.jsonl:2:", "broken JSON"}},
      {"unknown.jsonl",
       DATASET_SFT,
       0,
       ERROR_DATA,
       {"unknown.jsonl:1: ", "question, answer", "instruction + output"}},
      {"scalar.jsonl", DATASET_SFT, 0, ERROR_DATA, {"scalar.jsonl:2: expected an object, found a string"}},
      {"content.jsonl",
       DATASET_SFT,
       0,
       ERROR_DATA,
       {"key 'messages[0].content[0]'", "found \"image\"", "not supported"}},
      {"no_messages.jsonl", DATASET_SFT, 0, ERROR_DATA, {"key 'messages'", "empty list"}},
      {"object.jsonl",
       DATASET_SFT,
       0,
       ERROR_DATA,
       {"key 'messages': expected list of messages, found an object"}},
      {"no_value.jsonl", DATASET_SFT, 0, ERROR_DATA, {"key 'conversations[1].value' is missing"}},
      {"utf8.jsonl", DATASET_SFT, 0, ERROR_DATA, {"utf8.jsonl:1:", "broken JSON"}},
      {"no_loss.jsonl", DATASET_SFT, 0, ERROR_DATA, {"no usable example", "1 have no token to learn from"}},
      {"mixed.jsonl", DATASET_TEXT, 0, ERROR_DATA, {"mixed.jsonl:2: key 'text' is missing"}},
      {"rejected.jsonl", DATASET_PREFERENCE, 0, ERROR_DATA, {"key 'rejected'", "found null"}},
      {"no_prompt.jsonl", DATASET_PREFERENCE, 0, ERROR_DATA, {"key 'chosen'", "without a 'prompt'"}},
      {"margin.jsonl", DATASET_PREFERENCE, 0, ERROR_DATA, {"key 'margin': expected number, found a string"}},
      {"no_answer.jsonl", DATASET_PREFERENCE, 0, ERROR_DATA, {"key 'chosen'", "end with an assistant turn"}},
      {"only_answer.jsonl", DATASET_PROMPT, 0, ERROR_DATA, {"only_answer.jsonl:1: ", "nothing to answer"}},
      {"number.jsonl",
       DATASET_PREFERENCE,
       0,
       ERROR_DATA,
       {"prompt_completion records", "no preference data"}},
      {"margin.jsonl", DATASET_SFT, 0, ERROR_DATA, {"preference records", "no supervised data"}},
      {"number.jsonl",
       DATASET_SFT,
       FORMAT_PREFERENCE,
       ERROR_USAGE,
       {"data.train", "data.format is preference"}},
      {"number.jsonl",
       DATASET_SFT,
       FORMAT_ALPACA,
       ERROR_DATA,
       {"number.jsonl:1: key 'instruction' is missing"}},
      {"absent.jsonl", DATASET_SFT, 0, ERROR_FILE, {"absent.jsonl"}},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    Dataset dataset;
    Error error = {0};
    char path[512];
    DatasetOptions options = options_of(world, table[i].kind);
    options.format = table[i].format;
    snprintf(path, sizeof path, "%s/data/bad/%s", FIXTURES, table[i].file);
    assert_false(dataset_open_file(&dataset, path, &options, &error));
    if (error.code != table[i].code) fprintf(stderr, "%s: %s\n", table[i].file, error.message);
    assert_int_equal(error.code, table[i].code);
    for (int f = 0; f < 3 && table[i].fragments[f]; f++) {
      if (strstr(error.message, table[i].fragments[f])) continue;
      fail_msg("%s: \"%s\" is not in \"%s\"", table[i].file, table[i].fragments[f], error.message);
    }
    assert_null(dataset.sources);
  }
}

static void bad_options(void **state) {
  World *world = *state;
  Dataset dataset;
  Error error = {0};
  DatasetOptions options = options_of(world, DATASET_SFT);
  options.chat = NULL;
  assert_false(dataset_open_file(&dataset, FIXTURES "/data/alpaca.jsonl", &options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "data.template"));
  error = (Error){0};
  options = options_of(world, DATASET_SFT);
  options.max_length = 1;
  assert_false(dataset_open_file(&dataset, FIXTURES "/data/alpaca.jsonl", &options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  error = (Error){0};
  options = options_of(world, DATASET_SFT);
  options.part = DATASET_EVAL_PART;
  options.eval_fraction = 1;
  assert_false(dataset_open_file(&dataset, FIXTURES "/data/alpaca.jsonl", &options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  error = (Error){0};
  OptionSources none = {0};
  assert_false(dataset_open(&dataset, &none, &options, &error));
  assert_int_equal(error.code, ERROR_USAGE);
}

/* ---- Reports --------------------------------------------------------------------------------------- */

static void reports_say_what_was_left_out(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  char lines[2048] = "";
  FILE *nowhere = fopen("/dev/null", "w");
  Log log;
  log_init(&log, nowhere, LOG_INFO);
  log.sink = keep_line;
  log.sink_context = lines;
  options.log = &log;
  options.max_length = 60;
  for (int reuse = 0; reuse < 2; reuse++) { /* said again when the cache is reused */
    lines[0] = '\0';
    open_fixture(&dataset, "long.jsonl", &options);
    dataset_close(&dataset);
    assert_non_null(strstr(lines, "long.jsonl: 2 examples, prompt_completion"));
    const char *dropped = strstr(lines, "1 of 3 records dropped");
    assert_non_null(dropped);
    assert_non_null(strstr(dropped, "data.max_length 60"));
  }
  fclose(nowhere);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(alpaca_records),
                                     cmocka_unit_test(dialogues_learn_every_turn),
                                     cmocka_unit_test(prompt_completion_records),
                                     cmocka_unit_test(inputs_too_when_asked),
                                     cmocka_unit_test(plain_text),
                                     cmocka_unit_test(repeated_bos_is_dropped_at_once),
                                     cmocka_unit_test(long_text_is_cut_into_pieces),
                                     cmocka_unit_test(preference_records),
                                     cmocka_unit_test(prompt_records),
                                     cmocka_unit_test(long_records_are_dropped_and_counted),
                                     cmocka_unit_test(a_turn_beyond_the_limit_is_too_long),
                                     cmocka_unit_test(long_records_are_cut_when_asked),
                                     cmocka_unit_test(long_prompts_keep_their_end),
                                     cmocka_unit_test(long_preferences_lose_their_first_tokens),
                                     cmocka_unit_test(long_records_can_be_an_error),
                                     cmocka_unit_test(memory_may_run_out),
                                     cmocka_unit_test(sources_one_after_another),
                                     cmocka_unit_test(split_keeps_prompts_together),
                                     cmocka_unit_test(bad_input),
                                     cmocka_unit_test(bad_options),
                                     cmocka_unit_test(reports_say_what_was_left_out)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
