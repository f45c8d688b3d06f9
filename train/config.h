/* The configuration sections that stages share, and their option rows.
 *
 * A stage's config struct holds the sections it has, and its option table lists their rows by macro:
 *
 *   typedef struct SftConfig { ModelConfig model; LoraConfig lora; ... } SftConfig;
 *   static const Option table[] = {MODEL_OPTIONS(SftConfig, model) LORA_OPTIONS(SftConfig, lora, "0.05")
 * ...};
 *
 * Each macro expands to rows with a comma after each. Defaults that differ between stages are macro
 * arguments, as text. Keys are those of DESIGN section 6; strings are owned by options_free. */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include "base/dtype.h"
#include "base/option.h"

#include <math.h>

/* -- model ---------------------------------------------------------------------------------------------- */

typedef struct ModelConfig {
  char *path;     /* Hugging Face directory */
  char *adapter;  /* PEFT directory or NULL */
  int dtype;      /* index into model_dtype_choices; model_config_dtype gives the DType */
  bool recompute; /* keep only each block's input, run the block again in the backward */
} ModelConfig;

extern const char *const model_dtype_choices[]; /* f32, bf16 */
DType model_config_dtype(const ModelConfig *config);

#define MODEL_OPTIONS(Config, field)                                                               \
  {"model.path", OPTION_STRING, offsetof(Config, field.path),  NULL, 0, 0,                         \
   NULL,         true,          "Hugging Face model directory"},                                   \
      {"model.adapter",                                                                            \
       OPTION_STRING,                                                                              \
       offsetof(Config, field.adapter),                                                            \
       NULL,                                                                                       \
       0,                                                                                          \
       0,                                                                                          \
       NULL,                                                                                       \
       false,                                                                                      \
       "PEFT adapter directory: continued with LoRA, merged into the weights without"},            \
      {"model.dtype",                                                                              \
       OPTION_CHOICE,                                                                              \
       offsetof(Config, field.dtype),                                                              \
       "f32",                                                                                      \
       0,                                                                                          \
       0,                                                                                          \
       model_dtype_choices,                                                                        \
       false,                                                                                      \
       "type of the weights in memory and of a full model saved; bf16 keeps fp32 master weights"}, \
      {"model.recompute",                                                                          \
       OPTION_BOOL,                                                                                \
       offsetof(Config, field.recompute),                                                          \
       "false",                                                                                    \
       0,                                                                                          \
       0,                                                                                          \
       NULL,                                                                                       \
       false,                                                                                      \
       "compute each block again in the backward pass: less memory, about a third more time"},

/* -- lora ----------------------------------------------------------------------------------------------- */

typedef struct LoraConfig {
  bool enabled;
  int64_t r;
  double alpha, dropout;
  OptionStrings targets;
  bool rslora;
} LoraConfig;

/* dropout: default as text. r, alpha: alpaca-lora's. Targets: every linear (QLoRA's finding, and PEFT's name
 * for it), where PEFT's LLaMA default is q_proj,v_proj. */
#define LORA_OPTIONS(Config, field, default_dropout)                                        \
  {"lora.enabled", OPTION_BOOL, offsetof(Config, field.enabled),                            \
   "false",        0,           0,                                                          \
   NULL,           false,       "train a LoRA adapter instead of all weights"},             \
      {"lora.r",                                                                            \
       OPTION_INT,                                                                          \
       offsetof(Config, field.r),                                                           \
       "8",                                                                                 \
       1,                                                                                   \
       4096,                                                                                \
       NULL,                                                                                \
       false,                                                                               \
       "rank (an adapter given as model.adapter keeps its own r, alpha, targets, rslora)"}, \
      {"lora.alpha",                                                                        \
       OPTION_FLOAT,                                                                        \
       offsetof(Config, field.alpha),                                                       \
       "16",                                                                                \
       0,                                                                                   \
       INFINITY,                                                                            \
       NULL,                                                                                \
       false,                                                                               \
       "scale: the adapter's output is multiplied by alpha / r"},                           \
      {"lora.dropout",                                                                      \
       OPTION_FLOAT,                                                                        \
       offsetof(Config, field.dropout),                                                     \
       default_dropout,                                                                     \
       0,                                                                                   \
       0.99,                                                                                \
       NULL,                                                                                \
       false,                                                                               \
       "dropout on the adapter's input while training"},                                    \
      {"lora.targets",                                                                      \
       OPTION_STRINGS,                                                                      \
       offsetof(Config, field.targets),                                                     \
       "all-linear",                                                                        \
       0,                                                                                   \
       0,                                                                                   \
       NULL,                                                                                \
       false,                                                                               \
       "module names as PEFT matches them, or all-linear"},                                 \
      {"lora.rslora", OPTION_BOOL, offsetof(Config, field.rslora),    "false", 0, 0,        \
       NULL,          false,       "scale by alpha / sqrt(r) instead"},

