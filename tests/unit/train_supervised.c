/* Updates of a supervised stage whose loss or gradient is not finite: left out, named, counted, and up to a limit. The
 * stage is sft, but for what it is told to spoil. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "sft/config.h"
#include "tests/folder.h"
#include "train/token_loss.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <sqlite3.h>

enum { UPDATES = 6 }; /* of 4 examples, 12 there are, twice */

typedef enum Fault { FAULT_NONE, FAULT_LOSS, FAULT_GRADIENT } Fault;

static Fault fault;
static int64_t spoiled_from, spoiled_to; /* updates, from 1 */
static uint64_t spoiled_line;            /* of the first example that was spoiled */

static double size(const Example *example) {
  return example->loss_count;
}

static void learn(Supervised *s, double n, double sums[SUPERVISED_SUMS]) {
  const bool spoil = s->step + 1 >= spoiled_from && s->step + 1 <= spoiled_to;
  Packer *packer = &s->micro.packer;
  const double loss =
      token_loss_backward(packer, &s->pass, spoil && fault == FAULT_GRADIENT ? (double)NAN : 1 / n);
  sums[0] += loss;
  if (!spoil || fault != FAULT_LOSS) return;
  packer->values[packer->row_count - 1] = NAN; /* of the last example */
  if (!spoiled_line) spoiled_line = microbatches_example(&s->micro, packer->count - 1)->line;
  sums[0] = NAN;
}

static void settle(Supervised *s, double n, const double sums[SUPERVISED_SUMS]) {
  s->loss = sums[0] / n;
}

static void judge(Supervised *s) {
  token_loss_read(&s->micro.packer, &s->pass);
}

static bool nothing(Supervised *s, Error *error) {
  (void)s;
  (void)error;
  return true;
}

static bool no_state(Supervised *s, Checkpoint *checkpoint, Error *error) {
  (void)s;
  (void)checkpoint;
  (void)error;
  return true;
}

static void no_metrics(Supervised *s) {
  (void)s;
}

static bool result(const Supervised *s, Buffer *json, Error *error) {
  return buffer_format(json, error, ", \"loss\": %.9g", s->loss);
}

static bool stage_run(const ProgramCall *call, ProgramResult *out, Error *error) {
  static const SupervisedStage stage = {.name = "sft",
                                        .trainee = "policy",
                                        .unit = "example",
                                        .kind = DATASET_TEXT,
                                        .pack = token_loss_pack,
                                        .size = size,
                                        .learn = learn,
                                        .judge = judge,
                                        .settle = settle,
                                        .evaluate = nothing,
                                        .state = no_state,
                                        .metrics = no_metrics,
                                        .result = result,
                                        .next = supervised_next_try};
  return supervised_run(&stage, NULL, call->config, call, out, error);
}

static char said[8192]; /* on standard error */

/* Exit code of a run in folder/NAME. */
static int run(const char *name, Fault what, int64_t from, int64_t to, const char *option) {
  const Program program = {.name = "sft",
                           .options = sft_options,
                           .option_count = sft_option_count,
                           .config_size = sizeof(SupervisedConfig),
                           .run = stage_run};
  char directory[512];
  snprintf(directory, sizeof directory, "--run.dir=%s/%s", folder.directory, name);
  const char *const argv[] = {"sft", "--config=fixtures/runs/sft_full.json", directory, "--run.save_every=1",
                              option ? option : "--run.keep=1"};
  fault = what;
  spoiled_from = from;
  spoiled_to = to;
  spoiled_line = 0;
  FILE *out = tmpfile(), *err = tmpfile();
  assert_true(out && err);
  const int code = program_run(&program, 5, (char **)argv, out, err);
  rewind(err);
  said[fread(said, 1, sizeof said - 1, err)] = '\0';
  fclose(out);
  fclose(err);
  return code;
}

static void expect_said(const char *text) {
  if (!strstr(said, text)) fail_msg("'%s' is not in: %s", text, said);
}

static void digest(const char *name, char out[33]) {
  char path[128];
  Error error = {0};
  snprintf(path, sizeof path, "%s/model/model.safetensors", name);
  assert_true(file_digest(temporary_path(&folder, path), out, &error));
}

