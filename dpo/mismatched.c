#include "dpo/mismatched.h"

#include "base/memory.h"
#include "base/progress.h"
#include "dpo/pairs.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { FARTHEST = 256 }; /* distance of an answer before its prompt */

static bool make_room(double **out, int64_t count, Error *error) {
  *out = memory_zeroed((size_t)count, sizeof **out);
  return *out || error_out_of_memory(error, "log-probabilities of answers to other prompts",
                                     (size_t)count * sizeof **out);
}

bool mismatched_open(Mismatched *m, const Supervised *s, Error *error) {
  const OptimConfig *optim = &s->config->optim;
  const int64_t group = optim->batch_size, eval = (int64_t)s->corpus.eval.count;
  if (s->corpus.train.count == 0) return true; /* absent: nothing will be read */
  m->updates = corpus_updates(&s->corpus, optim);
  m->longest = corpus_longest(&s->corpus);
  m->answers = memory_zeroed((size_t)group, sizeof *m->answers);
  if (!m->answers)
    return error_out_of_memory(error, "answers of an update", (size_t)group * sizeof *m->answers);
  return make_room(&m->policy, eval > group ? eval : group, error) &&
         make_room(&m->train, m->updates * group, error) && make_room(&m->eval, eval, error);
}

void mismatched_free(Mismatched *m) {
  int_array_free(&m->ids);
  memory_free(m->answers);
  memory_free(m->policy);
  memory_free(m->train);
  memory_free(m->eval);
  *m = (Mismatched){0};
}

/* -- pairs ---------------------------------------------------------------------------------------------- */

/* Examples one after another, the first again behind the last. */
typedef struct Ring {
  const Dataset *data;
  const ExampleRef *refs; /* [count]; NULL: all of the data */
  int64_t count;
  int64_t distance; /* of an answer before its prompt */
} Ring;

static Example ring_example(const Ring *ring, int64_t i) {
  const int64_t at = i < 0 ? i + ring->count : i;
  return dataset_example(ring->data,
                         ring->refs ? ring->refs[at] : dataset_reference(ring->data, (uint64_t)at));
}

static int64_t own_prompts(const Ring *ring, int64_t distance) {
  int64_t found = 0;
  for (int64_t i = 0; i < ring->count; i++) {
    const Example a = ring_example(ring, i), b = ring_example(ring, i - distance);
    found += a.count == b.count && !memcmp(a.ids, b.ids, (size_t)a.count * sizeof *a.ids);
  }
  return found;
}

static Ring ring_of(const Dataset *data, const ExampleRef *refs, int64_t count) {
  Ring ring = {.data = data, .refs = refs, .count = count};
  int64_t fewest = INT64_MAX;
  for (int64_t d = 1; d < count && d <= FARTHEST && fewest > 0; d++) {
    const int64_t found = own_prompts(&ring, d);
    if (found >= fewest) continue;
    fewest = found;
    ring.distance = d;
  }
  return ring;
}

/* The prompt of one example with the answer of another, behind those at hand. */
static bool add_pair(Mismatched *m, Example *prompt, const Example *other, ExampleAnswer *answer,
                     Error *error) {
  const ExampleAnswer *theirs = other->answers;
  const int64_t room = m->longest - prompt->count;
  *answer =
      (ExampleAnswer){.begin = prompt->count, .count = theirs->count < room ? theirs->count : (int32_t)room};
  prompt->answers = answer;
  prompt->answer_count = 1;
  return int_array_append(&m->ids, prompt->ids, (size_t)prompt->count, error) &&
         int_array_append(&m->ids, other->ids + theirs->begin, (size_t)answer->count, error);
}

/* Makes the pairs of the ring's examples first .. first+count-1 the micro-batches' examples. */
static bool make_pairs(Mismatched *m, Microbatches *micro, const Ring *ring, int64_t first, int64_t count,
                       Error *error) {
  m->ids.size = 0;
  for (int64_t i = 0; i < count; i++) {
    Example *example = &micro->examples[i];
    *example = ring_example(ring, first + i);
    const Example other = ring_example(ring, first + i - ring->distance);
    if (!add_pair(m, example, &other, &m->answers[i], error)) return false;
  }
  const int *ids = m->ids.data; /* which has its last place now */
  for (int64_t i = 0; i < count; i++) {
    micro->examples[i].ids = ids;
    ids += example_tokens(&micro->examples[i]);
  }
  return true;
}

