/* Estimators without a critic, against the formulas of their papers restated here in double; and what the loss of each is a mean of,
 * seen by the gradient. */
#include "ppo/advantage.h"
#include "tests/support/ppo_lab.h"

#include <math.h>

/* In double: cmocka compares floats. */
#define assert_near(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

enum { GROUPS = 3, SIZE = 4, ANSWERS = GROUPS * SIZE, MOST = 64 };

typedef struct Rollout {
  float returns[ANSWERS], reward[MOST], advantage[MOST];
  int32_t offsets[ANSWERS + 1];
} Rollout;

/* Answers of 1 to 4 tokens; those of group 1 all have the same return. */
static void make(Rollout *r) {
  *r = (Rollout){0};
  for (int i = 0; i < ANSWERS; i++) {
    r->offsets[i + 1] = r->offsets[i] + 1 + (i * 7 + 2) % 4;
    r->returns[i] = i / SIZE == 1 ? 0.7F : 3 * sinf(1.3F * (float)i) + 100 * (float)(i / SIZE);
    for (int32_t t = r->offsets[i]; t < r->offsets[i + 1]; t++) r->reward[t] = cosf(0.9F * (float)t);
  }
}

/* Ahmadian et al. 2024: R(y_i) - 1/(k-1) sum over j != i of R(y_j) */
static double rloo(const float *group, int i) {
  double others = 0;
  for (int j = 0; j < SIZE; j++)
    if (j != i) others += group[j];
  return group[i] - others / (SIZE - 1);
}

static double mean(const float *group) {
  double sum = 0;
  for (int j = 0; j < SIZE; j++) sum += group[j];
  return sum / SIZE;
}

/* Liu et al. 2025: R(q, o_i) - mean */
static double dr_grpo(const float *group, int i) {
  return group[i] - mean(group);
}

/* Shao et al. 2024, section 4.1.2: (r_i - mean(r)) / std(r) */
static double grpo(const float *group, int i) {
  double variance = 0;
  for (int j = 0; j < SIZE; j++) variance += pow(group[j] - mean(group), 2) / (SIZE - 1);
  return (group[i] - mean(group)) / (sqrt(variance) + 1e-4);
}

static void of_groups(void **state) {
  (void)state;
  static const struct {
    Estimator estimator;
    double (*formula)(const float *group, int i);
  } table[] = {{ESTIMATOR_RLOO, rloo}, {ESTIMATOR_GRPO, grpo}, {ESTIMATOR_DR_GRPO, dr_grpo}};
  Rollout r;
  make(&r);
  for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
    estimator_groups(table[k].estimator, r.returns, r.offsets, ANSWERS, SIZE, r.advantage);
    for (int i = 0; i < ANSWERS; i++) {
      const double expected = table[k].formula(r.returns + i / SIZE * SIZE, i % SIZE);
      for (int32_t t = r.offsets[i]; t < r.offsets[i + 1]; t++) {
        assert_near(r.advantage[t], expected, 1e-6 * (1 + fabs(expected)));
        if (i / SIZE == 1) assert_true(r.advantage[t] == 0); /* no variance: nothing, and no division by 0 */
      }
    }
  }
}

/* Li et al. 2023, algorithm 2: r(x, y) - r(x, greedy y) */
static void of_the_greedy_answer(void **state) {
  (void)state;
  static const float baseline[GROUPS] = {0.5F, -1, 200};
  Rollout r;
  make(&r);
  estimator_baseline(r.returns, baseline, r.offsets, ANSWERS, SIZE, r.advantage);
  for (int i = 0; i < ANSWERS; i++)
    for (int32_t t = r.offsets[i]; t < r.offsets[i + 1]; t++)
      assert_near(r.advantage[t], r.returns[i] - baseline[i / SIZE], 1e-6);
}

/* Hu 2025: A_t = sum over i >= t of the rewards, whitened over all tokens of the batch. */
static void of_the_batch(void **state) {
  (void)state;
  for (int discounted = 0; discounted < 2; discounted++) {
    const double gamma = discounted ? 0.9 : 1;
    double expected[MOST] = {0}, sum = 0, squares = 0;
    Rollout r;
    make(&r);
    const int tokens = r.offsets[ANSWERS];
    for (int i = 0; i < ANSWERS; i++)
      for (int32_t t = r.offsets[i]; t < r.offsets[i + 1]; t++)
        for (int32_t u = t; u < r.offsets[i + 1]; u++) expected[t] += pow(gamma, u - t) * r.reward[u];
    for (int t = 0; t < tokens; t++) sum += expected[t];
    for (int t = 0; t < tokens; t++) squares += pow(expected[t] - sum / tokens, 2);
    estimator_returns(r.reward, r.offsets, ANSWERS, gamma, r.advantage);
    for (int t = 0; t < tokens; t++) assert_near(r.advantage[t], expected[t], 1e-6);
    advantage_whiten(r.advantage, tokens, true);
    for (int t = 0; t < tokens; t++) {
      assert_near(r.advantage[t], (expected[t] - sum / tokens) / sqrt(squares / (tokens - 1) + 1e-8), 2e-6);
    }
  }
}

