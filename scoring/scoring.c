#include "scoring/scoring.h"

#include "base/memory.h"
#include "scoring/source.h"
#include "scoring/verdict.h"
#include "train/share.h"

#include <string.h>

const char *source_label(const Source *source, char out[96]) {
  snprintf(out, 96, "reward source '%s'", source->common->name);
  return out;
}

/* The error of a source, with its name where it has one. Always false. */
static bool source_error(const Source *source, Error *error) {
  char label[96];
  if ((source->brief && source->scoring->count == 1) || error_is_signal(error)) return false;
  return error_context(error, "%s", source_label(source, label));
}

/* -- opening ---------------------------------------------------------------------------------------------- */

static bool allocate(Scoring *scoring, Error *error) {
  const size_t n = (size_t)scoring->setting.capacity;
  scoring->answers = memory_zeroed(n, sizeof *scoring->answers);
  scoring->submitted = memory_zeroed(n, sizeof *scoring->submitted);
  scoring->texts = memory_zeroed(n, sizeof *scoring->texts);
  scoring->score = memory_zeroed(n, sizeof *scoring->score);
  scoring->cost = memory_zeroed(n, sizeof *scoring->cost);
  scoring->lengths = memory_zeroed(n, sizeof *scoring->lengths);
  scoring->cuts = memory_zeroed((size_t)scoring->setting.comm->size + 1, sizeof *scoring->cuts);
  scoring->sources = memory_zeroed(scoring->count, sizeof *scoring->sources);
  bool ok = scoring->answers && scoring->submitted && scoring->texts && scoring->score && scoring->cost &&
            scoring->lengths && scoring->cuts && scoring->sources;
  for (size_t i = 0; ok && i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    source->score = memory_zeroed(n, sizeof *source->score);
    source->judged = memory_zeroed(n, sizeof *source->judged);
    source->questions = memory_zeroed(n, sizeof *source->questions);
    ok = source->score && source->judged && source->questions;
  }
  return ok || error_out_of_memory(error, "rewards", n * sizeof *scoring->answers);
}

static bool open_source(Scoring *scoring, const SourceConfig *config, Source *source, Error *error) {
  source->kind = config->kind;
  source->options = config->options;
  source->common = config->options;
  source->cost = config->cost;
  source->brief = config->brief;
  source->scoring = scoring;
  return !source->kind->open || source->kind->open(source, error) || source_error(source, error);
}

bool scoring_open(Scoring *scoring, const ScoringConfig *config, const ScoringSetting *setting,
                  Error *error) {
  *scoring =
      (Scoring){.setting = *setting, .count = config->count, .has_costs = config->count > config->rewards};
  bool ok = allocate(scoring, error);
  for (size_t i = 0; ok && i < scoring->count; i++) {
    ok = open_source(scoring, &config->items[i], &scoring->sources[i], error);
  }
  if (!ok) scoring_close(scoring);
  return ok;
}

static void close_source(Source *source) {
  const int64_t n = source->scoring ? source->scoring->setting.capacity : 0;
  if (source->kind && source->kind->close) source->kind->close(source);
  for (int p = 0; p < source->part_count; p++) {
    memory_free(source->part_names[p]);
    memory_free(source->parts[p]);
  }
  for (int64_t slot = 0; source->questions && slot < n; slot++) buffer_free(&source->questions[slot]);
  memory_free(source->questions);
  memory_free(source->score);
  memory_free(source->judged);
}

void scoring_close(Scoring *scoring) {
  for (size_t i = 0; scoring->sources && i < scoring->count; i++) close_source(&scoring->sources[i]);
  for (int64_t i = 0; scoring->texts && i < scoring->setting.capacity; i++) buffer_free(&scoring->texts[i]);
  memory_free(scoring->sources);
  memory_free(scoring->answers);
  memory_free(scoring->submitted);
  memory_free(scoring->texts);
  memory_free(scoring->score);
  memory_free(scoring->cost);
  memory_free(scoring->lengths);
  memory_free(scoring->cuts);
  *scoring = (Scoring){0};
}

bool scoring_check_prompts(const Scoring *scoring, const char *name, const Dataset *prompts, Error *error) {
  char label[96];
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (!source->kind->check_prompt) continue;
    for (uint64_t n = 0; n < prompts->count; n++) {
      const Example prompt = dataset_example(prompts, dataset_reference(prompts, n));
      if (source->kind->check_prompt(source, &prompt, error)) continue;
      return error_context(error, "%s: %s:%llu: %s", name, prompts->sources[prompt.source].path,
                           (unsigned long long)prompt.line, source_label(source, label));
    }
  }
  return true;
}

