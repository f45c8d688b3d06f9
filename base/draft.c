#include "base/draft.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const char draft_mark[] = ".drover-draft-", former_mark[] = ".drover-former-";
enum { DIGITS = 16, ATTEMPTS = 16 };

/* PLACE, the mark and a number that nobody else draws. */
static char *beside(const char *place, const char *mark) {
  size_t length = strlen(place);
  while (length > 1 && place[length - 1] == '/') length--;
  uint64_t number;
  if (getrandom(&number, sizeof number, 0) != sizeof number) return NULL;
  return memory_format("%.*s%s%016" PRIx64, (int)length, place, mark, number);
}

/* ---- leftovers ---- */

static bool is_draft_name(const char *name) {
  const size_t length = strlen(name), tail = sizeof draft_mark - 1 + DIGITS;
  if (length <= tail) return false;
  const char *mark = name + length - tail, *digits = mark + sizeof draft_mark - 1;
  return strncmp(mark, draft_mark, sizeof draft_mark - 1) == 0 &&
         strspn(digits, "0123456789abcdef") == DIGITS;
}

/* What cannot be removed stays, and is a leftover of the next time. */
static void remove_quietly(const char *path) {
  Error ignored = {0};
  const bool gone = directory_remove_all(path, &ignored);
  (void)gone;
}

/* Removes a draft whose writer is dead: one that we can lock. */
static void remove_leftover(const char *path) {
  struct stat status;
  const int descriptor = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (descriptor < 0) return;
  const bool ours = fstat(descriptor, &status) == 0 && status.st_uid == geteuid() &&
                    (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) &&
                    flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  if (ours) remove_quietly(path);
  close(descriptor);
}

static void remove_leftovers(const char *directory) {
  StringList names = {0};
  Error ignored = {0};
  bool ok = directory_list(directory, &names, &ignored);
  for (size_t i = 0; ok && i < names.count; i++) {
    if (!is_draft_name(names.items[i])) continue;
    char *path = path_join(directory, names.items[i]);
    if (path) remove_leftover(path);
    memory_free(path);
  }
  string_list_free(&names);
}

/* ---- making and dropping ---- */

/* Until it is held, somebody who looks for leftovers may take the new draft for one, and remove it. */
static bool hold(int descriptor, const char *path) {
  struct stat held, named;
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return false;
  return fstat(descriptor, &held) == 0 && lstat(path, &named) == 0 && held.st_ino == named.st_ino &&
         held.st_dev == named.st_dev;
}

/* Makes the file or directory; -1 with errno. */
static int create(const char *path, bool directory) {
  if (!directory) return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  return mkdir(path, 0777) == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static bool make(Draft *draft, const char *place, bool directory, Error *error) {
  *draft = (Draft){0};
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    char *path = beside(place, draft_mark);
    if (!path) return error_out_of_memory(error, "path", strlen(place));
    const int descriptor = create(path, directory), why = errno;
    if (descriptor >= 0 && hold(descriptor, path)) {
      *draft = (Draft){.path = path, .lock = descriptor};
      return true;
    }
    if (descriptor >= 0) close(descriptor);
    memory_free(path);
    const bool lost = descriptor >= 0 || why == EEXIST || (directory && why == ENOENT);
    if (!lost) {
      return error_set(error, ERROR_FILE, "cannot %s %s: %s", directory ? "create directory" : "write", place,
                       strerror(why));
    }
  }
  return error_set(error, ERROR_FILE, "cannot write %s: others remove what is written beside it", place);
}

static bool make_in_tidy_parent(Draft *draft, const char *place, bool directory, Error *error) {
  char *parent = path_parent(place);
  bool ok = parent || error_out_of_memory(error, "path", strlen(place));
  ok = ok && (!directory || directory_create(parent, error));
  if (ok) remove_leftovers(parent);
  memory_free(parent);
  return ok && make(draft, place, directory, error);
}

bool draft_file(Draft *draft, const char *place, int *descriptor, Error *error) {
  if (!make_in_tidy_parent(draft, place, false, error)) return false;
  *descriptor = fcntl(draft->lock, F_DUPFD_CLOEXEC, 0);
  if (*descriptor >= 0) return true;
  error_set(error, ERROR_FILE, "cannot write %s: %s", place, strerror(errno));
  draft_drop(draft);
  return false;
}

bool draft_directory(Draft *draft, const char *place, Error *error) {
  *draft = (Draft){0};
  return make_in_tidy_parent(draft, place, true, error);
}

void draft_drop(Draft *draft) {
  if (draft->path) {
    remove_quietly(draft->path);
    close(draft->lock);
    memory_free(draft->path);
  }
  *draft = (Draft){0};
}

/* ---- putting in place ---- */

static bool move(const char *from, const char *to, Error *error) {
  if (rename(from, to) == 0) return true;
  return error_set(error, ERROR_FILE, "cannot rename %s to %s: %s", from, to, strerror(errno));
}

/* Where names cannot be exchanged: out of the way, then into the place. */
static bool replace_in_two_steps(const char *ready, const char *place, Error *error) {
  char *former = beside(place, former_mark);
  if (!former) return error_out_of_memory(error, "path", strlen(place));
  bool ok = move(place, former, error);
  if (ok && !move(ready, place, error)) {
    Error ignored = {0};
    ok = false;
    if (!move(former, place, &ignored)) error_context(error, "the former one is %s now", former);
  }
  ok = ok && directory_remove_all(former, error);
  memory_free(former);
  return ok;
}

bool directory_replace(const char *ready, const char *place, Error *error) {
  struct stat status;
  char *parent = path_parent(place);
  bool ok = parent ? directory_sync(ready, error) : error_out_of_memory(error, "path", strlen(place));
  if (ok && lstat(place, &status) != 0) {
    ok = move(ready, place, error) && directory_sync(parent, error);
  } else if (ok && renameat2(AT_FDCWD, ready, AT_FDCWD, place, RENAME_EXCHANGE) == 0) {
    ok = directory_sync(parent, error) && directory_remove_all(ready, error);
  } else if (ok) {
    ok = replace_in_two_steps(ready, place, error) && directory_sync(parent, error);
  }
  memory_free(parent);
  return ok;
}
