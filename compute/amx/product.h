/* Matrix products of bf16 factors, or of F32 factors without loss, summed in fp32, on the tiles of a processor's matrix unit (Intel AMX: Intel 64 and
 * IA-32 Architectures Software Developer's Manual, volume 1, chapter 18). Only where product_has_matrix_unit.
 *
 * An element of c is a sum over k in steps of 32 whose order is a function of k alone: it depends on its own row of a and its own row or column of b
 * alone, to the bit, however many rows, columns and threads there are. Subnormal factors and results count as zero, as the unit has them.
 *
 * A `whole` product has F32 factors, and each of their elements is the sum of three parts in bf16: what rounding to bf16 makes of it, of the rest, and of
 * the rest of that. That is the element exactly, but that subnormal parts count as zero: less than FLT_MIN is lost, and of elements below 2^-103 alone. Of
 * the nine products of parts the six largest are made. Each of the others is at most 2^-25 of the product, so that sums are as exact as those of fp32
 * multiply-adds, but for products of parts below FLT_MIN, which count as zero. Infinities and NaNs give what they give in fp32 where subnormal numbers
 * count as zero. Finite elements up to FLT_MAX are taken as they are; a sum that comes within a hundredth of FLT_MAX may become infinite. */
#ifndef COMPUTE_AMX_PRODUCT_H
#define COMPUTE_AMX_PRODUCT_H

#include <stddef.h>

#include "compute/product.h"

/* Whether the system lets this process use the unit, which it has to be asked once. */
bool product_amx_allowed(void);

/* Bytes of workspace for a product of these sizes on so many threads, enough for smaller ones of its kind too. */
size_t product_amx_scratch(int threads, bool whole, int64_t m, int64_t n, int64_t k);

/* c[m,n] = alpha * (a b) + beta * c. F32 factors are rounded to bf16, or taken whole if both are to be. ldc: elements between rows of c, which is not
 * read when beta is 0. */
void product_amx(int threads, bool whole, int64_t m, int64_t n, int64_t k, float alpha, ProductFactor a,
                 ProductFactor b, float beta, float *c, int64_t ldc, void *scratch);

#endif
