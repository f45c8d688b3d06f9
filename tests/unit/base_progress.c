#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static FILE *stream;
static Log log_;

static int open_stream(void **state) {
  (void)state;
  stream = tmpfile();
  log_init(&log_, stream, LOG_INFO);
  return stream ? 0 : -1;
}

static int close_stream(void **state) {
  (void)state;
  fclose(stream);
  return 0;
}

static char written[4096]; /* what the stream has got */

static const char *text(void) {
  const size_t size = (size_t)ftell(stream);
  assert_true(size < sizeof written);
  rewind(stream);
  assert_int_equal(fread(written, 1, size, stream), size);
  written[size] = '\0';
  return written;
}

static void ago(Progress *progress, double seconds) {
  progress->started = time_monotonic() - seconds;
  progress->last_shown = progress->step_shown = -1e9;
}

static void plain_lines_are_rare(void **state) {
  (void)state;
  Progress progress;
  progress_start(&progress, &log_, "sft", "step", 0, 1000);
  for (int i = 1; i <= 1000; i++) {
    progress_phase(&progress, "evaluating");
    progress_update(&progress, i, i == 1000 ? "loss 1.25" : NULL);
  }
  progress_finish(&progress);
  const char *all = text();
  int lines = 0;
  for (const char *at = all; (at = strchr(at, '\n')); at++) lines++;
  assert_int_equal(lines, 3); /* the phase before the first step, the first step, the last */
  assert_int_equal(strncmp(all, "sft: 0/1000  evaluating\n", 24), 0);
  assert_non_null(strstr(all, "\nsft: 1/1000  "));
  assert_non_null(strstr(all, "\nsft: 1000/1000  in 0s  loss 1.25  "));
  assert_null(strchr(all, '\r'));
}

static void a_line_has_counts_first_and_rates_last(void **state) {
  (void)state;
  Progress progress;
  progress_start(&progress, &log_, "sft", "step", 100, 500);
  ago(&progress, 1000);
  progress_update(&progress, 120, "loss 1.25"); /* counted from where the run went on */
  ago(&progress, 1000);
  progress_phase(&progress, "sampling %d/%d", 40, 64);
  assert_string_equal(text(),
                      "sft: 120/500  ETA 5h16m  loss 1.25  50.0 s/step\n"
                      "sft: 120/500  ETA 5h16m  sampling 40/64  loss 1.25  50.0 s/step\n");
}

