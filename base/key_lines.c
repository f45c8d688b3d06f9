#include "base/key_lines.h"

#include <stdio.h>
#include <string.h>

bool key_lines_add(KeyLines *lines, const char *key, int line, Error *error) {
  KeyLine *items = memory_resize(lines->items, (lines->count + 1) * sizeof *items);
  if (items) lines->items = items;
  char *copy = items ? memory_copy_string(key) : NULL;
  if (!copy) return error_out_of_memory(error, "lines of keys", (lines->count + 1) * sizeof *items);
  items[lines->count++] = (KeyLine){.key = copy, .line = line};
  return true;
}

int key_lines_find(const KeyLines *lines, const char *key) {
  for (size_t i = 0; i < lines->count; i++) {
    if (strcmp(lines->items[i].key, key) == 0) return lines->items[i].line;
  }
  return 0;
}

void key_lines_free(KeyLines *lines) {
  for (size_t i = 0; i < lines->count; i++) memory_free(lines->items[i].key);
  memory_free(lines->items);
  *lines = (KeyLines){0};
}

size_t key_path_length(const KeyPath *path) {
  return strlen(path->text);
}

void key_path_member(KeyPath *path, size_t length, const char *name) {
  snprintf(path->text + length, sizeof path->text - length, "%s%s", length ? "." : "", name);
}

void key_path_element(KeyPath *path, size_t length, size_t index) {
  snprintf(path->text + length, sizeof path->text - length, "[%zu]", index);
}
