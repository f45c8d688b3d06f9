/* Grids, blocks and warps in software: how the emulation runs a kernel.
 *
 * The blocks of a grid run one after the other on the OS thread that launches (or that waits for the stream,
 * see runtime_api.h). The threads of a block are fibres. A thread runs until it meets others (a barrier, a
 * shuffle, a tensor-core product), and goes on when all that take part have arrived. Between meetings the
 * threads of a warp run in ascending order, then the next warp; with DROVER_CUDA_HOST_ORDER=reverse blocks,
 * warps and lanes run in descending order. A kernel that forgets a barrier therefore gives different results in
 * the two orders: tests run in both.
 *
 * Stricter than the device, where it says "undefined": a meeting that cannot complete ends the process with a
 * message, and so does a warp meeting with a lane that has ended or does not exist. */
#ifndef TESTS_CUDA_HOST_GRID_H
#define TESTS_CUDA_HOST_GRID_H

#include "tests/cuda_host/types.h"

#include <cstddef>

/* Of the running thread. */
extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;
enum { warpSize = 32 };

/* Meeting of the lanes in `mask`. When the last has arrived, `finish` is called once, with what each lane
 * brought (NULL for the others); it writes the answers there. `what` is for messages. Lanes meet when mask and
 * `finish` are equal. */
typedef void HostFinish(void *const brought[32], uint32_t mask);
void host_meet_warp(uint32_t mask, const char *what, HostFinish *finish, void *mine);

/* Meeting of all threads of the block that have not returned. */
enum HostBarrier { BARRIER, BARRIER_OR, BARRIER_AND, BARRIER_COUNT };
int host_meet_block(enum HostBarrier kind, int value);

/* Meeting of `threads` threads, whole warps, at barrier 1 .. 15 of the block. */
void host_meet_threads(int barrier, int threads);

/* The number of the running thread in its block. */
int host_thread(void);

/* The dynamic shared memory of the running block; what instructions call its address. */
void *host_shared_memory(void);
enum { HOST_SHARED_BYTES = 227 << 10, HOST_SHARED_START = 1 << 10 };
/* Faults when the bytes are not in the shared memory of the running block. */
void host_check_shared(const void *p, size_t bytes, const char *what);

/* Asynchronous copies of the running thread. */
void host_copy_async(void *shared, const void *global, bool valid);
void host_copy_commit(void);
void host_copy_wait(int pending);

/* A mistake of the kernel: says what, with kernel, block and thread, and aborts. */
__attribute__((noreturn, format(printf, 1, 2))) void host_fault(const char *format, ...);

/* Runs a grid now. body(arguments) is one thread; the kernel's address tells kernels apart. */
typedef void HostBody(const void *arguments);
void host_run_grid(const char *kernel, const void *address, HostBody *body, const void *arguments, uint3 grid,
                   uint3 block, size_t shared);

/* What uninitialised memory holds: a NaN as fp32, bf16, fp16 and fp64, and no valid index. */
void host_poison(void *p, size_t bytes);
enum { HOST_POISON = 0x7fff };

#endif
