/* Data sets: records in the formats people have -> tokenised examples, read through a mapped cache file.
 *
 * A source is a file of JSON Lines or one JSON list of objects, packed by gzip or zstd or not (datasets/lines.h); a directory
 * stands for the files in it, and a pipe is kept in a file first (datasets/sources.h). The format is detected from the keys of
 * the first record (or given), reported, and every later record must fit it:
 *
 *   alpaca             {"instruction", "input"?, "output", "system"?, "history"?: [[question, answer], ...]}
 *   messages           {"messages": [{"role", "content"} or {"from", "content"}, ...]}
 *   sharegpt           {"conversations": [{"from", "value"}, ...], "system"?}
 *   dolly              {"instruction", "context"?, "response"}
 *   oasst              {"prompt": {"text", "role": "prompter", "replies": [...]}}: the best path of a tree (record_formats.h)
 *   prompt_completion  {"prompt", "completion"}: strings, or lists of messages
 *   text               {"text"}: the raw text, no template
 *   preference         {"prompt"?, "chosen", "rejected", "margin"?, "score_chosen"?, "score_rejected"?}: strings, or lists
 *                      of messages; "context" may stand for "prompt"
 *   ranking            {"prompt", "responses": [2 to 64]} with one of "scores" (more is better), "rank" (less is better), "ranking"
 *                      (numbers of the responses, the best first), or "score" or "rank" in each response
 *   safe_pair          {"prompt", "response_0", "response_1", "better_response_id"?, "safer_response_id"?,
 *                      "is_response_0_safe"?, "is_response_1_safe"?}; by_safety says which verdict decides
 *   unpaired           {"prompt", "completion", "label": true or false}
 *   prompts            {"prompt"}: a string, or a list of messages
 *
 * Keys with ? may be missing or null. Keys that fit more than one format that the kind takes are an error naming them. `columns` gives
 * the user's names for a format's keys (datasets/columns.h). Messages and their roles: datasets/turns.h. "tools" of a record, and
 * "tool_calls", "reasoning_content" ... of a message go to the chat template as they are. "weight": 0 or "train": false in a message
 * keeps that turn out of the loss. Keys by which other tools change what is learnt, and which are not honoured here
 * (datasets/fields.c has the list: images, functions, train_detail ...), are errors unless they are empty; further keys are passed over and
 * their names reported. A string prompt is a user turn, a string completion an assistant turn, both rendered by the template (`plain`
 * puts nothing around them); a string prompt that begins with "\n\nHuman:" is a transcript. A preference side that begins with a
 * user or system turn is a whole conversation (UltraFeedback; "prompt" is then passed over), and so is a string side in the form
 * "\n\nHuman: ...\n\nAssistant: ..." (Anthropic HH); otherwise the side continues the prompt.
 *
 * Kinds and the formats they take:
 *   DATASET_SFT         alpaca, messages, sharegpt, dolly, oasst, prompt_completion, text
 *   DATASET_TEXT        the same (pretraining and ptx); a long `text` is cut into pieces that overlap by one
 *                       token, so that nothing is lost and every token but the first is predicted once
 *   DATASET_PREFERENCE  preference, ranking, safe_pair
 *   DATASET_UNPAIRED    unpaired; and preference, safe_pair: each of the two answers by itself, the chosen one as a good one
 *   DATASET_PROMPT      prompts, and every format above but text: the last assistant turn is taken off and
 *                       kept as the reference answer (of an unpaired record only when it is labelled true), unless the
 *                       record has a string or number "reference", which then is it
 *
 * Ids and masks of conversations are those of chat_read (chat.h); ids of `text` those of the tokenizer with its special
 * tokens, then EOS. BOS never comes twice.
 *
 * Loss mask: loss[t] = 1 when token t is predicted in the loss (so loss[0] is always 0): the assistant's
 * tokens of every turn with the mark that ends the turn; with train_on_inputs, and in `text`, all tokens but
 * the first. Tokens after the last one in the loss (ChatML's last newline) are left off: nothing learns from
 * them, and a preference is scored at the end mark, which is where generation stops too.
 *
 * Too long: an example (each answer of a preference) of more than max_length tokens is dropped, an error, or
 * cut, as `truncation` says; all are counted and reported. Cutting keeps the beginning of an SFT example (its
 * end mark is gone, and none is put in its place), and the end of a prompt. A preference loses the earliest
 * tokens of its prompt, the same ones of all answers. A leading BOS is kept. Examples without a loss token are
 * counted, reported and dropped, and so are preferences of whose answers no two of different rank can be compared; single
 * answers are left out of those that stay (datasets/preference.c). Empty answers are kept (the end mark alone is
 * learnt), counted and reported.
 *
 * Cache: the tokenised examples of one source lie in one file of cache_dir, made on first use, mapped, and
 * made again when the source file, tokenizer, template or an option that matters has changed (a digest of all
 * of them stands in the file), and when the cache itself is damaged (as does a digest of its content). Files are
 * read once for the digest and once for the content. Written atomically. Nothing of the size of the data is held in memory, but for
 * 8 bytes per example while a cache is made. */
