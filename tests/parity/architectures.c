/* Every architecture there is a fixture of (tests/fixtures/make_architectures.py): what PyTorch makes of a tiny checkpoint, of
 * its gradients, and of a PEFT adapter over it.
 *
 * The list is what tests/fixtures/arch holds. Arguments name some of it. With DROVER_SAVED=DIR what is saved stays there, for
 * tests/arch/transformers.sh to load. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/support/decode.h"
#include "tests/support/saved.h"
#include "tests/folder.h"

static const double TOLERANCE = 2e-5;
static const double GRADIENT_TOLERANCE = 1e-4; /* relative, per tensor */

/* One directory of the fixtures, opened with or without its adapter. */
typedef struct Loaded {
  Fixture fixture;
  Rig rig;
  char model[512], adapter[512];
  const float *want; /* logits [T,V] */
  int64_t count;
  DecodeBatch decode; /* its `out` is that of the full forward too */
  PassMode mode;
  double loss;
} Loaded;

static void all_logits(Rig *rig, void *context) {
  rig_outputs(rig, ((Loaded *)context)->decode.out);
}

static void cached_logits(Rig *rig, void *context) {
  decode_batch(rig, &((Loaded *)context)->decode);
}

static void sft(Rig *rig, void *context) {
  Loaded *l = context;
  float logprob[RIG_ROWS];
  const size_t mark = arena_mark(&rig->step);
  rig_forward(rig, l->mode);
  l->loss = rig_sft_backward(rig, &l->fixture, logprob);
  pass_backward(&rig->pass);
  arena_release(&rig->step, mark);
}

/* Either may take more memory. */
static void sft_both_ways(Rig *rig, void *context) {
  Loaded *l = context;
  for (int again = 0; again < 2; again++) {
    l->mode = again ? PASS_RECOMPUTE : PASS_TRAIN;
    sft(rig, context);
  }
  l->mode = PASS_TRAIN;
}

static void logits_and_sft(Rig *rig, void *context) {
  all_logits(rig, context);
  sft(rig, context);
}

/* spec: model and adapter are filled in, the adapter where it is not NULL. */
static void load(Loaded *l, const char *name, RigSpec spec, RigWork *work) {
  char expected[256];
  *l = (Loaded){.mode = PASS_TRAIN};
  snprintf(l->model, sizeof l->model, "%s/arch/%s", FIXTURES, name);
  snprintf(l->adapter, sizeof l->adapter, "%s/arch/%s/adapter", FIXTURES, name);
  snprintf(expected, sizeof expected, "arch/%s%s/expected", name, spec.adapter ? "/adapter" : "");
  fixture_open(&l->fixture, expected);
  l->want = fixture_floats(&l->fixture, "logits", &l->count);
  l->decode.out = calloc((size_t)l->count, sizeof(float));
  assert_non_null(l->decode.out);
  spec.model = l->model;
  spec.batch = &l->fixture;
  if (spec.adapter) spec.adapter = l->adapter;
  rig_open(&l->rig, spec, work, l);
}

static void unload(Loaded *l) {
  rig_close(&l->rig);
  fixture_close(&l->fixture);
  free(l->decode.out);
}

static void assert_logits(const char *name, const Loaded *l) {
  print_message("    %s: largest difference %.2g\n", name,
                largest_difference(l->decode.out, l->want, l->count));
  assert_near(name, l->decode.out, l->want, l->count, TOLERANCE);
}

static void test_logits(void **state) {
  Loaded l;
  load(&l, *state, (RigSpec){0}, all_logits);
  all_logits(&l.rig, &l);
  assert_logits(*state, &l);
  unload(&l);
}

static void test_decode(void **state) {
  Loaded l;
  load(&l, *state, (RigSpec){0}, cached_logits);
  cached_logits(&l.rig, &l);
  assert_logits(*state, &l);
  unload(&l);
}

/* Copies of all gradients, which become 0. */
static float **take_gradients(Rig *rig) {
  float **taken = calloc(rig->parameters.count, sizeof *taken);
  assert_non_null(taken);
  for (size_t i = 0; i < rig->parameters.count; i++) {
    taken[i] = rig_host(rig, rig->parameters.items[i].grad);
    op_fill(&rig->compute, rig->parameters.items[i].grad, 0);
  }
  return taken;
}

/* The backward that runs blocks again gives the same bits as the one that kept everything. */
static void test_gradients(void **state) {
  Loaded l;
  load(&l, *state, (RigSpec){.train = true}, sft_both_ways);
  sft(&l.rig, &l);
  assert_number("loss", l.loss, fixture_float(&l.fixture, "loss"), TOLERANCE);
  rig_assert_gradients(&l.rig, &l.fixture, GRADIENT_TOLERANCE);
  float **kept = take_gradients(&l.rig);
  const double loss = l.loss;
  l.mode = PASS_RECOMPUTE;
  sft(&l.rig, &l);
  assert_true(l.loss == loss);
  float **again = take_gradients(&l.rig);
  for (size_t i = 0; i < l.rig.parameters.count; i++) {
    const Parameter *p = &l.rig.parameters.items[i];
    if (memcmp(kept[i], again[i], (size_t)tensor_count(p->grad) * sizeof(float)) != 0)
      fail_msg("%s: run again, the block gives another gradient", p->name);
    free(kept[i]);
    free(again[i]);
  }
  free(kept);
  free(again);
  unload(&l);
}

