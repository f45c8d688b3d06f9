/* The parts of `drover data`, against computing the plain way. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/digest.h"
#include "base/random.h"
#include "base/regex.h"
#include "tests/temporary.h"
#include "tools/data/exact.h"
#include "tools/data/frequent.h"
#include "tools/data/lengths.h"
#include "tools/data/near.h"
#include "tools/data/overlap.h"
#include "tools/data/scripts.h"
#include "tools/data/split.h"
#include "tools/data/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Scripts --------------------------------------------------------------------------------------- */

/* Marks in `out` the characters that the pattern matches; the text holds each once. */
static void mark(const char *pattern, RegexScratch *scratch, const Buffer *text, uint8_t *out) {
  Error error = {0};
  Regex *regex = regex_compile(pattern, strlen(pattern), REGEX_ONIGURUMA, &error);
  assert_non_null(regex);
  RegexCursor cursor = {0};
  RegexMatch match;
  bool found;
  while (regex_next(regex, scratch, text->data, text->size, &cursor, &match, &found, &error) && found) {
    for (size_t at = match.begin; at < match.end;) out[utf8_next(text->data, &at)] = 1;
  }
  assert_int_equal(error.code, 0);
  regex_free(regex);
}

/* Every character, against PCRE2's tables; those that its version of Unicode does not have yet belong to nobody. */
static void scripts_are_those_of_unicode(void **state) {
  (void)state;
  enum { CHARACTERS = 0x110000 };
  Error error = {0};
  Buffer text = {0};
  uint8_t *assigned = calloc(CHARACTERS, 1), *is = calloc(CHARACTERS, 1);
  RegexScratch *scratch = regex_scratch_new(&error);
  for (uint32_t c = 0; c < CHARACTERS; c++) {
    char utf8[4];
    if (c >= 0xd800 && c < 0xe000) continue;
    assert_true(buffer_append(&text, utf8, utf8_put(c, utf8), &error));
  }
  mark("[\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Z}]+", scratch, &text, assigned);
  for (Script script = SCRIPT_NONE + 1; script < SCRIPT_COUNT; script++) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\\p{%s}+", script_names[script]);
    memset(is, 0, CHARACTERS);
    mark(pattern, scratch, &text, is);
    size_t count = 0;
    for (uint32_t c = 0; c < CHARACTERS; c++) {
      count += is[c];
      if (is[c] != (script_of(c) == script) && (assigned[c] || is[c]))
        fail_msg("U+%04X: script %s", c, script_names[script_of(c)]);
    }
    assert_true(count > 50);
  }
  regex_scratch_free(scratch);
  buffer_free(&text);
  free(assigned);
  free(is);
}

static void the_main_script_has_most_letters(void **state) {
  (void)state;
  static const struct {
    const char *text;
    Script script;
  } table[] = {{"12 + 3!", SCRIPT_NONE},
               {"Hello, \u4f60", SCRIPT_LATIN},
               {"\u4f60\u597d a", SCRIPT_HAN},
               {"\u043f\u0440\u0438 ok", SCRIPT_CYRILLIC},
               {"", SCRIPT_NONE}};
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    ScriptTally tally = {0};
    scripts_count(&tally, table[i].text, strlen(table[i].text));
    assert_int_equal(scripts_main(&tally), table[i].script);
  }
}

/* ---- Words ----------------------------------------------------------------------------------------- */

static void folding_levels(void **state) {
  (void)state;
  static const struct {
    const char *text, *space, *full;
  } table[] = {{" A\t\n b  ", "A b", "a b"},
               {"", "", ""},
               {" \n ", "", ""},
               {"Cafe\u0301\u00a0\u3000X", "Cafe\u0301 X", "caf\u00e9 x"},
               {"\u00dcBER", "\u00dcBER", "\u00fcber"}};
  Folder folder;
  Error error = {0};
  assert_true(folder_init(&folder, &error));
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    const char *expected[] = {table[i].text, table[i].space, table[i].full};
    for (Folding folding = FOLDING_NONE; folding <= FOLDING_FULL; folding++) {
      Buffer out = {0};
      assert_true(buffer_text(&out, "|", &error)); /* appended, not replaced */
      assert_true(folder_fold(&folder, folding, table[i].text, strlen(table[i].text), &out, &error));
      assert_string_equal(out.data + 1, expected[folding]);
      buffer_free(&out);
    }
  }
  folder_free(&folder);
}

