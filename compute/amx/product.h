/* Matrix products of bf16 factors, summed in fp32, on the tiles of a processor's matrix unit (Intel AMX: Intel 64 and IA-32
 * Architectures Software Developer's Manual, volume 1, chapter 18). Only where product_bf16_is_fast.
 *
 * An element of c is a sum over k in steps of 32 whose order is a function of k alone: it depends on its own row of a and its own row or column of b
 * alone, to the bit, however many rows, columns and threads there are. Subnormal factors and results count as zero, as the unit has them. */
#ifndef COMPUTE_AMX_PRODUCT_H
#define COMPUTE_AMX_PRODUCT_H

#include <stddef.h>

#include "compute/product.h"

/* Whether the system lets this process use the unit, which it has to be asked once. */
bool product_amx_allowed(void);

/* Bytes of workspace for a product of these sizes on so many threads, enough for smaller ones too. */
size_t product_amx_scratch(int threads, int64_t m, int64_t n, int64_t k);

/* c[m,n] = alpha * (a b) + beta * c. ldc: elements between rows of c, which is not read when beta is 0. */
void product_amx(int threads, int64_t m, int64_t n, int64_t k, float alpha, ProductFactor a, ProductFactor b,
                 float beta, float *c, int64_t ldc, void *scratch);

#endif
