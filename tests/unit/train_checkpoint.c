#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/temporary.h"
#include "train/checkpoint_parts.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char settings[] = "{\"optim\":{\"lr\":0.1},\"run\":{\"keep\":2}}";

typedef struct Bench {
  Temporary folder;
  Compute compute;
  Log log;
} Bench;

static Bench bench;

static int open_bench(void **state) {
  (void)state;
  Error error = {0};
  temporary_open(&bench.folder);
  log_init(&bench.log, stderr, LOG_ERROR + 1);
  return compute_open(&bench.compute, DEVICE_CPU, 1, &error) ? 0 : -1;
}

static int close_bench(void **state) {
  (void)state;
  compute_close(&bench.compute);
  temporary_close(&bench.folder);
  return 0;
}

/* A state with one value of each kind. */
typedef struct State {
  int64_t cursor;
  double loss, odd;
  float weights[6], moments[2];
  uint16_t narrow[3];
  int32_t array[4];
} State;

static bool exchange(State *s, Checkpoint *c, Error *error) {
  return checkpoint_int(c, "cursor", &s->cursor, error) && checkpoint_float(c, "loss", &s->loss, error) &&
         checkpoint_float(c, "odd", &s->odd, error) &&
         checkpoint_tensor(c, "policy.value.w", tensor_2d(s->weights, DTYPE_F32, 2, 3), error) &&
         checkpoint_tensor(c, "policy.value.n", tensor_1d(s->narrow, DTYPE_BF16, 3), error) &&
         checkpoint_host_tensor(c, "policy.mean.w", tensor_1d(s->moments, DTYPE_F32, 2), error) &&
         checkpoint_array(c, "array", DTYPE_I32, s->array, 4, error);
}

static State example(int64_t step) {
  State s = {.cursor = (INT64_C(1) << 60) + step, .loss = 0.1 * (double)step, .odd = NAN};
  for (int i = 0; i < 6; i++) s.weights[i] = (float)step + 0.1f * (float)i;
  for (int i = 0; i < 2; i++) s.moments[i] = (float)(step - i);
  for (int i = 0; i < 3; i++) s.narrow[i] = (uint16_t)(step + i);
  for (int i = 0; i < 4; i++) s.array[i] = (int32_t)(step - i);
  return s;
}

static bool save(int64_t step, Error *error) {
  Checkpoint c;
  State s = example(step);
  bool ok = checkpoint_begin(&c, "sft", step, settings, &bench.compute, error) && exchange(&s, &c, error) &&
            checkpoint_commit(&c, bench.folder.directory, (CheckpointKeep){2, 0}, error);
  checkpoint_close(&c);
  return ok;
}

static void must_save(int64_t step) {
  Error error = {0};
  if (!save(step, &error)) fail_msg("%s", error.message);
}

/* The step found, -1 for none; fails the test on an error. */
static int64_t must_find(void) {
  Error error = {0};
  Checkpoint c;
  bool found;
  State s = {0};
  if (!checkpoint_find(&c, bench.folder.directory, "sft", (Settings){settings, "{}"}, &bench.compute,
                       &bench.log, &found, &error)) {
    fail_msg("%s", error.message);
  }
  int64_t step = found ? c.step : -1;
  if (found) {
    if (!exchange(&s, &c, &error)) fail_msg("%s", error.message);
    State expected = example(step);
    assert_true(s.cursor == expected.cursor && s.loss == expected.loss && isnan(s.odd));
    assert_memory_equal(s.weights, expected.weights, sizeof s.weights);
    assert_memory_equal(s.moments, expected.moments, sizeof s.moments);
    assert_memory_equal(s.narrow, expected.narrow, sizeof s.narrow);
    assert_memory_equal(s.array, expected.array, sizeof s.array);
  }
  checkpoint_close(&c);
  return step;
}

static const char *in_step(int64_t step, const char *name) {
  char path[128];
  snprintf(path, sizeof path, "checkpoints/step-%d/%s", (int)step, name);
  return temporary_path(&bench.folder, path);
}

static void what_is_saved_is_found(void **state) {
  (void)state;
  assert_int_equal(must_find(), -1);
  must_save(3);
  assert_int_equal(must_find(), 3);
}

