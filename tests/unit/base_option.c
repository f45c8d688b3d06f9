/* Options from a command line and a file: values, and what users get wrong. */
#include "tests/unit/base_option_world.h"

static void defaults_apply(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  assert_true(PARSE(&c, &request, &error, "--model.path", "m"));
  assert_string_equal(c.path, "m");
  assert_false(c.recompute);
  assert_int_equal(c.dtype, 0);
  assert_true(c.lr == 1e-5);
  assert_int_equal(c.batch, 8);
  assert_int_equal(c.targets.count, 2);
  assert_string_equal(c.targets.items[1], "v_proj");
  assert_int_equal(c.train.count, 0);
  assert_null(c.note);
  assert_false(request.help || request.check || request.json || request.print_config || request.version);
  options_free(table, ROWS, &c);
  options_free(table, ROWS, &c);
  assert_null(c.path);
}

static void file_then_command_line(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  const char *path = write_config(
      "{\"about\": \"a test\",\n"
      " \"model\": {\"path\": \"from-file\", \"recompute\": true, \"dtype\": \"bf16\"},\n"
      " \"optim\": {\"lr\": 3e-4, \"clip\": 1, \"batch_size\": 1e2},\n"
      " \"lora\": {\"targets\": \"all-linear\"},\n"
      " \"data\": {\"train\": [\"a.jsonl\", {\"path\": \"b.jsonl\", \"weight\": 2}]},\n"
      " \"device\": {\"memory_limit\": \"8GiB\"}, \"run\": {\"seed\": 9007199254740993, \"note\": null}}");
  /* The file counts as earlier wherever it stands on the line. */
  assert_true(PARSE(&c, &request, &error, "--optim.lr=0.5", "--check", "--config", path, "--run.note", "x y",
                    "--json"));
  assert_string_equal(c.path, "from-file");
  assert_true(c.recompute);
  assert_int_equal(c.dtype, 1);
  assert_true(c.lr == 0.5 && c.clip == 1);
  assert_int_equal(c.batch, 100);
  assert_int_equal(c.targets.count, 1);
  assert_string_equal(c.targets.items[0], "all-linear");
  assert_int_equal(c.train.count, 2);
  assert_string_equal(c.train.items[0].path, "a.jsonl");
  assert_true(c.train.items[0].weight == 1 && c.train.items[1].weight == 2);
  assert_true(c.limit == (int64_t)8 << 30);
  assert_true(c.seed == 9007199254740993); /* more than a double holds */
  assert_string_equal(c.note, "x y");
  assert_true(request.check && request.json && !request.help);
  options_free(table, ROWS, &c);
}

static void booleans_on_the_line(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  assert_true(PARSE(&c, &request, &error, "--model.recompute", "--model.path", "m"));
  assert_true(c.recompute);
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--model.recompute"));
  assert_true(c.recompute);
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--model.recompute", "true", "--model.recompute", "false",
                    "--model.path", "m"));
  assert_false(c.recompute);
  options_free(table, ROWS, &c);
}

static void values_on_the_line(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  assert_true(PARSE(&c, &request, &error, "--model.path=--odd=name", "--run.seed", "-5", "--data.train",
                    "[{\"path\": \"x\", \"weight\": 0.25}, \"y,z\"]", "--lora.targets", "[\"a,b\"]",
                    "--device.memory_limit", "1.5 GiB", "--optim.batch_size", "1e3"));
  assert_string_equal(c.path, "--odd=name");
  assert_int_equal(c.seed, -5);
  assert_int_equal(c.train.count, 2);
  assert_true(c.train.items[0].weight == 0.25);
  assert_string_equal(c.train.items[1].path, "y,z");
  assert_int_equal(c.targets.count, 1);
  assert_string_equal(c.targets.items[0], "a,b");
  assert_int_equal(c.limit, 3 << 29);
  assert_int_equal(c.batch, 1000);
  options_free(table, ROWS, &c);
  assert_true(
      PARSE(&c, &request, &error, "--model.path", "m", "--lora.targets", "", "--data.train", "a, b.jsonl"));
  assert_int_equal(c.targets.count, 0);
  assert_int_equal(c.train.count, 2);
  assert_string_equal(c.train.items[1].path, "b.jsonl");
  options_free(table, ROWS, &c);
}

