#include "model/quantize.h"

#include "base/memory.h"
#include "compute/nf4.h"
#include "compute/q8.h"

#include <math.h>
#include <string.h>

enum { STRIPE = 1 << 20 /* elements */ };

/* Bytes first to first + count - 1 of a tensor. */
static Tensor bytes_of(Tensor x, size_t first, size_t count) {
  return tensor_1d((void *)((uintptr_t)x.data + first), DTYPE_U8, (int64_t)count);
}

typedef struct Stripes {
  Tensor out;
  bool nested;
  const WeightEntry *entry; /* for messages */
  QuantizeSource *source;
  void *context;
  Compute *compute;
  int64_t rows;   /* of a stripe, a multiple of 16 */
  float *values;  /* [rows, I] */
  uint8_t *bytes; /* [rows, I] */
} Stripes;

static bool stripes_open(Stripes *s, Error *error) {
  const int64_t outputs = s->out.dim[0], inputs = s->out.dim[1];
  const int64_t most = (outputs + NF4_STRIPE - 1) / NF4_STRIPE, wanted = STRIPE / inputs / NF4_STRIPE;
  s->rows = NF4_STRIPE * (wanted < 1 ? 1 : wanted < most ? wanted : most);
  const size_t count = (size_t)(s->rows * inputs);
  s->values = memory_alloc(count * sizeof *s->values);
  s->bytes = memory_alloc(count);
  return (s->values && s->bytes) || error_out_of_memory(error, "quantising a weight", count * 5);
}

static int64_t next_stripe(const Stripes *s, int64_t first) {
  const int64_t left = s->out.dim[0] - first, count = left < s->rows ? left : s->rows;
  s->source(s->context, first * s->out.dim[1], count * s->out.dim[1], s->values);
  return count;
}

/* Kernels rely on the bounds (compute/nf4.h). What is so small is nothing beside other weights; what is so large is no weight. */
static bool settle_scales(float *scales, int64_t count, const WeightEntry *entry, Error *error) {
  for (int64_t i = 0; i < count; i++) {
    const float size = fabsf(scales[i]);
    if (size < SCALE_LEAST) scales[i] = 0;
    if (isfinite(size) && size > SCALE_MOST)
      return error_set(error, ERROR_MODEL,
                       "%s: %s: has magnitudes about %g: weights beyond %g cannot be quantised", entry->path,
                       entry->name, (double)size, (double)SCALE_MOST);
  }
  return true;
}

static bool write_nf4(const Stripes *s, Error *error) {
  const int64_t outputs = s->out.dim[0], inputs = s->out.dim[1];
  const size_t codes = nf4_parts(s->out.dtype, outputs, inputs).scales, tail = tensor_bytes(s->out) - codes;
  Nf4Writer writer;
  if (!nf4_writer_init(&writer, s->out.dtype, s->compute->backend->nf4_layout, outputs, inputs, error))
    return false;
  for (int64_t first = 0; first < outputs; first += s->rows) {
    const int64_t count = next_stripe(s, first);
    nf4_write_rows(&writer, s->values, first, count, s->bytes);
    const size_t half = (size_t)(inputs / 2);
    compute_upload(s->compute, bytes_of(s->out, (size_t)first * half, (size_t)count * half), s->bytes);
  }
  const int64_t blocks = outputs * (inputs / NF4_BLOCK);
  if (s->nested && s->out.dtype == DTYPE_NF4_PLAIN) nf4_nest_scales(writer.absmax, blocks);
  bool ok = settle_scales(writer.absmax, blocks, s->entry, error);
  uint8_t *rest = ok ? memory_alloc(tail) : NULL;
  if (rest) {
    nf4_write_tail(&writer, NULL, rest);
    compute_upload(s->compute, bytes_of(s->out, codes, tail), rest);
    memory_free(rest);
  } else if (ok) {
    ok = error_out_of_memory(error, "quantising a weight", tail);
  }
  nf4_writer_free(&writer);
  return ok;
}

static bool write_q8(const Stripes *s, Error *error) {
  const int64_t outputs = s->out.dim[0], inputs = s->out.dim[1], blocks = inputs / Q8_BLOCK;
  float *scales = memory_alloc((size_t)(s->rows * blocks) * sizeof *scales);
  if (!scales)
    return error_out_of_memory(error, "quantising a weight", (size_t)(s->rows * blocks) * sizeof *scales);
  bool ok = true;
  for (int64_t first = 0; ok && first < outputs; first += s->rows) {
    const int64_t count = next_stripe(s, first);
#pragma omp parallel for schedule(static)
    for (int64_t row = 0; row < count; row++)
      q8_quantize(s->values + row * inputs, inputs, (int8_t *)s->bytes + row * inputs, scales + row * blocks);
    ok = settle_scales(scales, count * blocks, s->entry, error);
    const size_t at = q8_scales_at(outputs, inputs) + (size_t)(first * blocks) * sizeof *scales;
    compute_upload(s->compute, bytes_of(s->out, (size_t)(first * inputs), (size_t)(count * inputs)),
                   s->bytes);
    compute_upload(s->compute, bytes_of(s->out, at, (size_t)(count * blocks) * sizeof *scales), scales);
  }
  memory_free(scales);
  return ok;
}

