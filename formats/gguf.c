#include "formats/gguf.h"

#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_VALUE = 8 + 4 + 1, LEAST_TENSOR = 8 + 4 + 4 + 8, DEFAULT_ALIGNMENT = 32, NAME_SHOWN = 200 };

static const char alignment_key[] = "general.alignment";

/* What is left of the file, from the begin to the end. */
typedef struct Cursor {
  const GgufFile *file;
  const uint8_t *at, *end;
  Error *error;
} Cursor;

static bool fail(const Cursor *c, const char *what, GgufText name, const char *format, ...) PRINTF_LIKE(4, 5);

/* "PATH: WHAT 'NAME' ...", or "PATH: ..." where there is no name. Always returns false. */
static bool fail(const Cursor *c, const char *what, GgufText name, const char *format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (!name.data) return error_set(c->error, ERROR_MODEL, "%s: %s", c->file->path, text);
  const int shown = name.size < NAME_SHOWN ? (int)name.size : NAME_SHOWN;
  return error_set(c->error, ERROR_MODEL, "%s: %s '%.*s' %s", c->file->path, what, shown, name.data, text);
}

static const GgufText no_name = {0};

/* ---- numbers and strings ---- */

static bool take(Cursor *c, void *out, size_t bytes) {
  if (bytes > (size_t)(c->end - c->at))
    return fail(c, "", no_name, "ends at byte %zu, inside its header: truncated?", c->file->map.size);
  memcpy(out, c->at, bytes);
  c->at += bytes;
  return true;
}

static bool take_u32(Cursor *c, uint32_t *out) {
  *out = 0;
  return take(c, out, sizeof *out);
}

static bool take_u64(Cursor *c, uint64_t *out) {
  *out = 0;
  return take(c, out, sizeof *out);
}

static bool take_text(Cursor *c, GgufText *out) {
  uint64_t size;
  if (!take_u64(c, &size)) return false;
  if (size > (uint64_t)(c->end - c->at))
    return fail(c, "", no_name, "a string of %llu bytes at byte %zu goes beyond the file's end",
                (unsigned long long)size, (size_t)(c->at - c->file->map.data));
  *out = (GgufText){.data = (const char *)c->at, .size = size};
  c->at += size;
  return true;
}

/* A key or a name: not empty, short, and text that can be compared with C's. */
static bool take_name(Cursor *c, const char *what, GgufText *out) {
  enum { LONGEST = 1024 };
  const size_t place = (size_t)(c->at - c->file->map.data);
  if (!take_text(c, out)) return false;
  if (out->size == 0) return fail(c, "", no_name, "a %s at byte %zu is empty", what, place);
  if (out->size > LONGEST || memchr(out->data, 0, out->size))
    return fail(c, "", no_name, "a %s at byte %zu has %zu bytes or a NUL among them, expected at most %d",
                what, place, out->size, LONGEST);
  return true;
}

bool gguf_text_is(GgufText text, const char *word) {
  return text.size == strlen(word) && memcmp(text.data, word, text.size) == 0;
}

static int compare_texts(GgufText a, GgufText b) {
  const int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
  if (order != 0) return order;
  return a.size < b.size ? -1 : a.size > b.size;
}

/* ---- values ---- */

static const struct {
  const char *name;
  size_t bytes; /* 0: by content */
} kinds[GGUF_KINDS] = {[GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},     [GGUF_U16] = {"u16", 2},
                       [GGUF_I16] = {"i16", 2},     [GGUF_U32] = {"u32", 4},   [GGUF_I32] = {"i32", 4},
                       [GGUF_F32] = {"f32", 4},     [GGUF_BOOL] = {"bool", 1}, [GGUF_STRING] = {"string", 0},
                       [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8},   [GGUF_I64] = {"i64", 8},
                       [GGUF_F64] = {"f64", 8}};

const char *gguf_kind_name(GgufKind kind) {
  return kinds[kind].name;
}

static bool take_kind(Cursor *c, GgufText key, GgufKind *out) {
  uint32_t number;
  if (!take_u32(c, &number)) return false;
  if (number >= GGUF_KINDS) return fail(c, "key", key, "has a value of kind %u, which is not known", number);
  *out = (GgufKind)number;
  return true;
}

static bool check_bools(const Cursor *c, const GgufValue *value) {
  const uint8_t *bytes = value->data;
  for (uint64_t i = 0; i < value->count; i++)
    if (bytes[i] > 1) return fail(c, "key", value->key, "has %u where a bool is expected, 0 or 1", bytes[i]);
  return true;
}

