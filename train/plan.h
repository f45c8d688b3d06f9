/* The memory plan: what a run will hold at its peak, known before any work (DESIGN decision 6).
 *
 * A stage plans by running itself in dry arenas. When the plan does not fit, it is made again with changed
 * settings, so that the advice in the message is computed, not guessed. */
#ifndef TRAIN_PLAN_H
#define TRAIN_PLAN_H

#include "base/log.h"
#include "train/device.h"
#include "train/trainee.h"

enum { PLAN_MAX_LINES = 24 };

typedef struct PlanLine {
  const char *name; /* static */
  size_t bytes;
  bool host; /* of the host's memory, beside a card's */
} PlanLine;

typedef struct MemoryPlan {
  PlanLine lines[PLAN_MAX_LINES];
  int count;
} MemoryPlan;

void plan_add(MemoryPlan *plan, const char *name, size_t bytes);      /* nothing for 0 bytes */
void plan_add_host(MemoryPlan *plan, const char *name, size_t bytes); /* the same */
/* Bracket the dry run of a stage: fresh dry arenas and workspace; then their peaks go to the plan. */
void plan_begin(TrainMemory *memory, Compute *compute);
NODISCARD bool plan_end(MemoryPlan *plan, const TrainMemory *memory, Compute *compute, Error *error);
/* What program and libraries take by themselves, and on the CPU what the heap holds by now: tokenizer, data, tables. */
void plan_add_program(MemoryPlan *plan, const Compute *compute);
/* The peaks of the arenas, the scratch of operations, plan_add_program, and on the CPU what opening tokenizer and data once took
 * beyond all that: a large tokenizer.json does, beside a small model. */
void plan_add_memory(MemoryPlan *plan, const TrainMemory *memory, const Compute *compute);
size_t plan_total(const MemoryPlan *plan); /* of the device */
size_t plan_host_total(const MemoryPlan *plan);
/* Prints the table. */
void plan_show(const MemoryPlan *plan, Log *log, MemoryLimits limits);

/* ERROR_MEMORY when it does not fit in `limit`, with the table in the log. advice: what needs less, or NULL. Of programs whose
 * settings leave nothing to be tried; stages have plan_check. */
NODISCARD bool plan_fits(const MemoryPlan *plan, size_t limit, const char *advice, Log *log, Error *error);

/* The parts of a configuration that decide the memory and that a user can change: shallow copies, whose strings are
 * borrowed. A stage opens its models from them, in the dry run and in earnest. */
typedef struct PlanSettings {
  ModelConfig model;
  LoraConfig lora;
  OptimConfig optim;
  int64_t
      rollout_batch; /* answers generated at once, which no result depends on; 0: the stage generates none */
  int cache_dtype;   /* of the answers' keys and values: CacheDtype */
  int rollout_weights; /* what they are sampled from: SamplerWeights */
  int shard;           /* over the ranks: ShardLevel */
  int most_shard;      /* the highest level that the stage has; SHARD_NONE with one rank */
  int64_t graphs;      /* bytes for recorded passes, set aside; 0: none are recorded */
  bool shard_frozen;   /* what is not trained too, whatever `shard` is */
  bool has_frozen;     /* the stage has such models, and many ranks */
} PlanSettings;

/* Makes the plan of a stage under the settings (dry), their graphs included. */
typedef bool (*PlanMaker)(void *context, const PlanSettings *settings, MemoryPlan *plan, Error *error);

/* Makes and shows the plan; ERROR_MEMORY when it does not fit in the limits, with the settings that would.
 * least_tokens: the smallest micro-batch that the data allows. */
NODISCARD bool plan_check(PlanMaker make, void *context, const PlanSettings *settings, int64_t least_tokens,
                          MemoryLimits limits, Log *log, MemoryPlan *plan, Error *error);

/* A line that compares the peak of this process with the plan. */
void plan_report_peak(const MemoryPlan *plan, const Compute *compute, Log *log);
/* And of many ranks, which all call it, a line with those of all. */
void plan_report_peaks(const MemoryPlan *plan, const Compute *compute, Log *log);
/* A line that says how many passes were recorded, of how many kinds that there were, and in how much memory; none without device.graphs. */
void plan_report_graphs(const PassRecords *records, Log *log);

#endif
