/* Digests of the weights in a directory, cheap for any size: to tell whether two directories, or one directory at two
 * times, hold the same weights.
 *
 * What they cover, of each tensor that the model is made of: its name (without the architecture's prefix, which not all
 * files write), its shape, and its content: all of it up to 16384 elements; of a larger one 16 runs of 1024 elements,
 * spread evenly from the first to the last. Training changes nearly every element of what it trains, so other weights
 * differ there; a change of single elements may be missed, for this is against mistakes and not against damage. A
 * 7B model costs 20 MB of reading.
 * What they do not: how tensors lie in files, buffers (causal masks, rotary tables), a tied head's copy, config.json.
 * Of an adapter all tensors, and adapter_config.json as it stands.
 *
 * They are stored with results (train/identity.h): what they are must not change. */
#ifndef MODEL_DIGEST_H
#define MODEL_DIGEST_H

#include "base/error.h"

typedef struct WeightsDigest {
  char exact[33];   /* of types and bytes */
  char rounded[33]; /* of values as BF16: the same for a copy of the weights in bf16 and in fp32 */
} WeightsDigest;

/* Of a model directory, or an adapter's (one with adapter_config.json). ERROR_MODEL, ERROR_FILE as on loading. */
NODISCARD bool weights_digest(WeightsDigest *out, const char *directory, Error *error);

#endif
