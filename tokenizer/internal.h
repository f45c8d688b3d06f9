/* What a Tokenizer holds; for open.c, which fills it, and tokenizer.c, which uses it. */
#ifndef TOKENIZER_INTERNAL_H
#define TOKENIZER_INTERNAL_H

#include "tokenizer/added.h"
#include "tokenizer/decode.h"
#include "tokenizer/model.h"
#include "tokenizer/normalize.h"
#include "tokenizer/postprocess.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/table.h"
#include "tokenizer/tokenizer.h"

/* A chat template of the model's own. */
typedef struct NamedTemplate {
  char *name, *text;
} NamedTemplate;

struct Tokenizer {
  char *directory;
  TokenModel *model;
  Normalizer normalizer;
  PreTokenizer pretokenizer;
  PostProcessor postprocessor;
  Decoder decoder;

  StringPool pool; /* strings of the added tokens */
  AddedToken *added;
  size_t added_count, added_capacity;
  int largest_added;                    /* id; -1: none yet */
  AddedSet added_raw, added_normalized; /* by where they are looked for */
  StringTable added_ids;                /* text -> index into added */
  int *added_of;                        /* by id: index into added, or -1 */
  int vocab_size;

  int bos, eos, pad, unk; /* -1: none */
  IntArray eos_ids;
  NamedTemplate *templates;
  size_t template_count;
  char digest[33];
  bool made;  /* there is no tokenizer.json: add_bos_token and add_eos_token decide */
  char *note; /* NULL: none */
};

/* The files beside tokenizer.json; value NULL when a file is not there. */
typedef struct Companions {
  Reader config;     /* tokenizer_config.json */
  Reader special;    /* special_tokens_map.json */
  Reader added;      /* added_tokens.json */
  Reader generation; /* generation_config.json */
  Reader model;      /* config.json */
} Companions;

/* What tokenizer.json and tokenizer_config.json say, or would say (new references; config an object). */
NODISCARD bool tokenizer_files_read(const char *directory, TokenizerKind kind, json_t **top, json_t **config,
                                    Error *error);

/* Fills everything about added and special tokens; model, normalizer and post-processor are there already. */
NODISCARD bool special_tokens_read(Tokenizer *tokenizer, const Reader *top, const Companions *files,
                                   Error *error);

/* The model's own chat templates (tokenizer.h); the text of those that stand in files of their own is appended to `all`. */
NODISCARD bool chat_templates_read(Tokenizer *tokenizer, const char *directory, const Reader *config,
                                   Buffer *all, Error *error);

/* The added token with this id, or NULL. */
static inline const AddedToken *added_by_id(const Tokenizer *tokenizer, int id) {
  if (id < 0 || id >= tokenizer->vocab_size || tokenizer->added_of[id] < 0) return NULL;
  return &tokenizer->added[tokenizer->added_of[id]];
}

#endif
