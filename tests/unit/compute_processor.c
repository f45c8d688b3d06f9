/* The code path that DROVER_CPU names is taken where the processor has it, and refused where it has not. What it has is
 * read from the system here, in a way of our own. Each case is a process: oneDNN keeps what it was told first. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/ops.h"
#include "compute/product.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether the processor has every one of these features, by /proc/cpuinfo. */
static bool has(const char *features) {
  char line[8192] = "", copy[256];
  FILE *file = fopen("/proc/cpuinfo", "r");
  assert_non_null(file);
  while (fgets(line, sizeof line, file) && strncmp(line, "flags", 5) != 0) {
  }
  fclose(file);
  line[strcspn(line, "\n")] = 0;
  strncat(line, " ", sizeof line - strlen(line) - 1);
  snprintf(copy, sizeof copy, "%s", features);
  for (char *rest, *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char whole[64];
    snprintf(whole, sizeof whole, " %s ", word);
    if (!strstr(line, whole)) return false;
  }
  return true;
}

/* Whether the system lets a process use the tiles of AMX. */
static bool may_use_tiles(void) {
  const long request_permission = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}

static bool has_avx2(void) {
  return has("avx2 fma bmi1 bmi2");
}
static bool has_avx512(void) {
  return has_avx2() && has("avx512f avx512bw avx512cd avx512dq avx512vl");
}
static bool has_amx(void) {
  return has_avx512() && has("amx_tile amx_bf16 amx_int8") && may_use_tiles();
}

/* Opens the device in a child with these variables (or NULL). True: `what` is its name, else its error. */
static bool opens(const char *path, const char *limit, ErrorCode *code, char what[1024]) {
  int channel[2];
  assert_int_equal(pipe(channel), 0);
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    unsetenv("DROVER_CPU");
    unsetenv("ONEDNN_MAX_CPU_ISA");
    if (path) setenv("DROVER_CPU", path, 1);
    if (limit) setenv("ONEDNN_MAX_CPU_ISA", limit, 1);
    Compute c;
    Error error = {0};
    const bool good = compute_open(&c, DEVICE_CPU, 1, &error);
    dprintf(channel[1], "%s", good ? compute_device_name(&c) : error.message);
    _exit(error.code);
  }
  close(channel[1]);
  size_t length = 0;
  for (ssize_t got; (got = read(channel[0], what + length, 1023 - length)) > 0;) length += (size_t)got;
  what[length] = 0;
  close(channel[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  *code = (ErrorCode)WEXITSTATUS(status);
  return *code == ERROR_NONE;
}

static const struct {
  const char *path, *name;
  bool (*possible)(void);
} paths[] = {{"avx2", "cpu (avx2)", has_avx2},
             {"avx512", "cpu (avx512)", has_avx512},
             {"amx", "cpu (avx512, amx)", has_amx}};
enum { PATHS = sizeof paths / sizeof *paths };

static void a_path_that_is_named_is_taken_or_refused(void **state) {
  (void)state;
  char what[1024];
  ErrorCode code;
  for (int i = 0; i < PATHS; i++) {
    const bool good = opens(paths[i].path, NULL, &code, what);
    print_message("    %s: %s\n", paths[i].path, what);
    if (good != paths[i].possible()) fail_msg("%s: %s", paths[i].path, what);
    if (good) assert_string_equal(what, paths[i].name);
    if (!good) assert_int_equal(code, ERROR_DEVICE);
    if (!good) assert_non_null(strstr(what, paths[i].path));
  }
}

static void without_a_name_the_best_is_taken(void **state) {
  (void)state;
  char what[1024];
  ErrorCode code;
  int best = 0;
  while (best + 1 < PATHS && paths[best + 1].possible()) best++;
  assert_true(opens(NULL, NULL, &code, what));
  assert_string_equal(what, paths[best].name);
  assert_true(opens("", NULL, &code, what));
  assert_string_equal(what, paths[best].name);
}

static void what_cannot_be_is_an_error(void **state) {
  (void)state;
  char what[1024];
  ErrorCode code;
  assert_false(opens("AVX512", NULL, &code, what));
  assert_int_equal(code, ERROR_USAGE);
  assert_non_null(strstr(what, "'AVX512'"));
  assert_non_null(strstr(what, "avx2, avx512 and amx"));
  /* What the user has told oneDNN itself is not overruled. */
  assert_true(opens("avx2", "AVX2", &code, what));
  assert_false(opens("avx2", "SSE41", &code, what));
  assert_int_equal(code, ERROR_DEVICE);
  assert_non_null(strstr(what, "ONEDNN_MAX_CPU_ISA is SSE41"));
  if (!has_avx512()) return;
  assert_false(opens("avx512", "AVX2", &code, what));
  assert_int_equal(code, ERROR_DEVICE);
  assert_non_null(strstr(what, "takes avx2 here"));
  assert_true(opens(NULL, "AVX2", &code, what)); /* it alone is held back */
  assert_string_equal(what, "cpu (avx512)");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_path_that_is_named_is_taken_or_refused),
      cmocka_unit_test(without_a_name_the_best_is_taken),
      cmocka_unit_test(what_cannot_be_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