/* -- models ----------------------------------------------------------------------------------------------- */

bool scoring_open_models(Scoring *scoring, const ScoringModels *models, Error *error) {
  scoring->models = *models;
  bool any = false;
  for (size_t i = 0; i < scoring->count; i++) any |= scoring->sources[i].kind->open_models != NULL;
  if (any &&
      !packer_init(&scoring->packer, scoring->setting.capacity, 1, models->micro_batch_tokens, error)) {
    return false;
  }
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (source->kind->open_models && !source->kind->open_models(source, error))
      return source_error(source, error);
  }
  return true;
}

bool scoring_set_length(Scoring *scoring, int64_t longest, Log *log, Error *error) {
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (source->kind->set_length && !source->kind->set_length(source, longest, log, error)) return false;
  }
  return true;
}

void scoring_plan(Scoring *scoring) {
  for (size_t i = 0; i < scoring->count; i++) {
    if (scoring->sources[i].kind->plan) scoring->sources[i].kind->plan(&scoring->sources[i]);
  }
}

void scoring_close_models(Scoring *scoring) {
  for (size_t i = 0; scoring->sources && i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (source->kind && source->kind->close_models) source->kind->close_models(source);
  }
  packer_free(&scoring->packer);
}

bool scoring_zero_known(const Scoring *scoring, bool cost) {
  for (size_t i = 0; i < scoring->count; i++) {
    const Source *source = &scoring->sources[i];
    if (source->cost == cost && source->kind->zero_known && !source->kind->zero_known(source)) return false;
  }
  return true;
}

ScoringCount scoring_count_models(const Scoring *scoring, bool cost) {
  ScoringCount all = {0};
  for (size_t i = 0; i < scoring->count; i++) {
    const Source *source = &scoring->sources[i];
    if (!source->kind->count_models || source->cost != cost) continue;
    const ScoringCount own = source->kind->count_models(source);
    all.models += own.models;
    all.bases += own.bases;
  }
  return all;
}

/* -- a rollout -------------------------------------------------------------------------------------------- */

/* Nothing is known of the slots from `first` on. */
static void clear_slots(Scoring *scoring, int64_t first) {
  const int64_t n = scoring->setting.capacity;
  scoring->kept = first;
  for (int64_t slot = first; slot < n; slot++) scoring->submitted[slot] = false;
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (source->kind->begin) source->kind->begin(source);
    for (int64_t slot = first; slot < n; slot++) source->judged[slot] = false;
    for (int p = 0; p < source->part_count; p++)
      for (int64_t slot = first; slot < n; slot++) source->parts[p][slot] = NAN;
  }
}

void scoring_begin(Scoring *scoring, Run *run, int64_t step) {
  scoring->run = run;
  scoring->step = step;
  clear_slots(scoring, 0);
}

static void swap_buffers(Buffer *a, Buffer *b) {
  const Buffer old = *a;
  *a = *b;
  *b = old;
}

static void move_slot(Scoring *scoring, int64_t from, int64_t to) {
  scoring->answers[to] = scoring->answers[from];
  scoring->score[to] = scoring->score[from];
  scoring->cost[to] = scoring->cost[from];
  swap_buffers(&scoring->texts[to], &scoring->texts[from]);
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    source->score[to] = source->score[from];
    swap_buffers(&source->questions[to], &source->questions[from]);
    for (int p = 0; p < source->part_count; p++) source->parts[p][to] = source->parts[p][from];
  }
}

void scoring_keep(Scoring *scoring, const int64_t *slots, int64_t count) {
  for (int64_t k = 0; k < count; k++) {
    ASSERT(slots[k] >= k && scoring->submitted[slots[k]]);
    if (slots[k] > k) move_slot(scoring, slots[k], k);
  }
  clear_slots(scoring, count);
}

bool scoring_is_stopped(const Scoring *scoring) {
  return scoring->run && run_stop_signal() != 0;
}

/* Judged beside us, and asked by this rank. */
static bool is_outside(const Source *source) {
  const Scoring *scoring = source->scoring;
  return source->kind->submit && scoring->setting.comm->rank == 0 && !scoring->failure.code;
}

