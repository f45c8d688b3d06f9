/* What limits everything on this machine, measured: the floor that speeds are set against. */
#ifndef COMPUTE_CEILINGS_H
#define COMPUTE_CEILINGS_H

#include "compute/compute.h"

/* Bytes a second of plain reading by all threads of a CPU, the best of several. Takes 256 MiB of the arena, for as long as it runs. */
double ceiling_reading(Compute *compute, Arena *arena);
/* Operations a second of a product of 2048 x 2048 x 2048 as training computes it, F32 by weights of that type, the best of those of
 * so many seconds. Takes 48 MiB of the arena. */
NODISCARD bool ceiling_product(Compute *compute, Arena *arena, DType weights, double seconds, double *rate,
                               Error *error);

#endif
