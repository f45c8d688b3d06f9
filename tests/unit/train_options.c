/* What the stages' option tables say about options that depend on others. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ppo/config.h"
#include "reward/config.h"
#include "sft/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ARGUMENTS = 24 };

typedef union AnyConfig {
  SupervisedConfig sft;
  RewardStageConfig reward;
  PpoConfig ppo;
} AnyConfig;

typedef struct Table {
  const char *name;
  const Option *rows;
  size_t count;
} Table;

static Table table_of(const char *stage) {
  if (!strcmp(stage, "sft")) return (Table){stage, sft_options, sft_option_count};
  if (!strcmp(stage, "reward")) return (Table){stage, reward_options, reward_option_count};
  return (Table){stage, ppo_options, ppo_option_count};
}

/* Parses a command line "KEY VALUE ..." after what the stage requires. */
static OptionGiven parse(Table table, AnyConfig *config, const char *line) {
  char text[512], *argv[MOST_ARGUMENTS] = {"stage"};
  const char *required = strcmp(table.name, "ppo") != 0 ? "--run.dir r --model.path m --data.train t"
                                                        : "--run.dir r --model.path m --data.prompts p";
  snprintf(text, sizeof text, "%s %s", required, line);
  int argc = 1;
  for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) argv[argc++] = word;
  OptionRequest request;
  Error error = {0};
  memset(config, 0, sizeof *config);
  if (!options_parse(table.rows, table.count, config, argc, argv, &request, &error)) {
    fail_msg("%s", error.message);
  }
  return request.given;
}

/* The keys of the options that are warned of. */
static void expect_said(const char *stage, const char *line, const char *keys) {
  const Table table = table_of(stage);
  AnyConfig config;
  const OptionGiven given = parse(table, &config, line);
  char found[512] = "", *text = NULL;
  size_t size = 0;
  FILE *stream = open_memstream(&text, &size);
  Log log;
  log_init(&log, stream, LOG_INFO);
  options_warn(&given, &config, &log);
  fclose(stream);
  for (char *said = strtok(text, "\n"); said; said = strtok(NULL, "\n")) {
    char key[64];
    assert_int_equal(sscanf(said, "warning: %63s is ", key), 1);
    snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", *found ? " " : "", key);
  }
  if (strcmp(found, keys) != 0) fail_msg("%s %s: expected '%s', found '%s'", stage, line, keys, found);
  free(text);
  options_free(table.rows, table.count, &config);
}

/* Every condition names options that there are, and values that they can have: else an assertion fails. */
static void conditions_are_understood(void **state) {
  (void)state;
  static const char *const stages[] = {"sft", "reward", "ppo"};
  for (int i = 0; i < 3; i++) {
    const Table table = table_of(stages[i]);
    AnyConfig config;
    OptionGiven given = parse(table, &config, "");
    memset(given.origin, OPTION_FROM_LINE, table.count);
    Log log;
    log_init(&log, stderr, LOG_ERROR);
    options_warn(&given, &config, &log);
    options_free(table.rows, table.count, &config);
  }
}

static void adapters(void **state) {
  (void)state;
  static const char *const stages[] = {"sft", "reward", "ppo"};
  const char *shape = "--lora.r 16 --lora.alpha 16 --lora.targets q --lora.rslora true";
  char line[200];
  for (int i = 0; i < 3; i++) {
    expect_said(stages[i], shape, "lora.r lora.alpha lora.targets lora.rslora");
    snprintf(line, sizeof line, "%s --lora.dropout 0.1 --lora.enabled", shape);
    expect_said(stages[i], line, "");
    expect_said(stages[i], "--lora.dropout 0.1", "lora.dropout");
  }
  expect_said("sft", "--lora.enabled --lora.r 4 --model.adapter a --lora.dropout 0.1", "lora.r");
  expect_said("reward", "--lora.enabled --lora.r 4 --model.adapter a", "lora.r");
  /* Actor and critic each begin as an adapter that is given, or as a new one. */
  expect_said("ppo", "--lora.enabled --lora.r 4 --model.adapter a", "");
  expect_said("ppo", "--lora.enabled --lora.r 4 --model.adapter a --reward.path w --reward.adapter b",
              "lora.r");
}

