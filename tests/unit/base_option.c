#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/option.h"
#include "tests/temporary.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Config {
  char *path;
  bool recompute;
  int dtype;
  double lr, clip, rate;
  int64_t seed, batch, limit, rank, room;
  OptionStrings targets, modules;
  OptionSources train;
  char *note;
} Config;

static const char *const dtypes[] = {"f32", "bf16", NULL};

static const Option table[] = {
    ROW_STRING_REQUIRED("model.path", Config, path, "model directory"),
    ROW_BOOL("model.recompute", Config, recompute, "false", "recompute blocks"),
    ROW_FLOAT("optim.lr", Config, lr, "1e-5", 0, 1, "peak learning rate"),
    ROW_FLOAT("optim.clip", Config, clip, "0.1", 0, INFINITY, "gradient norm"),
    ROW_INT("optim.batch_size", Config, batch, "8", 1, 1024, "sequences per update"),
    ROW_CHOICE("model.dtype", Config, dtype, "f32", dtypes, "type of the weights"),
    ROW_STRINGS("lora.targets", Config, targets, "q_proj,v_proj", "modules"),
    ROW_SOURCES("data.train", Config, train, NULL, "training data"),
    ROW_BYTES("device.memory_limit", Config, limit, "0", "bytes, 0 = none"),
    ROW_INT("run.seed", Config, seed, "1", 0, 0, "random seed"),
    ROW_STRING(
        "run.note", Config, note, NULL,
        "anything; a help text that is longer than the line is wide is wrapped between words, below itself"),
    ROW_FLOAT("adapter.rate", Config, rate, "1e-5", 0, 1, "rate of an adapter", .instead = "1e-4",
              .instead_when = "model.dtype = bf16, model.recompute",
              .when = "run.note or optim.clip > 0.5, no data.train"),
    ROW_INT("adapter.rank", Config, rank, "8", 1, 64, "rank", .when = "model.dtype != f32"),
    ROW_BYTES("adapter.room", Config, room, "1MiB", "room", .when = "model.recompute"),
    ROW_STRINGS("adapter.modules", Config, modules, "q,v", "names of modules",
                .when = "run.seed = 3 or lora.targets = q_proj"),
};
enum { ROWS = sizeof table / sizeof *table, MOST_ARGUMENTS = 16 };

static Temporary folder;

static int open_folder(void **state) {
  (void)state;
  temporary_open(&folder);
  return 0;
}

static int close_folder(void **state) {
  (void)state;
  temporary_close(&folder);
  return 0;
}

/* Parses a NULL-terminated command line (without the program's name). */
static bool parse(Config *config, OptionRequest *request, Error *error, const char *const *arguments) {
  char *argv[MOST_ARGUMENTS + 1] = {"sft"};
  int argc = 1;
  for (; arguments[argc - 1]; argc++) argv[argc] = (char *)arguments[argc - 1];
  *config = (Config){0};
  *error = (Error){0};
  return options_parse(table, ROWS, config, argc, argv, request, error);
}

#define PARSE(config, request, error, ...) \
  parse(config, request, error, (const char *const[]){__VA_ARGS__, NULL})