bool quantize_tensor(Tensor out, bool nested, const WeightEntry *entry, QuantizeSource *source, void *context,
                     Compute *compute, Error *error) {
  ASSERT(dtype_is_blocks(out.dtype) && out.rank == 2);
  Stripes s = {
      .out = out, .nested = nested, .entry = entry, .source = source, .context = context, .compute = compute};
  bool ok = stripes_open(&s, error);
  ok = ok && (out.dtype == DTYPE_Q8 ? write_q8(&s, error) : write_nf4(&s, error));
  memory_free(s.values);
  memory_free(s.bytes);
  return ok;
}

/* ---- bitsandbytes' own ---- */

static bool fits(Tensor out, const WeightEntry *entry, const BnbCodes *codes, Error *error) {
  if (!codes->nf4 || memcmp(codes->table, nf4_table, sizeof nf4_table) != 0 || codes->block != NF4_BLOCK)
    return error_set(error, ERROR_MODEL,
                     "%s: %s: quantize nf4 takes NF4 in blocks of %d as it is, found %s in blocks of %d: use "
                     "quantize none, "
                     "which dequantises it",
                     entry->path, entry->name, NF4_BLOCK, codes->nf4 ? "NF4" : "FP4", codes->block);
  if (out.dtype == DTYPE_NF4 && (codes->absmax || codes->nested != NF4_GROUP))
    return error_set(error, ERROR_MODEL,
                     "%s: %s: its scales are not quantised in groups of %d, which bnb_4bit_use_double_quant "
                     "in config.json "
                     "says",
                     entry->path, entry->name, NF4_GROUP);
  return true;
}

/* The nested scales at addresses that floats may have. */
static bool write_tail(const Nf4Writer *writer, const BnbCodes *codes, uint8_t *tail, Error *error) {
  if (writer->dtype == DTYPE_NF4_PLAIN) {
    nf4_write_tail(writer, NULL, tail);
    return true;
  }
  const size_t groups = (size_t)((codes->blocks + codes->nested - 1) / codes->nested);
  float map[NF4_MAP], *group = memory_alloc(groups * sizeof *group);
  if (!group) return error_out_of_memory(error, "scales of a weight", groups * sizeof *group);
  memcpy(group, codes->group, groups * sizeof *group);
  memcpy(map, codes->map, sizeof map);
  const Nf4Nested nested = {codes->scales, group, map, codes->mean};
  nf4_write_tail(writer, &nested, tail);
  memory_free(group);
  return true;
}

bool quantize_take(Tensor out, const WeightEntry *entry, const BnbCodes *codes, Compute *compute,
                   Error *error) {
  const int64_t outputs = out.dim[0], inputs = out.dim[1];
  const size_t bytes = tensor_bytes(out), tail = nf4_parts(out.dtype, outputs, inputs).scales;
  Nf4Writer writer;
  if (!fits(out, entry, codes, error) ||
      !nf4_writer_init(&writer, out.dtype, compute->backend->nf4_layout, outputs, inputs, error))
    return false;
  uint8_t *data = memory_alloc(bytes);
  bool ok = data || error_out_of_memory(error, "a 4-bit weight", bytes);
  size_t broken = 0;
  for (int64_t block = 0; ok && block < codes->blocks; block++) {
    writer.absmax[block] = bnb_scale(codes, block);
    broken += !isfinite(writer.absmax[block]);
  }
  if (ok && broken) ok = weight_not_finite(entry, broken, error);
  ok = ok && settle_scales(writer.absmax, codes->blocks, entry, error);
  if (ok) nf4_write_packed(&writer, codes->packed, outputs, data);
  if (ok) ok = write_tail(&writer, codes, data + tail, error);
  if (ok) compute_upload(compute, bytes_of(out, 0, bytes), data);
  memory_free(data);
  nf4_writer_free(&writer);
  return ok;
}

static void dequantize_rows(Tensor from, const uint8_t *data, Nf4Layout layout, float *values) {
  const int64_t outputs = from.dim[0], inputs = from.dim[1];
  const float *scales = (const float *)(const void *)(data + q8_scales_at(outputs, inputs));
#pragma omp parallel for schedule(static)
  for (int64_t o = 0; o < outputs; o++) {
    uint16_t *row =
        (uint16_t *)(values + o * inputs); /* the front half of the row's own place; widened from its end */
    if (from.dtype == DTYPE_Q8)
      q8_dequantize((const int8_t *)data + o * inputs, scales + o * (inputs / Q8_BLOCK), inputs, row);
    else
      nf4_dequantize_row(data, from.dtype, layout, outputs, inputs, o, row);
    for (int64_t i = inputs - 1; i >= 0; i--) {
      const float value = float_from_bf16(row[i]);
      memcpy(values + o * inputs + i, &value, sizeof value);
    }
  }
}

bool dequantize_tensor(Tensor from, float *values, Compute *compute, Error *error) {
  const size_t bytes = tensor_bytes(from);
  uint8_t *data = memory_alloc(bytes);
  if (!data) return error_out_of_memory(error, "a weight on the host", bytes);
  compute_download(compute, data, dtype_is_blocks(from.dtype) ? bytes_of(from, 0, bytes) : from);
  if (dtype_is_blocks(from.dtype))
    dequantize_rows(from, data, compute->backend->nf4_layout, values);
  else
    dtype_convert(values, DTYPE_F32, data, from.dtype, (size_t)tensor_count(from));
  memory_free(data);
  return true;
}
