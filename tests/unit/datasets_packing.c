#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "datasets/packing.h"

#include <string.h>

/* Every item once, within the limit, sums right, members ascending. */
static void check_plan(const PackingPlan *plan, const int *lengths, int count, int limit) {
  int seen[256] = {0};
  assert_int_equal(plan->begins[0], 0);
  assert_int_equal(plan->begins[plan->count], count);
  for (int b = 0; b < plan->count; b++) {
    int tokens = 0;
    assert_true(plan->begins[b] < plan->begins[b + 1]);
    for (int m = plan->begins[b]; m < plan->begins[b + 1]; m++) {
      if (m > plan->begins[b]) assert_true(plan->members[m] > plan->members[m - 1]);
      tokens += lengths[plan->members[m]];
      seen[plan->members[m]]++;
    }
    assert_int_equal(tokens, plan->tokens[b]);
    assert_true(tokens <= limit);
  }
  for (int i = 0; i < count; i++) assert_int_equal(seen[i], 1);
}

static void first_fit_decreasing(void **state) {
  (void)state;
  PackingPlan plan;
  Error error = {0};
  const int lengths[] = {3, 7, 5, 2, 4, 9};
  assert_true(packing_plan_init(&plan, 6, &error));
  assert_true(packing_plan_make(&plan, lengths, 6, 10, true, &error));
  check_plan(&plan, lengths, 6, 10);
  /* 9 | 7 + 3 | 5 + 4 | 2 */
  assert_int_equal(plan.count, 4);
  assert_int_equal(plan.tokens[0], 9);
  assert_int_equal(plan.tokens[1], 10);
  assert_int_equal(plan.tokens[2], 9);
  assert_int_equal(plan.tokens[3], 2);
  assert_int_equal(plan.members[plan.begins[1]], 0);
  assert_int_equal(plan.members[plan.begins[1] + 1], 1);
  packing_plan_free(&plan);
  packing_plan_free(&plan);
}

static void no_packing_keeps_the_order(void **state) {
  (void)state;
  PackingPlan plan;
  Error error = {0};
  const int lengths[] = {3, 7, 5};
  assert_true(packing_plan_init(&plan, 4, &error));
  assert_true(packing_plan_make(&plan, lengths, 3, 10, false, &error));
  check_plan(&plan, lengths, 3, 10);
  assert_int_equal(plan.count, 3);
  for (int i = 0; i < 3; i++) assert_int_equal(plan.members[i], i);
  packing_plan_free(&plan);
}

static void plans_are_reused_and_stable(void **state) {
  (void)state;
  PackingPlan plan;
  Error error = {0};
  RandomKey key = random_key(1, RANDOM_TEST);
  int lengths[200];
  assert_true(packing_plan_init(&plan, 200, &error));
  for (int round = 0; round < 20; round++) {
    int count = 1 + (int)random_below(key, (uint64_t)round, 0, 200), total = 0;
    for (int i = 0; i < count; i++) {
      lengths[i] = 1 + (int)random_below(key, (uint64_t)round, 1 + (uint64_t)i, 64);
      total += lengths[i];
    }
    assert_true(packing_plan_make(&plan, lengths, count, 64, true, &error));
    check_plan(&plan, lengths, count, 64);
    int least = (total + 63) / 64;
    assert_true(plan.count <= least * 11 / 9 + 2);
    /* The same lengths in another order: the same micro-batch sizes. */
    int reversed[200], sizes[200], batches = plan.count;
    memcpy(sizes, plan.tokens, (size_t)batches * sizeof *sizes);
    for (int i = 0; i < count; i++) reversed[i] = lengths[count - 1 - i];
    assert_true(packing_plan_make(&plan, reversed, count, 64, true, &error));
    assert_int_equal(plan.count, batches);
    assert_memory_equal(plan.tokens, sizes, (size_t)batches * sizeof *sizes);
  }
  packing_plan_free(&plan);
}

static void empty_update(void **state) {
  (void)state;
  PackingPlan plan;
  Error error = {0};
  int none = 0;
  assert_true(packing_plan_init(&plan, 0, &error));
  assert_true(packing_plan_make(&plan, &none, 0, 8, true, &error));
  assert_int_equal(plan.count, 0);
  assert_int_equal(plan.begins[0], 0);
  packing_plan_free(&plan);
}

static void too_long_names_both_numbers(void **state) {
  (void)state;
  PackingPlan plan;
  Error error = {0};
  const int lengths[] = {3, 777};
  assert_true(packing_plan_init(&plan, 2, &error));
  assert_false(packing_plan_make(&plan, lengths, 2, 512, true, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "512"));
  assert_non_null(strstr(error.message, "777"));
  packing_plan_free(&plan);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(first_fit_decreasing), cmocka_unit_test(no_packing_keeps_the_order),
      cmocka_unit_test(plans_are_reused_and_stable), cmocka_unit_test(empty_update),
      cmocka_unit_test(too_long_names_both_numbers)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