/* A number of the last checkpoint. */
static int64_t stored(const char *name, const char *value) {
  char path[128];
  snprintf(path, sizeof path, "%s/checkpoints/step-%d/manifest.json", name, UPDATES);
  json_t *manifest = json_load_file(temporary_path(&folder, path), 0, NULL);
  const json_t *number = json_object_get(json_object_get(manifest, "ints"), value);
  assert_true(json_is_integer(number));
  const int64_t out = json_integer_value(number);
  json_decref(manifest);
  return out;
}

/* All values of a metric, "STEP:VALUE STEP:VALUE ..." */
static void metric(const char *name, const char *of, char *out, size_t room) {
  sqlite3 *db;
  sqlite3_stmt *rows;
  char path[128];
  size_t used = 0;
  snprintf(path, sizeof path, "%s/run.db", name);
  assert_int_equal(sqlite3_open(temporary_path(&folder, path), &db), SQLITE_OK);
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT step, value FROM metric WHERE name = ? ORDER BY step", -1, &rows, NULL),
      SQLITE_OK);
  sqlite3_bind_text(rows, 1, of, -1, SQLITE_STATIC);
  *out = '\0';
  while (sqlite3_step(rows) == SQLITE_ROW) {
    used += (size_t)snprintf(out + used, room - used, "%lld:%.9g ", (long long)sqlite3_column_int64(rows, 0),
                             sqlite3_column_double(rows, 1));
  }
  sqlite3_finalize(rows);
  sqlite3_close(db);
}

static void a_step_that_is_not_finite_is_left_out(void **state) {
  (void)state;
  char place[80], sound[33], loss[33], gradient[33], rates[2][512], skipped[128];
  assert_int_equal(run("sound", FAULT_NONE, 0, 0, NULL), 0);
  assert_int_equal(run("loss", FAULT_LOSS, 3, 3, NULL), 0);
  snprintf(place, sizeof place, "the loss is NaN, first at fixtures/runs/sft.jsonl:%" PRIu64 "\n",
           spoiled_line);
  expect_said("update 3: a step is left out: ");
  expect_said(place);
  assert_int_equal(run("gradient", FAULT_GRADIENT, 3, 3, NULL), 0);
  expect_said(
      "update 3: a step is left out: policy: the gradient is not finite (NaN or infinite), first in ");
  digest("sound", sound);
  digest("loss", loss);
  digest("gradient", gradient);
  assert_string_equal(loss, gradient); /* nothing of either has stayed */
  assert_string_not_equal(loss, sound);
  assert_int_equal(stored("loss", "step"), UPDATES);
  assert_int_equal(stored("loss", "policy.optimizer.step"), UPDATES - 1);
  assert_int_equal(stored("loss", "run.skipped"), 1);
  metric("loss", "train/skipped", skipped, sizeof skipped);
  assert_string_equal(skipped, "3:1 ");
  /* The schedule goes on: every other update has the rate that it would have had. */
  metric("sound", "train/lr", rates[0], sizeof rates[0]);
  metric("loss", "train/lr", rates[1], sizeof rates[1]);
  char *third = strstr(rates[0], "3:"), *fourth = strstr(rates[0], "4:");
  assert_true(third && fourth);
  memmove(third, fourth, strlen(fourth) + 1);
  assert_string_equal(rates[0], rates[1]);
}

static void too_many_end_the_run_and_the_advice_can_be_followed(void **state) {
  (void)state;
  assert_int_equal(run("limit", FAULT_LOSS, 3, UPDATES, "--run.max_skipped=2"), 4);
  expect_said("3 steps were left out, and run.max_skipped is 2; the last good checkpoint: ");
  expect_said("step-4. A lower optim.lr");
  assert_int_equal(run("limit", FAULT_NONE, 0, 0, "--optim.lr=0.0005"), 0);
  expect_said("optim.lr (was 0.001, is 0.0005): the rates of the updates to come are of the new schedule");
  expect_said("going on from");
}

static void a_run_that_ends_so_has_no_result(void **state) {
  (void)state;
  assert_int_equal(run("end", FAULT_GRADIENT, UPDATES - 2, UPDATES, NULL), 4);
  expect_said("the last 3 updates made no step");
  assert_false(file_exists(temporary_path(&folder, "end/done.json")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_step_that_is_not_finite_is_left_out),
      cmocka_unit_test(too_many_end_the_run_and_the_advice_can_be_followed),
      cmocka_unit_test(a_run_that_ends_so_has_no_result),
  };
  return cmocka_run_group_tests(tests, open_folder, close_folder);
}
