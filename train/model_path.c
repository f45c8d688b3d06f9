#include "train/model_path.h"

#include "base/file.h"
#include "base/path_hint.h"
#include "model/source.h"
#include "model/weights.h"
#include "train/hub.h"
#include "train/model_objects.h"
#include "train/model_place.h"

#include <string.h>

/* -- one path ------------------------------------------------------------------------------------------- */

static bool refuse_name(const char *key, const char *text, const HubModel *hub, Error *error) {
  char command[2 * HUB_NAME_SIZE + 40];
  char *near = path_nearest(text);
  hub_fetch_command(hub, command, sizeof command);
  const bool other = *hub->revision && hub->folder && directory_exists(hub->folder);
  error_set(
      error, ERROR_FILE,
      "%s: there is no directory %s%s%s%s, and no %s of that name in the hub's cache%s%s%s; to fetch it: %s",
      key, text, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "",
      other ? "revision" : "model", hub->cache ? " (" : "", hub->cache ? hub->cache : "",
      hub->cache ? ")" : "", command);
  memory_free(near);
  return false;
}

static bool refuse_absent(const char *key, const char *text, Error *error) {
  char hint[512] = "";
  path_hint(text, hint, sizeof hint);
  return error_set(error, ERROR_FILE, "%s: there is no directory %s%s", key, text, hint);
}

/* A directory in the cache that its name leads to. */
static bool lies_in_cache(const char *path, char *name, size_t size, Error *error, bool *lies) {
  char repository[HUB_NAME_SIZE], commit[HUB_NAME_SIZE];
  *lies = false;
  if (!hub_name_of(path, repository, commit)) return true;
  snprintf(name, size, "%s@%s", repository, commit);
  HubModel hub;
  bool is_name;
  if (!hub_find(name, &hub, &is_name, error)) return false;
  *lies = hub.snapshot && path_same(hub.snapshot, path);
  hub_model_free(&hub);
  return true;
}

static bool open_existing(ModelPath *out, const char *text, Error *error) {
  char name[2 * HUB_NAME_SIZE];
  bool lies;
  if (!lies_in_cache(text, name, sizeof name, error, &lies)) return false;
  out->path = memory_copy_string(text);
  out->recorded = memory_copy_string(lies ? name : text);
  return (out->path && out->recorded) || error_out_of_memory(error, "path", strlen(text));
}

static bool open_name(ModelPath *out, const char *key, const char *text, Log *log, Error *error) {
  HubModel hub;
  bool is_name;
  if (!hub_find(text, &hub, &is_name, error)) return false;
  bool ok = hub.snapshot != NULL;
  if (ok) {
    out->path = memory_copy_string(hub.snapshot);
    out->recorded = memory_format("%s@%s", hub.name, hub.commit);
    ok = (out->path && out->recorded) || error_out_of_memory(error, "path", strlen(text));
    if (log) log_info(log, "%s: %s is the snapshot %s", key, text, hub.snapshot);
  } else if (is_name) {
    refuse_name(key, text, &hub, error);
  } else {
    refuse_absent(key, text, error);
  }
  hub_model_free(&hub);
  return ok;
}

/* The option beside it that an adapter belongs to, or a model: "model.path" and "model.adapter", "--model" and "--adapter". */
static PlaceKey place_key(const char *key, OptionNames names, char other[64]) {
  static const char *const pairs[][2] = {{".path", ".adapter"}, {"--model", "--adapter"}};
  PlaceKey place = {.name = key, .adapter = names == OPTION_NAMES_ADAPTER};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    const char *from = pairs[i][place.adapter], *to = pairs[i][!place.adapter], *at = strstr(key, from);
    if (!at || at[strlen(from)]) continue;
    snprintf(other, 64, "%.*s%s", (int)(at - key), key, to);
    place.other = other;
  }
  return place;
}

bool model_path_open(ModelPath *out, const char *key, OptionNames names, const char *text, Log *log,
                     Error *error) {
  char other[64];
  *out = (ModelPath){0};
  const bool exists = file_exists(text) || directory_exists(text);
  bool ok = exists ? open_existing(out, text, error) : open_name(out, key, text, log, error);
  const PlaceKey place = place_key(key, names, other);
  ok = ok && model_place_check(&place, out->path, error);
  if (!ok) model_path_close(out);
  return ok;
}

void model_path_close(ModelPath *path) {
  memory_free(path->path);
  memory_free(path->recorded);
  *path = (ModelPath){0};
}

/* -- those of a table ----------------------------------------------------------------------------------- */

static bool names_models(const Option *option) {
  return option->names == OPTION_NAMES_MODEL || option->names == OPTION_NAMES_ADAPTER ||
         option->names == OPTION_NAMES_MODELS;
}

/* An option with a section is called by its key, as in a file; others as on the command line. */
static void key_text(const Option *option, char out[64]) {
  snprintf(out, 64, "%s%s", strchr(option->key, '.') ? "" : "--", option->key);
}

