/* Text to token ids and back, as a model directory's tokenizer.json says.
 *
 * Reading follows the `tokenizers` library: added tokens are cut out of the raw text, the rest is normalised,
 * cut at the added tokens that are matched after normalisation, pre-tokenised, and each pre-token goes
 * through the model; the post-processor adds BOS/EOS. One idea per file: added.h, normalize.h, pretokenize.h,
 * model.h (with bpe.h, unigram.h, words.h), postprocess.h, decode.h. Components that are not supported (BPE
 * dropout, the decoder CTC ...) are an error at opening that names file, key and component, never a silent
 * difference. "truncation" and "padding" are left aside: lengths are the callers' business.
 *
 * Also read, when present: tokenizer_config.json, special_tokens_map.json and added_tokens.json (added tokens and
 * their flags, which tokens are BOS, EOS, PAD, UNK; chat_template), chat_template.jinja, generation_config.json and
 * config.json (eos_token_id, which may be a list). They are put together as AutoTokenizer does; see special.c.
 *
 * Text is UTF-8 bytes with a length, so it may hold NUL. Ill-formed input is read as if each maximal
 * ill-formed part were U+FFFD (what Python's errors="replace" does). Ids are int, from 0.
 *
 * A Tokenizer is not changed after opening (a cache of words inside locks itself), so several threads may use
 * one. Encoding costs O(n log n) in the length of the longest pre-token, with Unigram and WordPiece times the
 * length of the longest token; repeated words are looked up. */
#ifndef TOKENIZER_TOKENIZER_H
#define TOKENIZER_TOKENIZER_H

#include "base/error.h"
#include "base/memory.h"

#include <stddef.h>
#include <stdint.h>

typedef struct Tokenizer Tokenizer;

/* Whose reading of a directory's files is followed, where they differ. */
typedef enum TokenizerKind {
  TOKENIZER_AUTO, /* that of AutoTokenizer of Transformers 5.24, whose classes may build steps of their own */
  TOKENIZER_FILE, /* what tokenizer.json says, as `tokenizers` and Transformers 4 read it */
  TOKENIZER_SENTENCEPIECE /* what the sentencepiece library makes of tokenizer.model, between the added tokens */
} TokenizerKind;

/* Opens the tokenizer of a model directory: DIRECTORY/tokenizer.json and its companions; without one tokenizer.model
 * (SentencePiece), vocab.json with merges.txt, or the vocabulary of a GGUF file, which `directory` may name itself. What
 * a user should know of the choice is tokenizer_note. ERROR_FILE when there is none or it cannot be read, ERROR_MODEL when a
 * file is broken or not supported. */
NODISCARD Tokenizer *tokenizer_open_kind(const char *directory, TokenizerKind kind, Error *error);
NODISCARD Tokenizer *tokenizer_open(const char *directory, Error *error); /* TOKENIZER_AUTO */
/* Whether there is one, broken or not, or a vocabulary of a form that is refused. */
bool tokenizer_exists(const char *directory);
void tokenizer_free(Tokenizer *tokenizer); /* NULL is fine */

/* Appends the ids of `bytes` bytes at `text`. add_special: also what the post-processor adds (BOS, EOS). */
NODISCARD bool tokenizer_encode(const Tokenizer *tokenizer, const char *text, size_t bytes, bool add_special,
                                IntArray *ids, Error *error);

/* The bytes of the input text that a token stands for: [begin, end). A token made by the tokenizer itself (a
 * prefix space, BOS) has begin == end. Bytes that normalisation merged belong to all tokens made from them.
 */
typedef struct TokenSpan {
  uint32_t begin, end;
} TokenSpan;

typedef struct TokenSpans {
  TokenSpan *data;
  size_t size, capacity;
} TokenSpans;

void token_spans_free(TokenSpans *spans);

/* As tokenizer_encode, and appends one span per id. Texts up to 4 GiB. */
NODISCARD bool tokenizer_encode_spans(const Tokenizer *tokenizer, const char *text, size_t bytes,
                                      bool add_special, IntArray *ids, TokenSpans *spans, Error *error);

