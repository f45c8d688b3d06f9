/* Options printed: as JSON that is read again, and as help. */
#include "tests/unit/base_option_world.h"

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
                      "    \"modules\": [\"q\", \"v\"],\n"
                      "    \"count\": 0,\n"
                      "    \"share\": 0\n"
                      "  }\n"
                      "}\n");
  buffer_free(&json);
  options_free(table, ROWS, &c);
}

static const OptionHelp about = {"sft", "supervised fine-tuning", "drover sft \\\n  --model.path m"};

/* No line is too long, and all texts begin in one column. */
static void expect_columns(const char *help) {
  size_t column = 0;
  for (const char *line = help; *line; line += strcspn(line, "\n") + 1) {
    assert_true(strcspn(line, "\n") <= 80);
    if (strncmp(line, "  --", 4) != 0 || strncmp(line, "  --model.path m", 16) == 0) continue;
    const char *text = strstr(line + 4, "  "), *end = strchr(line, '\n');
    if (!text || text > end) continue; /* a name wider than the column */
    text += strspn(text, " ");
    if (!column) column = (size_t)(text - line);
    assert_int_equal(text - line, column);
  }
}

static void help_all_shows_everything(void **state) {
  (void)state;
  Buffer help = {0};
  Error error = {0};
  assert_true(options_help(table, ROWS, &about, "all", &help, &error));
  const char *begin =
      "sft: supervised fine-tuning\n\nusage: drover sft [--config FILE] [--KEY VALUE ...]\n\n"
      "example\n  drover sft \\\n    --model.path m\n\ngeneral\n";
  assert_int_equal(strncmp(help.data, begin, strlen(begin)), 0);
  for (int i = 0; i < ROWS; i++) {
    char name[64];
    snprintf(name, sizeof name, "\n  --%s ", table[i].key);
    assert_non_null(strstr(help.data, name));
  }
  static const char *const parts[] = {"--model.path MODEL",
                                      "--data.train PATH,...",
                                      "--run.seed N ",
                                      "model directory (required)\n",
                                      "peak learning rate (0 .. 1; default 1e-5)\n",
                                      "type of the weights (one of f32, bf16; default\n",
                                      "rank (1 .. 64; default 8; only with",
                                      "default 1e-5, 1e-4",
                                      "\n  SIZE ",
                                      "8 * 1024^3",
                                      "8 * 1000^3"};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    if (!strstr(help.data, parts[i])) fail_msg("no '%s' in %s", parts[i], help.data);
  }
  assert_non_null(strstr(help.data, "\nmodel\n")); /* one section once */
  assert_null(strstr(strstr(help.data, "\nmodel\n") + 1, "\nmodel\n"));
  expect_columns(help.data);
  buffer_free(&help);
}

static void help_begins_with_what_is_needed(void **state) {
  (void)state;
  Buffer help = {0};
  Error error = {0};
  assert_true(options_help(table, ROWS, &about, NULL, &help, &error));
  const char *needed = strstr(help.data, "\nneeded\n  --model.path MODEL "),
             *usual = strstr(help.data, "\nusual\n  --optim.lr X ");
  assert_true(needed && usual && needed < usual);
  assert_non_null(strstr(usual, "peak learning rate (default 1e-5)\n"));
  assert_null(strstr(help.data, "--optim.clip"));
  assert_non_null(strstr(help.data, "--help all, --help SECTION"));
  assert_non_null(strstr(help.data, "all 17 options"));
  expect_columns(help.data);
  buffer_free(&help);
}

static void help_of_a_section(void **state) {
  (void)state;
  Buffer help = {0};
  Error error = {0};
  assert_true(options_help(table, ROWS, &about, "run", &help, &error));
  assert_int_equal(strncmp(help.data, "\nrun\n  --run.seed N ", 20), 0);
  assert_null(strstr(help.data, "--model.path"));
  assert_false(options_help(table, ROWS, &about, "optin", &help, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_string_equal(error.message, "--help optin: expected all or a section; did you mean 'optim'?");
  buffer_free(&help);
}

static void help_of_kinds(void **state) {
  (void)state;
  typedef struct Any {
    char *text;
  } Any;
  static const Option lamp[] = {ROW_STRING("name", Any, text, NULL, "what it is called"),
                                ROW_STRINGS("colours", Any, text, NULL, "what it can be")},
                      door[] = {ROW_STRING_REQUIRED("to", Any, text, "where it leads"),
                                ROW_STRING("name", Any, text, NULL, "what it is called")};
  static const OptionKind lamps = {"lamp", lamp, 2}, doors = {"door", door, 2};
  static const OptionKind *const kinds[] = {&lamps, &doors, NULL};
  static const Option rows[] = {ROW_OBJECTS("house.parts", Any, text, "its parts", .kinds = kinds),
                                ROW_STRING("house.name", Any, text, NULL, "its name", .first = true)};
  Buffer help = {0};
  Error error = {0};
  assert_true(options_help(rows, 2, &about, "house", &help, &error));
  assert_string_equal(help.data,
                      "\nhouse\n"
                      "  --house.parts JSON    its parts\n"
                      "  --house.name TEXT     its name\n"
                      "\nhouse.parts, each\n"
                      "  name TEXT             what it is called\n"
                      "\nhouse.parts of kind lamp\n"
                      "  colours [TEXT, ...]   what it can be\n"
                      "\nhouse.parts of kind door\n"
                      "  to TEXT               where it leads (required)\n");
  buffer_free(&help);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(printed_config_reads_back),
      TEST(a_config_is_recalled),
      TEST(printed_config_is_grouped),
      TEST(help_all_shows_everything),
      TEST(help_begins_with_what_is_needed),
      TEST(help_of_a_section),
      TEST(help_of_kinds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
