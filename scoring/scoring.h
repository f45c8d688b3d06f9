/* The rewards of answers: a weighted list of sources (docs/rewards.md), behind one interface.
 *
 *   scoring_config_read   from the configuration: kinds, names, weights, and each kind's own keys
 *   scoring_open          everything that can be wrong is looked at, and nothing is started: --check ends here
 *   scoring_open_models   reward models, in dry or real memory, as all models (train/trainee.h)
 *
 *   for each rollout:
 *   scoring_begin
 *   scoring_submit        an answer, as soon as it is there, in any order
 *   scoring_attend        now and then: whoever judges beside us is read from and written to, without waiting
 *   scoring_collect       waits for whoever judges; then scoring->score and scoring->cost
 *
 * The score of an answer is the sum over the sources of weight * what the source says of it, and its cost that over the sources of costs. Neither depends on the order in which
 * answers were submitted or rewards came. Answers have slots, 0 .. capacity-1, by which everything about them is found.
 *
 * With many ranks (compute/comm.h) all have all answers before they collect. What is computed here each does for a run of them, shared out by
 * tokens; who judges outside is asked by rank 0 alone; then every rank has the rewards of all. scoring_open, scoring_open_models and scoring_collect are called by all in the same order. */
#ifndef SCORING_SCORING_H
#define SCORING_SCORING_H

#include "scoring/config.h"
#include "train/packer.h"
#include "train/run.h"
#include "train/trainee.h"

enum { SCORING_MOST_PARTS = 32 }; /* of one source */

/* One answer. The prompt and all that it points to, and ids, are borrowed until the rollout is collected. */
typedef struct Answer {
  Example prompt;
  const int32_t *ids; /* as they were sampled, with the end token */
  int64_t count;
  bool ended;    /* the last id is an end token */
  bool finished; /* it ended by itself: so, or by a stop string, which is in the ids */
  int64_t id;    /* for judges outside: another one for each answer of a rollout */
} Answer;

typedef struct Source Source;

/* What sources may ask for; all borrowed. */
typedef struct ScoringSetting {
  const TextTools *text; /* of the policy; without a tokenizer where there is none (--check) */
  const DataConfig *data;
  const char
      *met; /* directory of a model whose tokens were compared with the policy's, and told of; or NULL */
  int64_t capacity; /* answers of a rollout */
  int64_t
      group; /* so many of them, those to one prompt, are scored with each other alone: the last bit of a model's score depends on what is computed
                       with it; 0: all together */
  const Comm *comm;
  RunLog
      *runlog; /* keeps what judges outside said, so that a resumed run has it again; NULL: nothing is kept */
  Log *log;
} ScoringSetting;

/* A frozen model that is open already, with nothing in its weights but what is in its files: reward models over the same directory share it. */
typedef struct ScoringBase {
  const char *path;
  Model *model;
} ScoringBase;

/* How reward models are opened, in a dry memory or in a real one. */
typedef struct ScoringModels {
  ScoringBase bases[3];
  size_t base_count;
  WeightFormat format;
  bool merge;                 /* the adapter of a lone reward model is added to its weights */
  int64_t micro_batch_tokens; /* computed at once */
  Compute *compute;           /* borrowed, as is ... */
  TrainMemory *memory;
} ScoringModels;

typedef struct Scoring {
  ScoringSetting setting;
  Source *sources;
  size_t count;
  bool has_costs;
  Run *run;     /* of the rollout at hand: a signal gives it up; NULL: it does not */
  int64_t step; /* updates before it */
  int64_t kept; /* slots before this one were collected before (scoring_keep) */

  /* of the rollout at hand, by slot */
  Answer *answers;
  bool *submitted;
  int *lengths;  /* tokens, with the prompt */
  int64_t *cuts; /* [ranks + 1] rank r judges slots cuts[r] .. cuts[r+1]-1 */
  Buffer *texts; /* what was said, where a source wants it: without special tokens */
  bool wants_text;
  float *score;   /* the weighted sum of rewards */
  float *cost;    /* and of costs: 0 without any */
  double flushed; /* the run log, when: time_monotonic */
  Error failure;  /* of rank 0 with a judge outside, until all ranks hear of it */

  ScoringModels models;
  Packer packer;
} Scoring;

