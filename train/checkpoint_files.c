/* The files of a checkpoint: writing them so that they are there whole or not at all, and finding the newest
 * that is intact. */
#include "train/checkpoint_parts.h"

#include "base/draft.h"
#include "train/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { COPY_ELEMENTS = 1 << 20 };

bool manifest_digest(const json_t *manifest, char out[33], Error *error) {
  json_t *bare = json_copy((json_t *)manifest);
  char *text = NULL;
  if (bare) {
    json_object_del(bare, "digest");
    text = json_dumps(bare, JSON_COMPACT | JSON_SORT_KEYS);
  }
  json_decref(bare);
  if (!text) return error_out_of_memory(error, "checkpoint", 0);
  bytes_digest(text, strlen(text), out);
  free(text);
  return true;
}

/* -- writing -------------------------------------------------------------------------------------------- */

/* Device tensors cross in pieces: the largest of them may be most of the memory. */
static bool write_item(const Checkpoint *checkpoint, const CheckpointItem *item, SafetensorsWriter *writer,
                       void *piece, Error *error) {
  if (item->host)
    return safetensors_writer_write_finite(writer, item->host, tensor_bytes(item->tensor), error);
  int64_t total = tensor_count(item->tensor);
  Tensor flat = tensor_1d(item->tensor.data, item->tensor.dtype, total);
  for (int64_t first = 0; first < total; first += COPY_ELEMENTS) {
    int64_t count = total - first < COPY_ELEMENTS ? total - first : COPY_ELEMENTS;
    Tensor part = tensor_rows(flat, first, count);
    compute_download(checkpoint->compute, piece, part);
    if (!safetensors_writer_write_finite(writer, piece, tensor_bytes(part), error)) return false;
  }
  return true;
}

static bool write_state(const Checkpoint *checkpoint, const char *path, Error *error) {
  const struct CheckpointParts *parts = checkpoint->parts;
  SafetensorsWriter writer = {0};
  bool ok = true;
  for (size_t i = 0; ok && i < parts->count; i++) {
    const CheckpointItem *item = &parts->items[i];
    ok = safetensors_writer_declare(&writer, item->name, item->tensor.dtype, item->tensor.rank,
                                    item->tensor.dim, error);
  }
  void *piece = memory_alloc((size_t)COPY_ELEMENTS * sizeof(double));
  ok = ok && (piece || error_out_of_memory(error, "checkpoint", (size_t)COPY_ELEMENTS * sizeof(double)));
  ok = ok && safetensors_writer_begin(&writer, path, error);
  const SafetensorsEntry *next;
  while (ok && (next = safetensors_writer_next(&writer))) {
    ok = write_item(checkpoint, &parts->items[next->index], &writer, piece, error);
  }
  ok = ok && safetensors_writer_finish(&writer, error);
  safetensors_writer_free(&writer);
  memory_free(piece);
  return ok;
}

static bool write_manifest(Checkpoint *checkpoint, const char *path, const char *state_digest, Error *error) {
  json_t *manifest = checkpoint->parts->manifest;
  json_t *files = json_pack("{s:s}", CHECKPOINT_STATE, state_digest);
  if (!files || json_object_set_new(manifest, "files", files) != 0) {
    return error_out_of_memory(error, "checkpoint", 0);
  }
  if (!manifest_digest(manifest, checkpoint->digest, error)) return false;
  char *text = NULL;
  bool ok = json_object_set_new(manifest, "digest", json_string(checkpoint->digest)) == 0 &&
            (text = json_dumps(manifest, JSON_INDENT(2) | JSON_SORT_KEYS));
  ok = ok ? file_write_text(path, text, error) : error_out_of_memory(error, "checkpoint", 0);
  free(text);
  return ok;
}

static bool write_directory(Checkpoint *checkpoint, const char *directory, Error *error) {
  char *state = path_join(directory, CHECKPOINT_STATE), *manifest = path_join(directory, CHECKPOINT_MANIFEST);
  char digest[33];
  bool ok = (state && manifest) || error_out_of_memory(error, "path", 0);
  ok = ok && directory_create(directory, error) && write_state(checkpoint, state, error) &&
       file_digest(state, digest, error) && write_manifest(checkpoint, manifest, digest, error);
  memory_free(state);
  memory_free(manifest);
  return ok;
}

/* -- which there are ------------------------------------------------------------------------------------ */

/* The N of "step-N"; -1 for any other name. */
static int64_t step_of(const char *name) {
  char again[32];
  const long long step = strncmp(name, "step-", 5) == 0 ? strtoll(name + 5, NULL, 10) : -1;
  snprintf(again, sizeof again, "step-%lld", step);
  return step >= 0 && strcmp(name, again) == 0 ? step : -1;
}

static int newest_first(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return left < right ? 1 : left > right ? -1 : 0;
}