static bool open_all(const Option *table, size_t rows, const void *config, ModelPath *paths, Log *log,
                     Error *error) {
  for (size_t i = 0; i < rows; i++) {
    const char *text = names_models(&table[i]) ? option_text(&table[i], config) : NULL;
    char key[64];
    key_text(&table[i], key);
    if (!text || !*text) continue;
    const bool list = table[i].names == OPTION_NAMES_MODELS;
    if (!(list ? model_objects_open(&paths[i], key, text, log, error)
               : model_path_open(&paths[i], key, table[i].names, text, log, error)))
      return false;
  }
  return true;
}

static bool replace_all(const Option *table, size_t rows, void *config, const ModelPath *paths, bool recorded,
                        Error *error) {
  for (size_t i = 0; i < rows; i++) {
    const char *text = recorded ? paths[i].recorded : paths[i].path;
    if (text && !option_replace_text(&table[i], config, text, error)) return false;
  }
  return true;
}

bool model_paths_open(const Option *table, size_t rows, void *config, Buffer *settings, Log *log,
                      Error *error) {
  ModelPath paths[OPTION_MOST_ROWS] = {0};
  ASSERT(rows <= OPTION_MOST_ROWS);
  bool ok = open_all(table, rows, config, paths, log, error);
  if (ok && settings)
    ok = replace_all(table, rows, config, paths, true, error) &&
         options_json(table, rows, config, settings, error);
  ok = ok && replace_all(table, rows, config, paths, false, error);
  for (size_t i = 0; i < rows; i++) model_path_close(&paths[i]);
  return ok;
}

/* -- their weights -------------------------------------------------------------------------------------- */

/* In a dry arena: names and shapes alone. */
static bool read_weights(const char *path, Log *log, Error *error) {
  Model model = {0};
  Arena nowhere;
  Compute compute;
  if (!model_weights_exist(path)) {
    log_warning(log, "%s has no weights: the plan is by its config.json alone", path);
    return true;
  }
  arena_init_dry(&nowhere, "weights");
  log_info(log, "reading the weights of %s", path);
  if (!compute_open(&compute, DEVICE_CPU, 1, error)) return false;
  const bool ok = model_open(&model, path, (WeightFormat){.dtype = DTYPE_F32}, &compute, &nowhere, error) &&
                  model_check_values(&model, path, error);
  model_free(&model);
  compute_close(&compute);
  return ok;
}

/* Models that were visited already are not visited again. */
typedef struct Once {
  ModelVisit *visit;
  void *context;
  StringList seen;
} Once;

static bool visit_once(void *context, const char *path, Error *error) {
  Once *once = context;
  for (size_t i = 0; i < once->seen.count; i++) {
    if (path_same(once->seen.items[i], path)) return true;
  }
  return string_list_push(&once->seen, path, error) && once->visit(once->context, path, error);
}

/* Each model that options name. */
static bool each_model(const OptionGiven *given, const void *config, ModelVisit *visit, void *context,
                       Error *error) {
  Once once = {.visit = visit, .context = context};
  bool ok = true;
  for (size_t row = 0; ok && row < given->rows; row++) {
    const Option *option = &given->table[row];
    const bool list = option->names == OPTION_NAMES_MODELS;
    const char *text = list || option->names == OPTION_NAMES_MODEL ? option_text(option, config) : NULL;
    if (text && *text)
      ok = list ? model_objects_each(text, visit_once, &once, error) : visit_once(&once, text, error);
  }
  string_list_free(&once.seen);
  return ok;
}

static bool read_one(void *log, const char *path, Error *error) {
  return read_weights(path, log, error);
}

bool model_paths_read(const OptionGiven *given, const void *config, Log *log, Error *error) {
  return each_model(given, config, read_one, log, error);
}

/* A directory without config.json either is told by who reads that. */
static bool has_weights(const char *path, Error *error) {
  WeightFiles files;
  if (!model_config_exists(path) || model_weights_exist(path)) return true;
  if (model_weights_open(&files, path, error)) weight_files_close(&files);
  return error->code == ERROR_NONE;
}

/* What is missing of a snapshot can be fetched. */
static bool tell_fetching(const char *path, Error *error) {
  char name[HUB_NAME_SIZE], commit[HUB_NAME_SIZE];
  if (!hub_name_of(path, name, commit)) return false;
  const Error why = *error;
  *error = (Error){0};
  return error_set(error, why.code, "%s; to fetch it: hf download %s --revision %s", why.message, name,
                   commit);
}

static bool complete_one(void *unused, const char *path, Error *error) {
  (void)unused;
  return has_weights(path, error) || tell_fetching(path, error);
}

bool model_paths_complete(const OptionGiven *given, const void *config, Error *error) {
  return each_model(given, config, complete_one, NULL, error);
}