static const char *write_config(const char *json) {
  Error error = {0};
  const char *path = temporary_path(&folder, "c.json");
  assert_true(file_write_text(path, json, &error));
  return path;
}

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
      PARSE(&c, &request, &error, "--model.path", "m", "--lora.targets", "", "--data.train", "a,b.jsonl"));
  assert_int_equal(c.targets.count, 0);
  assert_int_equal(c.train.count, 1);
  assert_string_equal(c.train.items[0].path, "a,b.jsonl");
  options_free(table, ROWS, &c);
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
      {{"--device.memory_limit", "8GB"},
       "--device.memory_limit: expected a size like 512MiB or 8GiB, found '8GB'"},
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
       "'model.path' is required: give --model.path or set it in the config file (model directory)"},
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
      {"{\"optim\": {\"lrr\": 1}}", "unknown key 'optim.lrr' in FILE; did you mean 'optim.lr'?"},
      {"{\"optmi\": {\"lr\": 1}}", "unknown key 'optmi' in FILE; did you mean 'optim'?"},
      {"{\"lr\": 1}", "unknown key 'lr' in FILE; did you mean 'optim.lr'?"},
      {"{\"qqqqqqqqqqqq\": 1}", "unknown key 'qqqqqqqqqqqq' in FILE"},
      {"{\"model\": {\"about\": \"only at the top\"}}", "unknown key 'model.about' in FILE"},
      {"{\"optim\": 3}", "FILE: 'optim': expected an object with the keys of this section"},
      {"{\"optim\": {\"lr\": \"abc\"}}", "FILE: 'optim.lr': expected a number, found a string (\"abc\")"},
      {"{\"optim\": {\"lr\": {}}}", "FILE: 'optim.lr': expected a number, found an object"},
      {"{\"optim\": {\"lr\": null}}", "FILE: 'optim.lr': expected a number, found null"},
      {"{\"optim\": {\"lr\": 2}}", "FILE: 'optim.lr': 2 is out of range, expected 0 .. 1"},
      {"{\"optim\": {\"batch_size\": 1.5}}",
       "FILE: 'optim.batch_size': expected an integer, found a number (1.5)"},
      {"{\"model\": {\"recompute\": 1}}",
       "FILE: 'model.recompute': expected true or false, found a number (1)"},
      {"{\"model\": {\"path\": true}}", "FILE: 'model.path': expected a string, found a boolean (true)"},
      {"{\"model\": {\"dtype\": \"F32\"}}",
       "FILE: 'model.dtype': 'F32' is not one of f32, bf16; did you mean 'f32'?"},
      {"{\"data\": {\"train\": [3]}}",
       "FILE: 'data.train': expected a path or {\"path\": ..., \"weight\": ...}, found a number (3)"},
      {"{\"data\": {\"train\": \"\"}}", "FILE: 'data.train': a path is empty"},
      {"{\"device\": {\"memory_limit\": -1}}",
       "FILE: 'device.memory_limit': expected a number of bytes or a size like \"8GiB\", found a number "
       "(-1)"},
      {"{\n \"optim\": {\n  \"lr\": 1,\n }\n}", "FILE:4:2: broken JSON: string or '}' expected near '}'"},
      {"{\"optim\": {\"lr\": 1, \"lr\": 2}}", "FILE:1:24: broken JSON: duplicate object key near '\"lr\"'"},
      {"[1]", "FILE: expected a JSON object"},
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

static void assert_same(const Config *a, const Config *b) {
  assert_string_equal(a->path, b->path);
  assert_memory_equal(&a->lr, &b->lr, sizeof a->lr);
  assert_memory_equal(&a->clip, &b->clip, sizeof a->clip);
  assert_true(a->recompute == b->recompute && a->dtype == b->dtype && a->seed == b->seed);
  assert_true(a->batch == b->batch && a->limit == b->limit);
  assert_int_equal(a->targets.count, b->targets.count);
  for (size_t i = 0; i < a->targets.count; i++) assert_string_equal(a->targets.items[i], b->targets.items[i]);
  assert_int_equal(a->train.count, b->train.count);
  for (size_t i = 0; i < a->train.count; i++) {
    assert_string_equal(a->train.items[i].path, b->train.items[i].path);
    assert_true(a->train.items[i].weight == b->train.items[i].weight);
  }
  assert_true(!a->note == !b->note);
  if (a->note) assert_string_equal(a->note, b->note);
}

