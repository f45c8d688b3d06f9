#include "compute/product.h"

#include "base/error.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

void product_f32(int threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                 int64_t ldc) {
  if (m == 0 || n == 0) return;
  /* oneDNN asks OpenMP how many threads to use. */
  int before = omp_get_max_threads();
  if (before != threads) omp_set_num_threads(threads);
  dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda,
                                    b, ldb, beta, c, ldc);
  if (before != threads) omp_set_num_threads(before);
  ASSERT(status == dnnl_success); /* it fails on wrong arguments only */
}
