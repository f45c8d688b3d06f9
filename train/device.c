#include "train/device.h"

#include "compute/collective.h"
#include "compute/comm_exchange.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the process holds beside its plan on the CPU backend: code and libraries in memory (17 MiB), kernels that oneDNN makes and its buffers (4 MiB
 * with two threads: compute/product.c), those of a checkpoint that is written, what lies free in the heap between. Measured with one and two threads: 11 to
 * 27, with 16 up to 59; see docs/memory.md. The address sanitizer keeps what was freed, and a shadow of all. */
#ifdef __SANITIZE_ADDRESS__
static const size_t program_bytes = (size_t)48 << 20;
#else
static const size_t program_bytes = (size_t)32 << 20;
#endif
/* For each thread beyond two: buffers of the library's products, which the heap keeps for the next one. */
static const size_t thread_bytes = (size_t)5 << 19;

static size_t program_overhead(const Compute *compute) {
  return program_bytes + (size_t)(compute->threads > 2 ? compute->threads - 2 : 0) * thread_bytes;
}

static bool open_ranks(Compute *compute, const DeviceConfig *config, const Comm *comm, Log *log,
                       Error *error) {
  if (!compute_open_rank(compute, (DeviceKind)config->backend, (int)config->threads, comm, error)) {
    return false;
  }
  compute->memory_limit = (size_t)config->memory_limit;
  if (!log) return true;
  if (compute->refusal.code) log_warning(log, "not on CUDA: %s", compute->refusal.message);
  log_info(log, "computing on %s, %d threads", compute_device_name(compute), compute->threads);
  return true;
}

bool device_open(Compute *compute, const DeviceConfig *config, Log *log, Error *error) {
  const Comm alone = comm_single();
  return open_ranks(compute, config, &alone, log, error);
}

/* Says what kept the real one from being opened. */
static bool assume_card(Compute *compute, const DeviceConfig *config, const Error *refusal, Log *log,
                        Error *error) {
  if (!compute_assume_card(compute, (size_t)config->memory_limit, (int)config->threads, error)) return false;
  if (config->memory_limit == 0) {
    compute_close(compute);
    return error_set(
        error, refusal->code,
        "%s. To plan for a card that is not here, say by device.memory_limit how much memory it has",
        refusal->message);
  }
  const DeviceMemory memory = compute_device_memory(compute);
  log_warning(log,
              "%s. The plan is for a card with %.2f GiB that is not here: its driver and libraries are taken "
              "to need %.0f MiB of them",
              refusal->message, (double)memory.total / (1 << 30), (double)memory.overhead / (1 << 20));
  log_info(log, "planning for %s", compute_device_name(compute));
  return true;
}

static bool open_to_plan(Compute *compute, const DeviceConfig *config, const Comm *comm, Log *log,
                         Error *error) {
  Error refusal = {0};
  if (open_ranks(compute, config, comm, log, &refusal)) return true;
  if (refusal.code == ERROR_DEVICE && (DeviceKind)config->backend == DEVICE_CUDA) {
    return assume_card(compute, config, &refusal, log, error);
  }
  return error_set(error, refusal.code, "%s", refusal.message);
}

bool device_open_to_plan(Compute *compute, const DeviceConfig *config, Log *log, Error *error) {
  const Comm alone = comm_single();
  return open_to_plan(compute, config, &alone, log, error);
}

/* Every rank makes the same step from the same sums: with other code it would be another one. */
static bool check_code(const Compute *compute, const Comm *comm, Error *error) {
  if (!compute_on_host(compute)) return true;
  char first[128], own[128];
  snprintf(own, sizeof own, "%s", compute_device_name(compute));
  memcpy(first, own, sizeof first);
  comm_broadcast(comm, 0, first, sizeof first);
  if (strcmp(first, own) == 0) return true;
  return error_set(
      error, ERROR_USAGE,
      "this rank computes on %s and rank 0 on %s, whose numbers differ: give all ranks the same code path, "
      "DROVER_CPU=avx2 or avx512 in the environment",
      own, first);
}

