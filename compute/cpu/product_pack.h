/* How factors lie for the tiles of products: a panel is some rows of a factor (columns, if it runs across), its links one after the other, those of a
 * chain together. Rows and links that are not there are zero. */
#ifndef COMPUTE_CPU_PRODUCT_PACK_H
#define COMPUTE_CPU_PRODUCT_PACK_H

#include "compute/cpu/product.h"

#include "compute/cpu/blocks.h"
#include "compute/cpu/vector.h"

/* The links [first, first + count) of each chain. */
typedef struct Stretch {
  int64_t first, count;
  bool begins, ends; /* the chains begin, end in it */
} Stretch;

/* Chains lie in the order in which their sums are added (vec_sum: lanes half of them apart first), as a tree that goes through them from left to right:
 * that is by their numbers with the bits in reverse. */
static const uint8_t chain_turn[VEC] = {
#ifdef __AVX512F__
    0, 8, 4,  12, 2,  10, 6, 14, 1,
    9, 5, 13, 3,  11, 7,  15
#else
    0, 4, 2, 6, 1,
    5, 3, 7
#endif
};

/* Rows of a factor that become lanes together, and the links that are brought at once. */
enum { GROUP = 8, STEP = BLOCK };

/* `lanes` rows from `row` on, of which `rows` are there, STEP links from `link` on: where they lie, or in room, widened and with zeros for what is not there. */
INLINE const float *rows_of_links(const ProductFactor *f, int64_t k, int64_t row, int64_t rows, int lanes,
                                  int64_t link, float *room, int64_t *stride) {
  const int64_t links = min64(STEP, k - link);
  if (rows >= lanes && links == STEP && !f->narrow && !f->blocks) {
    *stride = f->stride;
    return (const float *)f->data + row * f->stride + link;
  }
  *stride = STEP;
  for (int r = 0; r < lanes; r++) {
    float *to = room + r * STEP;
    if (r < rows && f->blocks) {
      blocks_to_floats(f->blocks, (row + r) * f->blocks->per_row + link / BLOCK, 1, to);
      continue;
    }
    const int64_t at = (row + r) * f->stride + link;
    for (int64_t i = 0; i < STEP; i += VEC) {
      const int part = r < rows ? (int)max64(0, min64(VEC, links - i)) : 0;
      vec_store(to + i, part == 0   ? vec_splat(0.0f)
                        : f->narrow ? vec_load_bf16_part((const uint16_t *)f->data + at + i, part)
                                    : vec_load_part((const float *)f->data + at + i, part));
    }
  }
  return room;
}

/* Lane i of out[j] is from[i * stride + j], for GROUP rows. */
INLINE void columns_of_group(const float *from, int64_t stride, __m256 out[4]) {
  const float *next = from + 4 * stride;
  __m256 x[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++)
    x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * stride)),
                                _mm_loadu_ps(next + i * stride), 1);
  const __m256 a = _mm256_unpacklo_ps(x[0], x[1]), b = _mm256_unpackhi_ps(x[0], x[1]);
  const __m256 c = _mm256_unpacklo_ps(x[2], x[3]), d = _mm256_unpackhi_ps(x[2], x[3]);
  out[0] = _mm256_shuffle_ps(a, c, 0x44);
  out[1] = _mm256_shuffle_ps(a, c, 0xee);
  out[2] = _mm256_shuffle_ps(b, d, 0x44);
  out[3] = _mm256_shuffle_ps(b, d, 0xee);
}

#ifdef __AVX512F__

