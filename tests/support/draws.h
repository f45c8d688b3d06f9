/* The draws of dropout as DropoutSpec (compute/ops.h) has them, one at a time. */
#ifndef TESTS_SUPPORT_DRAWS_H
#define TESTS_SUPPORT_DRAWS_H

#include "base/random.h"

static inline float dropout_draw(RandomKey key, uint32_t site, int32_t draw, int32_t position,
                                 int64_t column) {
  const uint32_t counter[4] = {(uint32_t)(column / 4), site, (uint32_t)position, (uint32_t)draw};
  uint32_t word[4];
  philox4x32(counter, key, word);
  return (float)(word[column % 4] >> 8) * 0x1p-24f;
}

#endif
