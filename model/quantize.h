/* Values into a weight of a block dtype (compute/nf4.h, compute/q8.h): in stripes of rows, so that no copy of it in floats is needed. */
#ifndef MODEL_QUANTIZE_H
#define MODEL_QUANTIZE_H

#include "base/error.h"
#include "compute/ops.h"
#include "formats/bitsandbytes.h"

/* Gives elements first to first + count - 1 of the matrix [O,I], row-major; they are finite, or what is made of them is never used. */
typedef void QuantizeSource(void *context, int64_t first, int64_t count, float *values);

/* Fills `out`, in device memory. `nested`: an NF4_PLAIN has the scales that double quantisation leaves of its own, as an NF4 has. A stripe has about a million elements, or 16 rows. ERROR_MEMORY. */
NODISCARD bool quantize_tensor(Tensor out, bool nested, const WeightEntry *entry, QuantizeSource *source,
                               void *context, Compute *compute, Error *error);
/* Fills `out`, of a 4-bit dtype, with the codes and scales that bitsandbytes made. ERROR_MODEL for codes of another kind (fp4, blocks that are not
 * of 64, scales quantised twice or not where `out` has the other), naming the entry. */
NODISCARD bool quantize_take(Tensor out, const WeightEntry *entry, const BnbCodes *codes, Compute *compute,
                             Error *error);
/* The values of a whole tensor of any dtype as F32, in order of [O,I]: values[tensor_count]. ERROR_MEMORY. */
NODISCARD bool dequantize_tensor(Tensor from, float *values, Compute *compute, Error *error);

#endif
