/* In the place of compute/product_set.c: the matrix unit is there, in software (tiles.h), beside kernels for AVX-512. */
#include "compute/product.h"

#include <oneapi/dnnl/dnnl.h>

bool product_has_matrix_unit(void) {
  return true;
}

const char *product_set_name(void) {
  return "amx in software";
}

bool product_hold(ProductSet set) {
  (void)dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core);
  return set == PRODUCT_AVX512;
}
