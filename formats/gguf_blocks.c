#include "formats/gguf_blocks.h"

#include "base/dtype.h"
#include "base/error.h"

#include <stdio.h>

static inline float half_at(const uint8_t *at) {
  uint16_t bits;
  memcpy(&bits, at, sizeof bits);
  return float_from_f16(bits);
}

/* ---- plain numbers ---- */

static void read_f32(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  memcpy(out, in, blocks * sizeof *out);
}

static void read_f16(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (size_t i = 0; i < blocks; i++) out[i] = half_at(in + 2 * i);
}

static void read_bf16(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (size_t i = 0; i < blocks; i++) out[i] = float_from_bf16((uint16_t)(in[2 * i] | in[2 * i + 1] << 8));
}

/* ---- blocks of 32: a scale, perhaps a minimum, perhaps the fifth bits, and then low nibbles 0 to 15, high 16 to 31 ---- */

static void read_q8_0(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 34, out += 32) {
    const float scale = half_at(in);
    for (int i = 0; i < 32; i++) out[i] = (float)(int8_t)in[2 + i] * scale;
  }
}

static void read_q4_0(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 18, out += 32) {
    const float scale = half_at(in);
    for (int i = 0; i < 16; i++) out[i] = scale * (float)((in[2 + i] & 15) - 8);
    for (int i = 0; i < 16; i++) out[16 + i] = scale * (float)((in[2 + i] >> 4) - 8);
  }
}

static void read_q4_1(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 20, out += 32) {
    const float scale = half_at(in), least = half_at(in + 2);
    for (int i = 0; i < 16; i++) out[i] = scale * (float)(in[4 + i] & 15) + least;
    for (int i = 0; i < 16; i++) out[16 + i] = scale * (float)(in[4 + i] >> 4) + least;
  }
}

/* The fifth bits of 32 elements, in their place. */
static inline void fifth_bits(const uint8_t *restrict packed, uint8_t *restrict out) {
  static const uint8_t mask[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  for (int byte = 0; byte < 4; byte++)
    for (int i = 0; i < 8; i++) out[8 * byte + i] = packed[byte] & mask[i] ? 16 : 0;
}

static void read_q5_0(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  uint8_t high[32];
  for (; blocks > 0; blocks--, in += 22, out += 32) {
    const float scale = half_at(in);
    fifth_bits(in + 2, high);
    for (int i = 0; i < 16; i++) out[i] = scale * (float)(((in[6 + i] & 15) | high[i]) - 16);
    for (int i = 0; i < 16; i++) out[16 + i] = scale * (float)((in[6 + i] >> 4 | high[16 + i]) - 16);
  }
}

static void read_q5_1(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  uint8_t high[32];
  for (; blocks > 0; blocks--, in += 24, out += 32) {
    const float scale = half_at(in), least = half_at(in + 2);
    fifth_bits(in + 4, high);
    for (int i = 0; i < 16; i++) out[i] = scale * (float)((in[8 + i] & 15) | high[i]) + least;
    for (int i = 0; i < 16; i++) out[16 + i] = scale * (float)(in[8 + i] >> 4 | high[16 + i]) + least;
  }
}

static const int8_t iq4_level[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                     1,    13,   25,  38,  53,  69,  89,  113};

static void read_iq4_nl(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 18, out += 32) {
    const float scale = half_at(in);
    for (int i = 0; i < 16; i++) {
      out[i] = scale * (float)iq4_level[in[2 + i] & 15];
      out[16 + i] = scale * (float)iq4_level[in[2 + i] >> 4];
    }
  }
}

/* ---- blocks of 256 in 8 or 16 groups, whose scales are small integers times a scale of the block ---- */

/* Scale and minimum of group i, of 6 bits each, in 12 bytes: groups 0 to 3 in the low bits of the first eight, groups 4 to 7 in nibbles
 * of the last four and the high bits of the first eight. */
