/* Everything that a run of the ppo stage holds open: data, models, engine, arrays, run directory. */
#ifndef PPO_SESSION_H
#define PPO_SESSION_H

#include "ppo/alarms.h"
#include "ppo/cost.h"
#include "ppo/ema.h"
#include "ppo/kl.h"
#include "ppo/moving_reference.h"
#include "ppo/update.h"
#include "train/data.h"
#include "train/plan.h"
#include "train/room.h"
#include "train/course.h"
#include "train/schedule.h"

/* What an evaluation found. */
typedef struct Evaluation {
  double score, kl, length, ended; /* over the answers */
  double cost, safe; /* likewise: the mean, and the share at most at the threshold; with costs */
  double heldout;    /* likewise: what the first held-out judge says */
  double best;       /* over the prompts, of the best score among their answers */
} Evaluation;

typedef struct PpoSession {
  PpoConfig config; /* shallow copy */
  ScoringConfig rewards;
  CriticStarts critics;
  bool check; /* a plan is all that is wanted: --check */
  Comm comm;  /* the ranks of the run */
  Log *log;
  Run run;
  Compute compute;

  /* data */
  TextTools text;
  int ends[TEXT_MAX_ENDS];
  int end_count;
  Dataset prompts, eval;
  bool has_eval;
  DataOrder order;
  ExampleRef *picks; /* [ppo.batch_size], of which a rollout takes one for samples_per_prompt answers */
  Ptx ptx;
  bool has_ptx;

  /* models and memory */
  LoraSpec lora;
  TrainMemory memory;
  MemoryPlan plan;
  RunWrites writes;
  PpoModels models;
  Scoring scoring;
  Ema ema;
  MovingReference reference;
  Gathered gathered; /* the policy as the engine reads it, with rollout.weights exact, */
  Narrowed narrowed; /* and with int8 */
  Engine engine;
  Pass policy_pass, critic_passes[MOST_CRITICS];
  PassRecords records; /* of all of them */
  Microbatch micro;
  Experience experience;

  /* where the run stands: all that a checkpoint holds beside the models */
  int64_t updates;   /* done */
  DataCursor cursor; /* of the prompts */
  int64_t episodes;  /* sampled so far */
  UpdateState update;
  KlController kl;
  RunningScore scores; /* with ppo.normalize_scores */
  CostController cost; /* with costs */
  PpoAlarms alarms;

  int64_t evaluated;     /* update after which there was an evaluation in this process, or -1 */
  Evaluation evaluation; /* what it found */

  int64_t total_updates;
  Schedule schedule, critic_schedule;
} PpoSession;

/* Rules of the configuration that its table cannot say. config, check, comm and log are set, the rest zero; session_close frees what there is. */
NODISCARD bool session_configure(PpoSession *session, Error *error);
/* Data, device and memory plan (printed; ERROR_MEMORY when it does not fit). */
NODISCARD bool session_prepare(PpoSession *session, Error *error);
/* The models and arrays, in the memory that was planned. */
NODISCARD bool session_allocate(PpoSession *session, Error *error);
void session_close(PpoSession *session);
/* Tells how many weights its models are over: "one frozen base; adapters for actor, critic, reference and reward". */
void session_describe(const PpoSession *session);

/* Its state to or from a checkpoint (a RunState of train/run.h; `session` is a PpoSession). */
NODISCARD bool session_state(void *session, Checkpoint *checkpoint, Error *error);

PpoWorkers session_workers(PpoSession *session);
Ptx *session_ptx(PpoSession *session); /* NULL without ptx */

#endif
