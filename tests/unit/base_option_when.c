/* Options that depend on others: given in vain, or with another default. */
#include "tests/unit/base_option_world.h"

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

/* The configuration after a command line, and what is said of options that gave way. */
static void expect_share(double share, int64_t count, const char *said, const char *const *arguments) {
  Config c;
  OptionRequest request;
  Error error;
  char *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  Log log;
  log_init(&log, stream, LOG_INFO);
  if (!parse(&c, &request, &error, arguments)) fail_msg("%s", error.message);
  options_warn(&request.given, &c, &log);
  fclose(stream);
  assert_true(c.share == share);
  assert_int_equal(c.count, count);
  assert_int_equal(option_given(&request.given, "adapter.share"), share != 0);
  assert_string_equal(text, said);
  free(text);
  options_free(table, ROWS, &c);
}

#define EXPECT_SHARE(share, count, said, ...) \
  expect_share(share, count, said, (const char *const[]){"--model.path", "m", __VA_ARGS__, NULL})

/* Two ways to say the same: that of the command line counts, and two at one place are refused. */
static void the_command_line_excludes_a_file(void **state) {
  (void)state;
  char share[512], count[512];
  snprintf(share, sizeof share, "%s", write_config_as("share.json", "{\"adapter\": {\"share\": 0.5}}"));
  snprintf(count, sizeof count, "%s",
           write_config_as("count.json", "{\"adapter\": {\"count\": 3, \"share\": 0}}"));
  EXPECT_SHARE(0.5, 0, "", "--config", share);
  EXPECT_SHARE(0.25, 0, "", "--adapter.share", "0.25", "--adapter.count", "0");
  EXPECT_SHARE(0, 7,
               "adapter.share of the configuration file gives way to adapter.count on the command line\n",
               "--config", share, "--adapter.count", "7");
  EXPECT_SHARE(0.25, 0,
               "adapter.count of the configuration file gives way to adapter.share on the command line\n",
               "--adapter.share", "0.25", "--config", count);
  EXPECT_SHARE(0.5, 0, "data.train is given more than once: its values are taken together\n", "--config",
               share, "--data.train", "a", "--data.train", "b");
  Config c;
  OptionRequest request;
  Error error;
  assert_false(
      PARSE(&c, &request, &error, "--model.path", "m", "--adapter.share", "0.5", "--adapter.count", "7"));
  assert_string_equal(error.message, "adapter.count and adapter.share are both given: choose one");
  options_free(table, ROWS, &c);
  snprintf(count, sizeof count, "%s", write_config_as("count.json", "{\"adapter\": {\"count\": 3}}"));
  assert_false(PARSE(&c, &request, &error, "--model.path", "m", "--config", share, "--config", count));
  assert_int_equal(error.code, ERROR_USAGE);
  options_free(table, ROWS, &c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(options_in_vain_are_said),
      TEST(files_speak_where_they_differ),
      TEST(numbers_of_another_mode_are_said),
      TEST(what_is_given_is_known),
      TEST(defaults_that_depend),
      TEST(the_command_line_excludes_a_file),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
