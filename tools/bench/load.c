#include "tools/bench/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static double ticks(double count) {
  return count / (double)sysconf(_SC_CLK_TCK);
}

/* Busy seconds of our cores so far: all but idle and waiting for a disk. What a hypervisor gave to other machines is among it. */
static double busy_seconds(const Cores *cores) {
  FILE *file = fopen("/proc/stat", "r");
  char line[512];
  double sum = 0;
  while (file && fgets(line, sizeof line, file)) {
    int cpu;
    double t[8];
    if (sscanf(line, "cpu%d %lf %lf %lf %lf %lf %lf %lf %lf", &cpu, &t[0], &t[1], &t[2], &t[3], &t[4], &t[5],
               &t[6], &t[7]) != 9)
      continue;
    for (int i = 0; i < cores->count; i++) {
      if (cores->cpus[i] == cpu) sum += t[0] + t[1] + t[2] + t[5] + t[6] + t[7];
    }
  }
  if (file) fclose(file);
  return ticks(sum);
}

/* Of a process that lives, with those of its own that have ended. */
static double process_seconds(pid_t pid) {
  char path[64], text[1024];
  double t[4] = {0};
  snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
  FILE *file = fopen(path, "r");
  const size_t size = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  text[size] = '\0';
  const char *at = strrchr(text, ')'); /* behind the name, which may hold anything */
  if (at)
    (void)!sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lf %lf %lf %lf", &t[0], &t[1], &t[2],
                  &t[3]);
  return ticks(t[0] + t[1] + t[2] + t[3]);
}

static double used_seconds(int who) {
  struct rusage used;
  getrusage(who, &used);
  return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
         1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

/* Ours: this process, its children that have ended, and one that has not. */
static double own_seconds(pid_t child) {
  return used_seconds(RUSAGE_SELF) + used_seconds(RUSAGE_CHILDREN) + (child > 0 ? process_seconds(child) : 0);
}

/* What our control group used of its quota, and for how long it was held back: seconds of processor time, of version 2 or version 1. */
static double group_seconds(const Cores *cores) {
  if (!(cores->quota < cores->count)) return 0;
  const char *const files[] = {"/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat",
                               "/sys/fs/cgroup/cpuacct/cpuacct.usage"};
  double seconds = 0;
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    FILE *file = fopen(files[i], "r");
    char line[128];
    double value;
    while (file && fgets(line, sizeof line, file)) {
      if (sscanf(line, "usage_usec %lf", &value) == 1) seconds += 1e-6 * value;
      if (sscanf(line, "throttled_usec %lf", &value) == 1) seconds += 1e-6 * value;
      if (sscanf(line, "throttled_time %lf", &value) == 1) seconds += 1e-9 * value;
      if (i == 2 && sscanf(line, "%lf", &value) == 1) seconds += 1e-9 * value;
    }
    if (file) fclose(file);
  }
  return seconds;
}

Load load_begin(const Cores *cores, pid_t child) {
  return (Load){.began = time_monotonic(),
                .busy = busy_seconds(cores),
                .own = own_seconds(child),
                .group = group_seconds(cores)};
}

double load_others(const Load *load, const Cores *cores, pid_t child) {
  const Load now = load_begin(cores, child);
  const double clock = now.began - load->began, own = now.own - load->own;
  const double limit = fmin(cores->count, cores->quota);
  const double busy = (now.busy - load->busy - own) / cores->count,
               group = (now.group - load->group - own) / limit;
  /* The kernel counts in ticks, which a short measurement must not take for somebody. */
  const double others = fmax(busy, group) - 2 * ticks(1);
  return clock > 0 ? fmin(1, fmax(0, others / clock)) : 0;
}

size_t process_peak(pid_t pid) {
  char path[64], line[256];
  size_t kilobytes = 0;
  snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
  FILE *file = fopen(path, "r");
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "VmHWM: %zu", &kilobytes) == 1) break;
  }
  if (file) fclose(file);
  return kilobytes << 10;
}
