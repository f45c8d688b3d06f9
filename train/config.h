/* The configuration sections that stages share, and their option rows.
 *
 * A stage's config struct holds the sections it has, and its option table lists their rows by macro:
 *
 *   typedef struct PpoConfig { ModelConfig model; LoraConfig lora; ... } PpoConfig;
 *   static const Option table[] = {MODEL_OPTIONS(PpoConfig, model) RUN_OPTIONS(PpoConfig, run) ...};
 *
 * Each macro expands to rows with a comma after each. Defaults that differ between stages are macro
 * arguments, as text. Keys are those of DESIGN section 6; strings are owned by options_free. */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include "base/option.h"
#include "model/model.h"
#include "train/alarm.h"

#include <math.h>

/* One option a row. */
/* clang-format off */

/* -- model ---------------------------------------------------------------------------------------------- */

typedef struct ModelConfig {
  char *path;     /* Hugging Face directory */
  char *adapter;  /* PEFT directory or NULL */
  int dtype;      /* ModelDtype; model_config_format makes a WeightFormat of it */
  int tokenizer;  /* TokenizerKind */
  int quantize;   /* ModelQuantize */
  int tables;     /* ModelTables */
  bool recompute; /* keep only each block's input, run the block again in the backward */
  int offload;    /* ModelOffload */
} ModelConfig;

typedef enum ModelDtype { MODEL_DTYPE_AUTO, MODEL_DTYPE_F32, MODEL_DTYPE_BF16 } ModelDtype;
extern const char *const model_dtype_choices[]; /* auto, f32, bf16: in the order of ModelDtype */
extern const char *const model_quantize_choices[]; /* none, nf4, int8: in the order of ModelQuantize (model/model.h) */
typedef enum ModelTables { MODEL_TABLES_NONE, MODEL_TABLES_INT8 } ModelTables;
extern const char *const model_tables_choices[]; /* none, int8: in the order of ModelTables */
typedef enum ModelOffload { MODEL_OFFLOAD_NONE, MODEL_OFFLOAD_ACTIVATIONS } ModelOffload;
extern const char *const model_offload_choices[]; /* none, activations: in the order of ModelOffload */
/* What the choices of the first three of these say. */
WeightFormat weight_format(int dtype, int quantize, int tables);
WeightFormat model_config_format(const ModelConfig *config);
int model_quantize_bits(ModelQuantize quantize); /* 4 or 8, for messages */
extern const char *const tokenizer_choices[]; /* auto, file, sentencepiece: in the order of TokenizerKind */

/* A row of an option table of that key. */
#define TOKENIZER_OPTION(key, Config, field)                                                                \
  ROW_CHOICE(key, Config, field, "auto", tokenizer_choices,                                                 \
      "whose reading of the tokenizer's files: auto = Transformers 5's AutoTokenizer; file = tokenizer.json alone; "                 \
      "sentencepiece = tokenizer.model as that library does")