static void flat_groups(void **state) {
  (void)state;
  Rollout r;
  make(&r);
  assert_int_equal(estimator_flat_groups(r.returns, ANSWERS, SIZE), 1);
  r.returns[SIZE] += 0.25F;
  assert_int_equal(estimator_flat_groups(r.returns, ANSWERS, SIZE), 0);
  r.returns[0] = NAN;
  assert_int_equal(estimator_flat_groups(r.returns, SIZE, SIZE), 0);
}

/* A rollout of answers that differ in length, up to the credit. */
static Credit roll_out(Lab *lab) {
  enum { ENDS = 24 };
  PpoSession *s = &lab->s;
  const PpoWorkers workers = session_workers(s);
  Experience *x = &s->experience;
  Error error = {0};
  int ends[ENDS];
  for (int i = 0; i < ENDS; i++) ends[i] = 5 * i;
  s->episodes = 0;
  lab_sample(lab,
             &(RolloutSpec){.seed = 1, .temperature = 1, .top_p = 1, .eos_ids = ends, .eos_count = ENDS});
  for (int e = 0; e < LAB_BATCH; e++) x->score[e] = x->judged[e] = (float)x->samples[e].response[0] / 50;
  if (!experience_logprobs(x, &workers, &error) || !experience_values(x, &workers, &error))
    fail_msg("%s", error.message);
  return experience_credit(x, &s->config.ppo, 0.05, 0);
}

/* What experience_credit makes of it is what is said above of the returns with KL, and groups are not whitened. */
static void credit(void **state) {
  (void)state;
  static const struct {
    const char *option;
    Estimator estimator;
  } table[] = {{"--ppo.advantage=rloo", ESTIMATOR_RLOO},
               {"--ppo.advantage=grpo", ESTIMATOR_GRPO},
               {"--ppo.advantage=dr_grpo", ESTIMATOR_DR_GRPO},
               {"--ppo.advantage=reinforce_pp", ESTIMATOR_REINFORCE_PP}};
  for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
    Lab lab;
    lab_open(
        &lab, false,
        (const char *[]){"--rollout.temperature=1", "--ppo.samples_per_prompt=8", table[k].option, NULL});
    const Credit c = roll_out(&lab);
    Experience *x = &lab.s.experience;
    float expected[LAB_BATCH * LAB_LENGTH], totals[LAB_BATCH];
    for (int e = 0; e < LAB_BATCH; e++) {
      double total = x->judged[e];
      for (int32_t t = x->offsets[e]; t < x->offsets[e + 1]; t++)
        total -= 0.05 * ((double)x->logprob[t] - x->reference[t]);
      totals[e] = (float)total;
      assert_near(x->total[e], total, 1e-5);
    }
    assert_true(!c.critic && !x->value && !x->returns);
    if (table[k].estimator == ESTIMATOR_REINFORCE_PP) {
      assert_true(c.groups == 0);
      assert_near(standard_deviation(x->advantage, x->tokens), 1, 1e-5);
      assert_true(x->advantage[x->offsets[1] - 1] != x->advantage[0] || x->samples[0].length == 1);
    } else {
      assert_true(c.groups == 8 && c.flat_groups == 0);
      estimator_groups(table[k].estimator, totals, x->offsets, LAB_BATCH, 8, expected);
      for (int64_t t = 0; t < x->tokens; t++) assert_near(x->advantage[t], expected[t], 1e-3);
    }
    lab_close(&lab);
  }
}

