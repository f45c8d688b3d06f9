/* Matrix products of the CUDA backend. */
#ifndef COMPUTE_CUDA_PRODUCT_CUH
#define COMPUTE_CUDA_PRODUCT_CUH

extern "C" {
#include "compute/ops.h"
}

/* out[m,n] = alpha * op(a)[m,k] op(b)[k,n] + bias[n] + beta * out, all row-major with any distance between rows;
 * op transposes where told to, so that a is [k,m] and b is [n,k]. Each of a, b, out and bias is F32 or BF16;
 * bias or none. Sums are in fp32, and F32 factors are taken as they are (no TF32). out is not read when beta is
 * 0 and is rounded once. The order of the sums depends on shapes, distances, alignment and card alone.
 *
 * At the speed of cuBLASLt when a and b have the same dtype, and out that dtype or F32: best with addresses and
 * distances that are multiples of 16 bytes. Every other arrangement works and is slower. The only workspace taken
 * from c->scratch is a bias of another dtype than out. */
void cuda_product(Compute *c, Tensor out, Tensor a, bool transpose_a, Tensor b, bool transpose_b, Tensor bias,
                  float alpha, float beta);
/* The same with beta times `add`, of out's dtype and shape, in the place of beta times out. */
void cuda_product_add(Compute *c, Tensor out, Tensor add, Tensor a, bool transpose_a, Tensor b,
                      bool transpose_b, Tensor bias, float alpha, float beta);

/* The plans of cuda_product, which Device.products keeps. NULL when memory is out. */
void *cuda_products_open(void);
void cuda_products_close(void *products);

/* The linear whose rows do not depend on each other (linear_rows.cu), as op_linear, or with count > 0 as op_linear_adapted (then
 * alpha is 1) where cuda_linear_rows_adapts. */
extern "C" void cuda_linear_rows(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha,
                                 float beta, const AdapterTerm *terms, int count);
/* By dtypes, addresses, distances and numbers of outputs; not by the number of rows. */
bool cuda_linear_rows_adapts(Tensor x, Weight w, const AdapterTerm *terms, int count);

/* The same by 4-bit weights as they are, of up to NF4_FEW_ROWS BF16 rows (linear_rows_nf4.cu). False, and nothing done: the
 * caller takes cuda_linear_rows with the weight's values; so always in a dry run, which plans the scratch for these. */
enum { NF4_FEW_ROWS = 32 };
bool cuda_linear_rows_nf4(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta,
                          const AdapterTerm *terms, int count);

#endif
