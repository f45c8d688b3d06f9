/* The parts of `new`: a configuration with the values that fit a model and data.
 *
 * What it knows it asks the other programs for, so that it says what they will say: `inspect` about the model and the lengths of
 * the data, a stage for its defaults (--print-config) and for the memory plan (--check), whose advice is taken until the plan fits. */
#ifndef TOOLS_NEW_NEW_H
#define TOOLS_NEW_NEW_H

#include "base/json.h"
#include "base/log.h"
#include "base/option.h"
#include "train/ask.h"

typedef struct NewConfig {
  char *kind; /* sft, reward, dpo, ppo or pipeline */
  char *model, *adapter, *reward, *reward_adapter;
  OptionSources data, preferences, prompts;
  char *out, *run_dir;
  bool full;
  int64_t memory_limit;
} NewConfig;

typedef struct ModelFacts {
  bool known;
  char class[64];
  int64_t parameters, positions; /* positions: INT64_MAX = no limit */
  char template[16];             /* what data.template is to be */
} ModelFacts;

typedef struct DataFacts {
  bool known;
  char formats[128];
  int64_t examples;
  int64_t longest, p99; /* tokens: of the longest sequence; of the example that is longer than 99 of 100 */
} DataFacts;

typedef struct New {
  const NewConfig *config;
  Log *log;
  char *scratch; /* a directory for what is there for a moment */
  ModelFacts model;
} New;

/* A stage's configuration on its way. */
typedef struct Draught {
  const char *stage; /* "sft" */
  DataFacts data;
  json_t *own; /* what was decided, as a configuration; paths that are not known are "<what belongs here>" */
  json_t *all; /* the same with the stage's defaults */
  char memory[64]; /* "1.20 GiB of 20.80 GiB" planned; "" = no plan was made */
} Draught;

/* -- look.c: what is there ------------------------------------------------------------------------------ */

/* Nothing is known without a model. */
NODISCARD bool look_at_model(New *new, Error *error);
/* Of all files together; nothing is known without a model or files. Chooses the template of a model that has none. kind: as `inspect data`
 * has it. */
NODISCARD bool look_at_data(New *new, DataFacts *facts, const OptionSources *files, const char *kind,
                            Error *error);

/* -- decide.c: which values fit ------------------------------------------------------------------------- */

/* Fills own and all of a draught that has its stage and data. */
NODISCARD bool draught_decide(Draught *draught, const New *new, const OptionSources *files, Error *error);
/* Writes what is decided, without what is still to be filled in, to a file in the scratch directory; its path, a new string, or NULL. */
char *draught_write(const Draught *draught, const New *new, Error *error);
void draught_free(Draught *draught);
/* Whether a value says what belongs in its place. */
bool draught_is_place(const json_t *value);

/* -- plan.c --------------------------------------------------------------------------------------------- */

/* Changes what is decided until the stage's memory plan fits, by the stage's own advice. Nothing without a model. */
NODISCARD bool draught_plan(Draught *draught, const New *new, Error *error);

/* -- show.c --------------------------------------------------------------------------------------------- */

/* Appends the configuration as YAML behind `indent` blanks: what is usual, and what was decided. Of a stage of a pipeline without the models
 * and the run directory, which the pipeline sets. */
NODISCARD bool draught_show(const Draught *draught, const New *new, bool alone, int indent, Buffer *out,
                            Error *error);

#endif
