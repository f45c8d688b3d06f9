#include "tools/data/split.h"

#include "base/digest.h"

bool split_is_eval(uint64_t prompt, uint64_t seed, double fraction) {
  return (double)bytes_hash_seeded(&prompt, sizeof prompt, seed) * 0x1p-64 < fraction;
}
