/* What a rollout leaves: the engine's log-probabilities beside the training forward's, at the same temperature and at a
 * wrong one; and the statistics, on a rollout made up by hand. */
#include "ppo/advantage.h"
#include "scoring/source.h"
#include "tests/support/ppo_lab.h"

#include <math.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static ExperienceStats sampled_at(Lab *lab, float temperature) {
  PpoSession *s = &lab->s;
  Error error = {0};
  const PpoWorkers workers = session_workers(s);
  lab_sample(lab, &(RolloutSpec){.seed = 1, .temperature = temperature, .top_p = 1});
  if (!experience_logprobs(&s->experience, &workers, &error)) fail_msg("%s", error.message);
  return experience_stats(&s->experience);
}

/* The sampler and the trainer are two forward passes: they agree, and where they do not, it shows. */
static void sampler_error(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, false, (const char *[]){"--rollout.temperature=0.7", NULL});
  const ExperienceStats right = sampled_at(&lab, 0.7F), wrong = sampled_at(&lab, 1);
  printf("sampler error: mean %.2g, largest %.2g; at another temperature %.2g, %.2g\n", right.sampler_error,
         right.sampler_error_max, wrong.sampler_error, wrong.sampler_error_max);
  assert_true(right.sampler_error < 2e-6 && right.sampler_error_max < 2e-5);
  assert_true(right.sampler_error > 0 && right.sampler_error_max >= right.sampler_error);
  assert_true(wrong.sampler_error > 1e-2 && wrong.sampler_error_max > 5e-2);
  lab_close(&lab);
}

/* Stands in for a judge beside us: what was still being sampled when it was asked for the first time. */
static struct {
  const Experience *experience;
  int64_t asked, unfinished;
} judge;

static bool ask_nothing(Source *source, int64_t slot, Buffer *out, Error *error) {
  (void)source, (void)slot, (void)out, (void)error;
  return true;
}

static bool note_question(Source *source, int64_t slot, Error *error) {
  (void)error;
  for (int64_t e = 0; judge.asked == 0 && e < judge.experience->count; e++)
    judge.unfinished += judge.experience->samples[e].finished == ROLLOUT_UNFINISHED;
  judge.asked++;
  source_judged(source, slot, 1);
  return true;
}

static int64_t nothing_left(const Source *source) {
  (void)source;
  return 0;
}

/* Answers are judged as soon as they are there: while others, of more tokens, are still sampled. */
static void judged_while_sampling(void **state) {
  (void)state;
  static SourceKind kind;
  Lab lab;
  lab_open(&lab, true, (const char *[]){"--rollout.max_new_tokens_from=1", NULL});
  Source *source = &lab.s.scoring.sources[0];
  const SourceKind *own = source->kind;
  kind = *own;
  kind.judge = NULL;
  kind.question = ask_nothing;
  kind.submit = note_question;
  kind.left = nothing_left;
  source->kind = &kind;
  judge.experience = &lab.s.experience;
  lab_sample(&lab, &(RolloutSpec){.seed = 1, .temperature = 1, .top_p = 1});
  printf("%d answers, %d unfinished at the first question\n", (int)judge.asked, (int)judge.unfinished);
  assert_int_equal(judge.asked, LAB_BATCH);
  assert_true(judge.unfinished > LAB_BATCH / 4);
  source->kind = own;
  lab_close(&lab);
}

/* Three answers: two tokens, one (nothing but the end mark), two that did not end. */
enum { ANSWERS = 3, LONGEST = 2, TOKENS = 5 };

static void made_up(Experience *x) {
  static const int lengths[ANSWERS] = {2, 1, 2};
  static const RolloutFinish finished[ANSWERS] = {ROLLOUT_EOS, ROLLOUT_EOS, ROLLOUT_LENGTH};
  static const float score[ANSWERS] = {1, 3, -7}, judged[ANSWERS] = {1, 3, -1};
  static const float logprob[TOKENS] = {-1, -2, -0.5F, -0.25F, -4},
                     reference[TOKENS] = {-1.5F, -1, -0.5F, -0.75F, -4.25F};
  static const float value[TOKENS] = {0.5F, 0, -1, 0.25F, 2}, entropy[TOKENS] = {1, 2, 3, 4, 5};
  Error error = {0};
  assert_true(experience_init(x, ANSWERS, LONGEST, 1, 1, &error));
  x->count = ANSWERS;
  x->tokens = TOKENS;
  for (int e = 0; e < ANSWERS; e++) {
    x->offsets[e + 1] = x->offsets[e] + lengths[e];
    x->score[e] = score[e];
    x->judged[e] = judged[e];
    x->samples[e] =
        (RolloutSample){.length = lengths[e], .finished = finished[e], .logprobs = x->sampled + LONGEST * e};
    for (int t = 0; t < lengths[e]; t++) x->samples[e].logprobs[t] = logprob[x->offsets[e] + t];
  }
  x->samples[2].logprobs[1] += 0.5F;
  for (int t = 0; t < TOKENS; t++) {
    x->logprob[t] = logprob[t];
    x->reference[t] = reference[t];
    x->value[t] = value[t];
    x->entropy[t] = entropy[t];
  }
}

