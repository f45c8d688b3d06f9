#include "tools/generate/exact.h"

#include "base/memory.h"
#include "base/progress.h"
#include "base/random.h"
#include "model/divergence.h"
#include "model/head.h"
#include "model/source.h"
#include "model/twin.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- plan ---- */

static size_t kept_bytes(const ExactAsked *asked) {
  return (size_t)(asked->most + EXACT_ROWS) * (size_t)asked->vocab * sizeof(float);
}

void exact_plan_kept(MemoryPlan *plan, const ExactAsked *asked, const Compute *compute) {
  (compute_on_host(compute) ? plan_add : plan_add_host)(plan, "logits of answers", kept_bytes(asked));
}

/* Files of fewer bits are the most exact that there are of them, and of their own values a distance says little. */
static bool check_files(const char *model, Error *error) {
  const char *kind = NULL;
  if (!model_weights_exist(model)) return true; /* --check */
  return weights_kind(model, &kind, error) &&
         (!kind ||
          error_set(error, ERROR_USAGE,
                    "--kl: the weights in %s are quantised already (%s), and no more exact ones are there to "
                    "compare with: expected the model that they were made from",
                    model, kind));
}

static bool check_bits(const Exact *e, Error *error) {
  const ExactAsked *asked = &e->asked;
  return asked->quantized || asked->cache == DTYPE_I8 || asked->dtype != e->policy.model.dtype ||
         error_set(error, ERROR_USAGE,
                   "--kl: the answers are the exact weights' own, and the divergence is 0: expected "
                   "--quantize, --cache-dtype int8, or a --dtype of fewer bits than the files have");
}

static void forward(Exact *e, Pass *pass, Compute *compute) {
  Policy *p = &e->policy;
  pass_forward(pass, compute, &p->model, policy_adapter(p), &e->batch, PASS_INFERENCE, &p->memory.step);
}

/* The largest pass. */
static bool plan_pass(Exact *e, Compute *compute, Error *error) {
  const int64_t longest = e->batch.token_capacity, count = longest < EXACT_ROWS ? longest : EXACT_ROWS;
  const int32_t rows[EXACT_ROWS] = {0};
  Pass pass = {0};
  if (!pass_init(&pass, &e->policy.model, error)) return false;
  batch_plan(&e->batch);
  forward(e, &pass, compute);
  lm_logits(&pass, token_rows(rows, NULL, count), NULL);
  batch_clear(&e->batch);
  pass_free(&pass);
  return true;
}

static bool open_policy(Exact *e, Compute *compute, Error *error) {
  const ExactAsked *asked = &e->asked;
  return policy_open(&e->policy, asked->model, asked->adapter, asked->format, asked->longest, compute, error);
}

static bool plan_dry(Exact *e, Compute *compute, Error *error) {
  train_memory_dry(&e->policy.memory);
  compute_dry_begin(compute);
  bool ok = open_policy(e, compute, error) && check_bits(e, error) &&
            batch_init(&e->batch, e->asked.longest, 1, error) && plan_pass(e, compute, error);
  policy_close(&e->policy);
  return compute_dry_end(compute, error) && ok;
}

bool exact_plan(Exact *exact, const ExactAsked *asked, Compute *compute, Log *log, Error *error) {
  *exact = (Exact){.asked = *asked};
  Error why = {0};
  MemoryPlan plan = {0};
  if (!check_files(asked->model, error) || !plan_dry(exact, compute, error)) return false;
  plan_add_memory(&plan, &exact->policy.memory, compute);
  exact_plan_kept(&plan, asked, compute);
  return plan_fits(&plan, device_limit(compute), "--kl 0 does without them", log, &why) ||
         error_set(error, why.code, "--kl, the exact weights: %s", why.message);
}

/* ---- what the sampler had ---- */

bool exact_begin(Exact *exact, const RolloutSpec *spec, Error *error) {
  Exact *e = exact;
  const size_t most = (size_t)e->asked.most, vocab = (size_t)e->asked.vocab;
  e->spec = spec;
  e->places = memory_zeroed(most, sizeof *e->places);
  e->kept = memory_zeroed(most, vocab * sizeof *e->kept);
  e->rows = memory_zeroed(EXACT_ROWS, vocab * sizeof *e->rows);
  if (!e->places || !e->kept || !e->rows)
    return error_out_of_memory(error, "logits of answers", kept_bytes(&e->asked));
  return repeats_init(&e->seen, 1, e->asked.longest, e->asked.vocab, error);
}

/* In the order of their draws; of equal ones, which there are, by the token itself, whatever came first. */
static bool is_after(const ExactPlace *a, const ExactPlace *b) {
  if (a->draw != b->draw) return a->draw > b->draw;
  if (a->sample != b->sample) return a->sample > b->sample;
  return a->index > b->index;
}

