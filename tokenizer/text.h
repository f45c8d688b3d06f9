/* Text on its way through the tokenizer: well-formed UTF-8 bytes and, when asked for, the part of the input that
 * each byte stands for; and the character classes that the components test. */
#ifndef TOKENIZER_TEXT_H
#define TOKENIZER_TEXT_H

#include "tokenizer/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct Text {
  char *data;
  TokenSpan *spans; /* one per byte; only when tracked */
  size_t size, capacity;
  bool tracked;
  bool from_start; /* of a normalised text: it begins with what the input begins with */
} Text;

NODISCARD bool text_reserve(Text *text, size_t more, Error *error); /* room for `more` further bytes */
void text_free(Text *text);

/* Appends bytes that all stand for `span`. */
NODISCARD bool text_append(Text *text, const char *bytes, size_t count, TokenSpan span, Error *error);
/* Appends bytes begin..end of another text, with their spans. */
NODISCARD bool text_append_part(Text *text, const Text *from, size_t begin, size_t end, Error *error);
/* GPT-2's byte alphabet: printable bytes are themselves, the others U+0100 onwards. */
typedef struct ByteAlphabet {
  char utf8[256][2];
  uint8_t length[256];
  int16_t byte_of[0x144]; /* by character; -1 when not in the alphabet */
} ByteAlphabet;
void byte_alphabet_init(ByteAlphabet *alphabet);

/* Appends bytes begin..end of another text in the byte alphabet, each with its span. */
NODISCARD bool text_append_bytes(Text *text, const ByteAlphabet *alphabet, const Text *from, size_t begin,
                                 size_t end, Error *error);
/* What bytes begin..end stand for together; {0,0} when not tracked or empty. */
TokenSpan text_span(const Text *text, size_t begin, size_t end);
/* Appends raw input, ill-formed parts as U+FFFD; spans are offsets into the input. */
NODISCARD bool text_append_input(Text *text, const char *bytes, size_t count, Error *error);

/* Length of the well-formed prefix of the bytes; when it is shorter than count, *skip is the length of the maximal
 * ill-formed part that follows (Unicode 15, section 3.9, "U+FFFD substitution of maximal subparts"). */
size_t utf8_valid_prefix(const char *bytes, size_t count, size_t *skip);

/* Decodes the character at *at of well-formed UTF-8 and moves past it. */
static inline uint32_t utf8_next(const char *bytes, size_t *at) {
  const unsigned char *p = (const unsigned char *)bytes + *at;
  if (p[0] < 0x80) {
    *at += 1;
    return p[0];
  }
  if (p[0] < 0xe0) {
    *at += 2;
    return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
  }
  if (p[0] < 0xf0) {
    *at += 3;
    return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
  }
  *at += 4;
  return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
         (p[3] & 0x3f);
}

/* The start of the character that ends at `at` (> 0) of well-formed UTF-8. */
static inline size_t utf8_previous(const char *bytes, size_t at) {
  do at--;
  while (at > 0 && ((unsigned char)bytes[at] & 0xc0) == 0x80);
  return at;
}

/* Writes a character, returns 1 to 4. */
size_t utf8_put(uint32_t character, char out[4]);

bool char_is_space(uint32_t c);       /* White_Space */
bool char_is_numeric(uint32_t c);     /* Nd, Nl, No */
bool char_is_punctuation(uint32_t c); /* P*, and ASCII's symbols */
bool char_is_word(uint32_t c);        /* \w of UTS #18: Alphabetic, M, Nd, Pc, Join_Control */

#endif
