#include "sft/config.h"

const char *const sft_measures[] = {"none", "auto", "loss", NULL};

/* clang-format off */
const Option sft_options[] = {
    MODEL_OPTIONS(SupervisedConfig, model)
    LORA_OPTIONS(SupervisedConfig, lora, "0.05", "lora.enabled, no model.adapter")
    DATA_TRAIN_OPTIONS(SupervisedConfig, data, "1024")
    DATA_PACKING_OPTIONS(SupervisedConfig, data)
    DATA_MASK_OPTIONS(SupervisedConfig, data)
    OPTIM_OPTIONS(SupervisedConfig, optim, "2e-5", "2e-4", "cosine", "1e-8", "1", "2048")
    UPDATE_OPTIONS(SupervisedConfig, optim, "32", "1")
    RUN_OPTIONS(SupervisedConfig, run, "200", "data.eval or data.eval_fraction", sft_measures, "loss")
    DEVICE_OPTIONS(SupervisedConfig, device)
    GRAPH_OPTIONS(SupervisedConfig, device)
    RANK_OPTIONS(SupervisedConfig, device)
    SHARD_OPTIONS(SupervisedConfig, device)
};
/* clang-format on */
const size_t sft_option_count = sizeof sft_options / sizeof *sft_options;
