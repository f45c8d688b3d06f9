/* DTYPE_NF4 and DTYPE_NF4_PLAIN: matrices [O,I] in 4 bits (Dettmers et al. 2023, "QLoRA", section 3), the values
 * those of bitsandbytes.
 *
 * 64 neighbours of a row are a block: 16 codes of a table made for normally distributed weights, and a scale s, the
 * largest magnitude of the block.
 *
 *   value = bf16(table[code] * s)       the product in F32, then one rounding to nearest even
 *
 * PLAIN has s as F32. NF4 has it in 8 bits ("double quantisation"): block n = o * I/64 + b of the matrix belongs to
 * group n / 256, and
 *
 *   s = map[scale[n]] * group[n / 256] + mean       F32, each of the two steps rounded
 *
 * where mean is that of all scales and map the 256 sorted values of the dynamic map (compute/dynamic_map.h, to the bit as
 * bitsandbytes makes it). That is 4.127 bits a weight; PLAIN has 4.5.
 *
 * In memory, one part after the other, each at a multiple of 16 bytes:
 *
 *   codes     O*I/2 bytes; rows 16t .. 16t+15 are bytes t*8*I .. (t+1)*8*I - 1
 *   scales    NF4: U8 [O*I/64]; PLAIN: F32 [O*I/64]
 *   group     NF4: F32 [ceil(O*I/64 / 256)]
 *   map       NF4: F32 [256]
 *   mean      NF4: F32
 *
 * How codes and scales lie is the backend's choice (Backend.nf4_layout):
 *
 *   ROWS   block (o, b): 32 bytes at 32*(o*I/64 + b), byte j holding element j in its low half and j + 32 in its
 *          high half; scale [o][b]
 *   TILES  tile (o/16, b) of 16 rows and 64 columns: 512 bytes at 512*((o/16)*I/64 + b). Lane l = 4g + c of a warp owns bytes
 *          16l .. 16l+15: byte 4s + i is the pair of columns 16s + 2c + 8*(i/2) (low half) and the next (high half), of row g
 *          (i even) or g + 8 (i odd): its A fragments of four mma.m16n8k16. Scale [o/16][b][o%16]
 *
 * A scale is 0 or of a magnitude from SCALE_LEAST to SCALE_MOST. O is a multiple of 16 and I of 64: what is not stays in 16 or 32 bits. */
#ifndef COMPUTE_NF4_H
#define COMPUTE_NF4_H

#include "base/dtype.h"
#include "base/error.h"

enum { NF4_BLOCK = 64, NF4_STRIPE = 16, NF4_GROUP = 256, NF4_CODES = 16, NF4_MAP = 256 };

typedef enum Nf4Layout { NF4_LAYOUT_ROWS, NF4_LAYOUT_TILES } Nf4Layout;

/* Kernels may take for granted that a scale is 0 or of a magnitude between these. */
#define SCALE_LEAST 0x1p-100f
#define SCALE_MOST  0x1p100f

/* The values of the 16 codes, ascending. */
extern const float nf4_table[NF4_CODES];

static inline bool nf4_fits(int64_t outputs, int64_t inputs) {
  return outputs > 0 && inputs > 0 && outputs % NF4_STRIPE == 0 && inputs % NF4_BLOCK == 0;
}

/* Where the parts begin, in bytes. */
typedef struct Nf4Parts {
  size_t scales, group, map, mean, end; /* the codes begin at 0 */
} Nf4Parts;

static inline size_t nf4_aligned(size_t bytes) {
  return (bytes + 15) / 16 * 16;
}

static inline Nf4Parts nf4_parts(DType dtype, int64_t outputs, int64_t inputs) {
  const size_t blocks = (size_t)(outputs * (inputs / NF4_BLOCK));
  Nf4Parts at;
  at.scales = blocks * (NF4_BLOCK / 2);
  if (dtype == DTYPE_NF4_PLAIN) {
    at.group = at.map = at.mean = at.end = nf4_aligned(at.scales + blocks * sizeof(float));
    return at;
  }
  at.group = nf4_aligned(at.scales + blocks);
  at.map = nf4_aligned(at.group + (blocks + NF4_GROUP - 1) / NF4_GROUP * sizeof(float));
  at.mean = at.map + NF4_MAP * sizeof(float);
  at.end = nf4_aligned(at.mean + sizeof(float));
  return at;
}

static inline size_t nf4_bytes(DType dtype, int64_t outputs, int64_t inputs) {
  return nf4_parts(dtype, outputs, inputs).end;
}

/* A matrix on its way in: stripes of 16 rows in order, then all that stands behind the codes. So no second copy of it is
 * needed, and parts can be sent to a device one by one. */
typedef struct Nf4Writer {
  DType dtype; /* DTYPE_NF4 or DTYPE_NF4_PLAIN */
  Nf4Layout layout;
  int64_t outputs, inputs;
  float *absmax; /* [O][I/64], owned */
} Nf4Writer;

NODISCARD bool nf4_writer_init(Nf4Writer *writer, DType dtype, Nf4Layout layout, int64_t outputs,
                               int64_t inputs, Error *error);
void nf4_writer_free(Nf4Writer *writer);
/* Quantises rows first .. first+count-1 (count a multiple of 16, values [count,I] finite) into the bytes of the codes
 * part from first*I/2 on: codes[count*I/2]. As bitsandbytes: each value times 1/absmax, nearest code, at a tie the lower. Different
 * rows may be written by different threads. */
void nf4_write_rows(Nf4Writer *writer, const float *values, int64_t first, int64_t count, uint8_t *codes);
/* The same for rows that bitsandbytes has quantised: packed[count*I/2], the first of two neighbours in the high half; their
 * absmax are put into writer->absmax by the caller. */
void nf4_write_packed(const Nf4Writer *writer, const uint8_t *packed, int64_t count, uint8_t *codes);
/* What bitsandbytes has in place of absmax after double quantisation. */
typedef struct Nf4Nested {
  const uint8_t *scales; /* [O*I/64], in order of blocks */
  const float *group;    /* [ceil(O*I/64 / 256)] */
  const float *map;      /* [256] */
  float mean;
} Nf4Nested;

/* The bytes behind the codes: tail[nf4_bytes - O*I/2], from writer->absmax; or, of an NF4, from `nested` where it is not NULL. */
void nf4_write_tail(const Nf4Writer *writer, const Nf4Nested *nested, uint8_t *tail);

/* Scales of `blocks` blocks in 8 bits about `mean`: bitsandbytes' quantize_blockwise (its reference implementation) of absmax - mean
 * with blocks of 256. scales[blocks], group[ceil(blocks / 256)]. */
void nf4_compress(const float *absmax, int64_t blocks, float mean, uint8_t *scales, float *group);
/* Each scale becomes the one that double quantisation leaves of it: that of an NF4, in F32. */
void nf4_nest_scales(float *absmax, int64_t blocks);
/* The 256 sorted values of the dynamic map. */
void nf4_dynamic_map(float map[NF4_MAP]);

/* Row o of a matrix in host memory as BF16 [I]: the plain statement of what the kernels do. */
void nf4_dequantize_row(const void *data, DType dtype, Nf4Layout layout, int64_t outputs, int64_t inputs,
                        int64_t o, uint16_t *out);

#endif
