/* One answer being generated: what the caller asks for and what comes back.
 *
 * The caller owns the sample and every array in it. The ids are the ones that were sampled and go to training
 * as they are: text is never tokenised again. */
#ifndef ROLLOUT_SAMPLE_H
#define ROLLOUT_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum RolloutFinish {
  ROLLOUT_UNFINISHED, /* running, waiting, or abandoned */
  ROLLOUT_EOS,        /* the last id of the response is one of the EOS ids */
  ROLLOUT_STOP,       /* a stop string was completed by the last id */
  ROLLOUT_LENGTH      /* max_new_tokens, or the engine's max_length, was reached */
} RolloutFinish;

const char *rollout_finish_name(RolloutFinish finish); /* "eos", "stop", "length", "unfinished" */

typedef struct RolloutSample {
  /* asked for */
  const int32_t *prompt; /* at least one id. Samples with equal prompt pointer and length share its cache */
  int64_t prompt_length;
  int64_t max_new_tokens;
  uint64_t number; /* random numbers are drawn for (seed, number, index in the response): give every sample of
                      a run its own, counted on through all rollouts (PPO: the episode), never reused */
  void *user;      /* the caller's own */

  /* comes back */
  int32_t *response; /* [max_new_tokens]; EOS included */
  float *
      logprobs; /* [max_new_tokens], nats, under temperature and edits of logits (no top-k, top-p); or NULL */
  int64_t length; /* tokens in the response */
  RolloutFinish finished;

  struct RolloutSample *next; /* the engine's: the queue of waiting samples */
} RolloutSample;

/* The most tokens of the answers to a prompt, the number `prompt` of those that a run gives to its policy: anything from least to most, as
 * likely; a function of seed and number. */
int64_t rollout_limit(uint64_t seed, uint64_t prompt, int64_t least, int64_t most);

/* Whether it ended by itself: by an EOS id or a stop string. */
static inline bool rollout_ended(const RolloutSample *sample) {
  return sample->finished == ROLLOUT_EOS || sample->finished == ROLLOUT_STOP;
}

#endif