static void words_and_signs(void **state) {
  (void)state;
  static const char text[] = "don't add 2+2, \u4f60\u597d\u0e01\u0e02 caf\u00e9";
  static const char *const words[] = {"don",    "t",      "add",    "2",      "2",
                                      "\u4f60", "\u597d", "\u0e01", "\u0e02", "caf\u00e9"};
  Words cut = {0};
  Error error = {0};
  assert_true(words_cut(&cut, text, sizeof text - 1, &error));
  assert_int_equal(cut.units.size, sizeof words / sizeof *words);
  for (size_t i = 0; i < cut.units.size; i++) {
    assert_int_equal(cut.end.data[i] - cut.begin.data[i], strlen(words[i]));
    assert_memory_equal(text + cut.begin.data[i], words[i], strlen(words[i]));
  }
  assert_int_equal(cut.signed_units.size, cut.units.size + 3); /* ' + , */
  assert_int_equal(cut.units.data[3], cut.units.data[4]);
  UnitArray characters = {0};
  assert_true(characters_cut(&characters, "a \u4f60", 5, &error));
  assert_int_equal(characters.size, 2);
  assert_int_equal(characters.data[1], 0x4f60);
  unit_array_free(&characters);
  words_free(&cut);
}

/* ---- Duplicates ------------------------------------------------------------------------------------ */

static void the_first_of_a_digest(void **state) {
  (void)state;
  ExactSet set = {0};
  Error error = {0};
  for (uint32_t i = 0; i < 10000; i++) {
    uint32_t first, text = i % 3000;
    assert_true(exact_add(&set, bytes_hash128(&text, sizeof text), i, &first, &error));
    assert_int_equal(first, text);
  }
  assert_int_equal(set.count, 3000);
  exact_free(&set);
}

static const RandomKey test_key = {{7, 11}};

/* Texts in families: each member has some units of the founder exchanged, up to half of them. */
enum { FAMILIES = 30, MEMBERS = 8, TEXTS = FAMILIES * MEMBERS, LONGEST = 120 };
typedef struct Texts {
  uint32_t units[TEXTS][LONGEST];
  size_t counts[TEXTS];
} Texts;

static void make_texts(Texts *texts) {
  for (uint32_t i = 0; i < TEXTS; i++) {
    const uint32_t family = i % FAMILIES, changes = random_below(test_key, i, 999, 12);
    texts->counts[i] = 3 + random_below(test_key, family, 998, LONGEST - 3); /* some shorter than a shingle */
    for (uint32_t k = 0; k < texts->counts[i]; k++)
      texts->units[i][k] = random_below(test_key, 1000 + family, k, 500);
    for (uint32_t k = 0; i >= FAMILIES && k < changes; k++)
      texts->units[i][random_below(test_key, i, k, (uint32_t)texts->counts[i])] = 1000 + i * 20 + k;
  }
}

static int compare_strings(const void *a, const void *b) {
  return memcmp(a, b, 5 * sizeof(uint32_t));
}

/* Jaccard of the sets of 5-grams themselves, without a hash. */
static double plain_resemblance(const Texts *texts, uint32_t a, uint32_t b) {
  enum { N = 5 };
  static uint32_t sets[2][LONGEST][N];
  const uint32_t which[] = {a, b};
  size_t sizes[2] = {0}, both = 0;
  for (int s = 0; s < 2; s++) {
    const size_t count = texts->counts[which[s]], all = count < N ? 1 : count - N + 1;
    memset(sets[s], 0xff, sizeof sets[s]);
    for (size_t i = 0; i < all; i++)
      memcpy(sets[s][i], texts->units[which[s]] + i, (count < N ? count : N) * sizeof(uint32_t));
    qsort(sets[s], all, sizeof sets[s][0], compare_strings);
    for (size_t i = 0; i < all; i++) {
      if (i == 0 || compare_strings(sets[s][i], sets[s][i - 1])) {
        memmove(sets[s][sizes[s]], sets[s][i], sizeof sets[s][0]);
        sizes[s]++;
      }
    }
  }
  for (size_t i = 0; i < sizes[0]; i++) {
    for (size_t k = 0; k < sizes[1]; k++) both += compare_strings(sets[0][i], sets[1][k]) == 0;
  }
  return (double)both / (double)(sizes[0] + sizes[1] - both);
}

static double resemblances[TEXTS][TEXTS];

/* Groups of all pairs at or above the threshold: the first member of each text's. */
static void plain_groups(double threshold, uint32_t first[TEXTS]) {
  for (uint32_t i = 0; i < TEXTS; i++) first[i] = i;
  for (uint32_t i = 0; i < TEXTS; i++) {
    for (uint32_t k = 0; k < i; k++) {
      if (first[i] == first[k] || resemblances[i][k] < threshold) continue;
      const uint32_t to = first[i] < first[k] ? first[i] : first[k], from = first[i] + first[k] - to;
      for (uint32_t j = 0; j < TEXTS; j++) first[j] = first[j] == from ? to : first[j];
    }
  }
}