/* One rank ends at once. With many it is told where all meet (wait_for_all), for until then nobody else would know. */
static bool failed_outside(Source *source, Error *error) {
  Scoring *scoring = source->scoring;
  (void)source_error(source, error);
  if (scoring->setting.comm->size == 1) return false;
  if (!scoring->failure.code) scoring->failure = *error;
  *error = (Error){0};
  return true;
}

/* What was said, without the end token. */
static bool decode(Scoring *scoring, int64_t slot, Error *error) {
  const Answer *answer = &scoring->answers[slot];
  Buffer *text = &scoring->texts[slot];
  if (!scoring->wants_text) return true;
  buffer_clear(text);
  return buffer_text(text, "", error) &&
         tokenizer_decode(scoring->setting.text->tokenizer, answer->ids,
                          (size_t)(answer->count - answer->ended), true, text, error);
}

/* Asks a source outside, unless it has said before what it says of this answer. */
static bool ask(Source *source, int64_t slot, Error *error) {
  Buffer *question = &source->questions[slot];
  bool known;
  buffer_clear(question);
  return source->kind->question(source, slot, question, error) &&
         verdict_recall(source, slot, &known, error) && (known || source->kind->submit(source, slot, error));
}

bool scoring_submit(Scoring *scoring, int64_t slot, const Answer *answer, Error *error) {
  ASSERT(slot < scoring->setting.capacity && !scoring->submitted[slot]);
  scoring->answers[slot] = *answer;
  scoring->submitted[slot] = true;
  if (!decode(scoring, slot, error)) return false;
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (is_outside(source) && !ask(source, slot, error) && !failed_outside(source, error)) return false;
  }
  return true;
}

bool scoring_attend(Scoring *scoring, Error *error) {
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (!is_outside(source) || source->kind->left(source) == 0) continue;
    if (!source->kind->attend(source, 0, error) && !failed_outside(source, error)) return false;
  }
  return true;
}

static void gather(const Scoring *scoring, void *values, size_t size) {
  const Comm *comm = scoring->setting.comm;
  comm_wait(comm, comm_start_all_gather(comm, (char *)values + (size_t)scoring->cuts[comm->rank] * size,
                                        values, size, scoring->cuts));
}

/* What each rank has judged of its run is put together; what rank 0 was told all hear. */
static void put_together(Source *source, int64_t count) {
  const Comm *comm = source->scoring->setting.comm;
  if (!source->kind->judge) {
    comm_broadcast(comm, 0, source->score, (size_t)count * sizeof *source->score);
    return;
  }
  gather(source->scoring, source->score, sizeof *source->score);
  for (int p = 0; p < source->part_count; p++)
    gather(source->scoring, source->parts[p], sizeof *source->parts[p]);
}

static void add_up(Scoring *scoring, int64_t count) {
  for (int64_t slot = 0; slot < count; slot++) {
    double sum[2] = {0, 0}; /* of rewards, of costs */
    for (size_t i = 0; i < scoring->count; i++) {
      const Source *source = &scoring->sources[i];
      if (source->common->weight != 0) sum[source->cost] += source->common->weight * source->score[slot];
    }
    scoring->score[slot] = (float)sum[0];
    scoring->cost[slot] = (float)sum[1];
  }
}

/* Group by group, where there are groups. Of no answers too: other ranks may have some, and go in step. */
static bool judge_run(Source *source, int64_t first, int64_t end, Error *error) {
  const int64_t group = source->scoring->setting.group;
  do {
    const int64_t next = group > 0 && group < end - first ? first + group : end;
    if (!source->kind->judge(source, first, next, error)) return source_error(source, error);
    first = next;
  } while (first < end);
  return true;
}

/* This rank's run of the answers, by those that are computed here. */
static bool judge_own(Scoring *scoring, int64_t count, Error *error) {
  const Comm *comm = scoring->setting.comm;
  const int64_t kept = scoring->kept;
  for (int64_t slot = kept; slot < count; slot++) {
    ASSERT(scoring->submitted[slot]);
    scoring->lengths[slot] = (int)(scoring->answers[slot].prompt.count + scoring->answers[slot].count);
  }
  share_runs(scoring->lengths + kept, count - kept, comm->size, scoring->cuts);
  for (int r = 0; r <= comm->size; r++) scoring->cuts[r] += kept;
  const int64_t first = scoring->cuts[comm->rank], end = scoring->cuts[comm->rank + 1];
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (source->kind->judge && !judge_run(source, first, end, error)) return false;
  }
  return true;
}

