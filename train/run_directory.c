#include "base/file.h"
#include "train/run_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* What a run writes in its directory, but for the lock and the cache of data. Names that anybody could give a file of his own are only those of
 * the stage that writes them. */
static const struct {
  const char *name, *stage; /* NULL: of any */
} written[] = {{"done.json", NULL},
               {"checkpoints", NULL},
               {"model", NULL},
               {"adapter", NULL},
               {"ema", NULL},
               {"best", NULL},
               {"run.db", NULL},
               {"run.db-wal", NULL},
               {"run.db-shm", NULL},
               {"config.json", NULL},
               {"answers.jsonl", "sample"},
               {"data.jsonl", "sample"}};
enum { WRITTEN = sizeof written / sizeof *written };

static bool writes(const Run *run, int i) {
  return !written[i].stage || !strcmp(written[i].stage, run->stage);
}

/* What stands in `lock`: a file of that name alone would be anybody's. */
static const char mark[] = "drover run\n";

static bool path_error(Error *error) {
  return error_out_of_memory(error, "path", 0);
}

/* -- whose it is ---------------------------------------------------------------------------------------- */

typedef enum LockContent { LOCK_EMPTY, LOCK_OURS, LOCK_FOREIGN } LockContent;

/* Empty: none yet, or of a run that was killed between making and marking it. */
static LockContent read_lock(int descriptor) {
  char content[sizeof mark];
  const ssize_t size = pread(descriptor, content, sizeof content, 0);
  if (size == 0) return LOCK_EMPTY;
  return size == sizeof mark - 1 && !memcmp(content, mark, sizeof mark - 1) ? LOCK_OURS : LOCK_FOREIGN;
}

static bool not_ours(const Run *run, const char *what, Error *error) {
  return error_set(error, ERROR_USAGE,
                   "run.dir %s is no run's, and a run would write over its %s: choose another",
                   run->config->dir, what);
}

/* A run's checkpoints say so too: a lock looks like something that a killed process forgot, and people remove it. By their manifests, unlike
 * checkpoint_any: other programs have folders of steps as well. */
static bool has_checkpoint(const Run *run, bool *has, Error *error) {
  *has = false;
  char *directory = run_path(run, "checkpoints");
  if (!directory) return path_error(error);
  StringList names = {0};
  bool ok = !directory_exists(directory) || directory_list(directory, &names, error);
  for (size_t i = 0; ok && i < names.count && !*has; i++) {
    char *manifest = memory_format("%s/%s/manifest.json", directory, names.items[i]);
    ok = manifest || path_error(error);
    *has = ok && !strncmp(names.items[i], "step-", 5) && file_exists(manifest);
    memory_free(manifest);
  }
  string_list_free(&names);
  memory_free(directory);
  return ok;
}

bool run_directory_check(const Run *run, Error *error) {
  char *lock = run_path(run, "lock");
  if (!lock) return path_error(error);
  const int descriptor = open(lock, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  memory_free(lock);
  const LockContent content = descriptor >= 0 ? read_lock(descriptor) : LOCK_EMPTY;
  if (descriptor >= 0) close(descriptor);
  if (content == LOCK_OURS) return true;
  if (content == LOCK_FOREIGN) return not_ours(run, "lock", error);
  bool ours;
  bool ok = has_checkpoint(run, &ours, error);
  for (int i = 0; ok && !ours && i < WRITTEN; i++) {
    if (!writes(run, i)) continue;
    char *path = run_path(run, written[i].name);
    if (!path) return path_error(error);
    if (file_exists(path) || directory_exists(path)) ok = not_ours(run, written[i].name, error);
    memory_free(path);
  }
  return ok;
}

bool run_directory_lock(Run *run, Error *error) {
  char *path = run_path(run, "lock");
  if (!path) return path_error(error);
  run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  bool ok = run->lock >= 0 || error_set(error, ERROR_FILE, "cannot open %s: %s", path, strerror(errno));
  if (ok && flock(run->lock, LOCK_EX | LOCK_NB) != 0) {
    ok = errno == EWOULDBLOCK
             ? error_set(error, ERROR_FILE, "run.dir %s is in use by another process", run->config->dir)
             : error_set(error, ERROR_FILE, "cannot lock %s: %s", path, strerror(errno));
  }
  const ssize_t size = sizeof mark - 1;
  if (ok && read_lock(run->lock) == LOCK_EMPTY && pwrite(run->lock, mark, (size_t)size, 0) != size) {
    ok = error_set(error, ERROR_FILE, "cannot write %s: %s", path, strerror(errno));
  }
  memory_free(path);
  return ok;
}

/* -- what it reads -------------------------------------------------------------------------------------- */

static bool lies_in(const char *path, const char *place) {
  char *inner = realpath(path, NULL), *outer = realpath(place, NULL);
  const size_t length = outer ? strlen(outer) : 0;
  const bool in =
      inner && outer && !strncmp(inner, outer, length) && (inner[length] == '/' || !inner[length]);
  free(inner);
  free(outer);
  return in;
}

static bool check_path(const Run *run, const char *key, const char *path, Error *error) {
  bool ok = true;
  for (int i = 0; ok && i < WRITTEN; i++) {
    if (!writes(run, i)) continue;
    char *place = run_path(run, written[i].name);
    if (!place) return path_error(error);
    if (lies_in(path, place)) {
      ok = error_set(error, ERROR_USAGE, "%s: %s lies in %s, which this run writes: choose another run.dir",
                     key, path, place);
    }
    memory_free(place);
  }
  return ok;
}

static bool check_paths(const Run *run, const char *key, const json_t *value, Error *error) {
  if (json_is_string(value)) return check_path(run, key, json_string_value(value), error);
  const char *name;
  json_t *member;
  size_t i;
  json_array_foreach(value, i, member) {
    if (!check_paths(run, key, member, error)) return false;
  }
  json_object_foreach((json_t *)value, name, member) {
    char inner[128];
    snprintf(inner, sizeof inner, "%s%s%s", key, *key ? "." : "", name);
    if (!check_paths(run, inner, member, error)) return false;
  }
  return true;
}

bool run_directory_check_inputs(const Run *run, Error *error) {
  json_t *settings = json_loads(run->settings, 0, NULL);
  ASSERT(settings); /* made by options_json */
  const bool ok = check_paths(run, "", settings, error);
  json_decref(settings);
  return ok;
}

/* -- what it leaves ------------------------------------------------------------------------------------- */

/* The rest of a name behind that of something written: nothing, what killed writers leave (base/draft.h), or a run log
 * that was set aside (train/runlog.h). */
static bool is_leftover(const char *rest) {
  static const char *const begins[] = {".drover-draft-", ".drover-former-", ".damaged-"};
  bool yes = !*rest;
  for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
    yes |= !strncmp(rest, begins[i], strlen(begins[i]));
  }
  return yes;
}

static bool is_written(const Run *run, const char *name) {
  for (int i = 0; i < WRITTEN; i++) {
    const size_t length = strlen(written[i].name);
    if (writes(run, i) && !strncmp(name, written[i].name, length) && is_leftover(name + length)) return true;
  }
  return false;
}

bool run_directory_clear(const Run *run, bool *any, Error *error) {
  StringList names = {0};
  bool ok = directory_list(run->config->dir, &names, error);
  *any = false;
  for (size_t i = 0; ok && i < names.count; i++) {
    if (!is_written(run, names.items[i])) continue;
    char *path = run_path(run, names.items[i]);
    ok = path ? directory_remove_all(path, error) : path_error(error);
    memory_free(path);
    *any = true;
  }
  string_list_free(&names);
  return ok;
}