static void exchange(ExactPlace *a, ExactPlace *b) {
  const ExactPlace former = *a;
  *a = *b;
  *b = former;
}

/* The last place of a heap, in which none comes before those below it, goes up to where it belongs. */
static void sift_up(ExactPlace *heap, int64_t at) {
  for (int64_t parent; at > 0 && (parent = (at - 1) / 2, is_after(&heap[at], &heap[parent])); at = parent)
    exchange(&heap[at], &heap[parent]);
}

/* Its first place goes down to where it belongs. */
static void sift_down(ExactPlace *heap, int64_t count) {
  for (int64_t at = 0, below; (below = 2 * at + 1) < count; at = below) {
    if (below + 1 < count && is_after(&heap[below + 1], &heap[below])) below++;
    if (!is_after(&heap[below], &heap[at])) return;
    exchange(&heap[at], &heap[below]);
  }
}

float *exact_place(Exact *exact, const RolloutSample *sample) {
  Exact *e = exact;
  ExactPlace place = {.sample = sample->number,
                      .index = sample->length,
                      .draw = random_uniform(random_key(e->spec->seed, RANDOM_PLACE), sample->number,
                                             (uint64_t)sample->length)};
  if (e->count < e->asked.most) {
    place.logits = e->kept + e->count * e->asked.vocab;
    e->places[e->count] = place;
    sift_up(e->places, e->count++);
    return place.logits;
  }
  if (!is_after(&e->places[0], &place)) return NULL;
  place.logits = e->places[0].logits;
  e->places[0] = place;
  sift_down(e->places, e->count);
  return place.logits;
}

/* ---- means ---- */

static void mean_add(GroupedMean *mean, double value) {
  mean->own += value;
  mean->own_count++;
}

static void mean_end_group(GroupedMean *mean) {
  const double sum = mean->own, count = mean->own_count;
  mean->sum += sum;
  mean->count += count;
  mean->sums_sums += sum * sum;
  mean->sums_counts += sum * count;
  mean->counts_counts += count * count;
  mean->groups++;
  mean->own = mean->own_count = 0;
}

static double mean_of(const GroupedMean *mean) {
  return mean->sum / mean->count;
}

/* Of a ratio of sums over groups (Cochran 1977, Sampling Techniques, eq. 6.13). */
static double mean_error(const GroupedMean *mean) {
  const double m = mean_of(mean), groups = (double)mean->groups,
               squares = mean->sums_sums - 2 * m * mean->sums_counts + m * m * mean->counts_counts;
  return sqrt(fmax(squares, 0) * groups / (groups - 1)) / mean->count;
}

/* ---- comparing ---- */

/* What the sampler's logits went through (LogitEdits in compute/ops.h), for the token that comes at `index`. */
static void edit(Exact *e, const RolloutSample *sample, int64_t index, float *logits) {
  const RolloutSpec *spec = e->spec;
  const float penalty = spec->repetition_penalty;
  const bool penalised = penalty > 0 && penalty != 1;
  if (penalised) {
    repeats_clear(&e->seen, 0);
    repeats_add(&e->seen, 0, sample->prompt, sample->prompt_length);
    repeats_add(&e->seen, 0, sample->response, index);
  }
  for (int64_t i = 0; penalised && i < e->seen.count[0]; i++) {
    float *logit = &logits[repeats_of(&e->seen, 0)[i]];
    *logit = *logit < 0 ? *logit * penalty : *logit / penalty;
  }
  for (size_t i = 0; index < spec->min_new_tokens && i < spec->eos_count; i++)
    logits[spec->eos_ids[i]] = -INFINITY;
}

static int64_t likeliest(const float *values, int64_t count) {
  int64_t best = 0;
  for (int64_t i = 1; i < count; i++) {
    if (values[i] > values[best]) best = i;
  }
  return best;
}

static float temperature_of(const Exact *e) {
  return e->spec->temperature > 0 ? e->spec->temperature : 1;
}

static bool compare(Exact *e, const RolloutSample *sample, const ExactPlace *place, float *logits,
                    Error *error) {
  const int64_t vocab = e->asked.vocab;
  const int32_t token = sample->response[place->index];
  edit(e, sample, place->index, logits);
  logits_normalize(logits, vocab, temperature_of(e));
  logits_normalize(place->logits, vocab, temperature_of(e));
  const double kl = divergence(place->logits, logits, vocab),
               change = (double)logits[token] - (double)place->logits[token];
  if (!isfinite(kl) || !isfinite(change))
    return error_set(error, ERROR_MODEL, "%s: what the exact weights compute of an answer is not finite",
                     e->asked.model);
  mean_add(&e->kl, kl);
  mean_add(&e->sampled, expm1(change) - change);
  e->change += fabs(change);
  e->most_change = fmax(e->most_change, fabs(change));
  e->same += likeliest(logits, vocab) == likeliest(place->logits, vocab);
  return true;
}

