/* The sections `reward` and `cost` of a configuration: each one model (reward.path, reward.adapter), or a list of sources (reward.sources), of
 * whatever kinds. docs/rewards.md has the kinds and their keys. */
#ifndef SCORING_CONFIG_H
#define SCORING_CONFIG_H

#include "base/option.h"

typedef struct SourceConfig {
  const struct SourceKind *kind; /* scoring/source.h */
  void *options;                 /* the kind's own struct; owned */
  bool cost;                     /* what it says is a cost, not a reward */
  bool brief;                    /* from reward.path or cost.path: there are no others of its sort */
} SourceConfig;

typedef struct ScoringConfig {
  SourceConfig *items; /* rewards, then costs */
  size_t count, rewards;
} ScoringConfig;

/* A model directory and an adapter over it. */
typedef struct ModelPlace {
  char *path, *adapter; /* adapter may be NULL */
} ModelPlace;

/* Either section of a stage. */
typedef struct RewardConfig {
  ModelPlace model; /* a ...ForSequenceClassification model, or the base of a SEQ_CLS adapter */
  char *sources;    /* JSON; NULL: the model is the one source */
} RewardConfig;

/* ERROR_USAGE where there are no rewards, and for all that is wrong with a source, naming it and the key. cost: NULL, or with neither a model
 * nor sources, there are none. Frees nothing of the arguments; scoring_config_free also after a failure. */
NODISCARD bool scoring_config_read(ScoringConfig *config, const RewardConfig *reward,
                                   const RewardConfig *cost, Error *error);
void scoring_config_free(ScoringConfig *config);

extern const OptionKind *const scoring_kinds[];

/* clang-format off */
#define REWARD_OPTIONS(Config, field)                                                                       \
  ROW_STRING("reward.path", Config, field.model.path, NULL,                                                 \
      "reward model, or the base model of reward.adapter; or give reward.sources",                          \
      .excludes = "reward.sources", .names = OPTION_NAMES_MODEL, .first = true),                            \
  ROW_STRING("reward.adapter", Config, field.model.adapter, NULL, "PEFT directory of the reward model",     \
      .when = "reward.path", .names = OPTION_NAMES_ADAPTER, .first = true),                                 \
  ROW_OBJECTS("reward.sources", Config, field.sources,                                                      \
      "instead of reward.path: a list of {\"kind\": ..., \"name\": ..., \"weight\": ...}, whose weighted sum is the score", \
      .names = OPTION_NAMES_MODELS, .kinds = scoring_kinds, .first = true),

#define COST_OPTIONS(Config, field)                                                                         \
  ROW_STRING("cost.path", Config, field.model.path, NULL,                                                   \
      "cost model, or the base model of cost.adapter: its score is held at cost.threshold; or give cost.sources", \
      .excludes = "cost.sources", .names = OPTION_NAMES_MODEL),                                             \
  ROW_STRING("cost.adapter", Config, field.model.adapter, NULL, "PEFT directory of the cost model",         \
      .when = "cost.path", .names = OPTION_NAMES_ADAPTER),                                                  \
  ROW_OBJECTS("cost.sources", Config, field.sources,                                                        \
      "instead of cost.path: a list as reward.sources, whose weighted sum is the cost",                     \
      .names = OPTION_NAMES_MODELS, .kinds = scoring_kinds),
/* clang-format on */

/* What a critic begins as: `critic` where it is given, else the model that is the only source of the rewards, or of the costs, else the policy. */
typedef struct CriticStart {
  ModelPlace place; /* borrowed */
  bool is_reward;   /* a model with a score head, which is there */
} CriticStart;
CriticStart critic_start(const ScoringConfig *config, bool cost, const ModelPlace *critic,
                         const ModelPlace *policy);

#endif
