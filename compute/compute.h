/* The compute context: which backend runs the operations, with what workspace.
 *
 * First argument of every operation. The order of calls is the order of execution. Tensors live in device
 * memory (which on the CPU backend is ordinary memory); reinforcement-learning arrays live on the host and
 * cross with compute_upload / compute_download. */
#ifndef COMPUTE_COMPUTE_H
#define COMPUTE_COMPUTE_H

#include "base/arena.h"
#include "base/error.h"
#include "compute/comm.h"
#include "compute/tensor.h"

struct Backend;

typedef enum DeviceKind { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } DeviceKind;

typedef struct Compute {
  const struct Backend *backend;
  Comm comm;
  Arena scratch; /* workspace of one operation; empty between operations */
  int threads;
  bool dry; /* plan only: an operation asks scratch for its workspace, then returns */
  /* When set, the value of an output row depends on its input row alone, to the bit: not on how many other
   * rows are in the call. Rollouts need this; training leaves it off and uses the libraries' products. */
  bool row_invariant;
} Compute;

/* Chooses the backend (DEVICE_AUTO: CUDA when built in and present, else the CPU kernels for the best
 * instruction set found) and sets the thread count (0 = all cores). Starts with a dry scratch arena:
 * compute_dry_begin/compute_dry_end bracket the planning run. Errors: ERROR_DEVICE. */
NODISCARD bool compute_open(Compute *compute, DeviceKind kind, int threads, Error *error);
void compute_close(Compute *compute);
const char *compute_device_name(const Compute *compute); /* "cpu (avx512)", for logs */

/* Dry mode on; and off again, with a real scratch arena of the peak seen in all dry runs so far. */
void compute_dry_begin(Compute *compute);
NODISCARD bool compute_dry_end(Compute *compute, Error *error);

/* An arena in device memory. */
NODISCARD bool compute_arena(Compute *compute, Arena *arena, const char *name, size_t bytes, Error *error);
void compute_arena_free(Compute *compute, Arena *arena);

/* Host <-> device copies of contiguous tensors, finished on return; nothing in a dry run. */
void compute_upload(Compute *compute, Tensor device, const void *host);
void compute_download(Compute *compute, void *host, Tensor device);

#endif
