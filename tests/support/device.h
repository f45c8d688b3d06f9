/* The backend that a test of the model runs on, and the values of tensors in its memory, which the host may not be
 * able to touch. Failures fail the running cmocka test. */
#ifndef TESTS_SUPPORT_DEVICE_H
#define TESTS_SUPPORT_DEVICE_H

#include "base/random.h"
#include "compute/compute.h"

#include <stdint.h>

/* The environment variable DROVER_TEST_BACKEND (auto, cpu, cuda) names it; auto without one. A run that is there
 * for CUDA names it, so that it cannot pass on the CPU. */
void test_device_open(Compute *compute, int threads);
void device_arena(Compute *compute, Arena *arena, const char *name, size_t bytes);

/* Whether DROVER_TEST_BRIEF asks for fewer shapes and cases: of an emulated card, where a launch takes a millisecond.
 */
bool device_brief(void);

/* Whether products with BF16 weights take activations in BF16 too: because those are, or on the way into a processor's
 * matrix unit. */
bool device_narrows(const Compute *compute);

/* Whether the backend has memory of its own beside the host's. */
bool device_offloads(void);

/* All elements of a contiguous tensor of floats, widened to F32; free() them. */
float *device_values(Compute *compute, Tensor tensor);
/* And back, rounded to the type of the tensor. */
void device_write(Compute *compute, Tensor tensor, const float *values);
/* Element i = centre + scale * random_normal(key, sample, i). */
void device_random(Compute *compute, Tensor tensor, RandomKey key, uint64_t sample, float centre,
                   float scale);
/* Every byte of the arena becomes 0xff, NaN for floats: what is read before it is written shows. */
void device_spoil(Compute *compute, const Arena *arena);

#endif
