/* An evaluation of the reward model: how well it tells the answers of held-out preferences apart. */
#ifndef REWARD_JUDGEMENT_H
#define REWARD_JUDGEMENT_H

#include "reward/agreement.h"
#include "reward/config.h"
#include "reward/loss.h"
#include "train/supervised.h"

enum { MAX_SOURCES = 64 };

typedef struct Judgement {
  double loss;                   /* over prompts, as in training */
  double accuracy, margin;       /* over pairs */
  double of_source[MAX_SOURCES]; /* accuracy; negative where a source has no pairs */
  double tau;                    /* mean over prompts of kendall_tau */
  bool ranked; /* some prompt has more than two answers: of pairs alone tau is 2 accuracy - 1 */
  /* Accuracy by how far apart the data put the answers of a pair (their scores or ranks, or the margin of the record), and
   * by how far apart the model puts them. */
  Quarter by_margin[QUARTERS], by_difference[QUARTERS];
  bool has_margins, has_differences; /* they differ */
} Judgement;

/* The loss of one preference, from what its answers are worth (worth_of_scores); slopes as in preference_loss. */
PreferenceLoss example_loss(const Example *example, const float *scores, const RewardAlgorithm *rule,
                            double n, float *slopes);
/* Of the scores of a cost model what the answers are worth, and of its slopes those by the scores: the other sign. */
void worth_of_scores(const RewardAlgorithm *rule, float *scores, int64_t count);

/* Judges corpus.eval. */
NODISCARD bool judgement_make(Judgement *judgement, Supervised *supervised, const RewardAlgorithm *rule,
                              Error *error);
/* Metrics into the run log, and lines for people. */
void judgement_log(const Judgement *judgement, Supervised *supervised);

#endif
