#include "base/path_hint.h"

#include "base/file.h"
#include "base/option.h"

#include <stdio.h>
#include <string.h>

char *path_nearest(const char *path) {
  StringList names = {0};
  Error ignored = {0};
  char *parent = path_parent(path), *found = NULL;
  const bool listed = parent && directory_exists(parent) && directory_list(parent, &names, &ignored);
  const char *near =
      listed ? nearest_name(path_name(path), (const char *const *)names.items, names.count) : NULL;
  const bool bare = near && strcmp(parent, ".") == 0 && path[0] != '.';
  if (near) found = bare ? memory_copy_string(near) : path_join(parent, near);
  string_list_free(&names);
  memory_free(parent);
  return found;
}

void path_hint(const char *path, char *text, unsigned size) {
  const size_t used = strlen(text);
  char *near = path_nearest(path);
  if (near) {
    snprintf(text + used, size - used, "; did you mean %s?", near);
  } else if (path[0] == '~') {
    snprintf(text + used, size - used, "; ~ stands for the home directory on a command line alone");
  } else if (strstr(path, "://")) {
    snprintf(text + used, size - used, "; nothing is downloaded: fetch it first");
  } else if (strpbrk(path, "*?[")) {
    snprintf(text + used, size - used,
             "; patterns are the shell's: give a directory, or the files with commas between them");
  } else if (strchr(path, ' ')) {
    snprintf(text + used, size - used, "; several are separated by commas");
  }
  memory_free(near);
}
