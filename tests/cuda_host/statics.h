/* The __shared__ variables of the program: found by their symbols, so that they can be poisoned and told from
 * other memory. */
#ifndef TESTS_CUDA_HOST_STATICS_H
#define TESTS_CUDA_HOST_STATICS_H

#include <cstddef>

/* Before and after each block. Poisons those that the kernel uses: which these are is learnt at its first block
 * on this OS thread. The second returns their bytes. */
void host_statics_begin(const void *kernel);
size_t host_statics_end(const void *kernel);

bool host_statics_hold(const void *p, size_t bytes);

#endif
