/* PPO in one process without data or run directory: models, engine and arrays of tiny fixtures, and four prompts. */
#ifndef TESTS_SUPPORT_PPO_LAB_H
#define TESTS_SUPPORT_PPO_LAB_H

#include "ppo/estimator.h"
#include "ppo/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

enum { LAB_BATCH = 64, LAB_LENGTH = 8, LAB_PROMPTS = 4, LAB_PROMPT = 3 };

typedef struct Lab {
  PpoSession s; /* without data: only models, engine and arrays are opened */
  int32_t prompts[LAB_PROMPTS][LAB_PROMPT];
  bool fresh; /* weights of the seed instead of the fixture's: policies near uniform */
} Lab;

/* options: NULL-terminated, "--ppo.kl_coef=1". */
static inline void lab_configure(Lab *lab, const char *const *options) {
  char *argv[32] = {"ppo",
                    "--model.path=" FIXTURES "/models/llama",
                    "--reward.path=" FIXTURES "/models/llama_score",
                    "--data.prompts=none",
                    "--run.dir=none",
                    "--ppo.batch_size=64",
                    "--ppo.minibatches=4",
                    "--ppo.epochs=2",
                    "--rollout.max_new_tokens=8",
                    "--optim.micro_batch_tokens=1024"};
  int count = 10;
  while (*options) argv[count++] = (char *)*options++;
  Error error = {0};
  OptionRequest request;
  if (!options_parse(ppo_options, ppo_option_count, &lab->s.config, count, argv, &request, &error)) {
    fail_msg("%s", error.message);
  }
}

static inline void lab_open_models(Lab *lab) {
  PpoSession *s = &lab->s;
  Error error = {0};
  if (!ppo_models_open(&s->models, &s->config, &s->critics, &s->lora, NULL, &s->compute, &s->memory, &error))
    fail_msg("%s", error.message);
  const ScoringModels judges =
      ppo_models_for_scoring(&s->models, &s->config, &s->critics, &s->compute, &s->memory);
  if (!scoring_open_models(&s->scoring, &judges, &error)) fail_msg("%s", error.message);
  EngineConfig engine = engine_config_default(&s->compute, s->models.actor.predictor.model->dtype);
  engine.batch = LAB_BATCH;
  engine.max_length = LAB_PROMPT + LAB_LENGTH;
  if (!s->compute.dry && lab->fresh) { /* the reference is the same as the actor */
    const uint64_t seed = (uint64_t)s->config.run.seed;
    model_initialize(s->models.actor.predictor.model, &s->compute, seed);
    model_initialize(s->models.reference.model, &s->compute, seed);
    for (int k = 0; k < s->critics.count; k++)
      model_initialize(s->models.critics[k].predictor.model, &s->compute, seed + 1 + (uint64_t)k);
  }
  assert_true(engine_init(&s->engine, engine, s->models.actor.predictor.model, NULL, &s->compute,
                          &s->memory.cache, &error));
  assert_true(pass_init(&s->policy_pass, s->models.actor.predictor.model, &error));
  for (int k = 0; k < s->critics.count; k++)
    assert_true(pass_init(&s->critic_passes[k], s->models.critics[k].predictor.model, &error));
  assert_true(microbatch_init(&s->micro, s->config.optim.micro_batch_tokens, LAB_BATCH, &error));
  if (s->compute.dry) {
    const PpoWorkers workers = session_workers(s);
    Experience dry;
    assert_true(experience_init(&dry, 1, 1, s->critics.count, 1, &error));
    experience_plan(&dry, &workers);
    update_plan(&dry, &workers, NULL);
    experience_free(&dry);
  }
}

static inline void lab_close_models(Lab *lab) {
  PpoSession *s = &lab->s;
  microbatch_free(&s->micro);
  pass_free(&s->policy_pass);
  for (int k = 0; k < MOST_CRITICS; k++) pass_free(&s->critic_passes[k]);
  engine_free(&s->engine);
  scoring_close_models(&s->scoring);
  ppo_models_close(&s->models);
}

static inline void lab_open(Lab *lab, bool fresh, const char *const *options) {
  PpoSession *s = &lab->s;
  Error error = {0};
  MemoryPlan plan = {0};
  *lab = (Lab){.fresh = fresh, .s.comm = comm_single()};
  lab_configure(lab, options);
  if (!session_configure(s, &error) ||
      !scoring_open(&s->scoring, &s->rewards,
                    &(ScoringSetting){.text = &s->text, .capacity = LAB_BATCH, .comm = &s->comm}, &error))
    fail_msg("%s", error.message);
  assert_true(compute_open(&s->compute, DEVICE_CPU, 2, &error));
  plan_begin(&s->memory, &s->compute);
  lab_open_models(lab);
  lab_close_models(lab);
  assert_true(plan_end(&plan, &s->memory, &s->compute, &error));
  assert_true(train_memory_allocate(&s->memory, &s->compute, NULL, &error));
  lab_open_models(lab);
  assert_true(experience_init(&s->experience, LAB_BATCH, LAB_LENGTH, s->critics.count, 1, &error));
  for (int p = 0; p < LAB_PROMPTS; p++) {
    for (int t = 0; t < LAB_PROMPT; t++) lab->prompts[p][t] = 10 * p + t + 3;
  }
}

static inline void lab_close(Lab *lab) {
  experience_free(&lab->s.experience);
  lab_close_models(lab);
  scoring_close(&lab->s.scoring);
  scoring_config_free(&lab->s.rewards);
  train_memory_free(&lab->s.memory, &lab->s.compute);
  compute_close(&lab->s.compute);
  options_free(ppo_options, ppo_option_count, &lab->s.config);
}

/* A rollout over the prompts, each several times, in groups of samples_per_prompt. */
static inline void lab_sample(Lab *lab, const RolloutSpec *spec) {
  PpoSession *s = &lab->s;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  const int each = (int)s->config.ppo.samples_per_prompt;
  experience_begin(&s->experience, &workers);
  for (int e = 0; e < LAB_BATCH; e++) {
    const Example prompt = {.ids = lab->prompts[e / each % LAB_PROMPTS], .count = LAB_PROMPT, .prompt = ""};
    experience_add(&s->experience, &prompt, (uint64_t)s->episodes++);
  }
  if (!experience_sample(&s->experience, &workers, spec, &error)) fail_msg("%s", error.message);
}

#endif
