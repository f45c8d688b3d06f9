#include "train/settings.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same(const json_t *a, const json_t *b) {
  if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
  return a && b ? json_equal(a, b) : a == b;
}

static bool same_key(const json_t *before, const json_t *now, const char *key) {
  return same(json_at(before, key), json_at(now, key));
}

/* Where a run ends, and what becomes of what it has by then. */
static const char *const end_keys[] = {"run.patience",       "optim.epochs",     "optim.max_steps",
                                       "ppo.total_episodes", "sample.format",    "sample.keep",
                                       "sample.threshold",   "sample.pairs",     "sample.margin",
                                       "sample.unfinished",  "sample.duplicates"};
enum { END_KEYS = sizeof end_keys / sizeof *end_keys };

#define ALARMS  "other alarms from here on, or another answer to them"
#define BEST    "the best is looked for from here on"
#define RATES   "the rates of the updates to come are of the new schedule"
#define LENGTH  "the run has another length, and a schedule that is not constant other rates from here on"
#define STEPS   "the updates to come are made with it"
#define ANSWERS "evaluations before and after are of other answers"
#define CHOICE  "what is written is chosen again of all answers"
#define JUDGE   "how long a judge is waited for, and how it is reached"
#define JUDGES  "the answers to come are judged there"

/* A key of its own stands before its section. */
const SettingsKey settings_keys[] = {
    {"model.recompute", SETTINGS_FREE, "memory against time, the same bits"},
    {"model.offload", SETTINGS_FREE, "where activations lie, the same bits"},
    {"optim.offload", SETTINGS_FREE, "where masters and moments lie; the processor rounds otherwise"},
    {"optim.micro_batch_tokens", SETTINGS_FREE, "memory; losses are normalised by the whole update"},
    {"rollout.batch", SETTINGS_FREE, "memory; an answer does not depend on what else is generated"},
    {"rollout.cache", SETTINGS_FREE, "memory; an answer does not depend on what else is generated"},
    {"data.cache", SETTINGS_FREE, "where tokenised data lie"},
    {"data.max_record", SETTINGS_FREE, "memory for one line of data"},
    {"ppo.frozen_in_files", SETTINGS_FREE, "where weights lie, the same bits"},
    {"ppo.samples_logged", SETTINGS_FREE, "rows in the run log"},
    {"reward.sources[].timeout", SETTINGS_FREE, JUDGE},
    {"reward.sources[].restarts", SETTINGS_FREE, JUDGE},
    {"reward.sources[].retries", SETTINGS_FREE, JUDGE},
    {"reward.sources[].backoff", SETTINGS_FREE, JUDGE},
    {"reward.sources[].concurrency", SETTINGS_FREE, JUDGE},
    {"reward.sources[].key_env", SETTINGS_FREE, JUDGE},
    {"reward.sources[].command", SETTINGS_TOLD, JUDGES},
    {"reward.sources[].url", SETTINGS_TOLD, JUDGES},
    {"cost.sources[].timeout", SETTINGS_FREE, JUDGE},
    {"cost.sources[].restarts", SETTINGS_FREE, JUDGE},
    {"cost.sources[].retries", SETTINGS_FREE, JUDGE},
    {"cost.sources[].backoff", SETTINGS_FREE, JUDGE},
    {"cost.sources[].concurrency", SETTINGS_FREE, JUDGE},
    {"cost.sources[].key_env", SETTINGS_FREE, JUDGE},
    {"cost.sources[].command", SETTINGS_TOLD, JUDGES},
    {"cost.sources[].url", SETTINGS_TOLD, JUDGES},
    {"run.dir", SETTINGS_FREE, "a run directory may be moved"},
    {"run.resume", SETTINGS_FREE, "how this process begins"},
    {"run.save_every", SETTINGS_FREE, "which checkpoints there are"},
    {"run.save_minutes", SETTINGS_FREE, "which checkpoints there are"},
    {"run.keep", SETTINGS_FREE, "which checkpoints there are"},
    {"run.eval_every", SETTINGS_FREE, "rows in the run log; evaluating changes nothing"},
    {"run.log_every", SETTINGS_FREE, "rows in the run log"},
    {"run.max_skipped", SETTINGS_FREE, "when to give up"},
    {"device.", SETTINGS_FREE,
     "checkpoints are the same on every backend; other hardware and threads round differently"},
    {"run.keep_best", SETTINGS_TOLD, BEST},
    {"run.patience", SETTINGS_TOLD, "how many evaluations may be no better before the run ends"},
    {"run.alarms", SETTINGS_TOLD, ALARMS},
    {"run.on_alarm", SETTINGS_TOLD, ALARMS},
    {"run.rollbacks", SETTINGS_TOLD, ALARMS},
    {"reward.sources[].watch", SETTINGS_TOLD, ALARMS},
    {"model.dtype", SETTINGS_TOLD, "the fp32 values go on, and are rounded to it from here on"},
    {"rollout.cache_dtype", SETTINGS_TOLD,
     "the answers to come are sampled from keys and values of this type"},
    {"rollout.weights", SETTINGS_TOLD, "the answers to come are sampled from these"},
    {"optim.lr", SETTINGS_TOLD, RATES},
    {"optim.schedule", SETTINGS_TOLD, RATES},
    {"optim.min_lr_ratio", SETTINGS_TOLD, RATES},
    {"optim.warmup_steps", SETTINGS_TOLD, RATES},
    {"optim.warmup_ratio", SETTINGS_TOLD, RATES},
    {"ppo.critic_lr", SETTINGS_TOLD, RATES},
    {"optim.epochs", SETTINGS_TOLD, LENGTH},
    {"optim.max_steps", SETTINGS_TOLD, LENGTH},
    {"ppo.total_episodes", SETTINGS_TOLD, LENGTH},
    {"optim.weight_decay", SETTINGS_TOLD, STEPS},
    {"optim.beta1", SETTINGS_TOLD, STEPS},
    {"optim.beta2", SETTINGS_TOLD, STEPS},
    {"optim.eps", SETTINGS_TOLD, STEPS},
    {"optim.momentum", SETTINGS_TOLD, STEPS},
    {"optim.clip", SETTINGS_TOLD, STEPS},
    {"data.eval", SETTINGS_TOLD, "evaluations before and after are of other data"},
    {"rollout.eval_temperature", SETTINGS_TOLD, ANSWERS},
    {"rollout.eval_samples", SETTINGS_TOLD, ANSWERS},
    {"sample.format", SETTINGS_TOLD, CHOICE},
    {"sample.keep", SETTINGS_TOLD, CHOICE},
    {"sample.threshold", SETTINGS_TOLD, CHOICE},
    {"sample.pairs", SETTINGS_TOLD, CHOICE},
    {"sample.margin", SETTINGS_TOLD, CHOICE},
    {"sample.unfinished", SETTINGS_TOLD, CHOICE},
    {"sample.duplicates", SETTINGS_TOLD, CHOICE},
};
const size_t settings_key_count = sizeof settings_keys / sizeof *settings_keys;