/* What stands under a path. A path that cannot be looked at is an error: it may stand there still. */
typedef enum Found { FOUND_NOTHING, FOUND_FILE, FOUND_DIRECTORY, FOUND_OTHER } Found;

static bool look(const char *path, Found *found, Error *error) {
  struct stat status;
  *found = FOUND_NOTHING;
  if (stat(path, &status) == 0) {
    *found = S_ISREG(status.st_mode) ? FOUND_FILE : S_ISDIR(status.st_mode) ? FOUND_DIRECTORY : FOUND_OTHER;
    return true;
  }
  return errno == ENOENT || error_set(error, ERROR_FILE, "cannot read %s: %s", path, strerror(errno));
}

/* Steps of the checkpoints in a directory, newest first; *steps is NULL when there are none. What is left of
 * unfinished ones is removed when `tidy` is set. */
static bool list_steps(const char *directory, bool tidy, int64_t **steps, size_t *count, Error *error) {
  Found place;
  *steps = NULL;
  *count = 0;
  if (!look(directory, &place, error)) return false;
  if (place == FOUND_NOTHING) return true;
  StringList names = {0};
  bool ok = directory_list(directory, &names, error);
  *steps = ok && names.count ? memory_zeroed(names.count, sizeof **steps) : NULL;
  if (ok && names.count && !*steps) ok = error_out_of_memory(error, "checkpoint list", names.count);
  for (size_t i = 0; ok && i < names.count; i++) {
    int64_t step = step_of(names.items[i]);
    if (step >= 0) {
      (*steps)[(*count)++] = step;
    } else if (tidy && !strncmp(names.items[i], "step-", 5)) {
      char *path = path_join(directory, names.items[i]);
      ok = path ? directory_remove_all(path, error) : error_out_of_memory(error, "path", 0);
      memory_free(path);
    }
  }
  string_list_free(&names);
  if (ok && *count) qsort(*steps, *count, sizeof **steps, newest_first);
  return ok;
}

static char *step_path(const char *directory, int64_t step, const char *suffix) {
  return memory_format("%s/step-%" PRId64 "%s", directory, step, suffix);
}

/* Keeps the newest; checkpoints of later steps are from before this run was taken back, so they go too. */
static bool prune(const char *directory, int64_t step, int64_t keep, Error *error) {
  int64_t *steps;
  size_t count;
  bool ok = list_steps(directory, true, &steps, &count, error);
  int64_t kept = 0;
  for (size_t i = 0; ok && i < count; i++) {
    if (steps[i] <= step && kept++ < keep) continue;
    char *path = step_path(directory, steps[i], "");
    ok = path ? directory_remove_all(path, error) : error_out_of_memory(error, "path", 0);
    memory_free(path);
  }
  memory_free(steps);
  return ok;
}

bool checkpoint_commit(Checkpoint *checkpoint, const char *run_dir, int64_t keep, Error *error) {
  ASSERT(!checkpoint->loading && !checkpoint->path);
  char *directory = path_join(run_dir, "checkpoints");
  char *place = directory ? step_path(directory, checkpoint->step, "") : NULL;
  char *ready = directory ? step_path(directory, checkpoint->step, ".unfinished") : NULL;
  bool ok = (place && ready) || error_out_of_memory(error, "path", strlen(run_dir));
  ok = ok && directory_create(directory, error) && directory_remove_all(ready, error) &&
       write_directory(checkpoint, ready, error) && directory_replace(ready, place, error);
  if (ok) {
    checkpoint->path = place;
    place = NULL;
    ok = prune(directory, checkpoint->step, keep, error);
  } else if (ready) {
    Error ignored = {0}; /* a full disk gets its space back; the first error is the one that matters */
    if (!directory_remove_all(ready, &ignored)) ok = false;
  }
  memory_free(directory);
  memory_free(place);
  memory_free(ready);
  return ok || error_context(error, "checkpoint of step %" PRId64, checkpoint->step);
}

/* -- reading -------------------------------------------------------------------------------------------- */

static bool damaged(const char *path, const char *why, Error *error) {
  return error_set(error, ERROR_MODEL, "%s is damaged: %s", path, why);
}

/* A file that is missing, or is something that must not even be opened, is damage; one that cannot be read is not. */
static bool check_regular(const char *path, Error *error) {
  Found found;
  if (!look(path, &found, error)) return false;
  return found == FOUND_FILE ||
         damaged(path, found == FOUND_NOTHING ? "it is missing" : "it is not a regular file", error);
}

static bool check_state(const char *path, const char *digest, Error *error) {
  char found[33];
  return check_regular(path, error) && file_digest(path, found, error) &&
         (!strcmp(found, digest) ||
          damaged(path, "its content does not have the digest of the manifest", error));
}

