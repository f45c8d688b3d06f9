#include "datasets/stream.h"

#include "base/digest.h"
#include "base/draft.h"
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_BYTES = 1 << 18 };

static bool is_stdin(const char *path) {
  return strcmp(path, "-") == 0 || strcmp(path, "/dev/stdin") == 0;
}

bool is_stream(const char *path) {
  struct stat status;
  if (is_stdin(path)) return true;
  return stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

static int open_stream(const char *path, Error *error) {
  struct stat status;
  const int from =
      is_stdin(path) ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(path, O_RDONLY | O_CLOEXEC);
  if (from < 0 || fstat(from, &status) != 0) {
    error_set(error, ERROR_FILE, "%s: %s", path, strerror(errno));
  } else if (isatty(from)) {
    error_set(error, ERROR_FILE, "%s: a terminal, expected a file or a pipe with data", path);
  } else if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode)) {
    error_set(error, ERROR_FILE, "%s: a device, expected a file, a directory or a pipe", path);
  } else {
    return from;
  }
  if (from >= 0) close(from);
  return -1;
}

static bool write_all(int to, const char *bytes, size_t count, const char *place, Error *error) {
  while (count > 0) {
    const ssize_t written = write(to, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return error_set(error, ERROR_FILE, "cannot write %s: %s", place, strerror(errno));
    bytes += written;
    count -= (size_t)written;
  }
  return true;
}

static bool copy_all(int from, int to, const char *path, const char *place, Digest *digest, uint64_t *bytes,
                     Error *error) {
  char *chunk = memory_alloc(CHUNK_BYTES);
  bool ok = chunk || error_out_of_memory(error, "read buffer", CHUNK_BYTES);
  while (ok) {
    const ssize_t count = read(from, chunk, CHUNK_BYTES);
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      ok = error_set(error, ERROR_FILE, "%s: %s", path, strerror(errno));
      break;
    }
    digest_add(digest, chunk, (size_t)count);
    *bytes += (uint64_t)count;
    ok = write_all(to, chunk, (size_t)count, place, error);
  }
  memory_free(chunk);
  return ok;
}

/* Puts the draft in its place, which its content names. */
static bool settle(const Draft *draft, const char *place, const Digest *digest, char **file, Error *error) {
  char text[33];
  digest_text(digest, text);
  *file = memory_format("%s-%.16s", place, text);
  if (!*file) return error_out_of_memory(error, "path", strlen(place));
  if (rename(draft->path, *file) == 0) return true;
  error_set(error, ERROR_FILE, "cannot write %s: %s", *file, strerror(errno));
  memory_free(*file);
  *file = NULL;
  return false;
}

static bool keep_in(int from, const char *path, const char *place, char **file, uint64_t *bytes,
                    Error *error) {
  Draft draft = {0};
  int to = -1;
  Digest *digest = digest_open(error);
  bool ok = digest && draft_file(&draft, place, &to, error) &&
            copy_all(from, to, path, place, digest, bytes, error);
  if (to >= 0 && close(to) != 0 && ok) {
    ok = error_set(error, ERROR_FILE, "cannot write %s: %s", place, strerror(errno));
  }
  ok = ok && settle(&draft, place, digest, file, error);
  draft_drop(&draft);
  digest_close(digest);
  return ok;
}

bool stream_keep(const char *path, const char *directory, char **file, uint64_t *bytes, Error *error) {
  *file = NULL;
  *bytes = 0;
  const int from = open_stream(path, error);
  if (from < 0) return false;
  char *place = path_join(directory, is_stdin(path) ? "stdin" : "pipe");
  bool ok = place || error_out_of_memory(error, "path", strlen(directory));
  ok = ok && directory_create(directory, error) && keep_in(from, path, place, file, bytes, error);
  memory_free(place);
  close(from);
  return ok;
}
