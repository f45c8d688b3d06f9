/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011).
 *
 * A draw is a pure function of (seed, purpose, sample, position), so it depends neither on batch size nor on
 * order or thread count (DESIGN decision 7), and nothing has to be saved but the seed and the counters. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/* What a stream of draws is for. Values are part of the reproducibility contract: append, never reorder. */
typedef enum RandomPurpose {
  RANDOM_INIT = 1, /* weights; sample = parameter, position = element */
  RANDOM_LORA_INIT = 2,
  RANDOM_SHUFFLE = 3, /* data order; sample = epoch */
  RANDOM_SAMPLE = 4,  /* sampled tokens; sample = rollout sample number, position = token */
  RANDOM_DROPOUT = 5, /* DropoutSpec (compute/ops.h) */
  RANDOM_DEMO = 6,    /* demo data generator */
  RANDOM_BLEND = 7,   /* choice of the file in a weighted blend */
  RANDOM_MINIBATCH = 8,
  RANDOM_PRETRAIN = 9, /* random_seed of PPO's ptx data */
  RANDOM_MINHASH = 10, /* permutations; sample = permutation */
  RANDOM_LIMIT = 11,   /* longest answers of a prompt; sample = prompt of the run */
  RANDOM_PLACE = 12,   /* places of answers to look at; sample = rollout sample, position = token */
  RANDOM_TEST = 100
} RandomPurpose;

typedef struct RandomKey {
  uint32_t word[2];
} RandomKey;

RandomKey random_key(uint64_t seed, RandomPurpose purpose);
/* A seed of its own for a part that has several purposes in it. */
uint64_t random_seed(uint64_t seed, RandomPurpose purpose);

/* The raw block function: four 32-bit words. */
void philox4x32(const uint32_t counter[4], RandomKey key, uint32_t out[4]);

/* Uniform in [0,1), 24 bits. */
float random_uniform(RandomKey key, uint64_t sample, uint64_t position);
/* Standard normal (Box-Muller on two words of one block). */
float random_normal(RandomKey key, uint64_t sample, uint64_t position);
/* Uniform in 0 .. limit-1, without modulo bias to speak of (64-bit multiply-shift); limit > 0. */
uint32_t random_below(RandomKey key, uint64_t sample, uint64_t position, uint32_t limit);

/* A permutation of 0 .. count-1 (Fisher-Yates), a function of key and sample alone. */
void random_permutation(RandomKey key, uint64_t sample, uint32_t *order, uint32_t count);

#endif