bool device_open_rank(Compute *compute, const DeviceConfig *config, const Comm *comm, bool to_plan, Log *log,
                      Error *error) {
  DeviceConfig own = *config;
  if (comm->size > 1) {
    const int share = compute_all_threads() / comm->sharing;
    if (own.threads == 0 && !getenv("OMP_NUM_THREADS")) own.threads = share > 0 ? share : 1;
  }
  const Comm alone = comm_single(), *there = comm->world ? comm : &alone;
  if (!(to_plan ? open_to_plan : open_ranks)(compute, &own, there, log, error)) return false;
  compute->comm = *comm; /* an assumed card has none */
  if (!check_code(compute, comm, error)) return false;
  if (comm->size > there->size) log_info(log, "planning for one of %d ranks on this host", comm->size);
  if (there->size > 1) log_info(log, "%d ranks, %d of them on this host", comm->size, comm->neighbours);
  return true;
}

size_t device_overhead(const Compute *compute) {
  const DeviceMemory memory = compute_device_memory(compute);
  return memory.total > 0 ? memory.overhead : program_overhead(compute) + exchange_overhead(&compute->comm);
}

/* The first number after `key` in a file of the system; false when there is none. */
static bool read_number(const char *path, const char *key, size_t *out) {
  FILE *file = fopen(path, "r");
  if (!file) return false;
  char line[256];
  bool found = false;
  while (!found && fgets(line, sizeof line, file)) {
    if (strncmp(line, key, strlen(key)) != 0) continue;
    found = sscanf(line + strlen(key), " %zu", out) == 1;
  }
  fclose(file);
  return found;
}

/* The number after `key` in root/name. */
static bool read_group(const char *root, const char *name, const char *key, size_t *out) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", root, name);
  return read_number(path, key, out);
}

size_t device_group_limit(const char *root) {
  static const struct {
    const char *most, *used, *stat, *cached[2];
  } versions[] = {{"memory.max", "memory.current", "memory.stat", {"inactive_file ", "active_file "}},
                  {"memory/memory.limit_in_bytes",
                   "memory/memory.usage_in_bytes",
                   "memory/memory.stat",
                   {"total_inactive_file ", "total_active_file "}}};
  for (int v = 0; v < 2; v++) {
    size_t most, used, cached;
    if (!read_group(root, versions[v].most, "", &most) || !read_group(root, versions[v].used, "", &used)) {
      continue;
    }
    /* Files that were read count as used, and are given up when memory is wanted. */
    for (int i = 0; i < 2; i++) {
      if (!read_group(root, versions[v].stat, versions[v].cached[i], &cached)) continue;
      used = used > cached ? used - cached : 0;
    }
    return most > used ? most - used : 0;
  }
  return SIZE_MAX;
}

static size_t machine_limit(void) {
  size_t available = SIZE_MAX;
  if (read_number("/proc/meminfo", "MemAvailable:", &available)) available *= 1024;
  size_t group = device_group_limit("/sys/fs/cgroup");
  return group < available ? group : available;
}

/* Of a card: what no plan knows of. The driver takes memory for kernels as they are first used and for recorded steps, and others use
 * the card too: a desktop. */
static size_t card_reserve(size_t total) {
  const size_t least = (size_t)256 << 20, share = total / 50;
  return share > least ? share : least;
}

size_t device_limit(const Compute *compute) {
  const DeviceMemory memory = compute_device_memory(compute);
  const size_t reserve = card_reserve(memory.total), given = compute->memory_limit;
  const size_t card = memory.free > reserve ? memory.free - reserve + memory.overhead : memory.overhead;
  if (memory.total > 0) return given > 0 && given < card ? given : card; /* a card has no more than it has */
  return given > 0 ? given : machine_limit() / (size_t)compute->comm.neighbours;
}

MemoryLimits device_limits(const Compute *compute) {
  const bool elsewhere = compute_on_host(compute) || compute_is_assumed(compute);
  return (MemoryLimits){device_limit(compute), elsewhere ? SIZE_MAX : machine_limit()};
}

size_t device_peak(const Compute *compute) {
  const DeviceMemory memory = compute_device_memory(compute);
  if (memory.total > 0) return memory.used;
  /* Of this program alone: the peak that getrusage has outlives exec, and is that of whoever started it. */
  size_t kib = 0;
  return read_number("/proc/self/status", "VmHWM:", &kib) ? kib * 1024 : 0;
}