static void only_the_newest_are_kept(void **state) {
  (void)state;
  for (int64_t step = 8; step <= 12; step++) must_save(step); /* 9 -> 10: by number, not by name */
  assert_int_equal(must_find(), 12);
  assert_true(directory_exists(in_step(11, "")));
  assert_false(directory_exists(in_step(10, "")));
  assert_false(directory_exists(in_step(3, "")));
}

static void checkpoints_after_a_rewind_go(void **state) {
  (void)state;
  must_save(20);
  must_save(5); /* the run was taken back to before step 5 */
  assert_int_equal(must_find(), 5);
  assert_false(directory_exists(in_step(20, "")));
}

/* Cuts a file, or flips one bit of it. */
static void damage(const char *path, bool cut) {
  FILE *file = fopen(path, "r+b");
  assert_non_null(file);
  fseek(file, 0, SEEK_END);
  long size = ftell(file);
  if (cut) {
    assert_int_equal(ftruncate(fileno(file), size / 2), 0);
  } else {
    fseek(file, size - 3, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, size - 3, SEEK_SET);
    fputc(byte ^ 16, file);
  }
  fclose(file);
}

static void a_damaged_one_falls_back(void **state) {
  (void)state;
  static const char *const files[] = {"state.safetensors", "manifest.json"};
  for (int i = 0; i < 4; i++) {
    must_save(6);
    must_save(7);
    assert_int_equal(must_find(), 7);
    damage(in_step(7, files[i / 2]), i % 2);
    assert_int_equal(must_find(), 6);
  }
  assert_int_equal(unlink(in_step(6, "manifest.json")), 0);
  Error error = {0};
  Checkpoint c;
  bool found;
  assert_false(checkpoint_find(&c, bench.folder.directory, "sft", (Settings){settings, "{}"}, &bench.compute,
                               &bench.log, &found, &error));
  checkpoint_close(&c);
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "no intact checkpoint"));
  must_save(7); /* in place of the damaged one */
  assert_int_equal(must_find(), 7);
}

static void expect_refused(const char *stage, const char *config, ErrorCode code, const char *text) {
  Error error = {0};
  Checkpoint c;
  bool found;
  assert_false(checkpoint_find(&c, bench.folder.directory, stage, (Settings){config, "{}"}, &bench.compute,
                               &bench.log, &found, &error));
  checkpoint_close(&c);
  assert_int_equal(error.code, code);
  if (!strstr(error.message, text)) fail_msg("'%s' is not in: %s", text, error.message);
}

/* The newest cannot be read now (a link in a circle stands for a disk that is away): an older one must not be taken in its
 * place, and when it can be read again it goes on. */
static void one_that_cannot_be_read_is_not_passed_over(void **state) {
  (void)state;
  static const char *const files[] = {"state.safetensors", "manifest.json", "."};
  must_save(6);
  must_save(7);
  for (int i = 0; i < 3; i++) {
    char away[600], path[512];
    snprintf(path, sizeof path, "%s",
             i < 2 ? in_step(7, files[i]) : temporary_path(&bench.folder, "checkpoints"));
    snprintf(away, sizeof away, "%s.away", path);
    assert_int_equal(rename(path, away), 0);
    assert_int_equal(symlink(path, path), 0);
    expect_refused("sft", settings, ERROR_FILE, "cannot read");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rename(away, path), 0);
    assert_int_equal(must_find(), 7);
  }
}

/* A missing file, a directory or a pipe (which would be waited for) in a file's place: damage, never opened. */
static void what_is_no_file_falls_back(void **state) {
  (void)state;
  static const char *const files[] = {"state.safetensors", "manifest.json"};
  for (int i = 0; i < 6; i++) {
    must_save(6);
    must_save(7);
    const char *path = in_step(7, files[i / 3]);
    assert_int_equal(unlink(path), 0);
    if (i % 3 == 1) assert_int_equal(mkdir(path, 0777), 0);
    if (i % 3 == 2) assert_int_equal(mkfifo(path, 0666), 0);
    assert_int_equal(must_find(), 6);
  }
}

