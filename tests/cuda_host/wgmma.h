/* Tensor-core products of a warpgroup in software (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
 *
 * A product reads shared memory, by descriptors, when it is issued and again when it is waited for: what changed in between is a mistake of
 * the kernel and ends the process (a stage filled too early, a copy not waited for). Its results come with the wait for its group; until then the
 * registers are poison, which the address sanitizer lets nobody read. It also ends the process when
 *   - the warps of a warpgroup issue different products, or not the same number of them;
 *   - registers of the sum or fragments of A were changed since wgmma_fence, or there was none since the last wait;
 *   - registers of the sum were written while a product was under way, or wgmma_wait is to give some that still are;
 *   - bytes are read that a copy brought and whose thread did not call fence_proxy_async after it (stores are not looked at);
 *   - a block ends with products that were not waited for;
 *   - a descriptor has a pattern that does not begin where it repeats, or a layout that is not emulated.
 * The 16 products of an element are added up in fp64 and to its sum with one rounding, unlike those of mma_bf16: as on a card, whoever mixes the two
 * has other bits. */
#ifndef TESTS_CUDA_HOST_WGMMA_H
#define TESTS_CUDA_HOST_WGMMA_H

#include "tests/cuda_host/grid.h"

/* a: fragments of A, or NULL. */
void host_wgmma_fence(const float *d, int count, const uint32_t *a, int a_count);
/* d[n / 2] of each lane, += A B^T of the descriptors, or = without `add`; transposed_a: of MN-major A. */
void host_wgmma(float *d, int n, uint64_t a, uint64_t b, bool transposed_a, bool add);
/* A of each warp: the fragment of its lanes, read as shared memory is, so that it must live and stay until the wait. */
void host_wgmma_registers(float *d, int n, const uint32_t a[4], uint64_t b, bool transposed_b);
void host_wgmma_commit(void);
/* d: what is to be at hand, or NULL. */
void host_wgmma_wait(int pending, const float *d);
void host_fence_proxy_async(void);

/* Of grid.cc: a block begins and ends; a copy of the running thread has brought 16 bytes. */
void host_wgmma_begin_block(void);
void host_wgmma_end_block(int threads);
void host_wgmma_written(const void *shared);

#endif
