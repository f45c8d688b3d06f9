#include "dpo/config.h"

const char *const dpo_measures[] = {"none", "auto", "loss", "accuracy", "margin", NULL};

/* One option a row. */
/* clang-format off */
const Option dpo_options[] = {
    MODEL_OPTIONS(DpoStageConfig, common.model)
    LORA_OPTIONS(DpoStageConfig, common.lora, "0", "lora.enabled, no model.adapter")
    DATA_TRAIN_OPTIONS(DpoStageConfig, common.data, "1024")
    DATA_PAIR_OPTIONS(DpoStageConfig, common.data)
    DATA_PACKING_OPTIONS(DpoStageConfig, common.data)
    OPTIM_OPTIONS(DpoStageConfig, common.optim, "1e-6", "1e-5", "linear", "1e-8", "1", "2048")
    UPDATE_OPTIONS(DpoStageConfig, common.optim, "32", "1")
    ROW_CHOICE("dpo.loss", DpoStageConfig, dpo.loss, "sigmoid", dpo_loss_names,
        "what a pair costs (docs/dpo.md): sigmoid is DPO's own; orpo and simpo have no reference; kto and apo_zero_unpaired "
        "learn from single answers that are labelled good or bad",
        .first = true),
    ROW_FLOAT("dpo.beta", DpoStageConfig, dpo.beta, "0.1", 0.000001, INFINITY,
        "how closely the policy is held to the reference; orpo: weight of the odds ratio; simpo: scale of the "
        "mean log-probability, usually 2 or more", .first = true),
    ROW_FLOAT("dpo.label_smoothing", DpoStageConfig, dpo.label_smoothing, "0", 0, 0.5,
        "probability that a pair is the wrong way round (conservative DPO; robust: below 0.5)",
        .when = "dpo.loss = sigmoid or dpo.loss = robust or dpo.loss = simpo"),
    ROW_FLOAT("dpo.gamma", DpoStageConfig, dpo.gamma, "0.5", 0, INFINITY,
        "margin that the better answer's reward is to have over the worse one's", .when = "dpo.loss = simpo"),
    ROW_FLOAT("dpo.sft_coef", DpoStageConfig, dpo.sft_coef, "0", 0, INFINITY,
        "weight of the better answer's negative log-likelihood per token (RPO)",
        .when = "dpo.loss != orpo, dpo.loss != kto, dpo.loss != apo_zero_unpaired"),
    ROW_FLOAT("dpo.desirable_weight", DpoStageConfig, dpo.desirable_weight, "1", 0.000001, INFINITY,
        "weight of the answers that are labelled good", .when = "dpo.loss = kto or dpo.loss = apo_zero_unpaired"),
    ROW_FLOAT("dpo.undesirable_weight", DpoStageConfig, dpo.undesirable_weight, "1", 0.000001, INFINITY,
        "weight of the answers that are labelled bad", .when = "dpo.loss = kto or dpo.loss = apo_zero_unpaired"),
    RUN_OPTIONS(DpoStageConfig, common.run, "200", "data.eval or data.eval_fraction", dpo_measures, "loss")
    DEVICE_OPTIONS(DpoStageConfig, common.device)
    GRAPH_OPTIONS(DpoStageConfig, common.device)
    RANK_OPTIONS(DpoStageConfig, common.device)
    SHARD_OPTIONS(DpoStageConfig, common.device)
};
/* clang-format on */
const size_t dpo_option_count = sizeof dpo_options / sizeof *dpo_options;

bool dpo_config_check(const DpoStageConfig *config, Error *error) {
  const DpoTerms *dpo = &config->dpo;
  if (dpo->loss == DPO_ROBUST && dpo->label_smoothing >= 0.5) {
    return error_set(
        error, ERROR_USAGE,
        "dpo.label_smoothing is %g: dpo.loss robust takes less than 0.5, for of pairs that are the wrong way "
        "round half the time nothing can be learnt",
        dpo->label_smoothing);
  }
  if (dpo->loss == DPO_KTO && config->common.optim.batch_size < 2) {
    return error_set(error, ERROR_USAGE,
                     "optim.batch_size is 1: dpo.loss kto measures each answer of an update against the "
                     "others, and takes at least 2 "
                     "(apo_zero_unpaired takes 1)");
  }
  return true;
}
