/* Greedy answers under a repetition penalty and a least length against Transformers' generate (tests/fixtures/make_generate.py): id for id, with the
 * log-probabilities of the processed scores. */
#include "tests/unit/rollout_lab.h"

#include "tests/support/fixture.h"

/* Of the script, in its order. */
static const char *const models[] = {"gpt2", "gpt2", "gpt2", "gpt2", "gpt2", "llama", "llama", "llama"};
enum { CASES = sizeof models / sizeof *models };

static const int32_t *ints(Fixture *fixture, int k, const char *what, int64_t *count) {
  char name[32];
  snprintf(name, sizeof name, "%d.%s", k, what);
  return fixture_ints(fixture, name, count);
}

static const float *floats(Fixture *fixture, int k, const char *what) {
  char name[32];
  snprintf(name, sizeof name, "%d.%s", k, what);
  return fixture_floats(fixture, name, NULL);
}

static void check_case(Fixture *fixture, int k) {
  Lab lab;
  Error error = {0};
  int64_t prompt, expected;
  int32_t response[32];
  float logprobs[32];
  const float *settings = floats(fixture, k, "settings");
  RolloutSample sample = {.max_new_tokens = (int64_t)settings[2], .response = response, .logprobs = logprobs};
  sample.prompt = ints(fixture, k, "prompt", &prompt);
  sample.prompt_length = prompt;
  const int32_t *ids = ints(fixture, k, "response", &expected);
  const RolloutSpec spec = {.top_p = 1,
                            .repetition_penalty = settings[0],
                            .min_new_tokens = (int64_t)settings[1],
                            .eos_ids = ints(fixture, k, "eos", NULL),
                            .eos_count = 1};
  lab_open(&lab, models[k], false);
  lab_engine(
      &lab, (EngineConfig){.batch = 2, .max_length = 30, .block_size = 4, .prefill_chunk = 4, .edits = true});
  lab_check(engine_run(&lab.engine, &spec, &sample, 1, &error), &error);
  print_message("    %s, penalty %.1f, at least %.0f: %lld tokens\n", models[k], (double)settings[0],
                (double)settings[1], (long long)sample.length);
  assert_int_equal(sample.length, expected);
  assert_memory_equal(response, ids, (size_t)expected * sizeof *ids);
  assert_near("logprob", logprobs, floats(fixture, k, "logprob"), expected, 5e-5);
  assert_int_equal(sample.finished, ids[expected - 1] == spec.eos_ids[0] ? ROLLOUT_EOS : ROLLOUT_LENGTH);
  lab_close(&lab);
}

static void as_transformers_generates(void **state) {
  (void)state;
  Fixture fixture;
  fixture_open(&fixture, "rollout/generate");
  for (int k = 0; k < CASES; k++) check_case(&fixture, k);
  fixture_close(&fixture);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(as_transformers_generates)};
  return cmocka_run_group_tests_name("parity/generate", tests, NULL, NULL);
}