static bool take_elements(Cursor *c, GgufValue *value) {
  const uint64_t left = (uint64_t)(c->end - c->at);
  const size_t least = value->kind == GGUF_STRING ? 8 : kinds[value->kind].bytes;
  value->data = c->at;
  if (value->count > left / least)
    return fail(c, "key", value->key, "has %llu elements of kind %s, more than the rest of the file holds",
                (unsigned long long)value->count, kinds[value->kind].name);
  if (value->kind != GGUF_STRING) {
    c->at += value->count * least;
    return value->kind != GGUF_BOOL || check_bools(c, value);
  }
  GgufText ignored;
  for (uint64_t i = 0; i < value->count; i++)
    if (!take_text(c, &ignored)) return false;
  return true;
}

static bool take_value(Cursor *c, GgufValue *value) {
  if (!take_name(c, "key", &value->key) || !take_kind(c, value->key, &value->kind)) return false;
  value->array = value->kind == GGUF_ARRAY;
  value->count = 1;
  if (value->array && (!take_kind(c, value->key, &value->kind) || !take_u64(c, &value->count))) return false;
  if (value->kind == GGUF_ARRAY) return fail(c, "key", value->key, "is an array of arrays: not supported");
  return take_elements(c, value);
}

static int compare_values(const void *a, const void *b) {
  return compare_texts(((const GgufValue *)a)->key, ((const GgufValue *)b)->key);
}

static bool take_values(Cursor *c, GgufFile *file, uint64_t count) {
  file->values = memory_zeroed(count, sizeof *file->values);
  if (!file->values) return error_out_of_memory(c->error, "metadata of a GGUF file", count);
  for (; file->value_count < count; file->value_count++)
    if (!take_value(c, &file->values[file->value_count])) return false;
  if (count) qsort(file->values, count, sizeof *file->values, compare_values);
  for (uint64_t i = 1; i < count; i++)
    if (compare_values(&file->values[i - 1], &file->values[i]) == 0)
      return fail(c, "key", file->values[i].key, "is there twice");
  return true;
}

/* ---- tensors ---- */

/* Shape, and the bytes that it asks for. */
static bool take_shape(Cursor *c, GgufTensor *tensor) {
  uint32_t rank;
  if (!take_u32(c, &rank)) return false;
  if (rank < 1 || rank > GGUF_MAX_RANK)
    return fail(c, "tensor", tensor->name, "has %u dimensions, expected 1 to %d", rank, GGUF_MAX_RANK);
  tensor->rank = (int)rank;
  tensor->count = 1;
  for (uint32_t i = 0; i < rank; i++) {
    uint64_t length;
    if (!take_u64(c, &length)) return false;
    if (length == 0 || length > INT64_MAX ||
        __builtin_mul_overflow(tensor->count, (size_t)length, &tensor->count))
      return fail(c, "tensor", tensor->name, "has a shape that is empty or whose size overflows");
    tensor->shape[rank - 1 - i] = (int64_t)length;
  }
  return true;
}

static bool take_type(Cursor *c, GgufTensor *tensor) {
  uint32_t number;
  if (!take_u32(c, &number)) return false;
  tensor->type = block_type(number);
  if (!tensor->type) return fail(c, "tensor", tensor->name, "has the type %u, which is not known", number);
  const int64_t row = tensor->shape[tensor->rank - 1];
  if (row % tensor->type->elements != 0)
    return fail(c, "tensor", tensor->name, "has rows of %lld elements, which are no whole blocks of %s (%u)",
                (long long)row, tensor->type->name, tensor->type->elements);
  if (__builtin_mul_overflow(tensor->count / tensor->type->elements, (size_t)tensor->type->bytes,
                             &tensor->bytes))
    return fail(c, "tensor", tensor->name, "has a shape whose size overflows");
  return true;
}

