/* Reward models as sources.
 *
 * `model` is one, `ensemble` several adapters over one base, each with a head of its own. */
#include "scoring/reading.h"
#include "scoring/source.h"

#include "base/memory.h"

#include <string.h>

typedef struct ModelOptions {
  SourceCommon common;
  char *path, *adapter, *template;
} ModelOptions;

#define TEMPLATE_HELP                                                                                     \
  "chat template that it reads answers by: auto = the one that it was trained with here, or, where that " \
  "is not known and its tokens are not the policy's, its own; else a name or file as of data.template"

typedef enum Combine { COMBINE_MEAN, COMBINE_MINIMUM, COMBINE_MEAN_MINUS_STD } Combine;
static const char *const combine_names[] = {"mean", "minimum", "mean_minus_std", NULL};

typedef struct EnsembleOptions {
  SourceCommon common;
  char *path, *template;
  OptionStrings adapters;
  int combine; /* Combine */
  double k;
} EnsembleOptions;

/* clang-format off */
static const Option ensemble_options[] = {
    SOURCE_OPTIONS(EnsembleOptions, common)
    ROW_STRING_REQUIRED("path", EnsembleOptions, path, "the base model under all adapters"),
    ROW_STRINGS("adapters", EnsembleOptions, adapters, NULL, "PEFT directories of reward models over it, a list of at least two"),
    ROW_CHOICE("combine", EnsembleOptions, combine, "mean", combine_names,
               "what is made of their scores: the mean, the least, or the mean less k standard deviations"),
    ROW_FLOAT("k", EnsembleOptions, k, "1", 0, 1000, "of mean_minus_std", .when = "combine = mean_minus_std"),
    ROW_STRING("template", EnsembleOptions, template, "auto", TEMPLATE_HELP)};
/* clang-format on */

/* clang-format off */
static const Option model_options[] = {
    SOURCE_OPTIONS(ModelOptions, common)
    ROW_STRING_REQUIRED("path", ModelOptions, path, "reward model, or the base model of 'adapter'"),
    ROW_STRING("adapter", ModelOptions, adapter, NULL, "PEFT directory of the reward model"),
    ROW_STRING("template", ModelOptions, template, "auto", TEMPLATE_HELP)};
/* clang-format on */

ModelPlace model_source_place(const void *options) {
  const ModelOptions *model = options;
  return (ModelPlace){model->path, model->adapter};
}

typedef struct State {
  const char *path;
  char *const *adapters; /* [members]; that of one member may be NULL */
  int count;
  Predictor *members; /* [members] */
  float *scores;      /* [members, capacity] */

  bool merged;  /* the adapter is in the weights */
  Model *model; /* that they stand over: another's, or ... */
  Model own;
  Pass pass;

  Reading reading;
  int64_t limit;     /* tokens that an answer with its prompt may have when it is read again */
  IntArray ids;      /* of all answers, as they were read again, end to end */
  size_t *begins;    /* [capacity] where each begins */
  int64_t *counts;   /* [capacity] and its ids */
  int64_t shortened; /* answers that did not fit, so far */
} State;

/* -- opening ---------------------------------------------------------------------------------------------- */

static bool open_members(Source *source, const char *path, char *const *adapters, int count,
                         const char *template, Error *error) {
  const ScoringSetting *setting = &source->scoring->setting;
  const size_t n = (size_t)setting->capacity, members = (size_t)count;
  State *state = source->state = memory_zeroed(1, sizeof *state);
  if (!state) return error_out_of_memory(error, "reward model", sizeof *state);
  *state = (State){.path = path, .adapters = adapters, .count = count};
  state->members = memory_zeroed(members, sizeof *state->members);
  state->scores = memory_zeroed(members * n, sizeof *state->scores);
  state->begins = memory_zeroed(n, sizeof *state->begins);
  state->counts = memory_zeroed(n, sizeof *state->counts);
  if (!state->members || !state->scores || !state->begins || !state->counts)
    return error_out_of_memory(error, "scores of models", members * n * sizeof *state->scores);
  if (!setting->text->tokenizer) return true; /* a plan by config.json alone */
  const ModelPlace first = {(char *)path, adapters[0]};
  if (!reading_open(&state->reading, &first, template, setting, error)) return false;
  for (int m = 1; m < count; m++) {
    const ModelPlace other = {(char *)path, adapters[m]};
    if (!reading_serves(&state->reading, &first, &other, template, setting, error)) return false;
  }
  source->scoring->wants_text |= state->reading.needed;
  return true;
}