static void statistics(void **state) {
  (void)state;
  Experience x;
  made_up(&x);
  const ExperienceStats s = experience_stats(&x);
  assert_near(s.score, -1, 1e-12);
  assert_near(s.score_std, sqrt((4 + 16 + 36) / 2.0), 1e-12);
  assert_near(s.judged, 1, 1e-12);
  assert_near(s.ended_score, 2, 1e-12); /* of the two that ended */
  assert_near(s.ended, 2 / 3.0, 1e-12);
  assert_near(s.empty, 1 / 3.0, 1e-12);
  assert_near(s.length, 5 / 3.0, 1e-12);
  assert_near(s.entropy, 3, 1e-12);
  assert_near(s.kl, 0.25 / 3, 1e-7); /* 0.5 - 1 + 0 + 0.5 + 0.25 */
  assert_near(s.sampler_error, 0.1, 1e-7);
  assert_near(s.sampler_error_max, 0.5, 1e-7);
  assert_near(s.sampler_kl, (exp(-0.5) - 0.5) / 5, 1e-7);
  for (int e = 0; e < ANSWERS; e++) x.samples[e].finished = ROLLOUT_LENGTH;
  assert_true(isnan(experience_stats(&x).ended_score));
  experience_free(&x);
}

static void other_ends(void **state) {
  (void)state;
  Experience x;
  made_up(&x);
  static int32_t first[] = {9, 1}, second[] = {2}, third[] = {9, 9};
  x.samples[0].response = first;
  x.samples[1].response = second;
  x.samples[2].response = third; /* did not end */
  assert_near(experience_other_ends(&x, 1), 0.5, 1e-12);
  assert_true(isnan(experience_other_ends(&x, -1)));
  experience_free(&x);
}

/* The reward is made of the KL that the estimator gives, and is counted before it is whitened. */
static void credit(void **state) {
  (void)state;
  for (int whiten = 0; whiten < 2; whiten++) {
    Experience x;
    made_up(&x);
    const PpoAlgorithm ppo = {
        .kl_estimator = KL_K2, .whiten_rewards = whiten, .whiten_advantages = true, .gamma = 1, .lam = 1};
    const Credit c = experience_credit(&x, &ppo, 2, 0);
    /* k2: 0.125, 0.5, 0, 0.125, 0.03125, times 2 */
    const double total[ANSWERS] = {1 - 1.25, 3, -1 - 0.3125};
    double mean = 0, returns[TOKENS] = {-0.25, 0, 3, -1.3125, -1.0625}, value[TOKENS] = {0.5, 0, -1, 0.25, 2};
    for (int e = 0; e < ANSWERS; e++) {
      assert_near(x.total[e], total[e], 1e-6);
      mean += total[e] / ANSWERS;
    }
    assert_near(c.reward, mean, 1e-6);
    assert_true(c.bounded == 0);
    if (!whiten) { /* lambda 1: the return of a token is the sum of the rewards to come */
      float r[TOKENS], a[TOKENS];
      for (int t = 0; t < TOKENS; t++) {
        r[t] = (float)returns[t];
        a[t] = (float)(returns[t] - value[t]);
      }
      assert_near(c.return_std, standard_deviation(r, TOKENS), 1e-6);
      assert_near(c.advantage_std, standard_deviation(a, TOKENS), 1e-6);
      assert_true(c.advantage_std > 1.5); /* before whitening; 1 after */
    }
    assert_near(standard_deviation(x.advantage, TOKENS), 1, 1e-6);
    experience_free(&x);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(sampler_error), cmocka_unit_test(judged_while_sampling),
                                     cmocka_unit_test(statistics), cmocka_unit_test(other_ends),
                                     cmocka_unit_test(credit)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
