/* Inside the inspect tool: the configuration of its commands, and the commands.
 *
 * Each command is a Program (train/program.h): it makes its result both as text for people and as JSON, and
 * program_run prints the one that was asked for. */
#ifndef TOOLS_INSPECT_H
#define TOOLS_INSPECT_H

#include "train/data.h"
#include "train/program.h"

typedef struct InspectConfig {
  char *model, *adapter;
  int tokenizer;                        /* TokenizerKind */
  int dtype, quantize, tables, backend; /* of the choices of train/config.h */
  int64_t threads;
  char *text, *ids, *prompt, *messages, *tools;
  ChatConfig chat;
  bool special, skip_special, generation_prompt;
  char *data;
  int kind, format, truncation; /* kind: 0 = by the records, else 1 + DatasetKind */
  char *columns;
  int pair_label; /* of dataset_pair_label_names */
  int64_t batch_size, micro_batch_tokens;
  int64_t max_length, examples; /* max_length 0 = the model's limit */
  bool train_on_inputs;
} InspectConfig;

extern const Program inspect_tokens, inspect_decode, inspect_chat, inspect_data, inspect_model,
    inspect_logprobs, inspect_score;

/* "1,2,3" -> ids. ERROR_USAGE naming the option. */
NODISCARD bool inspect_ids(const char *text, IntArray *ids, Error *error);
/* Tokenizer and template of --model, with --template. Zeroed on failure. */
NODISCARD bool inspect_text_open(const InspectConfig *config, TextTools *text, Log *log, Error *error);
/* Opens --data with its cache in a folder of its own, which is gone when the data set is closed.
 * max_length: what --max-length 0 stands for. */
NODISCARD bool inspect_data_open(const InspectConfig *config, const TextTools *text, DatasetKind kind,
                                 int max_length, Log *log, Dataset *dataset, Error *error);

/* Quantiles and a histogram of the tokens per example. */
NODISCARD bool inspect_show_lengths(const Dataset *dataset, ProgramResult *result, Error *error);
/* How full the micro-batches of one epoch are, in an order of training. */
NODISCARD bool inspect_show_packing(const Dataset *dataset, int batch_size, int micro_batch_tokens,
                                    ProgramResult *result, Error *error);

/* Appends "[1,2,3]". */
NODISCARD bool json_ids(Buffer *out, const int *ids, size_t count, Error *error);
/* A number as JSON; null when it is none. */
NODISCARD bool json_number(Buffer *out, double value, Error *error);

/* Rows that several commands have. */
/* clang-format off */
#define ROW_MODEL ROW_STRING_REQUIRED("model", InspectConfig, model, "directory of a model in Hugging Face's layout, or a GGUF file", .names = OPTION_NAMES_MODEL)
#define ROWS_CHAT CHAT_OPTIONS("", "-", InspectConfig, chat)
#define ROW_ADAPTER ROW_STRING("adapter", InspectConfig, adapter, NULL, "PEFT adapter directory", .names = OPTION_NAMES_ADAPTER)
#define ROW_TOKENIZER TOKENIZER_OPTION("tokenizer", InspectConfig, tokenizer)
#define ROWS_COMPUTE                                                                                         \
  ROW_ADAPTER, ROW_TOKENIZER,                                                                                               \
  ROW_CHOICE("dtype", InspectConfig, dtype, "auto", model_dtype_choices,                                    \
      "type of the weights in memory; auto: bf16 on a GPU when the model is in 16 bits, else f32"),          \
  QUANTIZE_OPTIONS("", "-", InspectConfig, quantize, tables),                                               \
  ROW_CHOICE("backend", InspectConfig, backend, "auto", device_choices, "where to compute"),                 \
  ROW_INT("threads", InspectConfig, threads, "0", 0, 4096, "CPU threads; 0 = all cores")
#define ROWS_DATA                                                                                            \
  ROW_CHOICE("format", InspectConfig, format, "auto", dataset_format_names,                                  \
             "format of the records; auto recognises it by the first one's keys"),                           \
  ROW_OBJECT("columns", InspectConfig, columns,                                                              \
             "what the records call the keys of the format, like {\"prompt\": \"question\"}"),                 \
  ROW_CHOICE("pair-label", InspectConfig, pair_label, "better", dataset_pair_label_names,                    \
             "the verdict by which one answer of a safe-rlhf pair is the chosen one"),                       \
  ROW_INT("max-length", InspectConfig, max_length, "0", 0, 1 << 24,                                          \
          "longest example, tokens; 0 = no limit (score: the model's)"),                                           \
  ROW_CHOICE("truncation", InspectConfig, truncation, "drop", dataset_truncation_names,                      \
             "longer examples: leave out (counted and reported), stop with an error, or cut")
/* clang-format on */

#endif
