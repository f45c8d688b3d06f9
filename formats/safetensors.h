/* safetensors: named tensors in one file, or in several with an index, read through a mapping and written
 * piece by piece.
 *
 * The format: 8 bytes little-endian header length N (at most 100,000,000), N bytes of JSON, the data.
 *   {"__metadata__": {"format": "pt"}, "NAME": {"dtype": "F32", "shape": [2,3], "data_offsets": [0,24]}, ...}
 * Everything is checked when a file is opened: lengths, overlaps and gaps, sizes against shapes, types,
 * duplicate names, the exact size of the file; a hostile or torn file is an error, never a wild read.
 *
 * Content errors are ERROR_MODEL and name the file and the tensor, what was expected and what was found;
 * what the file system refuses is ERROR_FILE.
 *
 * Reading:   SafetensorsSet set;                        model.safetensors, or its shards
 *            safetensors_set_open(&set, "some/dir", "model", error)
 *            const SafetensorsEntry *w = safetensors_set_find(&set, "lm_head.weight");
 *            dtype_convert(out, DTYPE_F32, w->data, w->dtype, count);
 *            safetensors_set_close(&set);
 *
 * Writing:   SafetensorsWriter writer = {0};            declare all, then stream in the order asked for
 *            safetensors_writer_declare(&writer, "a", DTYPE_F32, 2, shape, error) ...
 *            safetensors_writer_begin(&writer, "out/adapter_model.safetensors", error)
 *            const SafetensorsEntry *next;
 *            while ((next = safetensors_writer_next(&writer))) {
 *              safetensors_writer_write(&writer, source[next->index], next->bytes, error)
 *            }
 *            safetensors_writer_finish(&writer, error)
 *            safetensors_writer_free(&writer);           always, also after an error */
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include "base/dtype.h"
#include "base/error.h"
#include "base/file.h"

enum { SAFETENSORS_MAX_RANK = 8 };

/* One tensor, of an open file or declared to a writer. */
typedef struct SafetensorsEntry {
  const char *name; /* valid until the file, set or writer is closed */
  const char *path; /* the file it is in, for messages; NULL in a writer */
  DType dtype;
  int rank; /* 0 is a scalar */
  int64_t shape[SAFETENSORS_MAX_RANK];
  size_t bytes; /* may be 0 */
  /* Into the mapping: read-only, not necessarily aligned for the type (a header may have any length), so read
   * it by memcpy or dtype_convert. NULL in a writer. */
  const void *data;
  size_t index; /* of a file: position in order of data; of a writer: the n-th declared, from 0 */
} SafetensorsEntry;

/* Writes "[2, 3]" for messages. */
void safetensors_shape_text(int rank, const int64_t *shape, char *out, size_t size);

/* ERROR_MODEL for a tensor of weights with `broken` values that are NaN or infinite. Always returns false. */
bool safetensors_not_finite(const SafetensorsEntry *entry, size_t broken, Error *error);

/* ---- one file ---- */

struct json_t;

typedef struct SafetensorsFile {
  char *path;
  FileMap map;
  SafetensorsEntry *entries; /* in order of their data */
  const SafetensorsEntry **by_name;
  size_t count;
  struct json_t *header; /* holds the names and the metadata */
} SafetensorsFile;

/* On failure the struct is zeroed; closing a zeroed struct does nothing. The file must not be shortened by
 * others while it is open (as with every mapping, reading the lost part would end the process). */
NODISCARD bool safetensors_file_open(SafetensorsFile *file, const char *path, Error *error);
void safetensors_file_close(SafetensorsFile *file);

/* NULL when there is no tensor of that name. */
const SafetensorsEntry *safetensors_file_find(const SafetensorsFile *file, const char *name);
/* NULL when there is no such metadata; valid until the file is closed. */
const char *safetensors_file_metadata(const SafetensorsFile *file, const char *key);

/* ---- a directory: STEM.safetensors, or the shards of STEM.safetensors.index.json ---- */

typedef struct SafetensorsSet {
  SafetensorsFile *files;
  size_t file_count;
  const SafetensorsEntry **entries; /* of all files, sorted by name */
  size_t count;
} SafetensorsSet;

/* The single file is preferred when both are there. With an index its weight_map alone says which tensors
 * there are; shard names with path components, absent shards and absent tensors are errors. */
NODISCARD bool safetensors_set_open(SafetensorsSet *set, const char *directory, const char *stem,
                                    Error *error);
void safetensors_set_close(SafetensorsSet *set);
const SafetensorsEntry *safetensors_set_find(const SafetensorsSet *set, const char *name);

/* ---- writing ---- */

typedef struct SafetensorsWriter {
  SafetensorsEntry *entries; /* declared order until begin; then the order of writing */
  size_t *shard;             /* of each declared tensor (by index) */
  size_t count, capacity;
  size_t next;            /* entries before this one are complete */
  size_t piece;           /* bytes written of the current one */
  size_t broken;          /* values of it that are not finite, as far as they were looked at */
  bool current;           /* entries[next] was handed out by safetensors_writer_next */
  size_t shards, open;    /* number of files; 1 + the one being written */
  char *directory, *stem; /* of a sharded set, else NULL */
  char *path;             /* of a single file, else NULL */
  struct json_t *metadata;
  FileWriter file;
} SafetensorsWriter;

/* `name` is copied. Each name once. */
NODISCARD bool safetensors_writer_declare(SafetensorsWriter *writer, const char *name, DType dtype, int rank,
                                          const int64_t *shape, Error *error);
/* Adds to (or replaces in) the file's metadata, which has {"format": "pt"} from the start. */
NODISCARD bool safetensors_writer_metadata(SafetensorsWriter *writer, const char *key, const char *value,
                                           Error *error);

/* Ends the declarations: one file at `path`. ERROR_FILE, and nothing is written, when the disk has no room for the tensors. */
NODISCARD bool safetensors_writer_begin(SafetensorsWriter *writer, const char *path, Error *error);
/* The same in files of at most max_bytes of data each (a larger tensor stands alone), filled in declared
 * order: DIRECTORY/STEM-0000i-of-0000N.safetensors and the index; STEM.safetensors when one file is enough.
 * finish then removes every file of an earlier set of that stem: single file, shards, index. */
NODISCARD bool safetensors_writer_begin_sharded(SafetensorsWriter *writer, const char *directory,
                                                const char *stem, uint64_t max_bytes, Error *error);

/* The tensor whose bytes come next, NULL after the last. Within a file the order is that of the safetensors
 * library: wide types first, then by name. Calling it before the former tensor is complete is a caller bug.
 */
const SafetensorsEntry *safetensors_writer_next(SafetensorsWriter *writer);
/* All or the next part of the data of that tensor. */
NODISCARD bool safetensors_writer_write(SafetensorsWriter *writer, const void *bytes, size_t count,
                                        Error *error);
/* The same of whole values that somebody is to go on from: ERROR_MODEL, naming the tensor, when it is complete and some of
 * them, of a floating-point type, are NaN or infinite. */
NODISCARD bool safetensors_writer_write_finite(SafetensorsWriter *writer, const void *values, size_t bytes,
                                               Error *error);
/* Puts the file in place (shards as they become complete, the index last). Until then what was there before
 * is untouched. */
NODISCARD bool safetensors_writer_finish(SafetensorsWriter *writer, Error *error);
void safetensors_writer_free(SafetensorsWriter *writer);

#endif
