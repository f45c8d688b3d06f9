#include "scoring/config.h"

#include "base/json.h"
#include "scoring/source.h"

#include <ctype.h>
#include <string.h>

const OptionKind *const scoring_kinds[] = {&model_source.keys, &ensemble_source.keys, &command_source.keys,
                                           &http_source.keys,  &rules_source.keys,    NULL};
enum { KINDS = sizeof scoring_kinds / sizeof *scoring_kinds - 1 };

static const SourceKind *find_kind(const char *name) {
  for (size_t i = 0; i < KINDS; i++) {
    if (strcmp(scoring_kinds[i]->name, name) == 0)
      return (const SourceKind *)scoring_kinds[i]; /* its first member */
  }
  return NULL;
}

static bool unknown_kind(const json_t *value, const char *place, Error *error) {
  const char *found = json_string_value(value), *names[KINDS];
  char list[128] = "";
  for (size_t i = 0; i < KINDS; i++) {
    names[i] = scoring_kinds[i]->name;
    strcat(list, i ? ", " : "");
    strcat(list, names[i]);
  }
  if (!found) {
    return error_set(error, ERROR_USAGE, "%s: 'kind': expected one of %s, found %s", place, list,
                     json_kind(value));
  }
  const char *near = nearest_name(found, names, KINDS);
  return error_set(error, ERROR_USAGE, "%s: 'kind': '%.60s' is not one of %s%s%s%s", place, found, list,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* "ppo/reward/NAME/PART" */
bool source_is_name(const char *text) {
  const char *at = text;
  while (isalnum((unsigned char)*at) || (*at && strchr("_-.", *at))) at++;
  return *text && !*at && strlen(text) <= 40;
}

static bool check_name(const char *name, const char *place, Error *error) {
  return source_is_name(name) ||
         error_set(error, ERROR_USAGE,
                   "%s: 'name': expected up to 40 letters, digits, _, - and ., found '%.60s'", place, name);
}

static SourceCommon *common_of(const SourceConfig *item) {
  return item->options;
}

/* "reward.sources[2]": item i of the configuration. */
enum { PLACE = 40 };

static const char *place_of(const ScoringConfig *config, size_t i, char out[PLACE]) {
  const bool cost = config->items[i].cost;
  snprintf(out, PLACE, "%s.sources[%zu]", cost ? "cost" : "reward", cost ? i - config->rewards : i);
  return out;
}

static bool check_unique(const ScoringConfig *config, const char *place, Error *error) {
  const char *name = common_of(&config->items[config->count - 1])->name;
  char other[PLACE];
  for (size_t i = 0; i + 1 < config->count; i++) {
    if (strcmp(common_of(&config->items[i])->name, name) != 0) continue;
    return error_set(error, ERROR_USAGE, "%s: 'name': '%s' is the name of %s already", place, name,
                     place_of(config, i, other));
  }
  return true;
}

/* A name that was not given: the kind's, or "cost_" and the kind's. */
static char *default_name(const SourceConfig *item) {
  return memory_format("%s%s", item->cost ? "cost_" : "", item->kind->keys.name);
}

/* One object, as the next item of the list. */
static bool read_source(ScoringConfig *config, const json_t *object, SourceConfig sort, Error *error) {
  char place[PLACE];
  const json_t *value = json_object_get(object, "kind");
  SourceConfig *item = &config->items[config->count];
  *item = sort;
  place_of(config, config->count, place);
  item->kind = json_is_string(value) ? find_kind(json_string_value(value)) : NULL;
  if (!item->kind) return unknown_kind(value, place, error);
  const SourceKind *kind = item->kind;
  config->count++;
  if (!(item->options = memory_zeroed(1, kind->config_size)))
    return error_out_of_memory(error, "reward source", kind->config_size);
  SourceCommon *common = common_of(item);
  if (!options_read(kind->keys.table, kind->keys.rows, common, object, place, error)) return false;
  if (!common->name && !(common->name = default_name(item))) return error_out_of_memory(error, "name", PLACE);
  return check_name(common->name, place, error) && check_unique(config, place, error) &&
         (!kind->check || kind->check(common, place, error));
}

/* PATH and ADAPTER of a section as a list of one. */
static json_t *list_of_model(const ModelPlace *model) {
  return json_pack("[{s:s, s:s, s:s*}]", "kind", "model", "path", model->path, "adapter", model->adapter);
}

/* Appends the sources of a section. */
static bool read_section(ScoringConfig *config, const RewardConfig *section, bool cost, Error *error) {
  json_t *list = section->sources ? json_loads(section->sources, 0, NULL) : list_of_model(&section->model);
  const size_t count = json_array_size(list), all = config->count + count;
  SourceConfig *items = list ? memory_resize(config->items, all * sizeof *items) : NULL;
  bool ok = items || error_out_of_memory(error, "reward sources", all * sizeof *items);
  if (ok) config->items = items;
  for (size_t i = 0; ok && i < count; i++)
    ok = read_source(config, json_array_get(list, i),
                     (SourceConfig){.cost = cost, .brief = !section->sources}, error);
  json_decref(list);
  return ok;
}

bool scoring_config_read(ScoringConfig *config, const RewardConfig *reward, const RewardConfig *cost,
                         Error *error) {
  *config = (ScoringConfig){0};
  if (!reward->sources && !reward->model.path) {
    return error_set(
        error, ERROR_USAGE,
        "'reward.path' or 'reward.sources' is required: give --reward.path (a reward model, or the "
        "base model of reward.adapter) or --reward.sources (a list of sources of rewards)");
  }
  if (!read_section(config, reward, false, error)) return false;
  config->rewards = config->count;
  return !cost || (!cost->sources && !cost->model.path) || read_section(config, cost, true, error);
}

void scoring_config_free(ScoringConfig *config) {
  for (size_t i = 0; i < config->count; i++) {
    const SourceConfig *item = &config->items[i];
    if (item->options) options_free(item->kind->keys.table, item->kind->keys.rows, item->options);
    memory_free(item->options);
  }
  memory_free(config->items);
  *config = (ScoringConfig){0};
}

CriticStart critic_start(const ScoringConfig *config, bool cost, const ModelPlace *critic,
                         const ModelPlace *policy) {
  if (critic->path) return (CriticStart){.place = *critic};
  const size_t first = cost ? config->rewards : 0, end = cost ? config->count : config->rewards;
  const SourceConfig *only = end - first == 1 ? &config->items[first] : NULL;
  if (only && only->kind == &model_source)
    return (CriticStart){.place = model_source_place(only->options), .is_reward = true};
  return (CriticStart){.place = *policy};
}