static bool open_model(Source *source, Error *error) {
  const ModelOptions *options = source->options;
  return open_members(source, options->path, &options->adapter, 1, options->template, error);
}

static bool check_ensemble(const void *config, const char *place, Error *error) {
  const EnsembleOptions *options = config;
  const size_t count = options->adapters.count, most = SCORING_MOST_PARTS - 1;
  return (count >= 2 && count <= most) ||
         error_set(error, ERROR_USAGE, "%s: 'adapters': expected a list of 2 to %zu directories, found %zu",
                   place, most, count);
}

/* "1", "2", ... and "std". */
static bool name_parts(Source *source, size_t members, Error *error) {
  for (size_t m = 1; m <= members; m++) {
    char name[16];
    snprintf(name, sizeof name, "%zu", m);
    if (source_part(source, name, error) < 0) return false;
  }
  return source_part(source, "std", error) >= 0;
}

static bool open_ensemble(Source *source, Error *error) {
  const EnsembleOptions *options = source->options;
  const size_t members = options->adapters.count;
  return open_members(source, options->path, options->adapters.items, (int)members, options->template,
                      error) &&
         name_parts(source, members, error);
}

static void close_members(Source *source) {
  State *state = source->state;
  if (!state) return;
  reading_close(&state->reading);
  int_array_free(&state->ids);
  memory_free(state->begins);
  memory_free(state->counts);
  memory_free(state->scores);
  memory_free(state->members);
  memory_free(state);
  source->state = NULL;
}

/* -- the models ------------------------------------------------------------------------------------------- */

/* One that is open already: the caller's, or of a source before this one. */
static Model *find_base(const Source *source) {
  const State *state = source->state;
  const ScoringModels *models = &source->scoring->models;
  for (size_t i = 0; i < models->base_count; i++) {
    if (path_same(models->bases[i].path, state->path)) return models->bases[i].model;
  }
  for (const Source *other = source->scoring->sources; other < source; other++) {
    const State *theirs = other->state;
    if (other->kind->open_models && !theirs->merged && path_same(theirs->path, state->path))
      return theirs->model;
  }
  return NULL;
}

static bool open_member(Source *source, int m, Error *error) {
  const ScoringModels *models = &source->scoring->models;
  State *state = source->state;
  const PredictorSpec spec = {.name = "reward",
                              .adapted = state->adapters[m] && !state->merged,
                              .adapter = state->adapters[m],
                              .score_head = true,
                              .head_from = state->path,
                              .head_must_exist = true};
  return predictor_open(&state->members[m], &spec, state->model, PREDICTOR_FROZEN, NULL, models->compute,
                        models->memory, error);
}

static bool open_models(Source *source, Error *error) {
  const ScoringModels *models = &source->scoring->models;
  State *state = source->state;
  state->merged = models->merge && source->kind == &model_source && state->adapters[0];
  state->model = state->merged ? NULL : find_base(source);
  if (!state->model) {
    state->model = &state->own;
    if (!base_open(&state->own, state->path, state->merged ? state->adapters[0] : NULL, models->format,
                   models->compute, models->memory, error)) {
      return false;
    }
  }
  for (int m = 0; m < state->count; m++) {
    if (!open_member(source, m, error)) return false;
  }
  return pass_init(&state->pass, state->model, error);
}

static void close_models(Source *source) {
  State *state = source->state;
  if (!state) return;
  for (int m = 0; m < state->count; m++) predictor_close(&state->members[m]);
  pass_free(&state->pass);
  base_close(&state->own);
  state->model = NULL;
}

