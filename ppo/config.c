#include "ppo/config.h"

#include "datasets/dataset.h"
#include "ppo/estimator.h"
#include "ppo/kl.h"
#include "ppo/loss.h"
#include "ppo/reward.h"
#include "train/run.h"
#include "train/shard.h"

const char *const ppo_measures[] = {"none", "auto", "reward", "score", "heldout", NULL};

/* One option a row. */
/* clang-format off */
#define PPO_OPTIONS(Config, field)                                                                           \
  ROW_INT("ppo.total_episodes", Config, field.total_episodes, "1000000", 1, INFINITY,                        \
          "answers sampled over the whole run", .first = true),                                                             \
      ROW_INT("ppo.batch_size", Config, field.batch_size, "512", 1, 1 << 20, "answers per rollout", .first = true),         \
      ROW_INT("ppo.samples_per_prompt", Config, field.samples_per_prompt, "1", 1, 1 << 20,                   \
              "answers to each prompt of a rollout; must divide ppo.batch_size"),                            \
      ROW_CHOICE("ppo.advantage", Config, field.advantage, "gae", estimator_names,                           \
                 "advantages: gae from a critic's values; rloo, grpo, dr_grpo from the other answers to the prompt; " \
                 "reinforce_pp from the rollout's mean; remax from the score of the greedy answer (ppo/estimator.h). All but gae do without a critic", .first = true), \
      ROW_INT("ppo.minibatches", Config, field.minibatches, "1", 1, 1 << 20,                                 \
              "optimiser steps in each pass over a rollout; must divide ppo.batch_size"),                    \
      ROW_INT("ppo.epochs", Config, field.epochs, "4", 1, 1000, "passes over each rollout"),                 \
      ROW_FLOAT("ppo.kl_coef", Config, field.kl_coef, "0.05", 0, INFINITY,                                   \
                "beta: penalty on the KL divergence from the reference, per token", .first = true),                         \
      ROW_CHOICE("ppo.kl_estimator", Config, field.kl_estimator, "k1", kl_estimator_names,                   \
                 "estimator of that divergence in the reward (ppo/kl.h)", .when = "ppo.kl_coef > 0, ppo.kl_in = reward"),        \
      ROW_CHOICE("ppo.kl_in", Config, field.kl_in, "reward", kl_place_names, \
                 "where that penalty is: in the rewards, or in the policy's loss by the estimator k3, as GRPO has it", .when = "ppo.kl_coef > 0"), \
      ROW_BOOL("ppo.kl_adaptive", Config, field.kl_adaptive, "false",                                        \
               "steer kl_coef towards ppo.kl_target (Ziegler et al. 2019)", .when = "ppo.kl_coef > 0"),      \
      ROW_FLOAT("ppo.kl_target", Config, field.kl_target, "6", 0, INFINITY,                                  \
                "nats per answer", .when = "ppo.kl_adaptive"),                                               \
      ROW_FLOAT("ppo.kl_horizon", Config, field.kl_horizon, "10000", 1, INFINITY,                            \
                "episodes", .when = "ppo.kl_adaptive"),                                                      \
      ROW_INT("ppo.reference_every", Config, field.reference_every, "0", 0, INFINITY, \
              "updates after which the policy becomes the reference, again and again; 0 = the reference stays", .when = "ppo.kl_coef > 0"), \
      ROW_FLOAT("ppo.cliprange", Config, field.cliprange, "0.2", 0, INFINITY,                                \
                "epsilon: the probability ratio counts within 1 -+ epsilon"),                                \
      ROW_FLOAT("ppo.cliprange_high", Config, field.cliprange_high, "0", 0, INFINITY, \
                "epsilon above 1, where it is another (clip-higher; Yu et al. 2025, DAPO: 0.28); 0 = ppo.cliprange"), \
      ROW_FLOAT("ppo.dual_clip", Config, field.dual_clip, "0", 0, INFINITY, \
                "c, more than 1: the loss of a negative advantage A is at most -c A (Ye et al. 2020: 3); 0 = no limit"), \
      ROW_CHOICE("ppo.ratio", Config, field.ratio, "token", policy_ratio_names, \
                 "probability ratio of each token, or the geometric mean over its answer (Zheng et al. 2025, GSPO), " \
                 "with rloo, grpo, dr_grpo, remax"), \
      ROW_CHOICE("ppo.loss_mean", Config, field.loss_mean, "estimator", loss_mean_names, \
                 "the policy's loss is a mean over tokens, a mean over answers of the mean of each, or a sum over tokens by a " \
                 "constant, answers times rollout.max_new_tokens; estimator = as the paper of ppo.advantage has it"), \
      ROW_BOOL("ppo.mask_cut", Config, field.mask_cut, "false", \
               "answers that rollout.max_new_tokens cut are in no loss"), \
      ROW_FLOAT("ppo.cliprange_value", Config, field.cliprange_value, "0.2", 0, INFINITY,                    \
                "values count within this distance of the old ones; 0 = no clipping",                        \
                .when = "ppo.advantage = gae"),                                                              \
      ROW_FLOAT("ppo.gamma", Config, field.gamma, "1", 0, 1, "discount",                                     \
                .when = "ppo.advantage = gae or ppo.advantage = reinforce_pp"),                              \
      ROW_FLOAT("ppo.lam", Config, field.lam, "0.95", 0, 1, "lambda of generalised advantage estimation",    \
                .when = "ppo.advantage = gae, ppo.lam_alpha = 0 or ppo.lam_critic = 0"), \
      ROW_FLOAT("ppo.lam_critic", Config, field.lam_critic, "0", 0, 1, \
                "lambda of the returns that the critic learns (Yuan et al. 2025, VC-PPO: 1); 0 = ppo.lam", \
                .when = "ppo.advantage = gae"), \
      ROW_FLOAT("ppo.lam_alpha", Config, field.lam_alpha, "0", 0, INFINITY, \
                "alpha: lambda of an actor's answer of l tokens is 1 - 1 / (alpha l) (Yue et al. 2025, VAPO: 0.05); 0 = ppo.lam", \
                .when = "ppo.advantage = gae"), \
      ROW_FLOAT("ppo.entropy_coef", Config, field.entropy_coef, "0", 0, INFINITY,                            \
                "weight of an entropy bonus"),                                                               \
      ROW_BOOL("ppo.whiten_rewards", Config, field.whiten_rewards, "false",                                  \
               "divide rewards by their standard deviation over the rollout", .when = "ppo.advantage = gae"),                               \
      ROW_BOOL("ppo.whiten_advantages", Config, field.whiten_advantages, "true", \
               "mean 0 and variance 1 over the rollout's tokens", \
               .when = "ppo.advantage = gae or ppo.advantage = reinforce_pp"), \
      ROW_BOOL("ppo.normalize_scores", Config, field.normalize_scores, "false", \
               "scores less their running mean, by their running deviation, over the run so far; before ppo.reward_clip"), \
      ROW_BOOL("ppo.sigmoid_scores", Config, field.sigmoid_scores, "false", \
               "a score becomes the sigmoid of what it is above that of the record's reference answer (Fu et al. 2025); before ppo.reward_clip"), \
      ROW_BOOL("ppo.drop_flat_groups", Config, field.drop_flat_groups, "false", \
               "prompts whose answers were all judged the same are in no loss", \
               .when = "ppo.advantage = rloo or ppo.advantage = grpo or ppo.advantage = dr_grpo"), \
      ROW_INT("ppo.refill_rounds", Config, field.refill_rounds, "0", 0, 1000, \
              "rounds of further prompts, in the place of those that would be dropped, until there are none (Yu et al. 2025, DAPO); " \
              "0 = their places stay empty", .when = "ppo.drop_flat_groups"), \
      ROW_INT("ppo.overlong_tokens", Config, field.overlong_tokens, "0", 0, 1 << 20, \
              "the last tokens of rollout.max_new_tokens, over which an answer's score falls by ppo.overlong_penalty (Yu et al. 2025, " \
              "DAPO); 0 = none"), \
      ROW_FLOAT("ppo.overlong_penalty", Config, field.overlong_penalty, "1", 0, INFINITY, \
                "what an answer of rollout.max_new_tokens loses", .when = "ppo.overlong_tokens > 0"), \
      ROW_CHOICE("ppo.missing_eos", Config, field.missing_eos, "replace", missing_eos_names,                 \
                 "score of an answer that does not end: as it is, replaced by -penalty, or less penalty"),   \
      ROW_FLOAT("ppo.missing_eos_penalty", Config, field.missing_eos_penalty, "1", 0, INFINITY,              \
                "the penalty of ppo.missing_eos", .when = "ppo.missing_eos != keep"),                        \
      ROW_FLOAT("ppo.reward_clip", Config, field.reward_clip, "0", 0, INFINITY,                              \
                "limit of |score|; 0 = none"),                                                               \
      ROW_FLOAT("ppo.ptx_coef", Config, field.ptx_coef, "0", 0, INFINITY,                                    \
                "weight of the log-likelihood of data.ptx in each update (Ouyang et al. 2022); 0 = off"),    \
      ROW_FLOAT("ppo.target_kl", Config, field.target_kl, "0", 0, INFINITY,                                  \
                "stop updating on a rollout when a minibatch's KL from the sampling policy, nats per token," \
                " is above; 0 = never"),                                                                     \
      ROW_FLOAT("ppo.critic_lr", Config, field.critic_lr, "0", 0, INFINITY,                                  \
                "peak learning rate of the critic; 0 = optim.lr", .when = "ppo.advantage = gae"),              \
      ROW_INT("ppo.critic_warmup", Config, field.critic_warmup, "0", 0, INFINITY, \
              "updates at the beginning in which the critic learns alone", .when = "ppo.advantage = gae"), \
      ROW_FLOAT("ppo.ema", Config, field.ema, "0", 0, 0.999999,                                              \
                "decay per rollout of a running mean of the actor's weights, saved beside it; 0 = off"),     \
      ROW_BOOL("ppo.frozen_in_files", Config, field.frozen_in_files, "false",                                \
               "on a CPU: reference and reward models of their own weights stay in their files but for one block at a time, "      \
               "read for each pass: less memory, the same bits, a little more time"),              \
      ROW_INT("ppo.samples_logged", Config, field.samples_logged, "4", 0, INFINITY,                          \
              "answers of each rollout that go into the run log"),