static void test_adapter(void **state) {
  Loaded l;
  load(&l, *state, (RigSpec){.adapter = "", .train = true}, logits_and_sft);
  logits_and_sft(&l.rig, &l);
  assert_logits(*state, &l);
  assert_number("loss", l.loss, fixture_float(&l.fixture, "loss"), TOLERANCE);
  rig_assert_gradients(&l.rig, &l.fixture, GRADIENT_TOLERANCE);
  unload(&l);
}

/* KIND-NAME where this run saves. */
static void saved_path(char *out, size_t size, const char *kind, const char *name) {
  const char *root = getenv("DROVER_SAVED");
  snprintf(out, size, "%s/%s-%s", root ? root : folder.directory, kind, name);
}

static void test_save(void **state) {
  Error error = {0};
  Loaded l;
  char saved[512];
  saved_path(saved, sizeof saved, "model", *state);
  load(&l, *state, (RigSpec){0}, all_logits);
  all_logits(&l.rig, &l);
  rig_check(model_save(&l.rig.model, NULL, NULL, NULL, l.model, saved, DTYPE_F32, &l.rig.compute, &error),
            &error);
  const Model *model = &l.rig.model;
  assert_same_tensors_but(saved, l.model, "model",
                          model->spec.head_normalized ? model->tensors[model->head].name : NULL);
  float *first = l.decode.out;
  l.decode.out = calloc((size_t)l.count, sizeof *first);
  assert_non_null(l.decode.out);
  rig_close(&l.rig);
  rig_open(&l.rig, (RigSpec){.model = saved, .batch = &l.fixture}, all_logits, &l);
  all_logits(&l.rig, &l);
  assert_memory_equal(l.decode.out, first, (size_t)l.count * sizeof *first);
  free(first);
  unload(&l);
}

static void test_save_adapter(void **state) {
  Error error = {0};
  Loaded l;
  char saved[512];
  saved_path(saved, sizeof saved, "adapter", *state);
  load(&l, *state, (RigSpec){.adapter = ""}, all_logits);
  rig_check(lora_save(&l.rig.adapter, NULL, l.rig.model.spec.hidden, (ScoreZero){0},
                      (LoraBase){l.model, NULL}, saved, &l.rig.compute, &error),
            &error);
  assert_same_tensors(saved, l.adapter, "adapter_model");
  unload(&l);
}

/* The adapter added to the weights gives the logits of both. */
static void test_merge(void **state) {
  Error error = {0};
  Loaded l;
  char saved[512];
  saved_path(saved, sizeof saved, "merged", *state);
  load(&l, *state, (RigSpec){.adapter = ""}, all_logits);
  rig_check(
      model_save(&l.rig.model, NULL, &l.rig.adapter, NULL, l.model, saved, DTYPE_F32, &l.rig.compute, &error),
      &error);
  rig_close(&l.rig);
  rig_open(&l.rig, (RigSpec){.model = saved, .batch = &l.fixture}, all_logits, &l);
  all_logits(&l.rig, &l);
  assert_logits(*state, &l);
  unload(&l);
}

static bool wanted(const char *name, int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(name, argv[i]) == 0) return true;
  return argc == 1;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    CMUnitTestFunction run;
  } kinds[] = {{"logits", test_logits},   {"gradients", test_gradients}, {"decode", test_decode},
               {"adapter", test_adapter}, {"save", test_save},           {"save adapter", test_save_adapter},
               {"merge", test_merge}};
  const size_t brief = 4; /* of an emulated card: what computes there */
  enum { KINDS = sizeof kinds / sizeof *kinds, MOST = 256 };
  static char names[MOST * KINDS][128];
  static struct CMUnitTest tests[MOST * KINDS];
  size_t count = 0;
  StringList list = {0};
  Error error = {0};
  if (!directory_list(FIXTURES "/arch", &list, &error)) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  for (size_t i = 0; i < list.count; i++) {
    if (!wanted(list.items[i], argc, argv)) continue;
    for (size_t k = 0; k < (device_brief() ? brief : KINDS) && count < MOST * KINDS; k++, count++) {
      snprintf(names[count], sizeof names[0], "%s %s", list.items[i], kinds[k].name);
      tests[count] = (struct CMUnitTest){names[count], kinds[k].run, NULL, NULL, list.items[i]};
    }
  }
  if (count == 0 || count == MOST * KINDS) {
    fprintf(stderr, "%zu tests: none, or more than there is room for\n", count);
    return 1;
  }
  const int failed = _cmocka_run_group_tests("parity/architectures", tests, count, open_folder, close_folder);
  string_list_free(&list);
  return failed;
}
