#include "train/model_place.h"

#include "base/file.h"
#include "lora/lora.h"
#include "model/source.h"
#include "train/checkpoint_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has(const char *directory, const char *name) {
  char *path = path_join(directory, name);
  const bool found = path && (file_exists(path) || directory_exists(path));
  memory_free(path);
  return found;
}

static bool ends_with(const char *text, const char *ending) {
  const size_t length = strlen(text), size = strlen(ending);
  return length > size && strcmp(text + length - size, ending) == 0;
}

/* Bytes of the path without slashes at its end. */
static int trimmed(const char *path) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  return (int)length;
}

/* -- what a run leaves ---------------------------------------------------------------------------------- */

static bool is_checkpoint(const char *path) {
  return has(path, CHECKPOINT_MANIFEST) && !has(path, "config.json") && !has(path, "adapter_config.json");
}

static bool is_run(const char *path) {
  return (has(path, "checkpoints") || has(path, "run.db")) && !has(path, "tokenizer.json") &&
         !has(path, "adapter_config.json");
}

/* RUN/checkpoints/step-N -> RUN */
static char *run_of_checkpoint(const char *path) {
  char *checkpoints = path_parent(path), *run = checkpoints ? path_parent(checkpoints) : NULL;
  memory_free(checkpoints);
  return run;
}

static bool refuse_checkpoint(const PlaceKey *key, const char *path, Error *error) {
  char *run = run_of_checkpoint(path);
  const char *step = strstr(path, "step-");
  if (!run) return error_out_of_memory(error, "path", strlen(path));
  error_set(error, ERROR_USAGE,
            "%s: %s is a checkpoint, expected %s; make one of it: drover export %s --step %d", key->name,
            path, key->adapter ? "an adapter" : "a model or adapter", run, step ? atoi(step + 5) : 0);
  memory_free(run);
  return false;
}

static bool refuse_run(const PlaceKey *key, const char *path, Error *error) {
  const int length = trimmed(path);
  const char *result = key->adapter ? "adapter" : "model";
  char cure[512];
  if (has(path, result)) {
    snprintf(cure, sizeof cure, "give its result %.*s/%s, or one of a checkpoint", length, path, result);
  } else if (!key->adapter && has(path, "adapter") && key->other) {
    snprintf(cure, sizeof cure,
             "it trained an adapter, %.*s/adapter: give that as %s, and the model under it as %s; or one of "
             "a checkpoint",
             length, path, key->other, key->name);
  } else if (key->adapter && has(path, "model")) {
    snprintf(cure, sizeof cure, "it trained all weights, %.*s/model, or one of a checkpoint", length, path);
  } else {
    snprintf(cure, sizeof cure, "it has no such result yet: make one of a checkpoint");
  }
  return error_set(error, ERROR_USAGE,
                   "%s: %.*s is the directory of a run, expected %s: %s: drover export %.*s --step N",
                   key->name, length, path, key->adapter ? "an adapter" : "a model", cure, length, path);
}

/* -- models and adapters that were mixed up ------------------------------------------------------------- */

static bool refuse_adapter(const PlaceKey *key, const char *path, Error *error) {
  Error ignored = {0};
  char *base = NULL;
  const bool known = lora_base_name(path, &base, &ignored) && base;
  const int length = trimmed(path);
  error_set(
      error, ERROR_USAGE,
      "%s: %.*s is an adapter, trained over %s, expected a model: give that model, and the adapter as %s%s",
      key->name, length, path, known ? base : "a model that it does not name", key->other ? key->other : "",
      key->other ? "" : "a model of its own (drover merge)");
  memory_free(base);
  return false;
}

static bool refuse_model(const PlaceKey *key, const char *path, Error *error) {
  return error_set(
      error, ERROR_USAGE,
      "%s: %.*s is a model, expected an adapter (a directory with adapter_config.json): give it as %s; a new "
      "adapter over it needs no %s",
      key->name, trimmed(path), path, key->other ? key->other : "the model", key->name);
}

/* -- directories that are none of both ------------------------------------------------------------------ */

/* The only directory below that has the file; a new string, or NULL. */
static char *child_with(const char *path, const char *file) {
  StringList names = {0};
  Error ignored = {0};
  char *found = NULL;
  int count = 0;
  if (directory_list(path, &names, &ignored)) {
    for (size_t i = 0; i < names.count; i++) {
      char *child = path_join(path, names.items[i]);
      if (child && directory_exists(child) && has(child, file)) {
        memory_free(found);
        found = child;
        count++;
      } else {
        memory_free(child);
      }
    }
  }
  string_list_free(&names);
  if (count == 1) return found;
  memory_free(found);
  return NULL;
}

static bool check_directory(const PlaceKey *key, const char *path, Error *error) {
  const bool adapter = has(path, "adapter_config.json"), model = model_config_exists(path);
  if (is_checkpoint(path)) return refuse_checkpoint(key, path, error);
  if (is_run(path)) return refuse_run(key, path, error);
  if (!key->adapter && adapter && !model) return refuse_adapter(key, path, error);
  if (key->adapter && model && !adapter) return refuse_model(key, path, error);
  if (has(path, "snapshots") && has(path, "refs")) {
    return error_set(
        error, ERROR_USAGE,
        "%s: %.*s is the folder of a model in the hub's cache: give the model's name, or a directory in "
        "%.*s/snapshots",
        key->name, trimmed(path), path, trimmed(path), path);
  }
  if (!model && !adapter && has(path, "params.json")) {
    return error_set(
        error, ERROR_USAGE,
        "%s: %.*s has the files of the model's maker (params.json); expected those in Hugging Face's layout "
        "(config.json), which the hub has under a name that often ends in -hf",
        key->name, trimmed(path), path);
  }
  char *child =
      model || adapter ? NULL : child_with(path, key->adapter ? "adapter_config.json" : "config.json");
  if (child)
    error_set(error, ERROR_USAGE, "%s: %.*s has no %s; did you mean %s?", key->name, trimmed(path), path,
              key->adapter ? "adapter_config.json" : "config.json", child);
  memory_free(child);
  return error->code == ERROR_NONE;
}

/* -- files ---------------------------------------------------------------------------------------------- */

static bool check_file(const PlaceKey *key, const char *path, Error *error) {
  static const char *const weights[] = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".index.json"};
  if (ends_with(path, ".gguf")) {
    return !key->adapter ||
           error_set(error, ERROR_USAGE,
                     "%s: %s is a GGUF file; expected the directory of an adapter as PEFT saves it",
                     key->name, path);
  }
  char *parent = path_parent(path);
  if (!parent) return error_out_of_memory(error, "path", strlen(path));
  bool part = ends_with(path, "config.json");
  for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) part |= ends_with(path, weights[i]);
  const char *needed = key->adapter ? "adapter_config.json" : "config.json";
  if (part && has(parent, needed)) {
    error_set(error, ERROR_USAGE, "%s: %s is one file of %s: give the directory, %s", key->name, path,
              key->adapter ? "an adapter" : "a model", parent);
  } else if (part) {
    error_set(error, ERROR_USAGE,
              "%s: %s is a file of weights alone; expected a directory with %s and the weights beside it",
              key->name, path, key->adapter ? needed : "config.json, the tokenizer's files");
  } else {
    error_set(error, ERROR_USAGE, "%s: %s is a file; expected a directory%s", key->name, path,
              key->adapter ? " of an adapter" : " of a model, or a GGUF file");
  }
  memory_free(parent);
  return false;
}

bool model_place_check(const PlaceKey *key, const char *path, Error *error) {
  return directory_exists(path) ? check_directory(key, path, error) : check_file(key, path, error);
}
