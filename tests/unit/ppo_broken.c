/* Losses of PPO that are not finite say where: the episode, its prompt, and which number it was. What is not learnt from leaves no
 * gradient. */
#include "scoring/source.h"
#include "tests/support/ppo_lab.h"
#include "tests/temporary.h"

#include <math.h>

enum { BROKEN = 5, LINE = 20 };

/* A rollout up to the values, all as it should be; the prompt of answer e is line LINE + e of prompts.jsonl. */
static void roll_out(Lab *lab) {
  PpoSession *s = &lab->s;
  static DatasetSource source = {.path = (char *)"some/prompts.jsonl"};
  s->prompts = (Dataset){.sources = &source, .source_count = 1};
  lab_sample(lab, &(RolloutSpec){.seed = 1, .temperature = 1, .top_p = 1});
  Experience *x = &s->experience;
  for (int e = 0; e < LAB_BATCH; e++) x->prompts[e].line = LINE + (uint64_t)e;
}

static void judge(Lab *lab) {
  PpoSession *s = &lab->s;
  const PpoWorkers workers = session_workers(s);
  Error error = {0};
  if (!experience_score(&s->experience, &workers, &error) ||
      !experience_logprobs(&s->experience, &workers, &error) ||
      !experience_values(&s->experience, &workers, &error)) {
    fail_msg("%s", error.message);
  }
}

/* Who learns next, actor or critic, adds to the same memory. */
static void expect_no_gradient(Lab *lab) {
  PpoModels *models = &lab->s.models;
  Trainee *const all[] = {&models->actor, &models->critics[CRITIC_OF_REWARDS]};
  for (int i = 0; i < 2; i++) {
    double norm = NAN;
    Error error = {0};
    if (!trainee_step(all[i], &lab->s.compute, 0, &norm, &error)) fail_msg("%s", error.message);
    assert_true(norm == 0);
  }
}

static void expect_broken(Lab *lab, Ptx *ptx, const char *message) {
  PpoSession *s = &lab->s;
  const PpoWorkers workers = session_workers(s);
  UpdateState update = {.lr = 1e-4, .critic_lr = 1e-4};
  UpdateStats stats;
  Error error = {0};
  experience_credit(&s->experience, &s->config.ppo, 0.05, 0);
  assert_false(update_from(&s->experience, &workers, ptx, &update, &stats, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  if (!strstr(error.message, message)) fail_msg("'%s' is not in: %s", message, error.message);
  expect_no_gradient(lab);
}

/* One number of the rollout; advantages are whitened, and so none of them is finite any more. */
static void the_rollout(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, false, (const char *[]){"--ppo.reward_clip=5", NULL});
  Experience *x = &lab.s.experience;
  roll_out(&lab);
  judge(&lab);
  const int32_t at = x->offsets[BROKEN] + 1;
  const struct {
    float *place;
    const char *message;
  } table[] = {
      {&x->judged[BROKEN], "first at the score of episode 6 (its prompt: some/prompts.jsonl:25)"},
      {&x->logprob[at], "the policy loss is NaN, first at the log-probability of episode 6 (its prompt: "},
      {&x->reference[at], "the policy loss is NaN, first at the reference of episode 6 (its prompt: "},
      {&x->value[at], "the policy loss is NaN, first at the value of episode 6 (its prompt: "},
  };
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    const float score = x->score[BROKEN], former = *table[i].place;
    *table[i].place = NAN;
    if (i == 0) x->score[BROKEN] = NAN;
    expect_broken(&lab, NULL, table[i].message);
    x->score[BROKEN] = score;
    *table[i].place = former;
  }
  lab_close(&lab);
}

static bool says_nan(Source *source, int64_t first, int64_t end, Error *error) {
  (void)error;
  for (int64_t slot = first; slot < end; slot++) source_judged(source, slot, NAN);
  return true;
}

/* A reward model that says NaN is not taken for one that says the least. */
static void clipping_hides_nothing(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, false, (const char *[]){"--ppo.reward_clip=5", "--ppo.missing_eos=keep", NULL});
  PpoSession *s = &lab.s;
  const SourceKind broken = {.judge = says_nan}, *former = s->scoring.sources[0].kind;
  roll_out(&lab);
  s->scoring.sources[0].kind = &broken;
  judge(&lab);
  s->scoring.sources[0].kind = former;
  expect_broken(&lab, NULL, "the policy loss is NaN, first at the score of episode 1 (its prompt: ");
  lab_close(&lab);
}