#define COST_RULE_OPTIONS(Config, field)                                                                     \
  ROW_FLOAT("cost.threshold", Config, field.threshold, "0", -INFINITY, INFINITY,                             \
            "d: what the mean cost of an answer is held at", .when = "cost.path or cost.sources"),           \
      ROW_FLOAT("cost.lambda", Config, field.lambda, "1", 0, INFINITY,                                       \
                "multiplier at the beginning, more than 0 (ppo/cost.h)", .when = "cost.path or cost.sources"), \
      ROW_FLOAT("cost.lambda_lr", Config, field.lr, "0.1", 0, INFINITY,                                      \
                "its learning rate, of log lambda once for each rollout; 0 = it stays", .when = "cost.path or cost.sources"), \
      ROW_FLOAT("cost.lambda_max", Config, field.most, "5", 0, INFINITY,                                     \
                "the most that it becomes", .when = "cost.path or cost.sources"),                            \
      ROW_INT("cost.lambda_delay", Config, field.delay, "0", 0, INFINITY,                                    \
              "updates before it first moves", .when = "cost.path or cost.sources"),                         \
      ROW_INT("cost.window", Config, field.window, "1", 1, COST_MOST_WINDOW,                                 \
              "rollouts over which the mean cost is taken", .when = "cost.path or cost.sources"),