#ifndef DATASETS_DATASET_H
#define DATASETS_DATASET_H

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"
#include "datasets/chat.h"
#include "tokenizer/tokenizer.h"

#include <stdint.h>

typedef enum DatasetKind {
  DATASET_SFT,
  DATASET_PREFERENCE,
  DATASET_PROMPT,
  DATASET_TEXT,
  DATASET_UNPAIRED
} DatasetKind;

typedef enum DatasetFormat {
  FORMAT_AUTO,
  FORMAT_ALPACA,
  FORMAT_MESSAGES,
  FORMAT_SHAREGPT,
  FORMAT_DOLLY,
  FORMAT_OASST, /* Open-Assistant's trees */
  FORMAT_PROMPT_COMPLETION,
  FORMAT_TEXT,
  FORMAT_PREFERENCE,
  FORMAT_RANKING,   /* one prompt, several answers with scores or ranks */
  FORMAT_SAFE_PAIR, /* two answers with the verdicts better and safer */
  FORMAT_UNPAIRED,  /* an answer that is labelled good or bad */
  FORMAT_PROMPTS,
  FORMAT_COUNT
} DatasetFormat;

typedef enum DatasetTruncation { TRUNCATION_DROP, TRUNCATION_ERROR, TRUNCATION_CUT } DatasetTruncation;

enum { MOST_ANSWERS = 64 }; /* to one prompt, in a preference */

/* For option tables: NULL-terminated, in the order of the enums ("auto", ...; "drop", "error", "truncate").
 */
extern const char *const dataset_format_names[];
extern const char *const dataset_truncation_names[];
extern const char
    *const dataset_pair_label_names[]; /* "better", "safer": which verdict of a safe_pair decides */

/* Which part of the records: all, or one side of a held-out split of eval_fraction of them. The split is
 * seeded, the same for both parts, and never puts the same prompt (or pieces of one text) on both sides. */
typedef enum DatasetPart { DATASET_ALL, DATASET_TRAIN_PART, DATASET_EVAL_PART } DatasetPart;

typedef struct DatasetOptions {
  const char *name; /* in reports and errors: "data.train" */
  DatasetKind kind;
  DatasetFormat format;
  DatasetTruncation truncation;
  DatasetPart part;
  double eval_fraction; /* for the parts; 0 < fraction < 1 */
  uint64_t seed;        /* of the split */
  const Tokenizer *tokenizer;
  const ChatTemplate *chat; /* NULL only where every source is `text` */
  int max_length;     /* tokens; of each answer with its prompt for preferences; of the prompt for prompts */
  int64_t max_record; /* bytes of a line; 0: 64 MiB */
  bool train_on_inputs;
  bool by_safety;        /* safe_pair: the safer answer is the chosen one, not the better one */
  const char *columns;   /* a JSON object: the format's key -> the user's; NULL: every key is the format's */
  const char *cache_dir; /* created when missing */
  int threads;           /* that tokenise; 0: one. The cache is the same */
  Log *log;              /* reports and progress; NULL = silent */
} DatasetOptions;

/* Something that happened to records: to how many, and the line of the first. */
typedef struct DatasetNote {
  uint64_t records, line;
} DatasetNote;

typedef struct DatasetCounts {
  uint64_t records;      /* lines with a record */
  uint64_t examples;     /* usable ones (pieces of long texts count one by one) */
  uint64_t too_long;     /* dropped */
  uint64_t truncated;    /* cut */
  uint64_t no_loss;      /* dropped: nothing in them is learnt */
  uint64_t no_loss_line; /* of the first of them */
  uint64_t empty;        /* an empty answer, or an empty prompt of DATASET_PROMPT: kept */
  DatasetNote left_out;  /* the chat template leaves out a message's text, or its calls of tools */
  DatasetNote
      changed; /* it gives an answer that is learnt otherwise than the record has it, white space aside */
  DatasetNote without_end; /* it puts no end mark after an answer that is learnt */
  DatasetNote apart;   /* it changes earlier turns, so that each turn became an example of its own (chat.h) */
  DatasetNote unequal; /* preferences whose answers are not to the same prompt */
  uint64_t tokens;     /* of the usable examples, all sequences of preferences */
  uint64_t loss_tokens;
  uint64_t longest;          /* tokens of the longest example, all sequences of a preference together */
  uint64_t longest_sequence; /* tokens of the longest sequence: of one answer with its prompt */
  uint64_t most_sequences;   /* of one example: answers of a preference, else 1 */
  uint64_t largest_id;       /* of all ids: a model must have a row for it */
  /* Of usable preferences: answers, pairs of them of different rank, and the answers left out of those records. */
  uint64_t answers, pairs, answers_too_long, answers_no_loss;
} DatasetCounts;

/* Names of keys, separated by ", ". */
typedef struct KeyNames {
  char text[256];
  bool full; /* further names are left out; the text ends with three dots */
} KeyNames;

