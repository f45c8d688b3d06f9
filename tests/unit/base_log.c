#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/terminal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *written; /* what a log under test wrote */
static size_t written_size;
static FILE *stream;

static int open_stream(void **state) {
  (void)state;
  stream = tmpfile();
  return stream ? 0 : -1;
}

static int close_stream(void **state) {
  (void)state;
  fclose(stream);
  free(written);
  written = NULL;
  return 0;
}

static const char *text(void) {
  written_size = (size_t)ftell(stream);
  written = realloc(written, written_size + 1);
  rewind(stream);
  assert_int_equal(fread(written, 1, written_size, stream), written_size);
  written[written_size] = '\0';
  return written;
}

static void collect(void *context, LogLevel level, const char *line) {
  char *all = context;
  sprintf(all + strlen(all), "%d:%s;", (int)level, line);
}

static void lines_and_sink(void **state) {
  (void)state;
  Log log;
  char seen[200] = "";
  log_init(&log, stream, LOG_WARNING);
  log.sink = collect;
  log.sink_context = seen;
  assert_false(log.terminal); /* a file is none */
  log_info(&log, "step %d", 1);
  log_warning(&log, "long");
  log_error(&log, "bad %s", "file");
  assert_string_equal(text(), "warning: long\nerror: bad file\n");
  assert_string_equal(seen, "1:step 1;2:long;3:bad file;");
}

/* A file's name, key or token cannot move the cursor of a terminal. */
static void control_characters_are_spelled_out(void **state) {
  (void)state;
  Log log;
  char seen[200] = "";
  log_init(&log, stream, LOG_INFO);
  log.sink = collect;
  log.sink_context = seen;
  log_error(&log, "tensor %s", "\x1b]0;x\x07 \x1b[2J\r\x7f \xc2\x9b\x31m \xc3\xa9\t|\n\xc2\xa0");
  assert_string_equal(text(),
                      "error: tensor \\x1b]0;x\\x07 \\x1b[2J\\x0d\\u007f \\u009b1m \xc3\xa9\t|\n\xc2\xa0\n");
  assert_string_equal(seen, "3:tensor \\x1b]0;x\\x07 \\x1b[2J\\x0d\\u007f \\u009b1m \xc3\xa9\t|\n\xc2\xa0;");
  char out[8];
  assert_int_equal(terminal_text("ab\0\x1b", 4, out, sizeof out), 6); /* whole or not at all */
  assert_string_equal(out, "ab\\x00");
}

/* Results keep their bytes in a file, and are spelled out on a terminal. */
static void results_on_a_terminal(void **state) {
  (void)state;
  int master = posix_openpt(O_RDWR | O_NOCTTY);
  if (master < 0 || grantpt(master) || unlockpt(master)) skip();
  FILE *terminal = fopen(ptsname(master), "w");
  assert_non_null(terminal);
  char shown[64] = "";
  terminal_write(terminal, "a\x1b[2J\0", 6);
  terminal_write(terminal, "\"\x7f\xc2\x9b\"", 5); /* JSON stays JSON */
  fflush(terminal);
  assert_int_equal(read(master, shown, sizeof shown - 1), 26);
  assert_string_equal(shown, "a\\x1b[2J\\x00\"\\u007f\\u009b\"");
  fclose(terminal);
  close(master);
  terminal_write(stream, "a\x1b[2J\0", 6);
  assert_memory_equal(text(), "a\x1b[2J\0", 6);
}

static void plain_progress_is_rare(void **state) {
  (void)state;
  Log log;
  Progress progress;
  log_init(&log, stream, LOG_INFO);
  progress_start(&progress, &log, "sft", "step", 0, 1000);
  for (int i = 1; i <= 1000; i++) progress_update(&progress, i, i == 1000 ? "loss 1.25" : NULL);
  progress_finish(&progress);
  const char *all = text();
  int lines = 0;
  for (const char *at = all; (at = strchr(at, '\n')); at++) lines++;
  assert_int_equal(lines, 2); /* the first and the last */
  assert_int_equal(strncmp(all, "sft: 1/1000  ", 13), 0);
  assert_non_null(strstr(all, "\nsft: 1000/1000  "));
  assert_non_null(strstr(all, " step/s  in 0s  loss 1.25\n"));
  assert_null(strchr(all, '\r'));
}