/* The norm of the actor's gradient over one minibatch of the whole rollout, whose advantages are A[answer] in all tokens. */
static double gradient_norm(const char *advantage, const double *A, double *tokens, int *lengths) {
  Lab lab;
  Error error = {0};
  UpdateStats stats;
  lab_open(&lab, false,
           (const char *[]){"--rollout.temperature=1", "--ppo.samples_per_prompt=8", "--ppo.minibatches=1",
                            "--ppo.epochs=1", "--optim.micro_batch_tokens=64", advantage, NULL});
  PpoSession *s = &lab.s;
  roll_out(&lab);
  Experience *x = &s->experience;
  *tokens = (double)x->tokens;
  for (int e = 0; e < LAB_BATCH; e++) {
    lengths[e] = (int)x->samples[e].length;
    for (int32_t t = x->offsets[e]; t < x->offsets[e + 1]; t++) x->advantage[t] = (float)A[e];
  }
  const PpoWorkers workers = session_workers(s);
  if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
  assert_true(stats.steps == 1 && stats.critic_norms[0] == 0 && stats.values[0].tokens == 0);
  lab_close(&lab);
  return stats.actor_norm;
}

/* Ratios are 1 in the first minibatch, so a weight of the loss and a factor of the advantage are the same. */
static void means_of_the_loss(void **state) {
  (void)state;
  double A[LAB_BATCH], scaled[LAB_BATCH], tokens;
  int lengths[LAB_BATCH], shortest = LAB_LENGTH;
  for (int e = 0; e < LAB_BATCH; e++) A[e] = sin(e * 1.1) + 0.3;
  const double by_token = gradient_norm("--ppo.advantage=rloo", A, &tokens, lengths);
  for (int e = 0; e < LAB_BATCH; e++) {
    scaled[e] = A[e] * tokens / (LAB_BATCH * lengths[e]);
    shortest = lengths[e] < shortest ? lengths[e] : shortest;
  }
  assert_true(shortest < LAB_LENGTH); /* else all means are the same */
  const double as_grpo = gradient_norm("--ppo.advantage=rloo", scaled, &tokens, lengths);
  const double by_answer = gradient_norm("--ppo.advantage=grpo", A, &tokens, lengths);
  const double by_constant = gradient_norm("--ppo.advantage=dr_grpo", A, &tokens, lengths);
  printf("gradient norms: by token %g, by answer %g, by a constant %g\n", by_token, by_answer, by_constant);
  assert_near(by_answer / as_grpo, 1, 1e-4);
  assert_true(fabs(by_answer / by_token - 1) > 1e-2);
  assert_near(by_constant / by_token, tokens / (LAB_BATCH * LAB_LENGTH), 1e-4);
}

/* Answers that rollout.max_new_tokens cut: in no loss, but counted in a mean over answers; a minibatch of nothing makes no step. */
static void left_out(void **state) {
  (void)state;
  Lab lab;
  Error error = {0};
  UpdateStats stats;
  lab_open(&lab, false,
           (const char *[]){"--rollout.temperature=1", "--ppo.samples_per_prompt=8", "--ppo.minibatches=1",
                            "--ppo.epochs=1", "--ppo.advantage=grpo", "--ppo.mask_cut=true", NULL});
  PpoSession *s = &lab.s;
  Experience *x = &s->experience;
  const PpoWorkers workers = session_workers(s);
  const Credit c = roll_out(&lab);
  double cut = 0, tokens = 0, norms[2];
  for (int e = 0; e < LAB_BATCH; e++) {
    assert_true(x->left_out[e] == (x->samples[e].finished == ROLLOUT_LENGTH));
    cut += x->left_out[e];
    tokens += x->left_out[e] ? 0 : (double)x->samples[e].length;
  }
  assert_true(c.leaves_out && c.left_out == cut && cut > 0 && cut < LAB_BATCH);
  for (int as_zero = 0; as_zero < 2;
       as_zero++) { /* left out, or there with an advantage of 0: the same gradient */
    for (int e = 0; as_zero && e < LAB_BATCH; e++) {
      for (int32_t t = x->offsets[e]; x->left_out[e] && t < x->offsets[e + 1]; t++) x->advantage[t] = 0;
      x->left_out[e] = false;
    }
    s->update = (UpdateState){0};
    if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
    assert_true(stats.steps == 1 && stats.empty == 0);
    assert_true(stats.policy.tokens == (as_zero ? (double)x->tokens : tokens));
    norms[as_zero] = stats.actor_norm;
  }
  assert_near(norms[0] / norms[1], 1, 1e-5);
  for (int e = 0; e < LAB_BATCH; e++) x->left_out[e] = true;
  if (!update_from(x, &workers, NULL, &s->update, &stats, &error)) fail_msg("%s", error.message);
  assert_true(stats.steps == 0 && stats.empty == 1 && s->update.draws == LAB_BATCH);
  lab_close(&lab);
}

