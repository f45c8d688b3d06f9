/* From the `data` section of a configuration to data sets: the model's tokenizer, the chat template, and the files.
 * The stages share it, so that they read text alike.
 *
 * Here ids meet the model: no id may be larger than its table of embeddings, which nothing checks later. */
#ifndef TRAIN_DATA_H
#define TRAIN_DATA_H

#include "datasets/order.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/identity.h"

typedef struct TextTools {
  Tokenizer *tokenizer;
  int64_t
      rows; /* of the model's embedding table; 0 where there is a tokenizer and no config.json (tools only) */
  ChatTemplate chat;
  bool has_chat;         /* false: no template is known, and only raw text can be read */
  Error chat_error;      /* why */
  TextIdentity identity; /* to be kept with what is trained on such text */
} TextTools;

/* Opens the tokenizer of a model directory and the template data.template. "auto" is the template that the adapter, else
 * the model, was trained with here (train/identity.h), else the model's own. A template that is named must exist; with
 * "auto" and a model without a recognised one, the error waits until a data set needs it. ERROR_MODEL when the adapter
 * belongs over another model. Worth a warning (log may be NULL): a tokenizer with more tokens than the model has rows,
 * whose data may still do without them; another template or vocabulary than the model or adapter was trained with. */
NODISCARD bool text_tools_open(TextTools *text, const ModelConfig *model, const DataConfig *config, Log *log,
                               Error *error);
void text_tools_close(TextTools *text);

/* What another model was trained on, beside what these tools make. */
typedef enum TextLikeness {
  TEXT_SAME,           /* or nothing is known of it */
  TEXT_OTHER_TEMPLATE, /* the ids mean the same; conversations were rendered otherwise */
  TEXT_OTHER_TOKENS    /* it cannot read the ids */
} TextLikeness;
/* `path` and `adapter` (NULL: it has none) say where it is. difference: of TEXT_OTHER_TOKENS, an error that says what differs. ERROR_MODEL
 * when the adapter belongs over another base. Worth a warning: tokens or merges that may differ. */
NODISCARD bool text_tools_compare(const TextTools *text, const char *path, const char *adapter, Log *log,
                                  TextLikeness *likeness, Error *difference, Error *error);
/* Of one that has to read the ids as they are: TEXT_OTHER_TOKENS is an error, TEXT_OTHER_TEMPLATE worth a warning. */
NODISCARD bool text_tools_meet(const TextTools *text, const ModelConfig *other, Log *log, Error *error);

/* Whether the model has a row for `id`, the largest that `what` ("data.train") holds: else ERROR_MODEL naming token, id
 * and both sizes. */
NODISCARD bool text_tools_check_id(const TextTools *text, const char *what, uint64_t id, Error *error);

NODISCARD bool text_tools_check_ids(const TextTools *text, const char *what, const IntArray *ids,
                                    Error *error);

/* The ids that end an answer: the tokenizer's and the template's end mark, but for those that the model has no row for
 * and can never say. Returns how many; out has room for all. */
enum { TEXT_MAX_ENDS = 32 };
int text_tools_ends(const TextTools *text, int out[TEXT_MAX_ENDS]);

/* The id that ends an answer of the template, which is what training shows; -1 without a template. */
int text_tools_mark(const TextTools *text);

/* The files behind `sources` (datasets/sources.h), for what is opened twice: a pipe gives its content once. sources_free
 * frees them. */
NODISCARD bool data_resolve(OptionSources *files, const char *name, const OptionSources *sources,
                            const DataConfig *config, const RunConfig *run, Log *log, Error *error);

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