typedef struct DatasetSource {
  char *path;
  double weight;
  DatasetFormat format; /* as detected */
  DatasetCounts counts; /* of the whole file */
  uint32_t count;       /* examples in this part */
  uint32_t *subset;     /* their numbers in the cache, ascending; NULL = all */
  char digest[33];      /* of all that decides what the cache holds */
  KeyNames passed;      /* keys of the records that were passed over */
  FileMap map;
  const uint64_t *offsets; /* into map, counts.examples of them */
} DatasetSource;

typedef struct Dataset {
  DatasetKind kind;
  DatasetSource *sources;
  size_t source_count;
  uint64_t count;            /* examples of all sources in this part */
  uint64_t longest;          /* tokens that the largest example puts into a batch (see example_tokens) */
  uint64_t longest_sequence; /* and of its longest sequence: of one answer of a preference */
  uint64_t most_sequences;   /* of one example, held-out parts included */
  uint64_t largest_id;       /* in the sources, held-out parts included */
  int64_t digest; /* of files, tokenizer, template and options: with another one the ids are other ones */
  bool reused;    /* every source came from a cache that was there */
} Dataset;

/* Opens all sources. ERROR_DATA: "FILE:LINE: key 'output': expected string, found number",
 * "FILE:LINE:COLUMN: broken JSON: ...", an empty source, or one without a usable example. ERROR_USAGE: a
 * format that the kind does not take, a missing template. ERROR_FILE. */
NODISCARD bool dataset_open(Dataset *dataset, const OptionSources *sources, const DatasetOptions *options,
                            Error *error);
/* The same for one path of weight 1. */
NODISCARD bool dataset_open_file(Dataset *dataset, const char *path, const DatasetOptions *options,
                                 Error *error);
void dataset_close(Dataset *dataset);

/* The keys that make a record one of this format, for a person: "instruction, output". */
const char *dataset_format_needs(DatasetFormat format, char out[128]);

/* What the first record of a file, or of a directory's first file, shows: its format, when *format is FORMAT_AUTO, and the kind of
 * data set that such records are for. columns: as in DatasetOptions. ERROR_USAGE for a pipe whose format is not given. */
NODISCARD bool dataset_detect(const char *path, const char *columns, DatasetFormat *format, DatasetKind *kind,
                              Error *error);

typedef struct ExampleRef {
  uint32_t source;
  uint32_t index; /* within the source's part */
} ExampleRef;

/* One of the answers that a preference compares. */
typedef struct ExampleAnswer {
  int32_t begin, count; /* its ids, from the example's on: those that follow the prompt, at least one */
  int32_t rank;         /* 0 the best; answers of one rank are not compared with each other */
  float score; /* as the data have it, larger is better; of a pair: its two scores, else its margin, and 0 */
} ExampleAnswer;

/* The two verdicts of a safe-rlhf pair and what it says of each side; 0 where the record does not say. */
typedef struct PairLabels {
  int8_t better, safer;              /* 1: the chosen side, -1: the rejected one */
  int8_t chosen_safe, rejected_safe; /* 1: safe, -1: unsafe */
} PairLabels;

/* Everything is borrowed from the mapping and valid until dataset_close. Of a preference, ids[count] are what all its
 * answers begin with (there may be none), and each answer is a sequence: these, then the answer's. It has at least two
 * answers, by rising rank, and at least two ranks; an unpaired one has one, of rank 0 when it is a good one, else 1. All of these and prompts have
 * prompt_count = count, and no mask. */
typedef struct Example {
  const int *ids;
  const uint8_t *loss;          /* 0 or 1 per id; NULL for preferences and prompts */
  const ExampleAnswer *answers; /* NULL but for preferences and unpaired answers */
  int answer_count;
  int count;
  int prompt_count; /* ids before the answer: before the first loss token of SFT examples */
  int loss_count;
  float margin;       /* of a record with a pair; 0 when it has none */
  PairLabels labels;  /* of a safe-rlhf pair */
  uint32_t source;    /* index into Dataset.sources */
  uint64_t line;      /* of the record in its file, from 1 */
  const char *prompt; /* prompts: the text to show (the one message's text, else the rendered one); else "" */
  size_t prompt_bytes;
  const char *reference; /* prompts: the reference answer, "" when none */
  size_t reference_bytes;
  const char
      *record; /* prompts: what stands behind the ids, a JSON object (datasets/prompt_context.h); else "" */
  size_t record_bytes;
} Example;

/* O(1). The reference must be within the data set. */
Example dataset_example(const Dataset *dataset, ExampleRef reference);
/* The example with number 0 .. dataset->count-1, sources one after another (for evaluation). */
ExampleRef dataset_reference(const Dataset *dataset, uint64_t number);

/* Pairs of answers of different rank. */
int64_t answers_pairs(const ExampleAnswer *answers, int count);

/* Sequences of the example in a batch: the answers of a preference. */
static inline int example_sequences(const Example *example) {
  return example->answers ? example->answer_count : 1;
}

/* Tokens that the example puts into a batch: the prompt of a preference once for each answer. */
static inline int example_tokens(const Example *example) {
  if (!example->answers) return example->count;
  const ExampleAnswer *last = &example->answers[example->answer_count - 1];
  return example->count * example->answer_count + last->begin + last->count - example->count;
}

#endif