/* The same for VEC rows. */
INLINE void columns_of_vector(const float *from, int64_t stride, Vec out[4]) {
  const float *from4 = from + 4 * stride, *from8 = from4 + 4 * stride, *from12 = from8 + 4 * stride;
  __m512 x[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    x[i] = _mm512_castps128_ps512(_mm_loadu_ps(from + i * stride));
    x[i] = _mm512_insertf32x4(x[i], _mm_loadu_ps(from4 + i * stride), 1);
    x[i] = _mm512_insertf32x4(x[i], _mm_loadu_ps(from8 + i * stride), 2);
    x[i] = _mm512_insertf32x4(x[i], _mm_loadu_ps(from12 + i * stride), 3);
  }
  const __m512 a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpackhi_ps(x[0], x[1]);
  const __m512 c = _mm512_unpacklo_ps(x[2], x[3]), d = _mm512_unpackhi_ps(x[2], x[3]);
  out[0] = _mm512_shuffle_ps(a, c, 0x44);
  out[1] = _mm512_shuffle_ps(a, c, 0xee);
  out[2] = _mm512_shuffle_ps(b, d, 0x44);
  out[3] = _mm512_shuffle_ps(b, d, 0xee);
}

#else

INLINE void columns_of_vector(const float *from, int64_t stride, Vec out[4]) {
  columns_of_group(from, stride, out);
}

#endif

/* Where links lie in a panel: those of each VEC from one place to the next, in floats. */
typedef struct Places {
  int64_t link[VEC], next;
} Places;

INLINE Places places_of(int64_t width, int64_t count, int chains) {
  Places places = {.next = chains == 1 ? VEC * width : width};
  for (int i = 0; i < VEC; i++) places.link[i] = (chains == 1 ? i : chain_turn[i] * count) * width;
  return places;
}

/* `links` links of `lanes` rows (GROUP or VEC), whole vectors of them but for the last of one chain. */
INLINE void pack_links(float *to, const Places *places, const float *from, int64_t stride, int64_t links,
                       const int lanes) {
  for (int64_t v = 0; v < links; v += VEC, to += places->next) {
#pragma GCC unroll 4
    for (int i = 0; i < VEC; i += 4) {
      __m256 narrow[4];
      Vec wide[4];
      if (lanes == GROUP) {
        columns_of_group(from + v + i, stride, narrow);
      } else {
        columns_of_vector(from + v + i, stride, wide);
      }
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) {
        float *at = to + places->link[i + j];
        if (lanes == GROUP) {
          _mm256_storeu_ps(at, narrow[j]);
        } else {
          vec_store(at, wide[j]);
        }
      }
    }
  }
}

/* A stretch of `width` rows from `row` on, of which `rows` are there. There is room for a vector of links behind it. */
INLINE void pack_along(float *to, int64_t width, const ProductFactor *f, int64_t k, int chains, int64_t row,
                       int64_t rows, Stretch stretch, const int lanes) {
  float room[VEC * STEP] __attribute__((aligned(64)));
  const int64_t first = stretch.first * chains, links = stretch.count * chains;
  const Places places = places_of(width, stretch.count, chains);
  for (int64_t lane = 0; lane < width; lane += lanes) {
    for (int64_t i = 0; i < links; i += STEP) {
      int64_t stride;
      const float *from = rows_of_links(f, k, row + lane, rows - lane, lanes, first + i, room, &stride);
      pack_links(to + lane + i / VEC * places.next, &places, from, stride, min64(STEP, links - i), lanes);
    }
  }
}

/* Links [first, last) of `width` columns from `column` on, of which `columns` are there, of a factor that runs across. */
INLINE void pack_across(float *to, int64_t width, const ProductFactor *f, int64_t column, int64_t columns,
                        int64_t first, int64_t last) {
  for (int64_t l = first; l < last; l++, to += width) {
    const int64_t at = l * f->stride + column;
    for (int64_t i = 0; i < width; i += VEC) {
      const int room = vec_part(width - i), part = (int)max64(0, min64(room, columns - i));
      vec_store_part(to + i,
                     part == 0   ? vec_splat(0.0f)
                     : f->narrow ? vec_load_bf16_part((const uint16_t *)f->data + at + i, part)
                                 : vec_load_part((const float *)f->data + at + i, part),
                     room);
    }
  }
}

#endif
