#include "rollout/sample.h"

#include "base/random.h"

const char *rollout_finish_name(RolloutFinish finish) {
  switch (finish) {
    case ROLLOUT_EOS:
      return "eos";
    case ROLLOUT_STOP:
      return "stop";
    case ROLLOUT_LENGTH:
      return "length";
    case ROLLOUT_UNFINISHED:
      break;
  }
  return "unfinished";
}

int64_t rollout_limit(uint64_t seed, uint64_t prompt, int64_t least, int64_t most) {
  const RandomKey key = random_key(seed, RANDOM_LIMIT);
  return least + random_below(key, prompt, 0, (uint32_t)(most - least + 1));
}