static void optimisers(void **state) {
  (void)state;
  expect_said("sft", "--optim.beta1 0.9 --optim.beta2 0.9 --optim.eps 1e-9 --optim.state 8bit", "");
  expect_said("sft", "--optim.name lion --optim.beta1 0.9 --optim.eps 1e-9 --optim.momentum 0.9",
              "optim.eps optim.momentum");
  expect_said("sft", "--optim.name sgd --optim.beta1 0.9 --optim.beta2 0.9 --optim.state 8bit",
              "optim.state optim.beta1 optim.beta2");
  expect_said("sft", "--optim.name sgd --optim.momentum 0.9 --optim.state 8bit", "");
  expect_said("ppo", "--optim.momentum 0.9", "optim.momentum");
  expect_said("reward", "--optim.schedule constant --optim.min_lr_ratio 0.1", "optim.min_lr_ratio");
  expect_said("reward", "--optim.min_lr_ratio 0.1", "");
}

static void evaluations(void **state) {
  (void)state;
  expect_said("sft", "--run.eval_every 10", "run.eval_every");
  expect_said("sft", "--run.eval_every 10 --data.eval_fraction 0.1", "");
  expect_said("reward", "--run.eval_every 10 --data.eval e", "");
  expect_said("ppo", "--run.eval_every 10", "run.eval_every");
  expect_said("ppo", "--run.eval_every 10 --data.eval e", "");
}

static void rates_for_all_weights(void **state) {
  (void)state;
  expect_said("sft", "--lora.enabled --optim.lr 2e-5", "optim.lr");
  expect_said("sft", "--lora.enabled --optim.lr 5e-5", "");
  expect_said("sft", "--optim.lr 2e-5", "");
  expect_said("reward", "--lora.enabled --optim.lr 1e-6", "optim.lr");
  expect_said("ppo", "--lora.enabled --optim.lr 3e-6", "optim.lr");
  expect_said("sft", "--optim.name lion --optim.beta2 0.999", "optim.beta2");
  expect_said("sft", "--optim.name lion --optim.beta2 0.98", "");
}

static double rate_of(const char *stage, const char *line) {
  const Table table = table_of(stage);
  AnyConfig config;
  (void)parse(table, &config, line);
  const double rate = !strcmp(stage, "sft")      ? config.sft.optim.lr
                      : !strcmp(stage, "reward") ? config.reward.common.optim.lr
                                                 : config.ppo.optim.lr;
  options_free(table.rows, table.count, &config);
  return rate;
}

static void defaults_that_depend(void **state) {
  (void)state;
  assert_true(rate_of("sft", "") == 2e-5 && rate_of("sft", "--lora.enabled") == 2e-4);
  assert_true(rate_of("reward", "") == 3e-6 && rate_of("reward", "--lora.enabled") == 1e-4);
  assert_true(rate_of("ppo", "") == 3e-6 && rate_of("ppo", "--lora.enabled") == 5e-5);
  assert_true(rate_of("sft", "--lora.enabled --optim.lr 2e-5") == 2e-5);
  AnyConfig config;
  (void)parse(table_of("sft"), &config, "--optim.name lion");
  assert_true(config.sft.optim.beta2 == 0.99);
  options_free(sft_options, sft_option_count, &config);
}

/* The files in configs/ give no option in vain. */
static void shipped_configurations(void **state) {
  (void)state;
  static const char *const files[][2] = {{"sft", "sft"},       {"sft", "sft_lora"},
                                         {"reward", "reward"}, {"reward", "reward_lora"},
                                         {"ppo", "ppo_lora"},  {"ppo", "ppo_sources"}};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char line[400];
    snprintf(line, sizeof line, "--config %s/../../configs/%s.json", FIXTURES, files[i][1]);
    expect_said(files[i][0], line, "");
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(conditions_are_understood),
      cmocka_unit_test(adapters),
      cmocka_unit_test(optimisers),
      cmocka_unit_test(evaluations),
      cmocka_unit_test(rates_for_all_weights),
      cmocka_unit_test(defaults_that_depend),
      cmocka_unit_test(shipped_configurations),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