/* -- data ----------------------------------------------------------------------------------------------- */

typedef struct DataConfig {
  OptionSources train, eval, ptx, prompts; /* a stage lists the rows of those it uses */
  char *format;                            /* "auto" or a format of datasets/ */
  char *template;                          /* chat family or "auto" */
  int64_t max_length;                      /* tokens */
  int truncation;                          /* DataTruncation */
  double eval_fraction;
  char *cache; /* directory of tokenised data; NULL = run.dir/cache */
  bool packing, shuffle, train_on_inputs;
} DataConfig;

/* The rows of training on files of examples; the table that lists them includes datasets/dataset.h for the
 * names of formats. default_length: default of data.max_length as text. */
#define DATA_TRAIN_OPTIONS(Config, field, default_length)                         \
  {"data.train",                                                                  \
   OPTION_SOURCES,                                                                \
   offsetof(Config, field.train),                                                 \
   NULL,                                                                          \
   0,                                                                             \
   0,                                                                             \
   NULL,                                                                          \
   true,                                                                          \
   "JSONL file, or a list of files with weights to blend"},                       \
      {"data.eval", OPTION_SOURCES, offsetof(Config, field.eval),  NULL, 0, 0,    \
       NULL,        false,          "JSONL file(s) for evaluation"},              \
      {"data.eval_fraction",                                                      \
       OPTION_FLOAT,                                                              \
       offsetof(Config, field.eval_fraction),                                     \
       "0",                                                                       \
       0,                                                                         \
       0.5,                                                                       \
       NULL,                                                                      \
       false,                                                                     \
       "share of data.train held out for evaluation when there is no data.eval"}, \
      DATA_COMMON_OPTIONS(Config, field, default_length)

/* The rows of any stage that reads text. */
#define DATA_COMMON_OPTIONS(Config, field, default_length)                                              \
  {"data.format",                                                                                       \
   OPTION_STRING,                                                                                       \
   offsetof(Config, field.format),                                                                      \
   "auto",                                                                                              \
   0,                                                                                                   \
   0,                                                                                                   \
   NULL,                                                                                                \
   false,                                                                                               \
   "format of the examples; auto recognises it by the first records' keys"},                            \
      {"data.template",                                                                                 \
       OPTION_STRING,                                                                                   \
       offsetof(Config, field.template),                                                                \
       "auto",                                                                                          \
       0,                                                                                               \
       0,                                                                                               \
       NULL,                                                                                            \
       false,                                                                                           \
       "chat template: plain, chatml, alpaca, vicuna, zephyr, llama2, llama3; auto = the model's own"}, \
      {"data.max_length",                                                                               \
       OPTION_INT,                                                                                      \
       offsetof(Config, field.max_length),                                                              \
       default_length,                                                                                  \
       1,                                                                                               \
       1 << 24,                                                                                         \
       NULL,                                                                                            \
       false,                                                                                           \
       "longest example, tokens"},                                                                      \
      {"data.truncation",                                                                               \
       OPTION_CHOICE,                                                                                   \
       offsetof(Config, field.truncation),                                                              \
       "error",                                                                                         \
       0,                                                                                               \
       0,                                                                                               \
       data_truncation_choices,                                                                         \
       false,                                                                                           \
       "longer examples: leave out (counted and reported), stop with an error, or cut"},                \
      {"data.cache",                                                                                    \
       OPTION_STRING,                                                                                   \
       offsetof(Config, field.cache),                                                                   \
       NULL,                                                                                            \
       0,                                                                                               \
       0,                                                                                               \
       NULL,                                                                                            \
       false,                                                                                           \
       "directory for tokenised data (default: cache in run.dir)"},                                     \
      {"data.shuffle", OPTION_BOOL, offsetof(Config, field.shuffle),    "true", 0, 0,                   \
       NULL,           false,       "a new seeded order in every epoch"},

