#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool error_set(Error *error, ErrorCode code, const char *format, ...) {
  if (!error || error->code != ERROR_NONE) return false;
  error->code = code;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return false;
}

bool error_context(Error *error, const char *format, ...) {
  if (!error || error->code == ERROR_NONE) return false;
  char prefix[sizeof error->message];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(prefix, sizeof prefix - 2, format, arguments);
  va_end(arguments);
  if (length < 0) return false;
  strcat(prefix, ": ");
  /* A message too long for both keeps its beginning: what was being done, and the first words of why. */
  size_t used = strlen(prefix), kept = strlen(error->message);
  if (kept > sizeof error->message - 1 - used) kept = sizeof error->message - 1 - used;
  memmove(error->message + used, error->message, kept);
  memcpy(error->message, prefix, used);
  error->message[used + kept] = '\0';
  return false;
}

bool error_out_of_memory(Error *error, const char *what, unsigned long long bytes) {
  return error_set(error, ERROR_MEMORY, "out of memory: %s (%llu bytes)", what, bytes);
}

void assert_failed(const char *file, int line, const char *condition) {
  fflush(stdout);
  fprintf(stderr, "\n%s:%d: a rule of the program was broken: %s\n", file, line, condition);
  abort();
}
