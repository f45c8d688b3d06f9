#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { COPY_CHUNK = 1 << 20 };

static bool file_error(Error *error, const char *doing, const char *path) {
  return error_set(error, ERROR_FILE, "cannot %s %s: %s", doing, path, strerror(errno));
}

static bool path_out_of_memory(Error *error) {
  return error_out_of_memory(error, "path", 0);
}

/* Receives a file piece by piece; false stops the reading. */
typedef bool (*ChunkSink)(void *context, const void *bytes, size_t count, Error *error);

static bool read_chunks(const char *path, ChunkSink sink, void *context, Error *error) {
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return file_error(error, "read", path);
  char *chunk = memory_alloc(COPY_CHUNK);
  bool ok = chunk || error_out_of_memory(error, "read buffer", COPY_CHUNK);
  while (ok) {
    ssize_t count = read(descriptor, chunk, COPY_CHUNK);
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    ok = count < 0 ? file_error(error, "read", path) : sink(context, chunk, (size_t)count, error);
  }
  memory_free(chunk);
  close(descriptor);
  return ok;
}

static bool into_buffer(void *context, const void *bytes, size_t count, Error *error) {
  return buffer_append(context, bytes, count, error);
}

bool file_read(const char *path, Buffer *out, Error *error) {
  if (!buffer_append(out, "", 0, error)) return false; /* an empty file gives an empty string, not NULL */
  return read_chunks(path, into_buffer, out, error);
}

bool file_exists(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !S_ISDIR(status.st_mode);
}