static void rate_counts_from_the_resumed_step(void **state) {
  (void)state;
  Log log;
  Progress progress;
  log_init(&log, stream, LOG_INFO);
  progress_start(&progress, &log, "sft", "step", 100, 500);
  progress.started = time_monotonic() - 1000; /* as if that many seconds had gone by */
  progress_update(&progress, 120, "note");
  assert_string_equal(text(), "sft: 120/500  0.020 step/s  ETA 5h16m  note\n");
}

static void durations(void **state) {
  (void)state;
  const struct {
    int64_t left;
    const char *expected;
  } cases[] = {{7, "7s"}, {59, "59s"}, {60, "1m00s"}, {3599, "59m59s"}, {7500, "2h05m"}, {360000, "4d04h"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Log log;
    Progress progress;
    rewind(stream);
    log_init(&log, stream, LOG_INFO);
    progress_start(&progress, &log, "x", "token", 0, 1000 + cases[i].left);
    progress.started = time_monotonic() - 1000; /* one per second */
    progress_update(&progress, 1000, NULL);
    char expected[80];
    snprintf(expected, sizeof expected, " token/s  ETA %s\n", cases[i].expected);
    assert_non_null(strstr(text(), expected));
  }
}

static void terminal_bar_is_one_line(void **state) {
  (void)state;
  Log log;
  Progress progress;
  log_init(&log, stream, LOG_INFO);
  log.terminal = true;
  progress_start(&progress, &log, "sft", "step", 0, 48);
  progress_update(&progress, 0, NULL);
  progress_update(&progress, 1, NULL); /* too soon: not shown */
  log_info(&log, "saved");
  progress.last_shown -= 1;
  progress.started = time_monotonic() - 10;
  progress_update(&progress, 25, "kl 0.1");
  progress_update(&progress, 48, NULL);
  progress_finish(&progress);
  progress_finish(&progress);
  const char *all = text();
  assert_non_null(strstr(all, "\rsft [........................] 0/48\033[K\r\033[Ksaved\n"));
  assert_non_null(strstr(all, "\rsft [############............] 25/48  2.5 step/s  ETA 9s  kl 0.1\033[K"));
  assert_non_null(strstr(all, "\rsft [########################] 48/48  4.8 step/s  in 10s\033[K\n"));
  assert_null(strstr(all, "1/48"));
  int newlines = 0;
  for (const char *at = all; (at = strchr(at, '\n')); at++) newlines++;
  assert_int_equal(newlines, 2);
}

static void wide_bar_is_cut_to_the_screen(void **state) {
  (void)state;
  Log log;
  Progress progress;
  char note[400];
  memset(note, 'n', sizeof note - 1);
  note[sizeof note - 1] = '\0';
  log_init(&log, stream, LOG_INFO);
  log.terminal = true;
  progress_start(&progress, &log, "sft", "step", 0, 48);
  progress_update(&progress, 3, note);
  const char *all = text(), *end = strstr(all, "\033[K");
  assert_non_null(end);
  assert_int_equal(end - all, 1 + 79); /* no window size: 80 columns, one of them free */
}

static void unknown_total_and_quiet(void **state) {
  (void)state;
  Log log;
  Progress progress;
  log_init(&log, stream, LOG_WARNING);
  progress_start(&progress, &log, "read", "line", 0, 10);
  progress_update(&progress, 10, NULL);
  assert_string_equal(text(), "");
  log_init(&log, stream, LOG_INFO);
  progress_start(&progress, &log, "read", "line", 0, 0);
  progress.started = time_monotonic() - 2;
  progress_update(&progress, 200000, NULL);
  assert_string_equal(text(), "read: 200000  100.0k line/s\n");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_stream, close_stream)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lines_and_sink),           TEST(control_characters_are_spelled_out), TEST(results_on_a_terminal),
      TEST(plain_progress_is_rare),   TEST(rate_counts_from_the_resumed_step),  TEST(durations),
      TEST(terminal_bar_is_one_line), TEST(wide_bar_is_cut_to_the_screen),      TEST(unknown_total_and_quiet),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