static size_t padded(size_t bytes, size_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

/* Data lie end to end in the order of the tensors, so where each begins needs no belief in its offset. */
static bool take_tensor(Cursor *c, GgufTensor *tensor, size_t alignment, uint64_t *expected) {
  uint64_t offset;
  tensor->path = c->file->path;
  if (!take_name(c, "tensor's name", &tensor->name) || !take_shape(c, tensor) || !take_type(c, tensor) ||
      !take_u64(c, &offset))
    return false;
  if (offset != *expected)
    return fail(c, "tensor", tensor->name, "begins at byte %llu of the data, expected %llu",
                (unsigned long long)offset, (unsigned long long)*expected);
  if (tensor->bytes > c->file->map.size)
    return fail(c, "tensor", tensor->name, "has %zu bytes, but the file has only %zu: truncated?",
                tensor->bytes, c->file->map.size);
  *expected += padded(tensor->bytes, alignment);
  if (*expected > (uint64_t)c->file->map.size + alignment)
    return fail(c, "tensor", tensor->name, "goes beyond the end of the file, which has %zu bytes: truncated?",
                c->file->map.size);
  return true;
}

static bool place_tensors(Cursor *c, GgufFile *file, size_t alignment) {
  const size_t data = padded((size_t)(c->at - file->map.data), alignment);
  size_t begin = data;
  for (size_t i = 0; i < file->tensor_count; i++) {
    GgufTensor *tensor = &file->tensors[i];
    if (begin > file->map.size || tensor->bytes > file->map.size - begin)
      return fail(c, "tensor", tensor->name, "ends at byte %zu, but the file has only %zu: truncated?",
                  begin + tensor->bytes, file->map.size);
    tensor->data = file->map.data + begin;
    begin += padded(tensor->bytes, alignment);
  }
  return true;
}

static int compare_tensors(const void *a, const void *b) {
  return compare_texts(((const GgufTensor *)a)->name, ((const GgufTensor *)b)->name);
}

static bool take_tensors(Cursor *c, GgufFile *file, uint64_t count) {
  int64_t alignment = DEFAULT_ALIGNMENT;
  uint64_t expected = 0;
  if (!gguf_int(file, alignment_key, 1, 1 << 30, &alignment, c->error)) return false;
  if (alignment & (alignment - 1))
    return gguf_fail(file, alignment_key, c->error, "expected a power of 2, found %lld",
                     (long long)alignment);
  file->tensors = memory_zeroed(count, sizeof *file->tensors);
  if (!file->tensors) return error_out_of_memory(c->error, "list of tensors", count * sizeof *file->tensors);
  for (; file->tensor_count < count; file->tensor_count++)
    if (!take_tensor(c, &file->tensors[file->tensor_count], (size_t)alignment, &expected)) return false;
  if (!place_tensors(c, file, (size_t)alignment)) return false;
  if (count) qsort(file->tensors, count, sizeof *file->tensors, compare_tensors);
  for (uint64_t i = 1; i < count; i++)
    if (compare_tensors(&file->tensors[i - 1], &file->tensors[i]) == 0)
      return fail(c, "tensor", file->tensors[i].name, "is there twice");
  return true;
}

/* ---- the file ---- */

static bool take_version(Cursor *c) {
  char magic[4] = "";
  uint32_t version;
  if (!take(c, magic, sizeof magic)) return false;
  if (memcmp(magic, "GGUF", 4) != 0) return fail(c, "", no_name, "does not begin with GGUF: no GGUF file");
  if (!take_u32(c, &version)) return false;
  if (version == 2 || version == 3) return true;
  if ((version & 0xffff) == 0) return fail(c, "", no_name, "is big-endian: only little-endian GGUF is read");
  return fail(c, "", no_name, "has the version %u of GGUF, expected 2 or 3", version);
}

static bool read_file(Cursor *c, GgufFile *file) {
  uint64_t tensors, values;
  if (!take_version(c) || !take_u64(c, &tensors) || !take_u64(c, &values)) return false;
  const uint64_t left = (uint64_t)(c->end - c->at);
  if (values > left / LEAST_VALUE || tensors > left / LEAST_TENSOR)
    return fail(c, "", no_name, "has %llu tensors and %llu values, more than its %zu bytes can hold",
                (unsigned long long)tensors, (unsigned long long)values, file->map.size);
  return take_values(c, file, values) && take_tensors(c, file, tensors);
}

bool gguf_file_open(GgufFile *file, const char *path, Error *error) {
  *file = (GgufFile){.path = memory_copy_string(path)};
  if (!file->path) return error_out_of_memory(error, "path", strlen(path));
  if (file_map_open(&file->map, path, error)) {
    Cursor cursor = {
        .file = file, .at = file->map.data, .end = file->map.data + file->map.size, .error = error};
    if (read_file(&cursor, file)) return true;
  }
  gguf_file_close(file);
  return false;
}

void gguf_file_close(GgufFile *file) {
  file_map_close(&file->map);
  memory_free(file->values);
  memory_free(file->tensors);
  memory_free(file->path);
  *file = (GgufFile){0};
}
