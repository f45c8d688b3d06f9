#include "compute/nf4.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

const float nf4_table[NF4_CODES] = {-1.0f,
                                    -0.6961928009986877f,
                                    -0.5250730514526367f,
                                    -0.39491748809814453f,
                                    -0.28444138169288635f,
                                    -0.18477343022823334f,
                                    -0.09105003625154495f,
                                    0.0f,
                                    0.07958029955625534f,
                                    0.16093020141124725f,
                                    0.24611230194568634f,
                                    0.33791524171829224f,
                                    0.44070982933044434f,
                                    0.5626170039176941f,
                                    0.7229568362236023f,
                                    1.0f};

/* Half way between neighbours; at it the lower code is taken. */
static int nearest(const float sorted[NF4_MAP], float x) {
  int low = 0, high = NF4_MAP - 1;
  while (low < high) {
    const int middle = (low + high) / 2;
    if ((sorted[middle] + sorted[middle + 1]) / 2 < x)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static float largest(const float *x, int64_t count) {
  float most = 0;
  for (int64_t i = 0; i < count; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  return most;
}

static float limited(float x) {
  return fmaxf(-1, fminf(1, x));
}

/* The smallest absmax that is divided by. */
static const float smallest = 1e-38f;

/* ---- writing ---- */

bool nf4_writer_init(Nf4Writer *writer, DType dtype, Nf4Layout layout, int64_t outputs, int64_t inputs,
                     Error *error) {
  ASSERT(nf4_fits(outputs, inputs) && (dtype == DTYPE_NF4 || dtype == DTYPE_NF4_PLAIN));
  const size_t blocks = (size_t)(outputs * (inputs / NF4_BLOCK));
  *writer = (Nf4Writer){.dtype = dtype, .layout = layout, .outputs = outputs, .inputs = inputs};
  writer->absmax = memory_alloc(blocks * sizeof(float));
  return writer->absmax || error_out_of_memory(error, "quantising a weight", blocks * sizeof(float));
}

void nf4_writer_free(Nf4Writer *writer) {
  memory_free(writer->absmax);
  *writer = (Nf4Writer){0};
}

/* Puts the codes of block b of row r of a stripe where the layout has them; stripe: its 16 rows. */
static void place(Nf4Layout layout, const uint8_t code[NF4_BLOCK], int64_t blocks, int64_t r, int64_t b,
                  uint8_t *stripe) {
  if (layout == NF4_LAYOUT_ROWS) {
    uint8_t *out = stripe + (r * blocks + b) * (NF4_BLOCK / 2);
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(code[j] | code[j + 32] << 4);
    return;
  }
  uint8_t *tile = stripe + b * (NF4_STRIPE * NF4_BLOCK / 2);
  for (int j = 0; j < NF4_BLOCK; j += 2) {
    const int s = j / 16, c = j % 8 / 2, second = j % 16 / 8;
    const int64_t lane = 4 * (r % 8) + c;
    tile[16 * lane + 4 * s + 2 * second + r / 8] = (uint8_t)(code[j] | code[j + 1] << 4);
  }
}

static void take(Nf4Layout layout, const uint8_t *stripe, int64_t blocks, int64_t r, int64_t b,
                 uint8_t code[NF4_BLOCK]) {
  if (layout == NF4_LAYOUT_ROWS) {
    const uint8_t *in = stripe + (r * blocks + b) * (NF4_BLOCK / 2);
    for (int j = 0; j < 32; j++) code[j] = in[j] & 15, code[j + 32] = in[j] >> 4;
    return;
  }
  const uint8_t *tile = stripe + b * (NF4_STRIPE * NF4_BLOCK / 2);
  for (int j = 0; j < NF4_BLOCK; j += 2) {
    const int s = j / 16, c = j % 8 / 2, second = j % 16 / 8;
    const uint8_t pair = tile[16 * (4 * (r % 8) + c) + 4 * s + 2 * second + r / 8];
    code[j] = pair & 15, code[j + 1] = pair >> 4;
  }
}

/* nearest() of all codes of a block, without branches: as many bounds as lie below a value. */
static void codes_of(const float *x, float inverse, uint8_t code[NF4_BLOCK]) {
  float scaled[NF4_BLOCK];
  int32_t below[NF4_BLOCK] = {0};
  for (int j = 0; j < NF4_BLOCK; j++) scaled[j] = x[j] * inverse;
  for (int k = 0; k + 1 < NF4_CODES; k++) {
    const float bound = (nf4_table[k] + nf4_table[k + 1]) / 2;
    for (int j = 0; j < NF4_BLOCK; j++) below[j] += bound < scaled[j];
  }
  for (int j = 0; j < NF4_BLOCK; j++) code[j] = (uint8_t)below[j];
}

void nf4_write_rows(Nf4Writer *writer, const float *values, int64_t first, int64_t count, uint8_t *codes) {
  const int64_t blocks = writer->inputs / NF4_BLOCK;
  ASSERT(first % NF4_STRIPE == 0 && count % NF4_STRIPE == 0 && first + count <= writer->outputs);
#pragma omp parallel for schedule(static) if (count > NF4_STRIPE)
  for (int64_t row = 0; row < count; row++) {
    uint8_t *stripe = codes + row / NF4_STRIPE * NF4_STRIPE * blocks * (NF4_BLOCK / 2);
    for (int64_t b = 0; b < blocks; b++) {
      const float *x = values + row * writer->inputs + b * NF4_BLOCK;
      const float absmax = largest(x, NF4_BLOCK), inverse = 1 / fmaxf(absmax, smallest);
      uint8_t code[NF4_BLOCK];
      codes_of(x, inverse, code);
      writer->absmax[(first + row) * blocks + b] = absmax;
      place(writer->layout, code, blocks, row % NF4_STRIPE, b, stripe);
    }
  }
}

void nf4_write_packed(const Nf4Writer *writer, const uint8_t *packed, int64_t count, uint8_t *codes) {
  const int64_t blocks = writer->inputs / NF4_BLOCK;
  ASSERT(count % NF4_STRIPE == 0);
  for (int64_t row = 0; row < count; row++) {
    uint8_t *stripe = codes + row / NF4_STRIPE * NF4_STRIPE * blocks * (NF4_BLOCK / 2);
    for (int64_t b = 0; b < blocks; b++) {
      const uint8_t *in = packed + (row * blocks + b) * (NF4_BLOCK / 2);
      uint8_t code[NF4_BLOCK];
      for (int j = 0; j < NF4_BLOCK / 2; j++) code[2 * j] = in[j] >> 4, code[2 * j + 1] = in[j] & 15;
      place(writer->layout, code, blocks, row % NF4_STRIPE, b, stripe);
    }
  }
}

/* ---- scales ---- */

/* torch.linspace(0.1, 1, count) in F32, which counts from the nearer end. */
static float between(int i, int count) {
  const float step = (1.0f - 0.1f) / (float)(count - 1);
  return i < count / 2 ? fmaf(step, (float)i, 0.1f) : fmaf(-step, (float)(count - 1 - i), 1.0f);
}

void nf4_dynamic_map(float map[NF4_MAP]) {
  static const float powers[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  const int zero = 127;
  map[zero] = 0;
  map[NF4_MAP - 1] = 1;
  for (int i = 0; i < 7; i++) {
    const int cells = 1 << i;
    for (int cell = 0; cell < cells; cell++) {
      const float middle = (between(cell, cells + 1) + between(cell + 1, cells + 1)) / 2;
      map[zero + cells + cell] = powers[i] * middle;
      map[zero - cells - cell] = -powers[i] * middle;
    }
  }
}

void nf4_compress(const float *absmax, int64_t blocks, float mean, uint8_t *scales, float *group) {
  float map[NF4_MAP];
  nf4_dynamic_map(map);
  for (int64_t first = 0; first < blocks; first += NF4_GROUP) {
    const int64_t count = blocks - first < NF4_GROUP ? blocks - first : NF4_GROUP;
    float centred[NF4_GROUP];
    for (int64_t i = 0; i < count; i++) centred[i] = absmax[first + i] - mean;
    const float most = largest(centred, count), inverse = 1 / fmaxf(most, smallest);
    for (int64_t i = 0; i < count; i++)
      scales[first + i] = (uint8_t)nearest(map, limited(centred[i] * inverse));
    group[first / NF4_GROUP] = most;
  }
}

/* Where the scale of a block stands. */
static int64_t scale_at(Nf4Layout layout, int64_t blocks, int64_t o, int64_t b) {
  if (layout == NF4_LAYOUT_ROWS) return o * blocks + b;
  return (o / NF4_STRIPE * blocks + b) * NF4_STRIPE + o % NF4_STRIPE;
}

static float nested_scale(float value, float group, float mean) {
  const float product = value * group;
  return product + mean;
}

static float mean_of(const float *x, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; i++) sum += (double)x[i];
  return (float)(sum / (double)count);
}

/* The scales in order of blocks lie at the end of the tail while they are made. */
static void write_nested(const Nf4Writer *writer, uint8_t *scales, float *group, float *map, float *mean) {
  const int64_t blocks = writer->outputs * (writer->inputs / NF4_BLOCK);
  *mean = mean_of(writer->absmax, blocks);
  nf4_compress(writer->absmax, blocks, *mean, scales, group);
  nf4_dynamic_map(map);
}

void nf4_nest_scales(float *absmax, int64_t blocks) {
  const float mean = mean_of(absmax, blocks);
  float map[NF4_MAP];
  nf4_dynamic_map(map);
  for (int64_t first = 0; first < blocks; first += NF4_GROUP) {
    const int64_t count = blocks - first < NF4_GROUP ? blocks - first : NF4_GROUP;
    uint8_t scales[NF4_GROUP];
    float group;
    nf4_compress(absmax + first, count, mean, scales, &group);
    for (int64_t i = 0; i < count; i++) absmax[first + i] = nested_scale(map[scales[i]], group, mean);
  }
}

void nf4_write_tail(const Nf4Writer *writer, const Nf4Nested *nested, uint8_t *tail) {
  const int64_t blocks = writer->inputs / NF4_BLOCK, all = writer->outputs * blocks;
  const Nf4Parts at = nf4_parts(writer->dtype, writer->outputs, writer->inputs);
  memset(tail, 0, at.end - at.scales);
  if (writer->dtype == DTYPE_NF4_PLAIN) {
    for (int64_t o = 0; o < writer->outputs; o++)
      for (int64_t b = 0; b < blocks; b++)
        memcpy(tail + (size_t)scale_at(writer->layout, blocks, o, b) * sizeof(float),
               writer->absmax + o * blocks + b, sizeof(float));
    return;
  }
  float *group = (float *)(void *)(tail + (at.group - at.scales));
  float *map = (float *)(void *)(tail + (at.map - at.scales));
  float *mean = (float *)(void *)(tail + (at.mean - at.scales));
  uint8_t *ordered =
      (uint8_t *)writer->absmax; /* each byte is written when the four at its place have been read */
  if (nested) {
    memcpy(group, nested->group, (size_t)((all + NF4_GROUP - 1) / NF4_GROUP) * sizeof(float));
    memcpy(map, nested->map, NF4_MAP * sizeof(float));
    *mean = nested->mean;
  } else {
    write_nested(writer, ordered, group, map, mean);
  }
  const uint8_t *scales = nested ? nested->scales : ordered;
  for (int64_t o = 0; o < writer->outputs; o++)
    for (int64_t b = 0; b < blocks; b++)
      tail[scale_at(writer->layout, blocks, o, b)] = scales[o * blocks + b];
}

/* ---- reading ---- */

static float scale_of(const uint8_t *data, DType dtype, const Nf4Parts *at, int64_t place, int64_t block) {
  float scale, group, mean, value;
  if (dtype == DTYPE_NF4_PLAIN) {
    memcpy(&scale, data + at->scales + (size_t)place * sizeof scale, sizeof scale);
    return scale;
  }
  memcpy(&group, data + at->group + (size_t)(block / NF4_GROUP) * sizeof group, sizeof group);
  memcpy(&mean, data + at->mean, sizeof mean);
  memcpy(&value, data + at->map + data[at->scales + (size_t)place] * sizeof value, sizeof value);
  return nested_scale(value, group, mean);
}

void nf4_dequantize_row(const void *data, DType dtype, Nf4Layout layout, int64_t outputs, int64_t inputs,
                        int64_t o, uint16_t *out) {
  const int64_t blocks = inputs / NF4_BLOCK;
  const Nf4Parts at = nf4_parts(dtype, outputs, inputs);
  const uint8_t *stripe = (const uint8_t *)data + o / NF4_STRIPE * NF4_STRIPE * blocks * (NF4_BLOCK / 2);
  for (int64_t b = 0; b < blocks; b++) {
    uint8_t code[NF4_BLOCK];
    take(layout, stripe, blocks, o % NF4_STRIPE, b, code);
    const float scale = scale_of(data, dtype, &at, scale_at(layout, blocks, o, b), o * blocks + b);
    for (int j = 0; j < NF4_BLOCK; j++) out[b * NF4_BLOCK + j] = bf16_from_float(nf4_table[code[j]] * scale);
  }
}
