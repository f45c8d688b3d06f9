/* Programs that are given lines: what they answer, and how they end, whatever they do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "scoring/child.h"
#include "tests/temporary.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Processes by their number or that of their group, of those states (proc(5)), or with NULL of all but what has ended and nobody has waited for yet. */
static int count_processes(pid_t number, bool group, const char *states) {
  int found = 0;
  DIR *all = opendir("/proc");
  assert_non_null(all);
  for (const struct dirent *entry; (entry = readdir(all));) {
    char name[300], what[4];
    int pid, its_group;
    snprintf(name, sizeof name, "/proc/%s/stat", entry->d_name);
    FILE *file = atoi(entry->d_name) > 0 ? fopen(name, "r") : NULL;
    if (!file) continue;
    if (fscanf(file, "%d %*s %3s %*d %d", &pid, what, &its_group) == 3 &&
        (states ? strchr(states, *what) != NULL : *what != 'Z'))
      found += (group ? its_group : pid) == number;
    fclose(file);
  }
  closedir(all);
  return found;
}

static int running(pid_t number, bool group) {
  return count_processes(number, group, NULL);
}

static bool ends_soon(pid_t number, bool group) {
  const double until = time_monotonic() + 5;
  while (running(number, group) && time_monotonic() < until) usleep(1000);
  return !running(number, group);
}

static void start(Child *child, const char *script) {
  Error error = {0};
  char *argv[] = {"sh", "-c", (char *)script, NULL};
  if (!child_start(child, argv, &error)) fail_msg("%s", error.message);
}

/* The next line within a few seconds; NULL: there is none. */
static const char *line_of(Child *child, ChildStream *stream, char out[256]) {
  const double until = time_monotonic() + 5;
  const char *line;
  size_t bytes;
  Error error = {0};
  while (time_monotonic() < until) {
    if (child_line(stream, 1000, &line, &bytes)) {
      snprintf(out, 256, "%.*s", (int)(bytes < 255 ? bytes : 255), line);
      return out;
    }
    if (stream->fd < 0) return NULL;
    assert_true(child_exchange(child, 0.1, &error));
  }
  return NULL;
}

static bool stop_soon(pid_t group, int count) {
  const double until = time_monotonic() + 5;
  while (count_processes(group, true, "T") != count && time_monotonic() < until) usleep(1000);
  return count_processes(group, true, "T") == count;
}

static void it_stands_still(void **state) {
  (void)state;
  Child child;
  Error error = {0};
  char line[256], status[80];
  start(&child, "sleep 60 & while read -r x; do echo \"<$x>\"; done; kill $!; exit 7");
  assert_true(child_send(&child, "a\n", 2, &error));
  assert_string_equal(line_of(&child, &child.out, line), "<a>");
  for (int i = 0; i < 2; i++) {
    child_pause(&child);
    assert_true(stop_soon(child.pid, 2)); /* with what it has started */
    assert_true(child_send(&child, "b\n", 2, &error));
    assert_true(child_exchange(&child, 0.1, &error));
    child_go_on(&child);
    assert_string_equal(line_of(&child, &child.out, line), "<b>");
    assert_true(stop_soon(child.pid, 0));
  }
  child_pause(&child);
  child_status_text(child_end(&child, 5), status, sizeof status); /* it ends by itself */
  assert_string_equal(status, "exit code 7");
  child_pause(&child); /* nothing is there */
  child_free(&child);
}

static void lines_go_in_and_out(void **state) {
  (void)state;
  Child child;
  Error error = {0};
  char line[256], status[80];
  start(&child, "echo begun >&2; while read -r x; do echo \"<$x>\"; done; echo over >&2; exit 7");
  assert_true(child_send(&child, "a\nb c\n", 6, &error));
  assert_string_equal(line_of(&child, &child.out, line), "<a>");
  assert_string_equal(line_of(&child, &child.out, line), "<b c>");
  assert_string_equal(line_of(&child, &child.err, line), "begun");
  assert_false(child_is_over(&child));
  child_status_text(child_end(&child, 5), status, sizeof status);
  assert_string_equal(status, "exit code 7");
  assert_string_equal(line_of(&child, &child.err, line), "over"); /* what it says last is not lost */
  child_free(&child);
}

/* More than pipes hold, both ways at once. */
static void nobody_blocks(void **state) {
  (void)state;
  enum { LINES = 40000 };
  Child child;
  Error error = {0};
  char line[256];
  int found = 0;
  start(&child, "cat");
  for (int i = 0; i < LINES; i++) {
    const int bytes = snprintf(line, sizeof line, "this is line number %d\n", i);
    assert_true(child_send(&child, line, (size_t)bytes, &error));
  }
  while (found < LINES && line_of(&child, &child.out, line)) found++;
  assert_int_equal(found, LINES);
  assert_string_equal(line, "this is line number 39999");
  assert_int_equal(child_end(&child, 5), 0);
  child_free(&child);
}

