#include "tests/support/whole_run.h"

#include "formats/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const double TENFOLD = 10;
static const double LEAST =
    2e-7; /* rounding of a metric that PyTorch had to the bit, by luck or by doing the same twice */

enum { MAX_ARGUMENTS = 32 };

void whole_run_open(WholeRun *run, const Program *program, const char *name, const char *const *options) {
  char config[256], directory[512], device[64], fixture[128], *argv[MAX_ARGUMENTS];
  int argc = 0;
  *run = (WholeRun){0};
  temporary_open(&run->folder);
  snprintf(config, sizeof config, "--config=fixtures/runs/%s.json", name);
  snprintf(directory, sizeof directory, "--run.dir=%s/run", run->folder.directory);
  const char *const first[] = {program->name, config, directory, "--run.save_every=1"};
  for (size_t i = 0; i < sizeof first / sizeof *first; i++) argv[argc++] = (char *)first[i];
  const char *backend = getenv("DROVER_TEST_BACKEND");
  if (backend) {
    snprintf(device, sizeof device, "--device.backend=%s", backend);
    argv[argc++] = device;
  }
  for (; options && *options; options++) argv[argc++] = (char *)*options;
  FILE *out = tmpfile(), *err = tmpfile();
  assert_non_null(out);
  assert_non_null(err);
  const int code = program_run(program, argc, argv, out, err);
  if (code != 0) {
    char line[1024];
    rewind(err);
    while (fgets(line, sizeof line, err)) fputs(line, stderr);
    fail_msg("%s: exit code %d", name, code);
  }
  fclose(out);
  fclose(err);
  snprintf(fixture, sizeof fixture, "runs/%s", name);
  fixture_open(&run->expected, fixture);
}

void whole_run_close(WholeRun *run) {
  size_t finals = 0;
  for (size_t i = 0; i < run->expected.file.count; i++)
    finals += strncmp(run->expected.file.entries[i].name, "final.", 6) == 0;
  assert_int_equal(run->compared, finals);
  fixture_close(&run->expected);
  temporary_close(&run->folder);
}

/* -- metrics ---------------------------------------------------------------------------------------------- */

static const double *doubles(const WholeRun *run, const char *name, size_t *count) {
  const SafetensorsEntry *entry = safetensors_file_find(&run->expected.file, name);
  if (!entry || entry->dtype != DTYPE_F64) fail_msg("%s: no fp64 array %s", run->expected.file.path, name);
  *count = entry->bytes / sizeof(double);
  double *out = malloc(entry->bytes);
  assert_non_null(out);
  memcpy(out, entry->data, entry->bytes);
  return out;
}

/* The values of a metric in the order of the updates, of which there must be `count`. */
static void logged(WholeRun *run, const char *name, double *out, size_t count) {
  sqlite3 *db;
  sqlite3_stmt *rows;
  size_t found = 0;
  assert_int_equal(sqlite3_open(temporary_path(&run->folder, "run/run.db"), &db), SQLITE_OK);
  assert_int_equal(
      sqlite3_prepare_v2(db, "SELECT value FROM metric WHERE name = ? ORDER BY step", -1, &rows, NULL),
      SQLITE_OK);
  sqlite3_bind_text(rows, 1, name, -1, SQLITE_STATIC);
  for (; sqlite3_step(rows) == SQLITE_ROW; found++)
    if (found < count) out[found] = sqlite3_column_double(rows, 0);
  sqlite3_finalize(rows);
  sqlite3_close(db);
  if (found != count) fail_msg("%s: %zu values in the run log, expected %zu", name, found, count);
}

static double rounding(WholeRun *run, const char *array) {
  char name[256];
  snprintf(name, sizeof name, "rounding.%s", array);
  return (double)fixture_float(&run->expected, name);
}

void whole_run_metric(WholeRun *run, const char *name, double tolerance) {
  char array[160];
  size_t count;
  snprintf(array, sizeof array, "metric.%s_f64", name);
  const double *expected = doubles(run, array, &count);
  double *found = malloc(count * sizeof *found);
  assert_non_null(found);
  logged(run, name, found, count);
  snprintf(array, sizeof array, "metric.%s", name);
  const double explained = TENFOLD * fmax(rounding(run, array), LEAST);
  for (size_t i = 0; i < count; i++) {
    char what[160];
    const double size = fabs(expected[i]);
    snprintf(what, sizeof what, "%s of update %zu", name, i + 1);
    assert_number(what, found[i], expected[i], fmin(tolerance * fmax(1, size), tolerance * size + explained));
  }
  free(found);
  free((void *)expected);
}

void whole_run_metrics(WholeRun *run, double tolerance) {
  static const char before[] = "metric.", after[] = "_f64";
  for (size_t i = 0; i < run->expected.file.count; i++) {
    const char *array = run->expected.file.entries[i].name;
    char name[128];
    if (strncmp(array, before, strlen(before)) != 0) continue;
    snprintf(name, sizeof name, "%.*s", (int)(strlen(array) - strlen(before) - strlen(after)),
             array + strlen(before));
    whole_run_metric(run, name, tolerance);
  }
}

/* -- tensors ---------------------------------------------------------------------------------------------- */

typedef struct Distance {
  double farthest; /* of a number */
  double part;     /* 2-norm, in parts of the way that training went */
} Distance;

static Distance distance(WholeRun *run, const char *array, const SafetensorsEntry *found) {
  char moved[256];
  int64_t count;
  double sum = 0;
  Distance distance = {0};
  const float *expected = fixture_floats(&run->expected, array, &count);
  if (found->dtype != DTYPE_F32 || found->bytes != (size_t)count * sizeof(float))
    fail_msg("%s: expected %lld floats", array, (long long)count);
  for (int64_t i = 0; i < count; i++) {
    float value;
    memcpy(&value, (const char *)found->data + i * (int64_t)sizeof value, sizeof value);
    const double off = fabs((double)value - (double)expected[i]);
    distance.farthest = fmax(distance.farthest, off); /* a NaN shows in the norm */
    sum += off * off;
  }
  snprintf(moved, sizeof moved, "moved.%s", array + strlen("final."));
  distance.part = sqrt(sum) / (double)fixture_float(&run->expected, moved);
  return distance;
}

void whole_run_tensors(WholeRun *run, const char *part, const char *file, const char *prefix,
                       double tolerance) {
  SafetensorsFile tensors;
  Error error = {0};
  char path[64];
  Distance worst = {0};
  snprintf(path, sizeof path, "run/%s", file);
  if (!safetensors_file_open(&tensors, temporary_path(&run->folder, path), &error))
    fail_msg("%s", error.message);
  for (size_t i = 0; i < tensors.count; i++) {
    const SafetensorsEntry *entry = &tensors.entries[i];
    char array[240];
    if (strncmp(entry->name, prefix, strlen(prefix)) != 0) continue;
    snprintf(array, sizeof array, "final.%s.%s", part, entry->name + strlen(prefix));
    const Distance off = distance(run, array, entry);
    const double explained = TENFOLD * rounding(run, array);
    if (!(off.farthest <= tolerance))
      fail_msg("%s: off by %.2g, tolerance %.2g", array, off.farthest, tolerance);
    if (!(off.part <= explained))
      fail_msg("%s: off by %.2g of its way, tolerance %.2g", array, off.part, explained);
    worst.farthest = fmax(worst.farthest, off.farthest);
    worst.part = fmax(worst.part, off.part);
    run->compared++;
  }
  printf("%s: within %.1e, and %.1e of the way\n", part, worst.farthest, worst.part);
  safetensors_file_close(&tensors);
}
