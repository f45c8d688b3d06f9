#include "train/settings.h"

#include "base/memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A value by "section.key"; NULL when absent or null. */
static const json_t *lookup(const json_t *settings, const char *key) {
  const char *dot = strchr(key, '.');
  if (!dot) return NULL;
  char section[64];
  snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
  const json_t *value = json_object_get(json_object_get(settings, section), dot + 1);
  return json_is_null(value) ? NULL : value;
}

static bool same(const json_t *a, const json_t *b) {
  if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
  return a && b ? json_equal(a, b) : a == b;
}

static bool same_key(const json_t *before, const json_t *now, const char *key) {
  return same(lookup(before, key), lookup(now, key));
}

/* Where a run ends. */
static const char *const end_keys[] = {"optim.epochs", "optim.max_steps", "ppo.total_episodes"};
enum { END_KEYS = sizeof end_keys / sizeof *end_keys };

static bool is_end(const char *key) {
  for (size_t i = 0; i < END_KEYS; i++) {
    if (!strcmp(key, end_keys[i])) return true;
  }
  return false;
}

static bool may_differ(const char *key, const json_t *before, const json_t *now) {
  static const char *const free_keys[] = {"model.recompute", "optim.micro_batch_tokens", "rollout.batch",
                                          "data.cache", "data.max_record"};
  if (!strncmp(key, "run.", 4)) return strcmp(key, "run.seed") != 0;
  if (!strncmp(key, "device.", 7)) return true;
  for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++) {
    if (!strcmp(key, free_keys[i])) return true;
  }
  if (!is_end(key)) return false;
  const char *schedule = json_string_value(lookup(now, "optim.schedule"));
  return same_key(before, now, "optim.schedule") && schedule && !strcmp(schedule, "constant");
}

static bool describe(Buffer *list, const char *key, const json_t *before, const json_t *now, Error *error) {
  const json_t *values[] = {lookup(before, key), lookup(now, key)};
  char *text[2] = {NULL, NULL};
  for (int i = 0; i < 2; i++) {
    if (values[i]) text[i] = json_dumps(values[i], JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
  }
  bool ok = buffer_format(list, error, "%s%s (was %.100s, is %.100s)", list->size ? ", " : "", key,
                          text[0] ? text[0] : "unset", text[1] ? text[1] : "unset");
  free(text[0]);
  free(text[1]);
  return ok;
}

/* Appends every key of `walked` that differs; with `new_only`, only those that `before` lacks (the others were
 * met when `before` was walked). */
static bool collect(Buffer *list, const json_t *walked, const json_t *before, const json_t *now,
                    bool new_only, Error *error) {
  const char *section, *name;
  json_t *members, *value;
  json_object_foreach((json_t *)walked, section, members) {
    json_object_foreach(members, name, value) {
      char key[160];
      snprintf(key, sizeof key, "%s.%s", section, name);
      if (same_key(before, now, key) || may_differ(key, before, now)) continue;
      if (new_only && json_object_get(json_object_get(before, section), name)) continue;
      if (!describe(list, key, before, now, error)) return false;
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

bool settings_check(const char *before, const char *now, const char *place, Error *error) {
  Buffer list = {0};
  json_t *old = parse(before, place, error), *new = old ? parse(now, "settings", error) : NULL;
  bool ok =
      old && new &&collect(&list, old, old, new, false, error) && collect(&list, new, old, new, true, error);
  if (ok && list.size) {
    ok = error_set(
        error, ERROR_USAGE,
        "%s was made with another configuration: %.700s. Give the former values, another run.dir, or "
        "run.resume false to start over",
        place, list.data);
  }
  json_decref(old);
  json_decref(new);
  buffer_free(&list);
  return ok;
}

bool settings_same_end(const char *before, const char *now) {
  json_t *old = json_loads(before, 0, NULL), *new = json_loads(now, 0, NULL);
  bool equal = old && new;
  for (size_t i = 0; equal && i < END_KEYS; i++) equal = same_key(old, new, end_keys[i]);
  json_decref(old);
  json_decref(new);
  return equal;
}
