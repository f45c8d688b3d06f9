/* What tests of tokenizers share. */
#ifndef TESTS_SUPPORT_TOKENS_H
#define TESTS_SUPPORT_TOKENS_H

#include "tokenizer/tokenizer.h"

/* FNV-1a of 32 bits over more bytes; begin with FNV_START. */
enum { FNV_PRIME = 0x01000193 };
#define FNV_START 0x811c9dc5u
static inline uint32_t fnv_add(uint32_t state, const void *bytes, size_t count) {
  for (size_t i = 0; i < count; i++) state = (state ^ ((const uint8_t *)bytes)[i]) * FNV_PRIME;
  return state;
}

/* The characters of which a span has bytes, as `tokenizers` counts. */
static inline TokenSpan whole_characters(const char *text, size_t bytes, TokenSpan span) {
  while (span.begin > 0 && span.begin < bytes && ((unsigned char)text[span.begin] & 0xc0) == 0x80)
    span.begin--;
  while (span.end < bytes && ((unsigned char)text[span.end] & 0xc0) == 0x80) span.end++;
  return span;
}

#endif
