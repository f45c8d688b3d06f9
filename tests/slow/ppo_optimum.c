/* PPO where the optimum is known: a tiny random model, and the reward is the share of one chosen token in the answer.
 * The best policy writes nothing else. Each of five seeds must come above 0.9 within UPDATES updates; and with a large
 * kl_coef the policy must stay at its reference. The reward model is left out: its scores are replaced by the share. */
#include "ppo/ema.h"
#include "ppo/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

enum { UPDATES = 40, BATCH = 64, LENGTH = 8, PROMPTS = 4, PROMPT = 3, CHOSEN = 17 };

typedef struct Lab {
  PpoSession s; /* without data: only models, engine and arrays are opened */
  int32_t prompts[PROMPTS][PROMPT];
} Lab;

static void configure(Lab *lab, const char *seed, const char *kl_coef) {
  char *argv[] = {"ppo",
                  "--model.path=" FIXTURES "/models/llama",
                  "--reward.path=" FIXTURES "/models/llama_score",
                  "--data.prompts=none",
                  "--run.dir=none",
                  "--ppo.batch_size=64",
                  "--ppo.minibatches=4",
                  "--ppo.epochs=2",
                  "--rollout.max_new_tokens=8",
                  "--rollout.temperature=1",
                  "--optim.micro_batch_tokens=1024",
                  "--ppo.kl_coef",
                  (char *)kl_coef,
                  "--run.seed",
                  (char *)seed};
  Error error = {0};
  OptionRequest request;
  if (!options_parse(ppo_options, ppo_option_count, &lab->s.config, sizeof argv / sizeof *argv, argv,
                     &request, &error)) {
    fail_msg("%s", error.message);
  }
}

static void open_models(Lab *lab) {
  PpoSession *s = &lab->s;
  Error error = {0};
  EngineConfig engine = engine_config_default();
  engine.batch = BATCH;
  engine.max_length = PROMPT + LENGTH;
  if (!ppo_models_open(&s->models, &s->config, &s->lora, NULL, &s->compute, &s->memory, &error))
    fail_msg("%s", error.message);
  if (!s->compute.dry) {
    /* Near-uniform policies; the reference is the same as the actor. */
    model_initialize(s->models.actor.model, &s->compute, (uint64_t)s->config.run.seed);
    model_initialize(s->models.reference.model, &s->compute, (uint64_t)s->config.run.seed);
    model_initialize(s->models.critic.model, &s->compute, (uint64_t)s->config.run.seed + 1);
  }
  assert_true(
      engine_init(&s->engine, engine, s->models.actor.model, NULL, &s->compute, &s->memory.cache, &error));
  assert_true(pass_init(&s->policy_pass, s->models.actor.model, &error));
  assert_true(pass_init(&s->reward_pass, s->models.critic.model, &error));
  assert_true(microbatch_init(&s->micro, s->config.optim.micro_batch_tokens, BATCH, &error));
  if (s->compute.dry) {
    const PpoWorkers workers = session_workers(s);
    experience_plan(&workers);
    update_plan(&workers, NULL);
  }
}

static void close_models(Lab *lab) {
  PpoSession *s = &lab->s;
  microbatch_free(&s->micro);
  pass_free(&s->policy_pass);
  pass_free(&s->reward_pass);
  engine_free(&s->engine);
  ppo_models_close(&s->models);
}

static void lab_open(Lab *lab, const char *seed, const char *kl_coef) {
  PpoSession *s = &lab->s;
  Error error = {0};
  MemoryPlan plan = {0};
  *lab = (Lab){0};
  configure(lab, seed, kl_coef);
  assert_true(compute_open(&s->compute, DEVICE_CPU, 2, &error));
  plan_begin(&s->memory, &s->compute);
  open_models(lab);
  close_models(lab);
  assert_true(plan_end(&plan, &s->memory, &s->compute, &error));
  assert_true(train_memory_allocate(&s->memory, &s->compute, &error));
  open_models(lab);
  assert_true(experience_init(&s->experience, BATCH, LENGTH, &error));
  for (int p = 0; p < PROMPTS; p++) {
    for (int t = 0; t < PROMPT; t++) lab->prompts[p][t] = 10 * p + t + 3;
  }
}

static void lab_close(Lab *lab) {
  experience_free(&lab->s.experience);
  close_models(lab);
  train_memory_free(&lab->s.memory, &lab->s.compute);
  compute_close(&lab->s.compute);
  options_free(ppo_options, ppo_option_count, &lab->s.config);
}

/* The stand-in for the reward model. Returns the mean share. */
static double score_by_share(Experience *x) {
  double sum = 0;
  for (int64_t e = 0; e < x->count; e++) {
    int hits = 0;
    for (int64_t t = 0; t < x->samples[e].length; t++) hits += x->samples[e].response[t] == CHOSEN;
    x->score[e] = x->judged[e] = (float)hits / (float)x->samples[e].length;
    sum += x->judged[e];
  }
  return sum / (double)x->count;
}

typedef struct Outcome {
  double share, kl, first_ratio_error;
} Outcome;

static Outcome learn(Lab *lab, int updates) {
  PpoSession *s = &lab->s;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  const RolloutSpec spec = {.seed = (uint64_t)s->config.run.seed, .temperature = 1, .top_p = 1};
  Outcome outcome = {0};
  for (int u = 0; u < updates; u++) {
    Experience *x = &s->experience;
    experience_clear(x);
    for (int e = 0; e < BATCH; e++) experience_add(x, lab->prompts[e % PROMPTS], PROMPT, "", s->episodes++);
    assert_true(experience_sample(x, &workers, &spec, &error));
    outcome.share = score_by_share(x);
    assert_true(experience_recompute(x, &workers, &error));
    experience_credit(x, &s->config.ppo, s->config.ppo.kl_coef, &s->compute.comm);
    outcome.kl = experience_stats(x, &s->compute.comm).kl / LENGTH;
    UpdateStats stats;
    s->update.rollout = (uint64_t)u;
    s->update.lr = s->update.critic_lr = 3e-3;
    if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
    if (stats.first_ratio_error > outcome.first_ratio_error)
      outcome.first_ratio_error = stats.first_ratio_error;
  }
  return outcome;
}

static void reaches_the_optimum(void **state) {
  (void)state;
  const char *const seeds[] = {"1", "2", "3", "4", "5"};
  for (int i = 0; i < 5; i++) {
    Lab lab;
    lab_open(&lab, seeds[i], "0");
    const Outcome outcome = learn(&lab, UPDATES);
    printf("seed %s: share %.3f after %d updates, first ratio error %.2g\n", seeds[i], outcome.share, UPDATES,
           outcome.first_ratio_error);
    assert_true(outcome.share > 0.9);
    assert_true(outcome.first_ratio_error < 1e-4); /* the first ratio of every update is 1 */
    lab_close(&lab);
  }
}

static void stays_at_the_reference(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, "1", "100");
  const Outcome outcome = learn(&lab, UPDATES);
  printf("kl_coef 100: share %.3f, KL %.4f nats per token\n", outcome.share, outcome.kl);
  assert_true(outcome.share < 0.1);
  assert_true(outcome.kl < 0.05 && outcome.kl > -0.05);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(reaches_the_optimum),
      cmocka_unit_test(stays_at_the_reference),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