/* A list that is given again is added to; the first one on the line replaces that of a file, and an empty one empties. */
static void lists_are_added_to(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  const char *path = write_config("{\"data\": {\"train\": \"p,q\"}, \"lora\": {\"targets\": [\"k\"]}}");
  assert_true(PARSE(&c, &request, &error, "--config", path, "--model.path", "m"));
  assert_int_equal(c.train.count, 2);
  assert_string_equal(c.train.items[1].path, "q");
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--config", path, "--model.path", "m", "--data.train", "a,b",
                    "--data.train", "[{\"path\": \"c,d\", \"weight\": 3}]", "--lora.targets", "v",
                    "--lora.targets", "o"));
  assert_int_equal(c.train.count, 3);
  assert_string_equal(c.train.items[0].path, "a");
  assert_string_equal(c.train.items[2].path, "c,d");
  assert_true(c.train.items[2].weight == 3);
  assert_int_equal(c.targets.count, 2);
  assert_string_equal(c.targets.items[1], "o");
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--data.train", "a", "--data.train", ""));
  assert_int_equal(c.train.count, 0);
  options_free(table, ROWS, &c);
}

static void sizes(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int64_t bytes;
  } cases[] = {{"4096", 4096},
               {"512B", 512},
               {"2KiB", 2048},
               {"2kB", 2000},
               {"512MiB", (int64_t)512 << 20},
               {"512MB", 512000000},
               {"8GiB", (int64_t)8 << 30},
               {"8G", (int64_t)8 << 30},
               {"1.5K", 1536},
               {"512M", (int64_t)512 << 20},
               {"8GB", 8000000000},
               {"1.5 GB", 1500000000},
               {"1TiB", (int64_t)1 << 40},
               {"1TB", 1000000000000}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Config c;
    OptionRequest request;
    Error error;
    assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--device.memory_limit", cases[i].text));
    assert_int_equal(c.limit, cases[i].bytes);
    options_free(table, ROWS, &c);
  }
}