static void take_logprobs(Supervised *s, void *context) {
  double *out = context;
  Microbatches *micro = &s->micro;
  const float *values = micro->packer.values;
  for (int64_t k = 0; k < micro->packer.count; k++) {
    const Example *example = microbatches_example(micro, k);
    const int64_t rows = answer_rows(example, example->answers);
    out[microbatches_number(micro, k)] = logprob_sum(values, rows);
    values += rows;
  }
}

/* The model's log-probabilities of these pairs into out[count], the same on all ranks. */
static bool judge(Mismatched *m, Supervised *s, const Ring *ring, int64_t first, int64_t count, double *out,
                  Error *error) {
  int64_t own;
  if (!make_pairs(m, &s->micro, ring, first, count, error) || !supervised_plan(s, count, &own, error))
    return false;
  for (int64_t i = 0; i < count; i++) out[i] = 0;
  supervised_judge_plan(s, take_logprobs, out);
  comm_sum(&s->compute.comm, out, count); /* zero but on one rank: exact */
  return true;
}

static bool judge_update(Mismatched *m, Supervised *s, int64_t count, double *out, Error *error) {
  const Ring ring = ring_of(&s->corpus.train, s->micro.refs, count);
  return judge(m, s, &ring, 0, count, out, error);
}

static bool judge_eval(Mismatched *m, Supervised *s, double *out, Error *error) {
  const Ring ring = ring_of(&s->corpus.eval, NULL, (int64_t)s->corpus.eval.count);
  for (int64_t first = 0; first < ring.count; first += s->micro.group) {
    const int64_t left = ring.count - first, count = left < s->micro.group ? left : s->micro.group;
    if (!judge(m, s, &ring, first, count, out + first, error)) return false;
  }
  return true;
}

/* -- the estimate --------------------------------------------------------------------------------------- */

/* Numbers that are not finite stay, and make a loss that is not. */
static double estimate(const double *policy, const double *reference, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += policy[i] - reference[i];
  return sum < 0 ? 0 : sum / (double)count;
}

bool mismatched_update(Mismatched *m, Supervised *s, int64_t count, double *kl, Error *error) {
  *kl = 0;
  if (count == 1) return true;
  if (!judge_update(m, s, count, m->policy, error)) return false;
  *kl = estimate(m->policy, m->train + s->step * s->micro.group, count);
  return true;
}

bool mismatched_evaluate(Mismatched *m, Supervised *s, double *kl, Error *error) {
  const int64_t count = (int64_t)s->corpus.eval.count;
  *kl = 0;
  if (count == 1) return true;
  if (!judge_eval(m, s, m->policy, error)) return false;
  *kl = estimate(m->policy, m->eval, count);
  return true;
}

/* -- the reference -------------------------------------------------------------------------------------- */

static bool check(const double *values, int64_t count, Error *error) {
  for (int64_t i = 0; i < count; i++) {
    if (isfinite(values[i])) continue;
    return error_set(error, ERROR_MODEL,
                     "a log-probability of the reference, of an answer to another prompt, is not finite");
  }
  return true;
}

static bool read_updates(Mismatched *m, Supervised *s, Progress *progress, Error *error) {
  const int64_t group = s->micro.group;
  DataCursor cursor = {0};
  for (int64_t step = 0; step < m->updates; step++) {
    double *out = m->train + step * group;
    const int count = data_order_take_batch(&s->corpus.order, &cursor, (int)group, s->micro.refs);
    if (count > 1 && !judge_update(m, s, count, out, error)) return false;
    if (!check(out, count, error) || !run_goes_on(&s->run, error)) return false;
    progress_update(progress, step + 1, NULL);
  }
  return true;
}

bool mismatched_read(Mismatched *m, Supervised *s, Error *error) {
  Progress progress;
  log_info(s->log, "reading those of answers to other prompts, of %" PRId64 " updates", m->updates);
  progress_start(&progress, s->log, "reference", "update", 0, m->updates);
  const bool ok = read_updates(m, s, &progress, error) && judge_eval(m, s, m->eval, error) &&
                  check(m->eval, (int64_t)s->corpus.eval.count, error);
  progress_finish(&progress);
  return ok;
}
