/* The language model inside a multimodal directory (tests/fixtures/make_multimodal.py) is that of arch/gemma3: its logits, and what
 * is saved. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/support/rig.h"
#include "tests/support/saved.h"
#include "tests/temporary.h"

static const double TOLERANCE = 2e-5;

static void logits(Rig *rig, void *context) {
  rig_outputs(rig, context);
}

static void is_the_text_model(void **state) {
  const char *name = *state;
  char directory[512], saved[512], config[512];
  Error error = {0};
  Fixture fixture;
  Rig rig;
  Temporary folder;
  int64_t count;
  temporary_open(&folder);
  snprintf(directory, sizeof directory, "%s/multimodal/%s", FIXTURES, name);
  snprintf(saved, sizeof saved, "%s/saved", folder.directory);
  snprintf(config, sizeof config, "%s/saved/config.json", folder.directory);
  fixture_open(&fixture, "arch/gemma3/expected");
  const float *want = fixture_floats(&fixture, "logits", &count);
  float *out = calloc((size_t)count, sizeof *out);
  assert_non_null(out);
  rig_open(&rig, (RigSpec){.model = directory, .batch = &fixture}, logits, out);
  rig_outputs(&rig, out);
  assert_near(name, out, want, count, TOLERANCE);
  rig_check(model_save(&rig.model, NULL, NULL, NULL, directory, saved, DTYPE_F32, &rig.compute, &error),
            &error);
  assert_same_tensors(saved, FIXTURES "/arch/gemma3", "model");
  rig_close(&rig);
  rig_open(&rig, (RigSpec){.model = saved, .batch = &fixture}, logits, out);
  assert_string_equal(rig.model.arch->model_type, "gemma3_text");
  assert_null(json_object_get(rig.model.config, "text_config"));
  assert_int_equal(json_array_size(json_object_get(rig.model.config, "eos_token_id")),
                   2); /* the whole model's */
  rig_outputs(&rig, out);
  assert_near(name, out, want, count, TOLERANCE);
  rig_close(&rig);
  fixture_close(&fixture);
  free(out);
  temporary_close(&folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      {"gemma3", is_the_text_model, NULL, NULL, (void *)"gemma3"},
      {"gemma3_new", is_the_text_model, NULL, NULL, (void *)"gemma3_new"},
  };
  return cmocka_run_group_tests_name("parity/multimodal", tests, NULL, NULL);
}
