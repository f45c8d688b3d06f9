/* Heap memory for what is not a tensor: parsers, tables, names.
 *
 * All heap allocations of Drover's own code go through here, so that a test can make the n-th one fail.
 * Each returns NULL when memory is out; the caller reports it (error_out_of_memory). */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include "base/error.h"

#include <stddef.h>

void *memory_alloc(size_t bytes);                /* uninitialised; never NULL for 0 bytes */
void *memory_zeroed(size_t count, size_t size);  /* zeroed; NULL also when count*size overflows */
void *memory_resize(void *memory, size_t bytes); /* like realloc: on failure `memory` is still valid */
void memory_free(void *memory);                  /* NULL is fine */
char *memory_copy_string(const char *text);
char *memory_format(const char *format, ...) PRINTF_LIKE(1, 2); /* a new string */

/* What is free in the heap, in whole pages, goes back to the system. */
void memory_give_back(void);

/* Bytes that the heap hands out now, of libraries too, after memory_give_back: the process holds little more than these. */
size_t memory_held(void);

/* Test hook: the allocation after `count` successful ones fails, and all later ones; -1 switches it off. */
void memory_fail_after(long count);

/* A growable byte string. data is always NUL-terminated once anything was appended; size leaves the NUL out.
 */
typedef struct Buffer {
  char *data;
  size_t size;
  size_t capacity;
} Buffer;

NODISCARD bool buffer_append(Buffer *buffer, const void *bytes, size_t count, Error *error);
NODISCARD bool buffer_text(Buffer *buffer, const char *text, Error *error);
NODISCARD bool buffer_format(Buffer *buffer, Error *error, const char *format, ...) PRINTF_LIKE(3, 4);
void buffer_clear(Buffer *buffer); /* size 0, memory kept */
void buffer_free(Buffer *buffer);

/* A growable array of int32 (token ids). */
typedef struct IntArray {
  int *data; /* int is 32 bits on every target */
  size_t size;
  size_t capacity;
} IntArray;

NODISCARD bool int_array_push(IntArray *array, int value, Error *error);
NODISCARD bool int_array_append(IntArray *array, const int *values, size_t count, Error *error);
void int_array_free(IntArray *array);

#endif