#define JUDGED \
  "when the model is judged decides which one is the best, and with run.patience where the run ends"
#define RAISED "alarms come from evaluations too, and end the run or turn it back"
#define BACK   "these are the checkpoints that the run may go back to"

const SettingsCourse settings_courses[] = {
    {"run.eval_every", "run.keep_best", "none", true, JUDGED},
    {"run.eval_every", "run.on_alarm", "warn", true, RAISED},
    {"run.save_every", "run.on_alarm", "rollback", false, BACK},
    {"run.keep", "run.on_alarm", "rollback", false, BACK},
};
const size_t settings_course_count = sizeof settings_courses / sizeof *settings_courses;

static const SettingsKey *find_key(const char *key) {
  for (size_t i = 0; i < settings_key_count; i++) {
    const char *name = settings_keys[i].key;
    const size_t length = strlen(name);
    if (name[length - 1] == '.' ? !strncmp(key, name, length) : !strcmp(key, name)) return &settings_keys[i];
  }
  return NULL;
}

/* "KEY (was X, is Y)" */
static bool describe(Buffer *out, const char *key, const json_t *before, const json_t *now, Error *error) {
  const json_t *values[] = {before, now};
  char *text[2] = {NULL, NULL};
  for (int i = 0; i < 2; i++) {
    if (values[i]) text[i] = json_dumps(values[i], JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
  }
  bool ok = buffer_format(out, error, "%s (was %.100s, is %.100s)", key, text[0] ? text[0] : "unset",
                          text[1] ? text[1] : "unset");
  free(text[0]);
  free(text[1]);
  return ok;
}

/* What differs, by what it means. */
typedef struct Differences {
  const json_t *before, *now;
  Buffer refused;
  StringList *told; /* or NULL */
} Differences;

static bool holds(const SettingsCourse *course, const json_t *settings) {
  const char *value = json_string_value(json_at(settings, course->with));
  return value && (strcmp(value, course->value) != 0) == course->but;
}

/* Why a difference that is allowed is another course; NULL: it is none. */
static const char *another_course(const Differences *d, const SettingsKey *known) {
  if (known->rule == SETTINGS_TOLD) return known->why;
  for (size_t i = 0; i < settings_course_count; i++) {
    const SettingsCourse *course = &settings_courses[i];
    if (!strcmp(course->key, known->key) && (holds(course, d->before) || holds(course, d->now)))
      return course->why;
  }
  return NULL;
}

/* rule: the key that the table has. */
static bool note(Differences *d, const char *rule, const char *key, const json_t *before, const json_t *now,
                 Error *error) {
  const SettingsKey *known = find_key(rule);
  const char *why = known ? another_course(d, known) : NULL;
  if (known && !why) return true;
  if (!known || !d->told) {
    return (!d->refused.size || buffer_text(&d->refused, ", ", error)) &&
           describe(&d->refused, key, before, now, error);
  }
  Buffer line = {0};
  const bool ok = describe(&line, key, before, now, error) && buffer_format(&line, error, ": %s", why) &&
                  string_list_push(d->told, line.data, error);
  buffer_free(&line);
  return ok;
}

/* Members of the object number i of two lists; with `new_only`, those that the first of them lacks. */
static bool note_members(Differences *d, const char *key, size_t i, const json_t *before, const json_t *now,
                         bool new_only, Error *error) {
  const char *name;
  json_t *unused;
  json_object_foreach((json_t *)(new_only ? now : before), name, unused) {
    char rule[160], shown[160];
    const json_t *was = json_object_get(before, name), *is = json_object_get(now, name);
    if (same(was, is) || (new_only && was)) continue;
    snprintf(rule, sizeof rule, "%s[].%s", key, name);
    snprintf(shown, sizeof shown, "%s[%zu].%s", key, i, name);
    if (!note(d, rule, shown, was, is, error)) return false;
  }
  return true;
}

/* Whether the table has members of its objects. */
static bool has_members(const char *key) {
  const size_t length = strlen(key);
  for (size_t i = 0; i < settings_key_count; i++) {
    const char *name = settings_keys[i].key;
    if (!strncmp(name, key, length) && !strncmp(name + length, "[].", 3)) return true;
  }
  return false;
}

static bool note_key(Differences *d, const char *key, Error *error) {
  const json_t *before = json_at(d->before, key), *now = json_at(d->now, key);
  const size_t count = json_array_size(before);
  bool objects = has_members(key) && count > 0 && count == json_array_size(now);
  for (size_t i = 0; objects && i < count; i++)
    objects = json_is_object(json_array_get(before, i)) && json_is_object(json_array_get(now, i));
  if (!objects) return note(d, key, key, before, now, error);
  for (size_t i = 0; i < count; i++) {
    const json_t *was = json_array_get(before, i), *is = json_array_get(now, i);
    if (!note_members(d, key, i, was, is, false, error) || !note_members(d, key, i, was, is, true, error))
      return false;
  }
  return true;
}

/* Notes every key of `walked` that differs; with `new_only`, only those that `before` lacks (the others were
 * met when `before` was walked). */
static bool collect(Differences *d, const json_t *walked, bool new_only, Error *error) {
  const char *section, *name;
  json_t *members, *value;
  json_object_foreach((json_t *)walked, section, members) {
    json_object_foreach(members, name, value) {
      char key[160];
      snprintf(key, sizeof key, "%s.%s", section, name);
      if (same_key(d->before, d->now, key)) continue;
      if (new_only && json_object_get(json_object_get(d->before, section), name)) continue;
      if (!note_key(d, key, error)) return false;
    }
  }
  return true;
}

static json_t *parse(const char *text, const char *what, Error *error) {
  json_error_t broken;
  json_t *value = json_loads(text, 0, &broken);
  if (!value) error_set(error, ERROR_MODEL, "%s: broken configuration: %s", what, broken.text);
  return value;
}

/* Gives `settings` the members of `defaults` that it lacks. */
static bool complete(json_t *settings, json_t *defaults, Error *error) {
  const char *section;
  json_t *members;
  json_object_foreach(defaults, section, members) {
    json_t *own = json_object_get(settings, section);
    const int failed =
        own ? json_object_update_missing(own, members) : json_object_set(settings, section, members);
    if (failed) return error_out_of_memory(error, "settings", 0);
  }
  return true;
}

bool settings_check(const char *before, Settings now, const char *place, StringList *told, Error *error) {
  json_t *old = parse(before, place, error), *new = old ? parse(now.text, "settings", error) : NULL;
  json_t *defaults = new ? parse(now.defaults, "defaults", error) : NULL;
  Differences d = {.before = old, .now = new, .told = told};
  bool ok = defaults && complete(old, defaults, error) && collect(&d, old, false, error) &&
            collect(&d, new, true, error);
  if (ok && d.refused.size) {
    ok = error_set(
        error, ERROR_USAGE,
        "%s was made with another configuration: %.700s. Give the former values, another run.dir, or "
        "run.resume false to start over",
        place, d.refused.data);
  }
  json_decref(old);
  json_decref(new);
  json_decref(defaults);
  buffer_free(&d.refused);
  return ok;
}

bool settings_same_end(const char *before, const char *now) {
  json_t *old = json_loads(before, 0, NULL), *new = json_loads(now, 0, NULL);
  bool equal = old && new;
  for (size_t i = 0; equal && i < END_KEYS; i++)
    equal = !json_at(old, end_keys[i]) || same_key(old, new, end_keys[i]);
  json_decref(old);
  json_decref(new);
  return equal;
}
