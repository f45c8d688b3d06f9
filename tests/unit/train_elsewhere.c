/* Options of other trainers: what base/option_elsewhere.c answers is an option of the stages that it names. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/option_elsewhere.h"
#include "dpo/config.h"
#include "ppo/config.h"
#include "reward/config.h"
#include "sft/config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAGES = 4 };

typedef struct Stage {
  const char *name;
  const Option *table;
  size_t rows;
} Stage;

static Stage stage_at(size_t i) {
  const Stage stages[STAGES] = {{"sft", sft_options, sft_option_count},
                                {"reward", reward_options, reward_option_count},
                                {"ppo", ppo_options, ppo_option_count},
                                {"dpo", dpo_options, dpo_option_count}};
  return stages[i];
}

static bool has(Stage stage, const char *key) {
  for (size_t i = 0; i < stage.rows; i++) {
    if (!strcmp(stage.table[i].key, key)) return true;
  }
  return false;
}

/* Where an option is taken that a row names; a row without a key is for all stages. */
static bool names(const OptionElsewhere *row, Stage stage) {
  return !row->programs || strstr(row->programs, stage.name) != NULL;
}

/* What the stage says to one argument, which it refuses. */
static void refusal(Stage stage, const char *argument, char message[1024]) {
  union {
    SupervisedConfig sft;
    RewardStageConfig reward;
    PpoConfig ppo;
    DpoStageConfig dpo;
  } config;
  char text[128];
  snprintf(text, sizeof text, "--%s", argument);
  char *argv[] = {"stage", text, "1"};
  OptionRequest request;
  Error error = {0};
  memset(&config, 0, sizeof config);
  assert_false(options_parse(stage.table, stage.rows, &config, 3, argv, &request, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  snprintf(message, 1024, "%s", error.message);
  options_free(stage.table, stage.rows, &config);
}

static void keys_are_options_of_the_stages_named(void **state) {
  (void)state;
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    assert_true(row->key ? row->programs != NULL : row->remark != NULL);
    for (size_t s = 0; row->key && s < STAGES; s++) {
      if (has(stage_at(s), row->key) != names(row, stage_at(s))) {
        fail_msg("%s: %s and '%s' of %s", row->name, stage_at(s).name, row->key, row->programs);
      }
    }
  }
}

/* Every "section.key" within a remark. */
static void remarks_name_options(void **state) {
  (void)state;
  size_t found = 0;
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    for (const char *at = row->remark; at && *at;) {
      const size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz_.0123456789");
      char word[64];
      snprintf(word, sizeof word, "%.*s", (int)length, at);
      at += length + (at[length] != '\0');
      const char *dot = strchr(word, '.');
      if (!dot || !islower((unsigned char)word[0]) || !dot[1]) continue;
      found++;
      for (size_t s = 0; s < STAGES; s++) {
        if (names(row, stage_at(s)) && !has(stage_at(s), word)) {
          fail_msg("%s: %s has no '%s'", row->name, stage_at(s).name, word);
        }
      }
    }
  }
  assert_true(found > 10);
}

/* What a word of theirs is here is a value of the option, in every stage that has it. */
static void words_are_values(void **state) {
  (void)state;
  size_t found = 0;
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    assert_int_equal(row->words != NULL, row->use == ELSEWHERE_WORDS);
    if (row->use == ELSEWHERE_ASIDE) assert_non_null(row->remark);
    if (row->use == ELSEWHERE_SAME) assert_non_null(row->key);
    for (const char *at = row->words; at && *at; at += strspn(at, " ")) {
      char there[64] = "", here[64] = "";
      assert_true(sscanf(at, "%63[^=]=%63[^ ]", there, here) >= 1);
      at += strcspn(at, " ");
      for (size_t s = 0; *here && s < STAGES; s++) {
        if (!names(row, stage_at(s))) continue;
        union {
          SupervisedConfig sft;
          RewardStageConfig reward;
          PpoConfig ppo;
          DpoStageConfig dpo;
        } config;
        char option[80];
        snprintf(option, sizeof option, "--%s=%s", row->key, here);
        char *argv[] = {"stage", option};
        OptionRequest request;
        Error error = {0};
        memset(&config, 0, sizeof config);
        /* what is required is missing, and asked for after every value was read */
        assert_false(options_parse(stage_at(s).table, stage_at(s).rows, &config, 2, argv, &request, &error));
        if (!strstr(error.message, "required")) fail_msg("%s: %s", row->name, error.message);
        options_free(stage_at(s).table, stage_at(s).rows, &config);
        found++;
      }
    }
  }
  assert_true(found > 50);
}

static void every_row_is_answered(void **state) {
  (void)state;
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    for (size_t s = 0; s < STAGES; s++) {
      if (!names(row, stage_at(s))) continue;
      char message[1024], expected[1024];
      refusal(stage_at(s), row->name, message);
      if (row->key) {
        snprintf(expected, sizeof expected, "unknown option '--%s'; here it is '--%s'%s%s", row->name,
                 row->key, row->remark ? ": " : "", row->remark ? row->remark : "");
      } else {
        snprintf(expected, sizeof expected, "unknown option '--%s'; it has no equal here: %s", row->name,
                 row->remark);
      }
      assert_string_equal(message, expected);
    }
  }
}

