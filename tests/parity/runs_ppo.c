/* Whole runs of ppo, with a critic and without, against an independent implementation in fp64 (tests/fixtures/make_runs.py): three updates with every
 * term on, full weights and LoRA, evaluations among them. Metrics of every update, and actor, critic and running mean at the
 * end.
 *
 * All is the program's own but the sampling: the linker puts __wrap_experience_sample in the place of
 * experience_sample (tests/CMakeLists.txt), which hands out the answers of the fixture. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "ppo/experience.h"
#include "ppo/stage.h"
#include "tests/support/device.h"
#include "tests/support/whole_run.h"

static const int32_t end_id = 1; /* of runs/policy */

/* The answers of the run at hand. */
static struct {
  Fixture fixture;
  const int32_t *ids, *lengths; /* end to end; of each, in the order in which they are asked for */
  int64_t count, taken;
} answers;

static void answers_open(const char *name) {
  char path[64];
  snprintf(path, sizeof path, "runs/%s", name);
  fixture_open(&answers.fixture, path);
  answers.ids = fixture_ints(&answers.fixture, "answers", NULL);
  answers.lengths = fixture_ints(&answers.fixture, "lengths", &answers.count);
  answers.taken = 0;
}

static void answers_close(void) {
  assert_int_equal(answers.taken, answers.count);
  fixture_close(&answers.fixture);
}

bool __wrap_experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                              Error *error);

bool __wrap_experience_sample(Experience *experience, const PpoWorkers *workers, const RolloutSpec *spec,
                              Error *error) {
  (void)workers, (void)spec, (void)error;
  for (int64_t e = 0; e < experience->count; e++) {
    RolloutSample *sample = &experience->samples[e];
    assert_true(answers.taken < answers.count);
    sample->length = answers.lengths[answers.taken++];
    for (int64_t t = 0; t < sample->length; t++) {
      sample->response[t] = *answers.ids++;
      sample->logprobs[t] = 0; /* for ppo/sampler_error */
    }
    sample->finished = sample->response[sample->length - 1] == end_id ? ROLLOUT_EOS : ROLLOUT_LENGTH;
    experience->offsets[e + 1] = experience->offsets[e] + (int32_t)sample->length;
  }
  experience->tokens = experience->offsets[experience->count];
  return true;
}

typedef struct Files {
  const char *actor, *ema;
} Files;

static const Files full = {"model/model.safetensors", "ema/model/model.safetensors"};
static const Files lora = {"adapter/adapter_model.safetensors", "ema/adapter/adapter_model.safetensors"};

static void compare(const char *name, const Files *files, int critics, const char *const *options) {
  const Program program = {.name = "ppo",
                           .options = ppo_options,
                           .option_count = ppo_option_count,
                           .config_size = sizeof(PpoConfig),
                           .run = ppo_stage_run};
  WholeRun run;
  answers_open(name);
  whole_run_open(&run, &program, name, options);
  answers_close();
  whole_run_metrics(&run, WHOLE_RUN_METRICS);
  whole_run_tensors(&run, "actor", files->actor, "", WHOLE_RUN_WEIGHTS);
  whole_run_tensors(&run, "ema", files->ema, "", WHOLE_RUN_WEIGHTS);
  static const char state[] = "checkpoints/step-3/state.safetensors";
  if (critics > 0) whole_run_tensors(&run, "critic", state, "critic.value.", WHOLE_RUN_WEIGHTS);
  if (critics > 1) whole_run_tensors(&run, "cost_critic", state, "cost_critic.value.", WHOLE_RUN_WEIGHTS);
  whole_run_close(&run);
}

static void several_micro_batches(void **state) {
  (void)state;
  compare("ppo_full", &full, 1, NULL);
  compare("ppo_lora", &lora, 1, NULL);
}

static void without_a_critic(void **state) {
  (void)state;
  compare("ppo_grpo", &full, 0, NULL);
  compare("ppo_grpo_lora", &lora, 0, NULL);
  compare("ppo_dr_grpo", &full, 0, NULL);
  compare("ppo_dr_grpo_lora", &lora, 0, NULL);
  compare("ppo_remax", &full, 0, NULL);
  compare("ppo_remax_lora", &lora, 0, NULL);
  compare("ppo_rloo_lora", &lora, 0, NULL); /* in full: ppo_reference */
  compare("ppo_reinforce_pp", &full, 0, NULL);
  compare("ppo_reinforce_pp_lora", &lora, 0, NULL);
}

/* Other losses: limits, one ratio for an answer, the KL in the loss, answers that are left out, and other means. */
static void other_losses(void **state) {
  (void)state;
  compare("ppo_dapo", &full, 0, NULL);
  compare("ppo_gspo", &full, 0, NULL);
  compare("ppo_dual_clip", &full, 1, NULL);
}

/* Other rewards and credit: scores by their running mean and deviation, a penalty on length, lambdas of their own for actor and critic,
 * advantages as they are, and a first update of the critic alone. */
static void other_signals(void **state) {
  (void)state;
  compare("ppo_vapo", &full, 1, NULL);
}

/* A cost that is held at a threshold: its critic, its part of the advantages, and the multiplier, which waits, moves, and meets its limit. */
static void with_costs(void **state) {
  (void)state;
  compare("ppo_cost", &full, 2, NULL);
  compare("ppo_cost_lora", &lora, 2, NULL);
  compare("ppo_cost_grpo", &full, 0, NULL);
}

/* A reference that becomes what the policy is: every second update, and every one with the KL in the loss. */
static void following_reference(void **state) {
  (void)state;
  compare("ppo_reference", &full, 0, NULL);
  compare("ppo_reference_lora", &lora, 0, NULL);
}

/* How a minibatch is cut, and what is computed twice to save memory, is not the result's business. */
static void one_micro_batch(void **state) {
  (void)state;
  const char *const options[] = {"--optim.micro_batch_tokens=4096", "--model.recompute", NULL};
  if (device_brief()) skip();
  compare("ppo_full", &full, 1, options);
  compare("ppo_lora", &lora, 1, options);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(several_micro_batches),
      cmocka_unit_test(without_a_critic),
      cmocka_unit_test(other_losses),
      cmocka_unit_test(other_signals),
      cmocka_unit_test(with_costs),
      cmocka_unit_test(following_reference),
      cmocka_unit_test(one_micro_batch),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
