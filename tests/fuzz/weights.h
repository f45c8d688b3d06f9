/* Any bytes as a file of weights: it opens and can be read throughout, or it is refused with ERROR_MODEL and a message that names it. Anything
 * else ends the program. */
#ifndef TESTS_FUZZ_WEIGHTS_H
#define TESTS_FUZZ_WEIGHTS_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* By its first bytes a pickle, GGUF or safetensors. `message`: why it was refused, "" when it was read. */
bool weights_try(const uint8_t *data, size_t size, Error *error);

#endif
