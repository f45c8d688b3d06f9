#include "tools/data/minhash.h"

#include "base/digest.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

/* ---- Shingles -------------------------------------------------------------------------------------- */

static int compare_hashes(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

bool shingles_cut(Shingles *shingles, const uint32_t *units, size_t count, int n, Error *error) {
  const size_t wide = count < (size_t)n ? count : (size_t)n, all = count ? count - wide + 1 : 0;
  if (all > shingles->capacity) {
    uint64_t *data = memory_resize(shingles->data, all * sizeof *data);
    if (!data) return error_out_of_memory(error, "shingles of a record", all * sizeof *data);
    shingles->data = data;
    shingles->capacity = all;
  }
  for (size_t i = 0; i < all; i++) shingles->data[i] = bytes_hash_seeded(units + i, wide * sizeof *units, 0);
  shingles->size = all;
  return true;
}

void shingles_sort(Shingles *shingles) {
  const size_t all = shingles->size;
  uint64_t *data = shingles->data;
  if (all) qsort(data, all, sizeof *data, compare_hashes);
  shingles->size = 0;
  for (size_t i = 0; i < all; i++) {
    if (i == 0 || data[i] != data[i - 1]) data[shingles->size++] = data[i];
  }
}

void shingles_free(Shingles *shingles) {
  memory_free(shingles->data);
  *shingles = (Shingles){0};
}

double shingles_resemblance(const Shingles *a, const Shingles *b) {
  size_t both = 0;
  for (size_t i = 0, k = 0; i < a->size && k < b->size;) {
    const uint64_t x = a->data[i], y = b->data[k];
    both += x == y;
    i += x <= y;
    k += y <= x;
  }
  const size_t either = a->size + b->size - both;
  return either ? (double)both / (double)either : 0;
}

/* ---- Bands ----------------------------------------------------------------------------------------- */

double bands_find(double resemblance, int bands, int rows) {
  return 1 - pow(1 - pow(resemblance, rows), bands);
}

void bands_choose(double threshold, int permutations, int *bands, int *rows) {
  *rows = 1;
  for (int r = 2; r <= permutations; r++) {
    if (bands_find(threshold, permutations / r, r) >= BANDS_FIND) *rows = r;
  }
  *bands = permutations / *rows;
}

/* ---- Values ---------------------------------------------------------------------------------------- */

bool minhash_init(MinHash *minhash, int bands, int rows, uint64_t seed, Error *error) {
  const size_t count = (size_t)bands * (size_t)rows;
  *minhash = (MinHash){.bands = bands, .rows = rows};
  minhash->multiply = memory_alloc(count * sizeof *minhash->multiply);
  minhash->add = memory_alloc(count * sizeof *minhash->add);
  minhash->least = memory_alloc(count * sizeof *minhash->least);
  if (!minhash->multiply || !minhash->add || !minhash->least) {
    minhash_free(minhash);
    return error_out_of_memory(error, "permutations", count * 20);
  }
  const RandomKey key = random_key(seed, RANDOM_MINHASH);
  for (size_t i = 0; i < count; i++) {
    const uint32_t counter[4] = {(uint32_t)i, 0, 0, 0};
    uint32_t word[4];
    philox4x32(counter, key, word);
    minhash->multiply[i] = (uint64_t)word[0] << 32 | word[1];
    minhash->add[i] = (uint64_t)word[2] << 32 | word[3];
  }
  return true;
}

void minhash_free(MinHash *minhash) {
  memory_free(minhash->multiply);
  memory_free(minhash->add);
  memory_free(minhash->least);
  *minhash = (MinHash){0};
}

const uint32_t *minhash_values(MinHash *minhash, const Shingles *shingles) {
  const size_t count = (size_t)minhash->bands * (size_t)minhash->rows;
  const uint64_t *multiply = minhash->multiply, *add = minhash->add;
  uint32_t *least = minhash->least;
  for (size_t i = 0; i < count; i++) least[i] = UINT32_MAX;
  for (size_t k = 0; k < shingles->size; k++) {
    const uint64_t x = shingles->data[k] >> 32;
    for (size_t i = 0; i < count; i++) {
      const uint32_t value = (uint32_t)((multiply[i] * x + add[i]) >> 32);
      least[i] = value < least[i] ? value : least[i];
    }
  }
  return least;
}

void minhash_keys(MinHash *minhash, const Shingles *shingles, uint64_t *keys) {
  const uint32_t *values = minhash_values(minhash, shingles);
  const size_t rows = (size_t)minhash->rows;
  for (int band = 0; band < minhash->bands; band++) {
    keys[band] = bytes_hash_seeded(values + (size_t)band * rows, rows * sizeof *values, (uint64_t)band);
  }
}