static void printed_config_reads_back(void **state) {
  (void)state;
  static const char *const floats[] = {"0.1",
                                       "1e-05",
                                       "0.3333333333333333",
                                       "4.9406564584124654e-324",
                                       "1e22",
                                       "123456789012345678",
                                       "0",
                                       "0.30000000000000004"};
  for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
    Config a, b;
    OptionRequest request;
    Error error;
    Buffer first = {0}, second = {0};
    assert_true(PARSE(&a, &request, &error, "--model.path", "a \"quoted\" \\ \n \xc3\xa9 path",
                      "--optim.clip", floats[i], "--run.seed", "-9223372036854775808", "--model.recompute",
                      "--model.dtype", "bf16", "--data.train",
                      i % 2 ? "[{\"path\":\"x\",\"weight\":0.1}, \"y\"]" : "", "--lora.targets",
                      i % 2 ? "[\"a,b\", \"\"]" : "", "--device.memory_limit", "3TiB"));
    if (i % 2) assert_int_equal(a.train.count, 2);
    assert_true(options_json(table, ROWS, &a, &first, &error));
    assert_int_equal(first.data[first.size - 1], '\n');
    assert_true(PARSE(&b, &request, &error, "--config", write_config(first.data)));
    assert_same(&a, &b);
    assert_true(options_json(table, ROWS, &b, &second, &error));
    assert_string_equal(first.data, second.data);
    buffer_free(&first);
    buffer_free(&second);
    options_free(table, ROWS, &a);
    options_free(table, ROWS, &b);
  }
}

/* A configuration that another table printed: what this one lacks is passed over, what the text lacks is the default. */
static void a_config_is_recalled(void **state) {
  (void)state;
  Config a, b = {0};
  OptionRequest request;
  Error error;
  Buffer json = {0};
  assert_true(
      PARSE(&a, &request, &error, "--model.path", "m", "--optim.clip", "0.1", "--model.dtype", "bf16"));
  assert_true(options_json(table, ROWS, &a, &json, &error));
  assert_true(options_recall(table, ROWS, &b, json.data, "here", &error));
  assert_same(&a, &b);
  options_free(table, ROWS, &a);
  options_free(table, ROWS, &b);
  buffer_free(&json);
  b = (Config){0};
  assert_true(options_recall(
      table, ROWS, &b, "{\"optim\": {\"lr\": 0.5, \"new\": 1}, \"ppo\": {\"clip\": 2}}", "here", &error));
  assert_float_equal(b.lr, 0.5, 0);
  assert_float_equal(b.clip, 0.1, 0);
  assert_null(b.path);
  options_free(table, ROWS, &b);
  b = (Config){0};
  assert_false(options_recall(table, ROWS, &b, "{\"optim\": {\"lr\": \"fast\"}}", "here", &error));
  assert_non_null(strstr(error.message, "here"));
  assert_non_null(strstr(error.message, "optim.lr"));
  options_free(table, ROWS, &b);
}

static void printed_config_is_grouped(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  Buffer json = {0};
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--optim.clip", "100000"));
  assert_true(options_json(table, ROWS, &c, &json, &error));
  assert_string_equal(json.data,
                      "{\n"
                      "  \"model\": {\n"
                      "    \"path\": \"m\",\n"
                      "    \"recompute\": false,\n"
                      "    \"dtype\": \"f32\"\n"
                      "  },\n"
                      "  \"optim\": {\n"
                      "    \"lr\": 1e-05,\n"
                      "    \"clip\": 100000,\n"
                      "    \"batch_size\": 8\n"
                      "  },\n"
                      "  \"lora\": {\n"
                      "    \"targets\": [\"q_proj\", \"v_proj\"]\n"
                      "  },\n"
                      "  \"data\": {\n"
                      "    \"train\": []\n"
                      "  },\n"
                      "  \"device\": {\n"
                      "    \"memory_limit\": 0\n"
                      "  },\n"
                      "  \"run\": {\n"
                      "    \"seed\": 1,\n"
                      "    \"note\": null\n"
                      "  },\n"
                      "  \"adapter\": {\n"
                      "    \"rate\": 1e-05,\n"
                      "    \"rank\": 8,\n"
                      "    \"room\": 1048576,\n"
                      "    \"modules\": [\"q\", \"v\"]\n"
                      "  }\n"
                      "}\n");
  buffer_free(&json);
  options_free(table, ROWS, &c);
}