#define DATA_PACKING_OPTIONS(Config, field)                                                               \
  {"data.packing",                                                                                        \
   OPTION_BOOL,                                                                                           \
   offsetof(Config, field.packing),                                                                       \
   "true",                                                                                                \
   0,                                                                                                     \
   0,                                                                                                     \
   NULL,                                                                                                  \
   false,                                                                                                 \
   "fill micro-batches with several sequences end to end (attention never crosses from one to another)"}, \
      {"data.train_on_inputs",                                                                            \
       OPTION_BOOL,                                                                                       \
       offsetof(Config, field.train_on_inputs),                                                           \
       "false",                                                                                           \
       0,                                                                                                 \
       0,                                                                                                 \
       NULL,                                                                                              \
       false,                                                                                             \
       "loss on prompt tokens too"},

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
#define OPTIM_OPTIONS(Config, field, default_lr, default_schedule, default_eps, default_tokens)   \
  {"optim.name", OPTION_CHOICE, offsetof(Config, field.name), "adamw", 0, 0, optimizer_choices,   \
   false,        "optimiser"},                                                                    \
      {"optim.lr", OPTION_FLOAT, offsetof(Config, field.lr), default_lr, 0, INFINITY,             \
       NULL,       false,        "peak learning rate"},                                           \
      {"optim.schedule", OPTION_CHOICE, offsetof(Config, field.schedule), default_schedule, 0, 0, \
       schedule_choices, false,         "learning rate after the warm-up"},                       \
      {"optim.min_lr_ratio",                                                                      \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.min_lr_ratio),                                                      \
       "0",                                                                                       \
       0,                                                                                         \
       1,                                                                                         \
       NULL,                                                                                      \
       false,                                                                                     \
       "where linear and cosine end, as a share of the peak"},                                    \
      {"optim.warmup_steps",                                                                      \
       OPTION_INT,                                                                                \
       offsetof(Config, field.warmup_steps),                                                      \
       "0",                                                                                       \
       0,                                                                                         \
       INFINITY,                                                                                  \
       NULL,                                                                                      \
       false,                                                                                     \
       "updates of linear warm-up from 0"},                                                       \
      {"optim.weight_decay",                                                                      \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.weight_decay),                                                      \
       "0",                                                                                       \
       0,                                                                                         \
       INFINITY,                                                                                  \
       NULL,                                                                                      \
       false,                                                                                     \
       "decoupled weight decay on matrices (norms and biases never)"},                            \
      {"optim.beta1",                                                                             \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.beta1),                                                             \
       "0.9",                                                                                     \
       0,                                                                                         \
       0.999999,                                                                                  \
       NULL,                                                                                      \
       false,                                                                                     \
       "AdamW, Lion: decay of the mean gradient"},                                                \
      {"optim.beta2",                                                                             \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.beta2),                                                             \
       "0.999",                                                                                   \
       0,                                                                                         \
       0.9999999,                                                                                 \
       NULL,                                                                                      \
       false,                                                                                     \
       "AdamW: decay of the mean square; Lion: of the momentum (there, 0.99 is usual)"},          \
      {"optim.eps",                                                                               \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.eps),                                                               \
       default_eps,                                                                               \
       0,                                                                                         \
       1,                                                                                         \
       NULL,                                                                                      \
       false,                                                                                     \
       "AdamW: added to the root of the mean square"},                                            \
      {"optim.momentum",                                                                          \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.momentum),                                                          \
       "0",                                                                                       \
       0,                                                                                         \
       0.999999,                                                                                  \
       NULL,                                                                                      \
       false,                                                                                     \
       "SGD"},                                                                                    \
      {"optim.clip",                                                                              \
       OPTION_FLOAT,                                                                              \
       offsetof(Config, field.clip),                                                              \
       "1",                                                                                       \
       0,                                                                                         \
       INFINITY,                                                                                  \
       NULL,                                                                                      \
       false,                                                                                     \
       "largest global gradient norm; 0 = no clipping"},                                          \
      {"optim.micro_batch_tokens",                                                                \
       OPTION_INT,                                                                                \
       offsetof(Config, field.micro_batch_tokens),                                                \
       default_tokens,                                                                            \
       1,                                                                                         \
       1 << 28,                                                                                   \
       NULL,                                                                                      \
       false,                                                                                     \
       "tokens computed at once: sets the memory of activations, not the result"},