/* Attends to those outside for a moment. *left: answers that they have not judged. What they have said is soon in the run log: it may have
 * cost money. */
static bool attend_all(Scoring *scoring, int64_t *left, Error *error) {
  RunLog *runlog = scoring->setting.runlog;
  *left = 0;
  if (runlog && time_monotonic() - scoring->flushed > 2) {
    runlog_flush(runlog);
    scoring->flushed = time_monotonic();
  }
  for (size_t i = 0; i < scoring->count; i++) {
    Source *source = &scoring->sources[i];
    if (!is_outside(source) || source->kind->left(source) == 0) continue;
    if (!source->kind->attend(source, 0.05, error)) return source_error(source, error);
    *left += source->kind->left(source);
  }
  return true;
}

/* Until they have judged all. What happens on one rank all hear of, now and then: a signal, or that rank 0 cannot go on. */
static bool wait_for_all(Scoring *scoring, Error *error) {
  enum { LEFT, SIGNAL, FAILURE, NEWS };
  for (;;) {
    int64_t news[NEWS] = {0};
    if (scoring->failure.code) error_set(error, scoring->failure.code, "%s", scoring->failure.message);
    if (error->code || !attend_all(scoring, &news[LEFT], error)) news[FAILURE] = (int64_t)error->code;
    if (scoring->run) news[SIGNAL] = run_stop_signal();
    comm_all_reduce(scoring->setting.comm, COMM_MAX, DTYPE_I64, news, NEWS);
    if (news[FAILURE])
      return error_set(error, (ErrorCode)news[FAILURE], "rank 0 cannot go on: a source of rewards failed");
    if (news[SIGNAL]) return run_interrupted_error(scoring->run, (int)news[SIGNAL], error);
    if (!news[LEFT]) return true;
  }
}

bool scoring_collect(Scoring *scoring, int64_t count, Error *error) {
  if (!judge_own(scoring, count, error) || !wait_for_all(scoring, error)) return false;
  if (scoring->setting.runlog) runlog_flush(scoring->setting.runlog); /* before anything is learned from it */
  for (size_t i = 0; i < scoring->count; i++) put_together(&scoring->sources[i], count);
  add_up(scoring, count);
  return true;
}

/* -- held out --------------------------------------------------------------------------------------------- */

static bool is_heldout(const Source *source) {
  return source->common->weight == 0 && source->common->watch && !source->cost;
}

static const Source *heldout(const Scoring *scoring, int i) {
  const Source *source = scoring->sources;
  while (!is_heldout(source) || i-- > 0) source++;
  return source;
}

int scoring_heldout_count(const Scoring *scoring) {
  int count = 0;
  for (size_t i = 0; i < scoring->count; i++) count += is_heldout(&scoring->sources[i]);
  return count;
}

const char *scoring_heldout_name(const Scoring *scoring, int i) {
  return heldout(scoring, i)->common->name;
}

double scoring_heldout_score(const Scoring *scoring, int i, int64_t slot) {
  return heldout(scoring, i)->score[slot];
}

/* -- parts ------------------------------------------------------------------------------------------------ */

int source_part(Source *source, const char *name, Error *error) {
  const size_t n = (size_t)source->scoring->setting.capacity;
  for (int p = 0; p < source->part_count; p++) {
    if (strcmp(source->part_names[p], name) == 0) return p;
  }
  const int p = source->part_count;
  if (p == SCORING_MOST_PARTS) {
    error_set(error, ERROR_DATA, "more than %d parts of a reward; the next is '%.60s'", SCORING_MOST_PARTS,
              name);
    return -1;
  }
  source->part_names[p] = memory_copy_string(name);
  source->parts[p] = memory_zeroed(n, sizeof *source->parts[p]);
  source->part_count++;
  if (!source->part_names[p] || !source->parts[p]) {
    error_out_of_memory(error, "parts of rewards", n * sizeof *source->parts[p]);
    return -1;
  }
  for (size_t k = 0; k < n; k++) source->parts[p][k] = NAN;
  return p;
}

void source_judged(Source *source, int64_t slot, double score) {
  ASSERT(!source->judged[slot]);
  source->score[slot] = score;
  source->judged[slot] = true;
}