static void scale_and_least(const uint8_t *packed, int i, float *scale, float *least) {
  int s = packed[i % 4], m = packed[4 + i % 4];
  if (i < 4) {
    s &= 63;
    m &= 63;
  } else {
    s = (packed[4 + i] & 15) | s >> 6 << 4;
    m = packed[4 + i] >> 4 | m >> 6 << 4;
  }
  *scale = (float)s;
  *least = (float)m;
}

static void read_q4_k(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 144, out += 256) {
    const float scale = half_at(in), least = half_at(in + 2);
    for (int group = 0; group < 8; group++) {
      float s, m;
      scale_and_least(in + 4, group, &s, &m);
      const float step = scale * s, shift = least * m;
      const uint8_t *nibbles = in + 16 + group / 2 * 32;
      const int by = group % 2 * 4;
      for (int i = 0; i < 32; i++) out[32 * group + i] = step * (float)(nibbles[i] >> by & 15) - shift;
    }
  }
}

static void read_q5_k(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 176, out += 256) {
    const float scale = half_at(in), least = half_at(in + 2);
    for (int group = 0; group < 8; group++) {
      float s, m;
      scale_and_least(in + 4, group, &s, &m);
      const float step = scale * s, shift = least * m;
      const uint8_t *high = in + 16, *nibbles = in + 48 + group / 2 * 32;
      for (int i = 0; i < 32; i++) {
        const int value = (nibbles[i] >> group % 2 * 4 & 15) | (high[i] >> group & 1) << 4;
        out[32 * group + i] = step * (float)value - shift;
      }
    }
  }
}

static void read_q6_k(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 210, out += 256) {
    const uint8_t *low = in, *high = in + 128, *scales = in + 192;
    const float scale = half_at(in + 208);
    for (int group = 0; group < 16; group++) {
      const int part = group / 2, at = group % 2 * 16; /* of 32 elements; in it */
      const uint8_t *nibbles = low + part / 4 * 64 + part % 2 * 32 + at, *pairs = high + part / 4 * 32 + at;
      const int low_shift = part % 4 / 2 * 4, high_shift = part % 4 * 2;
      const float step = scale * (float)(int8_t)scales[group];
      for (int i = 0; i < 16; i++) {
        const int value = (nibbles[i] >> low_shift & 15) | (pairs[i] >> high_shift & 3) << 4;
        out[16 * group + i] = step * (float)(value - 32);
      }
    }
  }
}

static void read_q2_k(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 84, out += 256) {
    const float scale = half_at(in + 80), least = half_at(in + 82);
    for (int group = 0; group < 16; group++) {
      const float step = scale * (float)(in[group] & 15), shift = least * (float)(in[group] >> 4);
      const uint8_t *pairs = in + 16 + group / 8 * 32 + group % 2 * 16;
      const int by = group % 8 / 2 * 2;
      for (int i = 0; i < 16; i++) out[16 * group + i] = step * (float)(pairs[i] >> by & 3) - shift;
    }
  }
}

static void read_q3_k(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 110, out += 256) {
    const uint8_t *high = in, *scales = in + 96;
    const float scale = half_at(in + 108);
    for (int group = 0; group < 16; group++) {
      const int s = (scales[group % 8] >> group / 8 * 4 & 15) | (scales[8 + group % 4] >> group / 4 * 2 & 3)
                                                                    << 4;
      const float step = scale * (float)(s - 32);
      const uint8_t *pairs = in + 32 + group / 8 * 32 + group % 2 * 16, *bits = high + group % 2 * 16;
      const int by = group % 8 / 2 * 2, bit = 1 << group / 2;
      for (int i = 0; i < 16; i++) {
        const int value = (pairs[i] >> by & 3) - (bits[i] & bit ? 0 : 4);
        out[16 * group + i] = step * (float)value;
      }
    }
  }
}

