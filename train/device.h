/* Section `device` of a configuration: opening what computes, and how much memory there is for it. On CUDA that
 * is the card's memory, on the CPU the machine's. */
#ifndef TRAIN_DEVICE_H
#define TRAIN_DEVICE_H

#include "base/log.h"
#include "compute/compute.h"
#include "train/config.h"

/* compute_open as the section says, with its memory limit. The log (may be NULL) says what computes, and why that is not
 * CUDA where it could have been expected. */
NODISCARD bool device_open(Compute *compute, const DeviceConfig *config, Log *log, Error *error);

/* The same for a plan alone (--check): with device.backend cuda and no card, one of device.memory_limit bytes is assumed
 * (compute_assume_card). */
NODISCARD bool device_open_to_plan(Compute *compute, const DeviceConfig *config, Log *log, Error *error);

/* Either of them for the ranks of a run (compute_open_rank): device.threads 0 is this rank's share of the cores that it may run
 * on (OMP_NUM_THREADS goes before), and compute->comm is `comm`. */
NODISCARD bool device_open_rank(Compute *compute, const DeviceConfig *config, const Comm *comm, bool to_plan,
                                Log *log, Error *error);

/* Bytes the run may take in all: device.memory_limit (on a card at most what it has free, less 2 % or 256 MiB for what no
 * plan knows), else what is free for this
 * process (on the CPU MemAvailable and the control group's limit, an equal part for each rank on this host). */
size_t device_limit(const Compute *compute);
/* The same, and of the host's memory beside a card what is free; SIZE_MAX where that is no matter: on the CPU, and for a card
 * that is not here. */
typedef struct MemoryLimits {
  size_t device, host;
} MemoryLimits;
MemoryLimits device_limits(const Compute *compute);
/* Bytes that program, libraries and driver take by themselves, before any arena. */
size_t device_overhead(const Compute *compute);
/* Most that this process has taken so far: on the CPU its largest resident set. */
size_t device_peak(const Compute *compute);
/* What the control group at `root` (/sys/fs/cgroup) still allows; versions 2 and 1. SIZE_MAX without a limit. */
size_t device_group_limit(const char *root);

#endif
