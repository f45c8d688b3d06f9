#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
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

static void warnings_are_told_again(void **state) {
  (void)state;
  Log log;
  StringList warnings = {0};
  log_init(&log, stream, LOG_INFO);
  log.warnings = &warnings;
  log_warning(&log, "no template");
  log_info(&log, "begins");
  log_warning(&log, "high rate %d", 3);
  log_warnings_again(&log);
  log_warning(&log, "late");
  assert_string_equal(text(),
                      "warning: no template\nbegins\nwarning: high rate 3\n"
                      "warnings of this run, again:\n  no template\n  high rate 3\nwarning: late\n");
  string_list_free(&warnings);
  log_warnings_again(&log); /* none */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_stream, close_stream)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(lines_and_sink),
      TEST(control_characters_are_spelled_out),
      TEST(results_on_a_terminal),
      TEST(warnings_are_told_again),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
