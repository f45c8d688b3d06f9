/* Whole runs of dpo against an independent implementation in fp64 (tests/fixtures/make_runs.py), each loss with all weights
 * and with an adapter: pairs with all weights, rankings with an adapter that is the reference too, single answers with both;
 * each cut into several micro-batches and in one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "dpo/stage.h"
#include "tests/support/device.h"
#include "tests/support/whole_run.h"

static const char *const whole[] = {"--optim.micro_batch_tokens=4096", NULL};
static const char *const recomputed[] = {"--model.recompute", NULL};

/* The run NAME with its own micro-batches, with one for each update, and with recomputation. */
static void run_each(const char *name, const char *file) {
  const Program program = {.name = "dpo",
                           .options = dpo_options,
                           .option_count = dpo_option_count,
                           .config_size = sizeof(DpoStageConfig),
                           .run = dpo_run};
  const char *const *const options[] = {NULL, whole, recomputed};
  const size_t count = device_brief() ? 1 : sizeof options / sizeof *options;
  for (size_t i = 0; i < count; i++) {
    WholeRun run;
    whole_run_open(&run, &program, name, options[i]);
    whole_run_metrics(&run, WHOLE_RUN_METRICS);
    whole_run_tensors(&run, "policy", file, "", WHOLE_RUN_WEIGHTS);
    whole_run_close(&run);
  }
}

static const char model_file[] = "model/model.safetensors",
                  adapter_file[] = "adapter/adapter_model.safetensors";

static void sigmoid(void **state) {
  (void)state;
  run_each("dpo_plain", model_file);
  run_each("dpo_plain_lora", adapter_file);
}

static void smoothed_with_sft(void **state) {
  (void)state;
  run_each("dpo_full", model_file);
  run_each("dpo_lora", adapter_file);
}

static void ipo(void **state) {
  (void)state;
  run_each("dpo_ipo", model_file);
  run_each("dpo_ipo_lora", adapter_file);
}

static void orpo(void **state) {
  (void)state;
  run_each("dpo_orpo", model_file);
  run_each("dpo_orpo_lora", adapter_file);
}

static void simpo(void **state) {
  (void)state;
  run_each("dpo_simpo", model_file);
  run_each("dpo_simpo_lora", adapter_file);
}

/* z0 of whole updates and of the evaluation, of one example too; with prompts that have two answers next to each other, and
 * answers that are too long for another prompt. */
static void kto(void **state) {
  (void)state;
  run_each("kto_full", model_file);
  run_each("kto_lora", adapter_file);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(sigmoid), cmocka_unit_test(smoothed_with_sft),
      cmocka_unit_test(ipo),     cmocka_unit_test(orpo),
      cmocka_unit_test(simpo),   cmocka_unit_test(kto),
  };
  return cmocka_run_group_tests_name("parity/runs_dpo", tests, NULL, NULL);
}
