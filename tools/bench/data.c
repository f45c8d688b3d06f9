#include "tools/bench/data.h"

#include "base/file.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>
#include <string.h>

/* Short words, which most tokenizers have as one token each. */
static const char *const words[] = {
    "the",    "a",      "one",    "this",   "that",   "every",  "some",  "small",   "large",   "old",
    "new",    "red",    "green",  "quiet",  "early",  "late",   "river", "road",    "house",   "garden",
    "letter", "engine", "table",  "window", "market", "people", "child", "friend",  "teacher", "doctor",
    "sailor", "farmer", "winter", "summer", "finds",  "opens",  "keeps", "brings",  "leaves",  "moves",
    "and",    "but",    "while",  "near",   "under",  "over",   "with",  "between", "after",   "before"};
enum { WORDS = sizeof words / sizeof *words };

static const char *next_word(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
  return words[(*state >> 33) % WORDS];
}

bool words_append(Buffer *out, uint64_t *state, int64_t count, Error *error) {
  bool ok = true;
  for (int64_t i = 0; ok && i < count; i++)
    ok = buffer_format(out, error, "%s%s", i ? " " : "", next_word(state));
  return ok;
}

/* A text of exactly `length` tokens. Words that would make it longer are left, for others to be tried. */
static bool exact_text(const Tokenizer *tokenizer, uint64_t *state, size_t length, Buffer *text,
                       Error *error) {
  IntArray ids = {0};
  bool ok = true;
  buffer_clear(text);
  for (int tries = 0; ok && ids.size != length; tries++) {
    const size_t before = text->size;
    int_array_free(&ids);
    ids = (IntArray){0};
    if (tries == 100 * (int)length) {
      ok = error_set(error, ERROR_MODEL, "the tokenizer makes no %zu tokens of English words", length);
      break;
    }
    ok = buffer_format(text, error, "%s%s", before ? " " : "", next_word(state)) &&
         tokenizer_encode(tokenizer, text->data, text->size, true, &ids, error);
    if (ok && ids.size > length) {
      text->size = before;
      text->data[before] = '\0';
    }
  }
  int_array_free(&ids);
  return ok;
}

bool data_prompts(const char *model, const char *path, int64_t count, int64_t length, Error *error) {
  Tokenizer *tokenizer = tokenizer_open(model, error);
  Buffer text = {0}, lines = {0};
  uint64_t state = 12345;
  bool ok = tokenizer != NULL;
  for (int64_t i = 0; ok && i < count; i++) {
    ok = exact_text(tokenizer, &state, (size_t)length, &text, error) &&
         buffer_format(&lines, error, "{\"prompt\":\"%s\"}\n", text.data);
  }
  ok = ok && file_write_text(path, lines.data, error);
  buffer_free(&text);
  buffer_free(&lines);
  tokenizer_free(tokenizer);
  return ok;
}

/* Appends ,"KEY":"WORDS" or the first of a record. */
static bool field(Buffer *lines, const char *key, uint64_t *state, int64_t count, Error *error) {
  const bool first = lines->size == 0 || lines->data[lines->size - 1] == '\n';
  return buffer_format(lines, error, "%s\"%s\":\"", first ? "{" : ",", key) &&
         words_append(lines, state, count, error) && buffer_text(lines, "\"", error);
}

bool data_texts(const char *path, Error *error) {
  Buffer lines = {0};
  uint64_t state = 12345;
  const bool ok = field(&lines, "text", &state, 12000, error) && buffer_text(&lines, "}\n", error) &&
                  file_write_text(path, lines.data, error);
  buffer_free(&lines);
  return ok;
}

bool data_pairs(const char *path, int64_t count, int64_t length, Error *error) {
  Buffer lines = {0};
  uint64_t state = 12345;
  bool ok = true;
  for (int64_t i = 0; ok && i < count; i++) {
    ok = field(&lines, "prompt", &state, length, error) &&
         field(&lines, "chosen", &state, length / 4, error) &&
         field(&lines, "rejected", &state, length / 4, error) && buffer_text(&lines, "}\n", error);
  }
  ok = ok && file_write_text(path, lines.data, error);
  buffer_free(&lines);
  return ok;
}
