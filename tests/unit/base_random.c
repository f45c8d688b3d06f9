#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"

#include <math.h>
#include <string.h>

/* The known answers of Philox4x32-10 that the authors publish with Random123 (kat_vectors). */
static void philox_known_answers(void **state) {
  (void)state;
  const struct {
    uint32_t counter[4], key[2], expected[4];
  } cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    uint32_t out[4];
    RandomKey key = {{cases[i].key[0], cases[i].key[1]}};
    philox4x32(cases[i].counter, key, out);
    assert_memory_equal(out, cases[i].expected, sizeof out);
  }
}

static void draws_depend_on_each_argument(void **state) {
  (void)state;
  RandomKey key = random_key(7, RANDOM_TEST);
  float base = random_uniform(key, 3, 5);
  assert_true(base == random_uniform(key, 3, 5));
  assert_true(base != random_uniform(key, 5, 3));
  assert_true(base != random_uniform(key, 3, 6));
  assert_true(base != random_uniform(key, 3 + ((uint64_t)1 << 32), 5));
  assert_true(base != random_uniform(key, 3, 5 + ((uint64_t)1 << 32)));
  assert_true(base != random_uniform(random_key(8, RANDOM_TEST), 3, 5));
  assert_true(base != random_uniform(random_key(7, RANDOM_INIT), 3, 5));
  assert_true(base != random_uniform(random_key(7 + ((uint64_t)1 << 40), RANDOM_TEST), 3, 5));
}

/* Committed values: a change of the mixing would silently change every run with a given seed. */
/* A seed of a part's own: neither the seed it came from nor another purpose's. */
static void seeds_are_apart(void **state) {
  (void)state;
  assert_true(random_seed(1, RANDOM_PRETRAIN) == random_seed(1, RANDOM_PRETRAIN));
  assert_true(random_seed(1, RANDOM_PRETRAIN) != random_seed(2, RANDOM_PRETRAIN));
  assert_true(random_seed(1, RANDOM_PRETRAIN) != random_seed(1, RANDOM_SHUFFLE));
  uint32_t first[50], second[50];
  random_permutation(random_key(1, RANDOM_SHUFFLE), 0, first, 50);
  random_permutation(random_key(random_seed(1, RANDOM_PRETRAIN), RANDOM_SHUFFLE), 0, second, 50);
  int equal = 0;
  for (int i = 0; i < 50; i++) equal += first[i] == second[i];
  assert_true(equal < 10);
}

static void stream_is_pinned(void **state) {
  (void)state;
  RandomKey key = random_key(42, RANDOM_TEST);
  assert_int_equal(key.word[0], 0xbb655e7);
  assert_int_equal(key.word[1], 0x985a22df);
  assert_int_equal(random_below(key, 1, 2, 1000000), 876854);
}

static void uniform_moments(void **state) {
  (void)state;
  enum { N = 1000000 };
  RandomKey key = random_key(1, RANDOM_TEST);
  double sum = 0, squares = 0;
  for (uint64_t i = 0; i < N; i++) {
    double u = (double)random_uniform(key, 0, i);
    assert_true(u >= 0 && u < 1);
    sum += u;
    squares += u * u;
  }
  /* Five standard errors: sqrt(1/12/N) and sqrt(4/45/N). */
  assert_true(fabs(sum / N - 0.5) < 5 * sqrt(1.0 / 12 / N));
  assert_true(fabs(squares / N - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
}

static void normal_moments(void **state) {
  (void)state;
  enum { N = 1000000 };
  RandomKey key = random_key(2, RANDOM_TEST);
  double sum = 0, squares = 0, fourth = 0;
  int beyond = 0;
  for (uint64_t i = 0; i < N; i++) {
    double x = (double)random_normal(key, 9, i);
    assert_true(isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    beyond += fabs(x) > 1.959963985;
  }
  assert_true(fabs(sum / N) < 5 * sqrt(1.0 / N));
  assert_true(fabs(squares / N - 1) < 5 * sqrt(2.0 / N));
  assert_true(fabs(fourth / N - 3) < 5 * sqrt(96.0 / N));
  assert_true(fabs((double)beyond / N - 0.05) < 5 * sqrt(0.05 * 0.95 / N));
}

static void below_is_even(void **state) {
  (void)state;
  enum { LIMIT = 7, N = 700000 };
  RandomKey key = random_key(3, RANDOM_TEST);
  int counts[LIMIT] = {0};
  for (uint64_t i = 0; i < N; i++) counts[random_below(key, 1, i, LIMIT)]++;
  double chi = 0, expected = (double)N / LIMIT;
  for (int i = 0; i < LIMIT; i++) chi += (counts[i] - expected) * (counts[i] - expected) / expected;
  assert_true(chi < 22.46); /* 6 degrees of freedom, p = 0.001 */
  for (uint64_t i = 0; i < 100; i++) assert_int_equal(random_below(key, 2, i, 1), 0);
  for (uint64_t i = 0; i < 100; i++) assert_true(random_below(key, 2, i, UINT32_MAX) < UINT32_MAX);
}

static void permutation_is_one(void **state) {
  (void)state;
  enum { N = 1000 };
  uint32_t order[N], again[N], other[N];
  RandomKey key = random_key(4, RANDOM_SHUFFLE);
  random_permutation(key, 0, order, N);
  random_permutation(key, 0, again, N);
  random_permutation(key, 1, other, N);
  assert_memory_equal(order, again, sizeof order);
  assert_memory_not_equal(order, other, sizeof order);
  char seen[N] = {0};
  int fixed = 0;
  for (int i = 0; i < N; i++) {
    assert_true(order[i] < N && !seen[order[i]]);
    seen[order[i]] = 1;
    fixed += order[i] == (uint32_t)i;
  }
  assert_true(fixed < 10); /* one is expected */
  random_permutation(key, 0, order, 0);
  random_permutation(key, 0, order, 1);
  assert_int_equal(order[0], 0);
}

/* All six orders of three things come equally often. */
static void permutation_is_fair(void **state) {
  (void)state;
  enum { N = 60000 };
  RandomKey key = random_key(5, RANDOM_SHUFFLE);
  int counts[27] = {0};
  for (uint64_t i = 0; i < N; i++) {
    uint32_t order[3];
    random_permutation(key, i, order, 3);
    counts[order[0] * 9 + order[1] * 3 + order[2]]++;
  }
  double chi = 0;
  int kinds = 0;
  for (int i = 0; i < 27; i++) {
    if (!counts[i]) continue;
    kinds++;
    chi += (counts[i] - N / 6.0) * (counts[i] - N / 6.0) / (N / 6.0);
  }
  assert_int_equal(kinds, 6);
  assert_true(chi < 20.52); /* 5 degrees of freedom, p = 0.001 */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(philox_known_answers), cmocka_unit_test(draws_depend_on_each_argument),
      cmocka_unit_test(seeds_are_apart),      cmocka_unit_test(stream_is_pinned),
      cmocka_unit_test(uniform_moments),      cmocka_unit_test(normal_moments),
      cmocka_unit_test(below_is_even),        cmocka_unit_test(permutation_is_one),
      cmocka_unit_test(permutation_is_fair),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
