/* Few rows of a beside a weight of which each element is wanted once, as in decoding: b comes at the speed of memory, unpacked. The same sums as
 * those of product_amx. Of product.c alone. */
#ifndef COMPUTE_AMX_FEW_H
#define COMPUTE_AMX_FEW_H

#include "compute/amx/pack.h"

enum { FEW_PANELS = 4 }; /* of a, at most */

/* Whether it is for such factors. */
static inline bool few_is_for(int64_t m, const ProductFactor *b) {
  return m <= FEW_PANELS * PANEL && !b->across && (b->narrow || b->blocks);
}

size_t few_bytes(int threads, int64_t m, int64_t k);
/* scratch begins at a line. */
void few_multiply(const Product *p, int threads, char *scratch);

#endif
