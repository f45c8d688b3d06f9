/* Parts of tokenizers by themselves: base64, the prefix tree, charsmaps that lie, texts that are one long piece. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base64.h"
#include "base/random.h"
#include "tests/temporary.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/trie.h"

#include <time.h>

/* RFC 4648, section 10. */
static void base64_is_read(void **state) {
  (void)state;
  static const char *const good[][2] = {{"", ""},
                                        {"Zg==", "f"},
                                        {"Zm8=", "fo"},
                                        {"Zm9v", "foo"},
                                        {"Zm9vYg==", "foob"},
                                        {"Zm9vYmE=", "fooba"},
                                        {"Zm9vYmFy", "foobar"},
                                        {"+/+/", "\xfb\xff\xbf"}};
  static const char *const bad[] = {
      "Zg", "Zg=", "Zg===", "Z===", "====", "Zh==", "Zm9=", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm-_"};
  Buffer out = {0};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    Error error = {0};
    buffer_clear(&out);
    assert_true(base64_decode(good[i][0], strlen(good[i][0]), &out, &error));
    assert_int_equal(out.size, strlen(good[i][1]));
    if (out.size > 0) assert_memory_equal(out.data, good[i][1], out.size);
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    Error error = {0};
    assert_false(base64_decode(bad[i], strlen(bad[i]), &out, &error));
    assert_int_equal(error.code, ERROR_MODEL);
  }
  buffer_free(&out);
}

/* The value of the key that is text[0..bytes), by walking the tree. */
static int walk(const Trie *trie, const char *text, size_t bytes) {
  uint32_t node = 0;
  for (size_t i = 0; i < bytes; i++) {
    node = trie_child(trie, node, (uint8_t)text[i]);
    if (node == 0) return -1;
  }
  return trie->nodes[node].value;
}

static void every_key_is_found_and_nothing_else(void **state) {
  (void)state;
  enum { KEYS = 3000, TRIES = 20000, LONGEST = 7 };
  static char texts[KEYS][LONGEST];
  static const char pool[] = "ab\xc3\xa9\xff";
  TrieKey keys[KEYS], sorted[KEYS];
  RandomKey random = random_key(9, RANDOM_TEST);
  for (uint64_t i = 0; i < KEYS; i++) {
    uint32_t bytes = 1 + random_below(random, i, 0, LONGEST);
    for (uint32_t k = 0; k < bytes; k++) texts[i][k] = pool[random_below(random, i, k + 1, sizeof pool - 1)];
    sorted[i] = keys[i] = (TrieKey){texts[i], bytes, (int)i};
  }
  Trie trie;
  Error error = {0};
  assert_true(trie_init(&trie, sorted, KEYS, &error));
  for (uint64_t i = 0; i < TRIES; i++) {
    char text[LONGEST];
    uint32_t bytes = 1 + random_below(random, i, 20, LONGEST);
    for (uint32_t k = 0; k < bytes; k++) text[k] = pool[random_below(random, i, k + 21, sizeof pool - 1)];
    int expected = -1; /* of equal keys the last */
    for (int key = 0; key < KEYS; key++)
      if (keys[key].bytes == bytes && memcmp(keys[key].text, text, bytes) == 0) expected = key;
    assert_int_equal(walk(&trie, text, bytes), expected);
  }
  trie_free(&trie);
  assert_true(trie_init(&trie, sorted, 0, &error));
  assert_int_equal(walk(&trie, "a", 1), -1);
  trie_free(&trie);
}

/* Tries that lead outside, replacements behind the end: no map of random numbers reads beyond itself, and what comes out is UTF-8. */
static void charsmaps_may_lie(void **state) {
  (void)state;
  enum { ROUNDS = 4000, UNITS = 256 };
  RandomKey random = random_key(10, RANDOM_TEST);
  Text in = {0}, out = {0};
  Error error = {0};
  static const char text[] = "a\r\nb\xc3\xa9\xcc\x81 \xf0\x9f\x91\x8d\xe2\x80\x8d\x01";
  assert_true(text_append_input(&in, text, sizeof text - 1, &error));
  for (uint64_t round = 0; round < ROUNDS; round++) {
    uint32_t words[UNITS + 2] = {4 * UNITS};
    for (uint32_t i = 1; i <= UNITS;
         i++) { /* small distances, plausible bytes and leaves, so that walks go far */
      uint32_t any = random_below(random, round, i, 1u << 20);
      words[i] = (any & 0x1ff) | (any >> 9 & 0x7f) << 10 | (any % 97 == 0 ? 1u << 31 : 0);
    }
    memcpy(&words[UNITS + 1], "x\0\xc3\xa9", 4);
    Charsmap *map = charsmap_open((const char *)words, sizeof words, &error);
    assert_non_null(map);
    out.size = 0;
    assert_true(charsmap_append(map, &in, &out, &error));
    size_t skip;
    assert_int_equal(utf8_valid_prefix(out.data, out.size, &skip), out.size);
    charsmap_free(map);
  }
  text_free(&in);
  text_free(&out);
}

