/* A folder for the files of one test, under TMPDIR. */
#ifndef TESTS_TEMPORARY_H
#define TESTS_TEMPORARY_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

typedef struct Temporary {
  char directory[256];
  char path[512]; /* the answer of temporary_path */
} Temporary;

static inline void temporary_open(Temporary *temporary) {
  const char *root = getenv("TMPDIR");
  snprintf(temporary->directory, sizeof temporary->directory, "%s/drover-test-XXXXXX",
           root && *root ? root : "/tmp");
  if (!mkdtemp(temporary->directory)) {
    perror(temporary->directory);
    abort();
  }
}

/* Path of a file in the folder; valid until the next call. */
static inline const char *temporary_path(Temporary *temporary, const char *name) {
  snprintf(temporary->path, sizeof temporary->path, "%s/%s", temporary->directory, name);
  return temporary->path;
}

static inline void temporary_close(Temporary *temporary) {
  Error error = {0};
  if (!directory_remove_all(temporary->directory, &error)) fprintf(stderr, "%s\n", error.message);
}

#endif