static json_t *read_manifest(const char *path, Error *error) {
  Buffer text = {0};
  json_t *manifest = NULL;
  json_error_t broken;
  char digest[33];
  if (check_regular(path, error) && file_read(path, &text, error)) {
    manifest = json_loadb(text.data, text.size, 0, &broken);
    const char *stored = json_string_value(json_object_get(manifest, "digest"));
    const bool ok = manifest && stored && manifest_digest(manifest, digest, error) && !strcmp(stored, digest);
    if (!ok) {
      json_decref(manifest);
      manifest = NULL;
      damaged(path, "its content does not have its own digest", error);
    }
  }
  buffer_free(&text);
  return manifest;
}

/* The step of its name, and the digest of the one file there is: anything else no checkpoint says. */
static bool check_manifest(const json_t *manifest, const char *path, int64_t step, const char **state_digest,
                           Error *error) {
  const json_t *files = json_object_get(manifest, "files"), *number = json_object_get(manifest, "step");
  *state_digest = json_string_value(json_object_get(files, CHECKPOINT_STATE));
  if (!json_is_integer(number) || json_integer_value(number) != step) {
    return damaged(path, "its step is not that of its directory", error);
  }
  if (json_object_size(files) != 1 || !*state_digest) {
    return damaged(path, "expected the digest of " CHECKPOINT_STATE " and of nothing else", error);
  }
  return true;
}

/* Opens one checkpoint whose files must all be intact. */
static bool open_directory(Checkpoint *checkpoint, const char *directory, int64_t step, Error *error) {
  struct CheckpointParts *parts = checkpoint->parts;
  char *manifest = path_join(directory, CHECKPOINT_MANIFEST), *state = path_join(directory, CHECKPOINT_STATE);
  const char *state_digest;
  checkpoint->step = step;
  checkpoint->path = memory_copy_string(directory);
  bool ok = (manifest && state && checkpoint->path) || error_out_of_memory(error, "path", 0);
  parts->manifest = ok ? read_manifest(manifest, error) : NULL;
  ok = parts->manifest && check_manifest(parts->manifest, manifest, step, &state_digest, error) &&
       check_state(state, state_digest, error) && safetensors_file_open(&parts->state, state, error);
  if (ok) {
    snprintf(checkpoint->digest, sizeof checkpoint->digest, "%s",
             json_string_value(json_object_get(parts->manifest, "digest")));
  }
  memory_free(manifest);
  memory_free(state);
  return ok;
}

static bool begin_loading(Checkpoint *checkpoint, Compute *compute, Error *error) {
  *checkpoint = (Checkpoint){.loading = true, .compute = compute};
  checkpoint->parts = memory_zeroed(1, sizeof *checkpoint->parts);
  return checkpoint->parts || error_out_of_memory(error, "checkpoint", sizeof *checkpoint->parts);
}

static bool check_settings(const Checkpoint *checkpoint, Settings settings, Log *log, Error *error) {
  char *before = json_dumps(json_object_get(checkpoint->parts->manifest, "config"), JSON_REAL_PRECISION(17));
  StringList told = {0};
  const bool ok = before ? settings_check(before, settings, checkpoint->path, &told, error)
                         : error_set(error, ERROR_MODEL, "%s has no configuration", checkpoint->path);
  for (size_t i = 0; ok && i < told.count; i++) log_warning(log, "%s", told.items[i]);
  string_list_free(&told);
  free(before);
  return ok;
}

static bool check_version(const Checkpoint *checkpoint, Error *error) {
  json_int_t version = json_integer_value(json_object_get(checkpoint->parts->manifest, "version"));
  if (version == CHECKPOINT_VERSION) return true;
  return error_set(error, ERROR_MODEL,
                   "checkpoint %s has format version %" JSON_INTEGER_FORMAT ", this program reads %d",
                   checkpoint->path, version, CHECKPOINT_VERSION);
}

/* An intact checkpoint of something else is not passed over but refused. */
static bool check_owner(const Checkpoint *checkpoint, const char *stage, Error *error) {
  const char *found = checkpoint_stage(checkpoint);
  if (!check_version(checkpoint, error)) return false;
  if (!found || strcmp(found, stage) != 0) {
    return error_set(error, ERROR_USAGE,
                     "checkpoint %s is of the stage '%s', not of '%s': choose another run.dir",
                     checkpoint->path, found ? found : "?", stage);
  }
  return true;
}

