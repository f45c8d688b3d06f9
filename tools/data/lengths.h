/* The distribution of a length in constant memory.
 *
 * Up to 127 every value has a place of its own, beyond that 64 places share each power of two: a quantile is at most 1.6 % too low.
 * Least, most and mean are exact. */
#ifndef TOOLS_DATA_LENGTHS_H
#define TOOLS_DATA_LENGTHS_H

#include <stddef.h>
#include <stdint.h>

enum { LENGTH_PLACES = 128 + 64 * 57 };

typedef struct Lengths {
  uint64_t places[LENGTH_PLACES];
  uint64_t count, sum, least, most;
} Lengths;

void lengths_add(Lengths *lengths, uint64_t value);
double lengths_mean(const Lengths *lengths);
/* The value at rank share * (count - 1), rounded; 0 when there is none. */
uint64_t lengths_quantile(const Lengths *lengths, double share);
/* How many lie from `from` to below `to`, both powers of two, 0, or 2^63 and more for all. */
uint64_t lengths_between(const Lengths *lengths, uint64_t from, uint64_t to);

#endif