static void read_iq4_xs(const uint8_t *restrict in, size_t blocks, float *restrict out) {
  for (; blocks > 0; blocks--, in += 136, out += 256) {
    const float scale = half_at(in);
    for (int group = 0; group < 8; group++) {
      const int low = in[4 + group / 2] >> group % 2 * 4 & 15, high = in[2 + group / 4] >> group % 4 * 2 & 3;
      const float step = scale * (float)((low | high << 4) - 32);
      const uint8_t *nibbles = in + 8 + 16 * group;
      for (int i = 0; i < 16; i++) {
        out[32 * group + i] = step * (float)iq4_level[nibbles[i] & 15];
        out[32 * group + 16 + i] = step * (float)iq4_level[nibbles[i] >> 4];
      }
    }
  }
}

/* ---- all of them ---- */

static const BlockType types[] = {
    [0] = {"F32", 1, 4, read_f32},
    [1] = {"F16", 1, 2, read_f16},
    [2] = {"Q4_0", 32, 18, read_q4_0},
    [3] = {"Q4_1", 32, 20, read_q4_1},
    [6] = {"Q5_0", 32, 22, read_q5_0},
    [7] = {"Q5_1", 32, 24, read_q5_1},
    [8] = {"Q8_0", 32, 34, read_q8_0},
    [9] = {"Q8_1", 32, 40, NULL},
    [10] = {"Q2_K", 256, 84, read_q2_k},
    [11] = {"Q3_K", 256, 110, read_q3_k},
    [12] = {"Q4_K", 256, 144, read_q4_k},
    [13] = {"Q5_K", 256, 176, read_q5_k},
    [14] = {"Q6_K", 256, 210, read_q6_k},
    [15] = {"Q8_K", 256, 292, NULL},
    [16] = {"IQ2_XXS", 256, 66, NULL},
    [17] = {"IQ2_XS", 256, 74, NULL},
    [18] = {"IQ3_XXS", 256, 98, NULL},
    [19] = {"IQ1_S", 256, 50, NULL},
    [20] = {"IQ4_NL", 32, 18, read_iq4_nl},
    [21] = {"IQ3_S", 256, 110, NULL},
    [22] = {"IQ2_S", 256, 82, NULL},
    [23] = {"IQ4_XS", 256, 136, read_iq4_xs},
    [24] = {"I8", 1, 1, NULL},
    [25] = {"I16", 1, 2, NULL},
    [26] = {"I32", 1, 4, NULL},
    [27] = {"I64", 1, 8, NULL},
    [28] = {"F64", 1, 8, NULL},
    [29] = {"IQ1_M", 256, 56, NULL},
    [30] = {"BF16", 1, 2, read_bf16},
    [34] = {"TQ1_0", 256, 54, NULL},
    [35] = {"TQ2_0", 256, 66, NULL},
    [39] = {"MXFP4", 32, 17, NULL},
    [40] = {"NVFP4", 64, 36, NULL},
    [41] = {"Q1_0", 128, 18, NULL},
};
enum { TYPES = sizeof types / sizeof *types };

const BlockType *block_type(uint32_t number) {
  return number < TYPES && types[number].name ? &types[number] : NULL;
}

void block_type_names(char *out, size_t size) {
  size_t used = 0;
  for (size_t i = 0; i < TYPES && used < size; i++)
    if (types[i].read)
      used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "", types[i].name);
}

/* Part of one block. */
static void read_part(const BlockType *type, const uint8_t *block, size_t first, size_t count, float *out) {
  float whole[BLOCK_MOST];
  type->read(block, 1, whole);
  memcpy(out, whole + first, count * sizeof *out);
}

void block_read(const BlockType *type, const void *data, size_t first, size_t count, float *out) {
  ASSERT(type->read && type->elements <= BLOCK_MOST);
  const size_t length = type->elements, into = first % length;
  const uint8_t *block = (const uint8_t *)data + first / length * type->bytes;
  if (into > 0) {
    const size_t n = count < length - into ? count : length - into;
    read_part(type, block, into, n, out);
    block += type->bytes;
    out += n;
    count -= n;
  }
  type->read(block, count / length, out);
  if (count % length > 0)
    read_part(type, block + count / length * type->bytes, 0, count % length, out + count / length * length);
}
