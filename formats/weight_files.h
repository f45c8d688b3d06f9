/* The weights of a model, in whatever form they stand: named tensors that are read piece by piece.
 *
 * A form (safetensors, ...) opens its files, checks them whole, and gives a list of WeightEntry; who reads
 * weights sees that list alone. What a form stores otherwise than row-major in a DType (quantised blocks, permuted rows, strided views)
 * it undoes while reading, a range at a time, so that no second copy of a tensor exists.
 *
 * Content errors are ERROR_MODEL and name the file and the tensor; what the file system refuses is ERROR_FILE.
 *
 *   WeightFiles files;
 *   weight_files_open(&files, "some/dir", error)
 *   const WeightEntry *w = weight_files_find(&files, "lm_head.weight");
 *   weight_read(w, 0, w->count, DTYPE_F32, out);
 *   weight_files_close(&files);
 *
 * A new form is a function that fills a WeightFiles, and its line in weight_files.c. */
#ifndef FORMATS_WEIGHT_FILES_H
#define FORMATS_WEIGHT_FILES_H

#include "base/dtype.h"
#include "base/error.h"

#include <stdint.h>

enum { WEIGHT_MAX_RANK = 8 };

typedef struct WeightEntry WeightEntry;
struct WeightEntry {
  const char *name; /* as the checkpoint of Transformers spells it; valid until the files are closed */
  const char *path; /* the file it is in, for messages */
  const char *kind; /* how it is stored, for messages: "F32", "Q4_K" */
  DType dtype;      /* of the elements as they are read: F32 for quantised ones */
  int rank;         /* 0 is a scalar */
  int64_t shape[WEIGHT_MAX_RANK];
  size_t count; /* elements, may be 0 */
  /* Where it lies in the mapping; without `read` these are its elements in row-major order, at any address. */
  const void *data;
  size_t bytes;
  /* Elements first to first + count - 1, in row-major order, as `dtype`, for what does not lie that way; NULL for what does. Called by
   * several threads at once; cannot fail, since all was checked on opening. */
  void (*read)(const WeightEntry *entry, size_t first, size_t count, void *out);
  const void *source; /* the form's own */
};

typedef struct WeightFiles {
  WeightEntry *entries; /* sorted by name, each name once */
  size_t count;
  void *source; /* the form's own, given back by `close` */
  void (*close)(void *source);
} WeightFiles;

/* The weights of a model's directory. Of several forms the first of these is read, as in Transformers, and the others are left aside:
 * model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json. On failure the struct is zeroed, and closing it does nothing. */
NODISCARD bool weight_files_open(WeightFiles *files, const char *path, Error *error);
/* Whether there are any. */
bool weight_files_exist(const char *path);
/* STEM.safetensors of a directory, or the shards of its index, alone. */
NODISCARD bool weight_files_open_safetensors(WeightFiles *files, const char *directory, const char *stem,
                                             Error *error);
void weight_files_close(WeightFiles *files);
const WeightEntry *weight_files_find(const WeightFiles *files, const char *name); /* NULL: not there */

/* Elements first to first + count - 1 in row-major order, as `type`: the entry's own, or, from floating point, any floating point. Any
 * thread. */
void weight_read(const WeightEntry *entry, size_t first, size_t count, DType type, void *out);
/* The same, of floating point, in pieces that stay in the cache while they are looked at: returns how many of the entry's values are NaN or
 * infinite. `out` may be NULL: then they are only looked at. */
size_t weight_read_counted(const WeightEntry *entry, size_t first, size_t count, DType type, void *out);
/* Gives back the memory of the pages from which about these elements were read; they can be read again. */
void weight_release(const WeightEntry *entry, size_t first, size_t count);

/* ERROR_MODEL for a tensor with `broken` values that are NaN or infinite. Always returns false. */
bool weight_not_finite(const WeightEntry *entry, size_t broken, Error *error);

#endif
