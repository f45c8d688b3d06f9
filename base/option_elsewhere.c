#include "base/option_elsewhere.h"

#include "base/option_value.h"

#include <stdio.h>
#include <string.h>

#define ALL        "sft, reward, dpo and ppo"
#define SUPERVISED "sft, reward and dpo"
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
#define ONE_DEVICE                                                                                         \
  "devices are ranks, which a launcher starts; less memory is taken with model.recompute, model.offload, " \
  "optim.offload or model.quantize"
#define HALF      "computing is in f32 or bf16 (model.dtype), which needs no scaling of the loss"
#define RUN_LOG   "figures go into the run log, in run.dir"
#define ATTENTION "each backend has one attention"

#define TEXT_ALONE  "models and data are of text alone"
#define DENSE       "models are dense, without experts"
#define CONFIG_JSON "the files of the model say it"
#define PACKED      "true by default, and another thing: how many examples an update has does not depend on it"
#define CACHE       "data are tokenised once, and kept in run.dir or data.cache"
#define SCHEDULES   "linear=linear cosine=cosine constant=constant constant_with_warmup=constant"
#define EVAL_BATCH  "in tokens; it sets the memory, not the result"
#define EVERY                                                                                             \
  "run.save_every, run.eval_every and run.log_every count updates; the last one is always evaluated and " \
  "saved"
#define ALARMS  "alarms watch the loss; stop ends a run at one"
#define UPLOAD  "results stay on this machine; hf upload sends them"
#define KERNELS "each backend has its own kernels"

