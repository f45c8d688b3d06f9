#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "train/share.h"

enum { MOST = 64 };

/* Loads of the ranks; every example belongs to one, and positions ascend. */
static void share_all(const int *tokens, int64_t count, int ranks, int64_t *loads) {
  int seen[MOST] = {0};
  for (int r = 0; r < ranks; r++) {
    int64_t mine[MOST], own;
    Error error = {0};
    assert_true(share_examples(tokens, count, ranks, r, mine, &own, &error));
    loads[r] = 0;
    for (int64_t k = 0; k < own; k++) {
      if (k > 0) assert_true(mine[k] > mine[k - 1]);
      loads[r] += tokens[mine[k]];
      seen[mine[k]]++;
    }
  }
  for (int64_t i = 0; i < count; i++) assert_int_equal(seen[i], 1);
}

static void the_longest_go_first(void **state) {
  (void)state;
  const int tokens[] = {3, 3, 2, 9, 4}; /* 9 | 4 3 3, and 2 to the lesser load */
  int64_t mine[5], own;
  Error error = {0};
  assert_true(share_examples(tokens, 5, 2, 0, mine, &own, &error));
  assert_int_equal(own, 2);
  assert_true(mine[0] == 2 && mine[1] == 3);
  assert_true(share_examples(tokens, 5, 2, 1, mine, &own, &error));
  assert_int_equal(own, 3);
  assert_true(mine[0] == 0 && mine[1] == 1 && mine[2] == 4);
}

static void loads_differ_by_an_example_at_most(void **state) {
  (void)state;
  const RandomKey key = random_key(7, RANDOM_TEST);
  for (int trial = 0; trial < 200; trial++) {
    int tokens[MOST];
    const int ranks = 1 + trial % 8;
    int64_t loads[8], longest = 0;
    for (int i = 0; i < MOST; i++) {
      tokens[i] = 1 + (int)random_below(key, (uint64_t)trial, (uint64_t)i, 900);
      if (tokens[i] > longest) longest = tokens[i];
    }
    share_all(tokens, MOST, ranks, loads);
    for (int r = 0; r < ranks; r++)
      for (int q = 0; q < ranks; q++) assert_true(loads[r] - loads[q] <= longest);
  }
}

static void fewer_examples_than_ranks(void **state) {
  (void)state;
  const int tokens[] = {5, 5};
  int64_t loads[4];
  share_all(tokens, 2, 4, loads);
  assert_true(loads[0] == 5 && loads[1] == 5 && loads[2] == 0 && loads[3] == 0);
}

static void runs_are_cut_where_the_tokens_are(void **state) {
  (void)state;
  const int tokens[] = {4, 1, 1, 2, 8}; /* middles at 2, 4.5, 5.5, 7, 12 of 16 */
  int64_t cuts[5];
  share_runs(tokens, 5, 2, cuts);
  assert_true(cuts[0] == 0 && cuts[1] == 4 && cuts[2] == 5);
  share_runs(tokens, 5, 4, cuts); /* a middle on a border belongs behind it */
  assert_true(cuts[0] == 0 && cuts[1] == 1 && cuts[2] == 4 && cuts[3] == 4 && cuts[4] == 5);
  share_runs(tokens, 0, 2, cuts);
  assert_true(cuts[0] == 0 && cuts[1] == 0 && cuts[2] == 0);
}

static void runs_differ_by_an_example_at_most(void **state) {
  (void)state;
  const RandomKey key = random_key(8, RANDOM_TEST);
  for (int trial = 0; trial < 200; trial++) {
    int tokens[MOST];
    const int ranks = 1 + trial % 8, count = trial % MOST + 1;
    int64_t cuts[9], all = 0, longest = 0;
    for (int i = 0; i < count; i++) {
      tokens[i] = 1 + (int)random_below(key, (uint64_t)trial, (uint64_t)i, 900);
      all += tokens[i];
      if (tokens[i] > longest) longest = tokens[i];
    }
    share_runs(tokens, count, ranks, cuts);
    assert_true(cuts[0] == 0 && cuts[ranks] == count);
    for (int r = 0; r < ranks; r++) {
      int64_t load = 0;
      assert_true(cuts[r] <= cuts[r + 1]);
      for (int64_t i = cuts[r]; i < cuts[r + 1]; i++) load += tokens[i];
      assert_true(ranks * (load - longest) <= all);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_longest_go_first), cmocka_unit_test(loads_differ_by_an_example_at_most),
      cmocka_unit_test(fewer_examples_than_ranks), cmocka_unit_test(runs_are_cut_where_the_tokens_are),
      cmocka_unit_test(runs_differ_by_an_example_at_most)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
