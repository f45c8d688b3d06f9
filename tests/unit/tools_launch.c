#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/folder.h"
#include "base/cores.h"

#include <math.h>

static void put(const char *path, const char *text) {
  Error error = {0};
  char parent[512];
  snprintf(parent, sizeof parent, "%s", temporary_path(&folder, path));
  *strrchr(parent, '/') = '\0';
  assert_true(directory_create(parent, &error));
  assert_true(file_write_text(temporary_path(&folder, path), text, &error));
}

static double quota(void) {
  Error error = {0};
  Cores cores;
  assert_true(cores_read(&cores, folder.directory, &error));
  assert_true(cores.count > 0);
  return cores.quota;
}

static void time_is_what_all_groups_allow(void **state) {
  (void)state;
  assert_true(isinf(quota()));
  put("proc/self/cgroup", "0::/outer/inner\n");
  assert_true(isinf(quota()));
  put("sys/fs/cgroup/outer/inner/cpu.max", "max 100000\n");
  assert_true(isinf(quota()));
  put("sys/fs/cgroup/outer/cpu.max", "200000 100000\n");
  assert_true(quota() == 2);
  put("sys/fs/cgroup/outer/inner/cpu.max", "50000 100000\n");
  assert_true(quota() == 0.5);
  put("sys/fs/cgroup/cpu.max", "150000 100000\n"); /* all that a container sees of its group */
  put("proc/self/cgroup", "0::/\n");
  assert_true(quota() == 1.5);
}

static void version_1_has_files_of_its_own(void **state) {
  (void)state;
  put("proc/self/cgroup", "5:memory:/x\n4:cpuacct,cpu:/x\n0::/x\n");
  put("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
  put("sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
  assert_true(isinf(quota()));
  put("sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "300000\n");
  assert_true(quota() == 3);
}

static void threads_are_a_share_of_cores_or_time(void **state) {
  (void)state;
  static const struct {
    int count;
    double quota;
    int ranks, threads;
  } cases[] = {{8, INFINITY, 1, 8}, {8, INFINITY, 3, 2}, {8, INFINITY, 16, 1}, {64, 8, 2, 4},
               {8, 2.5, 1, 2},      {8, 2.5, 2, 1},      {8, 0.5, 1, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const Cores cores = {.count = cases[i].count, .quota = cases[i].quota};
    assert_int_equal(cores_threads(&cores, cases[i].ranks), cases[i].threads);
  }
}

static void every_core_is_one_ranks(void **state) {
  (void)state;
  const Cores cores = {.cpus = {0, 8, 1, 9, 2, 10, 3}, .count = 7};
  static const char *const expected[] = {"0,8", "1,9", "2-3,10"};
  char text[CORES_TEXT];
  cpu_set_t set;
  for (int r = 0; r < 3; r++) {
    cores_share(&cores, 3, r, &set);
    assert_string_equal(cores_text(&set, text), expected[r]);
  }
}

/* Threads of one core, and cores of one node of memory, stand side by side. */
static void neighbours_stand_side_by_side(void **state) {
  (void)state;
  cpu_set_t allowed;
  Error error = {0};
  Cores cores;
  assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  int cpus[2] = {-1, -1};
  for (int cpu = 0, found = 0; cpu < CPU_SETSIZE && found < 2; cpu++) {
    if (CPU_ISSET(cpu, &allowed)) cpus[found++] = cpu;
  }
  if (cpus[1] < 0) skip();
  char path[128];
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%d/node%d/x", cpus[i], 1 - i);
    put(path, "");
  }
  assert_true(cores_read(&cores, folder.directory, &error));
  int at[2] = {-1, -1};
  for (int i = 0; i < cores.count; i++) {
    for (int k = 0; k < 2; k++) {
      if (cores.cpus[i] == cpus[k]) at[k] = i;
    }
  }
  assert_true(at[0] > at[1] && at[1] >= 0); /* node 0 before node 1 */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(time_is_what_all_groups_allow, open_folder, close_folder),
      cmocka_unit_test_setup_teardown(version_1_has_files_of_its_own, open_folder, close_folder),
      cmocka_unit_test(threads_are_a_share_of_cores_or_time),
      cmocka_unit_test(every_core_is_one_ranks),
      cmocka_unit_test_setup_teardown(neighbours_stand_side_by_side, open_folder, close_folder),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
