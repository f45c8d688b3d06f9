/* Lists of objects, and one object by a table of its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/option.h"

#include <string.h>

typedef struct Config {
  char *things;
} Config;

static const Option table[] = {
    ROW_OBJECTS("zoo.things", Config, things, "what there is", .when = "no zoo.things")};

typedef struct Thing {
  char *name;
  double weight;
  int64_t legs;
} Thing;

static const Option thing_table[] = {ROW_STRING_REQUIRED("name", Thing, name, "how it is called"),
                                     ROW_FLOAT("weight", Thing, weight, "1", 0, 100, "kilograms"),
                                     ROW_INT("body.legs", Thing, legs, "4", 0, 8, "legs")};
enum { THING_ROWS = 3 };

/* NULL: refused, with `expected` in the message. */
static void expect_list(const char *text, const char *resolved, const char *expected) {
  Config config = {0};
  OptionRequest request;
  Error error = {0};
  char *argv[] = {"test", "--zoo.things", (char *)text};
  const bool ok = options_parse(table, 1, &config, 3, argv, &request, &error);
  assert_int_equal(ok, resolved != NULL);
  if (!ok && !strstr(error.message, expected)) fail_msg("%s", error.message);
  if (ok) {
    Buffer out = {0};
    Config again = {0};
    assert_true(options_json(table, 1, &config, &out, &error));
    if (!strstr(out.data, resolved)) fail_msg("%s", out.data);
    assert_true(options_recall(table, 1, &again, out.data, "here", &error));
    if (config.things)
      assert_string_equal(again.things, config.things);
    else
      assert_null(again.things);
    options_free(table, 1, &again);
    buffer_free(&out);
  }
  options_free(table, 1, &config);
}

static void lists_of_objects(void **state) {
  (void)state;
  expect_list("[{\"b\": 0.1, \"a\": {\"x\": [1]}}, {}]", "\"things\": [{\"b\":0.1,\"a\":{\"x\":[1]}},{}]",
              NULL);
  expect_list("{\"b\": 0.1000000000000000055}", "\"things\": [{\"b\":0.1}]", NULL);
  expect_list("{\"b\": 0.12345678901234567}", "\"things\": [{\"b\":0.12345678901234566", NULL);
  expect_list("[]", "\"things\": null", NULL);
  expect_list("", "\"things\": null", NULL);
  expect_list("[1]", NULL, "expected a list of objects with an object in it, found a number (1)");
  expect_list("7", NULL, "broken JSON");
  expect_list("[{\"a\": 1, \"a\": 2}]", NULL, "broken JSON at column");
}

static void expect_thing(const char *text, const Thing *expected, const char *message) {
  Thing thing = {0};
  Error error = {0};
  json_error_t broken;
  json_t *object = json_parse(text, strlen(text), json_limit_config, 0, &broken);
  assert_non_null(object);
  const bool ok = options_read(thing_table, THING_ROWS, &thing, object, "zoo.things[2]", &error);
  json_decref(object);
  if (!ok) {
    if (!message || !strstr(error.message, message)) fail_msg("%s", error.message);
    assert_int_equal(error.code, ERROR_USAGE);
  } else {
    assert_non_null(expected);
    assert_string_equal(thing.name, expected->name);
    assert_true(thing.weight == expected->weight && thing.legs == expected->legs);
  }
  options_free(thing_table, THING_ROWS, &thing);
}

static void one_object_by_its_table(void **state) {
  (void)state;
  expect_thing("{\"name\": \"cat\"}", &(Thing){(char[]){"cat"}, 1, 4}, NULL);
  expect_thing("{\"name\": \"hen\", \"weight\": 2.5, \"body\": {\"legs\": 2}}",
               &(Thing){(char[]){"hen"}, 2.5, 2}, NULL);
  expect_thing("{\"weight\": 2}", NULL, "zoo.things[2]: 'name' is required (how it is called)");
  expect_thing("{\"name\": 2}", NULL, "zoo.things[2]: 'name': expected a string, found a number");
  expect_thing("{\"name\": \"cat\", \"weigth\": 2}", NULL,
               "zoo.things[2]: unknown key 'weigth'; did you mean 'weight'?");
  expect_thing("{\"name\": \"cat\", \"body\": {\"leg\": 2}}", NULL, "did you mean 'body.legs'?");
  expect_thing("{\"name\": \"cat\", \"weight\": 101}", NULL, "101 is out of range");
  expect_thing("{\"name\": \"cat\", \"weight\": NaN}", NULL, "expected a number, found NaN");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(lists_of_objects),
                                     cmocka_unit_test(one_object_by_its_table)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
