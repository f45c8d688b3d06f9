/* The element types of GGUF: numbers, and blocks of quantised numbers that share scales.
 *
 * Dequantising gives F32 with exactly the values of the Python package gguf (gguf/quants.py), to the bit: the same operations in
 * the same order, none of them fused. */
#ifndef FORMATS_GGUF_BLOCKS_H
#define FORMATS_GGUF_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

enum { BLOCK_MOST = 256 }; /* elements of the largest block */

typedef struct BlockType {
  const char *name;  /* "Q4_K" */
  uint32_t elements; /* of a block; 1: a plain number. A power of 2 */
  uint32_t bytes;    /* of a block */
  /* `blocks` of them, at any address, into blocks * elements floats. NULL: Drover does not read this type. */
  void (*read)(const uint8_t *in, size_t blocks, float *out);
} BlockType;

/* By its number in the file; NULL when there is no such type. */
const BlockType *block_type(uint32_t number);
/* Elements first to first + count - 1 of a tensor whose data begin at `data`. */
void block_read(const BlockType *type, const void *data, size_t first, size_t count, float *out);
/* "F32, F16, ...", those that are read. */
void block_type_names(char *out, size_t size);

#endif
