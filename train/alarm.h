/* Alarms: what a run says of itself when it goes where it is not meant to go (docs/watching.md), and what is done then (run.on_alarm). Each
 * is raised once in a run. The stages decide when (train/learning.h, ppo/alarms.h); train/run_alarm.c does the rest. */
#ifndef TRAIN_ALARM_H
#define TRAIN_ALARM_H

#include "base/option.h"

/* X(enum suffix, name for run.alarms, what may help) */
#define ALARM_LIST(X)                                                                                        \
  X(HELDOUT, "heldout", "the reward is being exploited: read the samples, mend it, or raise ppo.kl_coef")    \
  X(REWARD, "reward", "raise ppo.kl_coef, or lower optim.lr")                                                \
  X(KL, "kl", "raise ppo.kl_coef, lower optim.lr, or give ppo.target_kl")                                    \
  X(LENGTH, "length",                                                                                        \
    "if that is not what is wanted, the reward prefers length itself: mend it, or give ppo.overlong_tokens") \
  X(ENDING, "ending", "raise ppo.missing_eos_penalty or rollout.max_new_tokens, or lower optim.lr")          \
  X(ENTROPY, "entropy", "lower optim.lr, raise ppo.kl_coef, or give ppo.entropy_coef")                       \
  X(FLAT, "flat", "there is nothing to learn: other prompts, or a reward that tells answers apart")          \
  X(VALUE, "value", "lower ppo.critic_lr, or give ppo.whiten_rewards or ppo.critic_warmup")                  \
  X(SAMPLER, "sampler",                                                                                      \
    "what is learnt from is not the policy's: rollout.cache_dtype auto and rollout.weights exact, or a "     \
    "fault")                                                                                                 \
  X(LOSS, "loss", "lower optim.lr, or more optim.warmup_steps")                                              \
  X(GRADIENT, "gradient", "lower optim.lr, more optim.warmup_steps, or a smaller optim.clip")                \
  X(EVAL, "eval",                                                                                            \
    "it learns its data by heart: fewer optim.epochs, more data, or run.keep_best and run.patience")

typedef enum AlarmKind {
#define X(suffix, name, remedy) ALARM_##suffix,
  ALARM_LIST(X)
#undef X
      ALARM_KINDS
} AlarmKind;

typedef enum OnAlarm { ON_ALARM_WARN, ON_ALARM_STOP, ON_ALARM_ROLLBACK } OnAlarm;
extern const char *const on_alarm_choices[]; /* warn, stop, rollback */

/* Part of a checkpoint. Sets of kinds are bits. */
typedef struct Alarms {
  int64_t raised;    /* in the run so far */
  int64_t pending;   /* raised, and not heeded yet */
  int64_t since;     /* the update before which all was well, of the first of these */
  int64_t rollbacks; /* so far */
} Alarms;

const char *alarm_name(AlarmKind kind);
const char *alarm_remedy(AlarmKind kind);
/* The set that run.alarms names, all of them for "all"; "none" adds nothing. ERROR_USAGE for an unknown name. */
NODISCARD bool alarm_set(const OptionStrings *names, int64_t *set, Error *error);

#endif
