/* Ten updates of LoRA over a 4-bit base beside PEFT and bitsandbytes (tests/fixtures/make_bnb_run.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "sft/stage.h"
#include "tests/support/whole_run.h"

/* bitsandbytes' products on a CPU take the weights in F32, ours rounded to BF16; so the roundings of the fixture are what that makes. */
static const double LOSS_TOLERANCE = 1e-3, METRIC_TOLERANCE = 7.5e-3;

static void sft_over(const char *const *options) {
  const Program program = {.name = "sft",
                           .options = sft_options,
                           .option_count = sft_option_count,
                           .config_size = sizeof(SupervisedConfig),
                           .run = sft_run};
  WholeRun run;
  whole_run_open(&run, &program, "sft_bnb", options);
  whole_run_metric(&run, "train/loss", LOSS_TOLERANCE);
  whole_run_metric(&run, "eval/loss", LOSS_TOLERANCE);
  whole_run_metrics(&run, METRIC_TOLERANCE);
  whole_run_tensors(&run, "policy", "adapter/adapter_model.safetensors", "", INFINITY);
  whole_run_close(&run);
}

/* The model in 16 bits, quantised as it is read: bitsandbytes' codes. */
static void quantised_here(void **state) {
  (void)state;
  sft_over((const char *[]){"--model.path=fixtures/runs/policy_bnb_whole", "--model.quantize=nf4", NULL});
}

/* bitsandbytes' own directory: its codes as they are, and dequantised to BF16. */
static void taken_as_they_are(void **state) {
  (void)state;
  sft_over((const char *[]){"--model.path=fixtures/runs/policy_bnb", "--model.quantize=nf4", NULL});
}

static void dequantised(void **state) {
  (void)state;
  sft_over((const char *[]){"--model.path=fixtures/runs/policy_bnb", NULL});
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(quantised_here), cmocka_unit_test(taken_as_they_are),
                                     cmocka_unit_test(dequantised)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
