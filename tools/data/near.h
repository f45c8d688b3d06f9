/* Near duplicates: records in groups, in which each resembles another one at least as much as the threshold says.
 *
 * Candidates come from the bands of MinHash (minhash.h); each pair of them is then compared by its shingles themselves, read
 * again from a spool, so that nothing below the threshold is ever joined (but for hashes that collide: 2^-32 per word). What may be
 * missed is a pair that shares no band: bands_find says how often.
 *
 * In a band, a record is compared with at most MOST_COMPARED of the earlier ones of the same key, so that texts that share a long
 * boilerplate take no quadratic time: when there are more, members of a group give way to those of others, and the oldest to the
 * latest; how many were let go is counted.
 *
 * The result is a function of the texts, their order and the seed. Memory: 8 bytes per record and band, 20 per record, and 16
 * while a band is sorted. On disk: 4 bytes per unit (spool.h). */
#ifndef TOOLS_DATA_NEAR_H
#define TOOLS_DATA_NEAR_H

#include "tools/data/minhash.h"
#include "tools/data/spool.h"

enum { MOST_COMPARED = 256 };

typedef struct Near {
  MinHash minhash;
  double threshold;
  int n; /* units of a shingle */
  Shingles shingles;
  Spool spool;
  uint64_t *keys;    /* `bands` of each record */
  uint32_t *records; /* what the caller calls each, rising */
  uint32_t *parents; /* an earlier one of the same group, itself for the first; after near_finish the first */
  size_t count, capacity;
  uint64_t compared; /* pairs */
  uint64_t left_out; /* records that later ones of their key were no longer compared with */
} Near;

/* The spool lies beside `place`. */
NODISCARD bool near_init(Near *near, double threshold, int permutations, int n, uint64_t seed,
                         const char *place, Error *error);
void near_free(Near *near); /* fine for a zeroed one */
/* Records by rising numbers. One without units resembles none. */
NODISCARD bool near_add(Near *near, uint32_t record, const uint32_t *units, size_t count, Error *error);
/* Compares; afterwards near_first can be asked. */
NODISCARD bool near_finish(Near *near, Error *error);
/* The first record of the group of the i-th that was added. */
uint32_t near_first(const Near *near, size_t i);

#endif