/* For stages whose updates are batches of a data set. */
#define UPDATE_OPTIONS(Config, field, default_batch, default_epochs)                           \
  {"optim.batch_size",                                                                         \
   OPTION_INT,                                                                                 \
   offsetof(Config, field.batch_size),                                                         \
   default_batch,                                                                              \
   1,                                                                                          \
   1 << 24,                                                                                    \
   NULL,                                                                                       \
   false,                                                                                      \
   "sequences per update (pairs, in the reward stage)"},                                       \
      {"optim.epochs", OPTION_INT, offsetof(Config, field.epochs), default_epochs, 1, 1 << 20, \
       NULL,           false,      "passes over the data"},                                    \
      {"optim.max_steps",                                                                      \
       OPTION_INT,                                                                             \
       offsetof(Config, field.max_steps),                                                      \
       "0",                                                                                    \
       0,                                                                                      \
       INFINITY,                                                                               \
       NULL,                                                                                   \
       false,                                                                                  \
       "updates at most; 0 = as many as the epochs give"},

/* -- rollout -------------------------------------------------------------------------------------------- */

typedef struct RolloutConfig {
  int64_t max_new_tokens;
  double temperature, top_p;
  int64_t top_k;
  int64_t batch; /* sequences running at once */
} RolloutConfig;

#define ROLLOUT_OPTIONS(Config, field, default_tokens, default_temperature, default_batch) \
  {"rollout.max_new_tokens",                                                               \
   OPTION_INT,                                                                             \
   offsetof(Config, field.max_new_tokens),                                                 \
   default_tokens,                                                                         \
   1,                                                                                      \
   1 << 24,                                                                                \
   NULL,                                                                                   \
   false,                                                                                  \
   "longest answer, tokens"},                                                              \
      {"rollout.temperature",                                                              \
       OPTION_FLOAT,                                                                       \
       offsetof(Config, field.temperature),                                                \
       default_temperature,                                                                \
       0,                                                                                  \
       100,                                                                                \
       NULL,                                                                               \
       false,                                                                              \
       "sampling temperature; 0 = greedy"},                                                \
      {"rollout.top_k",                                                                    \
       OPTION_INT,                                                                         \
       offsetof(Config, field.top_k),                                                      \
       "0",                                                                                \
       0,                                                                                  \
       1 << 24,                                                                            \
       NULL,                                                                               \
       false,                                                                              \
       "sample from the k likeliest tokens only; 0 = all"},                                \
      {"rollout.top_p",                                                                    \
       OPTION_FLOAT,                                                                       \
       offsetof(Config, field.top_p),                                                      \
       "1",                                                                                \
       0.000001,                                                                           \
       1,                                                                                  \
       NULL,                                                                               \
       false,                                                                              \
       "sample from the likeliest tokens that together have this probability; 1 = all"},   \
      {"rollout.batch",                                                                    \
       OPTION_INT,                                                                         \
       offsetof(Config, field.batch),                                                      \
       default_batch,                                                                      \
       1,                                                                                  \
       1 << 20,                                                                            \
       NULL,                                                                               \
       false,                                                                              \
       "sequences generated at once"},

