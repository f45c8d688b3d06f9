/* Edits of single logits (LogitEdits in ops.h). */
#include "compute/cpu/cpu.h"

#include <math.h>

void CPU(edit_logits)(Compute *c, Tensor logits, LogitEdits edits, Tensor slopes) {
  if (c->dry) return;
  const int64_t rows = logits.dim[0], n = logits.dim[1];
  for (int64_t r = 0; r < rows; r++) {
    float *row = f32(logits) + r * logits.stride[0];
    float *slope = tensor_is_none(slopes) ? NULL : f32(slopes) + r * slopes.stride[0];
    const int64_t count = tensor_is_none(edits.ids) ? 0 : i32(edits.count)[r];
    ASSERT(count <= edits.most);
    for (int64_t i = 0; i < count; i++) {
      const int32_t id = i32(edits.ids)[i32(edits.from)[r] + i];
      ASSERT(id >= 0 && id < n);
      const float factor = row[id] < 0 ? edits.penalty : 1 / edits.penalty;
      row[id] = row[id] < 0 ? row[id] * edits.penalty : row[id] / edits.penalty;
      if (slope) slope[i] = factor;
    }
    for (int64_t i = 0; !tensor_is_none(edits.banned) && i32(edits.bans)[r] && i < edits.banned.dim[0]; i++)
      row[i32(edits.banned)[i]] = -INFINITY;
  }
}

void CPU(edit_logits_backward)(Compute *c, Tensor d, LogitEdits edits, Tensor slopes) {
  if (c->dry) return;
  for (int64_t r = 0; r < d.dim[0]; r++) {
    float *row = f32(d) + r * d.stride[0];
    const int64_t count = tensor_is_none(edits.ids) ? 0 : i32(edits.count)[r];
    for (int64_t i = 0; i < count; i++)
      row[i32(edits.ids)[i32(edits.from)[r] + i]] *= f32(slopes)[r * slopes.stride[0] + i];
    for (int64_t i = 0; !tensor_is_none(edits.banned) && i32(edits.bans)[r] && i < edits.banned.dim[0]; i++)
      row[i32(edits.banned)[i]] = 0;
  }
}
