/* Drafts: who may remove what, and that a place is never without what it holds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tests/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *watched;     /* must stand after every rename, unless NULL */
static bool cannot_exchange;    /* as on some network file systems */
static const char *cannot_move; /* what rename fails for */
static const char
    *parent; /* of what is put in place: it must be synced behind the last rename, unless NULL */
static bool synced;

static int open_watched(void **state) {
  watched = NULL;
  cannot_exchange = false;
  cannot_move = NULL;
  parent = NULL;
  return open_folder(state);
}

/* In the place of the C library's, so that what happens between two system calls can be looked at. */
int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned int flags) {
  if (flags && cannot_exchange) {
    errno = EINVAL;
    return -1;
  }
  const long result = syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
  if (watched) assert_int_equal(access(watched, F_OK), 0);
  synced = false;
  return (int)result;
}

int fsync(int descriptor) {
  struct stat one, other;
  if (parent && fstat(descriptor, &one) == 0 && stat(parent, &other) == 0)
    synced |= one.st_ino == other.st_ino && one.st_dev == other.st_dev;
  return (int)syscall(SYS_fsync, descriptor);
}

int rename(const char *from, const char *to) {
  if (cannot_move && strcmp(from, cannot_move) == 0) {
    errno = EIO;
    return -1;
  }
  return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

static void write_text(const char *directory, const char *name, const char *text) {
  Error error = {0};
  char *path = path_join(directory, name);
  assert_true(directory_create(directory, &error) && file_write_text(path, text, &error));
  memory_free(path);
}

static void assert_text(const char *path, const char *expected) {
  Buffer text = {0};
  Error error = {0};
  assert_true(file_read(path, &text, &error));
  assert_string_equal(text.data, expected);
  buffer_free(&text);
}

/* Names in the folder that contain `part`. */
static size_t count(const char *part) {
  StringList names = {0};
  Error error = {0};
  size_t found = 0;
  assert_true(directory_list(folder.directory, &names, &error));
  for (size_t i = 0; i < names.count; i++) found += strstr(names.items[i], part) != NULL;
  string_list_free(&names);
  return found;
}

static void place(char *out, const char *name) {
  snprintf(out, 512, "%s", temporary_path(&folder, name));
}

static void two_drafts_of_one_place(void **state) {
  (void)state;
  Draft a, b;
  Error error = {0};
  char out[512];
  place(out, "sub/out/");
  assert_true(draft_directory(&a, out, &error)); /* makes its parents */
  assert_true(draft_directory(&b, out, &error)); /* and does not take the first for a leftover */
  assert_string_not_equal(a.path, b.path);
  assert_true(directory_exists(a.path) && directory_exists(b.path));
  assert_false(directory_exists(out));
  write_text(a.path, "x", "a");
  write_text(b.path, "x", "b");
  assert_true(directory_replace(a.path, out, &error));
  assert_text(temporary_path(&folder, "sub/out/x"), "a");
  assert_true(directory_replace(b.path, out, &error));
  assert_text(temporary_path(&folder, "sub/out/x"), "b");
  draft_drop(&a);
  draft_drop(&b);
  draft_drop(&b);
  assert_text(temporary_path(&folder, "sub/out/x"), "b");
}

static void what_is_dropped_is_gone(void **state) {
  (void)state;
  Draft draft;
  Error error = {0};
  char out[512];
  place(out, "out");
  assert_true(draft_directory(&draft, out, &error));
  write_text(draft.path, "x", "x");
  draft_drop(&draft);
  assert_int_equal(count("out"), 0);
}

/* Runs in a process of its own and is killed with drafts of both kinds in its hands. */
static void leave_drafts(const char *out) {
  const pid_t child = fork();
  if (child == 0) {
    Draft draft;
    FileWriter writer;
    Error error = {0};
    char *inner = draft_directory(&draft, out, &error) ? path_join(draft.path, "half") : NULL;
    if (!inner || !file_write_text(inner, "half", &error) || !file_writer_open(&writer, out, &error))
      _exit(1);
    raise(SIGKILL);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void leftovers_of_killed_writers_go(void **state) {
  (void)state;
  Draft alive;
  FileWriter writer;
  Error error = {0};
  char out[512], other[512];
  place(out, "out");
  place(other, "other");
  assert_true(draft_directory(&alive, out, &error) && file_writer_open(&writer, out, &error));
  leave_drafts(out);
  assert_int_equal(count("out.drover-draft-"), 4);
  assert_true(file_write_text(other, "", &error)); /* whatever is written next in that directory */
  assert_int_equal(count("out.drover-draft-"), 2);
  assert_true(directory_exists(alive.path));
  assert_true(file_writer_commit(&writer, &error));
  draft_drop(&alive);
}

static void what_is_not_ours_stays(void **state) {
  (void)state;
  static const char *const names[] = {"out.tmp",
                                      "out.tmp-1",
                                      "out.drover-draft-",
                                      "out.drover-draft-0123",
                                      "out.drover-draft-0123456789abcdeg",
                                      ".drover-draft-0123456789abcdef",
                                      "out.drover-draft-0123456789abcdef.txt",
                                      "out.drover-former-0123456789abcdef"};
  enum { NAMES = sizeof names / sizeof *names };
  Draft draft;
  Error error = {0};
  char out[512];
  place(out, "out");
  for (size_t i = 0; i < NAMES; i++) write_text(folder.directory, names[i], "precious");
  assert_int_equal(mkdir(temporary_path(&folder, "kept"), 0777), 0);
  assert_int_equal(symlink("kept", temporary_path(&folder, "x.drover-draft-0123456789abcdef")), 0);
  assert_true(draft_directory(&draft, out, &error));
  for (size_t i = 0; i < NAMES; i++) assert_text(temporary_path(&folder, names[i]), "precious");
  assert_true(directory_exists(temporary_path(&folder, "kept")));
  assert_int_equal(access(temporary_path(&folder, "x.drover-draft-0123456789abcdef"), F_OK), 0);
  draft_drop(&draft);
}

static void a_place_is_never_empty(void **state) {
  (void)state;
  Draft draft;
  Error error = {0};
  char out[512];
  place(out, "out");
  write_text(out, "x", "old");
  assert_true(draft_directory(&draft, out, &error));
  write_text(draft.path, "x", "new");
  watched = out;
  assert_true(directory_replace(draft.path, out, &error));
  watched = NULL;
  draft_drop(&draft);
  assert_text(temporary_path(&folder, "out/x"), "new");
  assert_int_equal(count("out"), 1);
}

/* A name lasts through a power cut once the directory that has it is synced, after the renaming. */
static void what_is_in_place_lasts(void **state) {
  (void)state;
  char out[512];
  place(out, "out");
  parent = folder.directory;
  for (int how = 0; how < 4; how++) { /* new, exchanged, in two steps, a file */
    Error error = {0};
    Draft draft = {0};
    cannot_exchange = how == 2;
    if (how < 3) {
      assert_true(draft_directory(&draft, out, &error));
      write_text(draft.path, "x", "new");
      assert_true(directory_replace(draft.path, out, &error));
    } else {
      assert_true(file_write_text(temporary_path(&folder, "file"), "new", &error));
    }
    if (!synced) fail_msg("way %d: the parent is not synced", how);
    draft_drop(&draft);
  }
}

static void without_exchange_it_takes_two_steps(void **state) {
  (void)state;
  Draft draft;
  Error error = {0};
  char out[512];
  place(out, "out");
  cannot_exchange = true;
  write_text(out, "x", "old");
  assert_true(draft_directory(&draft, out, &error));
  write_text(draft.path, "x", "new");
  cannot_move = draft.path; /* the second of them fails: the former directory comes back */
  assert_false(directory_replace(draft.path, out, &error));
  assert_non_null(strstr(error.message, "Input/output error"));
  assert_text(temporary_path(&folder, "out/x"), "old");
  assert_int_equal(count("former"), 0);
  cannot_move = NULL;
  error = (Error){0};
  assert_true(directory_replace(draft.path, out, &error));
  draft_drop(&draft);
  assert_text(temporary_path(&folder, "out/x"), "new");
  assert_int_equal(count("out"), 1);
}

static void errors_name_the_place(void **state) {
  (void)state;
  Draft draft;
  int descriptor;
  Error error = {0};
  char out[512];
  place(out, "file/out");
  write_text(folder.directory, "file", "");
  assert_false(draft_directory(&draft, out, &error));
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, "Not a directory"));
  error = (Error){0};
  assert_false(draft_file(&draft, out, &descriptor, &error));
  assert_non_null(strstr(error.message, out));
  assert_non_null(strstr(error.message, "Not a directory"));
  draft_drop(&draft);
}

/* Of a process that was killed nothing lasts but until the next one asks for a directory. */
static void temporary_directories_of_the_killed(void **state) {
  (void)state;
  Error error = {0};
  int status;
  assert_int_equal(setenv("TMPDIR", folder.directory, 1), 0);
  const pid_t child = fork();
  if (child == 0) {
    char *path = directory_temporary("name", &error), *inner = path ? path_join(path, "half") : NULL;
    if (!inner || !file_write_text(inner, "half", &error)) _exit(1);
    raise(SIGKILL);
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status));
  assert_int_equal(count("drover-name"), 1);
  char *one = directory_temporary("name", &error), *two = directory_temporary("name", &error);
  assert_true(one && two && directory_exists(one) && directory_exists(two));
  assert_int_equal(count("drover-name"), 2);
  struct stat of_one;
  assert_int_equal(stat(one, &of_one), 0);
  assert_int_equal(of_one.st_mode & 0777, 0700);
  assert_true(directory_remove_all(one, &error) && directory_remove_all(two, &error));
  assert_int_equal(count("drover-name"), 0);
  memory_free(one);
  memory_free(two);
  unsetenv("TMPDIR");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_watched, close_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(two_drafts_of_one_place),
      TEST(what_is_dropped_is_gone),
      TEST(leftovers_of_killed_writers_go),
      TEST(what_is_not_ours_stays),
      TEST(a_place_is_never_empty),
      TEST(what_is_in_place_lasts),
      TEST(without_exchange_it_takes_two_steps),
      TEST(errors_name_the_place),
      TEST(temporary_directories_of_the_killed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
