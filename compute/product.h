/* Matrix products by oneDNN, which chooses its kernels by CPUID features. (OpenBLAS 0.3.21 chooses by
 * processor model and takes SSE3 kernels on one it does not know: a fifth of the speed.) */
#ifndef COMPUTE_PRODUCT_H
#define COMPUTE_PRODUCT_H

#include <stdbool.h>
#include <stdint.h>

/* c[m,n] = alpha * op(a) op(b) + beta * c, row-major; op transposes where told to, so that a is [m,k], or
 * [k,m] with transpose_a. lda, ldb, ldc: elements between rows. c is not read when beta is 0. */
void product_f32(int threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                 int64_t ldc);

/* A factor of a product; what it may be, each product says. */
typedef struct ProductFactor {
  const void *data;
  int64_t stride; /* elements between rows */
  bool narrow;    /* bf16; else fp32 */
  bool across;    /* its rows run across the sums: [k,m] or [k,n]; else they run along: [m,k] or [n,k] */
  const struct Blocks *blocks; /* or, of b alone: rows of blocks (compute/cpu/blocks.h), which run along */
} ProductFactor;

/* Whether there is a matrix unit for products (compute/amx): of bf16 factors at several times the speed of fp32, of F32 ones without loss
 * at nearly twice. Without one bf16 products would be slower than widening to fp32, and some processors have none at all. */
bool product_has_matrix_unit(void);

/* Instruction sets, as far as our paths differ by them. */
typedef enum ProductSet { PRODUCT_LESS, PRODUCT_AVX2, PRODUCT_AVX512, PRODUCT_AMX } ProductSet;

/* Holds the library to the set, for the whole process: its first use fixes what it takes. False when it takes another
 * one, be it that the processor or the system has no more, or that it was held or used before. */
bool product_hold(ProductSet set);
/* The set that the library takes, for messages. */
const char *product_set_name(void);

#endif
