#include "tokenizer/characters.h"

#include <utf8proc.h>

enum { MOST = 3 }; /* characters that one becomes */

/* Each writes what a character becomes and returns how many that are. */
typedef size_t Mapping(uint32_t c, uint32_t out[MOST]);

static utf8proc_category_t category_of(uint32_t c) {
  return utf8proc_category((utf8proc_int32_t)c);
}

static size_t lowercase(uint32_t c, uint32_t out[MOST]) {
  out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
  if (c != 0x130) return 1;
  out[0] = 'i'; /* the one character whose lower case is two */
  out[1] = 0x307;
  return 2;
}

static size_t strip_accents(uint32_t c, uint32_t out[MOST]) {
  utf8proc_category_t category = category_of(c);
  out[0] = c;
  return category < UTF8PROC_CATEGORY_MN || category > UTF8PROC_CATEGORY_ME;
}

/* The library's table is of Unicode 8; three characters have changed their category since. */
static size_t no_mn(uint32_t c, uint32_t out[MOST]) {
  out[0] = c;
  if (c == 0x1885 || c == 0x1886) return 1;
  return c != 0x1734 && category_of(c) != UTF8PROC_CATEGORY_MN;
}

/* SentencePiece's rules "nmt". */
static size_t nmt(uint32_t c, uint32_t out[MOST]) {
  bool space = c == 0x09 || c == 0x0a || c == 0x0c || c == 0x0d || c == 0x1680 ||
               (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xfeff ||
               c == 0xfffd;
  out[0] = space ? ' ' : c;
  return space || c == 0 || (c >= 0x20 && c != 0x7f && c != 0x8f && c != 0x9f);
}

static size_t clean(uint32_t c, uint32_t out[MOST]) {
  bool space =
      char_is_space(c) && (c == '\t' || c == '\n' || c == '\r' || category_of(c) != UTF8PROC_CATEGORY_CC);
  out[0] = space ? ' ' : c;
  if (space) return 1;
  utf8proc_category_t category = category_of(c);
  return c != 0xfffd && category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CF &&
         category != UTF8PROC_CATEGORY_CO;
}

static size_t chinese(uint32_t c, uint32_t out[MOST]) {
  bool ideograph = (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
                   (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
                   (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
                   (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
  out[0] = ideograph ? ' ' : c;
  out[1] = c;
  out[2] = ' ';
  return ideograph ? 3 : 1;
}

bool characters_append(CharacterMap map, const Text *in, Text *out, Error *error) {
  static Mapping *const mappings[] = {[CHARACTERS_LOWERCASE] = lowercase,
                                      [CHARACTERS_STRIP_ACCENTS] = strip_accents,
                                      [CHARACTERS_NMT] = nmt,
                                      [CHARACTERS_CLEAN] = clean,
                                      [CHARACTERS_CHINESE] = chinese,
                                      [CHARACTERS_NO_MN] = no_mn};
  for (size_t at = 0; at < in->size;) {
    size_t begin = at, bytes = 0;
    uint32_t points[MOST];
    char utf8[4 * MOST];
    size_t count = mappings[map](utf8_next(in->data, &at), points);
    for (size_t i = 0; i < count; i++) bytes += utf8_put(points[i], utf8 + bytes);
    if (count == 0 && out->size == 0) out->from_start = false;
    if (!text_append(out, utf8, bytes, text_span(in, begin, at), error)) return false;
  }
  return true;
}
