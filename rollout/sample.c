#include "rollout/sample.h"

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