/* Changes the manifest of step 7 by a jansson object that is merged into it, and gives it the digest that fits. */
static void forge(const char *changes) {
  Error error = {0};
  json_t *manifest = json_load_file(in_step(7, "manifest.json"), 0, NULL),
         *change = json_loads(changes, 0, NULL);
  assert_true(manifest && change);
  json_object_update_recursive(manifest, change);
  char digest[33];
  assert_true(manifest_digest(manifest, digest, &error));
  json_object_set_new(manifest, "digest", json_string(digest));
  assert_int_equal(json_dump_file(manifest, in_step(7, "manifest.json"), 0), 0);
  json_decref(manifest);
  json_decref(change);
}

static void a_manifest_that_says_what_none_says_falls_back(void **state) {
  (void)state;
  static const char *const changes[] = {
      "{\"step\": 1000000000000000000}",
      "{\"step\": -1}",
      "{\"step\": \"7\"}",
      "{\"files\": {\"../../secret\": \"00\"}}",
      "{\"files\": {\"other\": \"00\"}}",
      "{\"files\": {\"state.safetensors\": 7}}",
      "{\"files\": null}",
  };
  for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
    must_save(6);
    must_save(7);
    forge(changes[i]);
    assert_int_equal(must_find(), 6);
  }
}

static void a_negative_count_is_refused(void **state) {
  (void)state;
  Error error = {0};
  Checkpoint c;
  bool found;
  int64_t number;
  must_save(7);
  forge("{\"ints\": {\"cursor\": -1}}");
  assert_true(checkpoint_find(&c, bench.folder.directory, "sft", (Settings){settings, "{}"}, &bench.compute,
                              &bench.log, &found, &error));
  assert_false(checkpoint_count(&c, "cursor", &number, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "'cursor' is -1, expected at least 0"));
  checkpoint_close(&c);
}

static void another_run_is_refused(void **state) {
  (void)state;
  must_save(7);
  expect_refused("reward", settings, ERROR_USAGE, "stage 'sft'");
  expect_refused("sft", "{\"optim\":{\"lr\":0.1,\"batch_size\":2},\"run\":{\"keep\":2}}", ERROR_USAGE,
                 "optim.batch_size (was unset, is 2)");
}

/* By its step alone, whatever run it is of. */
static void one_is_opened_by_itself(void **state) {
  (void)state;
  must_save(7);
  must_save(9);
  const int64_t steps[][2] = {{7, 7}, {9, 9}, {-1, 9}};
  for (size_t i = 0; i < 3; i++) {
    Error error = {0};
    Checkpoint c;
    State found, expected = example(steps[i][1]);
    if (!checkpoint_open(&c, bench.folder.directory, steps[i][0], &bench.log, &error))
      fail_msg("%s", error.message);
    c.compute = &bench.compute;
    assert_int_equal(c.step, steps[i][1]);
    assert_string_equal(checkpoint_stage(&c), "sft");
    char *config = checkpoint_config(&c, &error);
    assert_non_null(strstr(config, "\"lr\""));
    memory_free(config);
    assert_true(exchange(&found, &c, &error));
    assert_memory_equal(found.weights, expected.weights, sizeof found.weights);
    checkpoint_close(&c);
  }
  Error error = {0};
  Checkpoint c;
  assert_false(checkpoint_open(&c, bench.folder.directory, 8, &bench.log, &error));
  assert_int_equal(error.code, ERROR_USAGE);
  assert_non_null(strstr(error.message, "no checkpoint of step 8; there are: 7, 9"));
  checkpoint_close(&c);
  error = (Error){0};
  assert_false(checkpoint_open(&c, "nowhere", -1, &bench.log, &error));
  assert_int_equal(error.code, ERROR_MODEL);
  checkpoint_close(&c);
}

static void another_shape_is_refused(void **state) {
  (void)state;
  must_save(7);
  Error error = {0};
  Checkpoint c;
  bool found;
  float values[6];
  int64_t number;
  assert_true(checkpoint_find(&c, bench.folder.directory, "sft", (Settings){settings, "{}"}, &bench.compute,
                              &bench.log, &found, &error));
  assert_false(checkpoint_tensor(&c, "policy.value.w", tensor_2d(values, DTYPE_F32, 3, 2), &error));
  assert_int_equal(error.code, ERROR_MODEL);
  assert_non_null(strstr(error.message, "expected F32 [3, 2], found F32 [2, 3]"));
  error = (Error){0};
  assert_false(checkpoint_int(&c, "absent", &number, &error));
  assert_non_null(strstr(error.message, "'absent'"));
  checkpoint_close(&c);
}

