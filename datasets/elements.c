#include "datasets/elements.h"

#include <ctype.h>
#include <string.h>

static bool fail_here(const LineReader *reader, const char *message, Error *error) {
  return error_set(error, ERROR_DATA, "%s:%llu:%zu: %s", reader->path, (unsigned long long)reader->row,
                   reader->column, message);
}

/* Steps over `count` bytes of the block. */
static void pass(LineReader *reader, size_t count) {
  const char *from = reader->block + reader->at, *end = from + count, *newline;
  reader->at += count;
  reader->column += count;
  for (; (newline = memchr(from, '\n', (size_t)(end - from))); from = newline + 1) {
    reader->row++;
    reader->column = 1 + (size_t)(end - newline - 1);
  }
}

/* The next byte that is no white space, not stepped over; *ended: there is none. */
static bool next_byte(LineReader *reader, char *byte, bool *ended, Error *error) {
  for (;;) {
    if (!line_reader_fill(reader, ended, error)) return false;
    if (*ended) return true;
    *byte = reader->block[reader->at];
    if (*byte != ' ' && *byte != '\t' && *byte != '\r' && *byte != '\n') return true;
    pass(reader, 1);
  }
}

/* Where in an element the reading stands, from one block to the next. */
typedef struct Scan {
  size_t depth;
  bool in_text, escaped, done;
} Scan;

/* The bytes of a text from `at` up to and over its end, or an escape; all there are when neither comes. */
static size_t text_span(Scan *scan, const char *at, size_t size) {
  const char *quote = memchr(at, '"', size);
  const size_t most = quote ? (size_t)(quote - at) : size;
  const char *escape = memchr(at, '\\', most);
  if (!escape && !quote) return size;
  if (escape) {
    scan->escaped = true;
    return (size_t)(escape - at) + 1;
  }
  scan->in_text = false;
  scan->done = scan->depth == 0;
  return most + 1;
}

/* Looks at the bytes of the block and returns how many belong to the element. */
static size_t scan_block(Scan *scan, const char *text, size_t size) {
  size_t i = 0;
  while (i < size && !scan->done) {
    const char c = text[i];
    if (scan->escaped) {
      scan->escaped = false;
    } else if (scan->in_text) {
      i += text_span(scan, text + i, size - i);
      continue;
    } else if (c == '"') {
      scan->in_text = true;
    } else if (c == '{' || c == '[') {
      scan->depth++;
    } else if (scan->depth == 0 && (c == ',' || c == ']' || c == '}' || isspace((unsigned char)c))) {
      scan->done = true; /* after a number or a word */
      break;
    } else if (c == '}' || c == ']') {
      scan->done = --scan->depth == 0;
    }
    i++;
  }
  return i;
}

static bool read_element(LineReader *reader, Error *error) {
  Scan scan = {0};
  buffer_clear(&reader->line);
  reader->number = reader->row;
  reader->first_column = reader->column;
  while (!scan.done) {
    bool ended;
    if (!line_reader_fill(reader, &ended, error)) return false;
    if (ended) {
      return error_set(error, ERROR_DATA, "%s:%llu: the file ends within the record that begins here",
                       reader->path, (unsigned long long)reader->number);
    }
    const size_t count = scan_block(&scan, reader->block + reader->at, reader->end - reader->at);
    if (!line_reader_keep(reader, count, "a record", error)) return false;
    pass(reader, count);
  }
  return true;
}

/* After the closing bracket. */
static bool finish(LineReader *reader, Error *error) {
  char byte;
  bool ended;
  pass(reader, 1);
  if (!next_byte(reader, &byte, &ended, error)) return false;
  return ended || fail_here(reader, "expected nothing after the end of the list", error);
}

bool element_next(LineReader *reader, bool *found, Error *error) {
  char byte;
  bool ended;
  *found = false;
  if (reader->items == 0) pass(reader, 1); /* the opening bracket */
  if (!next_byte(reader, &byte, &ended, error)) return false;
  if (!ended && byte == ']') return finish(reader, error);
  if (!ended && reader->items > 0) {
    if (byte != ',')
      return fail_here(reader, "expected a comma or the end of the list after a record", error);
    pass(reader, 1);
    if (!next_byte(reader, &byte, &ended, error)) return false;
  }
  if (ended) return fail_here(reader, "the file ends within its list: expected ]", error);
  if (byte == ',' || byte == ']' || byte == '}') return fail_here(reader, "expected a record", error);
  reader->items++;
  *found = true;
  return read_element(reader, error);
}
