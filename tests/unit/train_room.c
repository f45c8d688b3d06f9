/* Room on the disk for what a run writes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tests/folder.h"
#include "train/room.h"

#include <errno.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static uint64_t room; /* bytes */

/* In the place of the C library's: a disk of which `room` is free, where the path exists. */
int statvfs(const char *path, struct statvfs *status) {
  if (access(path, F_OK) != 0) return -1;
  *status = (struct statvfs){.f_blocks = 1 + room / 512, .f_bavail = room / 512, .f_frsize = 512};
  return 0;
}

static const RunWrites writes = {.checkpoint = 100 * MIB, .result = 10 * MIB, .results = 1};

/* What a run of so many updates says with `mib` free: 'r'efused, 'w'arned, 'f'ine. */
static char said(const RunConfig *config, int64_t updates, uint64_t mib) {
  Log log;
  Error error = {0};
  StringList warnings = {0};
  room = mib * MIB;
  FILE *nowhere = fopen("/dev/null", "w");
  assert_non_null(nowhere);
  log_init(&log, nowhere, LOG_WARNING);
  log.warnings = &warnings;
  const bool ok = room_check(&writes, config, updates, &log, &error);
  const char answer = !ok ? 'r' : warnings.count ? 'w' : 'f';
  if (!ok) {
    assert_int_equal(error.code, ERROR_FILE);
    assert_non_null(strstr(error.message, "a checkpoint takes 100.00 MiB and the result 10.00 MiB"));
  }
  string_list_free(&warnings);
  fclose(nowhere);
  return answer;
}

static void write_file(const char *name, size_t bytes) {
  Error error = {0};
  char *path = path_join(folder.directory, name), *parent = path_parent(path);
  FileWriter writer;
  static const char zeros[MIB];
  assert_true(directory_create(parent, &error) && file_writer_open(&writer, path, &error));
  for (size_t at = 0; at < bytes; at += sizeof zeros)
    assert_true(file_writer_write(&writer, zeros, sizeof zeros, &error));
  assert_true(file_writer_commit(&writer, &error));
  memory_free(path);
  memory_free(parent);
}

static void a_new_run_needs_a_checkpoint_and_its_result(void **state) {
  (void)state;
  char *dir = path_join(folder.directory, "not/there/yet");
  RunConfig config = {.dir = dir, .resume = true, .keep = 2, .save_every = 10};
  assert_int_equal(said(&config, 100, 109), 'r');
  assert_int_equal(said(&config, 100, 111), 'w');
  assert_int_equal(said(&config, 100, 309),
                   'w'); /* two are kept while the third is written, and then the result */
  assert_int_equal(said(&config, 100, 311), 'f');
  assert_int_equal(said(&config, 11, 211), 'f'); /* two are all there will be */
  assert_int_equal(said(&config, 10, 111), 'f');
  config.save_minutes = 30;
  assert_int_equal(said(&config, 10, 111), 'w');
  assert_int_equal(said(&config, 1, 111), 'f');
  assert_int_equal(said(&config, 0, 309), 'w'); /* who knows how many */
  config = (RunConfig){.dir = dir, .resume = true, .keep = 2};
  assert_int_equal(said(&config, 100, 111), 'f');
  config.keep_best = BEST_AUTO;
  assert_int_equal(said(&config, 100, 319), 'w');
  assert_int_equal(said(&config, 100, 321), 'f');
  config = (RunConfig){.dir = dir, .resume = true, .keep = 2, .save_every = 1, .on_alarm = ON_ALARM_ROLLBACK};
  assert_int_equal(said(&config, 100, 509), 'w');
  assert_int_equal(said(&config, 100, 511), 'f');
  config.keep = INT64_MAX;
  assert_int_equal(said(&config, INT64_MAX, 1 << 20), 'w');
  assert_int_equal(said(&(RunConfig){.keep = 2}, 100, 0), 'f'); /* no directory: a plan alone */
  memory_free(dir);
}

static void what_is_there_counts(void **state) {
  (void)state;
  RunConfig config = {.dir = folder.directory, .resume = true, .keep = 2, .save_every = 10};
  write_file("checkpoints/step-10/manifest.json", 60 * MIB);
  write_file("checkpoints/step-20/manifest.json", 60 * MIB);
  write_file("model/model.safetensors", 20 * MIB);
  assert_int_equal(said(&config, 100, 1), 'w'); /* a run that goes on may have its result alone to write */
  assert_int_equal(said(&config, 100, 189), 'w');
  assert_int_equal(said(&config, 100, 191), 'f');
  config.resume = false; /* it is all removed then */
  assert_int_equal(said(&config, 100, 169), 'w');
  assert_int_equal(said(&config, 100, 171), 'f');
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(a_new_run_needs_a_checkpoint_and_its_result, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(what_is_there_counts, open_folder, close_folder),
  };
  return cmocka_run_group_tests_name("room", tests, NULL, NULL);
}