/* Tries the steps from the newest on; *found is false when none is intact. */
static bool open_newest(Checkpoint *checkpoint, const char *directory, const int64_t *steps, size_t count,
                        Log *log, bool *found, Error *error) {
  Compute *compute = checkpoint->compute;
  for (size_t i = 0; i < count; i++) {
    char *path = step_path(directory, steps[i], "");
    if (!path) return error_out_of_memory(error, "path", 0);
    Error why = {0};
    *found = open_directory(checkpoint, path, steps[i], &why);
    memory_free(path);
    if (*found) return true;
    if (why.code == ERROR_FILE) {
      return error_set(error, ERROR_FILE, "%s. An older checkpoint is not taken in its place: try again",
                       why.message);
    }
    if (why.code != ERROR_MODEL) return error_set(error, why.code, "%s", why.message);
    log_warning(log, "%s; %s", why.message,
                i + 1 < count ? "trying the checkpoint before it" : "it was the last one");
    checkpoint_close(checkpoint);
    if (!begin_loading(checkpoint, compute, error)) return false;
  }
  return true;
}

bool checkpoint_any(const char *run_dir, bool *any, Error *error) {
  char *directory = path_join(run_dir, "checkpoints");
  int64_t *steps = NULL;
  size_t count = 0;
  const bool ok = directory ? list_steps(directory, false, &steps, &count, error)
                            : error_out_of_memory(error, "path", strlen(run_dir));
  *any = count > 0;
  memory_free(steps);
  memory_free(directory);
  return ok;
}

bool checkpoint_find(Checkpoint *checkpoint, const char *run_dir, const char *stage, Settings settings,
                     Compute *compute, Log *log, bool *found, Error *error) {
  *found = false;
  if (!begin_loading(checkpoint, compute, error)) return false;
  char *directory = path_join(run_dir, "checkpoints");
  int64_t *steps = NULL;
  size_t count = 0;
  bool ok = directory ? list_steps(directory, false, &steps, &count, error)
                      : error_out_of_memory(error, "path", strlen(run_dir));
  ok = ok && open_newest(checkpoint, directory, steps, count, log, found, error);
  if (ok && count && !*found) {
    ok = error_set(error, ERROR_MODEL,
                   "no intact checkpoint in %s; run.resume false starts over and removes them", directory);
  }
  ok = ok && (!*found ||
              (check_owner(checkpoint, stage, error) && check_settings(checkpoint, settings, log, error)));
  memory_free(steps);
  memory_free(directory);
  return ok;
}

/* -- by itself ------------------------------------------------------------------------------------------ */

static bool no_such_step(const char *directory, int64_t step, const int64_t *steps, size_t count,
                         Error *error) {
  Buffer list = {0};
  bool ok = count > 0 || buffer_text(&list, "none", error);
  for (size_t i = count; ok && i-- > 0;)
    ok = buffer_format(&list, error, "%s%" PRId64, list.size ? ", " : "", steps[i]);
  if (ok) {
    error_set(error, ERROR_USAGE, "%s: no checkpoint of step %" PRId64 "; there are: %s", directory, step,
              list.data);
  }
  buffer_free(&list);
  return false;
}

static bool open_step(Checkpoint *checkpoint, const char *directory, int64_t step, const int64_t *steps,
                      size_t count, Error *error) {
  for (size_t i = 0; i < count; i++) {
    if (steps[i] != step) continue;
    char *path = step_path(directory, step, "");
    const bool ok =
        path ? open_directory(checkpoint, path, step, error) : error_out_of_memory(error, "path", 0);
    memory_free(path);
    return ok;
  }
  return no_such_step(directory, step, steps, count, error);
}

bool checkpoint_open(Checkpoint *checkpoint, const char *run_dir, int64_t step, Log *log, Error *error) {
  if (!begin_loading(checkpoint, NULL, error)) return false;
  char *directory = path_join(run_dir, "checkpoints");
  int64_t *steps = NULL;
  size_t count = 0;
  bool found = true;
  bool ok = directory ? list_steps(directory, false, &steps, &count, error)
                      : error_out_of_memory(error, "path", strlen(run_dir));
  if (ok && step >= 0) {
    ok = open_step(checkpoint, directory, step, steps, count, error);
  } else if (ok) {
    ok = open_newest(checkpoint, directory, steps, count, log, &found, error);
    if (ok && (!found || !count))
      ok = error_set(error, ERROR_MODEL,
                     "no intact checkpoint in %s: expected the directory of a run (run.dir)", directory);
  }
  ok = ok && check_version(checkpoint, error);
  memory_free(steps);
  memory_free(directory);
  return ok;
}

const char *checkpoint_stage(const Checkpoint *checkpoint) {
  return json_string_value(json_object_get(checkpoint->parts->manifest, "stage"));
}

char *checkpoint_config(const Checkpoint *checkpoint, Error *error) {
  char *text = json_dumps(json_object_get(checkpoint->parts->manifest, "config"), JSON_REAL_PRECISION(17));
  char *copy = text ? memory_copy_string(text) : NULL;
  if (!copy) error_set(error, ERROR_MODEL, "%s has no configuration", checkpoint->path);
  free(text);
  return copy;
}