/* clang-format off */
/* One name a row: of the uses in the header; NONE is told and has no equal, ASIDE_OF is set aside where a key is named all the same. */
#define TOLD(name, key, programs, remark)         {name, key, programs, remark, ELSEWHERE_TOLD, NULL},
#define NONE(name, remark)                        {name, NULL, NULL, remark, ELSEWHERE_TOLD, NULL},
#define SAME(name, key, programs, remark)         {name, key, programs, remark, ELSEWHERE_SAME, NULL},
#define WORDS(name, key, programs, words, remark) {name, key, programs, remark, ELSEWHERE_WORDS, words},
#define ASIDE(name, remark)                       {name, NULL, NULL, remark, ELSEWHERE_ASIDE, NULL},
#define ASIDE_OF(name, key, programs, remark)     {name, key, programs, remark, ELSEWHERE_ASIDE, NULL},
const OptionElsewhere options_elsewhere[] = {
    /* model */
    SAME("model_name_or_path", "model.path", ALL, DIRECTORY)
    SAME("base_model", "model.path", ALL, DIRECTORY)
    TOLD("sft_model_path", "model.path", ALL, DIRECTORY)
    SAME("adapter_name_or_path", "model.adapter", ALL, "a PEFT directory")
    SAME("lora_model_dir", "model.adapter", ALL, "a PEFT directory")
    WORDS("torch_dtype", "model.dtype", ALL, "auto=auto bfloat16=bf16 float32=f32", NULL)
    WORDS("dtype", "model.dtype", ALL, "auto=auto bfloat16=bf16 float32=f32", NULL)
    WORDS("bf16", "model.dtype", ALL, "true=bf16 auto=auto false=f32", "bf16")
    WORDS("pure_bf16", "model.dtype", ALL, "true=bf16 false=auto", "bf16, with master weights in fp32")
    WORDS("bfloat16", "model.dtype", ALL, "true=bf16 false=auto", "bf16, with master weights in fp32")
    NONE("fp16", HALF)
    ASIDE("tf32", HALF)
    NONE("fp8", HALF)
    WORDS("load_in_4bit", "model.quantize", ALL, "true=nf4 false=none", "nf4")
    WORDS("quantization_bit", "model.quantize", ALL, "4=nf4 8=int8", "nf4 for 4 bits, int8 for 8")
    WORDS("quantization_type", NULL, NULL, "nf4=", "4 bits are NF4, as bitsandbytes has it")
    WORDS("quantization_method", NULL, NULL, "bnb= bitsandbytes=", "4 bits are NF4, as bitsandbytes has it")
    WORDS("bnb_4bit_quant_type", NULL, NULL, "nf4=", "4 bits are NF4, as bitsandbytes has it")
    ASIDE("double_quantization", "the scales are in 8 bits")
    ASIDE("use_bnb_nested_quant", "the scales are in 8 bits")
    WORDS("load_in_8bit", "model.quantize", ALL, "true=int8 false=", "int8")
    WORDS("gradient_checkpointing", "model.recompute", ALL, "true=true false=false", NULL)
    WORDS("disable_gradient_checkpointing", "model.recompute", ALL, "true=false false=true", "the opposite of it")
    ASIDE("gradient_checkpointing_kwargs", "a block's input is kept, and the block computed again")
    ASIDE("use_reentrant_gc", "a block's input is kept, and the block computed again")
    WORDS("activation_offloading", "model.offload", ALL, "true=activations false=none", "activations, with model.recompute")
    ASIDE("attn_implementation", ATTENTION)
    ASIDE("flash_attn", ATTENTION)
    ASIDE("flash_attention", ATTENTION)
    ASIDE("sdp_attention", ATTENTION)
    ASIDE("xformers_attention", ATTENTION)
    ASIDE("flex_attention", ATTENTION)
    ASIDE("flex_attn_compile_kwargs", ATTENTION)
    ASIDE("fused_attn_kernel", ATTENTION)
    ASIDE("flash_attn_fuse_mlp", KERNELS)
    ASIDE("flash_attn_fuse_qkv", KERNELS)
    ASIDE("flash_attn_cross_entropy", KERNELS)
    ASIDE("flash_attn_rms_norm", KERNELS)
    ASIDE("flash_optimum", KERNELS)
    ASIDE("eager_attention", ATTENTION)
    ASIDE("trust_remote_code", "code that comes with a model is never run")
    ASIDE("model_type", CONFIG_JSON)
    ASIDE("tokenizer_type", CONFIG_JSON)
    ASIDE("tokenizer_legacy", CONFIG_JSON)
    ASIDE("tokenizer_use_fast", CONFIG_JSON)
    ASIDE("tokenizer_use_mistral_common", CONFIG_JSON)
    ASIDE("processor_type", CONFIG_JSON)
    WORDS("num_labels", NULL, NULL, "1=", "a reward model has one score")
    ASIDE("use_fast_tokenizer", CONFIG_JSON)
    ASIDE("is_llama_derived_model", CONFIG_JSON)
    ASIDE("is_mistral_derived_model", CONFIG_JSON)
    ASIDE("is_qwen_derived_model", CONFIG_JSON)
    ASIDE("low_cpu_mem_usage", "weights are read piece by piece")
    ASIDE("experimental_skip_move_to_device", "weights are read piece by piece")
    NONE("unfrozen_parameters", "all weights are trained, or an adapter")
    NONE("freeze_language_model", "all weights are trained, or an adapter")
    ASIDE("freeze_vision_tower", TEXT_ALONE)
    ASIDE("freeze_multi_modal_projector", TEXT_ALONE)
    ASIDE("freeze_mm_modules", TEXT_ALONE)
    ASIDE("image_max_pixels", TEXT_ALONE)
    ASIDE("video_max_pixels", TEXT_ALONE)
    ASIDE("video_maxlen", TEXT_ALONE)
    ASIDE("video_fps", TEXT_ALONE)
    NONE("resize_token_embeddings_to_32x", "the table of embeddings keeps its rows; drover tokenizer add gives it further ones")
    NONE("quantize_moe_experts", DENSE)
    NONE("lora_target_parameters", DENSE)
    NONE("qat", "weights that are trained are not in 4 bits")

    /* lora */
    SAME("use_peft", "lora.enabled", ALL, NULL)
    WORDS("finetuning_type", "lora.enabled", ALL, "lora=true full=false", "true for lora, false for full")
    WORDS("adapter", "lora.enabled", ALL, "lora=true qlora=true", "true for lora; for qlora model.quantize nf4 as well (a directory is model.adapter)")
    SAME("lora_r", "lora.r", ALL, NULL)
    SAME("lora_rank", "lora.r", ALL, NULL)
    SAME("lora_alpha", "lora.alpha", ALL, NULL)
    SAME("lora_dropout", "lora.dropout", ALL, NULL)
    SAME("lora_target", "lora.targets", ALL, "all-linear for all")
    SAME("lora_target_modules", "lora.targets", ALL, NULL)
    WORDS("lora_target_linear", "lora.targets", ALL, "true=all-linear false=", "all-linear")
    SAME("lora_modules_to_save", "lora.modules_to_save", ALL, NULL)
    SAME("additional_target", "lora.modules_to_save", ALL, NULL)
    SAME("use_rslora", "lora.rslora", ALL, NULL)
    SAME("peft_use_rslora", "lora.rslora", ALL, NULL)
    SAME("peft_ensure_weight_tying", "lora.ensure_weight_tying", ALL, NULL)
    NONE("use_dora", "adapters are LoRA, or rank-stabilised with lora.rslora")
    NONE("peft_use_dora", "adapters are LoRA, or rank-stabilised with lora.rslora")
    ASIDE("lora_fan_in_fan_out", "the weights say it")
    ASIDE("lora_task_type", "the stage says it")
    ASIDE("lora_on_cpu", "merging is a program of its own, on the processor")
    NONE("loraplus_lr_ratio", "both matrices of an adapter have one rate")
    ASIDE("loraplus_lr_embedding", "both matrices of an adapter have one rate")
    NONE("pissa_init", "an adapter begins as LoRA's paper has it: one matrix random, the other zero")

    /* data */
    TOLD("dataset", "data.train", SUPERVISED, FILES)
    TOLD("dataset", "data.prompts", "ppo", FILES)
    TOLD("datasets", "data.train", SUPERVISED, FILES)
    TOLD("datasets", "data.prompts", "ppo", FILES)
    TOLD("dataset_name", "data.train", SUPERVISED, FILES)
    TOLD("dataset_name", "data.prompts", "ppo", FILES)
    TOLD("dataset_path", "data.train", SUPERVISED, FILES)
    TOLD("dataset_path", "data.prompts", "ppo", FILES)
    TOLD("pretraining_dataset", "data.train", SUPERVISED, FILES)
    TOLD("prompts", "data.prompts", "ppo", FILES)
    TOLD("train", "data.train", SUPERVISED, FILES)
    NONE("dataset_dir", FILES)
    TOLD("eval_dataset", "data.eval", ALL, FILES)
    TOLD("test_datasets", "data.eval", ALL, FILES)
    TOLD("val_size", "data.eval_fraction", SUPERVISED, "a share of data.train")
    TOLD("val_set_size", "data.eval_fraction", SUPERVISED, "a share of data.train")
    TOLD("chat_template", "data.template", ALL, NULL)
    SAME("chat_template_path", "data.template", ALL, NULL)
    TOLD("chat_template_jinja", "data.template", ALL, "a file *.jinja")
    TOLD("template", "data.template", ALL, "auto for the model's own, or a built-in one")
    SAME("max_length", "data.max_length", ALL, LENGTH)
    SAME("max_seq_length", "data.max_length", ALL, LENGTH)
    SAME("sequence_len", "data.max_length", ALL, LENGTH)
    SAME("cutoff_len", "data.max_length", ALL, LENGTH)
    WORDS("excess_length_strategy", "data.truncation", ALL, "drop=drop truncate=truncate raise=error", NULL)
    WORDS("truncation_mode", "data.truncation", ALL, "keep_start=truncate", "truncate: the beginning is kept")
    TOLD("packing", "data.packing", SUPERVISED, PACKED)
    TOLD("sample_packing", "data.packing", SUPERVISED, PACKED)
    TOLD("neat_packing", "data.packing", SUPERVISED, PACKED)
    ASIDE("eval_packing", PACKED)
    ASIDE("eval_sample_packing", PACKED)
    ASIDE("packing_strategy", PACKED)
    ASIDE("padding_free", "nothing is padded")
    ASIDE("pad_to_sequence_len", "nothing is padded")
    ASIDE("pad_to_multiple_of", "nothing is padded")
    ASIDE("pad_token", "nothing is padded")
    SAME("train_on_inputs", "data.train_on_inputs", "sft", NULL)
    SAME("train_on_prompt", "data.train_on_inputs", "sft", NULL)
    TOLD("completion_only_loss", "data.train_on_inputs", "sft", "the opposite of it")
    TOLD("assistant_only_loss", "data.train_on_inputs", "sft", "the opposite of it")
    NONE("mask_history", "every assistant turn is learnt from; \"weight\": 0 in a message keeps it out")
    TOLD("dataset_text_field", "data.columns", ALL, "{\"text\": \"that name\"}")
    SAME("shuffle_dataset", "data.shuffle", ALL, NULL)
    SAME("shuffle_merged_datasets", "data.shuffle", ALL, NULL)
    ASIDE("group_by_length", "nothing is padded, so that lengths need no groups")
    ASIDE("dataset_prepared_path", CACHE)
    ASIDE("tokenized_path", CACHE)
    ASIDE("overwrite_cache", CACHE)
    ASIDE("skip_prepare_dataset", CACHE)
    ASIDE("streaming", CACHE)
    ASIDE("streaming_multipack_buffer_size", CACHE)
    ASIDE("eot_tokens", "the end of an assistant's turn is learnt as the template writes it")
    ASIDE("preprocessing_num_workers", CACHE)
    ASIDE("preprocessing_batch_size", CACHE)
    ASIDE("dataset_num_proc", CACHE)
    ASIDE("dataset_processes", CACHE)
    ASIDE("dataset_keep_in_memory", CACHE)
    ASIDE("dataloader_num_workers", CACHE)
    ASIDE("dataloader_pin_memory", CACHE)
    ASIDE("dataloader_prefetch_factor", CACHE)
    ASIDE("remove_unused_columns", "keys that no format has are passed over")
    NONE("max_samples", "the file's first lines: head -n")
    NONE("dataset_exact_deduplication", "drover data --dedup exact leaves out duplicates, once")

    /* optim */
    SAME("learning_rate", "optim.lr", ALL, NULL)
    TOLD("optim", "optim.name", ALL, "moments in 8 bits are optim.state 8bit")
    TOLD("optimizer", "optim.name", ALL, "moments in 8 bits are optim.state 8bit")
    WORDS("lr_scheduler_type", "optim.schedule", ALL, SCHEDULES, NULL)
    WORDS("lr_scheduler", "optim.schedule", ALL, SCHEDULES, NULL)
    SAME("cosine_min_lr_ratio", "optim.min_lr_ratio", ALL, NULL)
    TOLD("eta_min", "optim.min_lr_ratio", ALL, "a share of optim.lr")
    NONE("cosine_constant_lr_ratio", "the cosine ends with the run")
    TOLD("warmup_steps", "optim.warmup_steps", ALL, NULL)
    SAME("warmup_ratio", "optim.warmup_ratio", ALL, NULL)
    SAME("weight_decay", "optim.weight_decay", ALL, NULL)
    SAME("adam_beta1", "optim.beta1", ALL, NULL)
    SAME("adam_beta2", "optim.beta2", ALL, NULL)
    SAME("adam_epsilon", "optim.eps", ALL, NULL)
    SAME("max_grad_norm", "optim.clip", ALL, NULL)
    SAME("num_train_epochs", "optim.epochs", SUPERVISED, NULL)
    TOLD("num_train_epochs", "ppo.total_episodes", "ppo", EPISODES)
    SAME("num_epochs", "optim.epochs", SUPERVISED, NULL)
    TOLD("num_epochs", "ppo.total_episodes", "ppo", EPISODES)
    TOLD("max_steps", "optim.max_steps", SUPERVISED, NULL)
    TOLD("max_steps", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("per_device_train_batch_size", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("per_device_train_batch_size", "ppo.batch_size", "ppo", BATCH)
    TOLD("gradient_accumulation_steps", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("gradient_accumulation_steps", "ppo.batch_size", "ppo", BATCH)
    TOLD("micro_batch_size", "optim.batch_size", SUPERVISED, AXOLOTL_BATCH)
    TOLD("micro_batch_size", "ppo.batch_size", "ppo", AXOLOTL_BATCH)
    ASIDE_OF("per_device_eval_batch_size", "optim.micro_batch_tokens", ALL, EVAL_BATCH)
    ASIDE_OF("eval_batch_size", "optim.micro_batch_tokens", ALL, EVAL_BATCH)
    NONE("label_smoothing_factor", "the loss is that of the texts as they are")
    NONE("neftune_noise_alpha", "embeddings have no noise")

    /* reward, dpo, ppo, rollout */
    SAME("center_rewards_coefficient", "reward.centring", "reward", NULL)
    SAME("beta", "dpo.beta", "dpo", NULL)
    SAME("rl_beta", "dpo.beta", "dpo", NULL)
    SAME("dpo_beta", "dpo.beta", "dpo", NULL)
    SAME("pref_beta", "dpo.beta", "dpo", NULL)
    WORDS("loss_type", "dpo.loss", "dpo",
          "sigmoid=sigmoid robust=robust sigmoid_norm=sigmoid_norm hinge=hinge ipo=ipo apo_zero=apo_zero apo_down=apo_down kto=kto "
          "apo_zero_unpaired=apo_zero_unpaired", NULL)
    WORDS("pref_loss", "dpo.loss", "dpo", "sigmoid=sigmoid hinge=hinge ipo=ipo orpo=orpo simpo=simpo", NULL)
    WORDS("rl", "dpo.loss", "dpo", "dpo=sigmoid ipo=ipo orpo=orpo simpo=simpo kto=kto", NULL)
    SAME("desirable_weight", "dpo.desirable_weight", "dpo", NULL)
    SAME("undesirable_weight", "dpo.undesirable_weight", "dpo", NULL)
    SAME("kto_desirable_weight", "dpo.desirable_weight", "dpo", NULL)
    SAME("kto_undesirable_weight", "dpo.undesirable_weight", "dpo", NULL)
    SAME("kto_chosen_weight", "dpo.desirable_weight", "dpo", NULL)
    SAME("kto_rejected_weight", "dpo.undesirable_weight", "dpo", NULL)
    SAME("label_smoothing", "dpo.label_smoothing", "dpo", NULL)
    SAME("dpo_label_smoothing", "dpo.label_smoothing", "dpo", NULL)
    SAME("simpo_gamma", "dpo.gamma", "dpo", NULL)
    SAME("orpo_alpha", "dpo.beta", "dpo", "with dpo.loss orpo")
    SAME("rpo_alpha", "dpo.sft_coef", "dpo", NULL)
    SAME("pref_ftx", "dpo.sft_coef", "dpo", NULL)
    ASIDE("precompute_ref_log_probs", "the reference is read once, before the first update")
    ASIDE("precompute_ref_batch_size", "the reference is read once, before the first update")
    ASIDE("disable_dropout", "models have no dropout, adapters lora.dropout")
    SAME("reward_model_path", "reward.path", "ppo", DIRECTORY)
    TOLD("reward_model", "reward.path", "ppo", DIRECTORY)
    TOLD("reward_model_adapters", "reward.adapter", "ppo", "a PEFT directory")
    TOLD("ref_model_sync_steps", "ppo.reference_every", "ppo", "in updates; the policy becomes the reference, unmixed")
    SAME("num_ppo_epochs", "ppo.epochs", "ppo", NULL)
    SAME("ppo_epochs", "ppo.epochs", "ppo", NULL)
    SAME("num_mini_batches", "ppo.minibatches", "ppo", NULL)
    TOLD("ppo_target", "ppo.kl_target", "ppo", "with ppo.kl_adaptive")
    SAME("ppo_whiten_rewards", "ppo.whiten_rewards", "ppo", NULL)
    SAME("num_generations", "ppo.samples_per_prompt", "ppo", NULL)
    SAME("rloo_k", "ppo.samples_per_prompt", "ppo", NULL)
    TOLD("missing_eos_penalty", "ppo.missing_eos_penalty", "ppo", "taken off the score with ppo.missing_eos subtract")
    TOLD("vf_coef", "ppo.critic_lr", "ppo", "a rate: a coefficient would scale the critic's gradient, and Adam divide that out again")
    SAME("response_length", "rollout.max_new_tokens", "ppo", NULL)
    SAME("max_new_tokens", "rollout.max_new_tokens", "ppo", NULL)
    SAME("output_min_length", "rollout.max_new_tokens_from", "ppo", NULL)
    SAME("output_max_length", "rollout.max_new_tokens", "ppo", NULL)
    TOLD("ref_model", "model.path", ALL, "the reference is the model, with model.adapter, that the run begins with")

    /* run, device */
    SAME("seed", "run.seed", ALL, NULL)
    ASIDE("data_seed", "the order of examples is of run.seed")
    SAME("output_dir", "run.dir", ALL, NULL)
    TOLD("output", "run.dir", ALL, NULL)
    ASIDE_OF("overwrite_output_dir", "run.resume", ALL, "false starts over")
    ASIDE_OF("resume_from_checkpoint", "run.resume", ALL, "true, the default, continues from the newest checkpoint in run.dir")
    SAME("auto_resume_from_checkpoints", "run.resume", ALL, NULL)
    TOLD("save_steps", "run.save_every", ALL, UPDATES)
    TOLD("eval_steps", "run.eval_every", ALL, UPDATES)
    TOLD("logging_steps", "run.log_every", ALL, UPDATES)
    SAME("save_total_limit", "run.keep", ALL, NULL)
    ASIDE("save_strategy", EVERY)
    ASIDE("saves_per_epoch", EVERY)
    ASIDE("eval_strategy", EVERY)
    ASIDE("evaluation_strategy", EVERY)
    ASIDE("evals_per_epoch", EVERY)
    ASIDE("eval_on_start", EVERY)
    ASIDE("logging_strategy", EVERY)
    ASIDE("logging_first_step", RUN_LOG)
    TOLD("load_best_model_at_end", "run.keep_best", ALL, "the name of a figure; the best model is RUN/best, and the result that of the last update")
    TOLD("early_stopping_patience", "run.patience", ALL, "in evaluations, by the figure that run.keep_best names")
    TOLD("metric_for_best_model", "run.keep_best", ALL, "the name of a figure: auto, loss ...")
    ASIDE("greater_is_better", "the figures of run.keep_best know it")
    TOLD("gpu_memory_limit", "device.memory_limit", ALL, "in bytes, or with a unit: 24GiB")
    ASIDE("report_to", RUN_LOG)
    ASIDE("run_name", RUN_LOG)
    ASIDE("logging_dir", RUN_LOG)
    ASIDE("plot_loss", RUN_LOG)
    ASIDE("wandb_*", RUN_LOG)
    ASIDE("use_wandb", RUN_LOG)
    ASIDE("swanlab_*", RUN_LOG)
    ASIDE("use_swanlab", RUN_LOG)
    ASIDE("trackio_*", RUN_LOG)
    ASIDE("use_trackio", RUN_LOG)
    ASIDE("mlflow_*", RUN_LOG)
    ASIDE("use_mlflow", RUN_LOG)
    ASIDE("comet_*", RUN_LOG)
    ASIDE("use_comet", RUN_LOG)
    ASIDE("otel_*", RUN_LOG)
    ASIDE("use_otel_metrics", RUN_LOG)
    ASIDE("use_tensorboard", RUN_LOG)
    ASIDE("eval_table_size", RUN_LOG)
    ASIDE("eval_max_new_tokens", RUN_LOG)
    ASIDE_OF("loss_watchdog_threshold", "run.on_alarm", ALL, ALARMS)
    ASIDE_OF("loss_watchdog_patience", "run.on_alarm", ALL, ALARMS)
    ASIDE("include_num_input_tokens_seen", RUN_LOG)
    ASIDE("include_tokens_per_second", RUN_LOG)
    ASIDE("disable_tqdm", RUN_LOG)
    ASIDE("push_to_hub", UPLOAD)
    ASIDE("hub_model_id", UPLOAD)
    ASIDE("hub_strategy", UPLOAD)
    ASIDE("push_dataset_to_hub", UPLOAD)
    ASIDE("hf_use_auth_token", UPLOAD)
    ASIDE("save_safetensors", "weights are written as safetensors")
    ASIDE("save_only_model", "checkpoints can always be gone on from")
    ASIDE("do_train", "the stage says it")
    ASIDE("do_eval", "there are evaluations where there are data for them (data.eval)")
    ASIDE("strict", "keys are always checked")
    ASIDE("debug", "--check, and drover inspect")
    ASIDE("deepspeed", ONE_DEVICE)
    ASIDE("fsdp", ONE_DEVICE)
    ASIDE("fsdp_*", ONE_DEVICE)
    ASIDE("dp_shard_size", ONE_DEVICE)
    ASIDE("dp_replicate_size", ONE_DEVICE)
    ASIDE("tensor_parallel_size", ONE_DEVICE)
    ASIDE("context_parallel_size", ONE_DEVICE)
    ASIDE("sequence_parallel_degree", ONE_DEVICE)
    ASIDE("use_ray", ONE_DEVICE)
    ASIDE("ray_num_workers", ONE_DEVICE)
    ASIDE("ddp", ONE_DEVICE)
    ASIDE("ddp_timeout", ONE_DEVICE)
    ASIDE("ddp_find_unused_parameters", ONE_DEVICE)
    ASIDE("local_rank", ONE_DEVICE)
    ASIDE("device_map", ONE_DEVICE)
    ASIDE("torch_compile", KERNELS)
    ASIDE("torch_compile_mode", KERNELS)
    ASIDE("torch_compile_backend", KERNELS)
    ASIDE("use_kernels", KERNELS)
    ASIDE("use_v1_kernels", KERNELS)
    ASIDE("cut_cross_entropy", KERNELS)
    ASIDE("tiled_mlp", KERNELS)
    ASIDE("use_liger_kernel", KERNELS)
    ASIDE("enable_liger_kernel", KERNELS)
    ASIDE("use_unsloth", KERNELS)
    ASIDE("use_unsloth_gc", KERNELS)
    ASIDE("lora_mlp_kernel", KERNELS)
    ASIDE("lora_qkv_kernel", KERNELS)
    ASIDE("lora_o_kernel", KERNELS)
    ASIDE("liger_rope", KERNELS)
    ASIDE("liger_rms_norm", KERNELS)
    ASIDE("liger_rms_norm_gated", KERNELS)
    ASIDE("liger_cross_entropy", KERNELS)
    ASIDE("liger_glu_activation", KERNELS)
    ASIDE("liger_layer_norm", KERNELS)
    ASIDE("liger_fused_linear_cross_entropy", KERNELS)

    /* what else is common: OpenRLHF, torchtune, DeepSpeed, Lightning, nanoGPT; nothing is converted by these */
    TOLD("pretrain", "model.path", ALL, DIRECTORY)
    TOLD("model_name", "model.path", ALL, DIRECTORY)
    TOLD("rank", "lora.r", ALL, NULL)
    TOLD("target_modules", "lora.targets", ALL, NULL)
    TOLD("train_file", "data.train", SUPERVISED, FILES)
    TOLD("train_file", "data.prompts", "ppo", FILES)
    TOLD("train_files", "data.train", SUPERVISED, FILES)
    TOLD("train_files", "data.prompts", "ppo", FILES)
    TOLD("train_data", "data.train", SUPERVISED, FILES)
    TOLD("train_data", "data.prompts", "ppo", FILES)
    TOLD("data_path", "data.train", SUPERVISED, FILES)
    TOLD("data_path", "data.prompts", "ppo", FILES)
    TOLD("prompt_data", "data.prompts", "ppo", FILES)
    TOLD("validation_file", "data.eval", ALL, FILES)
    TOLD("val_file", "data.eval", ALL, FILES)
    TOLD("val_files", "data.eval", ALL, FILES)
    TOLD("eval_file", "data.eval", ALL, FILES)
    TOLD("val_data", "data.eval", ALL, FILES)
    TOLD("test_data", "data.eval", ALL, FILES)
    TOLD("max_len", "data.max_length", ALL, LENGTH)
    TOLD("max_seq_len", "data.max_length", ALL, LENGTH)
    TOLD("seq_len", "data.max_length", ALL, LENGTH)
    TOLD("seq_length", "data.max_length", ALL, LENGTH)
    TOLD("block_size", "data.max_length", ALL, LENGTH)
    TOLD("context_length", "data.max_length", ALL, LENGTH)
    TOLD("l2", "optim.weight_decay", ALL, NULL)
    TOLD("grad_clip", "optim.clip", ALL, NULL)
    TOLD("clip_grad", "optim.clip", ALL, NULL)
    TOLD("clip_grad_norm", "optim.clip", ALL, NULL)
    TOLD("max_norm", "optim.clip", ALL, NULL)
    TOLD("gradient_clipping", "optim.clip", ALL, NULL)
    TOLD("gradient_clip_val", "optim.clip", ALL, NULL)
    TOLD("warmup", "optim.warmup_steps", ALL, "in updates; a share of them is optim.warmup_ratio")
    TOLD("lr_warmup_ratio", "optim.warmup_ratio", ALL, NULL)
    TOLD("min_lr", "optim.min_lr_ratio", ALL, "a share of optim.lr")
    TOLD("n_epochs", "optim.epochs", SUPERVISED, NULL)
    TOLD("n_epochs", "ppo.total_episodes", "ppo", EPISODES)
    TOLD("max_epochs", "optim.epochs", SUPERVISED, NULL)
    TOLD("max_epochs", "ppo.total_episodes", "ppo", EPISODES)
    TOLD("train_epochs", "optim.epochs", SUPERVISED, NULL)
    TOLD("train_epochs", "ppo.total_episodes", "ppo", EPISODES)
    TOLD("epochs", "ppo.total_episodes", "ppo", "answers over the whole run: epochs x prompts (ppo.epochs are passes over each rollout)")
    TOLD("max_iters", "optim.max_steps", SUPERVISED, NULL)
    TOLD("max_iters", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("num_steps", "optim.max_steps", SUPERVISED, NULL)
    TOLD("num_steps", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("train_steps", "optim.max_steps", SUPERVISED, NULL)
    TOLD("train_steps", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("total_steps", "optim.max_steps", SUPERVISED, NULL)
    TOLD("total_steps", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("steps", "optim.max_steps", SUPERVISED, NULL)
    TOLD("steps", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("iters", "optim.max_steps", SUPERVISED, NULL)
    TOLD("iters", "ppo.total_episodes", "ppo", "answers over the whole run: updates x ppo.batch_size")
    TOLD("train_batch_size", "optim.batch_size", SUPERVISED, "of all devices together")
    TOLD("train_batch_size", "ppo.batch_size", "ppo", "of all devices together")
    TOLD("grad_accum", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("grad_accum", "ppo.batch_size", "ppo", BATCH)
    TOLD("grad_accum_steps", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("grad_accum_steps", "ppo.batch_size", "ppo", BATCH)
    TOLD("gradient_accumulation", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("gradient_accumulation", "ppo.batch_size", "ppo", BATCH)
    TOLD("accumulation_steps", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("accumulation_steps", "ppo.batch_size", "ppo", BATCH)
    TOLD("accumulate_grad_batches", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("accumulate_grad_batches", "ppo.batch_size", "ppo", BATCH)
    TOLD("micro_train_batch_size", "optim.batch_size", SUPERVISED, BATCH)
    TOLD("micro_train_batch_size", "ppo.batch_size", "ppo", BATCH)
    TOLD("rollout_batch_size", "ppo.batch_size", "ppo", "answers, where it counts prompts: prompts x ppo.samples_per_prompt")
    TOLD("mini_batch_size", "ppo.minibatches", "ppo", "their number: ppo.batch_size / mini_batch_size")
    TOLD("init_kl_coef", "ppo.kl_coef", "ppo", NULL)
    TOLD("eps_clip", "ppo.cliprange", "ppo", NULL)
    TOLD("clip_ratio", "ppo.cliprange", "ppo", NULL)
    TOLD("n_samples_per_prompt", "ppo.samples_per_prompt", "ppo", NULL)
    TOLD("actor_learning_rate", "optim.lr", ALL, NULL)
    TOLD("critic_learning_rate", "ppo.critic_lr", "ppo", NULL)
    TOLD("generate_max_len", "rollout.max_new_tokens", "ppo", NULL)
    TOLD("max_tokens", "rollout.max_new_tokens", "ppo", NULL)
    TOLD("out_dir", "run.dir", ALL, NULL)
    TOLD("save_path", "run.dir", ALL, NULL)
    TOLD("eval_interval", "run.eval_every", ALL, UPDATES)
    TOLD("save_interval", "run.save_every", ALL, UPDATES)
    TOLD("log_interval", "run.log_every", ALL, UPDATES)
    TOLD("mixed_precision", "model.dtype", ALL, "bf16, with master weights in fp32, or f32")
};
/* clang-format on */
const size_t options_elsewhere_count = sizeof options_elsewhere / sizeof *options_elsewhere;

static bool same_name(const char *name, const char *given) {
  while (*name && *name == (*given == '-' ? '_' : *given)) name++, given++;
  return *name == *given || *name == '*';
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

const OptionElsewhere *option_elsewhere_of(const char *stage, const char *name) {
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    if (same_name(row->name, name) && (!row->programs || strstr(row->programs, stage))) return row;
  }
  return NULL;
}

bool elsewhere_word(const char *words, const char *word, char out[64]) {
  const size_t length = strlen(word);
  for (const char *at = words; *at; at += strspn(at, " ")) {
    const size_t size = strcspn(at, " ");
    if (length > 0 && size > length && strncmp(at, word, length) == 0 && at[length] == '=') {
      snprintf(out, 64, "%.*s", (int)(size - length - 1), at + length + 1);
      return true;
    }
    at += size;
  }
  return false;
}

bool option_elsewhere_value(const char *key, const char *word, char out[64]) {
  for (size_t i = 0; i < options_elsewhere_count; i++) {
    const OptionElsewhere *row = &options_elsewhere[i];
    if (row->use == ELSEWHERE_WORDS && row->key && strcmp(row->key, key) == 0 &&
        elsewhere_word(row->words, word, out) && *out)
      return true;
  }
  return false;
}

const char *option_section_programs(const char *section) {
  static const struct {
    const char *section, *programs;
  } rows[] = {{"lora", ALL},   {"optim", ALL},       {"ppo", "ppo"},
              {"cost", "ppo"}, {"critic", "ppo"},    {"rollout", "ppo and sample"},
              {"dpo", "dpo"},  {"sample", "sample"}, {"reward", "reward, ppo and sample"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (strcmp(rows[i].section, section) == 0) return rows[i].programs;
  return NULL;
}
