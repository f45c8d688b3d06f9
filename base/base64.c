#include "base/base64.h"

#include <stdint.h>

static int digit_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool base64_decode(const char *text, size_t bytes, Buffer *out, Error *error) {
  if (bytes % 4 != 0) return error_set(error, ERROR_MODEL, "base64 text ends early: %zu characters", bytes);
  for (size_t at = 0; at < bytes; at += 4) {
    size_t digits = 4;
    uint32_t value = 0;
    if (at + 4 == bytes)
      while (digits > 2 && text[at + digits - 1] == '=') digits--;
    for (size_t i = 0; i < digits; i++) {
      int digit = digit_of(text[at + i]);
      if (digit < 0) return error_set(error, ERROR_MODEL, "character %zu is not base64", at + i);
      value |= (uint32_t)digit << (18 - 6 * i);
    }
    char group[3] = {(char)(value >> 16), (char)(value >> 8), (char)value};
    if ((value & (0xffffffu >> 8 * (digits - 1)) & 0xffffffu) != 0)
      return error_set(error, ERROR_MODEL, "base64 text ends with bits that are no byte's");
    if (!buffer_append(out, group, digits - 1, error)) return false;
  }
  return true;
}