/* Nobody could go on from it, and the former would be removed for it. */
static void what_is_not_finite_is_not_saved(void **state) {
  (void)state;
  static const char *const broken[] = {"policy.value.w: 1 of 6", "policy.value.n: 2 of 3",
                                       "policy.mean.w: 1 of 2"};
  must_save(7);
  for (int which = 0; which < 3; which++) {
    Error error = {0};
    Checkpoint c;
    State s = example(8);
    if (which == 0) s.weights[5] = INFINITY;
    if (which == 1) s.narrow[0] = s.narrow[2] = 0x7fc0; /* NaN */
    if (which == 2) s.moments[1] = NAN;
    assert_true(checkpoint_begin(&c, "sft", 8, settings, &bench.compute, &error) && exchange(&s, &c, &error));
    assert_false(checkpoint_commit(&c, bench.folder.directory, (CheckpointKeep){1, 0}, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    char message[128];
    snprintf(message, sizeof message,
             "checkpoint of step 8: %s values are not finite (NaN or infinite): not saved", broken[which]);
    assert_string_equal(error.message, message);
    checkpoint_close(&c);
    assert_false(directory_exists(in_step(8, "")));
    assert_int_equal(must_find(), 7);
  }
}

/* A limit on the size of files stands for a full disk: write fails in the middle of the tensors. */
static void a_full_disk_leaves_the_former(void **state) {
  (void)state;
  must_save(7);
  struct rlimit former;
  getrlimit(RLIMIT_FSIZE, &former);
  signal(SIGXFSZ, SIG_IGN);
  for (rlim_t bytes = 0; bytes < 400; bytes += 100) {
    struct rlimit small = {bytes, former.rlim_max};
    Error error = {0};
    setrlimit(RLIMIT_FSIZE, &small);
    bool ok = save(8, &error);
    setrlimit(RLIMIT_FSIZE, &former);
    assert_false(ok);
    assert_int_equal(error.code, ERROR_FILE);
    assert_int_equal(must_find(), 7);
  }
  StringList names = {0};
  Error error = {0};
  assert_true(directory_list(temporary_path(&bench.folder, "checkpoints"), &names, &error));
  for (size_t i = 0; i < names.count; i++) assert_null(strstr(names.items[i], "unfinished"));
  string_list_free(&names);
  must_save(8);
  assert_int_equal(must_find(), 8);
}

/* Each allocation fails in turn: an error, and the former checkpoint is still there. */
static void memory_running_out_leaves_the_former(void **state) {
  (void)state;
  must_save(7);
  bool saved = false;
  for (long count = 0; !saved; count++) {
    assert_true(count < 500);
    Error error = {0};
    memory_fail_after(count);
    saved = save(8, &error);
    memory_fail_after(-1);
    if (saved) break;
    assert_int_equal(error.code, ERROR_MEMORY);
    int64_t found = must_find(); /* 8 when only the tidying up after it failed */
    assert_true(found == 7 || found == 8);
  }
  assert_int_equal(must_find(), 8);
  for (long count = 0;; count++) {
    assert_true(count < 500);
    Error error = {0};
    Checkpoint c;
    bool found;
    memory_fail_after(count);
    bool ok = checkpoint_find(&c, bench.folder.directory, "sft", (Settings){settings, "{}"}, &bench.compute,
                              &bench.log, &found, &error);
    memory_fail_after(-1);
    int64_t step = ok && found ? c.step : -1;
    checkpoint_close(&c);
    if (ok) {
      assert_int_equal(step, 8);
      break;
    }
    assert_int_equal(error.code, ERROR_MEMORY);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_is_saved_is_found, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(only_the_newest_are_kept, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(checkpoints_after_a_rewind_go, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(a_damaged_one_falls_back, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(one_that_cannot_be_read_is_not_passed_over, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(what_is_no_file_falls_back, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(a_manifest_that_says_what_none_says_falls_back, open_bench,
                                      close_bench),
      cmocka_unit_test_setup_teardown(a_negative_count_is_refused, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(another_run_is_refused, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(one_is_opened_by_itself, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(another_shape_is_refused, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(what_is_not_finite_is_not_saved, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(a_full_disk_leaves_the_former, open_bench, close_bench),
      cmocka_unit_test_setup_teardown(memory_running_out_leaves_the_former, open_bench, close_bench),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
