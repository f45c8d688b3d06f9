#include "sft/config.h"

#include "datasets/dataset.h"

/* clang-format off */
const Option sft_options[] = {
    MODEL_OPTIONS(SftConfig, model)
    LORA_OPTIONS(SftConfig, lora, "0.05")
    DATA_TRAIN_OPTIONS(SftConfig, data, "1024")
    DATA_PACKING_OPTIONS(SftConfig, data)
    DATA_MASK_OPTIONS(SftConfig, data)
    OPTIM_OPTIONS(SftConfig, optim, "2e-5", "cosine", "1e-8", "2048")
    UPDATE_OPTIONS(SftConfig, optim, "32", "1")
    RUN_OPTIONS(SftConfig, run)
    DEVICE_OPTIONS(SftConfig, device)
};
/* clang-format on */
const size_t sft_option_count = sizeof sft_options / sizeof *sft_options;

bool sft_config_check(const SftConfig *config, Error *error) {
  if (config->data.eval.count && config->data.eval_fraction > 0) {
    return error_set(error, ERROR_USAGE, "data.eval and data.eval_fraction are both given: choose one");
  }
  return true;
}
