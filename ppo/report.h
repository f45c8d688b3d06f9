/* What a rollout and its updates looked like: metrics and samples into the run log. Names and meanings: docs/ppo.md. */
#ifndef PPO_REPORT_H
#define PPO_REPORT_H

#include "ppo/session.h"

typedef struct CostReport {
  bool any; /* there are costs */
  double safe,
      lambda; /* share of the answers at or below the threshold; the multiplier that was learnt with */
} CostReport;

/* What a held-out judge says of a rollout. */
typedef struct Heldout {
  const char *name;
  double mean, std; /* over the answers */
} Heldout;

struct UpdateReport {
  ExperienceStats rollout;
  Heldout heldout[MOST_HELDOUT];
  int heldout_count;
  double other_ends;      /* experience_other_ends */
  bool against;           /* scores are taken against those of reference answers, */
  double reference_score; /* whose mean this is */
  Credit credit;
  UpdateStats update;
  CostReport cost;
  bool refills;    /* as the options have it */
  double refilled; /* prompts that were answered in the place of others (ppo.refill_rounds) */
  double kl_coef;  /* that entered the rewards or the loss */
  double lr, critic_lr;
  double seconds, tokens_per_second; /* of the whole update; sampled tokens */
};

/* Sets what there is of reference answers. */
void report_against(UpdateReport *report, const Experience *experience);
/* Sets the held-out part. */
void report_heldout(UpdateReport *report, const Scoring *scoring, int64_t count);
void report_metrics(RunLog *log, int64_t step, const UpdateReport *report);
/* Means over the `count` answers of the rollout of what each source of rewards said. */
void report_rewards(RunLog *log, int64_t step, const Scoring *scoring, int64_t count);
/* The first `count` answers with their text. */
NODISCARD bool report_samples(RunLog *log, int64_t step, const Experience *experience, const Scoring *scoring,
                              const Tokenizer *tokenizer, int64_t count, Error *error);

#endif
