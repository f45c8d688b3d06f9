/* A build without CUDA; one with it links compute/cuda/table.c instead. */
#include "compute/collective_table.h"
#include "compute/ops.h"

const Backend *const backend_cuda = NULL;
const Backend *const backend_cuda_assumed = NULL;
const CollectiveTable *const collectives_cuda = NULL;
