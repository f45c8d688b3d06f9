#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

static const size_t sizes[] = {1, 64, 0, 65, 4096, 3, 1000000, 7};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* The work of some step: what is in the arena at once is less than what is asked for in all. */
static void work(Arena *arena, bool touch) {
  for (int i = 0; i < SIZES; i++) {
    char *block = arena_alloc(arena, sizes[i]);
    assert_int_equal((uintptr_t)block % 64, 0);
    if (touch) memset(block, i, sizes[i]);
    size_t mark = arena_mark(arena);
    char *scratch = arena_alloc(arena, 1000);
    if (touch) memset(scratch, 0xff, 1000);
    arena_release(arena, mark);
    if (touch && sizes[i]) assert_int_equal(block[sizes[i] - 1], i);
  }
}

static void dry_run_gives_the_capacity(void **state) {
  (void)state;
  Arena dry, real;
  Error error = {0};
  arena_init_dry(&dry, "step");
  work(&dry, false);
  assert_true(dry.peak >= dry.used);
  assert_true(arena_init(&real, "step", dry.peak, &error));
  work(&real, true);
  assert_int_equal(real.used, dry.used);
  assert_int_equal(real.peak, dry.peak);
  assert_int_equal(real.capacity, dry.peak);
  arena_free(&real);
  arena_free(&real);
  arena_free(&dry);
}

static bool dies(void (*function)(void)) {
  pid_t child = fork();
  if (child == 0) {
    signal(SIGABRT, SIG_DFL);
    close(STDERR_FILENO);
    function();
    _exit(0);
  }
  int status;
  return waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void overrun(void) {
  _Alignas(64) static char memory[256];
  Arena arena;
  arena_init_over(&arena, "small", memory, sizeof memory);
  arena_alloc(&arena, 192);
  arena_alloc(&arena, 64);
  arena_alloc(&arena, 1);
}

static void fits_exactly(void) {
  _Alignas(64) static char memory[256];
  Arena arena;
  arena_init_over(&arena, "small", memory, sizeof memory);
  arena_alloc(&arena, 192);
  arena_alloc(&arena, 64);
}

static void overflow(void) {
  Arena arena;
  arena_init_dry(&arena, "dry");
  arena_alloc(&arena, SIZE_MAX - 200);
  arena_alloc(&arena, 300);
}

static void release_ahead(void) {
  Arena arena;
  arena_init_dry(&arena, "dry");
  arena_release(&arena, 1);
}

static void misuse_is_caught(void **state) {
  (void)state;
  assert_false(dies(fits_exactly));
  assert_true(dies(overrun));
  assert_true(dies(overflow));
  assert_true(dies(release_ahead));
}

/* Only the sanitizer build guards. */
#ifdef __SANITIZE_ADDRESS__
static void released_memory_is_guarded(void **state) {
  (void)state;
  Arena arena;
  Error error = {0};
  assert_true(arena_init(&arena, "guarded", 4096, &error));
  char *kept = arena_alloc(&arena, 100);
  size_t mark = arena_mark(&arena);
  char *released = arena_alloc(&arena, 100);
  assert_false(__asan_address_is_poisoned(kept + 99));
  assert_true(__asan_address_is_poisoned(kept + 104)); /* the gap up to the next 64 bytes */
  assert_false(__asan_address_is_poisoned(released));
  arena_release(&arena, mark);
  assert_true(__asan_address_is_poisoned(released + 8));
  assert_false(__asan_address_is_poisoned(kept + 99));
  char *again = arena_alloc(&arena, 200);
  assert_ptr_equal(again, released);
  assert_false(__asan_address_is_poisoned(again + 199));
  arena_free(&arena);
}
#endif

static void borrowed_memory_is_used_in_order(void **state) {
  (void)state;
  _Alignas(64) char memory[512];
  Arena arena;
  arena_init_over(&arena, "over", memory, sizeof memory);
  assert_ptr_equal(arena_alloc(&arena, 10), memory);
  size_t mark = arena_mark(&arena);
  assert_ptr_equal(arena_alloc(&arena, 100), memory + 64);
  arena_release(&arena, mark);
  assert_ptr_equal(arena_alloc(&arena, 1), memory + 64);
  assert_int_equal(arena.peak, 164);
  arena_free(&arena); /* does not touch what it borrowed */
  memory[0] = 1;
}

static void too_large_is_an_error(void **state) {
  (void)state;
  Arena arena;
  Error error = {0};
  assert_false(arena_init(&arena, "run", SIZE_MAX / 2, &error));
  assert_int_equal(error.code, ERROR_MEMORY);
  assert_non_null(strstr(error.message, "run"));
  arena_free(&arena);
  Error none = {0};
  assert_true(arena_init(&arena, "empty", 0, &none));
  arena_free(&arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#ifdef __SANITIZE_ADDRESS__
      cmocka_unit_test(released_memory_is_guarded),
#endif
      cmocka_unit_test(dry_run_gives_the_capacity),       cmocka_unit_test(misuse_is_caught),
      cmocka_unit_test(borrowed_memory_is_used_in_order), cmocka_unit_test(too_large_is_an_error),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