const Option ppo_options[] = {
    MODEL_OPTIONS(PpoConfig, model)
    REWARD_OPTIONS(PpoConfig, reward)
    COST_OPTIONS(PpoConfig, cost.sources)
    COST_RULE_OPTIONS(PpoConfig, cost.rule)
    ROW_STRING("critic.path", PpoConfig, critic.path, NULL,
               "what critics begin as: a reward model, or any model over the policy's tokens. Without it: the reward model, and of "
               "the costs the cost model, that is the only source, else the policy", .when = "ppo.advantage = gae", .names = OPTION_NAMES_MODEL),
    ROW_STRING("critic.adapter", PpoConfig, critic.adapter, NULL, "PEFT directory over critic.path", .when = "ppo.advantage = gae",
               .names = OPTION_NAMES_ADAPTER),
    LORA_OPTIONS(PpoConfig, lora, "0", "lora.enabled, no model.adapter or no reward.adapter")
    ROW_SOURCES_REQUIRED("data.prompts", PpoConfig, data.prompts, "prompts: JSONL or JSON file, directory, -, or a weighted list", .check_without = true, .first = true),
    ROW_SOURCES("data.eval", PpoConfig, data.eval, NULL, "the same for evaluation"),
    ROW_SOURCES("data.ptx", PpoConfig, data.ptx, NULL,
                "the same for ppo.ptx_coef: text or SFT examples", .when = "ppo.ptx_coef > 0"),
    DATA_COMMON_OPTIONS(PpoConfig, data, "512")
        OPTIM_OPTIONS(PpoConfig, optim, "3e-6", "5e-5", "linear", "1e-5", "0", "4096")
            ROLLOUT_OPTIONS(PpoConfig, rollout, "53", "0.7", "64") SAMPLER_OPTIONS(PpoConfig, rollout) EVAL_ROLLOUT_OPTIONS(PpoConfig, rollout)
                PPO_OPTIONS(PpoConfig, ppo)
                RUN_OPTIONS(PpoConfig, run, "10", "data.eval", ppo_measures, "heldout where there is one, else reward") DEVICE_OPTIONS(PpoConfig, device)
                    GRAPH_OPTIONS(PpoConfig, device) RANK_OPTIONS(PpoConfig, device) SHARD_OPTIONS(PpoConfig, device)
    ROW_BOOL("device.shard_frozen", PpoConfig, device.shard_frozen, "false",
             "each of many ranks keeps a slice of the reference's and the reward models' weights of blocks, instead of all",
             .when = "no lora.enabled, device.shard != weights")};
