/* From the `data` section of a configuration to data sets: the model's tokenizer, the chat template, and the files.
 * The stages share it, so that they read text alike. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include "datasets/order.h"
#include "train/checkpoint.h"
#include "train/config.h"

typedef struct TextTools {
  Tokenizer *tokenizer;
  ChatTemplate chat;
  bool has_chat;    /* false: no template is known, and only raw text can be read */
  Error chat_error; /* why */
} TextTools;

/* Opens the tokenizer of a model directory and the template data.template. A template that is named must exist; with
 * "auto" and a model without a recognised one, the error waits until a data set needs it. */
NODISCARD bool text_tools_open(TextTools *text, const char *model_directory, const DataConfig *config,
                               Error *error);
void text_tools_close(TextTools *text);

/* The ids that end an answer: the tokenizer's and the template's end mark. Returns how many; out has room for all. */
enum { TEXT_MAX_ENDS = 32 };
int text_tools_ends(const TextTools *text, int out[TEXT_MAX_ENDS]);

/* Opens `sources`, called `name` in messages ("data.train"), with the section's format, length and truncation. The
 * cache lies in data.cache or in run.dir/cache. text must outlive the data set. */
NODISCARD bool data_open(Dataset *dataset, const char *name, const OptionSources *sources, DatasetKind kind,
                         DatasetPart part, const DataConfig *config, const RunConfig *run,
                         const TextTools *text, Log *log, Error *error);

/* Where the reading of a data set stands, to or from a checkpoint (train/checkpoint.h). ERROR_USAGE when the data are
 * not those that the run began with: its place in them would mean nothing. */
NODISCARD bool data_state(Checkpoint *checkpoint, const char *name, const Dataset *dataset,
                          DataCursor *cursor, Error *error);

#endif
