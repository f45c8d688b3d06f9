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
struct Device; /* what a backend keeps for itself */

typedef enum DeviceKind { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } DeviceKind;

typedef struct Compute {
  const struct Backend *backend;
  struct Device *device; /* NULL on the CPU */
  size_t memory_limit;   /* most bytes of device memory that may be taken, all told; 0 = what is free */
  Error refusal;         /* why DEVICE_AUTO did not take CUDA in a build that has it; ERROR_NONE otherwise */
  Comm comm;
  Arena scratch; /* workspace of one operation; empty between operations */
  int threads;
  struct Compute *host; /* compute_open_host; NULL before */
  bool dry;             /* plan only: an operation asks scratch for its workspace, then returns */
  /* When set, the value of an output row depends on its input row alone, to the bit: not on how many other
   * rows are in the call. Rollouts need this; training leaves it off and uses the libraries' products. */
  bool row_invariant;
} Compute;

/* Chooses the backend (DEVICE_AUTO: CUDA when built in and present, else the CPU kernels that
 * compute/processor.h chooses) and sets the thread count (0 = all cores). Starts with a dry scratch arena:
 * compute_dry_begin/compute_dry_end bracket the planning run. Errors: ERROR_DEVICE, and ERROR_USAGE for a
 * DROVER_CPU that names nothing. */
NODISCARD bool compute_open(Compute *compute, DeviceKind kind, int threads, Error *error);
/* Those of 0: OMP_NUM_THREADS, else the cores that the process may run on. */
int compute_all_threads(void);
/* From now on that many are all, for what this thread does. */
void compute_limit_threads(int threads);
/* A card of `memory` bytes that is not here, for memory plans: what is opened serves dry runs alone. What driver and
 * libraries take of it is assumed, as DeviceMemory.overhead. ERROR_DEVICE in a build without CUDA, which knows
 * nothing of a card's operations. */
NODISCARD bool compute_assume_card(Compute *compute, size_t memory, int threads, Error *error);
bool compute_is_assumed(const Compute *compute);
void compute_close(Compute *compute);
const char *compute_device_name(
    const Compute *compute); /* "cpu (avx512, amx)", "cuda (NVIDIA H100, sm_90)": for logs */
/* The dtype of activations in a model whose weights have that dtype. */
DType compute_activation(const Compute *compute, DType weights);

/* Rows that a table of so many tokens should have in memory, those behind its own zero: products over the vocabulary want a
 * multiple of what a tensor core takes at once. */
int64_t compute_table_rows(const Compute *compute, int64_t rows);

/* Memory of the device in bytes. All zero where the backend computes in ordinary memory. */
typedef struct DeviceMemory {
  size_t total;    /* what the card has */
  size_t free;     /* what was free for arenas when the device was opened: overhead is taken already */
  size_t overhead; /* what the driver's context and the libraries take of it for this process */
  size_t arenas;   /* what compute_arena has given out, scratch included */
  size_t peak;     /* most that the arenas ever took */
  size_t used;     /* most that this process took as the driver sees it: overhead and the fall of free memory,
                    * looked at when an arena is made and when this is asked for */
} DeviceMemory;

DeviceMemory compute_device_memory(const Compute *compute);

/* Dry mode on; and off again, with a real scratch arena of the peak seen in all dry runs so far. */
void compute_dry_begin(Compute *compute);
NODISCARD bool compute_dry_end(Compute *compute, Error *error);

/* An arena in device memory; ERROR_MEMORY when that does not fit in what is free or in memory_limit. */
NODISCARD bool compute_arena(Compute *compute, Arena *arena, const char *name, size_t bytes, Error *error);
void compute_arena_free(Compute *compute, Arena *arena);

/* A recorded run of operations, for work that is many small operations at the same addresses again and again
 * (a decoding step): replaying it costs one launch. Between begin and end the operations are noted, not done,
 * and nothing may be uploaded, downloaded or opened. False from compute_can_record: the backend has no
 * recording, and the other three may not be called. */
typedef struct ComputeGraph ComputeGraph;

bool compute_can_record(const Compute *compute);
void compute_record_begin(Compute *compute);
/* NULL: the device has no memory for it, or a library would not be recorded; the operations have not been done. */
ComputeGraph *compute_record_end(Compute *compute);
void compute_replay(Compute *compute, ComputeGraph *graph);
void compute_graph_free(Compute *compute, ComputeGraph *graph); /* NULL is allowed */
/* What the device's free memory fell by when it was made: in no arena. */
size_t compute_graph_bytes(const Compute *compute, const ComputeGraph *graph);

/* Host <-> device copies of contiguous tensors, finished on return; nothing in a dry run. */
void compute_upload(Compute *compute, Tensor device, const void *host);
void compute_download(Compute *compute, void *host, Tensor device);
/* Memory of the host that the device copies to and from by itself (pinned), for what it need not hold all the time. Where
 * tensors lie in the host's memory there is no other, and none of this (compute_can_offload is false).
 *
 * Copies go on beside the operations, in the order of their own calls. A copy begins when the operations called before it are
 * done; the operations called after compute_offload_wait begin when the copies called before it are. In between the
 * caller sees to it that neither writes what the other may still use. A dry run copies nothing. */
bool compute_can_offload(const Compute *compute);
/* ERROR_MEMORY when the host has no such memory to give. */
NODISCARD bool compute_host_arena(Compute *compute, Arena *arena, const char *name, size_t bytes,
                                  Error *error);
void compute_host_arena_free(Compute *compute, Arena *arena);
void compute_offload(Compute *compute, void *host, Tensor device);        /* device -> host */
void compute_prefetch(Compute *compute, Tensor device, const void *host); /* host -> device */
void compute_offload_wait(Compute *compute);
/* Returns when the copies called before are done: the host may read and write what they did. */
void compute_offload_finish(Compute *compute);
/* compute->host: the processor's operations, for tensors in memory of the host beside a device's. Opened by the first call,
 * dry while `compute` is, and closed with it. */
NODISCARD bool compute_open_host(Compute *compute, Error *error);

/* Whether the data of tensors are the host's own memory, to be written without an upload, by several threads too. */
bool compute_on_host(const Compute *compute);

#endif
