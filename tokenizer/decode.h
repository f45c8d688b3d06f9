/* The "decoder" of tokenizer.json: ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, WordPiece, BPEDecoder,
 * Sequence. It turns the
 * texts of tokens into text; each step maps a list of strings to a list of strings. */
#ifndef TOKENIZER_DECODE_H
#define TOKENIZER_DECODE_H

#include "base/reader.h"
#include "base/regex.h"
#include "tokenizer/text.h"

/* Strings end to end in one buffer. */
typedef struct TokenStrings {
  Buffer text;
  size_t *ends;
  size_t count, capacity;
} TokenStrings;

NODISCARD bool token_strings_push(TokenStrings *strings, const char *bytes, size_t count, Error *error);
void token_strings_free(TokenStrings *strings);

typedef struct DecoderStep DecoderStep;

typedef struct Decoder {
  DecoderStep *steps; /* sequences are flattened */
  size_t count;
  bool present; /* without a decoder tokens are joined by spaces */
  ByteAlphabet alphabet;
} Decoder;

/* value NULL: no decoder. */
NODISCARD bool decoder_init(Decoder *decoder, const Reader *reader, Error *error);
void decoder_free(Decoder *decoder);

/* Appends the text of the token strings, which are used up. */
NODISCARD bool decoder_apply(const Decoder *decoder, TokenStrings *strings, Buffer *out, Error *error);

/* True for a token whose text may change with the tokens after it: a byte of a run that is read as a whole. */
bool decoder_waits(const Decoder *decoder, const char *token, size_t bytes);

#endif
