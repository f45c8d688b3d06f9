/* Typed access to a GGUF file's metadata. */
#include "formats/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool gguf_fail(const GgufFile *file, const char *key, Error *error, const char *format, ...) {
  char text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return error_set(error, ERROR_MODEL, "%s: %s: %s", file->path, key, text);
}

const GgufValue *gguf_find(const GgufFile *file, const char *key) {
  const size_t length = strlen(key);
  size_t low = 0, high = file->value_count;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    const GgufText found = file->values[middle].key;
    int order = memcmp(key, found.data, length < found.size ? length : found.size);
    if (order == 0) order = length < found.size ? -1 : length > found.size;
    if (order == 0) return &file->values[middle];
    if (order < 0)
      high = middle;
    else
      low = middle + 1;
  }
  return NULL;
}

static bool is_int(GgufKind kind) {
  return kind <= GGUF_I32 || kind == GGUF_U64 || kind == GGUF_I64;
}

static bool is_number(GgufKind kind) {
  return is_int(kind) || kind == GGUF_F32 || kind == GGUF_F64;
}

static bool wrong_kind(const GgufFile *file, const char *key, const GgufValue *value, const char *expected,
                       Error *error) {
  return gguf_fail(file, key, error, "expected %s, found %s%s", expected, value->array ? "an array of " : "",
                   gguf_kind_name(value->kind));
}

/* Of a u64 beyond 2^63 the largest there is: no reader takes it. */
int64_t gguf_value_int(const GgufValue *value, uint64_t index) {
  ASSERT(is_int(value->kind) && index < value->count);
  const uint8_t *data = value->data;
  int8_t i8;
  int16_t i16;
  int32_t i32;
  uint16_t u16;
  uint32_t u32;
  uint64_t u64;
  switch (value->kind) {
    case GGUF_U8:
      return data[index];
    case GGUF_I8:
      memcpy(&i8, data + index, 1);
      return i8;
    case GGUF_U16:
      memcpy(&u16, data + 2 * index, 2);
      return u16;
    case GGUF_I16:
      memcpy(&i16, data + 2 * index, 2);
      return i16;
    case GGUF_U32:
      memcpy(&u32, data + 4 * index, 4);
      return u32;
    case GGUF_I32:
      memcpy(&i32, data + 4 * index, 4);
      return i32;
    default:
      memcpy(&u64, data + 8 * index, 8);
      return value->kind == GGUF_U64 && u64 > INT64_MAX ? INT64_MAX : (int64_t)u64;
  }
}

double gguf_value_number(const GgufValue *value, uint64_t index) {
  ASSERT(is_number(value->kind) && index < value->count);
  float narrow;
  double wide;
  if (value->kind == GGUF_F32) {
    memcpy(&narrow, (const char *)value->data + 4 * index, sizeof narrow);
    return (double)narrow;
  }
  if (value->kind == GGUF_F64) {
    memcpy(&wide, (const char *)value->data + 8 * index, sizeof wide);
    return wide;
  }
  return (double)gguf_value_int(value, index);
}

GgufText gguf_value_text(const GgufValue *value, const void **at) {
  ASSERT(value->kind == GGUF_STRING);
  const char *from = *at ? *at : value->data;
  uint64_t size;
  memcpy(&size, from, sizeof size);
  *at = from + sizeof size + size;
  return (GgufText){.data = from + sizeof size, .size = size};
}

bool gguf_int(const GgufFile *file, const char *key, int64_t least, int64_t most, int64_t *out,
              Error *error) {
  const GgufValue *value = gguf_find(file, key);
  if (!value) return true;
  if (value->array || !is_int(value->kind)) return wrong_kind(file, key, value, "an integer", error);
  const int64_t found = gguf_value_int(value, 0);
  if (found < least || found > most)
    return gguf_fail(file, key, error, "expected %lld to %lld, found %lld", (long long)least, (long long)most,
                     (long long)found);
  *out = found;
  return true;
}

bool gguf_number(const GgufFile *file, const char *key, double *out, Error *error) {
  const GgufValue *value = gguf_find(file, key);
  if (!value) return true;
  if (value->array || !is_number(value->kind)) return wrong_kind(file, key, value, "a number", error);
  *out = gguf_value_number(value, 0);
  return true;
}

bool gguf_bool(const GgufFile *file, const char *key, bool *out, Error *error) {
  const GgufValue *value = gguf_find(file, key);
  if (!value) return true;
  if (value->array || value->kind != GGUF_BOOL) return wrong_kind(file, key, value, "a bool", error);
  *out = *(const uint8_t *)value->data != 0;
  return true;
}

bool gguf_text(const GgufFile *file, const char *key, GgufText *out, Error *error) {
  const GgufValue *value = gguf_find(file, key);
  const void *at = NULL;
  if (!value) return true;
  if (value->array || value->kind != GGUF_STRING) return wrong_kind(file, key, value, "a string", error);
  *out = gguf_value_text(value, &at);
  return true;
}

bool gguf_array(const GgufFile *file, const char *key, GgufKind kind, const GgufValue **out, Error *error) {
  const GgufValue *value = gguf_find(file, key);
  char expected[64];
  *out = NULL;
  if (!value) return true;
  snprintf(expected, sizeof expected, "an array of %s", gguf_kind_name(kind));
  if (!value->array || value->kind != kind) return wrong_kind(file, key, value, expected, error);
  *out = value;
  return true;
}
