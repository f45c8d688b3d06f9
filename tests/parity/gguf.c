/* Models in GGUF: their logits are those of Transformers with the dequantised weights (tests/fixtures/make_gguf.py), and what is saved of
 * them is a Hugging Face directory with the same logits.
 *
 * With DROVER_SAVED=DIR the directories are left there, for tests/real/peers.py to load with Transformers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/gguf.h"
#include "model/digest.h"
#include "tests/support/rig.h"
#include "tests/folder.h"

static const double TOLERANCE = 2e-5;

static void nothing(Rig *rig, void *context) {
  (void)context;
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, PASS_INFERENCE);
  float *ignored = malloc((size_t)(rig->batch.tokens * rig->model.spec.vocab) * sizeof *ignored);
  rig_outputs(rig, ignored);
  free(ignored);
  arena_release(&rig->step, mark);
}

static void assert_logits(const char *name, const char *path, Fixture *fixture, const char *saved) {
  Rig rig;
  Error error = {0};
  int64_t count;
  const float *want = fixture_floats(fixture, "logits", &count);
  float *got = malloc((size_t)count * sizeof *got);
  rig_open(&rig, (RigSpec){.model = path, .batch = fixture}, nothing, NULL);
  rig_forward(&rig, PASS_INFERENCE);
  rig_outputs(&rig, got);
  print_message("    %s: largest difference %.2g\n", name, largest_difference(got, want, count));
  assert_near(name, got, want, count, TOLERANCE);
  if (saved)
    rig_check(model_save(&rig.model, NULL, NULL, NULL, path, saved, DTYPE_F32, &rig.compute, &error), &error);
  rig_close(&rig);
  free(got);
}

static void test_model(void **state) {
  const char *name = *state;
  Fixture fixture;
  char path[512], arrays[128], saved[512];
  const char *root = getenv("DROVER_SAVED");
  snprintf(path, sizeof path, FIXTURES "/gguf/%s.gguf", name);
  snprintf(arrays, sizeof arrays, "gguf/%s", name);
  snprintf(saved, sizeof saved, "%s/gguf-%s", root ? root : folder.directory, name);
  fixture_open(&fixture, arrays);
  assert_logits(name, path, &fixture, saved);
  assert_logits("  saved", saved, &fixture, NULL);
  fixture_close(&fixture);
}

/* The weights of a model are the same ones in whatever file they stand, once they are rounded. */
static void a_digest_is_of_the_values(void **state) {
  (void)state;
  Error error = {0};
  WeightsDigest file, directory, saved;
  char one[512];
  snprintf(one, sizeof one, "%s/alone", folder.directory);
  rig_check(directory_create(one, &error), &error);
  snprintf(one, sizeof one, "%s/alone/model.gguf", folder.directory);
  rig_check(file_copy(FIXTURES "/gguf/llama_mixed.gguf", one, &error), &error);
  snprintf(one, sizeof one, "%s/alone", folder.directory);
  rig_check(weights_digest(&file, FIXTURES "/gguf/llama_mixed.gguf", &error) &&
                weights_digest(&directory, one, &error),
            &error);
  assert_string_equal(file.exact, directory.exact);
  snprintf(one, sizeof one, "%s/gguf-llama_mixed",
           getenv("DROVER_SAVED") ? getenv("DROVER_SAVED") : folder.directory);
  rig_check(weights_digest(&saved, one, &error), &error);
  assert_string_equal(file.rounded, saved.rounded);
}

int main(void) {
  static const char *const names[] = {"llama",        "llama_text", "llama_mixed", "llama_k", "llama3",
                                      "llama_linear", "qwen2",      "qwen3",       "gemma",   "gemma2",
                                      "gemma3",       "gpt2",       "gptneox",     "phi2",    "starcoder2",
                                      "stablelm",     "nemotron",   "olmo2",       "granite", "command_r"};
  enum { COUNT = sizeof names / sizeof *names };
  struct CMUnitTest tests[COUNT + 1];
  for (size_t i = 0; i < COUNT; i++)
    tests[i] = (struct CMUnitTest){names[i], test_model, NULL, NULL, (void *)names[i]};
  tests[COUNT] = (struct CMUnitTest)cmocka_unit_test(a_digest_is_of_the_values);
  return cmocka_run_group_tests_name("parity/gguf", tests, open_folder, close_folder);
}
