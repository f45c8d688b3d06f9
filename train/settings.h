/* Whether a run may go on under another configuration: one table of what may change, and what that does.
 *
 * A key that is not in the table is part of the result and may not change: data.train, optim.batch_size, run.seed,
 * model.path, the shape of an adapter, PPO's algorithm ... The table is printed in docs/sft.md. A checkpoint from before an option
 * was made goes on as one with its default: a new option's default is what was done before there was one. */
#ifndef TRAIN_SETTINGS_H
#define TRAIN_SETTINGS_H

#include "base/error.h"
#include "base/file.h"

/* A stage's configuration as options_json writes it, and that of its defaults. Borrowed. */
typedef struct Settings {
  const char *text, *defaults;
} Settings;

typedef enum SettingsRule {
  SETTINGS_FREE, /* the same mathematics, or nothing but what is kept and shown */
  SETTINGS_TOLD  /* another course from here on: said with a warning, and in the run log */
} SettingsRule;

typedef struct SettingsKey {
  const char *
      key; /* one option, all of a section: "device.", or a member of the objects of a list: "reward.sources[].url" */
  SettingsRule rule;
  const char *why;
} SettingsKey;

extern const SettingsKey settings_keys[];
extern const size_t settings_key_count;

/* A key that is free of itself is told where another one, before or now, makes it part of the course. */
typedef struct SettingsCourse {
  const char *key;
  const char *with, *value; /* a choice; where it was never given, it is that of the defaults */
  bool but;                 /* it has any value but this one */
  const char *why;
} SettingsCourse;

extern const SettingsCourse settings_courses[];
extern const size_t settings_course_count;

/* before: a resolved configuration, perhaps of a program with fewer options. ERROR_USAGE naming `place` and each key that
 * may not differ, with both values. What is to be told is appended to `told`, "KEY (was X, is Y): WHY" for each key; without `told` these keys
 * may not differ either: a result is that of its configuration. */
NODISCARD bool settings_check(const char *before, Settings now, const char *place, StringList *told,
                              Error *error);
/* True when optim.epochs, optim.max_steps, ppo.total_episodes, run.patience, and what sample chooses by, are the same as far as `before` has them: the run has the same end. */
bool settings_same_end(const char *before, const char *now);

#endif
