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

static const char hub[] = "https://huggingface.co/", hub_data[] = "datasets/";

/* `at` is what stands behind the hub's address: OWNER/NAME, and perhaps a page of it. */
static void hub_hint(const char *at, char *text, size_t size) {
  const bool data = strncmp(at, hub_data, strlen(hub_data)) == 0;
  if (data) at += strlen(hub_data);
  const char *slash = strchr(at, '/');
  const int length = (int)(slash ? (size_t)(slash - at) + 1 + strcspn(slash + 1, "/") : strlen(at));
  snprintf(text, size, "; nothing is downloaded: hf download%s %.*s fetches it%s",
           data ? " --type dataset" : "", length, at, data ? "" : ", then that name is enough");
}

void path_hint(const char *path, char *text, unsigned size) {
  const size_t used = strlen(text);
  char *near = path_nearest(path);
  if (near) {
    snprintf(text + used, size - used, "; did you mean %s?", near);
  } else if (path[0] == '~') {
    snprintf(text + used, size - used, "; ~ stands for the home directory on a command line alone");
  } else if (strncmp(path, hub, strlen(hub)) == 0) {
    hub_hint(path + strlen(hub), text + used, size - used);
  } else if (strstr(path, "://")) {
    snprintf(text + used, size - used, "; nothing is downloaded: fetch it first");
  } else if (strchr(path, '$')) {
    snprintf(text + used, size - used, "; $ stands for a variable on a command line alone");
  } else if (strpbrk(path, "*?[")) {
    snprintf(text + used, size - used,
             "; patterns are the shell's: give a directory, or the files with commas between them");
  } else if (strchr(path, ' ')) {
    snprintf(text + used, size - used, "; several are separated by commas");
  }
  memory_free(near);
}
