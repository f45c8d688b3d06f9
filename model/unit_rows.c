#include "model/unit_rows.h"

#include "base/dtype.h"
#include "base/memory.h"

#include <math.h>

/* How far from 1 the length of a unit row may be once its numbers are rounded. */
static double rounding(DType dtype) {
  return dtype == DTYPE_BF16 ? 0x1p-8 : 0x1p-21;
}

static void unit_row(float *row, int64_t size, double tolerance) {
  double squares = 0;
  for (int64_t i = 0; i < size; i++) squares += (double)row[i] * row[i];
  const double length = sqrt(squares);
  if (length == 0 || fabs(length - 1) <= tolerance) return;
  for (int64_t i = 0; i < size; i++) row[i] = (float)(row[i] / length);
}

bool unit_rows(Tensor table, Compute *compute, Error *error) {
  enum { PIECE = 1 << 20 }; /* numbers at a time */
  const int64_t size = table.dim[1], rows = table.dim[0];
  const int64_t most = size < PIECE ? PIECE / size : 1;
  float *wide = memory_alloc((size_t)(most * size) * sizeof *wide);
  void *raw = memory_alloc((size_t)(most * size) * dtype_size(table.dtype));
  bool ok = (wide && raw) || error_out_of_memory(error, "unit rows", (size_t)(most * size) * sizeof *wide);
  for (int64_t first = 0; ok && first < rows; first += most) {
    const int64_t n = rows - first < most ? rows - first : most;
    const size_t count = (size_t)(n * size);
    const Tensor piece = tensor_rows(table, first, n);
    compute_download(compute, raw, piece);
    dtype_convert(wide, DTYPE_F32, raw, table.dtype, count);
    for (int64_t i = 0; i < n; i++) unit_row(wide + i * size, size, rounding(table.dtype));
    dtype_convert(raw, table.dtype, wide, DTYPE_F32, count);
    compute_upload(compute, piece, raw);
  }
  memory_free(wide);
  memory_free(raw);
  return ok;
}