static void find_near(const Texts *texts, double threshold, uint64_t seed, uint32_t first[TEXTS],
                      Near *near) {
  Temporary temporary;
  Error error = {0};
  temporary_open(&temporary);
  assert_true(near_init(near, threshold, 128, 5, seed, temporary_path(&temporary, "spool"), &error));
  for (uint32_t i = 0; i < TEXTS; i++)
    assert_true(near_add(near, 10 * i, texts->units[i], texts->counts[i], &error));
  assert_true(near_finish(near, &error));
  for (uint32_t i = 0; i < TEXTS; i++) first[i] = near_first(near, i) / 10;
  near_free(near);
  StringList left = {0};
  assert_true(directory_list(temporary.directory, &left, &error));
  assert_int_equal(left.count, 0);
  string_list_free(&left);
  temporary_close(&temporary);
}

/* What is joined is joined by all pairs too, and of what all pairs join nothing is missed that is clearly above. */
static void near_duplicates_are_those_of_all_pairs(void **state) {
  (void)state;
  static Texts texts;
  static uint32_t found[TEXTS], again[TEXTS], all[TEXTS], clear[TEXTS];
  make_texts(&texts);
  for (uint32_t i = 0; i < TEXTS; i++) {
    for (uint32_t k = 0; k < i; k++) resemblances[i][k] = plain_resemblance(&texts, k, i);
  }
  const double thresholds[] = {0.5, 0.8, 0.95};
  for (size_t t = 0; t < 3; t++) {
    Near near;
    const double margin = 0.05 * (1 - thresholds[t]);
    plain_groups(thresholds[t], all);
    plain_groups(thresholds[t] + margin, clear);
    size_t removed = 0;
    for (uint64_t seed = 0; seed < 3; seed++) {
      find_near(&texts, thresholds[t], seed, found, &near);
      find_near(&texts, thresholds[t], seed, again, &near);
      assert_memory_equal(found, again, sizeof found);
      for (uint32_t i = 0; i < TEXTS; i++) {
        assert_int_equal(all[found[i]], all[i]);     /* nothing below the threshold */
        assert_int_equal(found[clear[i]], found[i]); /* everything above it */
        assert_true(found[i] <= i);
        removed += found[i] != i;
      }
    }
    assert_true(removed > 30 && removed < 3 * (TEXTS - FAMILIES) + 1);
  }
}

/* A record that many others share a band with is compared with the latest, and what is left out is said. */
static void boilerplate_takes_no_quadratic_time(void **state) {
  (void)state;
  enum { COUNT = 1000, WIDE = 60 };
  Near near;
  Error error = {0};
  Temporary temporary;
  temporary_open(&temporary);
  assert_true(near_init(&near, 0.8, 128, 5, 0, temporary_path(&temporary, "spool"), &error));
  for (uint32_t i = 0; i < COUNT; i++) {
    uint32_t units[WIDE];
    for (uint32_t k = 0; k < WIDE; k++) units[k] = k < 50 ? k : 1000 + i * WIDE + k;
    if (i == COUNT - 1) units[WIDE - 1] = 1000 + (i - 1) * WIDE; /* resembles none above 0.8 either */
    assert_true(near_add(&near, i, units, WIDE, &error));
  }
  assert_true(near_finish(&near, &error));
  for (uint32_t i = 0; i < COUNT; i++) assert_int_equal(near_first(&near, i), i);
  assert_true(near.left_out > 0);
  assert_true(near.compared <= (uint64_t)COUNT * MOST_COMPARED * (uint64_t)near.minhash.bands);
  near_free(&near);
  temporary_close(&temporary);
}

/* All in one band by what they share: the last finds its like as long as that is among those it is compared with. */
static void a_band_remembers_the_latest(void **state) {
  (void)state;
  enum { COMMON = 50, OWN = 2, LIKE = 3 };
  const uint32_t lasts[] = {MOST_COMPARED - 1, MOST_COMPARED + LIKE + 1};
  for (size_t t = 0; t < 2; t++) {
    Near near;
    Error error = {0};
    Temporary temporary;
    const uint32_t last = lasts[t];
    temporary_open(&temporary);
    assert_true(near_init(&near, 0.97, 1, 1, 0, temporary_path(&temporary, "spool"), &error));
    for (uint32_t i = 0; i <= last; i++) {
      uint32_t units[COMMON + OWN];
      for (uint32_t k = 0; k < COMMON + OWN; k++)
        units[k] = k < COMMON ? k : 1000 + (i == last ? LIKE : i) * OWN + k;
      assert_true(near_add(&near, i, units, COMMON + OWN, &error));
    }
    for (uint32_t i = 0; i <= last; i++) near.keys[i] = 7;
    assert_true(near_finish(&near, &error));
    assert_int_equal(near_first(&near, last), t == 0 ? LIKE : last);
    assert_int_equal(near.left_out > 0, t == 1);
    near_free(&near);
    temporary_close(&temporary);
  }
}