static void whatever_it_does_it_ends(void **state) {
  (void)state;
  static const struct {
    const char *script, *status;
    double patience;
  } cases[] = {{"sleep 1000", "killed by signal 15 (Terminated)", 0},
               {"trap '' TERM; while :; do sleep 1; done", "killed by signal 9 (Killed)", 0},
               {"exit 3", "exit code 3", 2},
               {"kill -SEGV $$", "killed by signal 11 (Segmentation fault)", 2},
               {"exec >&- 2>&- <&-; sleep 1000", "killed by signal 15 (Terminated)", 0},
               {"yes", "killed by signal 15 (Terminated)", 0.1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Child child;
    char status[80];
    const double began = time_monotonic();
    start(&child, cases[i].script);
    const pid_t pid = child.pid;
    usleep(50000); /* it has set its traps */
    child_status_text(child_end(&child, cases[i].patience), status, sizeof status);
    if (strcmp(status, cases[i].status) != 0) fail_msg("%s: %s", cases[i].script, status);
    assert_true(time_monotonic() - began < 6);
    assert_true(ends_soon(pid, true)); /* nothing of its group is left */
    child_free(&child);
  }
}

/* What it has started ends with it. */
static void its_children_end(void **state) {
  (void)state;
  Child child;
  char line[256];
  start(&child, "sleep 1000 & trap '' TERM; echo $!; exit 0");
  const pid_t grandchild = (pid_t)atoi(line_of(&child, &child.out, line));
  assert_true(grandchild > 1);
  child_end(&child, 1);
  assert_true(ends_soon(grandchild, false));
  child_free(&child);
}

/* A pipe that nobody reads any more does not end us. */
static void it_stops_reading(void **state) {
  (void)state;
  Child child;
  Error error = {0};
  char line[256];
  start(&child, "exec <&-; echo deaf; sleep 1000");
  assert_string_equal(line_of(&child, &child.out, line), "deaf");
  assert_true(child_send(&child, "a\n", 2, &error));
  for (int i = 0; i < 100 && !child_is_over(&child); i++) assert_true(child_exchange(&child, 0.01, &error));
  assert_true(child.broken && child_is_over(&child));
  child_end(&child, 0);
  child_free(&child);
}

/* It has nothing of ours open but its three streams. */
static void files_stay_ours(void **state) {
  (void)state;
  Child child;
  char line[256];
  const int leaked = dup(0); /* without O_CLOEXEC */
  assert_true(leaked >= 3);
  start(&child, "ls /proc/self/fd | wc -l");
  assert_string_equal(line_of(&child, &child.out, line), "4"); /* one is the directory itself */
  child_end(&child, 5);
  child_free(&child);
  close(leaked);
}

/* This process killed, its program is too. */
static void it_dies_with_us(void **state) {
  (void)state;
  int pipes[2];
  pid_t grandchild = 0;
  assert_int_equal(pipe(pipes), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    Child child;
    Error error = {0};
    char *argv[] = {"sleep", "1000", NULL};
    if (!child_start(&child, argv, &error)) _exit(1);
    if (write(pipes[1], &child.pid, sizeof child.pid) != sizeof child.pid) _exit(1);
    for (;;) pause();
  }
  assert_int_equal(read(pipes[0], &grandchild, sizeof grandchild), sizeof grandchild);
  assert_int_equal(running(grandchild, false), 1);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  assert_true(ends_soon(grandchild, false));
  close(pipes[0]);
  close(pipes[1]);
}

static void programs_that_are_none(void **state) {
  (void)state;
  Temporary folder;
  temporary_open(&folder);
  const struct {
    const char *program, *message;
  } cases[] = {{"drover-no-such-program", "there is no program 'drover-no-such-program' in PATH"},
               {"python3 judge.py", "a command is a list, [\"python3\", \"judge.py\"]"},
               {"./no/such/judge", "there is no ./no/such/judge"},
               {folder.directory, "is no program that may be run"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    Child child;
    char *argv[] = {(char *)cases[i].program, NULL};
    assert_false(child_check(cases[i].program, &error));
    if (!strstr(error.message, cases[i].message)) fail_msg("%s", error.message);
    error = (Error){0};
    assert_false(child_start(&child, argv, &error));
    assert_int_equal(error.code, ERROR_USAGE);
    assert_non_null(strstr(error.message, "cannot run"));
    assert_int_equal(child_end(&child, 0), -1);
    child_free(&child);
  }
  Error error = {0};
  assert_true(child_check("sh", &error) && child_check("/bin/sh", &error));
  temporary_close(&folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_stands_still),        cmocka_unit_test(lines_go_in_and_out),
      cmocka_unit_test(nobody_blocks),          cmocka_unit_test(whatever_it_does_it_ends),
      cmocka_unit_test(its_children_end),       cmocka_unit_test(it_stops_reading),
      cmocka_unit_test(files_stay_ours),        cmocka_unit_test(it_dies_with_us),
      cmocka_unit_test(programs_that_are_none),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
