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

static bool check_unique(const ScoringConfig *config, const char *place, Error *error) {
  const char *name = common_of(&config->items[config->count - 1])->name;
  for (size_t i = 0; i + 1 < config->count; i++) {
    if (strcmp(common_of(&config->items[i])->name, name) != 0) continue;
    return error_set(error, ERROR_USAGE, "%s: 'name': '%s' is the name of reward.sources[%zu] already", place,
                     name, i);
  }
  return true;
}

/* One object, as the next item of the list. */
static bool read_source(ScoringConfig *config, const json_t *object, const char *place, Error *error) {
  const json_t *value = json_object_get(object, "kind");
  const SourceKind *kind = json_is_string(value) ? find_kind(json_string_value(value)) : NULL;
  if (!kind) return unknown_kind(value, place, error);
  SourceConfig *item = &config->items[config->count++];
  *item = (SourceConfig){.kind = kind, .options = memory_zeroed(1, kind->config_size)};
  if (!item->options) return error_out_of_memory(error, "reward source", kind->config_size);
  SourceCommon *common = common_of(item);
  if (!options_read(kind->keys.table, kind->keys.rows, common, object, place, error)) return false;
  if (!common->name && !(common->name = memory_copy_string(kind->keys.name)))
    return error_out_of_memory(error, "name", strlen(kind->keys.name));
  return check_name(common->name, place, error) && check_unique(config, place, error) &&
         (!kind->check || kind->check(common, place, error));
}

static bool read_list(ScoringConfig *config, const json_t *list, Error *error) {
  const size_t count = json_array_size(list);
  config->items = memory_zeroed(count, sizeof *config->items);
  if (!config->items) return error_out_of_memory(error, "reward sources", count * sizeof *config->items);
  for (size_t i = 0; i < count; i++) {
    char place[40];
    snprintf(place, sizeof place, "reward.sources[%zu]", i);
    if (!read_source(config, json_array_get(list, i), place, error)) return false;
  }
  return true;
}

/* reward.path and reward.adapter as a list of one. */
static json_t *list_of_model(const ModelPlace *model) {
  return json_pack("[{s:s, s:s, s:s*}]", "kind", "model", "path", model->path, "adapter", model->adapter);
}

bool scoring_config_read(ScoringConfig *config, const ModelPlace *model, const char *sources, Error *error) {
  *config = (ScoringConfig){.brief = !sources};
  if (!sources && !model->path) {
    return error_set(
        error, ERROR_USAGE,
        "'reward.path' or 'reward.sources' is required: give --reward.path (a reward model, or the "
        "base model of reward.adapter) or --reward.sources (a list of sources of rewards)");
  }
  json_t *list = sources ? json_loads(sources, 0, NULL) : list_of_model(model);
  const bool ok = list ? read_list(config, list, error) : error_out_of_memory(error, "reward sources", 0);
  json_decref(list);
  return ok;
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

CriticStart critic_start(const ScoringConfig *config, const ModelPlace *critic, const ModelPlace *policy) {
  if (critic->path) return (CriticStart){.place = *critic};
  const SourceConfig *only = config->count == 1 ? config->items : NULL;
  if (only && only->kind == &model_source)
    return (CriticStart){.place = model_source_place(only->options), .is_reward = true};
  return (CriticStart){.place = *policy};
}
