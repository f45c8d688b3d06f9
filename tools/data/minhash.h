/* MinHash (Broder, "On the resemblance and containment of documents", 1997) with banding (Leskovec, Rajaraman, Ullman,
 * "Mining of Massive Datasets", section 3.4).
 *
 * A text is the set of its shingles: all its n-grams of units, one after the other; a text of fewer than n units is one shingle,
 * an empty one has none. The resemblance of two texts is |A and B| / |A or B| of these sets. Of each of some random
 * permutations the smallest value of a set is kept; two sets agree in one with a probability that is their resemblance s. The
 * values are taken in `bands` groups of `rows`, and two texts become candidates when all values of some group agree: with
 * the probability 1 - (1 - s^rows)^bands. Only a key of each band is kept: 8 bytes.
 *
 * A permutation is multiply-add-shift (Dietzfelbinger, "Universal hashing and k-wise independent random variables via integer
 * arithmetic without primes", 1996) of the upper 32 bits of a shingle's hash. */
#ifndef TOOLS_DATA_MINHASH_H
#define TOOLS_DATA_MINHASH_H

#include "base/memory.h"

#include <stdint.h>

typedef struct Shingles {
  uint64_t *data; /* hashes */
  size_t size, capacity;
} Shingles;

/* Replaces what is there by the shingles of `count` units, as they come. */
NODISCARD bool shingles_cut(Shingles *shingles, const uint32_t *units, size_t count, int n, Error *error);
void shingles_sort(Shingles *shingles); /* by rising value, each once */
void shingles_free(Shingles *shingles);
double shingles_resemblance(const Shingles *a, const Shingles *b); /* of sorted ones; 0 when both are empty */

/* The most rows, of which the curve is steepest, that find a pair at the threshold with at least this probability. */
#define BANDS_FIND 0.99
/* Fills bands and rows, bands * rows <= permutations. With few permutations one row has to do, whatever it finds. */
void bands_choose(double threshold, int permutations, int *bands, int *rows);
/* The probability that a pair of this resemblance becomes candidates. */
double bands_find(double resemblance, int bands, int rows);

typedef struct MinHash {
  int bands, rows;
  uint64_t *multiply, *add; /* bands * rows permutations */
  uint32_t *least;
} MinHash;

NODISCARD bool minhash_init(MinHash *minhash, int bands, int rows, uint64_t seed, Error *error);
void minhash_free(MinHash *minhash);
/* The values of shingles in any order, at least one; bands * rows of them; valid until the next call. */
const uint32_t *minhash_values(MinHash *minhash, const Shingles *shingles);
/* The key of each band. */
void minhash_keys(MinHash *minhash, const Shingles *shingles, uint64_t *keys);

#endif