/* config is borrowed. ERROR_MODEL, ERROR_USAGE, ERROR_DATA. The scoring must not move until scoring_close. */
NODISCARD bool scoring_open(Scoring *scoring, const ScoringConfig *config, const ScoringSetting *setting,
                            Error *error);
void scoring_close(Scoring *scoring);
/* Whether every prompt has what the sources need of its record: ERROR_DATA naming file and line. `name`: "data.prompts". */
NODISCARD bool scoring_check_prompts(const Scoring *scoring, const char *name, const Dataset *prompts,
                                     Error *error);

NODISCARD bool scoring_open_models(Scoring *scoring, const ScoringModels *models, Error *error);
/* Prompts with their answers have up to `longest` of the policy's tokens (base_set_length). */
NODISCARD bool scoring_set_length(Scoring *scoring, int64_t longest, Log *log, Error *error);
/* The largest steps there will be, in a dry memory. */
void scoring_plan(Scoring *scoring);
void scoring_close_models(Scoring *scoring);

/* run: a signal gives up what can be made again, as ERROR_SIG...; NULL: it is carried to its end. step: updates done; with an answer's id it
 * says which answer of the run it is. */
void scoring_begin(Scoring *scoring, Run *run, int64_t step);
NODISCARD bool scoring_submit(Scoring *scoring, int64_t slot, const Answer *answer, Error *error);
static inline bool scoring_is_submitted(const Scoring *scoring, int64_t slot) {
  return scoring->submitted[slot];
}
NODISCARD bool scoring_attend(Scoring *scoring, Error *error);
/* Of the slots 0 .. count-1, which are all submitted. A signal to any rank is ERROR_SIG... on all. */
NODISCARD bool scoring_collect(Scoring *scoring, int64_t count, Error *error);

/* The answers of slots[0 .. count-1], ascending, which are collected, become those of slots 0 .. count-1 with all that is known of them.
 * The others are given up, and from slot `count` on there is room for further answers of the rollout, to be submitted and collected. */
void scoring_keep(Scoring *scoring, const int64_t *slots, int64_t count);

/* -- what there is to tell ------------------------------------------------------------------------------- */

/* Calls `tell` for each source ("tone") and each part that its rewards have ("tone/length") with the sum over the `count` answers of the
 * rollout and the number of those that have one; nothing for reward.path and cost.path. cost: whether it is a source of costs. */
typedef void ScoringMean(void *context, const char *name, bool cost, double sum, double answers);
void scoring_means(const Scoring *scoring, int64_t count, ScoringMean *tell, void *context);
/* Appends what the sources said of one answer, a JSON object: {"tone": 0.5, "form": {"score": 1, "length": 1}}. */
NODISCARD bool scoring_detail(const Scoring *scoring, int64_t slot, Buffer *out, Error *error);

/* Held-out judges: sources of rewards of weight 0, unless `watch` is false. What nothing is learnt from says whether what is learnt is any good. Number i
 * of them, in the order of the list: its name, and what it said of an answer of the rollout. */
int scoring_heldout_count(const Scoring *scoring);
const char *scoring_heldout_name(const Scoring *scoring, int i);
double scoring_heldout_score(const Scoring *scoring, int i, int64_t slot);

/* Whether all reward models, or all cost models, have a zero point, by which scores of theirs can be compared with a fixed number. */
bool scoring_zero_known(const Scoring *scoring, bool cost);
/* How many reward models there are, or cost models, and how many bases were opened for them alone. */
typedef struct ScoringCount {
  int models, bases;
} ScoringCount;
ScoringCount scoring_count_models(const Scoring *scoring, bool cost);

#endif
