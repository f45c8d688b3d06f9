#include "dpo/reference.h"

#include "base/memory.h"
#include "base/progress.h"
#include "dpo/pairs.h"
#include "train/ranks.h"

#include <inttypes.h>
#include <math.h>

static bool make_room(double **out, const Dataset *data, int64_t answers, Error *error) {
  *out = memory_zeroed((size_t)data->count * (size_t)answers, sizeof **out);
  return *out || error_out_of_memory(error, "log-probabilities of the reference",
                                     (size_t)data->count * (size_t)answers * sizeof **out);
}

bool reference_open(Reference *reference, const Corpus *corpus, Error *error) {
  reference->answers = corpus_most_sequences(corpus);
  return make_room(&reference->train, &corpus->train, reference->answers, error) &&
         make_room(&reference->eval, &corpus->eval, reference->answers, error);
}

void reference_free(Reference *reference) {
  memory_free(reference->train);
  memory_free(reference->eval);
  *reference = (Reference){0};
}

double *reference_at(const Reference *reference, const Supervised *s, const Dataset *data, int64_t k) {
  const ExampleRef ref = s->micro.refs[microbatches_number(&s->micro, k)];
  uint64_t number = ref.index;
  for (uint32_t i = 0; i < ref.source; i++) number += data->sources[i].count;
  double *all = data == &s->corpus.eval ? reference->eval : reference->train;
  return all + number * (uint64_t)reference->answers;
}

typedef struct Reading {
  const Reference *reference;
  const Dataset *data;
  Progress progress;
  int64_t done;    /* examples */
  char where[320]; /* of the first that is not finite, or "" */
} Reading;

static void take(Supervised *s, void *context) {
  Reading *reading = context;
  const Packer *packer = &s->micro.packer;
  const float *values = packer->values;
  for (int64_t k = 0; k < packer->count; k++) {
    const Example *example = microbatches_example(&s->micro, k);
    double *out = reference_at(reading->reference, s, reading->data, k);
    for (int a = 0; a < example->answer_count; a++) {
      const int64_t rows = answer_rows(example, &example->answers[a]);
      out[a] = logprob_sum(values, rows);
      values += rows;
      if (!isfinite(out[a]) && !*reading->where)
        microbatches_place(example, reading->data, reading->where, sizeof reading->where);
    }
  }
  reading->done += packer->count;
  progress_update(&reading->progress, reading->done, NULL);
}

static bool read_all(Reading *reading, Supervised *s, const Dataset *data, Error *error) {
  reading->data = data;
  const Comm *comm = &s->compute.comm;
  double *all = data == &s->corpus.eval ? reading->reference->eval : reading->reference->train;
  if (!supervised_judge_all(s, data, take, reading, error)) return false;
  comm_sum(comm, all, (int64_t)data->count * reading->reference->answers); /* zero but on one rank: exact */
  if (!ranks_first_text(comm, reading->where, sizeof reading->where, error)) return false;
  if (!*reading->where) return true;
  return error_set(error, ERROR_MODEL, "a log-probability of the reference is not finite%s", reading->where);
}

bool reference_read(Reference *reference, Supervised *s, Error *error) {
  Reading reading = {.reference = reference};
  const int64_t total = (int64_t)(s->corpus.train.count + s->corpus.eval.count);
  log_info(s->log, "reading the log-probabilities of the reference, %" PRId64 " records", total);
  const Comm *comm = &s->compute.comm; /* each rank reads its share, about as many records */
  progress_start(&reading.progress, s->log, "reference", "record", 0, (total + comm->size - 1) / comm->size);
  run_signals_wait_for("the reference's log-probabilities");
  const bool ok =
      read_all(&reading, s, &s->corpus.train, error) && read_all(&reading, s, &s->corpus.eval, error);
  run_signals_wait_for(NULL);
  progress_finish(&reading.progress);
  if (ok) comm_all_reduce(comm, COMM_SUM, DTYPE_I64, &reading.done, 1);
  ASSERT(!ok || reading.done == total);
  return ok;
}