static void help_shows_everything(void **state) {
  (void)state;
  Buffer help = {0};
  Error error = {0};
  assert_true(options_help(table, ROWS, "sft", "supervised fine-tuning", &help, &error));
  assert_int_equal(strncmp(help.data, "sft: supervised fine-tuning\n\nusage: sft ", 40), 0);
  for (int i = 0; i < ROWS; i++) {
    char name[64];
    snprintf(name, sizeof name, "\n  --%s ", table[i].key);
    assert_non_null(strstr(help.data, name));
  }
  assert_non_null(strstr(help.data, "model directory (required)\n"));
  assert_non_null(strstr(help.data, "peak learning rate (0 .. 1; default 1e-5)\n"));
  assert_non_null(strstr(help.data, "type of the weights (one of f32, bf16; default f32)\n"));
  assert_non_null(strstr(help.data, "rank (1 .. 64; default 8; only with model.dtype != f32)\n"));
  assert_non_null(strstr(help.data, "default 1e-5, 1e-4"));
  assert_non_null(strstr(help.data, "\nmodel\n"));
  /* One section once, one column of texts, no line too long. */
  assert_null(strstr(strstr(help.data, "\nmodel\n") + 1, "\nmodel\n"));
  size_t column = 0;
  for (const char *line = help.data; *line; line += strcspn(line, "\n") + 1) {
    assert_true(strcspn(line, "\n") <= 100);
    if (strncmp(line, "  --", 4) != 0) continue;
    const char *text = strstr(line + 4, "  ");
    text += strspn(text, " ");
    if (!column) column = (size_t)(text - line);
    assert_int_equal(text - line, column);
  }
  buffer_free(&help);
}

/* Which warnings a command line gives, each as the key that it begins with. */
static void expect_warnings(const char *keys, const char *const *arguments) {
  Config c;
  OptionRequest request;
  Error error;
  char found[200] = "", *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  Log log;
  log_init(&log, stream, LOG_INFO);
  if (!parse(&c, &request, &error, arguments)) fail_msg("%s", error.message);
  options_warn(&request.given, &c, &log);
  fclose(stream);
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    char key[64];
    assert_int_equal(sscanf(line, "warning: %63s is ", key), 1);
    assert_true(strstr(line, "is given and has no effect") || strstr(line, "is usual, and"));
    snprintf(found + strlen(found), sizeof found - strlen(found), "%s ", key);
  }
  assert_string_equal(found, keys);
  free(text);
  options_free(table, ROWS, &c);
}

#define EXPECT_WARNINGS(keys, ...) \
  expect_warnings(keys, (const char *const[]){"--model.path", "m", __VA_ARGS__, NULL})

static void options_in_vain_are_said(void **state) {
  (void)state;
  EXPECT_WARNINGS("", "--run.seed", "2");
  EXPECT_WARNINGS("adapter.rank ", "--adapter.rank", "8"); /* even its default, on the command line */
  EXPECT_WARNINGS("", "--adapter.rank", "8", "--model.dtype", "bf16");
  EXPECT_WARNINGS("adapter.rate ", "--adapter.rate", "0.5");
  EXPECT_WARNINGS("", "--adapter.rate", "0.5", "--run.note", "x");
  EXPECT_WARNINGS("", "--adapter.rate", "0.5", "--optim.clip", "0.6");
  EXPECT_WARNINGS("adapter.rate ", "--adapter.rate", "0.5", "--optim.clip", "0.5");
  EXPECT_WARNINGS("adapter.rate ", "--adapter.rate", "0.5", "--run.note", "x", "--data.train", "d");
  EXPECT_WARNINGS("adapter.rank adapter.modules ", "--adapter.modules", "q", "--adapter.rank", "2");
  EXPECT_WARNINGS("", "--adapter.modules", "q", "--run.seed", "3");
  EXPECT_WARNINGS("", "--adapter.modules", "q", "--lora.targets", "q_proj");
  EXPECT_WARNINGS("adapter.modules ", "--adapter.modules", "q", "--lora.targets", "q_proj,x");
}

