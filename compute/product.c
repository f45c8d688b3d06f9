#include "compute/product.h"

#include "base/error.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

/* Columns of b and c at a time. The library packs so many columns of b as it is given, up to 384 rows of them, into memory that no plan has: 55 MiB
 * for a vocabulary. So it is 4 MiB with two threads, and products are as fast. */
enum { COLUMNS = 2048 };

/* oneDNN asks OpenMP how many threads to use. */
static int use_threads(int threads) {
  int before = omp_get_max_threads();
  if (before != threads) omp_set_num_threads(threads);
  return before;
}

void product_f32(int threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                 int64_t ldc) {
  if (m == 0 || n == 0) return;
  int before = use_threads(threads);
  for (int64_t j = 0; j < n; j += COLUMNS) {
    const int64_t columns = n - j < COLUMNS ? n - j : COLUMNS;
    dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, columns, k, alpha,
                                      a, lda, transpose_b ? b + j * ldb : b + j, ldb, beta, c + j, ldc);
    ASSERT(status == dnnl_success); /* it fails on wrong arguments only */
  }
  use_threads(before);
}
