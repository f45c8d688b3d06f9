#include "reward/judgement.h"

#include "base/memory.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void take_ranks(const Example *example, int32_t ranks[MOST_ANSWERS]) {
  for (int k = 0; k < example->answer_count; k++) ranks[k] = example->answers[k].rank;
}

PreferenceLoss example_loss(const Example *example, const float *scores, const RewardAlgorithm *rule,
                            double n, float *slopes) {
  int32_t ranks[MOST_ANSWERS];
  take_ranks(example, ranks);
  PreferenceLoss loss =
      preference_loss(scores, ranks, example->answer_count, example->margin, rule->centring, n, slopes);
  if (rule->cost && example->answer_count == 2) { /* the two sides of a pair are what there are labels of */
    const int8_t safe[] = {example->labels.chosen_safe, example->labels.rejected_safe};
    loss.loss += safety_loss(scores, safe, 2, n, slopes);
  }
  return loss;
}

void worth_of_scores(const RewardAlgorithm *rule, float *scores, int64_t count) {
  for (int64_t i = 0; rule->cost && i < count; i++) scores[i] = -scores[i];
}

/* -- judging ---------------------------------------------------------------------------------------------- */

typedef struct Tally {
  const RewardAlgorithm *rule;
  PreferenceLoss sum;
  double tau;
  int most_answers;
  double correct_of[MAX_SOURCES], pairs_of[MAX_SOURCES];
  JudgedPair *by_margin, *by_difference; /* [room] */
  size_t count, room;
} Tally;

static void add_pairs(Tally *tally, const Example *example, const float *scores) {
  for (int i = 0; i < example->answer_count; i++) {
    for (int j = i + 1; j < example->answer_count; j++) {
      const ExampleAnswer *better = &example->answers[i], *worse = &example->answers[j];
      if (better->rank == worse->rank) continue;
      ASSERT(tally->count < tally->room);
      const float difference = scores[i] - scores[j];
      const float correct = difference > 0 ? 1 : difference == 0 ? 0.5F : 0;
      tally->by_margin[tally->count] = (JudgedPair){better->score - worse->score, correct};
      tally->by_difference[tally->count++] = (JudgedPair){fabsf(difference), correct};
    }
  }
}

static void add_example(Tally *tally, const Example *example, const float *scores) {
  int32_t ranks[MOST_ANSWERS];
  take_ranks(example, ranks);
  const PreferenceLoss one = example_loss(example, scores, tally->rule, 1, NULL);
  tally->sum.loss += one.loss;
  tally->sum.pairs += one.pairs;
  tally->sum.correct += one.correct;
  tally->sum.margin += one.margin;
  tally->tau += kendall_tau(scores, ranks, example->answer_count);
  if (example->answer_count > tally->most_answers) tally->most_answers = example->answer_count;
  if (example->source < MAX_SOURCES) {
    tally->correct_of[example->source] += one.correct;
    tally->pairs_of[example->source] += one.pairs;
  }
  add_pairs(tally, example, scores);
}

static void tally_micro_batch(Supervised *s, void *context) {
  const Tally *tally = context;
  float *scores = s->micro.packer.values;
  worth_of_scores(tally->rule, scores, s->micro.packer.batch.sequences);
  for (int64_t k = 0; k < s->micro.packer.count; k++) {
    const Example *example = microbatches_example(&s->micro, k);
    add_example(context, example, scores);
    scores += example->answer_count;
  }
}

static bool tally_open(Tally *tally, const Dataset *data, Error *error) {
  for (uint64_t i = 0; i < data->count; i++) {
    const Example example = dataset_example(data, dataset_reference(data, i));
    tally->room += (size_t)answers_pairs(example.answers, example.answer_count);
  }
  tally->by_margin = memory_alloc(tally->room * sizeof *tally->by_margin);
  tally->by_difference = memory_alloc(tally->room * sizeof *tally->by_difference);
  if (tally->by_margin && tally->by_difference) return true;
  return error_out_of_memory(error, "pairs of an evaluation", 2 * tally->room * sizeof(JudgedPair));
}

/* Where each rank's pairs go among those of all: one after the other. The others' places are zero, so that a sum is exact. */
static void gather_pairs(const Comm *comm, JudgedPair *pairs, size_t room, size_t count, size_t before) {
  memmove(pairs + before, pairs, count * sizeof *pairs);
  memset(pairs, 0, before * sizeof *pairs);
  memset(pairs + before + count, 0, (room - before - count) * sizeof *pairs);
  comm_all_reduce(comm, COMM_SUM, DTYPE_F32, pairs, 2 * (int64_t)room);
}

