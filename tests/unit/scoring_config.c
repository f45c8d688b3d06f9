/* The list of reward sources: what is taken, and what is said of what is not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "scoring/config.h"
#include "scoring/source.h"

#include <string.h>

/* NULL: it is read. */
static void expect(const char *sources, const char *message) {
  ScoringConfig config;
  Error error = {0};
  const bool ok = scoring_config_read(&config, &(ModelPlace){0}, sources, &error);
  if (ok != !message) fail_msg("%s: %s", sources, ok ? "was read" : error.message);
  if (message && !strstr(error.message, message)) fail_msg("'%s' is not in: %s", message, error.message);
  if (!ok) assert_int_equal(error.code, ERROR_USAGE);
  scoring_config_free(&config);
}

#define RULE "\"kind\": \"rules\", \"json\": \"any\""

static void lists(void **state) {
  (void)state;
  expect("[{" RULE "}]", NULL);
  expect("[{" RULE ", \"weight\": -0.5}, {\"kind\": \"model\", \"path\": \"rm\"}]", NULL);
  expect("[{" RULE "}, {" RULE "}]",
         "reward.sources[1]: 'name': 'rules' is the name of reward.sources[0] already");
  expect("[{" RULE ", \"name\": \"a/b\"}]",
         "'name': expected up to 40 letters, digits, _, - and ., found 'a/b'");
  expect("[{" RULE ", \"name\": \"\"}]", "'name': expected up to 40");
  expect("[{\"path\": \"rm\"}]", "reward.sources[0]: 'kind': expected one of model, ");
  expect("[{\"kind\": \"modle\"}]", "'modle' is not one of model, ");
  expect("[{\"kind\": \"modle\"}]", "did you mean 'model'?");
  expect("[{\"kind\": \"model\"}]", "reward.sources[0]: 'path' is required (reward model, ");
  expect("[{" RULE "}, {\"kind\": \"model\", \"path\": \"rm\", \"adaptor\": \"x\"}]",
         "reward.sources[1]: unknown key 'adaptor'; did you mean 'adapter'?");
  expect("[{\"kind\": \"model\", \"path\": 7}]",
         "reward.sources[0]: 'path': expected a string, found a number (7)");
}

static void rules(void **state) {
  (void)state;
  expect("[{\"kind\": \"rules\"}]",
         "reward.sources[0]: no rule is given: expected length, repetition, format, exact or json");
  expect("[{\"kind\": \"rules\", \"format\": \"(a\"}]",
         "reward.sources[0]: 'format': missing closing parenthesis at byte 2");
  expect("[{\"kind\": \"rules\", \"exact_extract\": \"a\", \"length\": 3}]",
         "'exact_extract' is given without 'exact', which says what it is compared with");
  expect("[{\"kind\": \"rules\", \"exact\": \"reference\", \"exact_extract_reference\": \"[\"}]",
         "'exact_extract_reference': missing terminating ]");
  expect("[{\"kind\": \"rules\", \"length\": -1}]", "'length': -1 is out of range");
  expect("[{\"kind\": \"rules\", \"json\": \"yes\"}]", "'yes' is not one of none, any, object, list");
}

static void the_short_form(void **state) {
  (void)state;
  ScoringConfig config;
  Error error = {0};
  char path[] = "rm", adapter[] = "a", policy[] = "p", other[] = "c";
  const ModelPlace model = {path, adapter}, none = {0}, actor = {policy, NULL}, critic = {other, NULL};
  assert_true(scoring_config_read(&config, &model, NULL, &error));
  assert_true(config.brief && config.count == 1 && config.items[0].kind == &model_source);
  CriticStart start = critic_start(&config, &none, &actor);
  assert_true(start.is_reward);
  assert_string_equal(start.place.path, "rm");
  assert_string_equal(start.place.adapter, "a");
  start = critic_start(&config, &critic, &actor);
  assert_true(!start.is_reward && start.place.path == other && !start.place.adapter);
  scoring_config_free(&config);

  /* Several sources, or one that is no model: there is no one model to begin as. */
  assert_true(scoring_config_read(&config, &none, "[{" RULE "}]", &error));
  start = critic_start(&config, &none, &actor);
  assert_true(!start.is_reward && start.place.path == policy);
  scoring_config_free(&config);

  assert_false(scoring_config_read(&config, &none, NULL, &error));
  assert_non_null(strstr(error.message, "'reward.path' or 'reward.sources' is required"));
  scoring_config_free(&config);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(lists), cmocka_unit_test(rules),
                                     cmocka_unit_test(the_short_form)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
