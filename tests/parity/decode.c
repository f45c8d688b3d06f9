/* The cached forward of the rollout engine against Transformers' full forward: the same logits, whether a token came in
 * a chunk of its prompt or alone (tests/fixtures/make_models.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/decode.h"
#include "tests/support/rig.h"

static const double TOLERANCE = 2e-5;

static void test_decode(void **state) {
  const char *model = *state;
  char path[512], name[128];
  snprintf(name, sizeof name, "models/%s/expected", model);
  Fixture fixture;
  fixture_open(&fixture, name);
  int64_t count;
  const float *want = fixture_floats(&fixture, "logits", &count);
  DecodeBatch work = {.out = calloc((size_t)count, sizeof(float))};
  Rig rig;
  rig_open(&rig, (RigSpec){.model = fixture_path(path, sizeof path, "models", model), .batch = &fixture},
           decode_batch, &work);
  decode_batch(&rig, &work);
  print_message("    %s: largest difference %.2g\n", model, largest_difference(work.out, want, count));
  assert_near(model, work.out, want, count, TOLERANCE);
  rig_close(&rig);
  fixture_close(&fixture);
  free(work.out);
}

int main(void) {
  static char *const models[] = {
      "llama", "llama3",   "llama_linear",        "mistral", "qwen2",    "qwen2_window",
      "qwen3", "gpt_neox", "gpt_neox_sequential", "gpt2",    "gpt2_bare"};
  enum { COUNT = sizeof models / sizeof *models };
  struct CMUnitTest tests[COUNT];
  for (size_t i = 0; i < COUNT; i++)
    tests[i] = (struct CMUnitTest){models[i], test_decode, NULL, NULL, models[i]};
  return cmocka_run_group_tests_name("parity/decode", tests, NULL, NULL);
}