/* clang-format on */

const size_t ppo_option_count = sizeof ppo_options / sizeof *ppo_options;

static bool check_samples(const PpoAlgorithm *ppo, Error *error) {
  if (ppo->batch_size % ppo->samples_per_prompt != 0) {
    return error_set(
        error, ERROR_USAGE,
        "ppo.samples_per_prompt: expected a divisor of ppo.batch_size %lld, which counts answers, "
        "found %lld",
        (long long)ppo->batch_size, (long long)ppo->samples_per_prompt);
  }
  if (!estimator_has_groups((Estimator)ppo->advantage) || ppo->samples_per_prompt >= 2) return true;
  return error_set(error, ERROR_USAGE,
                   "ppo.samples_per_prompt: expected at least 2, since ppo.advantage %s compares the answers "
                   "to a prompt with each other; found %lld",
                   estimator_names[ppo->advantage], (long long)ppo->samples_per_prompt);
}

/* The prompts of further rounds would need their reference answers scored in the middle of a rollout. */
static bool check_scores(const PpoAlgorithm *ppo, Error *error) {
  if (!ppo->sigmoid_scores || (!ppo->normalize_scores && ppo->refill_rounds == 0)) return true;
  return error_set(error, ERROR_USAGE, "ppo.sigmoid_scores: expected false with %s; give one of the two",
                   ppo->normalize_scores ? "ppo.normalize_scores" : "ppo.refill_rounds");
}

/* An answer has one ratio where it has one advantage. */
static bool check_loss(const PpoAlgorithm *ppo, Error *error) {
  if (ppo->dual_clip != 0 && ppo->dual_clip <= 1) {
    return error_set(error, ERROR_USAGE, "ppo.dual_clip: expected 0 or more than 1, found %g",
                     ppo->dual_clip);
  }
  if (ppo->normalize_scores && ppo->advantage == ESTIMATOR_REMAX) {
    return error_set(
        error, ERROR_USAGE,
        "ppo.normalize_scores: remax has the scores of greedy answers for a baseline, which would be "
        "normalised by others than the sampled ones; give one of the two");
  }
  if (ppo->ratio != RATIO_SEQUENCE || estimator_is_by_answer((Estimator)ppo->advantage)) return true;
  return error_set(
      error, ERROR_USAGE,
      "ppo.ratio: sequence goes with one advantage for a whole answer (ppo.advantage rloo, grpo, "
      "dr_grpo or remax); %s has one for each token",
      estimator_names[ppo->advantage]);
}

/* Also where there are no costs: a value that no run could have is a slip. */
static bool check_costs(const CostRule *rule, Error *error) {
  if (!(rule->lambda > 0)) {
    return error_set(error, ERROR_USAGE,
                     "cost.lambda: expected more than 0, since it moves by factors, found %g", rule->lambda);
  }
  if (rule->most >= rule->lambda) return true;
  return error_set(error, ERROR_USAGE, "cost.lambda_max: expected at least cost.lambda %g, found %g",
                   rule->lambda, rule->most);
}

/* The policy's weights are copied where they lie: both have to be whole on every rank. */
static bool check_reference(const PpoConfig *config, Error *error) {
  const bool sliced = config->device.shard == SHARD_WEIGHTS || config->device.shard_frozen;
  if (config->ppo.reference_every == 0 || config->lora.enabled || !sliced) return true;
  return error_set(error, ERROR_USAGE,
                   "ppo.reference_every: expected 0 where weights are divided over ranks (%s), for the "
                   "reference is copied from "
                   "weights that are whole on every rank; found %lld. With lora.enabled both go together",
                   config->device.shard == SHARD_WEIGHTS ? "device.shard weights" : "device.shard_frozen",
                   (long long)config->ppo.reference_every);
}

