#include "base/option_elsewhere.h"

#include "base/option_value.h"

#include <string.h>

#define ALL        "sft, reward and ppo"
#define SUPERVISED "sft and reward"
#define BATCH                                                                                                \
  "per_device_train_batch_size x gradient_accumulation_steps x devices; what is computed at once is set in " \
  "tokens (optim.micro_batch_tokens)"
#define AXOLOTL_BATCH                                                                                    \
  "micro_batch_size x gradient_accumulation_steps x devices; what is computed at once is set in tokens " \
  "(optim.micro_batch_tokens)"
#define LENGTH    "in tokens; longer examples are left out unless data.truncation is truncate"
#define EPISODES  "answers over the whole run: epochs x prompts"
#define FILES     "a JSON or JSONL file or a directory of such; nothing is downloaded"
#define DIRECTORY "a directory in Hugging Face's layout; nothing is downloaded"
#define UPDATES   "in updates (of ppo: rollouts)"
#define ONE_DEVICE                                                                               \
  "one process trains on one device; less memory is taken with model.recompute, model.offload, " \
  "optim.offload or model.quantize"
#define HALF      "computing is in f32 or bf16 (model.dtype), which needs no scaling of the loss"
#define INT8      "the weights of a frozen model can be in 4 bits: model.quantize nf4"
#define RUN_LOG   "figures go into the run log, in run.dir"
#define ATTENTION "each backend has one attention"

