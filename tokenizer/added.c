#include "tokenizer/added.h"

#include "base/memory.h"
#include "tokenizer/text.h"

#include <stdlib.h>
#include <string.h>

static int by_first_byte_then_longest(const void *left, const void *right) {
  const AddedToken *a = *(const AddedToken *const *)left, *b = *(const AddedToken *const *)right;
  int first = (unsigned char)a->pattern[0] - (unsigned char)b->pattern[0];
  if (first != 0) return first;
  if (a->pattern_bytes != b->pattern_bytes) return a->pattern_bytes < b->pattern_bytes ? 1 : -1;
  return memcmp(a->pattern, b->pattern, a->pattern_bytes);
}

bool added_set_init(AddedSet *set, const AddedToken *tokens, size_t count, bool normalized, Error *error) {
  *set = (AddedSet){0};
  set->tokens = memory_alloc((count + 1) * sizeof *set->tokens);
  if (!set->tokens) return error_out_of_memory(error, "added tokens", count * sizeof *set->tokens);
  size_t used = 0;
  for (size_t i = 0; i < count; i++)
    if (tokens[i].normalized == normalized && tokens[i].pattern_bytes > 0) set->tokens[used++] = &tokens[i];
  qsort(set->tokens, used, sizeof *set->tokens, by_first_byte_then_longest);
  for (size_t byte = 0, at = 0; byte <= 256; byte++) {
    while (at < used && (unsigned char)set->tokens[at]->pattern[0] < byte) at++;
    set->first[byte] = (uint32_t)at;
  }
  return true;
}

void added_set_free(AddedSet *set) {
  memory_free(set->tokens);
  *set = (AddedSet){0};
}

static const AddedToken *match_at(const AddedSet *set, const char *text, size_t bytes) {
  unsigned char first = (unsigned char)text[0];
  for (uint32_t i = set->first[first]; i < set->first[first + 1]; i++) {
    const AddedToken *token = set->tokens[i];
    if (token->pattern_bytes <= bytes && memcmp(text, token->pattern, token->pattern_bytes) == 0)
      return token;
  }
  return NULL;
}

static bool stands_alone(const char *text, size_t bytes, size_t begin, size_t end) {
  if (begin > 0) {
    size_t at = utf8_previous(text, begin);
    if (char_is_word(utf8_next(text, &at))) return false;
  }
  return end == bytes || !char_is_word(utf8_next(text, &end));
}

static size_t space_before(const char *text, size_t begin) {
  while (begin > 0) {
    size_t previous = utf8_previous(text, begin), at = previous;
    if (!char_is_space(utf8_next(text, &at))) break;
    begin = previous;
  }
  return begin;
}

static size_t space_after(const char *text, size_t bytes, size_t end) {
  while (end < bytes) {
    size_t at = end;
    if (!char_is_space(utf8_next(text, &at))) break;
    end = at;
  }
  return end;
}

static bool push(AddedParts *parts, AddedPart part, Error *error) {
  if (part.begin == part.end) return true;
  if (parts->size == parts->capacity) {
    size_t capacity = parts->capacity * 2 + 16;
    AddedPart *data = memory_resize(parts->data, capacity * sizeof *data);
    if (!data) return error_out_of_memory(error, "parts of a text", capacity * sizeof *data);
    parts->data = data;
    parts->capacity = capacity;
  }
  parts->data[parts->size++] = part;
  return true;
}

bool added_split(const AddedSet *set, const char *text, size_t bytes, AddedParts *parts, Error *error) {
  parts->size = 0;
  size_t done = 0; /* text before it is in parts */
  for (size_t at = 0; at < bytes;) {
    const AddedToken *token = match_at(set, text + at, bytes - at);
    if (!token) {
      at++;
      continue;
    }
    size_t begin = at, end = at + token->pattern_bytes;
    at = end; /* the search goes on after the match itself, even where rstrip takes more */
    if (token->single_word && !stands_alone(text, bytes, begin, end)) continue;
    if (token->lstrip) begin = space_before(text, begin);
    if (begin < done) begin = done;
    if (token->rstrip) end = space_after(text, bytes, end);
    if (end < begin) end = begin;
    if (!push(parts, (AddedPart){done, begin, NULL}, error)) return false;
    if (!push(parts, (AddedPart){begin, end, token}, error)) return false;
    done = end;
  }
  return push(parts, (AddedPart){done, bytes, NULL}, error);
}

void added_parts_free(AddedParts *parts) {
  memory_free(parts->data);
  *parts = (AddedParts){0};
}
