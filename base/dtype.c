#include "base/dtype.h"

#include "base/error.h"

#include <math.h>

static const struct {
  size_t size;
  const char *file, *config, *torch;
} dtypes[DTYPE_COUNT] = {
#define X(name, bytes, file, config, torch) [DTYPE_##name] = {bytes, file, config, torch},
    DTYPE_LIST(X)
#undef X
};

size_t dtype_size(DType dtype) {
  ASSERT((unsigned)dtype < DTYPE_COUNT);
  return dtypes[dtype].size;
}

bool dtype_is_blocks(DType dtype) {
  return dtype >= DTYPE_COUNT && dtype < DTYPE_END;
}

const char *dtype_name(DType dtype) {
  if (dtype == DTYPE_NF4) return "nf4";
  if (dtype == DTYPE_NF4_PLAIN) return "nf4 with f32 scales";
  if (dtype == DTYPE_Q8) return "int8";
  ASSERT((unsigned)dtype < DTYPE_COUNT);
  return dtypes[dtype].config;
}

const char *dtype_file_name(DType dtype) {
  ASSERT((unsigned)dtype < DTYPE_COUNT);
  return dtypes[dtype].file;
}

const char *dtype_torch_name(DType dtype) {
  ASSERT((unsigned)dtype < DTYPE_COUNT);
  return dtypes[dtype].torch;
}

bool dtype_parse(const char *name, DType *dtype) {
  for (int i = 0; i < DTYPE_COUNT; i++) {
    if (!strcmp(name, dtypes[i].file) || !strcmp(name, dtypes[i].config) || !strcmp(name, dtypes[i].torch)) {
      *dtype = (DType)i;
      return true;
    }
  }
  return false;
}

/* f16: 1 sign bit, 5 exponent bits (bias 15), 10 fraction bits; f32: 1, 8 (bias 127), 23. */
uint16_t f16_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* 65520 and up round to infinity */
  if (magnitude < 0x38800000u) {
    /* Below 2^-14: adding 0.5 leaves the value in units of 2^-24, rounded to even, in the low bits. */
    float shifted;
    memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;
    uint32_t rounded;
    memcpy(&rounded, &shifted, sizeof rounded);
    return (uint16_t)(sign | (rounded - 0x3f000000u));
  }
  magnitude += 0xfffu + (magnitude >> 13 & 1u);
  return (uint16_t)(sign | ((magnitude >> 13) - (112u << 10)));
}

/* Scalars are loaded and stored by memcpy: tensors in files may lie at any address. */
static double load(const char *at, DType type) {
  uint16_t half;
  float single;
  double wide;
  switch (type) {
    case DTYPE_F32:
      memcpy(&single, at, sizeof single);
      return (double)single;
    case DTYPE_BF16:
      memcpy(&half, at, sizeof half);
      return (double)float_from_bf16(half);
    case DTYPE_F16:
      memcpy(&half, at, sizeof half);
      return (double)float_from_f16(half);
    case DTYPE_F64:
      memcpy(&wide, at, sizeof wide);
      return wide;
    default:
      assert_failed(__FILE__, __LINE__, "a floating-point type");
  }
}

static void store(char *at, DType type, double value) {
  uint16_t half;
  float single = (float)value;
  switch (type) {
    case DTYPE_F32:
      memcpy(at, &single, sizeof single);
      return;
    case DTYPE_BF16:
      half = bf16_from_float(single);
      memcpy(at, &half, sizeof half);
      return;
    case DTYPE_F16:
      half = f16_from_float(single);
      memcpy(at, &half, sizeof half);
      return;
    case DTYPE_F64:
      memcpy(at, &value, sizeof value);
      return;
    default:
      assert_failed(__FILE__, __LINE__, "a floating-point type");
  }
}

bool dtype_is_float(DType type) {
  return type == DTYPE_F32 || type == DTYPE_BF16 || type == DTYPE_F16 || type == DTYPE_F64;
}

/* Loops over all weights of a model, for processors with wider vectors too. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) /* ifunc */
#define WIDE_VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define WIDE_VECTORS
#endif

/* All bits of the exponent set: NaN or infinite. Counted in as many bits as a number has, of which a vector holds most. */
WIDE_VECTORS static uint32_t count_32(const char *from, size_t count) {
  uint32_t found = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t bits;
    memcpy(&bits, from + 4 * i, sizeof bits);
    found += (bits & 0x7f800000u) == 0x7f800000u;
  }
  return found;
}

WIDE_VECTORS static uint16_t count_16(const char *from, size_t count, uint16_t exponent) {
  uint16_t found = 0;
  for (size_t i = 0; i < count; i++) {
    uint16_t bits;
    memcpy(&bits, from + 2 * i, sizeof bits);
    found = (uint16_t)(found + ((bits & exponent) == exponent));
  }
  return found;
}

size_t dtype_count_not_finite(const void *data, DType type, size_t count) {
  ASSERT(dtype_is_float(type));
  const size_t piece = 1 << 15, size = dtype_size(type); /* all of a piece may be counted in 16 bits */
  size_t found = 0;
  for (size_t first = 0; first < count; first += piece) {
    const char *from = (const char *)data + first * size;
    const size_t n = count - first < piece ? count - first : piece;
    if (type == DTYPE_F32)
      found += count_32(from, n);
    else if (type == DTYPE_F64)
      for (size_t i = 0; i < n; i++) found += !isfinite(load(from + 8 * i, type));
    else
      found += count_16(from, n, type == DTYPE_BF16 ? 0x7f80u : 0x7c00u);
  }
  return found;
}

WIDE_VECTORS static void widen_bf16(char *to, const char *from, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint16_t bits;
    memcpy(&bits, from + 2 * i, sizeof bits);
    float value = float_from_bf16(bits);
    memcpy(to + 4 * i, &value, sizeof value);
  }
}

void dtype_convert(void *out, DType out_type, const void *in, DType in_type, size_t count) {
  ASSERT(dtype_is_float(out_type) && dtype_is_float(in_type));
  char *to = out;
  const char *from = in;
  if (out_type == in_type) {
    if (count) memcpy(to, from, count * dtype_size(in_type));
  } else if (in_type == DTYPE_BF16 && out_type == DTYPE_F32) { /* the common cases, as tight loops */
    widen_bf16(to, from, count);
  } else if (in_type == DTYPE_F16 && out_type == DTYPE_F32) {
    for (size_t i = 0; i < count; i++) {
      uint16_t bits;
      memcpy(&bits, from + 2 * i, sizeof bits);
      float value = float_from_f16(bits);
      memcpy(to + 4 * i, &value, sizeof value);
    }
  } else if (in_type == DTYPE_F32 && out_type == DTYPE_BF16) {
    for (size_t i = 0; i < count; i++) {
      float value;
      memcpy(&value, from + 4 * i, sizeof value);
      uint16_t bits = bf16_from_float(value);
      memcpy(to + 2 * i, &bits, sizeof bits);
    }
  } else {
    size_t out_size = dtype_size(out_type), in_size = dtype_size(in_type);
    for (size_t i = 0; i < count; i++) store(to + i * out_size, out_type, load(from + i * in_size, in_type));
  }
}