/* The row of an id that answer BROKEN alone has: the rollout was right, and the weights are no longer. */
static void weights_of(bool critic, const char *message) {
  enum { ID = 99 };
  Lab lab;
  lab_open(&lab, false, (const char *[]){NULL});
  PpoSession *s = &lab.s;
  Experience *x = &s->experience;
  const Trainee *trainee = critic ? &s->models.critics[CRITIC_OF_REWARDS] : &s->models.actor;
  const Model *model = trainee->predictor.model;
  const Tensor table = model->tensors[model->embedding].value;
  roll_out(&lab);
  for (int e = 0; e < LAB_BATCH; e++) {
    for (int64_t t = 0; t < x->samples[e].length; t++) {
      int32_t *id = &x->samples[e].response[t];
      if (*id == ID) *id = ID - 1;
      if (e == BROKEN && t == 0) *id = ID;
    }
  }
  judge(&lab);
  float row[256];
  assert_true(table.dim[1] <= 256 && x->samples[BROKEN].length > 1);
  for (int i = 0; i < 256; i++) row[i] = NAN;
  compute_upload(&s->compute, tensor_rows(table, ID, 1), row);
  expect_broken(&lab, NULL, message);
  lab_close(&lab);
}

static void the_weights(void **state) {
  (void)state;
  weights_of(false, "the policy loss is NaN, first at the answer of episode 6 as the weights are now (its");
  weights_of(true, "the value loss is NaN, first at the answer of episode 6 as the weights are now (its");
}

/* The same of an id that stands in a text of data.ptx alone. */
static void the_other_text(void **state) {
  (void)state;
  Lab lab;
  Temporary folder;
  Error error = {0};
  lab_open(&lab, false, (const char *[]){NULL});
  temporary_open(&folder);
  PpoSession *s = &lab.s;
  Experience *x = &s->experience;
  Tokenizer *tokenizer = tokenizer_open(FIXTURES "/runs/policy", &error);
  Ptx ptx;
  Dataset data;
  char path[512], expected[600];
  snprintf(path, sizeof path, "%s", temporary_path(&folder, "text.jsonl"));
  FILE *file = fopen(path, "w");
  assert_true(file &&
              fputs("{\"text\": \"abc\"}\n{\"text\": \"cab\"}\n{\"text\": \"ajar\"}\n{\"text\": \"bc\"}\n",
                    file) > 0);
  fclose(file);
  const DatasetOptions options = {.name = "data.ptx",
                                  .kind = DATASET_TEXT,
                                  .tokenizer = tokenizer,
                                  .max_length = 16,
                                  .cache_dir = temporary_path(&folder, "cache")};
  if (!tokenizer || !dataset_open_file(&data, path, &options, &error)) fail_msg("%s", error.message);
  assert_true(ptx_init(&ptx, data, 0.5, 16, 64, 1, &error));
  const int id = tokenizer_id(tokenizer, "j");
  roll_out(&lab);
  for (int64_t i = 0; i < LAB_BATCH * LAB_LENGTH; i++)
    if (x->responses[i] == id) x->responses[i]++;
  judge(&lab);
  const Model *actor = s->models.actor.predictor.model;
  const Tensor table = actor->tensors[actor->embedding].value;
  float row[256];
  for (int i = 0; i < 256; i++) row[i] = NAN;
  compute_upload(&s->compute, tensor_rows(table, id, 1), row);
  snprintf(expected, sizeof expected, "the ptx loss is NaN, first at %s:3", path);
  expect_broken(&lab, &ptx, expected);
  ptx_close(&ptx);
  tokenizer_free(tokenizer);
  temporary_close(&folder);
  lab_close(&lab);
}

/* The minibatch that has moved too far is not learnt from, though its gradient was made. */
static void the_step_not_taken(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, false, (const char *[]){"--ppo.target_kl=1e-9", NULL});
  PpoSession *s = &lab.s;
  const PpoWorkers workers = session_workers(s);
  UpdateState update = {.lr = 1e-3, .critic_lr = 1e-3};
  UpdateStats stats;
  Error error = {0};
  roll_out(&lab);
  judge(&lab);
  experience_credit(&s->experience, &s->config.ppo, 0.05, 0);
  if (!update_from(&s->experience, &workers, NULL, &update, &stats, &error)) fail_msg("%s", error.message);
  assert_true(stats.stopped);
  expect_no_gradient(&lab);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_rollout), cmocka_unit_test(clipping_hides_nothing),
                                     cmocka_unit_test(the_weights), cmocka_unit_test(the_other_text),
                                     cmocka_unit_test(the_step_not_taken)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
