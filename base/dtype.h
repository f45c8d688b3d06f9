/* Element types of tensors and files, and scalar conversions between them. */
#ifndef BASE_DTYPE_H
#define BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* X(enum suffix, bytes, safetensors name, configuration name, torch name) */
#define DTYPE_LIST(X)                    \
  X(F32, 4, "F32", "f32", "float32")     \
  X(BF16, 2, "BF16", "bf16", "bfloat16") \
  X(F16, 2, "F16", "f16", "float16")     \
  X(F64, 8, "F64", "f64", "float64")     \
  X(I64, 8, "I64", "i64", "int64")       \
  X(I32, 4, "I32", "i32", "int32")       \
  X(I16, 2, "I16", "i16", "int16")       \
  X(I8, 1, "I8", "i8", "int8")           \
  X(U8, 1, "U8", "u8", "uint8")          \
  X(BOOL, 1, "BOOL", "bool", "bool")

typedef enum DType {
#define X(name, bytes, file, config, torch) DTYPE_##name,
  DTYPE_LIST(X)
#undef X
      DTYPE_COUNT,
  /* Of blocks of elements, and in memory alone: no file and no option names them as an element type, and dtype_size has no
   * answer. compute/nf4.h and compute/q8.h say how they lie. */
  DTYPE_NF4 = DTYPE_COUNT, /* 4 bits, scales in 8 */
  DTYPE_NF4_PLAIN,         /* 4 bits, scales F32 */
  DTYPE_Q8,                /* 8 bits, scales F32 */
  DTYPE_END
} DType;

size_t dtype_size(DType dtype);
bool dtype_is_blocks(DType dtype);         /* NF4, NF4_PLAIN, Q8 */
const char *dtype_name(DType dtype);       /* "bf16" */
const char *dtype_file_name(DType dtype);  /* "BF16", as safetensors spells it */
const char *dtype_torch_name(DType dtype); /* "bfloat16", as config.json spells it */

/* Finds a type by any of its three names; false when there is none. */
bool dtype_parse(const char *name, DType *dtype);

static inline float float_from_bf16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t bf16_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return (uint16_t)(bits >> 16);
}

/* Exact. Without branches, so that loops of it can run side by side: exponent and fraction in a float's places are the value by
 * 2^112, subnormal or not. */
static inline float float_from_f16(uint16_t bits) {
  const uint32_t magnitude = (uint32_t)(bits & 0x7fffu) << 13, sign = (uint32_t)(bits & 0x8000u) << 16;
  uint32_t wide;
  float value;
  memcpy(&value, &magnitude, sizeof value);
  value *= 0x1p112f;
  memcpy(&wide, &value, sizeof wide);
  wide = (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : wide) | sign; /* infinities and NaN */
  memcpy(&value, &wide, sizeof value);
  return value;
}
uint16_t f16_from_float(float value); /* nearest even, overflow to infinity */

bool dtype_is_float(DType type); /* F32, BF16, F16 or F64 */
/* How many of count elements of F32, BF16, F16 or F64, at any address, are NaN or infinite. */
size_t dtype_count_not_finite(const void *data, DType type, size_t count);

/* Converts count elements between F32, BF16, F16 and F64; asserts on other types. */
void dtype_convert(void *out, DType out_type, const void *in, DType in_type, size_t count);

#endif
