/* Whole runs of sft and reward against an independent implementation in fp64 (tests/fixtures/make_runs.py), full
 * weights and LoRA, each cut into several micro-batches and in one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "reward/stage.h"
#include "sft/stage.h"
#include "tests/support/device.h"
#include "tests/support/whole_run.h"

static const char *const whole[] = {"--optim.micro_batch_tokens=4096", NULL};
static const char *const recomputed[] = {"--model.recompute", NULL};

/* The run NAME with its own micro-batches, with one for each update, and with recomputation. */
static void run_each(const Program *program, const char *name, const char *part, const char *file) {
  const char *const *const options[] = {NULL, whole, recomputed};
  const size_t count = device_brief() ? 1 : sizeof options / sizeof *options;
  for (size_t i = 0; i < count; i++) {
    WholeRun run;
    whole_run_open(&run, program, name, options[i]);
    whole_run_metrics(&run, WHOLE_RUN_METRICS);
    whole_run_tensors(&run, part, file, "", WHOLE_RUN_WEIGHTS);
    whole_run_close(&run);
  }
}

static const char model_file[] = "model/model.safetensors",
                  adapter_file[] = "adapter/adapter_model.safetensors";

static Program sft_program(void) {
  return (Program){.name = "sft",
                   .options = sft_options,
                   .option_count = sft_option_count,
                   .config_size = sizeof(SupervisedConfig),
                   .run = sft_run};
}

static Program reward_program(void) {
  return (Program){.name = "reward",
                   .options = reward_options,
                   .option_count = reward_option_count,
                   .config_size = sizeof(RewardStageConfig),
                   .run = reward_run};
}

static void sft_full(void **state) {
  (void)state;
  const Program program = sft_program();
  run_each(&program, "sft_full", "policy", model_file);
}

static void sft_lora(void **state) {
  (void)state;
  const Program program = sft_program();
  run_each(&program, "sft_lora", "policy", adapter_file);
}

static void reward_full(void **state) {
  (void)state;
  const Program program = reward_program();
  run_each(&program, "reward_full", "scorer", model_file);
}

static void reward_lora(void **state) {
  (void)state;
  const Program program = reward_program();
  run_each(&program, "reward_lora", "scorer", adapter_file);
}

/* Scores rise with harm, and labels of safety say where 0 is. */
static void reward_cost(void **state) {
  (void)state;
  const Program program = reward_program();
  run_each(&program, "reward_cost", "scorer", model_file);
}

/* Two to seven answers to a prompt, some of equal rank. */
static void reward_ranked(void **state) {
  (void)state;
  const Program program = reward_program();
  run_each(&program, "reward_ranked", "scorer", model_file);
}

static void reward_ranked_lora(void **state) {
  (void)state;
  const Program program = reward_program();
  run_each(&program, "reward_ranked_lora", "scorer", adapter_file);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sft_full),    cmocka_unit_test(sft_lora),      cmocka_unit_test(reward_full),
      cmocka_unit_test(reward_lora), cmocka_unit_test(reward_ranked), cmocka_unit_test(reward_ranked_lora),
      cmocka_unit_test(reward_cost),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