/* Copies of codes would be the same codes, or more bits than those. */
static bool check_weights(const PpoConfig *config, Error *error) {
  if (config->rollout.weights == SAMPLER_WEIGHTS_EXACT || config->model.quantize == MODEL_QUANTIZE_NONE)
    return true;
  return error_set(
      error, ERROR_USAGE,
      "rollout.weights: expected exact with model.quantize %s, since the policy's linears are in %d bits "
      "already, found int8",
      model_quantize_choices[config->model.quantize], model_quantize_bits(config->model.quantize));
}

bool ppo_config_check(const PpoConfig *config, Error *error) {
  const PpoAlgorithm *ppo = &config->ppo;
  if (!training_config_check(&config->model, &config->lora, &config->optim, error) ||
      !rollout_config_check(&config->rollout, "rollout.", "_", error) ||
      !run_config_check(&config->run, config->data.eval.count > 0, error)) {
    return false;
  }
  if (ppo->critic_lr * config->optim.weight_decay >= 1) {
    return error_set(
        error, ERROR_USAGE,
        "optim.weight_decay: expected less than 1 / ppo.critic_lr; found %g with ppo.critic_lr %g",
        config->optim.weight_decay, ppo->critic_lr);
  }
  if (config->critic.adapter && !config->critic.path) {
    return error_set(error, ERROR_USAGE,
                     "critic.adapter: expected critic.path with it, the model that it is over");
  }
  if (ppo->batch_size % ppo->minibatches != 0) {
    return error_set(error, ERROR_USAGE,
                     "ppo.minibatches: expected a divisor of ppo.batch_size %lld, found %lld",
                     (long long)ppo->batch_size, (long long)ppo->minibatches);
  }
  if (!check_samples(ppo, error) || !check_loss(ppo, error) || !check_scores(ppo, error) ||
      !check_costs(&config->cost.rule, error) || !check_reference(config, error) ||
      !check_weights(config, error)) {
    return false;
  }
  if (ppo->overlong_tokens > config->rollout.max_new_tokens) {
    return error_set(error, ERROR_USAGE,
                     "ppo.overlong_tokens: expected at most rollout.max_new_tokens %lld, found %lld",
                     (long long)config->rollout.max_new_tokens, (long long)ppo->overlong_tokens);
  }
  if (config->rollout.temperature <= 0) {
    return error_set(error, ERROR_USAGE,
                     "rollout.temperature: expected more than 0 (PPO needs sampled answers), found %g",
                     config->rollout.temperature);
  }
  /* Log-probabilities would be those of another distribution than the samples'. Renormalised over the tokens that were
   * kept, a token kept by one policy and cut by the next would have the ratio 0. */
  if (config->rollout.top_k != 0 || config->rollout.top_p < 1) {
    return error_set(error, ERROR_USAGE,
                     "rollout.top_k, rollout.top_p: expected 0 and 1 (PPO learns from samples of the whole "
                     "distribution), found %lld and %g. For likelier answers lower rollout.temperature; "
                     "`generate` takes both after training",
                     (long long)config->rollout.top_k, config->rollout.top_p);
  }
  if (ppo->batch_size > INT32_MAX / config->rollout.max_new_tokens) {
    return error_set(error, ERROR_USAGE,
                     "ppo.batch_size times rollout.max_new_tokens: expected at most %d tokens in a rollout, "
                     "found %lld times %lld",
                     INT32_MAX, (long long)ppo->batch_size, (long long)config->rollout.max_new_tokens);
  }
  if (ppo->ptx_coef > 0 && config->data.ptx.count == 0) {
    return error_set(error, ERROR_USAGE, "data.ptx: expected a file, since ppo.ptx_coef is %g",
                     ppo->ptx_coef);
  }
  if (!ppo->kl_adaptive) return true;
  if (ppo->kl_target <= 0) {
    return error_set(error, ERROR_USAGE, "ppo.kl_target: expected more than 0 with ppo.kl_adaptive, found %g",
                     ppo->kl_target);
  }
  /* One update may take a fifth of batch_size / kl_horizon off the coefficient: that must leave some. */
  if (5 * ppo->kl_horizon <= (double)ppo->batch_size) {
    return error_set(
        error, ERROR_USAGE,
        "ppo.kl_horizon: expected more than a fifth of ppo.batch_size %lld, else ppo.kl_coef could "
        "become negative; found %g",
        (long long)ppo->batch_size, ppo->kl_horizon);
  }
  return true;
}
