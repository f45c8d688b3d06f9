#include "base/memory.h"

#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The one mutable global of the program: how many more allocations may succeed, -1 for no limit. Only tests
 * set it; it is atomic because allocations may come from several threads. */
static _Atomic long allocations_left = -1;

/* No object may be larger than PTRDIFF_MAX: pointers into it could not be subtracted. */
static bool allocation_allowed(size_t bytes) {
  if (bytes > PTRDIFF_MAX) return false;
  if (allocations_left < 0) return true;
  if (allocations_left == 0) return false;
  allocations_left--;
  return true;
}

void memory_fail_after(long count) {
  allocations_left = count;
}

void *memory_alloc(size_t bytes) {
  return allocation_allowed(bytes) ? malloc(bytes ? bytes : 1) : NULL;
}

void *memory_zeroed(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || !allocation_allowed(bytes)) return NULL;
  return calloc(bytes ? bytes : 1, 1);
}

void *memory_resize(void *memory, size_t bytes) {
  return allocation_allowed(bytes) ? realloc(memory, bytes ? bytes : 1) : NULL;
}

void memory_free(void *memory) {
  free(memory);
}

void memory_give_back(void) {
  malloc_trim(0);
}

size_t memory_held(void) {
  memory_give_back();
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

char *memory_copy_string(const char *text) {
  size_t bytes = strlen(text) + 1;
  char *copy = memory_alloc(bytes);
  if (copy) memcpy(copy, text, bytes);
  return copy;
}

static char *format_new(const char *format, va_list arguments, size_t *length) {
  va_list again;
  va_copy(again, arguments);
  int needed = vsnprintf(NULL, 0, format, again);
  va_end(again);
  if (needed < 0) return NULL;
  char *text = memory_alloc((size_t)needed + 1);
  if (text) vsnprintf(text, (size_t)needed + 1, format, arguments);
  if (length) *length = (size_t)needed;
  return text;
}

char *memory_format(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  char *text = format_new(format, arguments, NULL);
  va_end(arguments);
  return text;
}

/* The capacity to grow to for `needed` elements: doubling, so that appending is linear in total; 0 when the
 * bytes would not fit a size_t. */
static size_t grown_capacity(size_t capacity, size_t needed, size_t element) {
  size_t limit = SIZE_MAX / element;
  if (needed > limit) return 0;
  size_t doubled = capacity > limit / 2 ? limit : capacity * 2;
  size_t least = doubled < 16 ? 16 : doubled;
  return needed > least ? needed : least;
}

bool buffer_append(Buffer *buffer, const void *bytes, size_t count, Error *error) {
  if (count >= SIZE_MAX - buffer->size) return error_out_of_memory(error, "text buffer", SIZE_MAX);
  size_t needed = buffer->size + count + 1;
  if (needed > buffer->capacity) {
    size_t capacity = grown_capacity(buffer->capacity, needed, 1);
    char *data = capacity ? memory_resize(buffer->data, capacity) : NULL;
    if (!data) return error_out_of_memory(error, "text buffer", needed);
    buffer->data = data;
    buffer->capacity = capacity;
  }
  if (count) memcpy(buffer->data + buffer->size, bytes, count);
  buffer->size += count;
  buffer->data[buffer->size] = '\0';
  return true;
}

bool buffer_text(Buffer *buffer, const char *text, Error *error) {
  return buffer_append(buffer, text, strlen(text), error);
}

bool buffer_format(Buffer *buffer, Error *error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t length = 0;
  char *text = format_new(format, arguments, &length);
  va_end(arguments);
  if (!text) return error_out_of_memory(error, "formatted text", length + 1);
  bool ok = buffer_append(buffer, text, length, error);
  memory_free(text);
  return ok;
}

void buffer_clear(Buffer *buffer) {
  buffer->size = 0;
  if (buffer->data) buffer->data[0] = '\0';
}

void buffer_free(Buffer *buffer) {
  memory_free(buffer->data);
  *buffer = (Buffer){0};
}

bool int_array_append(IntArray *array, const int *values, size_t count, Error *error) {
  if (count > SIZE_MAX - array->size) return error_out_of_memory(error, "integer array", SIZE_MAX);
  size_t needed = array->size + count;
  if (needed > array->capacity) {
    size_t capacity = grown_capacity(array->capacity, needed, sizeof *array->data);
    int *data = capacity ? memory_resize(array->data, capacity * sizeof *data) : NULL;
    if (!data) return error_out_of_memory(error, "integer array", needed * sizeof *data);
    array->data = data;
    array->capacity = capacity;
  }
  if (count) memcpy(array->data + array->size, values, count * sizeof *values);
  array->size = needed;
  return true;
}

bool int_array_push(IntArray *array, int value, Error *error) {
  return int_array_append(array, &value, 1, error);
}

void int_array_free(IntArray *array) {
  memory_free(array->data);
  *array = (IntArray){0};
}