/* A file that has all keys, as a resolved configuration does, says nothing by those at their defaults. */
static void files_speak_where_they_differ(void **state) {
  (void)state;
  const char *path = write_config(
      "{\"adapter\": {\"rank\": 8, \"room\": 1048576, \"rate\": 0.00001, \"modules\": [\"q\", \"v\"]}, "
      "\"model\": {\"path\": "
      "\"m\"}}");
  EXPECT_WARNINGS("", "--config", path);
  EXPECT_WARNINGS("adapter.rank ", "--config", path, "--adapter.rank", "8");
  path = write_config(
      "{\"adapter\": {\"rank\": 9, \"room\": \"2MiB\", \"rate\": 1e-4, \"modules\": [\"v\", \"q\"]}}");
  EXPECT_WARNINGS("adapter.rank adapter.room adapter.modules ", "--config", path);
}

static void numbers_of_another_mode_are_said(void **state) {
  (void)state;
#define ADAPTER "--run.note", "x", "--model.recompute", "--model.dtype", "bf16", "--adapter.rate"
  EXPECT_WARNINGS("adapter.rate ", ADAPTER, "1e-5");
  EXPECT_WARNINGS("adapter.rate ", ADAPTER, "1e-6");
  EXPECT_WARNINGS("", ADAPTER, "2e-5");
  EXPECT_WARNINGS("", "--run.note", "x", "--adapter.rate", "1e-6");
  const char *path = write_config("{\"adapter\": {\"rate\": 1e-5}}"); /* a file that has it means it */
  EXPECT_WARNINGS("adapter.rate ", "--run.note", "x", "--model.recompute", "--model.dtype", "bf16",
                  "--config", path);
#undef ADAPTER
}

static void what_is_given_is_known(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  const char *path = write_config("{\"run\": {\"seed\": 1}}");
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--config", path, "--model.recompute"));
  assert_true(option_given(&request.given, "model.path"));
  assert_true(option_given(&request.given, "run.seed")); /* by the file, though it is the default */
  assert_true(option_given(&request.given, "model.recompute"));
  assert_false(option_given(&request.given, "optim.lr"));
  options_free(table, ROWS, &c);
}

static void defaults_that_depend(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--model.recompute"));
  assert_true(c.rate == 1e-5);
  options_free(table, ROWS, &c);
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--model.recompute", "--model.dtype", "bf16"));
  assert_true(c.rate == 1e-4);
  options_free(table, ROWS, &c);
  /* A value that is given stands, and be it the other default. */
  const char *path = write_config("{\"adapter\": {\"rate\": 1e-5}}");
  assert_true(PARSE(&c, &request, &error, "--model.path", "m", "--model.recompute", "--model.dtype", "bf16",
                    "--config", path));
  assert_true(c.rate == 1e-5);
  options_free(table, ROWS, &c);
}

static void help_wins_over_mistakes(void **state) {
  (void)state;
  Config c;
  OptionRequest request;
  Error error;
  assert_true(PARSE(&c, &request, &error, "--optim.lrr", "3", "--help"));
  assert_true(request.help);
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
              options_help(table, ROWS, "sft", "summary", &out, &error);
    memory_fail_after(-1);
    assert_true(ok == (error.code == ERROR_NONE));
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    buffer_free(&out);
    options_free(table, ROWS, &c);
    if (ok) break;
    assert_true(n < 1000);
  }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_folder, close_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(defaults_apply),
      TEST(file_then_command_line),
      TEST(booleans_on_the_line),
      TEST(values_on_the_line),
      TEST(command_line_mistakes),
      TEST(file_mistakes),
      TEST(printed_config_reads_back),
      TEST(a_config_is_recalled),
      TEST(printed_config_is_grouped),
      TEST(help_shows_everything),
      TEST(options_in_vain_are_said),
      TEST(files_speak_where_they_differ),
      TEST(numbers_of_another_mode_are_said),
      TEST(what_is_given_is_known),
      TEST(defaults_that_depend),
      TEST(help_wins_over_mistakes),
      TEST(nearest_names),
      TEST(failed_allocations_are_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
