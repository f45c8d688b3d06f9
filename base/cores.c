#include "base/cores.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- which ---------------------------------------------------------------------------------------------- */

typedef struct Place {
  int node, package, core, cpu;
} Place;

static int read_int(const char *path, int otherwise) {
  FILE *file = fopen(path, "r");
  int value;
  if (!file) return otherwise;
  const bool read = fscanf(file, "%d", &value) == 1;
  fclose(file);
  return read ? value : otherwise;
}

/* The node of memory: the folder of a core has one link node<N>. */
static int node_of(const char *folder) {
  int node = 0;
  DIR *directory = opendir(folder);
  for (const struct dirent *entry; directory && (entry = readdir(directory));) {
    if (sscanf(entry->d_name, "node%d", &node) == 1) break;
  }
  if (directory) closedir(directory);
  return node;
}

static Place place_of(const char *root, int cpu) {
  char folder[PATH_MAX], path[PATH_MAX + 64];
  Place out = {.cpu = cpu};
  snprintf(folder, sizeof folder, "%s/sys/devices/system/cpu/cpu%d", root, cpu);
  out.node = node_of(folder);
  snprintf(path, sizeof path, "%s/topology/physical_package_id", folder);
  out.package = read_int(path, 0);
  snprintf(path, sizeof path, "%s/topology/core_id", folder);
  out.core = read_int(path, cpu);
  return out;
}

static int compare(const void *a, const void *b) {
  const Place *x = a, *y = b;
  if (x->node != y->node) return x->node < y->node ? -1 : 1;
  if (x->package != y->package) return x->package < y->package ? -1 : 1;
  if (x->core != y->core) return x->core < y->core ? -1 : 1;
  return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

/* -- how much of them ----------------------------------------------------------------------------------- */

/* Of one group: version 2 has "QUOTA PERIOD" or "max PERIOD" in one file, version 1 has two files, -1 without a limit. */
static double quota_of(const char *group) {
  char path[PATH_MAX + 64];
  double quota, period;
  snprintf(path, sizeof path, "%s/cpu.max", group);
  FILE *file = fopen(path, "r");
  if (file) {
    const bool limited = fscanf(file, "%lf %lf", &quota, &period) == 2;
    fclose(file);
    return limited && period > 0 ? quota / period : INFINITY;
  }
  snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
  quota = read_int(path, -1);
  snprintf(path, sizeof path, "%s/cpu.cfs_period_us", group);
  period = read_int(path, 0);
  return quota > 0 && period > 0 ? quota / period : INFINITY;
}

/* Of a group and all that it lies in. Within a container the group may be known by the name that it has outside; then the root
 * alone is seen. */
static double quota_up(const char *mount, const char *group) {
  char path[PATH_MAX];
  double least = INFINITY;
  snprintf(path, sizeof path, "%s%s", mount, group);
  for (const size_t end = strlen(mount); strlen(path) >= end;) {
    least = fmin(least, quota_of(path));
    char *slash = strrchr(path + (end ? end - 1 : 0), '/');
    if (!slash || strlen(path) == end) break;
    *slash = '\0';
  }
  return least;
}

/* A line of /proc/self/cgroup is NUMBER:CONTROLLERS:/GROUP; version 2 has 0 and no controllers. */
static double quota_in_line(const char *root, char *line) {
  char mount[PATH_MAX];
  char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
  if (!group) return INFINITY;
  *controllers++ = *group++ = '\0';
  group[strcspn(group, "\n")] = '\0';
  if (strcmp(line, "0") == 0) {
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup", root);
    return quota_up(mount, group);
  }
  for (char *name; (name = strsep(&controllers, ","));) {
    if (strcmp(name, "cpu") != 0) continue;
    snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/cpu", root);
    return quota_up(mount, group);
  }
  return INFINITY;
}

static double read_quota(const char *root) {
  char path[PATH_MAX], line[PATH_MAX];
  snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
  FILE *file = fopen(path, "r");
  double least = INFINITY;
  while (file && fgets(line, sizeof line, file)) least = fmin(least, quota_in_line(root, line));
  if (file) fclose(file);
  return least;
}

/* -- */

bool cores_read(Cores *cores, const char *root, Error *error) {
  cpu_set_t allowed;
  Place places[CPU_SETSIZE];
  *cores = (Cores){.quota = read_quota(root)};
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    return error_set(error, ERROR_DEVICE, "cannot find out which cores may be used: %s", strerror(errno));
  }
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &allowed)) places[cores->count++] = place_of(root, cpu);
  }
  qsort(places, (size_t)cores->count, sizeof *places, compare);
  for (int i = 0; i < cores->count; i++) cores->cpus[i] = places[i].cpu;
  return true;
}

int cores_threads(const Cores *cores, int ranks) {
  const double share = floor(fmin(cores->count, cores->quota) / ranks);
  return share > 1 ? (int)share : 1;
}

void cores_share(const Cores *cores, int ranks, int rank, cpu_set_t *out) {
  CPU_ZERO(out);
  for (int i = cores->count * rank / ranks; i < cores->count * (rank + 1) / ranks; i++)
    CPU_SET(cores->cpus[i], out);
}

const char *cores_text(const cpu_set_t *set, char out[CORES_TEXT]) {
  size_t used = 0;
  out[0] = '\0';
  for (int cpu = 0, last; cpu < CPU_SETSIZE && used < CORES_TEXT - 32; cpu = last + 1) {
    last = cpu;
    if (!CPU_ISSET(cpu, set)) continue;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set)) last++;
    used += (size_t)snprintf(out + used, CORES_TEXT - used, last > cpu ? "%s%d-%d" : "%s%d", used ? "," : "",
                             cpu, last);
  }
  return out;
}