bool directory_exists(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* A new name lasts through a power cut once the directory that has it is synced. One that we may write in and not read
 * cannot be. */
static bool sync_parent_of(const char *path, Error *error) {
  char *parent = path_parent(path);
  if (!parent) return path_out_of_memory(error);
  const bool ok = access(parent, R_OK) != 0 || directory_sync(parent, error);
  memory_free(parent);
  return ok;
}

bool directory_create(const char *path, Error *error) {
  char *partial = memory_copy_string(path);
  if (!partial) return path_out_of_memory(error);
  bool ok = true;
  for (char *at = partial; ok && *at; at++) {
    if (at[1] != '/' && at[1] != '\0') continue;
    char after = at[1];
    at[1] = '\0';
    /* A component may exist, or lie where we may not write yet may pass: only the last state counts. */
    if (mkdir(partial, 0777) == 0) {
      ok = sync_parent_of(partial, error);
    } else {
      const int why = errno == EEXIST ? ENOTDIR : errno;
      if (!directory_exists(partial)) {
        errno = why;
        ok = file_error(error, "create directory", partial);
      }
    }
    at[1] = after;
  }
  memory_free(partial);
  return ok;
}

bool directory_remove_all(const char *path, Error *error) {
  struct stat status;
  if (lstat(path, &status) != 0) return errno == ENOENT || file_error(error, "remove", path);
  if (!S_ISDIR(status.st_mode)) return unlink(path) == 0 || file_error(error, "remove", path);
  StringList names = {0};
  bool ok = directory_list(path, &names, error);
  for (size_t i = 0; ok && i < names.count; i++) {
    char *child = path_join(path, names.items[i]);
    ok = child ? directory_remove_all(child, error) : path_out_of_memory(error);
    memory_free(child);
  }
  string_list_free(&names);
  return ok && (rmdir(path) == 0 || file_error(error, "remove", path));
}

bool directory_room(const char *path, uint64_t *bytes, Error *error) {
  struct statvfs status;
  *bytes = 0;
  if (statvfs(path, &status) == 0) {
    /* Some network file systems do not say, and have no blocks at all. */
    *bytes = status.f_blocks ? (uint64_t)status.f_bavail * status.f_frsize : UINT64_MAX / 4;
    return true;
  }
  if (errno != ENOENT || !strcmp(path, ".") || !strcmp(path, "/")) return file_error(error, "look at", path);
  char *parent = path_parent(path);
  const bool ok = parent ? directory_room(parent, bytes, error) : path_out_of_memory(error);
  memory_free(parent);
  return ok;
}

static bool add_bytes(const char *path, uint64_t *bytes, Error *error) {
  struct stat status;
  if (lstat(path, &status) != 0) return errno == ENOENT || file_error(error, "look at", path);
  *bytes += (uint64_t)status.st_blocks * 512; /* POSIX's unit of st_blocks is not fixed; Linux has this one */
  if (!S_ISDIR(status.st_mode)) return true;
  StringList names = {0};
  bool ok = directory_list(path, &names, error);
  for (size_t i = 0; ok && i < names.count; i++) {
    char *child = path_join(path, names.items[i]);
    ok = child ? add_bytes(child, bytes, error) : path_out_of_memory(error);
    memory_free(child);
  }
  string_list_free(&names);
  return ok;
}

bool directory_bytes(const char *path, uint64_t *bytes, Error *error) {
  *bytes = 0;
  return add_bytes(path, bytes, error);
}

bool directory_sync(const char *path, Error *error) {
  int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return file_error(error, "open directory", path);
  /* Some network file systems cannot sync a directory and say EINVAL: nothing more can be done there. */
  bool ok = fsync(descriptor) == 0 || errno == EINVAL || file_error(error, "sync directory", path);
  close(descriptor);
  return ok;
}

static int compare_strings(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

bool directory_list(const char *path, StringList *out, Error *error) {
  DIR *directory = opendir(path);
  if (!directory) return file_error(error, "list directory", path);
  bool ok = true;
  while (ok) {
    errno = 0;
    struct dirent *entry = readdir(directory);
    if (!entry) {
      ok = errno == 0 || file_error(error, "list directory", path);
      break;
    }
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    ok = string_list_push(out, entry->d_name, error);
  }
  closedir(directory);
  if (out->count) qsort(out->items, out->count, sizeof *out->items, compare_strings);
  return ok;
}

bool string_list_push(StringList *list, const char *text, Error *error) {
  /* Full at every power of two: the count alone says when to double. */
  if ((list->count & (list->count - 1)) == 0) {
    size_t capacity = list->count ? 2 * list->count : 1;
    char **items = memory_resize(list->items, capacity * sizeof *items);
    if (!items) return error_out_of_memory(error, "list of names", capacity * sizeof *items);
    list->items = items;
  }
  char *copy = memory_copy_string(text);
  if (!copy) return error_out_of_memory(error, "list of names", strlen(text) + 1);
  list->items[list->count++] = copy;
  return true;
}

void string_list_free(StringList *list) {
  for (size_t i = 0; i < list->count; i++) memory_free(list->items[i]);
  memory_free(list->items);
  *list = (StringList){0};
}

char *path_join(const char *directory, const char *name) {
  size_t length = strlen(directory);
  if (length == 0) return memory_copy_string(name);
  return memory_format("%s%s%s", directory, directory[length - 1] == '/' ? "" : "/", name);
}

char *path_parent(const char *path) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--; /* slashes at the end */
  while (length && path[length - 1] != '/') length--;     /* the last component */
  if (length == 0) return memory_copy_string(".");
  while (length > 1 && path[length - 1] == '/') length--;
  return memory_format("%.*s", (int)length, path);
}

bool path_same(const char *a, const char *b) {
  char *real_a = realpath(a, NULL), *real_b = realpath(b, NULL);
  const bool same = real_a && real_b && strcmp(real_a, real_b) == 0;
  free(real_a); /* realpath's own allocations */
  free(real_b);
  return same;
}

const char *path_name(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? slash + 1 : path;
}

static bool into_writer(void *context, const void *bytes, size_t count, Error *error) {
  return file_writer_write(context, bytes, count, error);
}

bool file_copy(const char *from, const char *to, Error *error) {
  FileWriter writer;
  if (!file_writer_open(&writer, to, error)) return false;
  bool ok = read_chunks(from, into_writer, &writer, error) && file_writer_commit(&writer, error);
  file_writer_close(&writer);
  return ok;
}

bool file_map_open(FileMap *map, const char *path, Error *error) {
  *map = (FileMap){0};
  int descriptor =
      open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not make us wait for its writer */
  struct stat status;
  if (descriptor < 0) return file_error(error, "read", path);
  bool ok = fstat(descriptor, &status) == 0 || file_error(error, "read", path);
  if (ok && !S_ISREG(status.st_mode)) {
    ok = error_set(error, ERROR_FILE, "cannot read %s: not a regular file", path);
  }
  if (ok && status.st_size > 0) {
    void *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    ok = data != MAP_FAILED || file_error(error, "map", path);
    if (ok) *map = (FileMap){.data = data, .size = (size_t)status.st_size};
  }
  close(descriptor);
  return ok;
}

void file_map_close(FileMap *map) {
  if (map->size) munmap((void *)map->data, map->size);
  *map = (FileMap){0};
}

void file_pages_release(const void *data, size_t bytes) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  uintptr_t begin = ((uintptr_t)data + page - 1) / page * page, end = ((uintptr_t)data + bytes) / page * page;
  if (begin < end) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void file_pages_ahead(const void *data, size_t bytes) {
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data / page * page;
  madvise((void *)begin, (uintptr_t)data + bytes - begin, MADV_WILLNEED);
}

static bool into_digest(void *context, const void *bytes, size_t count, Error *error) {
  (void)error;
  digest_add(context, bytes, count);
  return true;
}

bool file_digest(const char *path, char out[33], Error *error) {
  Digest *digest = digest_open(error);
  if (!digest) return false;
  const bool ok = read_chunks(path, into_digest, digest, error);
  if (ok) digest_text(digest, out);
  digest_close(digest);
  return ok;
}

char *directory_temporary(const char *name, Error *error) {
  const char *root = getenv("TMPDIR");
  Draft draft = {0};
  char *place = memory_format("%s/drover-%s", root && *root ? root : "/tmp", name);
  bool ok = place ? draft_directory(&draft, place, error) : error_out_of_memory(error, "path", strlen(name));
  if (ok && chmod(draft.path, S_IRWXU) != 0) ok = file_error(error, "make", draft.path);
  memory_free(place);
  if (ok) return draft.path; /* its lock is held for as long as the process lives */
  draft_drop(&draft);
  return NULL;
}
