/* Files: whole-file reading, mapping, and writing that either completes or leaves what was there.
 *
 * Errors are ERROR_FILE and name the path and the system's reason. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/digest.h"
#include "base/draft.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdint.h>
#include <stdio.h>

NODISCARD bool file_read(const char *path, Buffer *out, Error *error); /* appends the whole file */
bool file_exists(const char *path);
bool directory_exists(const char *path);
/* With parents, each of them durable (fsync); fine if it exists. */
NODISCARD bool directory_create(const char *path, Error *error);
NODISCARD bool directory_remove_all(const char *path, Error *error); /* recursively; fine if absent */
/* Bytes that this user may still write on the file system where the directory lies, or will lie when it is made. */
NODISCARD bool directory_room(const char *path, uint64_t *bytes, Error *error);
/* Bytes on the disk of all files under it, links not followed; 0 for one that is absent. */
NODISCARD bool directory_bytes(const char *path, uint64_t *bytes, Error *error);
NODISCARD bool directory_sync(const char *path, Error *error); /* fsync of the directory itself */
/* A draft of the user's alone, TMPDIR/drover-NAME... (/tmp without TMPDIR), which a later process removes if this one cannot; a new string, or NULL. */
char *directory_temporary(const char *name, Error *error);
/* Names in a directory (without . and ..), sorted; free with string_list_free. */
typedef struct StringList {
  char **items;
  size_t count;
} StringList;
NODISCARD bool directory_list(const char *path, StringList *out, Error *error);
NODISCARD bool string_list_push(StringList *list, const char *text, Error *error);
void string_list_free(StringList *list);

char *path_join(const char *directory, const char *name); /* new string, NULL when memory is out */
char *path_parent(const char *path);                      /* new string; "." when there is none */
const char *path_name(const char *path);                  /* last component, borrowed from path */
bool path_same(const char *a, const char *b);             /* both exist, and are one; links are followed */
NODISCARD bool file_copy(const char *from, const char *to, Error *error); /* atomic replace of `to` */

/* A read-only mapping of a whole file. */
typedef struct FileMap {
  const uint8_t *data;
  size_t size;
} FileMap;
NODISCARD bool file_map_open(FileMap *map, const char *path, Error *error);
void file_map_close(FileMap *map);
/* Gives back the memory of mapped bytes that have been read: they are still there, but the next reading fetches
 * them again. For `data` in a mapping only; whole pages inside the range. */
void file_pages_release(const void *data, size_t bytes);
/* Has the system begin to bring mapped bytes from the disk, and does not wait for them. */
void file_pages_ahead(const void *data, size_t bytes);

/* Atomic writing: bytes go to a draft beside PATH (base/draft.h); commit flushes, fsyncs, renames over PATH and fsyncs
 * the directory; anything else (close without commit, a crash) leaves PATH as it was. */
typedef struct FileWriter {
  FILE *stream;
  char *path;
  Draft draft;
  uint64_t written; /* bytes */
} FileWriter;
NODISCARD bool file_writer_open(FileWriter *writer, const char *path, Error *error);
NODISCARD bool file_writer_write(FileWriter *writer, const void *bytes, size_t count, Error *error);
NODISCARD bool file_writer_commit(FileWriter *writer, Error *error); /* closes in any case */
void file_writer_close(FileWriter *writer); /* drops an uncommitted file; fine after commit */
NODISCARD bool file_write_text(const char *path, const char *text, Error *error); /* atomic */

NODISCARD bool file_digest(const char *path, char out[33], Error *error); /* base/digest.h, of the content */

#endif