/* One name a row. */
/* clang-format off */
const OptionElsewhere options_elsewhere[] = {
    /* model */
    {"model_name_or_path", "model.path", ALL, DIRECTORY},
    {"base_model", "model.path", ALL, DIRECTORY},
    {"sft_model_path", "model.path", ALL, DIRECTORY},
    {"adapter_name_or_path", "model.adapter", ALL, "a PEFT directory"},
    {"lora_model_dir", "model.adapter", ALL, "a PEFT directory"},
    {"torch_dtype", "model.dtype", ALL, NULL},
    {"bf16", "model.dtype", ALL, "bf16"},
    {"pure_bf16", "model.dtype", ALL, "bf16, with master weights in fp32"},
    {"fp16", NULL, NULL, HALF},
    {"load_in_4bit", "model.quantize", ALL, "nf4"},
    {"quantization_bit", "model.quantize", ALL, "nf4, which has 4 bits"},
    {"load_in_8bit", NULL, NULL, INT8},
    {"gradient_checkpointing", "model.recompute", ALL, NULL},
    {"activation_offloading", "model.offload", ALL, "activations, with model.recompute"},
    {"attn_implementation", NULL, NULL, ATTENTION},
    {"flash_attn", NULL, NULL, ATTENTION},
    {"flash_attention", NULL, NULL, ATTENTION},
    {"trust_remote_code", NULL, NULL, "code that comes with a model is never run"},

    /* lora */
    {"use_peft", "lora.enabled", ALL, NULL},
    {"finetuning_type", "lora.enabled", ALL, "true for lora, false for full"},
    {"adapter", "lora.enabled", ALL, "true for lora; for qlora model.quantize nf4 as well (a directory is model.adapter)"},
    {"lora_rank", "lora.r", ALL, NULL},
    {"lora_target", "lora.targets", ALL, "all-linear for all"},
    {"lora_target_modules", "lora.targets", ALL, NULL},
    {"lora_target_linear", "lora.targets", ALL, "all-linear"},
    {"additional_target", "lora.modules_to_save", ALL, NULL},
    {"use_rslora", "lora.rslora", ALL, NULL},
    {"peft_use_rslora", "lora.rslora", ALL, NULL},
    {"use_dora", NULL, NULL, "adapters are LoRA, or rank-stabilised with lora.rslora"},
    {"peft_use_dora", NULL, NULL, "adapters are LoRA, or rank-stabilised with lora.rslora"},

    /* data */
    {"dataset", "data.train", SUPERVISED, FILES},
    {"dataset", "data.prompts", "ppo", FILES},
    {"datasets", "data.train", SUPERVISED, FILES},
    {"datasets", "data.prompts", "ppo", FILES},
    {"dataset_name", "data.train", SUPERVISED, FILES},
    {"dataset_name", "data.prompts", "ppo", FILES},
    {"dataset_path", "data.train", SUPERVISED, FILES},
    {"dataset_path", "data.prompts", "ppo", FILES},
    {"eval_dataset", "data.eval", ALL, FILES},
    {"test_datasets", "data.eval", ALL, FILES},
    {"val_size", "data.eval_fraction", SUPERVISED, "a share of data.train"},
    {"val_set_size", "data.eval_fraction", SUPERVISED, "a share of data.train"},
    {"chat_template", "data.template", ALL, NULL},
    {"chat_template_path", "data.template", ALL, NULL},
    {"max_length", "data.max_length", ALL, LENGTH},
    {"max_seq_length", "data.max_length", ALL, LENGTH},
    {"sequence_len", "data.max_length", ALL, LENGTH},
    {"cutoff_len", "data.max_length", ALL, LENGTH},
    {"sample_packing", "data.packing", SUPERVISED, NULL},
    {"neat_packing", "data.packing", SUPERVISED, NULL},
    {"train_on_prompt", "data.train_on_inputs", "sft", NULL},
    {"completion_only_loss", "data.train_on_inputs", "sft", "the opposite of it"},
    {"shuffle_dataset", "data.shuffle", ALL, NULL},

    /* optim */
    {"learning_rate", "optim.lr", ALL, NULL},
    {"optim", "optim.name", ALL, "moments in 8 bits are optim.state 8bit"},
    {"optimizer", "optim.name", ALL, "moments in 8 bits are optim.state 8bit"},
    {"lr_scheduler_type", "optim.schedule", ALL, NULL},
    {"lr_scheduler", "optim.schedule", ALL, NULL},
    {"adam_beta1", "optim.beta1", ALL, NULL},
    {"adam_beta2", "optim.beta2", ALL, NULL},
    {"adam_epsilon", "optim.eps", ALL, NULL},
    {"max_grad_norm", "optim.clip", ALL, NULL},
    {"num_train_epochs", "optim.epochs", SUPERVISED, NULL},
    {"num_train_epochs", "ppo.total_episodes", "ppo", EPISODES},
    {"num_epochs", "optim.epochs", SUPERVISED, NULL},
    {"num_epochs", "ppo.total_episodes", "ppo", EPISODES},
    {"per_device_train_batch_size", "optim.batch_size", SUPERVISED, BATCH},
    {"per_device_train_batch_size", "ppo.batch_size", "ppo", BATCH},
    {"gradient_accumulation_steps", "optim.batch_size", SUPERVISED, BATCH},
    {"gradient_accumulation_steps", "ppo.batch_size", "ppo", BATCH},
    {"micro_batch_size", "optim.batch_size", SUPERVISED, AXOLOTL_BATCH},
    {"micro_batch_size", "ppo.batch_size", "ppo", AXOLOTL_BATCH},
    {"per_device_eval_batch_size", "optim.micro_batch_tokens", ALL, "in tokens; it sets the memory, not the result"},

    /* reward, ppo, rollout */
    {"center_rewards_coefficient", "reward.centring", "reward", NULL},
    {"reward_model_path", "reward.path", "ppo", DIRECTORY},
    {"reward_model", "reward.path", "ppo", DIRECTORY},
    {"reward_model_adapters", "reward.adapter", "ppo", "a PEFT directory"},
    {"num_ppo_epochs", "ppo.epochs", "ppo", NULL},
    {"ppo_epochs", "ppo.epochs", "ppo", NULL},
    {"num_mini_batches", "ppo.minibatches", "ppo", NULL},
    {"ppo_target", "ppo.kl_target", "ppo", "with ppo.kl_adaptive"},
    {"num_generations", "ppo.samples_per_prompt", "ppo", NULL},
    {"rloo_k", "ppo.samples_per_prompt", "ppo", NULL},
    {"missing_eos_penalty", "ppo.missing_eos_penalty", "ppo", "taken off the score with ppo.missing_eos subtract"},
    {"vf_coef", "ppo.critic_lr", "ppo", "a rate: a coefficient would scale the critic's gradient, and Adam divide that out again"},
    {"response_length", "rollout.max_new_tokens", "ppo", NULL},
    {"ref_model", "model.path", ALL, "the reference of ppo is the model, with model.adapter, that the run begins with"},

    /* run, device */
    {"output_dir", "run.dir", ALL, NULL},
    {"overwrite_output_dir", "run.resume", ALL, "false starts over"},
    {"resume_from_checkpoint", "run.resume", ALL, "true, the default, continues from the newest checkpoint in run.dir"},
    {"auto_resume_from_checkpoints", "run.resume", ALL, NULL},
    {"save_steps", "run.save_every", ALL, UPDATES},
    {"eval_steps", "run.eval_every", ALL, UPDATES},
    {"logging_steps", "run.log_every", ALL, UPDATES},
    {"save_total_limit", "run.keep", ALL, NULL},
    {"gpu_memory_limit", "device.memory_limit", ALL, "in bytes, or with a unit: 24GiB"},
    {"report_to", NULL, NULL, RUN_LOG},
    {"wandb_project", NULL, NULL, RUN_LOG},
    {"deepspeed", NULL, NULL, ONE_DEVICE},
    {"fsdp", NULL, NULL, ONE_DEVICE},
};
/* clang-format on */
const size_t options_elsewhere_count = sizeof options_elsewhere / sizeof *options_elsewhere;

static bool same_name(const char *name, const char *given) {
  while (*name && *name == (*given == '-' ? '_' : *given)) name++, given++;
  return *name == *given;
}

const OptionElsewhere *option_elsewhere(const Option *table, size_t rows, const char *name) {
  const OptionElsewhere *other = NULL;
  const char *dot = strrchr(name, '.'), *leaf = dot ? dot + 1 : name;
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    if (!same_name(row->name, leaf)) continue;
    if (!row->key || option_find(table, rows, row->key)) return row;
    if (!other) other = row;
  }
  return other;
}
