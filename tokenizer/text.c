#include "tokenizer/text.h"

#include <utf8proc.h>

bool text_reserve(Text *text, size_t more, Error *error) {
  if (text->capacity - text->size >= more) return true;
  size_t capacity = text->capacity + text->capacity / 2 + more + 64;
  char *data = memory_resize(text->data, capacity);
  if (!data) return error_out_of_memory(error, "text", capacity);
  text->data = data;
  if (text->tracked) {
    TokenSpan *spans = memory_resize(text->spans, capacity * sizeof *spans);
    if (!spans) return error_out_of_memory(error, "text offsets", capacity * sizeof *spans);
    text->spans = spans;
  }
  text->capacity = capacity;
  return true;
}

void text_free(Text *text) {
  memory_free(text->data);
  memory_free(text->spans);
  *text = (Text){0};
}

bool text_append(Text *text, const char *bytes, size_t count, TokenSpan span, Error *error) {
  if (count == 0) return true;
  if (!text_reserve(text, count, error)) return false;
  memcpy(text->data + text->size, bytes, count);
  if (text->tracked)
    for (size_t i = 0; i < count; i++) text->spans[text->size + i] = span;
  text->size += count;
  return true;
}

bool text_append_part(Text *text, const Text *from, size_t begin, size_t end, Error *error) {
  if (begin == end) return true;
  if (!text_reserve(text, end - begin, error)) return false;
  memcpy(text->data + text->size, from->data + begin, end - begin);
  if (text->tracked)
    memcpy(text->spans + text->size, from->spans + begin, (end - begin) * sizeof *text->spans);
  text->size += end - begin;
  return true;
}

bool text_append_bytes(Text *text, const ByteAlphabet *alphabet, const Text *from, size_t begin, size_t end,
                       Error *error) {
  if (!text_reserve(text, (end - begin) * 2, error)) return false;
  for (size_t at = begin; at < end; at++) {
    unsigned char byte = (unsigned char)from->data[at];
    for (size_t k = 0; k < alphabet->length[byte]; k++) {
      if (text->tracked) text->spans[text->size] = from->spans[at];
      text->data[text->size++] = alphabet->utf8[byte][k];
    }
  }
  return true;
}

TokenSpan text_span(const Text *text, size_t begin, size_t end) {
  if (!text->tracked || begin >= end) return (TokenSpan){0, 0};
  return (TokenSpan){text->spans[begin].begin, text->spans[end - 1].end};
}

bool text_append_input(Text *text, const char *bytes, size_t count, Error *error) {
  for (size_t at = 0; at < count;) {
    size_t skip = 0, valid = utf8_valid_prefix(bytes + at, count - at, &skip);
    size_t start = text->size;
    if (!text_append(text, bytes + at, valid, (TokenSpan){0, 0}, error)) return false;
    if (text->tracked)
      for (size_t i = 0; i < valid; i++)
        text->spans[start + i] = (TokenSpan){(uint32_t)(at + i), (uint32_t)(at + i + 1)};
    at += valid;
    if (skip == 0) continue;
    TokenSpan span = {(uint32_t)at, (uint32_t)(at + skip)};
    if (!text_append(text, "\xef\xbf\xbd", 3, span, error)) return false;
    at += skip;
  }
  return true;
}

/* Bounds of the second byte by the first (Unicode 15, table 3-7); length 0 when no character begins so. */
static size_t sequence_shape(unsigned char lead, unsigned char *low, unsigned char *high) {
  *low = 0x80;
  *high = 0xbf;
  if (lead < 0xc2) return 0;
  if (lead < 0xe0) return 2;
  if (lead < 0xf0) {
    if (lead == 0xe0) *low = 0xa0;
    if (lead == 0xed) *high = 0x9f;
    return 3;
  }
  if (lead > 0xf4) return 0;
  if (lead == 0xf0) *low = 0x90;
  if (lead == 0xf4) *high = 0x8f;
  return 4;
}

size_t utf8_valid_prefix(const char *bytes, size_t count, size_t *skip) {
  const unsigned char *p = (const unsigned char *)bytes;
  size_t at = 0;
  *skip = 0;
  while (at < count) {
    if (p[at] < 0x80) {
      at++;
      continue;
    }
    unsigned char low, high;
    size_t length = sequence_shape(p[at], &low, &high), seen = 1;
    if (length == 0) {
      *skip = 1;
      return at;
    }
    while (seen < length && at + seen < count && p[at + seen] >= low && p[at + seen] <= high) {
      seen++;
      low = 0x80;
      high = 0xbf;
    }
    if (seen < length) {
      *skip = seen;
      return at;
    }
    at += length;
  }
  return at;
}

size_t utf8_put(uint32_t c, char out[4]) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3f));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3f));
    out[2] = (char)(0x80 | (c & 0x3f));
    return 3;
  }
  out[0] = (char)(0xf0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 0x3f));
  out[2] = (char)(0x80 | (c >> 6 & 0x3f));
  out[3] = (char)(0x80 | (c & 0x3f));
  return 4;
}

bool char_is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

bool char_is_numeric(uint32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

bool char_is_punctuation(uint32_t c) {
  if (c < 0x80)
    return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

bool char_is_word(uint32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
  utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) return true; /* L, M, Nd, Nl */
  if (category == UTF8PROC_CATEGORY_PC || c == 0x200c || c == 0x200d) return true;
  /* Other_Alphabetic outside L and M: circled and squared Latin letters */
  return (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) ||
         (c >= 0x1f170 && c <= 0x1f189);
}

void byte_alphabet_init(ByteAlphabet *alphabet) {
  for (size_t i = 0; i < sizeof alphabet->byte_of / sizeof alphabet->byte_of[0]; i++)
    alphabet->byte_of[i] = -1;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; byte++) {
    bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    uint32_t character = printable ? byte : next++;
    char utf8[4];
    alphabet->length[byte] = (uint8_t)utf8_put(character, utf8);
    memcpy(alphabet->utf8[byte], utf8, 2);
    alphabet->byte_of[character] = (int16_t)byte;
  }
}
