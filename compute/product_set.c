/* Instruction sets of products: oneDNN's values are sets of bits, of which its versions have more and more. */
#include "compute/product.h"

#include "compute/amx/product.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

static bool includes(dnnl_cpu_isa_t set, dnnl_cpu_isa_t part) {
  return ((unsigned)set & (unsigned)part) == (unsigned)part;
}

static ProductSet product_set(void) {
  dnnl_cpu_isa_t set = dnnl_get_effective_cpu_isa();
  return includes(set, dnnl_cpu_isa_avx512_core_amx) ? PRODUCT_AMX
         : includes(set, dnnl_cpu_isa_avx512_core)   ? PRODUCT_AVX512
         : includes(set, dnnl_cpu_isa_avx2)          ? PRODUCT_AVX2
                                                     : PRODUCT_LESS;
}

bool product_has_matrix_unit(void) {
  return product_set() == PRODUCT_AMX && product_amx_allowed();
}

const char *product_set_name(void) {
  static const char *const names[] = {"less than avx2", "avx2", "avx512", "amx"};
  return names[product_set()];
}

bool product_hold(ProductSet set) {
  static const dnnl_cpu_isa_t most[] = {
      [PRODUCT_AVX2] = dnnl_cpu_isa_avx2,
      [PRODUCT_AVX512] = dnnl_cpu_isa_avx512_core,
      [PRODUCT_AMX] = dnnl_cpu_isa_avx512_core_amx,
  };
  /* The call would overrule what the user has told oneDNN itself. It fails when oneDNN has been used already; what
   * counts is what it takes now. */
  if (!getenv("ONEDNN_MAX_CPU_ISA") && !getenv("DNNL_MAX_CPU_ISA")) (void)dnnl_set_max_cpu_isa(most[set]);
  return product_set() == set;
}
