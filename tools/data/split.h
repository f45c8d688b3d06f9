/* Training or evaluation, by the prompt alone.
 *
 * A record is for evaluation when a hash of (seed, hash of its prompt), taken as a number in [0, 1), is below the fraction. So
 * a prompt stays on its side whatever else comes into the file, equal prompts are on one side, and a larger fraction takes all that
 * a smaller one does. */
#ifndef TOOLS_DATA_SPLIT_H
#define TOOLS_DATA_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

bool split_is_eval(uint64_t prompt, uint64_t seed, double fraction);

#endif