/* -- run ------------------------------------------------------------------------------------------------ */

typedef struct RunConfig {
  char *dir;
  int64_t seed;
  bool resume;
  int64_t save_every, keep, eval_every, log_every;
} RunConfig;

#define RUN_OPTIONS(Config, field)                                                                     \
  {"run.dir",                                                                                          \
   OPTION_STRING,                                                                                      \
   offsetof(Config, field.dir),                                                                        \
   NULL,                                                                                               \
   0,                                                                                                  \
   0,                                                                                                  \
   NULL,                                                                                               \
   true,                                                                                               \
   "directory of this run: config, log, checkpoints, result"},                                         \
      {"run.seed", OPTION_INT, offsetof(Config, field.seed),     "1", 0, INFINITY,                     \
       NULL,       false,      "of everything random in the run"},                                     \
      {"run.resume",                                                                                   \
       OPTION_BOOL,                                                                                    \
       offsetof(Config, field.resume),                                                                 \
       "true",                                                                                         \
       0,                                                                                              \
       0,                                                                                              \
       NULL,                                                                                           \
       false,                                                                                          \
       "continue from the newest checkpoint; false starts over and removes what the run left before"}, \
      {"run.save_every",                                                                               \
       OPTION_INT,                                                                                     \
       offsetof(Config, field.save_every),                                                             \
       "200",                                                                                          \
       0,                                                                                              \
       INFINITY,                                                                                       \
       NULL,                                                                                           \
       false,                                                                                          \
       "updates between checkpoints; 0 = only when interrupted"},                                      \
      {"run.keep", OPTION_INT, offsetof(Config, field.keep),      "2", 1, INFINITY,                    \
       NULL,       false,      "newest checkpoints that are kept"},                                    \
      {"run.eval_every",                                                                               \
       OPTION_INT,                                                                                     \
       offsetof(Config, field.eval_every),                                                             \
       "0",                                                                                            \
       0,                                                                                              \
       INFINITY,                                                                                       \
       NULL,                                                                                           \
       false,                                                                                          \
       "updates between evaluations; 0 = only at the end"},                                            \
      {"run.log_every",                                                                                \
       OPTION_INT,                                                                                     \
       offsetof(Config, field.log_every),                                                              \
       "1",                                                                                            \
       1,                                                                                              \
       INFINITY,                                                                                       \
       NULL,                                                                                           \
       false,                                                                                          \
       "updates between rows in the run log"},

/* -- device --------------------------------------------------------------------------------------------- */

typedef struct DeviceConfig {
  int backend; /* DeviceKind */
  int64_t threads;
  int64_t memory_limit; /* bytes; 0 = what the machine has free */
} DeviceConfig;

extern const char *const device_choices[]; /* auto, cpu, cuda: in the order of DeviceKind */

#define DEVICE_OPTIONS(Config, field)                                                                      \
  {"device.backend",  OPTION_CHOICE, offsetof(Config, field.backend), "auto", 0, 0, device_choices, false, \
   "where to compute"},                                                                                    \
      {"device.threads",                                                                                   \
       OPTION_INT,                                                                                         \
       offsetof(Config, field.threads),                                                                    \
       "0",                                                                                                \
       0,                                                                                                  \
       4096,                                                                                               \
       NULL,                                                                                               \
       false,                                                                                              \
       "CPU threads; 0 = all cores (the same number gives the same bits)"},                                \
      {"device.memory_limit",                                                                              \
       OPTION_BYTES,                                                                                       \
       offsetof(Config, field.memory_limit),                                                               \
       "0",                                                                                                \
       0,                                                                                                  \
       INFINITY,                                                                                           \
       NULL,                                                                                               \
       false,                                                                                              \
       "memory the run may use, e.g. 8GiB; 0 = what the machine has free"},

#endif