/* What a user gets wrong on the command line, and the whole answer. */
static void command_line_mistakes(void **state) {
  (void)state;
  static const struct {
    const char *arguments[4];
    const char *message;
  } cases[] = {
      {{"--optim.lrr", "1"}, "unknown option '--optim.lrr'; did you mean '--optim.lr'?"},
      {{"--lr", "1"}, "unknown option '--lr'; did you mean '--optim.lr'?"},
      {{"--zzzzzzzz", "1"}, "unknown option '--zzzzzzzz'; --help lists them"},
      {{"--optim.lr", "fast"}, "--optim.lr: expected a number, found 'fast'"},
      {{"--optim.lr", "nan"}, "--optim.lr: expected a finite number"},
      {{"--optim.clip", "inf"}, "--optim.clip: expected a finite number"},
      {{"--optim.lr", "1.5"}, "--optim.lr: 1.5 is out of range, expected 0 .. 1"},
      {{"--optim.clip", "-1"}, "--optim.clip: -1 is out of range, expected >= 0"},
      {{"--optim.batch_size", "0"}, "--optim.batch_size: 0 is out of range, expected 1 .. 1024"},
      {{"--optim.batch_size", "1.5"}, "--optim.batch_size: expected an integer, found '1.5'"},
      {{"--optim.batch_size", "8x"}, "--optim.batch_size: expected an integer, found '8x'"},
      {{"--run.seed", "99999999999999999999"},
       "--run.seed: expected an integer, found '99999999999999999999'"},
      {{"--model.dtype", "bf61"}, "--model.dtype: 'bf61' is not one of f32, bf16; did you mean 'bf16'?"},
      {{"--model.dtype", "int4x"}, "--model.dtype: 'int4x' is not one of f32, bf16"},
      {{"--model.recompute", "yes"}, "--model.recompute: expected true or false, found 'yes'"},
      {{"--device.memory_limit", "1.5k"},
       "--device.memory_limit: expected a size like 512MiB or 8GiB, found '1.5k'"},
      {{"--device.memory_limit", "8Gb"},
       "--device.memory_limit: expected a size like 512MiB or 8GiB, found '8Gb'"},
      {{"--device.memory_limit", "G"},
       "--device.memory_limit: expected a size like 512MiB or 8GiB, found 'G'"},
      {{"--device.memory_limit", "-1"},
       "--device.memory_limit: expected a size like 512MiB or 8GiB, found '-1'"},
      {{"--lora.targets", "a,,b"}, "--lora.targets: an empty name in the list 'a,,b'"},
      {{"--lora.targets", "[1]"},
       "--lora.targets: expected a list of strings with a string in it, found a number (1)"},
      {{"--data.train", "[\"a\""}, "--data.train: broken JSON at column 4: ']' expected near end of file"},
      {{"--data.train", "{\"path\": \"a\", \"weight\": 0}"}, "--data.train: a weight must be above 0"},
      {{"--data.train", "{\"weight\": 1}"}, "--data.train: a source without a 'path'"},
      {{"--data.train", "{\"path\": \"a\", \"wight\": 1}"},
       "--data.train: unknown key 'wight' in a source; it has 'path' and 'weight'"},
      {{"--run.note", "\xff\xfe"}, "--run.note: the text is not valid UTF-8"},
      {{"--optim.lr"}, "option '--optim.lr' needs a value"},
      {{"--optim.lr", "--check"},
       "option '--optim.lr' needs a value (one that begins with -- is written --key=VALUE)"},
      {{"--config"}, "option '--config' needs a value"},
      {{"train.json"}, "unexpected argument 'train.json'; options begin with --"},
      {{"--"}, "unexpected argument '--'; options begin with --"},
      {{"--check"},
       "'model.path' is required: give --model.path (model directory) or set it in the config file"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Config c;
    OptionRequest request;
    Error error;
    assert_false(parse(&c, &request, &error, cases[i].arguments));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_string_equal(error.message, cases[i].message);
    options_free(table, ROWS, &c);
  }
}

/* What a user gets wrong in a file; FILE stands for its path. */
static void file_mistakes(void **state) {
  (void)state;
  static const struct {
    const char *json, *message;
  } cases[] = {
      {"{\"optim\": {\"lrr\": 1}}", "FILE:1: unknown key 'optim.lrr'; did you mean 'optim.lr'?"},
      {"{\"optmi\": {\"lr\": 1}}", "FILE:1: unknown key 'optmi'; did you mean 'optim'?"},
      {"{\"lr\": 1}", "FILE:1: unknown key 'lr'; did you mean 'optim.lr'?"},
      {"{\"qqqqqqqqqqqq\": 1}", "FILE:1: unknown key 'qqqqqqqqqqqq'"},
      {"{\"model\": {\"about\": \"only at the top\"}}", "FILE:1: unknown key 'model.about'"},
      {"{\n\n\"optim\": {\"clip\": 1,\n \"lr\": 2}}",
       "FILE:4: 'optim.lr': 2 is out of range, expected 0 .. 1"},
      {"{\"optim\":\n{\"lr\": 1},\n\"optim.lr\": 1}",
       "FILE:2: 'optim.lr': is given twice, within its section and by its whole name"},
      {"{\"optim\": {\"lr\": 1} # a rate\n}",
       "FILE:1:21: broken JSON: '}' expected near '#' (comments are // and /* */; a file with # is YAML, and "
       "named .yaml)"},
      {"{\"optim\": 3}",
       "FILE:1: \'optim': expected an object with the keys of this section, found a number"},
      {"{\"optim\": {\"lr\": \"abc\"}}", "FILE:1: \'optim.lr': expected a number, found a string (\"abc\")"},
      {"{\"optim\": {\"lr\": {}}}", "FILE:1: \'optim.lr': expected a number, found an object"},
      {"{\"optim\": {\"lr\": null}}", "FILE:1: \'optim.lr': expected a number, found null"},
      {"{\"optim\": {\"lr\": 2}}", "FILE:1: \'optim.lr': 2 is out of range, expected 0 .. 1"},
      {"{\"optim\": {\"batch_size\": 1.5}}",
       "FILE:1: \'optim.batch_size': expected an integer, found a number (1.5)"},
      {"{\"model\": {\"recompute\": 1}}",
       "FILE:1: \'model.recompute': expected true or false, found a number (1)"},
      {"{\"model\": {\"path\": true}}", "FILE:1: \'model.path': expected a string, found a boolean (true)"},
      {"{\"model\": {\"dtype\": \"F32\"}}",
       "FILE:1: \'model.dtype': 'F32' is not one of f32, bf16; did you mean 'f32'?"},
      {"{\"data\": {\"train\": [3]}}",
       "FILE:1: \'data.train': expected a path or {\"path\": ..., \"weight\": ...}, found a number (3)"},
      {"{\"data\": {\"train\": [\"\"]}}", "FILE:1: \'data.train': a path is empty"},
      {"{\"data\": {\"train\": \"a,,b\"}}", "FILE:1: \'data.train': an empty path in the list 'a,,b'"},
      {"{\"device\": {\"memory_limit\": -1}}",
       "FILE:1: \'device.memory_limit': expected a number of bytes or a size like \"8GiB\", found a number "
       "(-1)"},
      {"{\n \"optim\": {\n  \"lr\": 1,\n }\n}",
       "FILE:4:2: broken JSON: string or '}' expected near '}' (no comma stands before a closing } or ])"},
      {"{\"optim\": {\"lr\": 1, \"lr\": 2}}", "FILE:1:24: broken JSON: duplicate object key near '\"lr\"'"},
      {"[1]", "FILE: expected an object of keys and values, found a list"},
      {"", "FILE:1:0: broken JSON: '[' or '{' expected near end of file"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Config c;
    OptionRequest request;
    Error error;
    char expected[1024];
    const char *path = write_config(cases[i].json), *at = strstr(cases[i].message, "FILE");
    snprintf(expected, sizeof expected, "%.*s%s%s", (int)(at - cases[i].message), cases[i].message, path,
             at + 4);
    assert_false(PARSE(&c, &request, &error, "--config", path));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_string_equal(error.message, expected);
    options_free(table, ROWS, &c);
  }
  Config c;
  OptionRequest request;
  Error error;
  assert_false(PARSE(&c, &request, &error, "--config", "/nonexistent.json"));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_string_equal(error.message, "--config: cannot read /nonexistent.json: No such file or directory");
  options_free(table, ROWS, &c);
}

static void help_wins_over_mistakes(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  assert_true(PARSE(&c, &request, &error, "--optim.lrr", "3", "--help"));
  assert_true(request.help);
  assert_null(request.help_topic);
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--help", "all"));
  assert_string_equal(request.help_topic, "all");
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--version"));
  assert_true(request.version);
  options_free(table, ROWS, &c);
}

static void nearest_names(void **state) {
  (void)state;
  static const char *const names[] = {"cosine", "linear", "constant"};
  assert_string_equal(nearest_name("cosin", names, 3), "cosine");
  assert_string_equal(nearest_name("cosnie", names, 3), "cosine"); /* two neighbours swapped */
  assert_string_equal(nearest_name("lniear", names, 3), "linear");
  assert_null(nearest_name("polynomial", names, 3));
  assert_null(nearest_name("", names, 3));
  assert_null(nearest_name("cosine", names, 0));
  char big[300];
  memset(big, 'x', sizeof big - 1);
  big[sizeof big - 1] = '\0';
  assert_null(nearest_name(big, names, 3));
}

/* Every allocation failed in turn: an error each time, nothing leaked (the sanitizer build looks). */
static void failed_allocations_are_errors(void **state) {
  (void)state;
  const char *path =
      write_config("{\"data\": {\"train\": [\"a\", \"b\"]}, \"lora\": {\"targets\": [\"x\", \"y\"]}}");
  for (long n = 0;; n++) {
    Config c;
    OptionRequest request;
    Error error;
    Buffer out = {0};
    memory_fail_after(n);
    bool ok = PARSE(&c, &request, &error, "--config", path, "--model.path", "m", "--run.note", "n") &&
              options_json(table, ROWS, &c, &out, &error) &&
              options_help(table, ROWS, &(OptionHelp){"sft", "summary", NULL}, "all", &out, &error);
    memory_fail_after(-1);
    assert_true(ok == (error.code == ERROR_NONE));
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    buffer_free(&out);
    options_free(table, ROWS, &c);
    if (ok) break;
    assert_true(n < 1000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(defaults_apply),
      TEST(file_then_command_line),
      TEST(booleans_on_the_line),
      TEST(values_on_the_line),
      TEST(lists_are_added_to),
      TEST(sizes),
      TEST(command_line_mistakes),
      TEST(file_mistakes),
      TEST(help_wins_over_mistakes),
      TEST(nearest_names),
      TEST(failed_allocations_are_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
