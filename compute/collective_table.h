/* Collectives of a backend whose tensors are not the host's: what compute/collective.h calls. Each is given a number, from 1 on. */
#ifndef COMPUTE_COLLECTIVE_TABLE_H
#define COMPUTE_COLLECTIVE_TABLE_H

#include "compute/compute.h"

typedef struct CollectiveTable {
  /* All ranks of c->comm call it, once their devices are open; what it opens goes with the device. ERROR_USAGE where they have not got one
   * each, or this build cannot do it. */
  bool (*open)(Compute *c, Error *error);
  int64_t (*all_reduce)(const Compute *c, Tensor values);
  int64_t (*reduce_scatter)(const Compute *c, Tensor values, const int64_t *at);
  int64_t (*all_gather)(const Compute *c, Tensor own, Tensor values, const int64_t *at);
  int64_t (*broadcast)(const Compute *c, int root, Tensor values);
  void (*wait)(const Compute *c, int64_t number);
} CollectiveTable;

extern const CollectiveTable *const collectives_cuda; /* NULL in a build without CUDA */

#endif
