/* tools/generate/exact.h: which places are kept, and that each keeps its own logits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/random.h"
#include "tools/generate/exact.h"

#include <stdlib.h>

enum { ANSWERS = 40, TOKENS = 25, ALL = ANSWERS * TOKENS };

static float draw_of(uint64_t sample, int64_t index) {
  return random_uniform(random_key(7, RANDOM_PLACE), sample, (uint64_t)index);
}

static int by_size(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

/* In this order of tokens: of `most` places those with the smallest draws. Each answer in turn, or all answers token by token. */
static void keep(int64_t most, bool by_answer) {
  const RolloutSpec spec = {.seed = 7};
  Exact exact = {.asked = {.vocab = 2, .most = most, .longest = TOKENS}};
  Error error = {0};
  Compute none = {0};
  float draws[ALL];
  assert_true(exact_begin(&exact, &spec, &error));
  for (int64_t i = 0; i < ALL; i++) {
    const int64_t sample = by_answer ? i / TOKENS : i % ANSWERS, index = by_answer ? i % TOKENS : i / ANSWERS;
    const RolloutSample at = {.number = (uint64_t)sample, .length = index};
    float *logits = exact_place(&exact, &at);
    draws[i] = draw_of((uint64_t)sample, index);
    if (!logits) continue;
    logits[0] = (float)sample;
    logits[1] = (float)index;
  }
  qsort(draws, ALL, sizeof *draws, by_size);
  assert_int_equal(exact.count, most < ALL ? most : ALL);
  bool seen[ANSWERS][TOKENS] = {{false}};
  for (int64_t i = 0; i < exact.count; i++) {
    const ExactPlace *place = &exact.places[i];
    assert_true(place->draw == draw_of(place->sample, place->index));
    assert_true(place->draw <= draws[exact.count - 1]);
    assert_true(place->logits[0] == (float)place->sample && place->logits[1] == (float)place->index);
    assert_false(seen[place->sample][place->index]);
    seen[place->sample][place->index] = true;
  }
  exact_free(&exact, &none);
}

static void the_smallest_draws_are_kept(void **state) {
  (void)state;
  static const int64_t most[] = {1, 2, 3, 100, 999, 1000, 1500};
  for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
    keep(most[i], true);
    keep(most[i], false);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_smallest_draws_are_kept)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
