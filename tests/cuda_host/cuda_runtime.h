/* Takes the place of the CUDA Toolkit's header when compute/cuda is compiled for the host (DROVER_CUDA_HOST). */
#ifndef TESTS_CUDA_HOST_CUDA_RUNTIME_H
#define TESTS_CUDA_HOST_CUDA_RUNTIME_H

#include "tests/cuda_host/types.h"

#include "tests/cuda_host/grid.h"

#include "tests/cuda_host/device.h"
#include "tests/cuda_host/runtime_api.h"
#include "tests/cuda_host/warp.h"

#endif
