/* Everything that a run of sample holds open: prompts, models, engine, arrays, run directory.
 *
 * The course: rounds of prompts are answered sample.n times each by the rollout engine, scored (scoring/scoring.h), and added to
 * answers.jsonl (journal.h); a checkpoint after each round says how far that is. At the end what is asked for is chosen of it (choose.h) and written
 * to data.jsonl (write.h).
 *
 * Answer k to prompt i draws its random numbers as sample i * n + k, and the answers to a prompt are scored with each other alone. So nothing depends on
 * how many prompts a round has or on where a run was killed. */
#ifndef TOOLS_SAMPLE_SESSION_H
#define TOOLS_SAMPLE_SESSION_H

#include "rollout/engine.h"
#include "scoring/scoring.h"
#include "tools/sample/config.h"
#include "tools/sample/journal.h"
#include "train/data.h"
#include "train/plan.h"
#include "train/run.h"
#include "train/trainee.h"

typedef struct SampleSession {
  SampleConfig config; /* shallow copy */
  bool check;          /* a plan is all that is wanted: --check */
  Log *log;
  Run run;
  Comm comm;
  Compute compute;

  TextTools text;
  int ends[TEXT_MAX_ENDS];
  int end_count;
  Dataset prompts;

  TrainMemory memory;
  MemoryPlan plan;
  Model base;
  Predictor policy;
  ScoringConfig rewards;
  Scoring scoring;
  WeightsDigest digests[4]; /* of the files of policy and reward model, when they were read */
  Engine engine;

  /* a round */
  int64_t round_prompts;  /* at most */
  RolloutSample *samples; /* [round_prompts, n] */
  Buffer *texts;          /* likewise */
  int32_t *responses;     /* [round_prompts, n, max_new_tokens] */
  bool text_lost;         /* inside the engine's calls, by ... */
  Error text_error;

  Journal journal;
  int64_t done; /* prompts answered */
} SampleSession;

/* Rules of the configuration, and its sources of rewards. config is set, the rest zero. */
NODISCARD bool sample_configure(SampleSession *session, Error *error);
/* Data, device and memory plan (printed; ERROR_MEMORY when it does not fit). check and log are set. */
NODISCARD bool sample_prepare(SampleSession *session, Error *error);
/* The models and arrays, in the memory that was planned. */
NODISCARD bool sample_allocate(SampleSession *session, Error *error);
void sample_close(SampleSession *session);

/* Its state to or from a checkpoint (a RunState of train/run.h; `session` is a SampleSession). */
NODISCARD bool sample_state(void *session, Checkpoint *checkpoint, Error *error);

/* Figures of a round, over its answers. */
typedef struct RoundFigures {
  int64_t prompts, answers, tokens;
  double score, best, finished, seconds; /* sums but for the seconds; best: over the prompts */
} RoundFigures;

/* Answers and scores the next prompts, and adds them to the journal. ERROR_SIG... when a signal came: nothing of the round is left. */
NODISCARD bool sample_round(SampleSession *session, RoundFigures *figures, Error *error);

#endif