/* places: of this answer, in order. */
static bool read_answer(Exact *e, const RolloutSample *sample, const ExactPlace *places, int64_t count,
                        Compute *compute, Error *error) {
  Arena *step = &e->policy.memory.step;
  Pass pass = {0};
  int64_t first;
  batch_clear(&e->batch);
  const bool fits = batch_add(&e->batch, sample->prompt, sample->prompt_length, &first) &&
                    batch_extend(&e->batch, sample->response, places[count - 1].index);
  ASSERT(fits);
  bool ok = pass_init(&pass, &e->policy.model, error);
  const size_t mark = arena_mark(step);
  if (ok) forward(e, &pass, compute);
  for (int64_t at = 0; ok && at < count; at += EXACT_ROWS) {
    const int64_t some = count - at < EXACT_ROWS ? count - at : EXACT_ROWS;
    int32_t rows[EXACT_ROWS];
    for (int64_t i = 0; i < some; i++) rows[i] = (int32_t)(sample->prompt_length - 1 + places[at + i].index);
    lm_logits(&pass, token_rows(rows, NULL, some), e->rows);
    for (int64_t i = 0; ok && i < some; i++)
      ok = compare(e, sample, &places[at + i], e->rows + i * e->asked.vocab, error);
  }
  arena_release(step, mark);
  pass_free(&pass);
  mean_end_group(&e->kl);
  mean_end_group(&e->sampled);
  return ok;
}

static int by_place(const void *left, const void *right) {
  const ExactPlace *a = left, *b = right;
  if (a->sample != b->sample) return a->sample < b->sample ? -1 : 1;
  return a->index < b->index ? -1 : a->index > b->index;
}

static bool read_answers(Exact *e, const RolloutSample *samples, Compute *compute, Log *log, Error *error) {
  Progress progress = {0};
  bool ok = true;
  progress_start_brief(&progress, log, "reading by the exact weights", "token", e->count);
  for (int64_t at = 0, some; ok && at < e->count; at += some) {
    const ExactPlace *places = &e->places[at];
    for (some = 1; at + some < e->count && places[some].sample == places->sample;) some++;
    ok = read_answer(e, &samples[places->sample], places, some, compute, error);
    progress_update(&progress, at + some, NULL);
  }
  progress_finish(&progress);
  return ok;
}

bool exact_compare(Exact *exact, const RolloutSample *samples, Compute *compute, Log *log, Error *error) {
  Exact *e = exact;
  qsort(e->places, (size_t)e->count, sizeof *e->places, by_place);
  return train_memory_allocate(&e->policy.memory, compute, log, error) && open_policy(e, compute, error) &&
         read_answers(e, samples, compute, log, error);
}

void exact_free(Exact *exact, Compute *compute) {
  policy_close(&exact->policy);
  train_memory_free(&exact->policy.memory, compute);
  batch_free(&exact->batch);
  repeats_free(&exact->seen);
  memory_free(exact->places);
  memory_free(exact->kept);
  memory_free(exact->rows);
  *exact = (Exact){0};
}

/* ---- figures ---- */

static void mean_text(const GroupedMean *mean, char *out, size_t size) {
  if (mean->groups > 1)
    snprintf(out, size, "%.3g nats a token, standard error %.2g", mean_of(mean), mean_error(mean));
  else
    snprintf(out, size, "%.3g nats a token, no standard error of one answer", mean_of(mean));
}

void exact_say(const Exact *exact, Log *log) {
  const Exact *e = exact;
  const RolloutSpec *spec = e->spec;
  char text[96];
  mean_text(&e->kl, text, sizeof text);
  log_info(log,
           "KL(sampler || exact weights): %s; of whole distributions at temperature %g%s, at %" PRId64
           " token%s of %" PRId64 " answer%s",
           text, (double)temperature_of(e), spec->temperature > 0 ? "" : ", since greedy answers have none",
           e->count, e->count == 1 ? "" : "s", e->kl.groups, e->kl.groups == 1 ? "" : "s");
  if (spec->temperature > 0 && spec->top_k == 0 && spec->top_p >= 1) {
    mean_text(&e->sampled, text, sizeof text);
    log_info(log, "by the sampled tokens alone, as ppo/sampler_kl (k3): %s", text);
  }
  log_info(log,
           "their log-probability changed by %.2g nats on average, at most %.2g; the likeliest token is the "
           "same at %.1f%%",
           e->change / (double)e->count, e->most_change, 100 * (double)e->same / (double)e->count);
}
