#include "base/digest.h"

#include <stdio.h>
#include <xxhash.h>

static void write_text(XXH128_hash_t hash, char out[33]) {
  snprintf(out, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

void bytes_digest(const void *bytes, size_t count, char out[33]) {
  write_text(XXH3_128bits(bytes, count), out);
}

uint64_t bytes_hash(const void *bytes, size_t count) {
  const unsigned char *at = bytes;
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < count; i++) hash = (hash ^ at[i]) * 0x100000001b3u;
  return hash;
}

Hash128 bytes_hash128(const void *bytes, size_t count) {
  const XXH128_hash_t hash = XXH3_128bits(bytes, count);
  return (Hash128){hash.high64, hash.low64};
}

uint64_t bytes_hash_seeded(const void *bytes, size_t count, uint64_t seed) {
  return XXH3_64bits_withSeed(bytes, count, seed);
}

/* A Digest is the library's state under our name, so that its header stays here. */
Digest *digest_open(Error *error) {
  XXH3_state_t *state = XXH3_createState();
  if (!state) {
    error_out_of_memory(error, "digest", sizeof(XXH3_state_t *));
    return NULL;
  }
  XXH3_128bits_reset(state);
  return (Digest *)state;
}

void digest_add(Digest *digest, const void *bytes, size_t count) {
  XXH3_128bits_update((XXH3_state_t *)digest, bytes, count);
}

void digest_text(const Digest *digest, char out[33]) {
  write_text(XXH3_128bits_digest((const XXH3_state_t *)digest), out);
}

void digest_close(Digest *digest) {
  XXH3_freeState((XXH3_state_t *)digest);
}
