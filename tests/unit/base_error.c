#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/error.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void first_error_wins(void **state) {
  (void)state;
  Error error = {0};
  assert_false(error_set(&error, ERROR_DATA, "line %d", 7));
  assert_false(error_set(&error, ERROR_MODEL, "later"));
  assert_int_equal(error.code, ERROR_DATA);
  assert_string_equal(error.message, "line 7");
}

static void context_goes_before(void **state) {
  (void)state;
  Error error = {0};
  assert_false(error_context(&error, "nothing happened"));
  assert_int_equal(error.code, ERROR_NONE);
  assert_string_equal(error.message, "");
  error_set(&error, ERROR_FILE, "no space");
  assert_false(error_context(&error, "step %d", 3));
  assert_false(error_context(&error, "saving"));
  assert_string_equal(error.message, "saving: step 3: no space");
  assert_int_equal(error.code, ERROR_FILE);
}

static void long_messages_are_cut(void **state) {
  (void)state;
  char text[3000];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  Error error = {0};
  error_set(&error, ERROR_DATA, "%s", text);
  assert_int_equal(strlen(error.message), sizeof error.message - 1);
  error_context(&error, "where");
  assert_int_equal(strlen(error.message), sizeof error.message - 1);
  assert_memory_equal(error.message, "where: xxx", 10);
  error_context(&error, "%s", text); /* a context as long as everything */
  assert_int_equal(strlen(error.message), sizeof error.message - 1);
}

/* What a message is about stands first and the reason last: a long path loses its middle. */
static void long_paths_keep_the_reason(void **state) {
  (void)state;
  char path[4000], blanks[4000], umlauts[4001];
  for (size_t i = 0; i < sizeof path - 1; i++) path[i] = i % 50 ? 'd' : '/';
  for (size_t i = 0; i < sizeof blanks - 1; i++) blanks[i] = i % 10 ? 'b' : ' ';
  for (size_t i = 0; i < sizeof umlauts - 1; i++) umlauts[i] = i % 2 ? '\xb6' : '\xc3'; /* ö */
  path[sizeof path - 1] = blanks[sizeof blanks - 1] = umlauts[sizeof umlauts - 1] = '\0';
  const char *const paths[] = {path, blanks, umlauts, "/short"};
  for (size_t i = 0; i < 4; i++) {
    for (size_t k = 0; k < 4; k++) {
      Error error = {0};
      error_set(&error, ERROR_FILE, "cannot rename %s to %s: No space left on device", paths[i], paths[k]);
      error_context(&error, "%s", paths[k]);
      error_context(&error, "step 3");
      assert_true(strlen(error.message) < sizeof error.message);
      assert_memory_equal(error.message, "step 3: ", 8);
      const char *end = strstr(error.message, ": No space left on device");
      assert_non_null(end);
      assert_int_equal(strlen(end), 25);
      for (const char *at = error.message; *at; at++) { /* whole characters */
        assert_true(*at != '\xc3' || at[1] == '\xb6');
        assert_true(*at != '\xb6' || at[-1] == '\xc3');
      }
    }
  }
  Error error = {0};
  error_set(&error, ERROR_FILE, "cannot read %s/end.txt: why", path);
  assert_non_null(strstr(error.message, "cannot read /ddddd"));
  assert_non_null(strstr(error.message, "..."));
  assert_non_null(strstr(error.message, "d/end.txt: why"));
}

static void null_error_is_fine(void **state) {
  (void)state;
  assert_false(error_set(NULL, ERROR_DATA, "x"));
  assert_false(error_context(NULL, "x"));
  assert_false(error_out_of_memory(NULL, "x", 1));
}

static void out_of_memory_says_what(void **state) {
  (void)state;
  Error error = {0};
  assert_false(error_out_of_memory(&error, "logits", 4096));
  assert_int_equal(error.code, ERROR_MEMORY);
  assert_string_equal(error.message, "out of memory: logits (4096 bytes)");
}

/* The codes are the documented exit codes of the executables. */
static void codes_are_exit_codes(void **state) {
  (void)state;
  const ErrorCode codes[] = {ERROR_NONE, ERROR_USAGE,  ERROR_DATA,   ERROR_MODEL,   ERROR_MEMORY,
                             ERROR_FILE, ERROR_DEVICE, ERROR_SIGINT, ERROR_SIGUSR1, ERROR_SIGTERM};
  const int exits[] = {0, 2, 3, 4, 5, 6, 7, 130, 138, 143};
  for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) assert_int_equal(codes[i], exits[i]);
}

static void broken_assertion_aborts(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    close(STDERR_FILENO);
    ASSERT(1 + 1 == 3);
    _exit(0);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(first_error_wins),      cmocka_unit_test(context_goes_before),
      cmocka_unit_test(long_messages_are_cut), cmocka_unit_test(long_paths_keep_the_reason),
      cmocka_unit_test(null_error_is_fine),    cmocka_unit_test(out_of_memory_says_what),
      cmocka_unit_test(codes_are_exit_codes),  cmocka_unit_test(broken_assertion_aborts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
