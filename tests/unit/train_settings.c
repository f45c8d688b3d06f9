#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "train/settings.h"

#include <string.h>

static const char base[] =
    "{\"model\":{\"path\":\"m\",\"recompute\":false},\"optim\":{\"lr\":1e-4,\"schedule\":\"cosine\","
    "\"epochs\":1,"
    "\"max_steps\":0},\"run\":{\"dir\":\"a\",\"seed\":1,\"keep\":2},\"device\":{\"threads\":0}}";

static void same_settings_pass(void **state) {
  (void)state;
  Error error = {0};
  assert_true(settings_check(base, base, "here", &error));
  assert_true(settings_same_end(base, base));
}

static void free_keys_may_differ(void **state) {
  (void)state;
  Error error = {0};
  static const char now[] =
      "{\"model\":{\"path\":\"m\",\"recompute\":true},\"optim\":{\"lr\":0.0001,\"schedule\":\"cosine\","
      "\"epochs\":1.0,"
      "\"max_steps\":0,\"micro_batch_tokens\":5},\"run\":{\"dir\":\"b\",\"seed\":1,\"keep\":9},"
      "\"device\":{\"threads\":2}}";
  assert_true(settings_check(base, now, "here", &error));
}

static void differences_are_named(void **state) {
  (void)state;
  Error error = {0};
  static const char now[] =
      "{\"model\":{\"path\":\"n\"},\"optim\":{\"lr\":2e-4,\"schedule\":\"cosine\",\"epochs\":2,\"max_steps\":"
      "0,"
      "\"clip\":1},\"run\":{\"seed\":2}}";
  assert_false(settings_check(base, now, "step-3", &error));
  assert_int_equal(error.code, ERROR_USAGE);
  static const char *const parts[] = {"step-3",
                                      "model.path (was \"m\", is \"n\")",
                                      "optim.lr (was 0.0001, is 0.0002)",
                                      "optim.epochs (was 1, is 2)",
                                      "optim.clip (was unset, is 1)",
                                      "run.seed (was 1, is 2)"};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    if (!strstr(error.message, parts[i])) fail_msg("'%s' is not in: %s", parts[i], error.message);
  }
  assert_null(strstr(error.message, "run.dir (was"));
}

static void constant_schedule_may_go_on_longer(void **state) {
  (void)state;
  Error error = {0};
  static const char before[] = "{\"optim\":{\"schedule\":\"constant\",\"max_steps\":5}}";
  static const char now[] = "{\"optim\":{\"schedule\":\"constant\",\"max_steps\":9}}";
  assert_true(settings_check(before, now, "here", &error));
  assert_false(settings_same_end(before, now));
  static const char rollouts[] = "{\"optim\":{\"schedule\":\"constant\"},\"ppo\":{\"total_episodes\":8}}";
  static const char more[] = "{\"optim\":{\"schedule\":\"constant\"},\"ppo\":{\"total_episodes\":16}}";
  assert_true(settings_check(rollouts, more, "here", &error));
  assert_false(settings_same_end(rollouts, more));
  static const char other[] = "{\"optim\":{\"schedule\":\"linear\",\"max_steps\":9}}";
  assert_false(settings_check(before, other, "here", &error));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(same_settings_pass),
      cmocka_unit_test(free_keys_may_differ),
      cmocka_unit_test(differences_are_named),
      cmocka_unit_test(constant_schedule_may_go_on_longer),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
