/* Rows of length 1: the head of Baichuan 2 (NormHead), whose rows its code divides by their lengths before it uses them. */
#ifndef MODEL_UNIT_ROWS_H
#define MODEL_UNIT_ROWS_H

#include "base/error.h"
#include "compute/compute.h"

/* Divides each row of `table` [n, C] (F32 or BF16) by its length. A row whose length is 1 but for rounding stays as it is, so that
 * what was made so and saved is read as it was; a row of zeros stays, too. ERROR_MEMORY. */
NODISCARD bool unit_rows(Tensor table, Compute *compute, Error *error);

#endif
