/* Inside scoring/ only: what a kind of source is. Each kind is a file with one of these: model.c, rules.c ...
 *
 * Sources whose rewards are computed here judge all answers of a rollout at once. The others are given each answer as soon as it is
 * there, work on it beside us, and are attended to from time to time; what they say arrives by source_judged. */
#ifndef SCORING_SOURCE_H
#define SCORING_SOURCE_H

#include "scoring/scoring.h"

#include <math.h>

/* The keys that all kinds have; the config struct of each begins with it. */
typedef struct SourceCommon {
  char *name, *kind; /* a name that was not given is made of the kind's (scoring/config.c) */
  double weight;
  bool watch;
} SourceCommon;

/* clang-format off */
#define SOURCE_OPTIONS(Config, field)                                                                       \
  ROW_STRING_REQUIRED("kind", Config, field.kind, "what it is"),                                            \
  ROW_STRING("name", Config, field.name, NULL, "what it is called in the run log (default: its kind; of a cost cost_KIND)"),     \
  ROW_FLOAT("weight", Config, field.weight, "1", -INFINITY, INFINITY,                                       \
      "what its reward is multiplied by in the sum; 0: it is only logged"),                                 \
  ROW_BOOL("watch", Config, field.watch, "true",                                                            \
      "with weight 0: it is a judge that nothing is learnt from, by which the run is watched", .when = "weight = 0"),
/* clang-format on */

typedef struct SourceKind {
  OptionKind keys; /* the first member: scoring_kinds */
  size_t config_size;

  /* What the table cannot say. place: "reward.sources[2]". */
  bool (*check)(const void *options, const char *place, Error *error);
  /* Everything but models and what has to be started. May be NULL, as all below. */
  bool (*open)(Source *source, Error *error);
  /* Of those with models. */
  bool (*open_models)(Source *source, Error *error);
  bool (*set_length)(Source *source, int64_t longest, Log *log, Error *error);
  void (*plan)(Source *source); /* the largest step there can be, in a dry memory */
  bool (*zero_known)(const Source *source);
  ScoringCount (*count_models)(const Source *source);
  void (*close_models)(Source *source);
  void (*close)(Source *source);
  /* Whether the record of a prompt has what the source needs. */
  bool (*check_prompt)(const Source *source, const Example *prompt, Error *error);
  /* The answers of slots first .. end-1, on a rank of many perhaps none: source_judged for each, unless scoring_is_stopped. NULL of those that judge beside us: */
  bool (*judge)(Source *source, int64_t first, int64_t end, Error *error);
  void (*begin)(Source *source); /* a rollout */
  /* Appends what it is asked of an answer, all that what it says depends on; but for how it is spelled. */
  bool (*question)(Source *source, int64_t slot, Buffer *out, Error *error);
  bool (*submit)(Source *source, int64_t slot, Error *error); /* source->questions[slot] */
  /* Does what can be done now; waits up to so many seconds for something to happen. */
  bool (*attend)(Source *source, double seconds, Error *error);
  int64_t (*left)(const Source *source); /* answers that it has not judged yet */
} SourceKind;

extern const SourceKind model_source, ensemble_source, command_source, http_source, rules_source;
/* Where the model of a model_source is; borrowed from its config struct. */
ModelPlace model_source_place(const void *options);

struct Source {
  const SourceKind *kind;
  const void *options; /* the kind's config struct; its common part is ... */
  const SourceCommon *common;
  bool cost, brief; /* SourceConfig */
  Scoring *scoring;
  void *state; /* the kind's own */

  /* of the rollout at hand, by slot */
  double *score;
  bool *judged;
  /* What a score is made of, where the source says; NaN where it does not. */
  char *part_names[SCORING_MOST_PARTS];
  float *parts[SCORING_MOST_PARTS]; /* [capacity] */
  int part_count;

  /* of those that judge beside us, by slot */
  Buffer *questions;
  bool anywhere; /* what was said of a question holds wherever it is asked again in the run */
};

/* Whether a text can be part of the name of a metric: up to 40 letters, digits, _, - and . */
bool source_is_name(const char *text);
/* "reward source 'tone'", for messages; valid until the next call with the same `out`. */
const char *source_label(const Source *source, char out[96]);

/* The number of a part, which is made where there is none of this name; -1 with an error when memory is out or there are
 * SCORING_MOST_PARTS. */
int source_part(Source *source, const char *name, Error *error);
void source_judged(Source *source, int64_t slot, double score);
/* A signal came to this rank: what it is at is given up, and the ranks agree later. */
bool scoring_is_stopped(const Scoring *scoring);

#endif
