#include "reward/config.h"

#include "datasets/dataset.h"

/* clang-format off: one option a row */
const Option reward_options[] = {
    MODEL_OPTIONS(RewardStageConfig, model) LORA_OPTIONS(RewardStageConfig, lora, "0")
        DATA_TRAIN_OPTIONS(RewardStageConfig, data, "1024") ROW_SOURCES(
            "data.reference", RewardStageConfig, reference, NULL,
            "SFT examples whose mean score is made 0 after training; without it scores are not shifted"),
    DATA_PACKING_OPTIONS(RewardStageConfig, data)
        OPTIM_OPTIONS(RewardStageConfig, optim, "3e-6", "cosine", "1e-5", "2048")
            UPDATE_OPTIONS(RewardStageConfig, optim, "64", "1")
                ROW_FLOAT("reward.centring", RewardStageConfig, reward.centring, "0", 0, INFINITY,
                          "weight of the mean of (chosen + rejected)^2 in the loss, e.g. 0.01"),
    RUN_OPTIONS(RewardStageConfig, run) DEVICE_OPTIONS(RewardStageConfig, device)};
/* clang-format on */

const size_t reward_option_count = sizeof reward_options / sizeof *reward_options;

bool reward_config_check(const RewardStageConfig *config, Error *error) {
  if (config->data.eval.count && config->data.eval_fraction > 0) {
    return error_set(error, ERROR_USAGE, "data.eval and data.eval_fraction are both given: choose one");
  }
  return true;
}
