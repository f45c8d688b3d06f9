/* The configuration sections that stages share, and their option rows.
 *
 * A stage's config struct holds the sections it has, and its option table lists their rows by macro:
 *
 *   typedef struct SftConfig { ModelConfig model; LoraConfig lora; ... } SftConfig;
 *   static const Option table[] = {MODEL_OPTIONS(SftConfig, model) LORA_OPTIONS(SftConfig, lora, "0.05") ...};
 *
 * Each macro expands to rows with a comma after each. Defaults that differ between stages are macro
 * arguments, as text. Keys are those of DESIGN section 6; strings are owned by options_free. */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include "base/dtype.h"
#include "base/option.h"

#include <math.h>

/* One row. c: config struct, f: field, low and high: range (0, 0 = none). */
#define ROW(key, type, c, f, fallback, low, high, help) \
  { key, OPTION_##type, offsetof(c, f), fallback, low, high, NULL, false, help }
#define ROW_REQUIRED(key, type, c, f, help) \
  { key, OPTION_##type, offsetof(c, f), NULL, 0, 0, NULL, true, help }
#define ROW_CHOICE(key, c, f, fallback, choices, help) \
  { key, OPTION_CHOICE, offsetof(c, f), fallback, 0, 0, choices, false, help }

/* -- model ---------------------------------------------------------------------------------------------- */

typedef struct ModelConfig {
  char *path;     /* Hugging Face directory */
  char *adapter;  /* PEFT directory or NULL */
  int dtype;      /* index into model_dtype_choices; model_config_dtype gives the DType */
  bool recompute; /* keep only each block's input, run the block again in the backward */
} ModelConfig;

extern const char *const model_dtype_choices[]; /* f32, bf16 */
DType model_config_dtype(const ModelConfig *config);

/* clang-format off */
#define MODEL_OPTIONS(c, f)                                                                                  \
  ROW_REQUIRED("model.path", STRING, c, f.path, "Hugging Face model directory"),                             \
  ROW("model.adapter", STRING, c, f.adapter, NULL, 0, 0,                                                     \
      "PEFT adapter directory: trained further with LoRA, merged into the weights without"),                 \
  ROW_CHOICE("model.dtype", c, f.dtype, "f32", model_dtype_choices,                                          \
      "type of the weights in memory, and of a full model saved; bf16 keeps fp32 master weights"),           \
  ROW("model.recompute", BOOL, c, f.recompute, "false", 0, 0,                                                \
      "compute each block again in the backward pass: less memory, about a third more time"),
/* clang-format on */

/* -- lora ----------------------------------------------------------------------------------------------- */

typedef struct LoraConfig {
  bool enabled;
  int64_t r;
  double alpha, dropout;
  OptionStrings targets;
  bool rslora;
} LoraConfig;

/* r and alpha are alpaca-lora's. Targets: every linear, which PEFT calls all-linear and QLoRA found to be needed
 * to match full fine-tuning; PEFT's own default for LLaMA is q_proj,v_proj. */
/* clang-format off */
#define LORA_OPTIONS(c, f, default_dropout)                                                                  \
  ROW("lora.enabled", BOOL, c, f.enabled, "false", 0, 0, "train a LoRA adapter instead of all weights"),     \
  ROW("lora.r", INT, c, f.r, "8", 1, 4096,                                                                   \
      "rank (an adapter given as model.adapter keeps its own r, alpha, targets and rslora)"),                \
  ROW("lora.alpha", FLOAT, c, f.alpha, "16", 0, INFINITY, "scale: the adapter is multiplied by alpha / r"),  \
  ROW("lora.dropout", FLOAT, c, f.dropout, default_dropout, 0, 0.99,                                         \
      "dropout on the adapter's input while training"),                                                      \
  ROW("lora.targets", STRINGS, c, f.targets, "all-linear", 0, 0,                                             \
      "module names as PEFT matches them, or all-linear"),                                                   \
  ROW("lora.rslora", BOOL, c, f.rslora, "false", 0, 0, "scale by alpha / sqrt(r) instead"),
/* clang-format on */

/* -- data ----------------------------------------------------------------------------------------------- */

typedef struct DataConfig {
  OptionSources train, eval, ptx, prompts; /* a stage lists the rows of those it uses */
  int format;                              /* DatasetFormat */
  char *template;                          /* chat family or "auto" */
  int64_t max_length;                      /* tokens */
  int truncation;                          /* DatasetTruncation */
  double eval_fraction;
  char *cache; /* directory of tokenised data; NULL = run.dir/cache */
  bool packing, shuffle, train_on_inputs;
} DataConfig;

/* The table that lists these rows includes datasets/dataset.h, for the names of formats and truncations. */
/* clang-format off */
#define DATA_COMMON_OPTIONS(c, f, default_length)                                                            \
  ROW_CHOICE("data.format", c, f.format, "auto", dataset_format_names,                                       \
      "format of the examples; auto recognises it by the first record's keys"),                              \
  ROW("data.template", STRING, c, f.template, "auto", 0, 0,                                                  \
      "chat template: plain, chatml, alpaca, vicuna, zephyr, llama2, llama3; auto = the model's own"),       \
  ROW("data.max_length", INT, c, f.max_length, default_length, 1, 1 << 24, "longest example, tokens"),       \
  ROW_CHOICE("data.truncation", c, f.truncation, "drop", dataset_truncation_names,                           \
      "longer examples: leave out (counted and reported), stop with an error, or cut"),                      \
  ROW("data.cache", STRING, c, f.cache, NULL, 0, 0,                                                          \
      "directory for tokenised data (default: cache in run.dir)"),                                           \
  ROW("data.shuffle", BOOL, c, f.shuffle, "true", 0, 0, "a new seeded order in every epoch"),

/* For stages that train on files of examples. */
#define DATA_TRAIN_OPTIONS(c, f, default_length)                                                             \
  ROW_REQUIRED("data.train", SOURCES, c, f.train, "JSONL file, or a list of files with weights to blend"),   \
  ROW("data.eval", SOURCES, c, f.eval, NULL, 0, 0, "JSONL file(s) for evaluation"),                          \
  ROW("data.eval_fraction", FLOAT, c, f.eval_fraction, "0", 0, 0.5,                                          \
      "share of data.train held out for evaluation when there is no data.eval"),                             \
  DATA_COMMON_OPTIONS(c, f, default_length)

#define DATA_PACKING_OPTIONS(c, f)                                                                           \
  ROW("data.packing", BOOL, c, f.packing, "true", 0, 0,                                                      \
      "fill micro-batches with several sequences end to end (attention never crosses between them)"),

#define DATA_MASK_OPTIONS(c, f)                                                                              \
  ROW("data.train_on_inputs", BOOL, c, f.train_on_inputs, "false", 0, 0, "loss on prompt tokens too"),
/* clang-format on */

/* -- optim ---------------------------------------------------------------------------------------------- */

typedef struct OptimConfig {
  int name; /* OptimizerKind, train/optimizer.h */
  double lr;
  int schedule; /* ScheduleKind, train/schedule.h */
  double min_lr_ratio;
  int64_t warmup_steps;
  double weight_decay, beta1, beta2, eps, momentum;
  double clip; /* 0 = off */
  int64_t micro_batch_tokens;
  /* UPDATE_OPTIONS */
  int64_t batch_size, max_steps;
  double epochs;
} OptimConfig;

extern const char *const optimizer_choices[]; /* adamw, lion, sgd: in the order of OptimizerKind */
extern const char *const schedule_choices[];  /* constant, linear, cosine: in the order of ScheduleKind */

/* Defaults as text: learning rate, schedule, AdamW's eps, tokens in a micro-batch. */
/* clang-format off */
#define OPTIM_OPTIONS(c, f, default_lr, default_schedule, default_eps, default_tokens)                       \
  ROW_CHOICE("optim.name", c, f.name, "adamw", optimizer_choices, "optimiser"),                              \
  ROW("optim.lr", FLOAT, c, f.lr, default_lr, 0, INFINITY, "peak learning rate"),                            \
  ROW_CHOICE("optim.schedule", c, f.schedule, default_schedule, schedule_choices,                            \
      "learning rate after the warm-up"),                                                                    \
  ROW("optim.min_lr_ratio", FLOAT, c, f.min_lr_ratio, "0", 0, 1,                                             \
      "where linear and cosine end, as a share of the peak"),                                                \
  ROW("optim.warmup_steps", INT, c, f.warmup_steps, "0", 0, INFINITY, "updates of linear warm-up from 0"),   \
  ROW("optim.weight_decay", FLOAT, c, f.weight_decay, "0", 0, INFINITY,                                      \
      "decoupled weight decay of matrices (norms and biases have none)"),                                    \
  ROW("optim.beta1", FLOAT, c, f.beta1, "0.9", 0, 0.999999, "AdamW, Lion: decay of the mean gradient"),      \
  ROW("optim.beta2", FLOAT, c, f.beta2, "0.999", 0, 0.9999999,                                               \
      "AdamW: decay of the mean square; Lion: of the momentum (0.99 is usual there)"),                       \
  ROW("optim.eps", FLOAT, c, f.eps, default_eps, 0, 1, "AdamW: added to the root of the mean square"),       \
  ROW("optim.momentum", FLOAT, c, f.momentum, "0", 0, 0.999999, "SGD"),                                      \
  ROW("optim.clip", FLOAT, c, f.clip, "1", 0, INFINITY, "largest global gradient norm; 0 = no clipping"),    \
  ROW("optim.micro_batch_tokens", INT, c, f.micro_batch_tokens, default_tokens, 1, 1 << 28,                  \
      "tokens computed at once: sets the memory of activations, not the result"),

/* For stages whose updates are batches of a data set. */
#define UPDATE_OPTIONS(c, f, default_batch, default_epochs)                                                  \
  ROW("optim.batch_size", INT, c, f.batch_size, default_batch, 1, 1 << 24,                                   \
      "examples per update, whatever the micro-batches"),                                                    \
  ROW("optim.epochs", FLOAT, c, f.epochs, default_epochs, 0.000001, 1e6, "passes over the data"),            \
  ROW("optim.max_steps", INT, c, f.max_steps, "0", 0, INFINITY,                                              \
      "updates at most; 0 = as many as the epochs give"),
/* clang-format on */

/* -- rollout -------------------------------------------------------------------------------------------- */

typedef struct RolloutConfig {
  int64_t max_new_tokens;
  double temperature, top_p;
  int64_t top_k;
  int64_t batch; /* sequences running at once */
} RolloutConfig;

/* clang-format off */
#define ROLLOUT_OPTIONS(c, f, default_tokens, default_temperature, default_batch)                            \
  ROW("rollout.max_new_tokens", INT, c, f.max_new_tokens, default_tokens, 1, 1 << 24,                        \
      "longest answer, tokens"),                                                                             \
  ROW("rollout.temperature", FLOAT, c, f.temperature, default_temperature, 0, 100,                           \
      "sampling temperature; 0 = greedy"),                                                                   \
  ROW("rollout.top_k", INT, c, f.top_k, "0", 0, 1 << 24, "sample from the k likeliest tokens; 0 = all"),     \
  ROW("rollout.top_p", FLOAT, c, f.top_p, "1", 0.000001, 1,                                                  \
      "sample from the likeliest tokens that together have this probability; 1 = all"),                      \
  ROW("rollout.batch", INT, c, f.batch, default_batch, 1, 1 << 20, "sequences generated at once"),
/* clang-format on */

/* -- run ------------------------------------------------------------------------------------------------ */

typedef struct RunConfig {
  char *dir;
  int64_t seed;
  bool resume;
  int64_t save_every, keep, eval_every, log_every;
} RunConfig;

/* clang-format off */
#define RUN_OPTIONS(c, f)                                                                                    \
  ROW_REQUIRED("run.dir", STRING, c, f.dir, "directory of this run: config, log, checkpoints, result"),      \
  ROW("run.seed", INT, c, f.seed, "1", 0, INFINITY, "of everything random in the run"),                      \
  ROW("run.resume", BOOL, c, f.resume, "true", 0, 0,                                                         \
      "go on from the newest checkpoint; false starts over and removes what the run left before"),           \
  ROW("run.save_every", INT, c, f.save_every, "200", 0, INFINITY,                                            \
      "updates between checkpoints; 0 = only when interrupted"),                                             \
  ROW("run.keep", INT, c, f.keep, "2", 1, INFINITY, "newest checkpoints that are kept"),                     \
  ROW("run.eval_every", INT, c, f.eval_every, "0", 0, INFINITY,                                              \
      "updates between evaluations; 0 = only at the end"),                                                   \
  ROW("run.log_every", INT, c, f.log_every, "1", 1, INFINITY, "updates between rows in the run log"),
/* clang-format on */

/* -- device --------------------------------------------------------------------------------------------- */

typedef struct DeviceConfig {
  int backend; /* DeviceKind */
  int64_t threads;
  int64_t memory_limit; /* bytes; 0 = what the machine has free */
} DeviceConfig;

extern const char *const device_choices[]; /* auto, cpu, cuda: in the order of DeviceKind */

/* clang-format off */
#define DEVICE_OPTIONS(c, f)                                                                                 \
  ROW_CHOICE("device.backend", c, f.backend, "auto", device_choices, "where to compute"),                    \
  ROW("device.threads", INT, c, f.threads, "0", 0, 4096,                                                     \
      "CPU threads; 0 = all cores (the same number gives the same bits)"),                                   \
  ROW("device.memory_limit", BYTES, c, f.memory_limit, "0", 0, INFINITY,                                     \
      "memory the run may use, e.g. 8GiB; 0 = what the machine has free"),
/* clang-format on */

#endif