/* What is read again may be longer than what the policy wrote: as long as a micro-batch, and as the model goes. */
static bool set_length(Source *source, int64_t longest, Log *log, Error *error) {
  State *state = source->state;
  const ScoringModels *models = &source->scoring->models;
  const int64_t tokens = models->micro_batch_tokens, most = state->model->spec.max_positions;
  const bool own = state->model == &state->own;
  state->limit = !own ? longest : most > 0 && most < tokens ? most : tokens;
  if (!own) return true;
  return base_set_length(&state->own, state->reading.needed ? state->limit : longest, models->compute, log,
                         error);
}

/* -- scores ----------------------------------------------------------------------------------------------- */

/* Of the micro-batch in the packer, by each member; its items count from slot `first` on. */
static void score_microbatch(Source *source, int64_t first) {
  State *state = source->state;
  Scoring *scoring = source->scoring;
  Packer *packer = &scoring->packer;
  Arena *step = &scoring->models.memory->step;
  for (int m = 0; m < state->count; m++) {
    const Predictor *member = &state->members[m];
    const size_t mark = arena_mark(step);
    pass_forward(&state->pass, scoring->models.compute, state->model, predictor_adapter(member),
                 &packer->batch, PASS_INFERENCE, step);
    score_values(&state->pass, &member->head, packer_last(packer), packer->values);
    float *scores = state->scores + m * scoring->setting.capacity + first;
    for (int64_t k = 0; k < packer->count; k++) scores[packer->items[k]] = packer->values[k];
    arena_release(step, mark);
  }
}

static void plan(Source *source) {
  packer_dry(&source->scoring->packer);
  source->scoring->packer.count = 0; /* of no answer */
  score_microbatch(source, 0);
}

static bool read_again(Source *source, int64_t first, int64_t end, Error *error) {
  State *state = source->state;
  Scoring *scoring = source->scoring;
  state->ids.size = 0;
  for (int64_t slot = first; slot < end && !scoring_is_stopped(scoring); slot++) {
    state->begins[slot] = state->ids.size;
    bool shortened;
    if (!reading_encode(&state->reading, &scoring->answers[slot], &scoring->texts[slot], state->limit,
                        &state->ids, &shortened, error)) {
      return false;
    }
    state->counts[slot] = (int64_t)(state->ids.size - state->begins[slot]);
    if (shortened && state->shortened++ == 0 && scoring->setting.log) {
      char label[96];
      log_warning(scoring->setting.log,
                  "%s: an answer with its prompt has more than %lld of its tokens: the earliest of the "
                  "prompt are left "
                  "out, here and wherever it happens again",
                  source_label(source, label), (long long)state->limit);
    }
  }
  return true;
}

/* The ids of a slot, as a prompt and what follows it. */
typedef struct Sequence {
  const int32_t *ids, *more;
  int64_t count, more_count;
} Sequence;

static Sequence sequence_of(const Source *source, int64_t slot) {
  const State *state = source->state;
  const Answer *answer = &source->scoring->answers[slot];
  if (!state->reading.needed)
    return (Sequence){answer->prompt.ids, answer->ids, answer->prompt.count, answer->count};
  return (Sequence){.ids = state->ids.data + state->begins[slot], .count = state->counts[slot]};
}

/* Where the model is sliced over ranks all go in step: one that has nothing left, or is stopped by a signal, makes idle passes. */
static void stand_by(const Source *source) {
  const State *state = source->state;
  for (int m = 0; m < state->count; m++) pass_forward_idle(state->model, source->scoring->models.compute);
}

