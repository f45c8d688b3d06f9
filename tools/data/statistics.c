#include "tools/data/statistics.h"

#include "base/digest.h"

#include <string.h>

bool statistics_init(Statistics *statistics, const Tokenizer *tokenizer, int n, Error *error) {
  *statistics = (Statistics){.tokenizer = tokenizer, .n = n};
  return frequent_init(&statistics->grams, error) && frequent_init(&statistics->prompts, error) &&
         frequent_init(&statistics->answers, error);
}

void statistics_free(Statistics *statistics) {
  frequent_free(&statistics->grams);
  frequent_free(&statistics->prompts);
  frequent_free(&statistics->answers);
  int_array_free(&statistics->ids);
}

static uint64_t count_characters(const Buffer *text) {
  uint64_t count = 0;
  for (size_t i = 0; i < text->size; i++) count += ((unsigned char)text->data[i] & 0xc0) != 0x80;
  return count;
}

static bool add_tokens(Statistics *statistics, const RecordText *text, Error *error) {
  IntArray *ids = &statistics->ids;
  ids->size = 0;
  if (!tokenizer_encode(statistics->tokenizer, text->prompt.data ? text->prompt.data : "", text->prompt.size,
                        false, ids, error) ||
      !tokenizer_encode(statistics->tokenizer, text->answer.data ? text->answer.data : "", text->answer.size,
                        false, ids, error))
    return false;
  lengths_add(&statistics->tokens, ids->size);
  return true;
}

static void add_scripts(Statistics *statistics, const RecordText *text) {
  ScriptTally tally = {0};
  scripts_count(&tally, text->prompt.data, text->prompt.size);
  scripts_count(&tally, text->answer.data, text->answer.size);
  for (Script script = 0; script < SCRIPT_COUNT; script++)
    statistics->scripts.characters[script] += tally.characters[script];
  statistics->records_of[scripts_main(&tally)]++;
}

/* Up to the first newline, or the first mark that ends a sentence before a space or the end. */
static size_t sentence_end(const char *text, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    const uint32_t c = utf8_next(text, &at);
    if (c == '\n') return at - 1;
    if (c == 0x3002 || c == 0xff01 || c == 0xff1f) return at; /* those of Chinese and Japanese */
    if ((c == '.' || c == '!' || c == '?') && (at == bytes || text[at] == ' ' || text[at] == '\n')) return at;
  }
  return bytes;
}

static bool add_sentence(Frequent *frequent, const Buffer *text, Error *error) {
  size_t begin = 0;
  while (begin < text->size && strchr(" \t\r\n", text->data[begin]) && text->data[begin]) begin++;
  if (begin == text->size) return true;
  const char *from = text->data + begin;
  const size_t bytes = sentence_end(from, text->size - begin);
  return frequent_add(frequent, bytes_hash_seeded(from, bytes, 0), from, bytes, error);
}

static bool add_grams(Statistics *statistics, const char *folded, const Words *words, Error *error) {
  enum { AHEAD = 16 };
  uint64_t hashes[AHEAD];
  const size_t n = (size_t)statistics->n, count = words->units.size < n ? 0 : words->units.size - n + 1;
  bool ok = true;
  for (size_t i = 0; ok && i < count + AHEAD; i++) {
    const size_t late = i - AHEAD;
    if (i >= AHEAD && late < count) {
      const uint32_t begin = words->begin.data[late], end = words->end.data[late + n - 1];
      ok = frequent_add(&statistics->grams, hashes[late % AHEAD], folded + begin, end - begin, error);
    }
    if (i >= count) continue;
    hashes[i % AHEAD] = bytes_hash_seeded(words->units.data + i, n * sizeof(uint32_t), 0);
    frequent_expect(&statistics->grams, hashes[i % AHEAD]);
  }
  return ok;
}

bool statistics_add(Statistics *statistics, const RecordText *text, const char *folded, const Words *words,
                    Error *error) {
  statistics->records++;
  statistics->without_answer += !text->answered;
  statistics->empty_answers += text->empty_answer;
  statistics->empty_prompts += text->prompt.size == 0;
  if (text->prompt.size) lengths_add(&statistics->prompt_characters, count_characters(&text->prompt));
  if (text->answered) lengths_add(&statistics->answer_characters, count_characters(&text->answer));
  lengths_add(&statistics->words, words->units.size);
  add_scripts(statistics, text);
  return (!statistics->tokenizer || add_tokens(statistics, text, error)) &&
         add_grams(statistics, folded, words, error) &&
         add_sentence(&statistics->prompts, &text->prompt, error) &&
         add_sentence(&statistics->answers, &text->answer, error);
}

void statistics_finish(Statistics *statistics) {
  frequent_finish(&statistics->grams);
  frequent_finish(&statistics->prompts);
  frequent_finish(&statistics->answers);
}
