#include "reward/config.h"

#include <string.h>

const char *const reward_measures[] = {"none", "auto", "loss", "accuracy", NULL};

/* One option a row. */
/* clang-format off */
const Option reward_options[] = {
    MODEL_OPTIONS(RewardStageConfig, common.model)
    LORA_OPTIONS(RewardStageConfig, common.lora, "0", "lora.enabled, no model.adapter")
    DATA_TRAIN_OPTIONS(RewardStageConfig, common.data, "1024")
    ROW_SOURCES("data.reference", RewardStageConfig, common.data.reference, NULL,
        "SFT examples whose mean score is made 0 after training; without it scores are not shifted", .first = true),
    DATA_PAIR_OPTIONS(RewardStageConfig, common.data)
    DATA_PACKING_OPTIONS(RewardStageConfig, common.data)
    OPTIM_OPTIONS(RewardStageConfig, common.optim, "3e-6", "1e-4", "cosine", "1e-5", "1", "2048")
    UPDATE_OPTIONS(RewardStageConfig, common.optim, "64", "1")
    ROW_FLOAT("reward.centring", RewardStageConfig, reward.centring, "0", 0, INFINITY,
        "weight of the mean of (better + worse)^2 over pairs in the loss, e.g. 0.01"),
    ROW_BOOL("reward.cost", RewardStageConfig, reward.cost, "false",
        "a cost model, for cost.path of ppo: scores rise with harm and are above 0 for answers that are labelled unsafe (reward/loss.h)"),
    RUN_OPTIONS(RewardStageConfig, common.run, "200", "data.eval or data.eval_fraction", reward_measures, "loss")
    DEVICE_OPTIONS(RewardStageConfig, common.device)
    GRAPH_OPTIONS(RewardStageConfig, common.device)
    RANK_OPTIONS(RewardStageConfig, common.device)
    SHARD_OPTIONS(RewardStageConfig, common.device)
};
/* clang-format on */
const size_t reward_option_count = sizeof reward_options / sizeof *reward_options;

bool reward_config_check(const RewardStageConfig *config, Error *error) {
  const DataConfig *data = &config->common.data;
  if (!config->reward.cost) return true;
  if (data->reference.count > 0) {
    return error_set(error, ERROR_USAGE,
                     "data.reference: expected none with reward.cost, whose zero point is learnt from the "
                     "labels of safety");
  }
  return strcmp(dataset_pair_label_names[data->pair_label], "safer") == 0 ||
         error_set(error, ERROR_USAGE,
                   "data.pair_label: expected safer with reward.cost, which learns which answer does less "
                   "harm; found %s",
                   dataset_pair_label_names[data->pair_label]);
}
