/* The driver's management library (NVML), loaded when it is there: it sees a card's memory without a context on
 * the card, which would itself take some hundred megabytes. */
#ifndef COMPUTE_CUDA_NVML_H
#define COMPUTE_CUDA_NVML_H

#include <stdbool.h>
#include <stddef.h>

/* Memory of the card at a PCI address ("0000:3B:00.0") in bytes. False, and nothing written, without the library
 * or where it does not tell (some containers, parts of cards). */
bool nvml_memory(const char *address, size_t *free, size_t *total);

#endif
