/* The section `reward` of a configuration: one reward model (reward.path, reward.adapter), or a list of sources (reward.sources), of
 * whatever kinds. docs/rewards.md has the kinds and their keys. */
#ifndef SCORING_CONFIG_H
#define SCORING_CONFIG_H

#include "base/option.h"

typedef struct SourceConfig {
  const struct SourceKind *kind; /* scoring/source.h */
  void *options;                 /* the kind's own struct; owned */
} SourceConfig;

typedef struct ScoringConfig {
  SourceConfig *items;
  size_t count;
  bool brief; /* from reward.path: one model, which needs no name */
} ScoringConfig;

/* A model directory and an adapter over it. */
typedef struct ModelPlace {
  char *path, *adapter; /* adapter may be NULL */
} ModelPlace;

/* sources: the JSON of reward.sources, or NULL, and then `model` is the one source. ERROR_USAGE for neither, and for all that is wrong with a source, naming it and
 * the key. Frees nothing of the arguments; scoring_config_free also after a failure. */
NODISCARD bool scoring_config_read(ScoringConfig *config, const ModelPlace *model, const char *sources,
                                   Error *error);
void scoring_config_free(ScoringConfig *config);

extern const OptionKind *const scoring_kinds[];

/* The section of a stage. */
typedef struct RewardConfig {
  ModelPlace model; /* a ...ForSequenceClassification model, or the base of a SEQ_CLS adapter */
  char *sources;    /* JSON */
} RewardConfig;

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
/* clang-format on */

/* What a critic begins as: `critic` where it is given, else the reward model that is the only source, else the policy. */
typedef struct CriticStart {
  ModelPlace place; /* borrowed */
  bool is_reward;   /* a reward model, whose score head is there */
} CriticStart;
CriticStart critic_start(const ScoringConfig *config, const ModelPlace *critic, const ModelPlace *policy);

#endif
