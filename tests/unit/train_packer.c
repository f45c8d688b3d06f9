/* Items of one or two sequences in micro-batches: nothing is lost, split or seen twice, and rows are where they should be. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train/token_loss.h"
#include "train/zero_point.h"

#include <string.h>

enum { ITEMS = 7, MOST = 9, TOKENS = 12 };

/* Token t of side s of item i, so that every id is another one. */
static int id_of(int item, int side, int t) {
  return 100 * item + 10 * side + t;
}

static void fill(int *ids, int item, int side, int count) {
  for (int t = 0; t < count; t++) ids[t] = id_of(item, side, t);
}

static const int sides[ITEMS][2] = {{5, 3}, {2, 2}, {9, 3}, {1, 1}, {4, 4}, {6, 5}, {3, 1}};

static void pairs_stay_together(void **state) {
  (void)state;
  Packer packer;
  Error error = {0};
  int seen[ITEMS] = {0};
  assert_true(packer_init(&packer, ITEMS, 2, TOKENS, &error));
  for (int i = 0; i < ITEMS; i++) packer.lengths[i] = sides[i][0] + sides[i][1];
  assert_true(packer_plan(&packer, ITEMS, true, &error));
  assert_true(packer.plan.count < ITEMS);
  for (int b = 0; b < packer.plan.count; b++) {
    packer_begin(&packer, b);
    assert_int_equal(packer.batch.tokens, 0);
    for (int64_t k = 0; k < packer.count; k++) {
      int ids[MOST];
      const int item = packer.items[k];
      seen[item]++;
      for (int side = 0; side < 2; side++) {
        fill(ids, item, side, sides[item][side]);
        const int64_t room = packer.batch.tokens;
        assert_int_equal(packer_add(&packer, ids, sides[item][side]), room);
      }
    }
    const TokenRows last = packer_last(&packer);
    assert_int_equal(last.count, 2 * packer.count);
    for (int64_t n = 0; n < last.count; n++) {
      const int item = packer.items[n / 2], side = (int)(n % 2);
      assert_int_equal(packer.batch.ids[last.rows[n]], id_of(item, side, sides[item][side] - 1));
    }
  }
  for (int i = 0; i < ITEMS; i++) assert_int_equal(seen[i], 1);
  packer_free(&packer);
  packer_free(&packer);
}

static void rows_are_before_the_tokens_in_the_loss(void **state) {
  (void)state;
  const uint8_t loss[MOST] = {1, 0, 1, 1, 0}; /* the first of a sequence cannot be predicted */
  Packer packer;
  Error error = {0};
  assert_true(packer_init(&packer, 2, 1, TOKENS, &error));
  packer.lengths[0] = packer.lengths[1] = 5;
  assert_true(packer_plan(&packer, 2, true, &error));
  assert_int_equal(packer.plan.count, 1);
  packer_begin(&packer, 0);
  for (int i = 0; i < 2; i++) {
    int ids[MOST];
    fill(ids, i, 0, 5);
    token_loss_pack(&packer, &(Example){.ids = ids, .loss = loss, .count = 5});
  }
  const int32_t rows[] = {1, 2, 6, 7}, targets[] = {2, 3, 102, 103};
  const TokenRows wanted = packer_rows(&packer);
  assert_int_equal(wanted.count, 4);
  assert_memory_equal(wanted.rows, rows, sizeof rows);
  assert_memory_equal(wanted.targets, targets, sizeof targets);
  packer_begin(&packer, 0); /* a new micro-batch has no rows of the former */
  assert_int_equal(packer_rows(&packer).count, 0);
  packer_free(&packer);
}

/* A prompt is packed once for each answer; one without ids, and a single answer, are as well. */
static void answers_follow_their_prompt(void **state) {
  (void)state;
  Packer packer;
  Error error = {0};
  const int ids[] = {7, 8, 9, 10, 11};
  const ExampleAnswer behind[] = {{.begin = 2, .count = 1}, {.begin = 3, .count = 2, .rank = 1}};
  const ExampleAnswer alone[] = {{.begin = 0, .count = 2}, {.begin = 2, .count = 1, .rank = 1}};
  const Example examples[] = {{.ids = ids, .count = 2, .answers = behind, .answer_count = 2},
                              {.ids = ids, .count = 0, .answers = alone, .answer_count = 2},
                              {.ids = ids, .count = 2}};
  const int32_t packed[] = {7, 8, 9, 7, 8, 10, 11, 7, 8, 9, 7, 8}, last[] = {2, 6, 8, 9, 11};
  const int32_t draws[] = {5, 5, 5, 6, 6, 6, 6, 20, 20, 21, 30, 30};
  assert_true(packer_init(&packer, 3, 2, TOKENS, &error));
  for (int i = 0; i < 3; i++) packer.lengths[i] = 4;
  assert_true(packer_plan(&packer, 3, true, &error));
  packer_begin(&packer, 0);
  for (int i = 0; i < 3; i++) {
    packer.draw = (uint64_t[]){5, 20, 30}[i];
    scores_pack(&packer, &examples[i]);
  }
  assert_int_equal(packer.batch.tokens, 12);
  assert_memory_equal(packer.batch.ids, packed, sizeof packed);
  assert_memory_equal(packer.batch.draws, draws, sizeof draws);
  assert_int_equal(packer_last(&packer).count, 5);
  assert_memory_equal(packer_last(&packer).rows, last, sizeof last);
  packer_free(&packer);
}

static void what_is_too_long_is_refused(void **state) {
  (void)state;
  Packer packer;
  Error error = {0};
  assert_true(packer_init(&packer, 1, 1, TOKENS, &error));
  packer.lengths[0] = TOKENS + 1;
  assert_false(packer_plan(&packer, 1, true, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "optim.micro_batch_tokens is 12, and an example has 13 tokens"));
  packer_free(&packer);
}

static void the_largest_there_can_be(void **state) {
  (void)state;
  Packer packer;
  Error error = {0};
  assert_true(packer_init(&packer, 4, 2, TOKENS, &error));
  packer_dry(&packer);
  assert_int_equal(packer.batch.tokens, TOKENS);
  assert_int_equal(packer_rows(&packer).count, TOKENS);
  assert_int_equal(packer_last(&packer).count, 8);
  packer_free(&packer);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pairs_stay_together),         cmocka_unit_test(rows_are_before_the_tokens_in_the_loss),
      cmocka_unit_test(answers_follow_their_prompt), cmocka_unit_test(what_is_too_long_is_refused),
      cmocka_unit_test(the_largest_there_can_be),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