/* Makes the tally of this rank's share that of all examples. */
static bool tally_gather(Tally *tally, const Comm *comm, Error *error) {
  if (comm->size == 1) return true;
  int64_t *counts = memory_zeroed((size_t)comm->size, sizeof *counts), most = tally->most_answers;
  if (!counts) return error_out_of_memory(error, "pairs of ranks", (size_t)comm->size * sizeof *counts);
  comm_all_gather(comm, &(int64_t){(int64_t)tally->count}, counts, sizeof *counts);
  size_t before = 0, all = 0;
  for (int r = 0; r < comm->size; r++) {
    if (r < comm->rank) before += (size_t)counts[r];
    all += (size_t)counts[r];
  }
  memory_free(counts);
  gather_pairs(comm, tally->by_margin, tally->room, tally->count, before);
  gather_pairs(comm, tally->by_difference, tally->room, tally->count, before);
  tally->count = all;
  double sums[] = {tally->sum.loss, tally->sum.pairs, tally->sum.correct, tally->sum.margin, tally->tau};
  comm_sum(comm, sums, sizeof sums / sizeof *sums);
  tally->sum.loss = sums[0];
  tally->sum.pairs = sums[1];
  tally->sum.correct = sums[2];
  tally->sum.margin = sums[3];
  tally->tau = sums[4];
  comm_sum(comm, tally->correct_of, MAX_SOURCES);
  comm_sum(comm, tally->pairs_of, MAX_SOURCES);
  comm_all_reduce(comm, COMM_MAX, DTYPE_I64, &most, 1);
  tally->most_answers = (int)most;
  return true;
}

static void tally_close(Tally *tally) {
  memory_free(tally->by_margin);
  memory_free(tally->by_difference);
}

bool judgement_make(Judgement *judgement, Supervised *s, const RewardAlgorithm *rule, Error *error) {
  const Dataset *data = &s->corpus.eval;
  Tally tally = {.rule = rule};
  const bool ok = tally_open(&tally, data, error) &&
                  supervised_judge_all(s, data, tally_micro_batch, &tally, error) &&
                  tally_gather(&tally, &s->compute.comm, error);
  if (ok) {
    const double prompts = (double)data->count, pairs = tally.sum.pairs;
    *judgement = (Judgement){.loss = tally.sum.loss / prompts,
                             .accuracy = tally.sum.correct / pairs,
                             .margin = tally.sum.margin / pairs,
                             .tau = tally.tau / prompts,
                             .ranked = tally.most_answers > 2};
    for (int i = 0; i < MAX_SOURCES; i++) {
      judgement->of_source[i] = tally.pairs_of[i] > 0 ? tally.correct_of[i] / tally.pairs_of[i] : -1;
    }
    judgement->has_margins = accuracy_by_quarter(tally.by_margin, tally.count, judgement->by_margin);
    judgement->has_differences =
        accuracy_by_quarter(tally.by_difference, tally.count, judgement->by_difference);
  }
  tally_close(&tally);
  return ok;
}

/* -- logging ---------------------------------------------------------------------------------------------- */

static void log_sources(const Judgement *judgement, Supervised *s) {
  const Dataset *data = &s->corpus.eval;
  for (size_t i = 0; data->source_count > 1 && i < data->source_count && i < MAX_SOURCES; i++) {
    char name[600];
    if (judgement->of_source[i] < 0) continue;
    snprintf(name, sizeof name, "eval/accuracy/%s", data->sources[i].path);
    runlog_metric(&s->run.runlog, s->step, name, judgement->of_source[i]);
    log_info(s->log, "  %s: accuracy %.2f%%", data->sources[i].path, 100 * judgement->of_source[i]);
  }
}

static void log_quarters(const Quarter *quarters, const char *metric, const char *what, Supervised *s) {
  for (int q = 0; q < QUARTERS; q++) {
    const Quarter *quarter = &quarters[q];
    char name[64];
    if (quarter->pairs == 0) continue;
    snprintf(name, sizeof name, "eval/%s/%d", metric, q + 1);
    runlog_metric(&s->run.runlog, s->step, name, quarter->accuracy);
    log_info(s->log, "  %s %.3g to %.3g: accuracy %.2f%% of %" PRId64 " pairs", what, (double)quarter->least,
             (double)quarter->most, 100 * quarter->accuracy, quarter->pairs);
  }
}

void judgement_log(const Judgement *judgement, Supervised *s) {
  RunLog *log = &s->run.runlog;
  char tau[48] = "";
  runlog_metric(log, s->step, "eval/loss", judgement->loss);
  runlog_metric(log, s->step, "eval/accuracy", judgement->accuracy);
  runlog_metric(log, s->step, "eval/margin", judgement->margin);
  if (judgement->ranked) {
    runlog_metric(log, s->step, "eval/kendall_tau", judgement->tau);
    snprintf(tau, sizeof tau, ", Kendall's tau %.3f", judgement->tau);
  }
  log_info(s->log, "step %" PRId64 ": eval loss %.4f, accuracy %.2f%%, margin %.3f%s", s->step,
           judgement->loss, 100 * judgement->accuracy, judgement->margin, tau);
  log_sources(judgement, s);
  if (judgement->has_margins) {
    log_quarters(judgement->by_margin, "accuracy_by_margin", "margins of the data", s);
  }
  if (judgement->has_differences) {
    log_quarters(judgement->by_difference, "accuracy_by_difference", "differences of scores", s);
  }
}
