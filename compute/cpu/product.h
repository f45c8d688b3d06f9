/* Matrix products in fp32, summed by the fused multiply-adds of the vector units.
 *
 * An element of c is a sum over k whose order is a function of k and `chains` alone: it depends on its own row of a and its own row or column of b
 * alone, to the bit, however many rows, columns and threads there are. Link l of the sum belongs to chain l % chains; a chain is fused multiply-adds
 * one after the other from zero; the chains are added in the order in which vec_sum adds lanes. So with VEC chains the sum is, to the bit, that of
 * vectors of links whose lanes are added at the end. */
#ifndef COMPUTE_CPU_PRODUCT_H
#define COMPUTE_CPU_PRODUCT_H

#include "compute/cpu/cpu.h"

#include "compute/product.h"

enum { PRODUCT_LINKS = 2048 /* of one chain in a panel of b, which is to stay in the second-level cache */ };

typedef struct Product {
  int64_t m, n, k;
  int chains;         /* VEC, with factors that run along; or 1 */
  ProductFactor a, b; /* a: F32 */
  /* `more` links before those k, while sums are small, of factors that run along, F32: more_scale * more_a more_b. With one chain, and k + more <= PRODUCT_LINKS. */
  int64_t more;
  ProductFactor more_a, more_b;
  float more_scale;
  float alpha, beta;
  const float *bias; /* [n] or NULL */
  float *c;
  int64_t ldc;
} Product;

/* Floats of workspace for a product of these sizes (k: with `more`) on so many threads, enough for fewer rows (m) too. */
int64_t CPU(product_floats)(int threads, int64_t m, int64_t n, int64_t k, int chains);

/* c[m,n] = alpha * (a b) + bias + beta * c, rounded after each sign. ldc: elements between rows of c, which is not read when beta is 0. */
void CPU(product)(int threads, const Product *p, float *scratch);

#endif
