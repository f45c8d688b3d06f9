/* Learning from a data set, update by update: what the sft, reward and dpo stages have in common, and any further stage
 * whose loss is a function of examples.
 *
 * One update takes optim.batch_size examples in the seeded order (the last one of an epoch those that are left), packs
 * them into micro-batches, accumulates over these the gradient of
 *
 *   L = 1/N * sum over the examples of their loss,   N = sum over the examples of their size (tokens, or one)
 *
 * clips it, and steps the optimiser. N is that of the whole update, so that its split into micro-batches does not matter.
 *
 * With many ranks (docs/ranks.md) each computes a share of the examples of an update, and of an evaluation. N, the gradient and the sums of an update are
 * those of all ranks, so that each makes the same step and has the same figures.
 *
 * A stage says what its examples and its loss are (SupervisedStage). Everything else is here: data, memory plan, resuming
 * and checkpoints, evaluations, the run log, the result. */
#ifndef TRAIN_SUPERVISED_H
#define TRAIN_SUPERVISED_H

#include "train/corpus.h"
#include "train/course.h"
#include "train/learning.h"
#include "train/microbatches.h"
#include "train/plan.h"
#include "train/room.h"
#include "train/schedule.h"
#include "train/summary.h"
#include "train/trend.h"

/* The sections that such stages have. A stage with more of them begins its own struct with this one. */
typedef struct SupervisedConfig {
  ModelConfig model;
  LoraConfig lora;
  DataConfig data;
  OptimConfig optim;
  RunConfig run;
  DeviceConfig device;
} SupervisedConfig;

enum { SUPERVISED_SUMS = 8 };

typedef struct Supervised Supervised;

/* What makes a stage. The functions find their own state in supervised->own. */
typedef struct SupervisedStage {
  const char *name;    /* "sft" */
  const char *trainee; /* what the trained model is called in checkpoints and messages */
  const char *unit;    /* "example": what it learns from */
  DatasetKind kind;
  bool score_head; /* a scalar head in the place of the LM head */

  /* With the data open, before the plan: makes room for what the stage keeps of each example; may be NULL. Freed by the
   * stage after supervised_run. */
  bool (*open)(Supervised *supervised, Error *error);
  /* The model is the one that training starts from, of a run that is resumed too: its checkpoint comes after. May be NULL. */
  bool (*begin)(Supervised *supervised, Error *error);
  /* Before an update learns from the examples of micro.refs[count], those of all ranks; may be NULL. */
  bool (*survey)(Supervised *supervised, int64_t count, Error *error);
  PackExample *pack;
  double (*size)(const Example *example); /* its part of N */
  /* After the forward pass of the micro-batch at hand: puts the gradient of its part of L into supervised->pass, and adds
   * what the stage wants to know of it to sums. */
  void (*learn)(Supervised *supervised, double n, double sums[SUPERVISED_SUMS]);
  /* After such a pass without gradients: reads what the model says at the rows into supervised->micro.packer.values. */
  void (*judge)(Supervised *supervised);
  /* The sums of a whole update: sets supervised->loss, and the stage's own figures of the update. */
  void (*settle)(Supervised *supervised, double n, const double sums[SUPERVISED_SUMS]);
  /* Evaluates on corpus.eval, with supervised_judge_all, logs, and sets supervised->judged. */
  bool (*evaluate)(Supervised *supervised, Error *error);
  /* After the last evaluation, before the result is saved; may be NULL. */
  bool (*finish)(Supervised *supervised, Error *error);

  /* The stage's own figures: to and from a checkpoint, to the run log, into a line of progress after the loss ("accuracy
   * 70%"; may be NULL), into the result as members of a JSON object, each after a comma, and those that the last line tells. */
  bool (*state)(Supervised *supervised, Checkpoint *checkpoint, Error *error);
  void (*metrics)(Supervised *supervised);
  void (*note)(const Supervised *supervised, char *out, size_t size);
  bool (*result)(const Supervised *supervised, Buffer *json, Error *error);
  /* A line after the last one, with a newline before it: the command that one may want now. */
  bool (*next)(const Supervised *supervised, const char *output, Buffer *out, Error *error);
  const SummaryFigure *figures;
  size_t figure_count;
  const char *const *measures; /* choices of its run.keep_best (train/best.h) */
} SupervisedStage;

struct Supervised {
  const SupervisedStage *stage;
  void *own;
  const SupervisedConfig *config;
  bool check;       /* a plan is all that is wanted: --check */
  const Comm *comm; /* borrowed; compute.comm once that is open */
  Log *log;
  Run run;
  Corpus corpus;
  Compute compute;

  TrainMemory memory;
  MemoryPlan plan;
  RunWrites writes;
  LoraSpec lora;
  Model base;
  Trainee trainee;
  Pass pass;
  PassRecords records; /* of the pass; zeroed without device.graphs */
  PassMode mode;       /* of the pass while learning */
  Microbatches micro;
  Schedule schedule;

  /* what the next update depends on, beside the weights and the optimiser: kept in checkpoints */
  int64_t step; /* updates done */
  DataCursor cursor;
  double loss; /* L of the last update that was made */

  Learning learning; /* by which alarms are raised */

  int64_t evaluated;                 /* update after which there was an evaluation in this process, or -1 */
  double judged[BEST_MOST_MEASURES]; /* what it found, by measure */
  Trend trend;                       /* of it, in this process */
};

/* Rules between options that the tables cannot say. */
NODISCARD bool supervised_config_check(const SupervisedConfig *config, Error *error);

/* The whole stage: the `run` of a Program (train/program.h). */
NODISCARD bool supervised_run(const SupervisedStage *stage, void *own, const SupervisedConfig *config,
                              const ProgramCall *call, ProgramResult *result, Error *error);

/* SupervisedStage.next of a policy: how to ask it something. */
NODISCARD bool supervised_next_try(const Supervised *supervised, const char *output, Buffer *out,
                                   Error *error);

/* Shares micro.examples[count] out over the ranks, *own of them to this one, and plans the micro-batches of these. */
NODISCARD bool supervised_plan(Supervised *supervised, int64_t count, int64_t *own, Error *error);
/* The forward pass of the micro-batch that is packed, and the stage's judge on it. */
void supervised_judge(Supervised *supervised);
typedef void JudgedVisit(Supervised *supervised, void *context);
/* supervised_judge of each micro-batch that is planned, and then `visit`; what that sums is this rank's. */
void supervised_judge_plan(Supervised *supervised, JudgedVisit *visit, void *context);
/* The same of this rank's share of the examples of a data set. */
NODISCARD bool supervised_judge_all(Supervised *supervised, const Dataset *data, JudgedVisit *visit,
                                    void *context, Error *error);

#endif