/* Appends the text of the ids, always well-formed UTF-8 (bytes that form no character become U+FFFD).
 * skip_special leaves out special tokens. Ids outside the vocabulary give no text (embedding tables may have
 * more rows than the tokenizer has tokens). */
NODISCARD bool tokenizer_decode(const Tokenizer *tokenizer, const int *ids, size_t count, bool skip_special,
                                Buffer *out, Error *error);

/* Decoding one id after another, for text that is shown while it is generated: each push appends what has
 * become certain (whole characters only), finish appends the rest. All appended text together is what
 * tokenizer_decode gives for all ids. Zero-initialise but for tokenizer and skip_special, or use
 * decode_stream_init. */
typedef struct DecodeStream {
  const Tokenizer *tokenizer; /* borrowed */
  bool skip_special;
  IntArray ids;      /* the ids whose text is not certain yet, after some that give them context */
  size_t prefix_ids; /* how many of ids are context */
  Buffer prefix;     /* text of the context alone */
} DecodeStream;

void decode_stream_init(DecodeStream *stream, const Tokenizer *tokenizer, bool skip_special);
NODISCARD bool decode_stream_push(DecodeStream *stream, int id, Buffer *out, Error *error);
NODISCARD bool decode_stream_finish(DecodeStream *stream, Buffer *out,
                                    Error *error); /* then ready for a new text */
void decode_stream_free(DecodeStream *stream);

/* Number of ids: one more than the largest id of a token, added tokens included. */
int tokenizer_vocab_size(const Tokenizer *tokenizer);
/* The token's text as it stands in tokenizer.json (byte-level alphabet, U+2581 ...), borrowed; NULL when
 * none. */
const char *tokenizer_token(const Tokenizer *tokenizer, int id);
/* The id of a token given in that spelling, or -1. */
int tokenizer_id(const Tokenizer *tokenizer, const char *token);
bool tokenizer_is_special(const Tokenizer *tokenizer, int id);
/* An added token (special or not): always one id wherever it stands in a text. */
bool tokenizer_is_added(const Tokenizer *tokenizer, int id);

/* -1 when the model has none. PAD falls back on nothing: the caller decides. */
int tokenizer_bos(const Tokenizer *tokenizer);
int tokenizer_eos(
    const Tokenizer *tokenizer); /* eos_token of tokenizer_config.json; else the first of eos_ids */
int tokenizer_pad(const Tokenizer *tokenizer);
int tokenizer_unk(const Tokenizer *tokenizer);
/* Every id that ends a generation: eos_token and the eos_token_id of generation_config.json and config.json.
 */
const int *tokenizer_eos_ids(const Tokenizer *tokenizer, size_t *count);
bool tokenizer_is_eos(const Tokenizer *tokenizer, int id);
/* True when encoding with add_special begins with BOS / ends with EOS. */
bool tokenizer_adds_bos(const Tokenizer *tokenizer);
bool tokenizer_adds_eos(const Tokenizer *tokenizer);

/* The model's own chat template of this name (Jinja text), NULL when it has none. "default" is the one that stands alone in
 * chat_template.jinja or tokenizer_config.json; others ("tool_use", "rag") come from a named list or additional_chat_templates/. A file of
 * its own goes before tokenizer_config.json. */
const char *tokenizer_chat_template(const Tokenizer *tokenizer, const char *name);
const char *tokenizer_chat_template_name(const Tokenizer *tokenizer, size_t index); /* NULL after the last */
/* What a user should be told about the files: a setting that is read otherwise than it seems to say. NULL: nothing. */
const char *tokenizer_note(const Tokenizer *tokenizer);
const char *tokenizer_directory(const Tokenizer *tokenizer);

/* 32 hexadecimal digits and NUL that stand for everything that decides the ids of texts and conversations (for
 * caches of tokenised data): the tokenizer's files as they were opened, BOS and EOS. */
void tokenizer_digest(const Tokenizer *tokenizer, char out[33]);

/* Of the tokens by id and the merges alone: what ids mean, whatever the template and the special ids. */
NODISCARD bool tokenizer_vocabulary_digest(const Tokenizer *tokenizer, char out[33], Error *error);

#endif