/* Values agree as often as texts resemble: within four standard deviations of a binomial. */
static void minhash_estimates_the_resemblance(void **state) {
  (void)state;
  enum { COUNT = 1000, VALUES = 1024 };
  for (uint32_t same = 100; same < COUNT; same += 200) {
    MinHash minhash;
    Error error = {0};
    static uint32_t units[COUNT], values[VALUES];
    Shingles a = {0}, b = {0};
    assert_true(minhash_init(&minhash, VALUES / 4, 4, same, &error));
    for (uint32_t i = 0; i < COUNT; i++) units[i] = i;
    assert_true(shingles_cut(&a, units, COUNT, 1, &error));
    for (uint32_t i = same; i < COUNT; i++) units[i] = COUNT + i;
    assert_true(shingles_cut(&b, units, COUNT, 1, &error));
    memcpy(values, minhash_values(&minhash, &a), sizeof values);
    const uint32_t *others = minhash_values(&minhash, &b);
    size_t agree = 0;
    for (size_t i = 0; i < VALUES; i++) agree += values[i] == others[i];
    shingles_sort(&a);
    shingles_sort(&b);
    const double s = shingles_resemblance(&a, &b);
    assert_true(fabs(s - same / (2.0 * COUNT - same)) < 1e-12);
    assert_true(fabs((double)agree / VALUES - s) < 4 * sqrt(s * (1 - s) / VALUES));
    shingles_free(&a);
    shingles_free(&b);
    minhash_free(&minhash);
  }
}

static void bands_stand_at_the_threshold(void **state) {
  (void)state;
  for (int t = 5; t <= 100; t += 5) {
    int bands, rows;
    bands_choose(t / 100.0, 128, &bands, &rows);
    assert_true(bands * rows <= 128 && bands * (rows + 1) + rows >= 128);
    assert_true(bands_find(t / 100.0, bands, rows) >= BANDS_FIND);
    assert_true(rows == 128 || bands_find(t / 100.0, 128 / (rows + 1), rows + 1) < BANDS_FIND);
  }
  int bands, rows;
  bands_choose(0.8, 128, &bands, &rows);
  assert_int_equal(bands, 21);
  assert_int_equal(rows, 6);
  assert_true(fabs(bands_find(0.8, 21, 6) - (1 - pow(1 - 0.262144, 21))) < 1e-12);
}

/* ---- Split ----------------------------------------------------------------------------------------- */

static void the_split_is_a_fraction_and_grows(void **state) {
  (void)state;
  enum { COUNT = 100000 };
  size_t evals = 0, other = 0;
  for (uint64_t i = 0; i < COUNT; i++) {
    const uint64_t prompt = bytes_hash_seeded(&i, sizeof i, 0);
    const bool eval = split_is_eval(prompt, 3, 0.1);
    evals += eval;
    other += eval && split_is_eval(prompt, 4, 0.1);
    assert_false(split_is_eval(prompt, 3, 0));
    assert_true(split_is_eval(prompt, 3, 1));
    if (eval) assert_true(split_is_eval(prompt, 3, 0.2));
  }
  assert_true(fabs((double)evals - 10000) < 4 * sqrt(9000));
  assert_true(fabs((double)other - 1000) < 4 * sqrt(990)); /* another seed is another split */
}

/* ---- Counting -------------------------------------------------------------------------------------- */

static void quantiles_within_their_error(void **state) {
  (void)state;
  static Lengths lengths;
  for (uint64_t i = 0; i <= 100000; i++) lengths_add(&lengths, i);
  for (int share = 0; share <= 100; share++) {
    const double exact = 1000.0 * share, found = (double)lengths_quantile(&lengths, share / 100.0);
    assert_true(found <= exact && found >= exact * (1 - 1 / 64.0));
  }
  assert_true(lengths_mean(&lengths) == 50000);
  assert_int_equal(lengths_between(&lengths, 0, 1), 1);
  assert_int_equal(lengths_between(&lengths, 1024, 2048), 1024);
  assert_int_equal(lengths_between(&lengths, 0, UINT64_MAX), 100001);
  static Lengths large;
  lengths_add(&large, UINT64_MAX);
  assert_true(lengths_quantile(&large, 0.5) <= UINT64_MAX);
  assert_int_equal(lengths_between(&large, 0, UINT64_MAX), 1);
}

