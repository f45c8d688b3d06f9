/* Checkpoints whose linears bitsandbytes has quantised: its tensors become the weights that they stand for, with the values that the library
 * itself would give (its dequantize_4bit, in the dtype that the file says; int8_vectorwise_dequant, in F32).
 *
 *   4 bits   NAME U8 (or any type of the same bytes) packed, the first of two neighbours in the high half; NAME.quant_map F32 [16];
 *            NAME.absmax F32 [blocks], or U8 [blocks] with NAME.nested_absmax F32 and NAME.nested_quant_map F32 [256];
 *            NAME.quant_state.bitsandbytes__nf4 (or __fp4): JSON with shape, blocksize, dtype, nested_blocksize, nested_offset
 *   8 bits   MODULE.weight I8 [O,I]; MODULE.SCB F32 [O]; MODULE.weight_format
 *
 * Source: bitsandbytes 0.50, functional.QuantState and nn.modules. */
#ifndef FORMATS_BITSANDBYTES_H
#define FORMATS_BITSANDBYTES_H

#include "formats/weight_files.h"

/* Puts weights in the place of such tensors; others stay. On failure the files are closed: ERROR_MODEL names file and tensor. */
NODISCARD bool bnb_weights(WeightFiles *files, Error *error);

/* The codes behind a 4-bit weight. Arrays of the file lie at any address. */
typedef struct BnbCodes {
  const uint8_t *packed;
  bool nf4;  /* with the table of compute/nf4.h; else another */
  int block; /* elements */
  int64_t blocks;
  const void *absmax;    /* F32 [blocks]; or NULL, and: */
  const uint8_t *scales; /* [blocks] */
  const void *group;     /* F32 [ceil(blocks / nested)] */
  const void *map;       /* F32 [256] */
  int nested;            /* blocks of a group */
  float mean;
  float table[16];
} BnbCodes;

/* NULL: the entry has none. */
const BnbCodes *bnb_codes(const WeightEntry *entry);
/* The scale of a block in F32: its absmax, or map[scale] * group + mean, each step rounded. */
float bnb_scale(const BnbCodes *codes, int64_t block);

#endif
