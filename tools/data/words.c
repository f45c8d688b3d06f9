#include "tools/data/words.h"

#include "base/digest.h"
#include "tools/data/scripts.h"

const char *const folding_names[] = {"none", "space", "full", NULL};

/* ---- Folding --------------------------------------------------------------------------------------- */

bool folder_init(Folder *folder, Error *error) {
  *folder = (Folder){0};
  json_t *value = json_pack("{s:s,s:[{s:s},{s:s}]}", "type", "Sequence", "normalizers", "type", "NFC", "type",
                            "Lowercase");
  if (!value) return error_out_of_memory(error, "normaliser", 0);
  const Reader reader = reader_top("fold", value);
  const bool ok = normalizer_init(&folder->steps, &reader, error);
  json_decref(value);
  return ok;
}

void folder_free(Folder *folder) {
  normalizer_free(&folder->steps);
  text_free(&folder->text);
  text_free(&folder->spare);
  *folder = (Folder){0};
}

static bool is_ascii(const char *text, size_t bytes) {
  unsigned char all = 0;
  for (size_t i = 0; i < bytes; i++) all |= (unsigned char)text[i];
  return all < 0x80;
}

/* Runs of white space become one space, in place; returns the new length. */
static size_t squeeze(char *text, size_t bytes) {
  size_t to = 0;
  bool space = false;
  for (size_t at = 0; at < bytes;) {
    const size_t from = at;
    if (char_is_space(utf8_next(text, &at))) {
      space = to > 0;
      continue;
    }
    if (space) text[to++] = ' ';
    space = false;
    memmove(text + to, text + from, at - from);
    to += at - from;
  }
  return to;
}

/* Without a branch for each byte: where words end cannot be foretold. */
static size_t squeeze_ascii(char *text, size_t bytes, bool lower) {
  size_t to = 0;
  bool after_space = true; /* none at the beginning */
  for (size_t at = 0; at < bytes; at++) {
    const unsigned c = (unsigned char)text[at];
    const bool space = (c == ' ') | (c - '\t' < 5u), capital = lower & (c - 'A' < 26u);
    text[to] = (char)(space ? ' ' : c + (capital ? 32 : 0));
    to += !(space & after_space);
    after_space = space;
  }
  return to > 0 && text[to - 1] == ' ' ? to - 1 : to;
}

bool folder_fold(Folder *folder, Folding folding, const char *text, size_t bytes, Buffer *out, Error *error) {
  const size_t before = out->size;
  if (folding == FOLDING_NONE) return buffer_append(out, text, bytes, error);
  const bool ascii = is_ascii(text, bytes);
  if (ascii || folding == FOLDING_SPACE) {
    if (!buffer_append(out, text, bytes, error)) return false;
  } else {
    folder->text.size = 0;
    if (!text_append(&folder->text, text, bytes, (TokenSpan){0, 0}, error) ||
        !normalizer_apply(&folder->steps, &folder->text, &folder->spare, NULL, error) ||
        !buffer_append(out, folder->text.data, folder->text.size, error))
      return false;
  }
  char *added = out->data + before;
  const size_t count = out->size - before;
  out->size = before + (ascii ? squeeze_ascii(added, count, folding == FOLDING_FULL) : squeeze(added, count));
  out->data[out->size] = '\0';
  return true;
}

/* ---- Words ----------------------------------------------------------------------------------------- */

bool unit_array_push(UnitArray *array, uint32_t unit, Error *error) {
  if (array->size == array->capacity) {
    const size_t capacity = array->capacity ? 2 * array->capacity : 256;
    uint32_t *data = memory_resize(array->data, capacity * sizeof *data);
    if (!data) return error_out_of_memory(error, "words of a record", capacity * sizeof *data);
    array->data = data;
    array->capacity = capacity;
  }
  array->data[array->size++] = unit;
  return true;
}

void unit_array_free(UnitArray *array) {
  memory_free(array->data);
  *array = (UnitArray){0};
}

typedef enum Part { PART_SPACE, PART_WORD, PART_ALONE, PART_SIGN } Part;

static Part part_of(uint32_t c) {
  if (c < 0x80) {
    const uint32_t letter = c | 0x20;
    if ((letter >= 'a' && letter <= 'z') || (c >= '0' && c <= '9') || c == '_') return PART_WORD;
    return c <= ' ' || c == 0x7f ? PART_SPACE : PART_SIGN;
  }
  if (char_is_word(c)) return script_has_no_spaces(script_of(c)) ? PART_ALONE : PART_WORD;
  return char_is_space(c) ? PART_SPACE : PART_SIGN;
}

bool words_cut(Words *words, const char *folded, size_t bytes, Error *error) {
  words->units.size = words->begin.size = words->end.size = words->signed_units.size = 0;
  for (size_t at = 0; at < bytes;) {
    const size_t from = at;
    const Part part = part_of(utf8_next(folded, &at));
    if (part == PART_SPACE) continue;
    for (size_t next = at; part == PART_WORD && at < bytes; at = next) {
      if (part_of(utf8_next(folded, &next)) != PART_WORD) break;
    }
    const uint32_t unit = (uint32_t)bytes_hash_seeded(folded + from, at - from, 0);
    if (!unit_array_push(&words->signed_units, unit, error)) return false;
    if (part == PART_SIGN) continue;
    if (!unit_array_push(&words->units, unit, error) ||
        !unit_array_push(&words->begin, (uint32_t)from, error) ||
        !unit_array_push(&words->end, (uint32_t)at, error))
      return false;
  }
  return true;
}

bool characters_cut(UnitArray *out, const char *folded, size_t bytes, Error *error) {
  out->size = 0;
  for (size_t at = 0; at < bytes;) {
    const uint32_t c = utf8_next(folded, &at);
    if (c != ' ' && !unit_array_push(out, c, error)) return false;
  }
  return true;
}

void words_free(Words *words) {
  unit_array_free(&words->units);
  unit_array_free(&words->begin);
  unit_array_free(&words->end);
  unit_array_free(&words->signed_units);
}