/* More different items than there are counters: bounds hold, what is frequent is there. */
static void frequent_items_within_their_error(void **state) {
  (void)state;
  enum { ITEMS = 3 * FREQUENT_COUNTERS, OFTEN = 50, TIMES = 400 };
  Frequent frequent;
  Error error = {0};
  assert_true(frequent_init(&frequent, &error));
  for (uint64_t i = 0; i < ITEMS; i++) {
    char text[32];
    const bool often = i % (ITEMS / (OFTEN * TIMES)) == 0 && i / (ITEMS / (OFTEN * TIMES)) < OFTEN * TIMES;
    const uint64_t item = often ? i / (ITEMS / (OFTEN * TIMES)) % OFTEN : 1000 + i;
    snprintf(text, sizeof text, "item %llu", (unsigned long long)item);
    assert_true(
        frequent_add(&frequent, bytes_hash_seeded(&item, sizeof item, 0), text, strlen(text), &error));
  }
  frequent_finish(&frequent);
  assert_true(frequent.error > 0 && frequent.error <= 2 * frequent.all / FREQUENT_COUNTERS);
  assert_int_equal(frequent.all, ITEMS);
  assert_int_equal(frequent.count, OFTEN); /* the others may be no more frequent than what was lost */
  for (size_t i = 0; i < OFTEN; i++) {
    const FrequentItem *item = &frequent.items[i];
    assert_true(item->count <= TIMES && item->count + frequent.error >= TIMES);
    assert_true(atoi(item->text + 5) < OFTEN);
  }
  frequent_free(&frequent);
}

/* ---- Overlap --------------------------------------------------------------------------------------- */

static void overlap_by_ngrams(void **state) {
  (void)state;
  Overlap overlap = {.n = 3};
  Error error = {0};
  uint64_t all;
  const uint32_t first[] = {1, 2, 3, 4, 5}, second[] = {1, 2}, third[] = {2, 3, 4}, none[] = {9};
  assert_int_equal(overlap_data(&overlap, first, 5, &all), 0); /* nothing to compare with */
  assert_true(overlap_eval(&overlap, "a", 1, first, 5, &error));
  assert_true(overlap_eval(&overlap, "a", 2, second, 2, &error));
  assert_true(overlap_eval(&overlap, "b", 3, third, 3, &error));
  assert_true(overlap_eval(&overlap, "b", 4, none, 0, &error));
  assert_true(overlap_ready(&overlap, &error));
  const uint32_t data[] = {7, 1, 2, 3, 4, 8};
  assert_int_equal(overlap_data(&overlap, data, 6, &all), 2); /* 123 and 234 */
  assert_int_equal(all, 4);
  const uint32_t other[] = {1, 2, 4};
  assert_int_equal(overlap_data(&overlap, other, 3, &all), 0);
  assert_int_equal(overlap_data(&overlap, second, 2, &all), 1); /* short, and the same */
  assert_int_equal(overlap_data(&overlap, second, 1, &all), 0);
  overlap_finish(&overlap);
  const uint32_t grams[] = {3, 1, 1, 0}, found[] = {2, 1, 1, 0};
  for (size_t i = 0; i < 4; i++) {
    assert_int_equal(overlap.records[i].grams, grams[i]);
    assert_int_equal(overlap.records[i].found, found[i]);
  }
  overlap_free(&overlap);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(scripts_are_those_of_unicode),
                                     cmocka_unit_test(the_main_script_has_most_letters),
                                     cmocka_unit_test(folding_levels),
                                     cmocka_unit_test(words_and_signs),
                                     cmocka_unit_test(the_first_of_a_digest),
                                     cmocka_unit_test(near_duplicates_are_those_of_all_pairs),
                                     cmocka_unit_test(boilerplate_takes_no_quadratic_time),
                                     cmocka_unit_test(a_band_remembers_the_latest),
                                     cmocka_unit_test(minhash_estimates_the_resemblance),
                                     cmocka_unit_test(bands_stand_at_the_threshold),
                                     cmocka_unit_test(the_split_is_a_fraction_and_grows),
                                     cmocka_unit_test(quantiles_within_their_error),
                                     cmocka_unit_test(frequent_items_within_their_error),
                                     cmocka_unit_test(overlap_by_ngrams)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