/* Groups that were all judged the same are in no loss, and are counted. */
static void dropped_groups(void **state) {
  (void)state;
  Lab lab;
  lab_open(&lab, false,
           (const char *[]){"--rollout.temperature=1", "--ppo.samples_per_prompt=8", "--ppo.advantage=rloo",
                            "--ppo.drop_flat_groups=true", NULL});
  Experience *x = &lab.s.experience;
  Credit c = roll_out(&lab);
  assert_true(c.leaves_out && c.left_out == 0);
  for (int e = 8; e < 16; e++) x->judged[e] = 0.25F;
  c = experience_credit(x, &lab.s.config.ppo, 0.05, 0);
  assert_true(c.left_out == 8 && c.flat_groups == 1);
  for (int e = 0; e < LAB_BATCH; e++) assert_true(x->left_out[e] == (e / 8 == 1));
  lab_close(&lab);
}

/* Flat groups make room: the others move to the front with all that is known of them, and further answers are sampled and scored behind them. */
static void room_for_others(void **state) {
  (void)state;
  enum { EACH = 8, LEFT = LAB_BATCH - 3 * EACH };
  Lab lab;
  Error error = {0};
  lab_open(&lab, false,
           (const char *[]){"--rollout.temperature=1", "--ppo.samples_per_prompt=8", "--ppo.advantage=rloo",
                            "--ppo.drop_flat_groups=true", "--ppo.missing_eos=keep", NULL});
  PpoSession *s = &lab.s;
  Experience *x = &s->experience;
  const PpoWorkers workers = session_workers(s);
  roll_out(&lab);
  if (!experience_score(x, &workers, &error)) fail_msg("%s", error.message);
  int32_t said[LEFT][LAB_LENGTH];
  float score[LEFT], sampled[LEFT];
  int64_t numbers[LEFT], kept = 0;
  for (int64_t e = 0; e < LAB_BATCH; e++) {
    const int64_t group = e / EACH;
    if (group == 0 || group == 3 || group == 7) x->judged[e] = 0.5F;
    if (group == 4)
      x->judged[e] = 0.5F, x->cost[e] = (float)e; /* judged the same, at other costs: it teaches */
    if (group == 0 || group == 3 || group == 7) continue;
    memcpy(said[kept], x->samples[e].response, sizeof said[0]);
    sampled[kept] = x->samples[e].logprobs[0];
    score[kept] = x->score[e];
    numbers[kept++] = (int64_t)x->samples[e].number;
  }
  assert_int_equal(experience_drop_flat(x, &workers, EACH), 3);
  assert_true(x->count == LEFT && x->kept == LEFT && kept == LEFT);
  for (int g = 0; g < 3; g++) {
    const Example prompt = {.ids = lab.prompts[g], .count = LAB_PROMPT, .prompt = ""};
    for (int k = 0; k < EACH; k++) experience_add(x, &prompt, (uint64_t)s->episodes++);
  }
  const RolloutSpec spec = {.seed = 1, .temperature = 1, .top_p = 1};
  if (!experience_sample(x, &workers, &spec, &error) || !experience_score(x, &workers, &error))
    fail_msg("%s", error.message);
  assert_true(x->count == LAB_BATCH && x->tokens == x->offsets[LAB_BATCH]);
  for (int64_t e = 0; e < LAB_BATCH; e++) {
    const RolloutSample *sample = &x->samples[e];
    assert_true(sample->response == x->responses + e * LAB_LENGTH &&
                sample->logprobs == x->sampled + e * LAB_LENGTH);
    assert_true(x->offsets[e + 1] - x->offsets[e] == sample->length && s->scoring.submitted[e]);
    assert_true(x->score[e] == s->scoring.score[e]);
    if (e >= LEFT) {
      assert_int_equal(sample->number, LAB_BATCH + e - LEFT);
      continue;
    }
    assert_int_equal(sample->number, numbers[e]);
    assert_memory_equal(sample->response, said[e], (size_t)sample->length * sizeof said[0][0]);
    assert_true(sample->logprobs[0] == sampled[e] && x->score[e] == score[e]);
  }
  assert_int_equal(experience_drop_flat(x, &workers, EACH), 0); /* judged by the model, all differ */
  assert_true(x->count == LAB_BATCH);
  lab_close(&lab);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(of_groups),      cmocka_unit_test(of_the_greedy_answer),
                                     cmocka_unit_test(of_the_batch),   cmocka_unit_test(flat_groups),
                                     cmocka_unit_test(credit),         cmocka_unit_test(means_of_the_loss),
                                     cmocka_unit_test(left_out),       cmocka_unit_test(dropped_groups),
                                     cmocka_unit_test(room_for_others)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
