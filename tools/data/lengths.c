#include "tools/data/lengths.h"

#include <math.h>

static size_t place_of(uint64_t value) {
  if (value < 128) return (size_t)value;
  const int exponent = 63 - __builtin_clzll(value); /* 7 and more */
  return 128 + 64 * (size_t)(exponent - 7) + (size_t)(value >> (exponent - 6) & 63);
}

static uint64_t value_of(size_t place) {
  if (place < 128) return place;
  const size_t exponent = (place - 128) / 64 + 7;
  return (64 + (place - 128) % 64) << (exponent - 6);
}

void lengths_add(Lengths *lengths, uint64_t value) {
  lengths->places[place_of(value)]++;
  lengths->sum += value;
  if (lengths->count == 0 || value < lengths->least) lengths->least = value;
  if (value > lengths->most) lengths->most = value;
  lengths->count++;
}

double lengths_mean(const Lengths *lengths) {
  return lengths->count ? (double)lengths->sum / (double)lengths->count : 0;
}

uint64_t lengths_quantile(const Lengths *lengths, double share) {
  if (lengths->count == 0) return 0;
  if (share <= 0) return lengths->least;
  if (share >= 1) return lengths->most;
  const uint64_t rank = (uint64_t)llround(share * (double)(lengths->count - 1));
  uint64_t seen = 0;
  for (size_t place = 0; place < LENGTH_PLACES; place++) {
    seen += lengths->places[place];
    if (seen > rank) return value_of(place) < lengths->least ? lengths->least : value_of(place);
  }
  return lengths->most;
}

uint64_t lengths_between(const Lengths *lengths, uint64_t from, uint64_t to) {
  uint64_t count = 0;
  const size_t end = to >> 63 ? LENGTH_PLACES : place_of(to);
  for (size_t place = place_of(from); place < end; place++) count += lengths->places[place];
  return count;
}
