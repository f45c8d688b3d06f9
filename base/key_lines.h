/* In which lines of a file its keys stand: "optim.lr", "stages[1].config.optim.lr". */
#ifndef BASE_KEY_LINES_H
#define BASE_KEY_LINES_H

#include "base/memory.h"

typedef struct KeyLine {
  char *key;
  int line; /* from 1 on */
} KeyLine;

typedef struct KeyLines {
  KeyLine *items;
  size_t count;
} KeyLines;

NODISCARD bool key_lines_add(KeyLines *lines, const char *key, int line, Error *error);
int key_lines_find(const KeyLines *lines, const char *key); /* 0: there is none of that name */
void key_lines_free(KeyLines *lines);

/* A key on the way down, "a.b[2]": what stands behind `length` is cut off, and the next part put there. Longer ones lose their ends. */
enum { KEY_PATH_SIZE = 512 };
typedef struct KeyPath {
  char text[KEY_PATH_SIZE];
} KeyPath;
size_t key_path_length(const KeyPath *path);
void key_path_member(KeyPath *path, size_t length, const char *name);
void key_path_element(KeyPath *path, size_t length, size_t index);

#endif
