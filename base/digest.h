/* Digests against damage, not against attack: 128-bit XXH3, as 32 hexadecimal digits and NUL. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

void bytes_digest(const void *bytes, size_t count, char out[33]);

/* FNV-1a of 64 bits: for tables, and for the held-out split of a data set, so it must not change. */
uint64_t bytes_hash(const void *bytes, size_t count);

/* The digest of bytes that come one after the other: equal to bytes_digest of all of them. */
typedef struct Digest Digest;
NODISCARD Digest *digest_open(Error *error); /* NULL: ERROR_MEMORY */
void digest_add(Digest *digest, const void *bytes, size_t count);
void digest_text(const Digest *digest, char out[33]); /* of what was added so far */
void digest_close(Digest *digest);                    /* NULL is fine */

#endif