static bool score_all(Source *source, int64_t first, int64_t end, Error *error) {
  const State *state = source->state;
  Packer *packer = &source->scoring->packer;
  for (int64_t slot = first; slot < end; slot++) {
    const Sequence sequence = sequence_of(source, slot);
    packer->lengths[slot - first] = (int)(sequence.count + sequence.more_count);
  }
  if (!packer_plan(packer, end - first, true, error)) return false;
  const int own = packer->plan.count;
  const int passes = predictor_passes(&state->members[0], source->scoring->models.compute, own);
  for (int b = 0; b < passes; b++) {
    if (b >= own || scoring_is_stopped(source->scoring)) {
      stand_by(source);
      continue;
    }
    packer_begin(packer, b);
    for (int64_t k = 0; k < packer->count; k++) {
      const Sequence sequence = sequence_of(source, first + packer->items[k]);
      (void)packer_add(packer, sequence.ids, sequence.count);
      if (sequence.more_count) packer_extend(packer, sequence.more, sequence.more_count);
    }
    score_microbatch(source, first);
  }
  return true;
}

/* The scores of the members, before they are made one. */
static bool score_members(Source *source, int64_t first, int64_t end, Error *error) {
  const State *state = source->state;
  return (!state->reading.needed || read_again(source, first, end, error)) &&
         score_all(source, first, scoring_is_stopped(source->scoring) ? first : end, error);
}

static bool judge_model(Source *source, int64_t first, int64_t end, Error *error) {
  const State *state = source->state;
  if (!score_members(source, first, end, error)) return false;
  for (int64_t slot = first; slot < end; slot++) source_judged(source, slot, state->scores[slot]);
  return true;
}

/* Of one answer. The standard deviation is that of the members, with their number as divisor: Coste et al. 2023, "Reward model ensembles help
 * mitigate overoptimization", take its square, the intra-ensemble variance, in their uncertainty-weighted optimisation. */
static double combined(Source *source, int64_t slot) {
  const EnsembleOptions *options = source->options;
  const State *state = source->state;
  double sum = 0, least = INFINITY, squares = 0;
  for (int m = 0; m < state->count; m++) {
    const float score = state->scores[m * source->scoring->setting.capacity + slot];
    source->parts[m][slot] = score;
    sum += score;
    least = fmin(least, score);
  }
  const double mean = sum / state->count;
  for (int m = 0; m < state->count; m++)
    squares += (source->parts[m][slot] - mean) * (source->parts[m][slot] - mean);
  const double std = sqrt(squares / state->count);
  source->parts[state->count][slot] = (float)std;
  if (!isfinite(mean)) return mean; /* fmin passes over NaN */
  return options->combine == COMBINE_MINIMUM          ? least
         : options->combine == COMBINE_MEAN_MINUS_STD ? mean - options->k * std
                                                      : mean;
}

static bool judge_ensemble(Source *source, int64_t first, int64_t end, Error *error) {
  if (!score_members(source, first, end, error)) return false;
  for (int64_t slot = first; slot < end; slot++) source_judged(source, slot, combined(source, slot));
  return true;
}

static bool zero_known(const Source *source) {
  const State *state = source->state;
  bool known = true;
  for (int m = 0; m < state->count; m++) known = known && state->members[m].head.zero.known;
  return known;
}

static ScoringCount count_models(const Source *source) {
  const State *state = source->state;
  return (ScoringCount){.models = state->count, .bases = state->model == &state->own};
}

const SourceKind model_source = {
    .keys = {"model", model_options, sizeof model_options / sizeof *model_options},
    .config_size = sizeof(ModelOptions),
    .open = open_model,
    .open_models = open_models,
    .set_length = set_length,
    .plan = plan,
    .close_models = close_models,
    .close = close_members,
    .zero_known = zero_known,
    .count_models = count_models,
    .judge = judge_model};

const SourceKind ensemble_source = {
    .keys = {"ensemble", ensemble_options, sizeof ensemble_options / sizeof *ensemble_options},
    .config_size = sizeof(EnsembleOptions),
    .check = check_ensemble,
    .open = open_ensemble,
    .open_models = open_models,
    .set_length = set_length,
    .plan = plan,
    .close_models = close_models,
    .close = close_members,
    .zero_known = zero_known,
    .count_models = count_models,
    .judge = judge_ensemble};
