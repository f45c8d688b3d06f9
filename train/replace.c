#include "train/replace.h"

#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool move(const char *from, const char *to, Error *error) {
  if (rename(from, to) == 0) return true;
  return error_set(error, ERROR_FILE, "cannot rename %s to %s: %s", from, to, strerror(errno));
}

bool directory_replace(const char *ready, const char *place, Error *error) {
  char *former = memory_format("%s.former", place), *parent = path_parent(place);
  bool ok = (former && parent) || error_out_of_memory(error, "path", strlen(place));
  ok = ok && directory_sync(ready, error) && directory_remove_all(former, error);
  if (ok && (directory_exists(place) || file_exists(place))) ok = move(place, former, error);
  ok =
      ok && move(ready, place, error) && directory_sync(parent, error) && directory_remove_all(former, error);
  memory_free(former);
  memory_free(parent);
  return ok;
}
