#include "base/random.h"

#include <math.h>

/* Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014: the finaliser of
 * SplitMix64, a bijection whose every output bit depends on every input bit. */
static uint64_t mix64(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

uint64_t random_seed(uint64_t seed, RandomPurpose purpose) {
  /* Mixed twice, so that seed and purpose cannot trade: (1, 2) and (2, 1) give unrelated ones. */
  return mix64(mix64(seed) + (uint64_t)purpose);
}

RandomKey random_key(uint64_t seed, RandomPurpose purpose) {
  const uint64_t mixed = random_seed(seed, purpose);
  return (RandomKey){{(uint32_t)mixed, (uint32_t)(mixed >> 32)}};
}

void philox4x32(const uint32_t counter[4], RandomKey key, uint32_t out[4]) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = key.word[0], k1 = key.word[1];
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xd2511f53u * c0, p1 = (uint64_t)0xcd9e8d57u * c2;
    c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)p1;
    c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)p0;
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

static void draw(RandomKey key, uint64_t sample, uint64_t position, uint32_t out[4]) {
  const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), (uint32_t)sample,
                               (uint32_t)(sample >> 32)};
  philox4x32(counter, key, out);
}

float random_uniform(RandomKey key, uint64_t sample, uint64_t position) {
  uint32_t word[4];
  draw(key, sample, position, word);
  return (float)(word[0] >> 8) * 0x1p-24f;
}

float random_normal(RandomKey key, uint64_t sample, uint64_t position) {
  uint32_t word[4];
  draw(key, sample, position, word);
  double radius = sqrt(-2.0 * log(((double)word[0] + 1.0) * 0x1p-32)); /* of (0,1]: never log 0 */
  double angle = 6.283185307179586 * ((double)word[1] * 0x1p-32);
  return (float)(radius * cos(angle));
}

uint32_t random_below(RandomKey key, uint64_t sample, uint64_t position, uint32_t limit) {
  uint32_t word[4];
  draw(key, sample, position, word);
  /* The high 64 of the 96 bits of (64 random bits) * limit, in two 32-bit steps. */
  uint64_t low = (uint64_t)word[0] * limit, high = (uint64_t)word[1] * limit;
  return (uint32_t)((high + (low >> 32)) >> 32);
}

void random_permutation(RandomKey key, uint64_t sample, uint32_t *order, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) order[i] = i;
  for (uint32_t i = count; i > 1; i--) {
    uint32_t j = random_below(key, sample, i - 1, i);
    uint32_t kept = order[i - 1];
    order[i - 1] = order[j];
    order[j] = kept;
  }
}