/* Names that the nearest one answers are in no row; what only another stage has is said to be that stage's. */
static void answers(void **state) {
  (void)state;
  static const struct {
    size_t stage;
    const char *name, *message;
  } cases[] = {
      {0, "lora_r", "unknown option '--lora_r'; here it is '--lora.r'"},
      {0, "lora_alpha", "unknown option '--lora_alpha'; here it is '--lora.alpha'"},
      {0, "lora_dropout", "unknown option '--lora_dropout'; here it is '--lora.dropout'"},
      {0, "lora_modules_to_save",
       "unknown option '--lora_modules_to_save'; here it is '--lora.modules_to_save'"},
      {0, "weight_decay", "unknown option '--weight_decay'; here it is '--optim.weight_decay'"},
      {1, "warmup_steps", "unknown option '--warmup_steps'; here it is '--optim.warmup_steps'"},
      {1, "packing",
       "unknown option '--packing'; here it is '--data.packing': true by default, and another thing: how "
       "many "
       "examples an update has does not depend on it"},
      {1, "seed", "unknown option '--seed'; here it is '--run.seed'"},
      {2, "kl_coef", "unknown option '--kl_coef'; did you mean '--ppo.kl_coef'?"},
      {2, "cliprange", "unknown option '--cliprange'; did you mean '--ppo.cliprange'?"},
      {2, "gamma", "unknown option '--gamma'; did you mean '--ppo.gamma'?"},
      {2, "lam", "unknown option '--lam'; did you mean '--ppo.lam'?"},
      {2, "batch_size", "unknown option '--batch_size'; did you mean '--ppo.batch_size'?"},
      {2, "num_generations", "unknown option '--num_generations'; here it is '--ppo.samples_per_prompt'"},
      {2, "lora.lora-rank", "unknown option '--lora.lora-rank'; here it is '--lora.r'"},
      {0, "response_length", "unknown option '--response_length'; it is '--rollout.max_new_tokens' of ppo"},
      {2, "data.packing", "unknown option '--data.packing'; it is an option of sft, reward and dpo"},
      {2, "optim.max_steps",
       "unknown option '--optim.max_steps'; here it is '--ppo.total_episodes': answers over the whole run: "
       "updates x ppo.batch_size"},
      {2, "sample_packing",
       "unknown option '--sample_packing'; it is '--data.packing' of sft, reward and dpo"},
      {2, "num_train_epochs",
       "unknown option '--num_train_epochs'; here it is '--ppo.total_episodes': answers over the whole run: "
       "epochs x "
       "prompts"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char message[1024];
    refusal(stage_at(cases[i].stage), cases[i].name, message);
    assert_string_equal(message, cases[i].message);
  }
}

/* What is said of a short name, of another tool's, and of one that is like none: nothing that is wrong. "": no suggestion. */
static void suggestions(void **state) {
  (void)state;
  static const struct {
    const char *name, *sft, *ppo;
  } cases[] = {
      {"optim.wd", "optim.weight_decay", "optim.weight_decay"},
      {"wd", "optim.weight_decay", "optim.weight_decay"},
      {"optim.bs", "optim.batch_size", "ppo.batch_size"},
      {"optim.mbt", "optim.micro_batch_tokens", "optim.micro_batch_tokens"},
      {"optim.lrr", "optim.lr", "optim.lr"},
      {"optm.lr", "optim.lr", "optim.lr"},
      {"optim_lr", "optim.lr", "optim.lr"},
      {"learning-rate", "optim.lr", "optim.lr"},
      {"optim.learning_rate", "optim.lr", "optim.lr"},
      {"lr_schedule", "optim.schedule", "optim.schedule"},
      {"batchsize", "optim.batch_size", "ppo.batch_size"},
      {"grad_accum", "optim.batch_size", "ppo.batch_size"},
      {"epochs", "optim.epochs", "ppo.total_episodes"},
      {"max_epochs", "optim.epochs", "ppo.total_episodes"},
      {"optim.grad_clip", "optim.clip", "optim.clip"},
      {"optim.warmup", "optim.warmup_steps", "optim.warmup_steps"},
      {"rollout.temp", "", "rollout.temperature"},
      {"rollout.max_tokens", "", "rollout.max_new_tokens"},
      {"eps_clip", "ppo.cliprange", "ppo.cliprange"},
      {"data.seq_len", "data.max_length", "data.max_length"},
      {"optim.ls", "", ""},
      {"optim.zz", "", ""},
      {"lora.q", "", ""},
      {"optim.be", "", ""},
      {"run.x", "", ""},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (size_t s = 0; s < 3; s += 2) {
      const char *expected = s ? cases[i].ppo : cases[i].sft;
      char message[1024], quoted[80];
      refusal(stage_at(s), cases[i].name, message);
      snprintf(quoted, sizeof quoted, *expected ? "%s'" : "; did you mean", expected);
      if (!strstr(message, quoted) != !*expected) fail_msg("%s: %s", stage_at(s).name, message);
    }
  }
}

/* A section that is said to be of some stages is so. */
static void sections_are_of_the_stages_named(void **state) {
  (void)state;
  static const char *const sections[] = {"data",   "model", "lora", "optim", "run",     "device",
                                         "reward", "ppo",   "dpo",  "cost",  "rollout", "critic"};
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    const char *programs = option_section_programs(sections[i]);
    const size_t length = strlen(sections[i]);
    for (size_t s = 0; s < STAGES; s++) {
      bool found = false;
      for (size_t o = 0; o < stage_at(s).rows; o++) {
        const char *key = stage_at(s).table[o].key;
        found |= strncmp(key, sections[i], length) == 0 && key[length] == '.';
      }
      if (found != (!programs || strstr(programs, stage_at(s).name)))
        fail_msg("%s: %s", sections[i], stage_at(s).name);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_are_options_of_the_stages_named),
      cmocka_unit_test(remarks_name_options),
      cmocka_unit_test(words_are_values),
      cmocka_unit_test(every_row_is_answered),
      cmocka_unit_test(answers),
      cmocka_unit_test(suggestions),
      cmocka_unit_test(sections_are_of_the_stages_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