/* ---- long pieces ---- */

static Tokenizer *open_text(const char *json) {
  Temporary t;
  Error error = {0};
  temporary_open(&t);
  FILE *file = fopen(temporary_path(&t, "tokenizer.json"), "w");
  assert_non_null(file);
  fputs(json, file);
  assert_int_equal(fclose(file), 0);
  Tokenizer *tokenizer = tokenizer_open(t.directory, &error);
  if (!tokenizer) fail_msg("%s", error.message);
  temporary_close(&t);
  return tokenizer;
}

/* Tokens of a text of `count` times the same, which must take no time to speak of. */
static size_t tokens_of(const char *json, const char *unit, size_t count) {
  Tokenizer *tokenizer = open_text(json);
  Error error = {0};
  Buffer text = {0};
  IntArray ids = {0};
  for (size_t i = 0; i < count; i++) assert_true(buffer_text(&text, unit, &error));
  clock_t begin = clock();
  assert_true(tokenizer_encode(tokenizer, text.data, text.size, false, &ids, &error));
  assert_true((double)(clock() - begin) / CLOCKS_PER_SEC < 5);
  size_t size = ids.size;
  int_array_free(&ids);
  buffer_free(&text);
  tokenizer_free(tokenizer);
  return size;
}

static void long_pieces_take_no_time(void **state) {
  (void)state;
  static const char unigram[] =
      "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1],[\"aaaa\",-2]]}}";
  static const char words[] =
      "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"#\","
      "\"max_input_chars_per_word\":10000000,\"vocab\":{\"u\":0,\"a\":1,\"#aa\":2,\"#aaaaaaaa\":3}}}";
  enum { COUNT = 1000000 };
  assert_int_equal(tokens_of(unigram, "a", COUNT), COUNT / 4);
  assert_int_equal(tokens_of(unigram, "b", COUNT), 1);
  assert_int_equal(tokens_of(words, "a", COUNT + 1), 1 + COUNT / 8);
  assert_int_equal(tokens_of(words, "a", COUNT), 1); /* one is left over: unknown as a whole */
}

/* Without an unknown token a text that needs one is refused, and others are not. */
static void an_unknown_token_may_be_missing(void **state) {
  (void)state;
  static const char *const models[] = {
      "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}}",
      "{\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"u\",\"vocab\":{\"a\":0}}}",
      "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"continuing_subword_prefix\":\"\",\"max_input_"
      "chars_per_word\":9,\"vocab\":{\"a\":0}}}"};
  static const char *const says[] = {"no unk_id", "unk_token u is not in", "unk_token u is not in"};
  for (size_t i = 0; i < 3; i++) {
    Tokenizer *tokenizer = open_text(models[i]);
    Error error = {0};
    IntArray ids = {0};
    assert_true(tokenizer_encode(tokenizer, "a", 1, false, &ids, &error));
    assert_int_equal(ids.size, 1);
    assert_int_equal(tokenizer_unk(tokenizer), -1);
    assert_false(tokenizer_encode(tokenizer, "b", 1, false, &ids, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_non_null(strstr(error.message, says[i]));
    int_array_free(&ids);
    tokenizer_free(tokenizer);
  }
}

/* Files of 2020 do not name their model. */
static void a_model_without_a_type_is_known_by_its_parts(void **state) {
  (void)state;
  static const struct {
    const char *json, *text;
    size_t tokens;
  } models[] = {
      {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}", "aab", 2},
      {"{\"model\":{\"unk_id\":0,\"vocab\":[[\"u\",0],[\"a\",-1],[\"ab\",-1]]}}", "aab", 2},
      {"{\"model\":{\"unk_token\":\"a\",\"continuing_subword_prefix\":\"#\",\"max_input_chars_per_word\":9,"
       "\"vocab\":{\"a\":0,\"#a\":1,\"#b\":2}}}",
       "aab", 3},
      {"{\"model\":{\"unk_token\":\"a\",\"vocab\":{\"a\":0}}}", "aab", 1}};
  for (size_t i = 0; i < sizeof models / sizeof *models; i++)
    assert_int_equal(tokens_of(models[i].json, models[i].text, 1), models[i].tokens);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(base64_is_read),
                                     cmocka_unit_test(every_key_is_found_and_nothing_else),
                                     cmocka_unit_test(charsmaps_may_lie),
                                     cmocka_unit_test(long_pieces_take_no_time),
                                     cmocka_unit_test(an_unknown_token_may_be_missing),
                                     cmocka_unit_test(a_model_without_a_type_is_known_by_its_parts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
