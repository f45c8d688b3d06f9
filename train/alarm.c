#include "train/alarm.h"

#include <string.h>

const char *const on_alarm_choices[] = {"warn", "stop", "rollback", NULL};

static const struct {
  const char *name, *remedy;
} kinds[ALARM_KINDS] = {
#define X(suffix, name, remedy) {name, remedy},
    ALARM_LIST(X)
#undef X
};

const char *alarm_name(AlarmKind kind) {
  return kinds[kind].name;
}

const char *alarm_remedy(AlarmKind kind) {
  return kinds[kind].remedy;
}

static bool unknown(const char *name, Error *error) {
  Buffer known = {0};
  bool ok = buffer_text(&known, "all, none", error);
  for (int k = 0; ok && k < ALARM_KINDS; k++) ok = buffer_format(&known, error, ", %s", kinds[k].name);
  if (ok)
    error_set(error, ERROR_USAGE, "run.alarms: there is no alarm '%.40s'; there are: %s", name, known.data);
  buffer_free(&known);
  return false;
}

bool alarm_set(const OptionStrings *names, int64_t *set, Error *error) {
  *set = 0;
  for (size_t i = 0; i < names->count; i++) {
    const bool all = strcmp(names->items[i], "all") == 0;
    int64_t named = 0;
    for (int k = 0; k < ALARM_KINDS; k++) {
      if (all || strcmp(names->items[i], kinds[k].name) == 0) named |= (int64_t)1 << k;
    }
    if (!named && strcmp(names->items[i], "none") != 0) return unknown(names->items[i], error);
    *set |= named;
  }
  return true;
}
