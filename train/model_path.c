#include "train/model_path.h"

#include "base/file.h"
#include "model/source.h"
#include "model/weights.h"
#include "train/checkpoint_parts.h"

#include <stdlib.h>
#include <string.h>

static bool has(const char *directory, const char *name) {
  char *path = path_join(directory, name);
  const bool found = path && (file_exists(path) || directory_exists(path));
  memory_free(path);
  return found;
}

/* RUN/checkpoints/step-N -> RUN */
static char *run_of_checkpoint(const char *path) {
  char *checkpoints = path_parent(path), *run = checkpoints ? path_parent(checkpoints) : NULL;
  memory_free(checkpoints);
  return run;
}

static bool refuse_checkpoint(const char *key, const char *path, Error *error) {
  char *run = run_of_checkpoint(path);
  const char *step = strstr(path, "step-");
  if (!run) return error_out_of_memory(error, "path", strlen(path));
  error_set(error, ERROR_USAGE,
            "%s: %s is a checkpoint, expected a model or adapter; make one of it: drover export %s --step %d",
            key, path, run, step ? atoi(step + 5) : 0);
  memory_free(run);
  return false;
}

bool model_path_check(const char *key, const char *path, Error *error) {
  if (!path || !directory_exists(path)) return true;
  if (has(path, CHECKPOINT_MANIFEST) && has(path, CHECKPOINT_STATE))
    return refuse_checkpoint(key, path, error);
  const bool of_a_run =
      has(path, "checkpoints") && !has(path, "tokenizer.json") && !has(path, "adapter_config.json");
  if (!of_a_run) return true;
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  return error_set(
      error, ERROR_USAGE,
      "%s: %.*s is the directory of a run, expected a model or adapter: give its result, model or"
      " adapter in it, or make one of a checkpoint: drover export %.*s --step N",
      key, (int)length, path, (int)length, path);
}

static const char *path_of(const json_t *root, const char *section, const char *key) {
  return json_string_value(json_object_get(json_object_get(root, section), key));
}

bool model_paths_check(const char *settings, Error *error) {
  static const char *const keys[][2] = {
      {"model", "path"}, {"model", "adapter"}, {"reward", "path"}, {"reward", "adapter"}};
  json_t *root = json_loads(settings, 0, NULL);
  ASSERT(root); /* made by options_json */
  bool ok = true;
  for (size_t i = 0; ok && i < sizeof keys / sizeof *keys; i++) {
    char key[32];
    snprintf(key, sizeof key, "%s.%s", keys[i][0], keys[i][1]);
    ok = model_path_check(key, path_of(root, keys[i][0], keys[i][1]), error);
  }
  json_decref(root);
  return ok;
}

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

bool model_paths_read(const char *settings, Log *log, Error *error) {
  json_t *root = json_loads(settings, 0, NULL);
  ASSERT(root);
  const char *model = path_of(root, "model", "path"), *reward = path_of(root, "reward", "path");
  const bool ok = (!model || read_weights(model, log, error)) &&
                  (!reward || path_same(model, reward) || read_weights(reward, log, error));
  json_decref(root);
  return ok;
}

/* A directory without config.json either is told by who reads that. */
static bool has_weights(const char *path, Error *error) {
  WeightFiles files;
  if (!model_config_exists(path) || model_weights_exist(path)) return true;
  if (model_weights_open(&files, path, error)) weight_files_close(&files);
  return error->code == ERROR_NONE;
}

bool model_paths_complete(const char *settings, Error *error) {
  json_t *root = json_loads(settings, 0, NULL);
  ASSERT(root);
  const char *model = path_of(root, "model", "path"), *reward = path_of(root, "reward", "path");
  const bool ok = (!model || has_weights(model, error)) && (!reward || has_weights(reward, error));
  json_decref(root);
  return ok;
}
