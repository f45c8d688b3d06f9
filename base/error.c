#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a message is made in: room for a few of the longest paths. */
enum { DRAFT = 16384, SHORTEST_CUT = 64 };

/* Takes `excess` bytes and what the dots need out of the middle of text[begin, end), never half a character of UTF-8.
 */
static void cut_middle(char *text, size_t begin, size_t end, size_t excess) {
  static const char dots[] = "...";
  const size_t kept = end - begin - excess - (sizeof dots - 1);
  size_t left = begin + kept / 2, right = end - (kept - kept / 2);
  while (left > begin && ((unsigned char)text[left] & 0xc0) == 0x80) left--;
  while (right < end && ((unsigned char)text[right] & 0xc0) == 0x80) right++;
  memcpy(text + left, dots, sizeof dots - 1);
  memmove(text + left + sizeof dots - 1, text + right, strlen(text + right) + 1);
}

/* The longest stretch without a blank: in what people read, a path. */
static size_t longest_word(const char *text, size_t *begin) {
  size_t longest = 0;
  for (size_t at = 0; text[at]; at++) {
    const size_t length = strcspn(text + at, " \n");
    if (length > longest) {
      longest = length;
      *begin = at;
    }
    at += length;
    if (!text[at]) break;
  }
  return longest;
}

/* The reason stands at the end of a message and what it is about at the beginning, so what does not fit is taken from
 * the middle: of long paths, the longest first, and only then of the message. */
static void keep_message(Error *error, char *text) {
  const size_t most = sizeof error->message - 1;
  size_t length;
  while ((length = strlen(text)) > most) {
    size_t begin = 0, word = longest_word(text, &begin), excess = length - most;
    if (word <= SHORTEST_CUT) {
      cut_middle(text, 0, length, excess);
      continue;
    }
    const size_t spare = word - SHORTEST_CUT;
    cut_middle(text, begin, begin + word, excess < spare ? excess : spare);
  }
  memcpy(error->message, text, length + 1);
}

bool error_set(Error *error, ErrorCode code, const char *format, ...) {
  if (!error || error->code != ERROR_NONE) return false;
  char text[DRAFT];
  error->code = code;
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length < 0) text[0] = '\0';
  keep_message(error, text);
  return false;
}

bool error_context(Error *error, const char *format, ...) {
  if (!error || error->code == ERROR_NONE) return false;
  char text[DRAFT];
  const size_t room = sizeof text - sizeof error->message - 2;
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(text, room, format, arguments);
  va_end(arguments);
  if (length < 0) return false;
  strcat(text, ": ");
  strcat(text, error->message);
  keep_message(error, text);
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
