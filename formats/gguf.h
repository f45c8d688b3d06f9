/* GGUF, versions 2 and 3, little-endian: metadata and named tensors in one file, or in several parts, read through a mapping.
 *
 *   "GGUF", u32 version, u64 number of tensors, u64 number of values
 *   values:  u64 length, key; u32 kind; the value: a number, a bool, a string (u64 length, bytes), or an array (u32 kind of its
 *            elements, u64 number of them, the elements)
 *   tensors: u64 length, name; u32 rank; u64 lengths, the innermost first; u32 type; u64 offset from the begin of the data
 *   padding to general.alignment (32 unless it says otherwise); the data of the tensors in this order, each padded likewise
 *
 * Everything is checked on opening: counts against what is left of the file, lengths, kinds, duplicate keys and names, shapes
 * against the blocks of the type, and that the data lie end to end inside the file. So a hostile or torn file is an error, never a
 * wild read, and no more is allocated than a small multiple of the file's size.
 *
 * Content errors are ERROR_MODEL and name the file and the key or tensor; what the file system refuses is ERROR_FILE.
 *
 * Reference: docs/gguf.md of ggml, ggml/src/gguf.cpp of llama.cpp, and the Python package gguf. */
#ifndef FORMATS_GGUF_H
#define FORMATS_GGUF_H

#include "base/error.h"
#include "base/file.h"
#include "formats/gguf_blocks.h"

#include <stdint.h>

enum { GGUF_MAX_RANK = 4 };

typedef enum GgufKind {
  GGUF_U8,
  GGUF_I8,
  GGUF_U16,
  GGUF_I16,
  GGUF_U32,
  GGUF_I32,
  GGUF_F32,
  GGUF_BOOL,
  GGUF_STRING,
  GGUF_ARRAY,
  GGUF_U64,
  GGUF_I64,
  GGUF_F64,
  GGUF_KINDS
} GgufKind;

/* Bytes of the mapping, without a NUL at the end. */
typedef struct GgufText {
  const char *data;
  size_t size;
} GgufText;

typedef struct GgufValue {
  GgufText key;
  GgufKind kind;    /* of an array: that of its elements, never GGUF_ARRAY */
  bool array;       /* one value else */
  uint64_t count;   /* elements; 1 where it is no array */
  const void *data; /* the first of them, at any address */
} GgufValue;

typedef struct GgufTensor {
  GgufText name;
  const char *path; /* the file it is in */
  const BlockType *type;
  int rank;
  int64_t shape[GGUF_MAX_RANK]; /* the outermost first, as everywhere else here */
  size_t count;                 /* elements: whole blocks, and each row is */
  const void *data;
  size_t bytes;
} GgufTensor;

/* ---- one file ---- */

typedef struct GgufFile {
  char *path;
  FileMap map;
  GgufValue *values; /* sorted by key */
  size_t value_count;
  GgufTensor *tensors; /* sorted by name */
  size_t tensor_count;
} GgufFile;

/* On failure the struct is zeroed; closing a zeroed struct does nothing. */
NODISCARD bool gguf_file_open(GgufFile *file, const char *path, Error *error);
void gguf_file_close(GgufFile *file);

/* ---- values ---- */

const GgufValue *gguf_find(const GgufFile *file, const char *key); /* NULL: not there */
/* Each is an error when the key is there and the value is of another kind or out of range; when it is not there, *out keeps its
 * value. Integers of any width are integers; an F32 or F64 or an integer is a number. */
NODISCARD bool gguf_int(const GgufFile *file, const char *key, int64_t least, int64_t most, int64_t *out,
                        Error *error);
NODISCARD bool gguf_number(const GgufFile *file, const char *key, double *out, Error *error);
NODISCARD bool gguf_bool(const GgufFile *file, const char *key, bool *out, Error *error);
NODISCARD bool gguf_text(const GgufFile *file, const char *key, GgufText *out, Error *error);
/* The array of that key, its elements strings if `kind` is GGUF_STRING, and so on; *out is NULL when it is not there. */
NODISCARD bool gguf_array(const GgufFile *file, const char *key, GgufKind kind, const GgufValue **out,
                          Error *error);

/* Elements of values. Index below count; the kind has to fit, or it is a caller's bug. */
int64_t gguf_value_int(const GgufValue *value, uint64_t index);
double gguf_value_number(const GgufValue *value, uint64_t index);
/* Strings lie one behind the other: *at is NULL for the first, and then what the former call left. */
GgufText gguf_value_text(const GgufValue *value, const void **at);

bool gguf_text_is(GgufText text, const char *word);
const char *gguf_kind_name(GgufKind kind);
/* "PATH: KEY: ..."; always false. */
bool gguf_fail(const GgufFile *file, const char *key, Error *error, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* ---- a model: one file, or the parts NAME-0000i-of-0000N.gguf ---- */

typedef struct GgufSet {
  GgufFile *files; /* the first has the metadata */
  size_t file_count;
  const GgufTensor **tensors; /* of all files, sorted by name */
  size_t tensor_count;
} GgufSet;

/* Whether `path` is a GGUF model: a file NAME.gguf, or a directory that holds exactly one of them (or the parts of one) and neither
 * config.json nor weights of another form. *file is then a new string, the (first) file; else NULL. Several models in a directory
 * are an error that names two of them. */
NODISCARD bool gguf_locate(const char *path, char **file, Error *error);
NODISCARD bool gguf_set_open(GgufSet *set, const char *file, Error *error);
void gguf_set_close(GgufSet *set);
const GgufTensor *gguf_set_find(const GgufSet *set, const char *name); /* NULL: not there */

#endif
