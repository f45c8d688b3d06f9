/* The checkpoints of a run: which there are, and finding the newest that is intact. Writing them is in checkpoint_write.c. */
#include "train/checkpoint_parts.h"

#include "train/ranks.h"
#include "train/settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

void checkpoint_state_name(int rank, int ranks, char out[CHECKPOINT_NAME]) {
  if (ranks == 1) {
    snprintf(out, CHECKPOINT_NAME, "state.safetensors");
  } else {
    snprintf(out, CHECKPOINT_NAME, "state-%05d-of-%05d.safetensors", rank + 1, ranks);
  }
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

bool checkpoint_steps(const char *directory, bool tidy, int64_t **steps, size_t *count, Error *error) {
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

char *checkpoint_step_path(const char *directory, int64_t step, const char *suffix) {
  return memory_format("%s/step-%" PRId64 "%s", directory, step, suffix);
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

/* The step of its name, and digests of the files of some number of ranks: anything else no checkpoint says. */
static bool check_manifest(const json_t *manifest, const char *path, int64_t step, Error *error) {
  const json_t *files = json_object_get(manifest, "files"), *number = json_object_get(manifest, "step");
  const int count = (int)json_object_size(files);
  if (!json_is_integer(number) || json_integer_value(number) != step) {
    return damaged(path, "its step is not that of its directory", error);
  }
  for (int r = 0; r < count || r == 0; r++) {
    char name[CHECKPOINT_NAME];
    checkpoint_state_name(r, count > 1 ? count : 1, name);
    if (json_is_string(json_object_get(files, name))) continue;
    return damaged(path, "expected digests of the state of one or of many ranks, and of nothing else", error);
  }
  return true;
}

/* Many ranks check the content of one file after the other, each those that are its turn: they agree on what they found. */
static bool open_state(Checkpoint *checkpoint, const char *directory, int r, Error *error) {
  struct CheckpointParts *parts = checkpoint->parts;
  char name[CHECKPOINT_NAME];
  checkpoint_state_name(r, parts->state_count, name);
  const char *digest = json_string_value(json_object_get(json_object_get(parts->manifest, "files"), name));
  char *path = path_join(directory, name);
  const bool mine = r % parts->comm.size == parts->comm.rank;
  const bool ok = (path || error_out_of_memory(error, "path", strlen(directory))) &&
                  (mine ? check_state(path, digest, error) : check_regular(path, error)) &&
                  safetensors_file_open(&parts->states[r], path, error);
  memory_free(path);
  return ok;
}

/* Opens one checkpoint whose files must all be intact. */
static bool open_directory(Checkpoint *checkpoint, const char *directory, int64_t step, Error *error) {
  struct CheckpointParts *parts = checkpoint->parts;
  char *manifest = path_join(directory, CHECKPOINT_MANIFEST);
  checkpoint->step = step;
  checkpoint->path = memory_copy_string(directory);
  bool ok = (manifest && checkpoint->path) || error_out_of_memory(error, "path", 0);
  parts->manifest = ok ? read_manifest(manifest, error) : NULL;
  ok = parts->manifest && check_manifest(parts->manifest, manifest, step, error);
  if (ok) {
    const size_t count = json_object_size(json_object_get(parts->manifest, "files"));
    parts->states = memory_zeroed(count, sizeof *parts->states);
    parts->state_count = parts->states ? (int)count : 0;
    ok = parts->states || error_out_of_memory(error, "checkpoint", count * sizeof *parts->states);
  }
  for (int r = 0; ok && r < parts->state_count; r++) ok = open_state(checkpoint, directory, r, error);
  ok = ranks_agree(&parts->comm, ok, error);
  if (ok) {
    snprintf(checkpoint->digest, sizeof checkpoint->digest, "%s",
             json_string_value(json_object_get(parts->manifest, "digest")));
  }
  memory_free(manifest);
  return ok;
}

static bool begin_loading(Checkpoint *checkpoint, Compute *compute, Error *error) {
  *checkpoint = (Checkpoint){.loading = true, .compute = compute};
  checkpoint->parts = memory_zeroed(1, sizeof *checkpoint->parts);
  if (!checkpoint->parts) return error_out_of_memory(error, "checkpoint", sizeof *checkpoint->parts);
  checkpoint->parts->comm = compute ? compute->comm : comm_single();
  return true;
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
    char *path = checkpoint_step_path(directory, steps[i], "");
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
  const bool ok = directory ? checkpoint_steps(directory, false, &steps, &count, error)
                            : error_out_of_memory(error, "path", strlen(run_dir));
  *any = count > 0;
  memory_free(steps);
  memory_free(directory);
  return ok;
}

/* ok: this rank could list them. */
static bool same_steps(const Comm *comm, bool ok, const int64_t *steps, size_t count, const char *directory,
                       Error *error) {
  if (!ranks_agree(comm, ok, error)) return false;
  if (comm_agree(comm, count ? steps[0] : -1) && comm_agree(comm, (int64_t)count)) return true;
  return error_set(
      error, ERROR_FILE,
      "the ranks find different checkpoints in %s: it must lie where all of them see the same files",
      directory);
}

bool checkpoint_find(Checkpoint *checkpoint, const char *run_dir, const char *stage, Settings settings,
                     Compute *compute, Log *log, bool *found, Error *error) {
  *found = false;
  if (!begin_loading(checkpoint, compute, error)) return false;
  char *directory = path_join(run_dir, "checkpoints");
  int64_t *steps = NULL;
  size_t count = 0;
  bool ok = directory ? checkpoint_steps(directory, false, &steps, &count, error)
                      : error_out_of_memory(error, "path", strlen(run_dir));
  ok = same_steps(&checkpoint->parts->comm, ok, steps, count, directory, error) &&
       open_newest(checkpoint, directory, steps, count, log, found, error);
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
    char *path = checkpoint_step_path(directory, step, "");
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
  bool ok = directory ? checkpoint_steps(directory, false, &steps, &count, error)
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