static void rates(void **state) {
  (void)state;
  const struct {
    int64_t done;
    double seconds;
    const char *unit, *expected;
  } cases[] = {{32, 10, "step", "  3.2 step/s\n"},        {2500, 10, "row", "  250 row/s\n"},
               {250000, 10, "row", "  25.0k row/s\n"},    {25000000, 10, "row", "  2.5M row/s\n"},
               {10, 42, "step", "  4.2 s/step\n"},        {10, 1250, "update", "  2m05s/update\n"},
               {10, 36000, "update", "  1h00m/update\n"}, {1 << 30, 2, progress_bytes, "  512.0 MiB/s\n"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Progress progress;
    rewind(stream);
    progress_start(&progress, &log_, "x", cases[i].unit, 0, 0);
    ago(&progress, cases[i].seconds);
    progress_update(&progress, cases[i].done, NULL);
    assert_non_null(strstr(text(), cases[i].expected));
  }
}

static void sizes(void **state) {
  (void)state;
  Progress progress;
  progress_start(&progress, &log_, "reading", progress_bytes, 0, (int64_t)13 << 30);
  progress_update(&progress, (int64_t)1 << 29, NULL);
  assert_int_equal(strncmp(text(), "reading: 0.5/13.0 GiB  ETA ", 27), 0);
}

static void durations(void **state) {
  (void)state;
  const struct {
    double seconds;
    const char *expected;
  } cases[] = {{7, "7s"},       {59, "59s"},       {60, "1m00s"}, {3599, "59m59s"},
               {7500, "2h05m"}, {360000, "4d04h"}, {-3, "0s"}};
  char out[32];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    assert_string_equal(duration_text(cases[i].seconds, out), cases[i].expected);
}

/* A terminal of so many columns, as the other end of what is returned. */
static int open_terminal(int columns) {
  const int master = posix_openpt(O_RDWR | O_NOCTTY);
  assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
  const struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
  assert_int_equal(ioctl(master, TIOCSWINSZ, &size), 0);
  fclose(stream);
  stream = fopen(ptsname(master), "w");
  assert_non_null(stream);
  log_init(&log_, stream, LOG_INFO);
  log_.terminal = true;
  return master;
}

static void a_narrow_terminal_loses_the_bar_before_the_numbers(void **state) {
  (void)state;
  const struct {
    int columns;
    const char *expected;
  } cases[] = {
      {120,
       "\rsft [######..................] 120/480  ETA 2m00s  loss 1.25 (1.31)  grad 0.9  3.0 step/s\033[K"},
      {80, "\rsft [###...........] 120/480  ETA 2m00s  loss 1.25 (1.31)  grad 0.9  3.0 step/s\033[K"},
      {70, "\rsft 120/480  ETA 2m00s  loss 1.25 (1.31)  grad 0.9  3.0 step/s\033[K"},
      {60, "\rsft 120/480  ETA 2m00s  loss 1.25 (1.31)  grad 0.9\033[K"},
      {40, "\rsft 120/480  ETA 2m00s  loss 1.25\033[K"},
      {8, "\rsft 120\033[K"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const int master = open_terminal(cases[i].columns);
    Progress progress;
    char shown[512] = "";
    progress_start(&progress, &log_, "sft", "step", 0, 480);
    ago(&progress, 40);
    progress_update(&progress, 120, "loss 1.25 (1.31)  grad 0.9");
    assert_int_equal(read(master, shown, sizeof shown - 1), strlen(cases[i].expected));
    assert_string_equal(shown, cases[i].expected);
    close(master);
  }
}

static void the_bar_is_one_line(void **state) {
  (void)state;
  log_.terminal = true; /* without a size: 80 columns */
  Progress progress;
  progress_start(&progress, &log_, "sft", "step", 0, 48);
  progress_update(&progress, 0, NULL);
  progress_update(&progress, 1, NULL); /* too soon: not shown */
  log_info(&log_, "saved");
  ago(&progress, 10);
  progress_update(&progress, 25, "kl 0.1");
  progress_update(&progress, 48, NULL);
  progress_finish(&progress);
  progress_finish(&progress);
  const char *all = text();
  assert_non_null(strstr(all, "\rsft [........................] 0/48\033[K\r\033[Ksaved\n"));
  assert_non_null(strstr(all, "\rsft [############............] 25/48  ETA 9s  kl 0.1  2.5 step/s\033[K"));
  assert_non_null(strstr(all, "\rsft [########################] 48/48  in 10s  4.8 step/s\033[K\n"));
  assert_null(strstr(all, "1/48"));
  int newlines = 0;
  for (const char *at = all; (at = strchr(at, '\n')); at++) newlines++;
  assert_int_equal(newlines, 2);
}

static void what_is_brief_leaves_nothing(void **state) {
  (void)state;
  log_.terminal = true;
  Progress progress;
  progress_start_brief(&progress, &log_, "reading", progress_bytes, 100);
  progress_update(&progress, 100, NULL); /* at once */
  progress_finish(&progress);
  assert_string_equal(text(), "");
  progress_start_brief(&progress, &log_, "reading", progress_bytes, 100);
  ago(&progress, 2);
  progress_update(&progress, 50, NULL);
  progress_finish(&progress);
  const char *all = text();
  assert_int_equal(strncmp(all, "\rreading [############............] 50.0/100.0 B  ETA 2s", 54), 0);
  assert_string_equal(all + strlen(all) - 4, "\r\033[K");
}

static void unknown_total_and_quiet(void **state) {
  (void)state;
  Progress none = {0};
  progress_update(&none, 1, "x");
  progress_phase(&none, "x");
  progress_finish(&none);
  Progress progress;
  log_.threshold = LOG_WARNING;
  progress_start(&progress, &log_, "read", "line", 0, 10);
  progress_update(&progress, 10, NULL);
  assert_string_equal(text(), "");
  log_.threshold = LOG_INFO;
  progress_start(&progress, &log_, "read", "line", 0, 0);
  ago(&progress, 2);
  progress_update(&progress, 200000, NULL);
  assert_string_equal(text(), "read: 200000  100.0k line/s\n");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_stream, close_stream)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(plain_lines_are_rare),
      TEST(a_line_has_counts_first_and_rates_last),
      TEST(rates),
      TEST(sizes),
      TEST(durations),
      TEST(a_narrow_terminal_loses_the_bar_before_the_numbers),
      TEST(the_bar_is_one_line),
      TEST(what_is_brief_leaves_nothing),
      TEST(unknown_total_and_quiet),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