/* Its rows: prefix "model." and glue "_" in a stage, "" and "-" in a tool. */
#define QUANTIZE_OPTIONS(prefix, glue, Config, quantize, tables, ...)                                       \
  ROW_CHOICE(prefix "quantize", Config, quantize, "none", model_quantize_choices,                           \
      "nf4: the linears of a frozen model in 4 bits, under an adapter or none (QLoRA); int8: in 8 bits", ##__VA_ARGS__),     \
  ROW_CHOICE(prefix "quantize" glue "tables", Config, tables, "none", model_tables_choices,                 \
      "int8: the embedding table and the LM head in 8 bits as well", .when = prefix "quantize != none")

#define MODEL_OPTIONS(Config, field)                                                                        \
  ROW_STRING_REQUIRED("model.path", Config, field.path,                                                     \
      "directory of a model in Hugging Face's layout, or a GGUF file", .names = OPTION_NAMES_MODEL, .first = true), \
  ROW_STRING("model.adapter", Config, field.adapter, NULL,                                                  \
      "PEFT adapter directory: continued with LoRA, merged into the weights without",                       \
      .names = OPTION_NAMES_ADAPTER, .first = true),                                                        \
  TOKENIZER_OPTION("model.tokenizer", Config, field.tokenizer),                                             \
  ROW_CHOICE("model.dtype", Config, field.dtype, "auto", model_dtype_choices,                               \
      "type of the weights in memory and of a full model saved; bf16 keeps fp32 master weights; auto: bf16 on a GPU " \
      "when the model is in 16 bits, else f32"),                                                            \
  QUANTIZE_OPTIONS("model.", "_", Config, field.quantize, field.tables, .first = true),                                  \
  ROW_BOOL("model.recompute", Config, field.recompute, "false",                                             \
      "compute each block again in the backward pass: less memory, about a third more time"),               \
  ROW_CHOICE("model.offload", Config, field.offload, "none", model_offload_choices,                         \
      "activations: on a GPU, with model.recompute, what that keeps of each block lies in the host's memory"),

/* -- lora ----------------------------------------------------------------------------------------------- */

typedef struct LoraConfig {
  bool enabled;
  int64_t r;
  double alpha, dropout;
  OptionStrings targets, modules_to_save;
  bool ensure_weight_tying, rslora;
} LoraConfig;

/* dropout: default as text; shape_when: the condition (base/option.h) under which an adapter is made that all but
 * dropout give its shape. r, alpha: alpaca-lora's. Targets: every linear (QLoRA's finding, and PEFT's name
 * for it), where PEFT's LLaMA default is q_proj,v_proj. */
#define LORA_OPTIONS(Config, field, default_dropout, shape_when)                                            \
  ROW_BOOL("lora.enabled", Config, field.enabled, "false", "train a LoRA adapter instead of all weights",   \
      .first = true),                                                                                       \
  ROW_INT("lora.r", Config, field.r, "8", 1, 4096,                                                          \
      "rank (an adapter that is continued keeps its own r, alpha, targets, modules_to_save, ...)", .when = shape_when),   \
  ROW_FLOAT("lora.alpha", Config, field.alpha, "16", 1e-6, 65536,                                             \
      "scale: the adapter's output is multiplied by alpha / r", .when = shape_when),                        \
  ROW_FLOAT("lora.dropout", Config, field.dropout, default_dropout, 0, 0.99,                                \
      "dropout on the adapter's input while training", .when = "lora.enabled"),                             \
  ROW_STRINGS("lora.targets", Config, field.targets, "all-linear",                                          \
      "module names as PEFT matches them (also the embedding table and the LM head: embed_tokens, lm_head), or " \
      "all-linear: every linear but the LM head", .when = shape_when),                                      \
  ROW_STRINGS("lora.modules_to_save", Config, field.modules_to_save, NULL,                                  \
      "modules trained whole and kept with the adapter, as PEFT matches them: the embedding table, the LM head", \
      .when = shape_when),                                                                                  \
  ROW_BOOL("lora.ensure_weight_tying", Config, field.ensure_weight_tying, "false",                          \
      "where the model ties embed_tokens and lm_head: naming one of them is for both, which stay tied",     \
      .when = shape_when),                                                                                  \
  ROW_BOOL("lora.rslora", Config, field.rslora, "false", "scale by alpha / sqrt(r) instead",                \
      .when = shape_when),

/* -- data ----------------------------------------------------------------------------------------------- */

/* Which chat template, and what it is given besides the conversation. */
typedef struct ChatConfig {
  char *name; /* "auto", or as datasets/chat.h has it */
  char *args; /* a JSON object; NULL: none */
  char *date; /* YYYY-MM-DD, or "today" */
} ChatConfig;

/* Its rows: prefix "data." and glue "_" in a stage, "" and "-" in a tool. Conditions may follow. */
#define CHAT_OPTIONS(prefix, glue, Config, field, ...)                                                      \
  ROW_STRING(prefix "template", Config, field.name, "auto",                                                 \
      "chat template: auto = the one that model or adapter was trained with here, else the model's own; "   \
      "or the name of one of the model's, a file *.jinja, or plain, chatml, alpaca, vicuna, zephyr, "       \
      "llama2, llama3", ##__VA_ARGS__),                                                                     \
  ROW_OBJECT(prefix "template" glue "args", Config, field.args,                                             \
      "what the template is given besides, like {\"enable_thinking\": false}", ##__VA_ARGS__),              \
  ROW_STRING(prefix "template" glue "date", Config, field.date, "2024-07-26",                               \
      "the day that the template takes for today, YYYY-MM-DD; today = the real one, which makes a run "     \
      "unlike the next", ##__VA_ARGS__)

typedef struct DataConfig {
  OptionSources train, eval, reference, ptx, prompts; /* a stage lists the rows of those it uses */
  int format;                              /* DatasetFormat */
  char *columns;                           /* a JSON object; NULL: none */
  int pair_label;                          /* of dataset_pair_label_names */
  ChatConfig chat;
  int64_t max_length;                      /* tokens */
  int64_t max_record;                      /* bytes of a line */
  int truncation;                          /* DatasetTruncation */
  double eval_fraction;
  char *cache; /* directory of tokenised data; NULL = run.dir/cache */
  bool packing, shuffle, train_on_inputs;
} DataConfig;

/* The rows of training on files of examples; the table that lists them includes datasets/dataset.h for the
 * names of formats. default_length: default of data.max_length as text. */
#define DATA_TRAIN_OPTIONS(Config, field, default_length)                                                   \
  ROW_SOURCES_REQUIRED("data.train", Config, field.train,                                                   \
      "JSONL or JSON file, directory of such, or -; or a list of them with weights", .check_without = true, .first = true), \
  ROW_SOURCES("data.eval", Config, field.eval, NULL, "the same for evaluation"),                       \
  ROW_FLOAT("data.eval_fraction", Config, field.eval_fraction, "0", 0, 0.5,                                 \
      "share of data.train held out for evaluation instead", .excludes = "data.eval", .first = true),        \
  DATA_COMMON_OPTIONS(Config, field, default_length)

/* The rows of any stage that reads text over and over. */
#define DATA_COMMON_OPTIONS(Config, field, default_length)                                                  \
  DATA_READ_OPTIONS(Config, field, default_length)                                                          \
  ROW_BOOL("data.shuffle", Config, field.shuffle, "true", "a new seeded order in every epoch"),

/* The rows of anything that reads text. */
#define DATA_READ_OPTIONS(Config, field, default_length)                                                    \
  ROW_CHOICE("data.format", Config, field.format, "auto", dataset_format_names,                             \
      "format of the examples; auto recognises it by the first record's keys"),                             \
  ROW_OBJECT("data.columns", Config, field.columns,                                                         \
      "what the records call the keys of the format, like {\"prompt\": \"question\"}"),                 \
  CHAT_OPTIONS("data.", "_", Config, field.chat),                                                            \
  ROW_INT("data.max_length", Config, field.max_length, default_length, 1, 1 << 24,                          \
      "longest example, tokens", .first = true),                                                            \
  ROW_BYTES("data.max_record", Config, field.max_record, "64MiB",                                           \
      "longest record of a file; reading one takes up to eight times as much memory"),                        \
  ROW_CHOICE("data.truncation", Config, field.truncation, "drop", dataset_truncation_names,                 \
      "longer examples: leave out (counted and reported), stop with an error, or cut"),                     \
  ROW_STRING("data.cache", Config, field.cache, NULL,                                                       \
      "directory for tokenised data (default: cache in run.dir)", .names = OPTION_NAMES_PATH),

/* The row of a stage that compares answers. */
#define DATA_PAIR_OPTIONS(Config, field)                                                                    \
  ROW_CHOICE("data.pair_label", Config, field.pair_label, "better", dataset_pair_label_names,               \
      "the verdict by which one answer of a safe-rlhf pair is the chosen one",                              \
      .when = "data.format = auto or data.format = safe_pair"),

#define DATA_PACKING_OPTIONS(Config, field)                                                                 \
  ROW_BOOL("data.packing", Config, field.packing, "true",                                                   \
      "fill micro-batches with several sequences end to end (attention never crosses between them)"),

#define DATA_MASK_OPTIONS(Config, field)                                                                    \
  ROW_BOOL("data.train_on_inputs", Config, field.train_on_inputs, "false", "loss on prompt tokens too"),

/* -- optim ---------------------------------------------------------------------------------------------- */

typedef struct OptimConfig {
  int name;  /* OptimizerKind, train/optimizer.h */
  int state; /* OptimStateKind */
  int offload; /* OptimOffload */
  double lr;
  int schedule; /* ScheduleKind, train/schedule.h */
  double min_lr_ratio;
  int64_t warmup_steps;
  double warmup_ratio;
  double weight_decay, beta1, beta2, eps, momentum;
  double clip; /* 0 = off */
  int64_t micro_batch_tokens;
  /* UPDATE_OPTIONS */
  int64_t batch_size, max_steps;
  double epochs;
} OptimConfig;

extern const char *const optimizer_choices[]; /* adamw, lion, sgd: in the order of OptimizerKind */
typedef enum OptimStateKind { OPTIM_STATE_F32, OPTIM_STATE_8BIT } OptimStateKind;
extern const char *const optimizer_state_choices[]; /* f32, 8bit: in the order of OptimStateKind */
typedef enum OptimOffload { OPTIM_OFFLOAD_NONE, OPTIM_OFFLOAD_STATE } OptimOffload;
extern const char *const optim_offload_choices[]; /* none, state: in the order of OptimOffload */
extern const char *const schedule_choices[];  /* constant, linear, cosine: in the order of ScheduleKind */

/* Defaults as text: learning rate of all weights and of an adapter, schedule, AdamW's eps, gradient norm, tokens in a
 * micro-batch. Lion's beta2: Chen et al. 2023. */
#define OPTIM_OPTIONS(Config, field, default_lr, lora_lr, default_schedule, default_eps, default_clip,      \
                      default_tokens)                                                                       \
  ROW_CHOICE("optim.name", Config, field.name, "adamw", optimizer_choices, "optimiser"),                    \
  ROW_CHOICE("optim.state", Config, field.state, "f32", optimizer_state_choices,                            \
      "moments of the optimiser: 8bit (block-wise codes) takes a quarter of their memory; tensors of fewer " \
      "than 4096 elements stay f32", .when = "optim.name != sgd or optim.momentum"),                        \
  ROW_CHOICE("optim.offload", Config, field.offload, "none", optim_offload_choices,                         \
      "state: on a GPU, when all weights are trained, gradients of blocks, fp32 masters and moments lie in the host's " \
      "memory, and the processor makes the updates"),                                                       \
  ROW_FLOAT("optim.lr", Config, field.lr, default_lr, 0, INFINITY, "peak learning rate", .first = true,     \
      .instead = lora_lr, .instead_when = "lora.enabled"),                                                  \
  ROW_CHOICE("optim.schedule", Config, field.schedule, default_schedule, schedule_choices,                  \
      "learning rate after the warm-up"),                                                                   \
  ROW_FLOAT("optim.min_lr_ratio", Config, field.min_lr_ratio, "0", 0, 1,                                    \
      "where linear and cosine end, as a share of the peak", .when = "optim.schedule != constant"),         \
  ROW_INT("optim.warmup_steps", Config, field.warmup_steps, "0", 0, INFINITY,                               \
      "updates of linear warm-up"),                                                                         \
  ROW_FLOAT("optim.warmup_ratio", Config, field.warmup_ratio, "0", 0, 1,                                    \
      "the same as a share of the run's updates, rounded up", .excludes = "optim.warmup_steps"),            \
  ROW_FLOAT("optim.weight_decay", Config, field.weight_decay, "0", 0, INFINITY,                             \
      "decoupled weight decay on matrices (norms and biases never)"),                                       \
  ROW_FLOAT("optim.beta1", Config, field.beta1, "0.9", 0, 0.999999,                                         \
      "AdamW, Lion: decay of the mean gradient", .when = "optim.name != sgd"),                              \
  ROW_FLOAT("optim.beta2", Config, field.beta2, "0.999", 0, 0.9999999,                                      \
      "AdamW: decay of the mean square; Lion: of the momentum", .when = "optim.name != sgd",                \
      .instead = "0.99", .instead_when = "optim.name = lion"),                                              \
  ROW_FLOAT("optim.eps", Config, field.eps, default_eps, 0, 1,                                              \
      "added to the root of the mean square", .when = "optim.name = adamw"),                                \
  ROW_FLOAT("optim.momentum", Config, field.momentum, "0", 0, 0.999999,                                     \
      "decay of the mean gradient", .when = "optim.name = sgd"),                                            \
  ROW_FLOAT("optim.clip", Config, field.clip, default_clip, 0, INFINITY,                                    \
      "largest global gradient norm; 0 = no clipping"),                                                     \
  ROW_INT("optim.micro_batch_tokens", Config, field.micro_batch_tokens, default_tokens, 1, 1 << 28,         \
      "tokens computed at once: sets the memory of activations, not the result", .first = true),

/* For stages whose updates are batches of a data set. */
#define UPDATE_OPTIONS(Config, field, default_batch, default_epochs)                                        \
  ROW_INT("optim.batch_size", Config, field.batch_size, default_batch, 1, 1 << 24,                          \
      "examples per update, whatever the micro-batches; the last one of an epoch has those that are left",  \
      .first = true),                                                                                       \
  ROW_FLOAT("optim.epochs", Config, field.epochs, default_epochs, 0.000001, 1e6,                            \
      "passes over the data", .when = "no optim.max_steps", .first = true),                                 \
  ROW_INT("optim.max_steps", Config, field.max_steps, "0", 0, INFINITY,                                     \
      "updates, however many epochs that takes; 0 = as many as optim.epochs give"),

/* ERROR_USAGE for what no stage can do: an offload of activations without recomputation, or of the state of an adapter; a decay that
 * takes weights off whole. */
NODISCARD bool training_config_check(const ModelConfig *model, const LoraConfig *lora, const OptimConfig *optim,
                                     Error *error);

/* -- rollout -------------------------------------------------------------------------------------------- */

typedef struct RolloutConfig {
  int64_t max_new_tokens, min_new_tokens;
  int64_t limit_from; /* 0: every answer may have max_new_tokens */
  double temperature, top_p;
  int64_t top_k;
  double repetition_penalty; /* 1 = none */
  OptionStrings stop;
  int64_t batch;           /* sequences running at once */
  int64_t cache;           /* bytes for their keys and values; 0 = as much as they can take */
  int cache_dtype;         /* CacheDtype */
  int weights;             /* SAMPLER_OPTIONS: SamplerWeights */
  double eval_temperature; /* EVAL_ROLLOUT_OPTIONS; below 0: temperature */
  int64_t eval_samples;
} RolloutConfig;

/* Rules between its options that the table cannot say; prefix and glue as those of SAMPLING_OPTIONS, "rollout." and "_" or "--" and "-". */
NODISCARD bool rollout_config_check(const RolloutConfig *config, const char *prefix, const char *glue,
                                    Error *error);
/* Whether logits are edited before they are sampled from (EngineConfig.edits in rollout/engine.h). */
static inline bool rollout_edits(const RolloutConfig *config) {
  return config->repetition_penalty != 1 || config->min_new_tokens > 0;
}

typedef enum CacheDtype { CACHE_DTYPE_AUTO, CACHE_DTYPE_INT8 } CacheDtype;
extern const char *const cache_dtype_choices[]; /* auto, int8: in the order of CacheDtype */
/* The cache's type: what the choice says, or that of activations. */
DType cache_dtype(int choice, DType activations);

/* A row of an option table of that key. */
#define CACHE_DTYPE_OPTION(key, Config, field)                                                              \
  ROW_CHOICE(key, Config, field, "auto", cache_dtype_choices,                                               \
      "type of the keys and values kept while answers grow; auto: that of activations; int8: 8 bits and a " \
      "scale for each token and head: about half of bf16, a quarter of f32; answers are then of a policy "  \
      "that is a little off")

/* What answers are sampled from, where a policy is trained. */
typedef enum SamplerWeights { SAMPLER_WEIGHTS_EXACT, SAMPLER_WEIGHTS_INT8 } SamplerWeights;
extern const char *const sampler_weights_choices[]; /* exact, int8: in the order of SamplerWeights */

#define SAMPLER_OPTIONS(Config, field)                                                                      \
  ROW_CHOICE("rollout.weights", Config, field.weights, "exact", sampler_weights_choices,                    \
      "what answers are sampled from; exact: the policy's own weights; int8: copies of its linears and LM " \
      "head in 8 bits, renewed before each rollout, on a CPU: fewer bytes a token; answers are then of a "  \
      "policy that is a little off, and are learnt from by the exact one", .when = "model.quantize = none"),

/* Rows of which `generate` has the same, prefix "rollout." and glue "_" in a stage, "" and "-" in a tool. */
#define SAMPLING_OPTIONS(prefix, glue, Config, min_tokens, penalty, stop)                                   \
  ROW_INT(prefix "min" glue "new" glue "tokens", Config, min_tokens, "0", 0, 1 << 24,                       \
      "shortest answer, tokens: no end-of-text token before"),                                              \
  ROW_FLOAT(prefix "repetition" glue "penalty", Config, penalty, "1", 0.01, 100,                            \
      "logits of tokens that prompt or answer has already are divided by it, or multiplied where they are " \
      "negative; 1 = none"),                                                                                \
  ROW_STRINGS(prefix "stop", Config, stop, NULL,                                                            \
      "texts that end an answer and are not part of it, comma-separated or a JSON list")

#define ROLLOUT_OPTIONS(Config, field, default_tokens, default_temperature, default_batch)                  \
  ROW_INT("rollout.max_new_tokens", Config, field.max_new_tokens, default_tokens, 1, 1 << 24,               \
      "longest answer, tokens", .first = true),                                                             \
  ROW_INT("rollout.max_new_tokens_from", Config, field.limit_from, "0", 0, 1 << 24,                         \
      "the longest answers to a prompt are drawn from these many tokens up to rollout.max_new_tokens; 0: all may have that many"), \
  ROW_FLOAT("rollout.temperature", Config, field.temperature, default_temperature, 0, 100,                  \
      "sampling temperature; 0 = greedy"),                                                                  \
  ROW_INT("rollout.top_k", Config, field.top_k, "0", 0, 1 << 24,                                            \
      "sample from the k likeliest tokens only; 0 = all"),                                                  \
  ROW_FLOAT("rollout.top_p", Config, field.top_p, "1", 0.000001, 1,                                         \
      "sample from the likeliest tokens that together have this probability; 1 = all"),                     \
  SAMPLING_OPTIONS("rollout.", "_", Config, field.min_new_tokens, field.repetition_penalty, field.stop),    \
  ROW_INT("rollout.batch", Config, field.batch, default_batch, 1, 1 << 20, "sequences generated at once"),         \
  ROW_BYTES("rollout.cache", Config, field.cache, "0",                                                      \
      "memory for keys and values, e.g. 2GiB: with less than the batch can use answers wait for each other; 0 = as much"), \
  CACHE_DTYPE_OPTION("rollout.cache_dtype", Config, field.cache_dtype),

/* Of a stage that evaluates by answering. */
#define EVAL_ROLLOUT_OPTIONS(Config, field)                                                                 \
  ROW_FLOAT("rollout.eval_temperature", Config, field.eval_temperature, "-1", -1, 100,                      \
      "sampling temperature of evaluations; 0 = greedy, -1 = rollout.temperature", .when = "data.eval"),    \
  ROW_INT("rollout.eval_samples", Config, field.eval_samples, "1", 1, 1 << 20,                              \
      "answers to each prompt of an evaluation", .when = "data.eval"),

/* -- run ------------------------------------------------------------------------------------------------ */

typedef struct RunConfig {
  char *dir;
  int64_t seed;
  bool resume;
  int64_t save_every, keep, eval_every, log_every, max_skipped;
  double save_minutes;
  int keep_best; /* of the stage's choices: train/best.h */
  int64_t patience;
  OptionStrings alarms; /* train/alarm.h */
  int on_alarm;         /* OnAlarm */
  int64_t rollbacks;
} RunConfig;

#define RUN_PLACE_OPTIONS(Config, field)                                                                    \
  ROW_STRING_REQUIRED("run.dir", Config, field.dir,                                                         \
      "directory of this run: config, log, checkpoints, result", .check_without = true,                     \
      .names = OPTION_NAMES_PATH, .first = true),                    \
  ROW_INT("run.seed", Config, field.seed, "1", 0, INFINITY, "of everything random in the run"),             \
  ROW_BOOL("run.resume", Config, field.resume, "true",                                                      \
      "continue from the newest checkpoint; false starts over and removes what the run left before"),

/* default_save_every: as text; an update is a batch or a whole rollout. eval_when: the condition (base/option.h) under
 * which there are evaluations. measures: choices of run.keep_best, of which "auto" is auto_measure. */
#define RUN_OPTIONS(Config, field, default_save_every, eval_when, measures, auto_measure)                   \
  RUN_PLACE_OPTIONS(Config, field)                                                                          \
  ROW_INT("run.save_every", Config, field.save_every, default_save_every, 0, INFINITY,                      \
      "updates between checkpoints; 0 = none for that reason. There is one at the end and on a signal in any case"), \
  ROW_FLOAT("run.save_minutes", Config, field.save_minutes, "30", 0, INFINITY,                              \
      "a checkpoint after the update that is done so long after the last one; 0 = none for that reason"),   \
  ROW_INT("run.keep", Config, field.keep, "2", 1, INFINITY, "newest checkpoints that are kept"),            \
  ROW_INT("run.eval_every", Config, field.eval_every, "0", 0, INFINITY,                                     \
      "updates between evaluations; 0 = only at the end", .when = eval_when),                               \
  ROW_CHOICE("run.keep_best", Config, field.keep_best, "none", measures,                                    \
      "figure of the evaluations by which the best model is kept, in RUN/best, beside the last one; auto: " auto_measure), \
  ROW_INT("run.patience", Config, field.patience, "0", 0, INFINITY,                                         \
      "evaluations in a row that are no better by run.keep_best, after which the run ends; 0 = it goes on to its end"), \
  ROW_STRINGS("run.alarms", Config, field.alarms, "all",                                                    \
      "which alarms there are: all, none, or names of them (docs/watching.md)"),                                 \
  ROW_CHOICE("run.on_alarm", Config, field.on_alarm, "warn", on_alarm_choices,                              \
      "what an alarm does: warn; stop, saved, with exit code 8; rollback: go on from a checkpoint of run.save_every before the " \
      "trouble, with half the rate and, in ppo, twice the KL's coefficient"),                               \
  ROW_INT("run.rollbacks", Config, field.rollbacks, "3", 1, 20,                                             \
      "times that a run may go back, before an alarm stops it", .when = "run.on_alarm = rollback"),         \
  ROW_INT("run.log_every", Config, field.log_every, "1", 1, INFINITY,                                       \
      "updates between rows in the run log"),                                                               \
  ROW_INT("run.max_skipped", Config, field.max_skipped, "20", 0, INFINITY,                                  \
      "steps that may be left out because their loss or gradient is not finite, before the run ends"),

/* -- device --------------------------------------------------------------------------------------------- */

typedef struct DeviceConfig {
  int backend; /* DeviceKind */
  int64_t threads;
  int64_t memory_limit; /* bytes; 0 = what the machine has free */
  int64_t rank_timeout; /* seconds */
  int64_t plan_ranks;   /* of --check */
  int shard;            /* ShardLevel, train/shard.h */
  bool shard_frozen;    /* models that are not trained have slices of their weights whatever `shard` is */
  int64_t graphs;       /* bytes for recorded passes (model/pass_records.h) */
} DeviceConfig;

extern const char *const device_choices[]; /* auto, cpu, cuda: in the order of DeviceKind */
extern const char *const shard_choices[];  /* none, optimizer, gradients, weights: in the order of ShardLevel */

#define DEVICE_OPTIONS(Config, field)                                                                       \
  ROW_CHOICE("device.backend", Config, field.backend, "auto", device_choices, "where to compute"),          \
  ROW_INT("device.threads", Config, field.threads, "0", 0, 4096,                                            \
      "CPU threads of the process; 0 = all cores (the same number gives the same bits)"),                                  \
  ROW_BYTES("device.memory_limit", Config, field.memory_limit, "0",                                         \
      "memory the process may use, e.g. 8GiB; 0 = what the machine has free"),

/* Of stages that train. */
#define GRAPH_OPTIONS(Config, field)                                                                        \
  ROW_BYTES("device.graphs", Config, field.graphs, "0",                                                     \
      "on a GPU: memory for graphs of passes, which are recorded so that a small model need not wait for launches, e.g. 1GiB; 0: none are", \
      .when = "model.offload = none, optim.offload = none, device.shard != weights"),

/* Of stages that have many ranks (docs/ranks.md). */
#define RANK_OPTIONS(Config, field)                                                                         \
  ROW_INT("device.rank_timeout", Config, field.rank_timeout, "600", 1, 1000000,                             \
      "of many ranks: seconds to wait for another one before all end"),                                     \
  ROW_INT("device.plan_ranks", Config, field.plan_ranks, "1", 1, 65536,                                     \
      "with --check and without a launcher: the plan is that of one of so many ranks"),

/* Of stages whose trained model may be divided over them. */
#define SHARD_OPTIONS(Config, field)                                                                        \
  ROW_CHOICE("device.shard", Config, field.shard, "none", shard_choices,                                    \
      "what each of many ranks keeps a slice of, instead of all: the optimiser's state; gradients of blocks too; weights of blocks too"),

/* clang-format on */

#endif
