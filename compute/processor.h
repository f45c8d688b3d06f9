/* Which of the code paths for this processor run: the instruction set of our own kernels, and what oneDNN may use.
 *
 * Left alone, both take the best there is. The environment variable DROVER_CPU names a path, so that each can be
 * tried on a machine that would choose another:
 *
 *   avx2     kernels for AVX2 and FMA, oneDNN held to AVX2
 *   avx512   kernels for AVX-512, oneDNN held to AVX-512; bf16 weights are widened
 *   amx      kernels for AVX-512; on the matrix unit (compute/amx) products with bf16 weights, and those of training with F32 weights
 *
 * oneDNN's own variable ONEDNN_MAX_CPU_ISA holds oneDNN, and our products on the matrix unit where it says less than that. */
#ifndef COMPUTE_PROCESSOR_H
#define COMPUTE_PROCESSOR_H

#include "base/error.h"

struct Backend;

/* The kernels to compute with; NULL with an error when DROVER_CPU names no path (ERROR_USAGE) or one that cannot run
 * here, or when none can (ERROR_DEVICE). A path that is named is kept for the whole process, by oneDNN. */
NODISCARD const struct Backend *processor_backend(Error *error);

#endif
