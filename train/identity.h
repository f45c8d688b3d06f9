/* Whose model is this: what a result was made of, kept beside it in identity.json (DESIGN decision 10).
 *
 *   {"base": {"weights": "...", "rounded": "...",        an adapter's: digests of the weights under it (model/digest.h),
 *             "quantize": "nf4", "tables": "int8"},      and how they were quantised at load, where they were (or "quantize": "int8")
 *    "vocabulary": "...",                                of tokens and merges
 *    "template": {"name": "chatml", "rendering": "..."}} what data.template was, and of what it makes of a conversation
 *
 * Every part may be missing: directories that others made have no such file. PEFT and Transformers pass it over.
 * Where two models meet, what is known of both is compared: an error where the result would be wrong, a warning where
 * it may be meant. Whoever means it all the same removes the file. */
#ifndef TRAIN_IDENTITY_H
#define TRAIN_IDENTITY_H

#include "base/log.h"
#include "model/digest.h"
#include "model/model.h"
#include "datasets/chat.h"

#define IDENTITY_FILE "identity.json"
/* The template is the file chat_template.jinja beside identity.json, which is there for any that is not the base model's own, so that
 * other programs use it too. */
#define IDENTITY_OWN_TEMPLATE "own"
#define TEMPLATE_FILE         "chat_template.jinja"

/* How a model's ids come from text: the part of an identity that a stage knows before any weights. */
typedef struct TextIdentity {
  char vocabulary[33]; /* "" = not known, here and below */
  char template
      [32]; /* what data.template has to be for the same rendering: a built-in one's name; "auto": the model's own; or
                        IDENTITY_OWN_TEMPLATE */
  char rendering[33];
} TextIdentity;

typedef struct Identity {
  WeightsDigest base;
  ModelQuantize quantize; /* of the base, and */
  bool int8_tables;       /* as in WeightFormat */
  TextIdentity text;
} Identity;

/* DIRECTORY/identity.json; all unknown when there is none. ERROR_MODEL when it is broken. */
NODISCARD bool identity_read(Identity *identity, const char *directory, Error *error);
/* How a model came by its text: its adapter's record (NULL: no adapter), else its own. *from is the directory of it. */
NODISCARD bool identity_read_text(const char *model, const char *adapter, TextIdentity *text,
                                  const char **from, Error *error);
NODISCARD bool identity_write(const Identity *identity, const char *directory, Error *error);

/* Writes DIRECTORY/chat_template.jinja where the template is not the model's own; else does nothing. */
NODISCARD bool template_save(const ChatTemplate *chat, const char *directory, Error *error);
/* The same for what is made of a result: copies the file where `from` has one. */
NODISCARD bool template_copy(const char *from, const char *to, Error *error);

/* Of what a template makes of a conversation with a system turn and of one without, and of the mark that ends an answer.
 * A template that refuses one of them is known by that. */
NODISCARD bool rendering_digest(const ChatTemplate *chat, char out[33], Error *error);

/* Whether an adapter belongs over the model in `base`. By the digests that are kept with it: ERROR_MODEL when they
 * differ, a warning when only the precision of the weights does, or when base_model_name_or_path is a directory here and one of the two is the
 * other in 4 or 8 bits (model/twin.h). Without them by base_model_name_or_path: when that is a
 * directory here or in the hub's cache, by the weights in it; else a warning when it does not sound like `base`. log may be NULL. */
NODISCARD bool identity_check_adapter(const char *adapter, const char *base, Log *log, Error *error);

/* Says so where an adapter's directory has a tokenizer or a chat template of its own, as PEFT's and TRL's often have, that is
 * not the one that is used. */
void identity_tell_own(const char *adapter, const Tokenizer *used, Log *log);

/* Whether the ids that `writer` writes mean the same in the tokenizer of the directory `reader`, for all ids below
 * `rows`; else difference is an ERROR_MODEL naming the first that does not. A warning when one of them lacks tokens or merges of the other, when
 * added tokens have other names (as where reserved ones were put to use), or when `reader` has no tokenizer to ask. */
NODISCARD bool identity_compare_tokens(const Tokenizer *writer, const char *reader, int64_t rows, Log *log,
                                       bool *same, Error *difference, Error *error);

#endif
