/* Digests against damage, not against attack: 128-bit XXH3, as 32 hexadecimal digits and NUL. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

void bytes_digest(const void *bytes, size_t count, char out[33]);

/* FNV-1a of 64 bits: for tables, and for the held-out split of a data set, so it must not change. */
uint64_t bytes_hash(const void *bytes, size_t count);

/* XXH3 as numbers, for large tables. Of N texts some two that differ have one Hash128 with a probability below N * N / 2^129. */
typedef struct Hash128 {
  uint64_t high, low;
} Hash128;
Hash128 bytes_hash128(const void *bytes, size_t count);
uint64_t bytes_hash_seeded(const void *bytes, size_t count, uint64_t seed); /* 64 bits */

/* The digest of bytes that come one after the other: equal to bytes_digest of all of them. */
typedef struct Digest Digest;
NODISCARD Digest *digest_open(Error *error); /* NULL: ERROR_MEMORY */
void digest_add(Digest *digest, const void *bytes, size_t count);
void digest_text(const Digest *digest, char out[33]); /* of what was added so far */
void digest_close(Digest *digest);                    /* NULL is fine */

#endif
