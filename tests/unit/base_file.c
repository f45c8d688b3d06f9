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
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool full_disk;

/* In the place of the C library's: a disk that has room for no directory. */
int mkdir(const char *path, mode_t mode) {
  errno = ENOSPC;
  return full_disk ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

static void assert_content(const char *path, const char *expected) {
  Buffer text = {0};
  Error error = {0};
  assert_true(file_read(path, &text, &error));
  assert_string_equal(text.data, expected);
  buffer_free(&text);
}

static size_t count_files(void) {
  StringList names = {0};
  Error error = {0};
  assert_true(directory_list(folder.directory, &names, &error));
  size_t count = names.count;
  string_list_free(&names);
  return count;
}

static void reads_and_appends(void **state) {
  (void)state;
  Buffer text = {0};
  Error error = {0};
  const char *path = temporary_path(&folder, "a.txt");
  assert_true(file_write_text(path, "one", &error));
  assert_true(file_read(path, &text, &error));
  assert_true(file_read(path, &text, &error));
  assert_string_equal(text.data, "oneone");
  buffer_free(&text);
  assert_true(file_write_text(path, "", &error));
  assert_content(path, "");
  assert_true(file_exists(path));
  assert_false(directory_exists(path));
  assert_false(file_exists(folder.directory));
  assert_true(directory_exists(folder.directory));
}

static void errors_name_path_and_reason(void **state) {
  (void)state;
  Buffer text = {0};
  FileMap map;
  StringList names = {0};
  char digest[33];
  const char *path = temporary_path(&folder, "absent");
  Error errors[6] = {0};
  assert_false(file_read(path, &text, &errors[0]));
  assert_false(file_map_open(&map, path, &errors[1]));
  assert_false(file_digest(path, digest, &errors[2]));
  assert_false(directory_list(path, &names, &errors[3]));
  assert_false(directory_sync(path, &errors[4]));
  assert_false(file_copy(path, "/nonexistent/x", &errors[5]));
  for (int i = 0; i < 6; i++) {
    assert_int_equal(errors[i].code, ERROR_FILE);
    assert_non_null(strstr(errors[i].message, i == 5 ? "/nonexistent/x" : path));
    assert_non_null(strstr(errors[i].message, "No such file or directory"));
  }
  Error error = {0};
  assert_false(file_read(folder.directory, &text, &error));
  assert_non_null(strstr(error.message, "Is a directory"));
  Error irregular = {0};
  assert_false(file_map_open(&map, folder.directory, &irregular));
  assert_non_null(strstr(irregular.message, "not a regular file"));
  const char *pipe = temporary_path(&folder, "pipe"); /* nobody will ever write to it */
  assert_int_equal(mkfifo(pipe, 0600), 0);
  irregular = (Error){0};
  assert_false(file_map_open(&map, pipe, &irregular));
  assert_non_null(strstr(irregular.message, "not a regular file"));
  buffer_free(&text);
}

static void maps_whole_files(void **state) {
  (void)state;
  FileMap map;
  Error error = {0};
  const char *path = temporary_path(&folder, "map");
  assert_true(file_write_text(path, "mapped", &error));
  assert_true(file_map_open(&map, path, &error));
  assert_int_equal(map.size, 6);
  assert_memory_equal(map.data, "mapped", 6);
  assert_true(file_write_text(path, "replaced", &error));
  assert_memory_equal(map.data, "mapped", 6); /* a replaced file stays what it was for who has it open */
  file_map_close(&map);
  file_map_close(&map);
  assert_true(file_write_text(path, "", &error));
  assert_true(file_map_open(&map, path, &error));
  assert_int_equal(map.size, 0);
  file_map_close(&map);
}

static void uncommitted_leaves_the_old(void **state) {
  (void)state;
  FileWriter writer;
  Error error = {0};
  const char *path = temporary_path(&folder, "old");
  assert_true(file_write_text(path, "old", &error));
  assert_true(file_writer_open(&writer, path, &error));
  assert_true(file_writer_write(&writer, "new content", 11, &error));
  assert_int_equal(writer.written, 11);
  assert_int_equal(count_files(), 2);
  assert_content(path, "old");
  file_writer_close(&writer);
  file_writer_close(&writer);
  assert_int_equal(count_files(), 1);
  assert_content(path, "old");
  assert_true(file_writer_open(&writer, path, &error));
  assert_true(file_writer_write(&writer, "new", 3, &error));
  assert_true(file_writer_commit(&writer, &error));
  file_writer_close(&writer);
  assert_int_equal(count_files(), 1);
  assert_content(path, "new");
}

static void killed_writer_leaves_the_old(void **state) {
  (void)state;
  Error error = {0};
  const char *path = temporary_path(&folder, "killed");
  assert_true(file_write_text(path, "old", &error));
  pid_t child = fork();
  if (child == 0) {
    FileWriter writer;
    if (!file_writer_open(&writer, path, &error)) _exit(1);
    if (!file_writer_write(&writer, "half of the ne", 14, &error)) _exit(1);
    fflush(writer.stream);
    raise(SIGKILL);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  assert_content(path, "old");
}

/* /dev/full answers every write with ENOSPC, as a full disk does. */
static void full_disk_leaves_the_old(void **state) {
  (void)state;
  static const char big[1 << 16];
  const char *path = temporary_path(&folder, "full");
  for (int large = 0; large < 2; large++) { /* noticed while writing, and only at the final flush */
    FileWriter writer;
    Error error = {0};
    assert_true(file_write_text(path, "old", &error));
    assert_true(file_writer_open(&writer, path, &error));
    assert_non_null(freopen("/dev/full", "wb", writer.stream));
    bool ok = file_writer_write(&writer, big, large ? sizeof big : 10, &error);
    assert_true(ok == !large);
    assert_false(ok && file_writer_commit(&writer, &error));
    file_writer_close(&writer);
    assert_int_equal(error.code, ERROR_FILE);
    assert_non_null(strstr(error.message, path));
    assert_non_null(strstr(error.message, "No space left on device"));
    assert_content(path, "old");
    assert_int_equal(count_files(), 1);
  }
}

/* A caller that misses a failed write still cannot put the file in place. */
static void commit_remembers_a_failed_write(void **state) {
  (void)state;
  static const char big[1 << 16];
  FileWriter writer;
  Error missed = {0}, error = {0};
  const char *path = temporary_path(&folder, "missed");
  assert_true(file_writer_open(&writer, path, &error));
  struct rlimit old, small = {.rlim_cur = 100};
  getrlimit(RLIMIT_FSIZE, &old);
  small.rlim_max = old.rlim_max;
  signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  bool wrote = file_writer_write(&writer, big, sizeof big, &missed);
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, SIG_DFL);
  assert_false(wrote);
  assert_false(file_writer_commit(&writer, &error));
  file_writer_close(&writer);
  assert_int_equal(error.code, ERROR_FILE);
  assert_false(file_exists(path));
  assert_int_equal(count_files(), 0);
}

static int syncs;

int fsync(int descriptor) {
  syncs++;
  return (int)syscall(SYS_fsync, descriptor);
}

/* The name of a directory lasts when the one that holds it is synced. */
static void new_directories_are_synced(void **state) {
  (void)state;
  Error error = {0};
  syncs = 0;
  assert_true(directory_create(temporary_path(&folder, "a/b/c"), &error));
  assert_int_equal(syncs, 3);
  assert_true(directory_create(temporary_path(&folder, "a/b/c"), &error));
  assert_int_equal(syncs, 3);
}

static void directories_come_and_go(void **state) {
  (void)state;
  Error error = {0};
  char deep[600];
  snprintf(deep, sizeof deep, "%s/a//b/c/", folder.directory);
  assert_true(directory_create(deep, &error));
  assert_true(directory_create(deep, &error));
  assert_true(directory_exists(temporary_path(&folder, "a/b/c")));
  assert_true(directory_sync(deep, &error));
  assert_true(file_write_text(temporary_path(&folder, "a/b/file"), "x", &error));
  Error blocked = {0};
  assert_false(directory_create(temporary_path(&folder, "a/b/file/d"), &blocked));
  assert_int_equal(blocked.code, ERROR_FILE);
  assert_non_null(strstr(blocked.message, "Not a directory"));
  full_disk = true;
  Error full = {0};
  assert_false(directory_create(temporary_path(&folder, "new"), &full));
  full_disk = false;
  assert_non_null(strstr(full.message, "No space left on device"));
  /* A link is removed, not what it points to. */
  assert_true(directory_create(temporary_path(&folder, "kept"), &error));
  assert_true(file_write_text(temporary_path(&folder, "kept/x"), "x", &error));
  assert_int_equal(symlink("../kept", temporary_path(&folder, "a/link")), 0);
  assert_true(directory_remove_all(temporary_path(&folder, "a"), &error));
  assert_false(directory_exists(temporary_path(&folder, "a")));
  assert_content(temporary_path(&folder, "kept/x"), "x");
  assert_true(directory_remove_all(temporary_path(&folder, "a"), &error));
}

static void listing_is_sorted(void **state) {
  (void)state;
  Error error = {0};
  StringList names = {0};
  const char *files[] = {"b", "a10", "a2", "Z", ".hidden"};
  for (int i = 0; i < 5; i++) assert_true(file_write_text(temporary_path(&folder, files[i]), "", &error));
  assert_true(directory_list(folder.directory, &names, &error));
  const char *expected[] = {".hidden", "Z", "a10", "a2", "b"};
  assert_int_equal(names.count, 5);
  for (int i = 0; i < 5; i++) assert_string_equal(names.items[i], expected[i]);
  string_list_free(&names);
}

static void paths(void **state) {
  (void)state;
  const char *const joins[][3] = {
      {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"", "b", "b"}, {"/", "b", "/b"}, {"a/b", "c/d", "a/b/c/d"}};
  for (size_t i = 0; i < sizeof joins / sizeof *joins; i++) {
    char *path = path_join(joins[i][0], joins[i][1]);
    assert_string_equal(path, joins[i][2]);
    memory_free(path);
  }
  const char *const parents[][2] = {{"a/b/c", "a/b"}, {"a", "."},  {"/a", "/"},   {"/", "/"},
                                    {"a/b/", "a"},    {"", "."},   {"a//b", "a"}, {"./x", "."},
                                    {"/a/b", "/a"},   {"///", "/"}};
  for (size_t i = 0; i < sizeof parents / sizeof *parents; i++) {
    char *path = path_parent(parents[i][0]);
    assert_string_equal(path, parents[i][1]);
    memory_free(path);
  }
  assert_string_equal(path_name("a/b/c.txt"), "c.txt");
  assert_string_equal(path_name("c.txt"), "c.txt");
}

static void copies_and_digests(void **state) {
  (void)state;
  Error error = {0};
  enum { SIZE = 3000001 }; /* more than one chunk */
  char *content = memory_alloc(SIZE), from[600], a[33], b[33];
  for (int i = 0; i < SIZE; i++) content[i] = (char)(i * 7 + i / 256);
  FileWriter writer;
  snprintf(from, sizeof from, "%s", temporary_path(&folder, "from"));
  assert_true(file_writer_open(&writer, from, &error));
  assert_true(file_writer_write(&writer, content, SIZE, &error));
  assert_true(file_writer_commit(&writer, &error));
  assert_true(file_copy(from, temporary_path(&folder, "to"), &error));
  assert_true(file_digest(temporary_path(&folder, "to"), a, &error));
  bytes_digest(content, SIZE, b);
  assert_string_equal(a, b);
  content[SIZE - 1] ^= 1;
  bytes_digest(content, SIZE, b);
  assert_string_not_equal(a, b);
  memory_free(content);
  bytes_digest("", 0, a); /* the published value of XXH3-128 of nothing */
  assert_string_equal(a, "99aa06d3014798d86001c324468d497f");
}

/* Values that the authors of FNV publish. */
static void hashes_are_fnv(void **state) {
  (void)state;
  assert_true(bytes_hash("", 0) == 0xcbf29ce484222325u);
  assert_true(bytes_hash("a", 1) == 0xaf63dc4c8601ec8cu);
  assert_true(bytes_hash("foobar", 6) == 0x85944171f73967e8u);
}

static void failed_allocations_are_errors(void **state) {
  (void)state;
  const char *path = temporary_path(&folder, "x");
  for (long n = 0;; n++) {
    Error error = {0};
    Buffer text = {0};
    StringList names = {0};
    assert_true(directory_create(folder.directory, &error)); /* the round before may have ended without it */
    memory_fail_after(n);
    bool ok = file_write_text(path, "text", &error) && file_read(path, &text, &error) &&
              directory_list(folder.directory, &names, &error) &&
              directory_remove_all(folder.directory, &error) && directory_create(folder.directory, &error);
    memory_fail_after(-1);
    assert_true(ok == (error.code == ERROR_NONE));
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    buffer_free(&text);
    string_list_free(&names);
    if (ok) break;
    assert_true(n < 100);
  }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_folder, close_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(reads_and_appends),
      TEST(errors_name_path_and_reason),
      TEST(maps_whole_files),
      TEST(uncommitted_leaves_the_old),
      TEST(killed_writer_leaves_the_old),
      TEST(full_disk_leaves_the_old),
      TEST(commit_remembers_a_failed_write),
      TEST(new_directories_are_synced),
      TEST(directories_come_and_go),
      TEST(listing_is_sorted),
      TEST(paths),
      TEST(copies_and_digests),
      TEST(hashes_are_fnv),
      TEST(failed_allocations_are_errors),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
