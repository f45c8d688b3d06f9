/* Arrays of the files in tests/fixtures/, and how they are compared.
 *
 * A file or array that is not there fails the running cmocka test. */
#ifndef TESTS_SUPPORT_FIXTURE_H
#define TESTS_SUPPORT_FIXTURE_H

#include "formats/safetensors.h"

#include <stdint.h>

typedef struct Fixture {
  SafetensorsFile file;
  void **arrays; /* handed out, freed at close */
  size_t count;
} Fixture;

/* name: path under tests/fixtures/ without ".safetensors". */
void fixture_open(Fixture *fixture, const char *name);
void fixture_close(Fixture *fixture);
bool fixture_has(const Fixture *fixture, const char *name);
/* A whole array, valid until close. count may be NULL. */
const float *fixture_floats(Fixture *fixture, const char *name, int64_t *count);
const int32_t *fixture_ints(Fixture *fixture, const char *name, int64_t *count);
float fixture_float(Fixture *fixture, const char *name); /* of an array of one */

/* PATH under tests/fixtures/, as a string in `out`. */
const char *fixture_path(char *out, size_t size, const char *folder, const char *name);

/* max |a - b|; infinity when there is a NaN. */
double largest_difference(const float *a, const float *b, int64_t count);
/* |a - b| / |b| in the 2-norm; infinity when there is a NaN, or b is 0 and a is not. */
double relative_difference(const float *a, const float *b, int64_t count);

/* Fail the test, naming what was compared, when the difference is above the tolerance. */
void assert_near(const char *what, const float *a, const float *b, int64_t count, double tolerance);
void assert_relative(const char *what, const float *a, const float *b, int64_t count, double tolerance);
void assert_number(const char *what, double a, double b, double tolerance); /* absolute */

#endif
