#include "template/unicode.h"

#include <string.h>
#include <utf8proc.h>

int32_t unicode_read(const char *bytes, size_t size, size_t *width) {
  unsigned char first = (unsigned char)*bytes;
  *width = 1;
  if (first < 0x80) return first;
  utf8proc_int32_t point;
  utf8proc_ssize_t read =
      utf8proc_iterate((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)(size < 4 ? size : 4), &point);
  if (read <= 0) return UNICODE_BROKEN + first;
  *width = (size_t)read;
  return point;
}

size_t unicode_width(const char *bytes, size_t size) {
  size_t width;
  (void)unicode_read(bytes, size, &width);
  return width;
}

int32_t unicode_read_back(const char *bytes, size_t end, size_t *width) {
  for (size_t back = 1; back <= 4 && back <= end; back++) {
    if (((unsigned char)bytes[end - back] & 0xC0) == 0x80) continue;
    int32_t point = unicode_read(bytes + end - back, back, width);
    if (*width == back) return point;
    break;
  }
  *width = 1;
  return UNICODE_BROKEN + (unsigned char)bytes[end - 1];
}

size_t unicode_count(const char *bytes, size_t size) {
  size_t count = 0;
  for (size_t at = 0; at < size; count++) at += unicode_width(bytes + at, size - at);
  return count;
}

size_t unicode_write(int32_t point, char *bytes) {
  if (point >= UNICODE_BROKEN) {
    *bytes = (char)(point - UNICODE_BROKEN);
    return 1;
  }
  return (size_t)utf8proc_encode_char(point, (utf8proc_uint8_t *)bytes);
}

static utf8proc_category_t category(int32_t point) {
  return point < UNICODE_BROKEN ? utf8proc_category(point) : UTF8PROC_CATEGORY_CN;
}

bool unicode_is_space(int32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13) || (c >= 28 && c <= 31);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool unicode_is_line_end(int32_t c) {
  return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool unicode_is_alpha(int32_t point) {
  utf8proc_category_t kind = category(point);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool unicode_is_decimal(int32_t point) {
  return category(point) == UTF8PROC_CATEGORY_ND;
}

/* Decimals, and what has the property Numeric_Type=Digit without being one. */
bool unicode_is_digit(int32_t point) {
  static const struct {
    int32_t first, last;
  } digits[] = {{0xB2, 0xB3},       {0xB9, 0xB9},       {0x1369, 0x1371},   {0x19DA, 0x19DA},
                {0x2070, 0x2070},   {0x2074, 0x2079},   {0x2080, 0x2089},   {0x2460, 0x2468},
                {0x2474, 0x247C},   {0x2488, 0x2490},   {0x24EA, 0x24EA},   {0x24F5, 0x24FD},
                {0x24FF, 0x24FF},   {0x2776, 0x277E},   {0x2780, 0x2788},   {0x278A, 0x2792},
                {0x10A40, 0x10A43}, {0x10E60, 0x10E68}, {0x11052, 0x1105A}, {0x1F100, 0x1F10A}};
  for (size_t i = 0; i < sizeof digits / sizeof *digits; i++)
    if (point >= digits[i].first && point <= digits[i].last) return true;
  return unicode_is_decimal(point);
}

bool unicode_is_word(int32_t point) {
  utf8proc_category_t kind = category(point);
  return point == '_' || unicode_is_alpha(point) || kind == UTF8PROC_CATEGORY_ND ||
         kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool unicode_is_upper(int32_t point) {
  return point < UNICODE_BROKEN && utf8proc_isupper(point);
}

bool unicode_is_lower(int32_t point) {
  return point < UNICODE_BROKEN && utf8proc_islower(point);
}

bool unicode_is_title(int32_t point) {
  return category(point) == UTF8PROC_CATEGORY_LT;
}

bool unicode_is_printable(int32_t point) {
  if (point == ' ') return true;
  utf8proc_category_t kind = category(point);
  return kind != UTF8PROC_CATEGORY_CN && !(kind >= UTF8PROC_CATEGORY_ZS && kind <= UTF8PROC_CATEGORY_CO);
}

bool unicode_is_name(int32_t point, bool first) {
  if (point < 0x80)
    return point == '_' || (point >= 'a' && point <= 'z') || (point >= 'A' && point <= 'Z') ||
           (!first && point >= '0' && point <= '9');
  utf8proc_category_t kind = category(point);
  if (unicode_is_alpha(point) || kind == UTF8PROC_CATEGORY_NL) return true;
  return !first && (kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_MC ||
                    kind == UTF8PROC_CATEGORY_ND || kind == UTF8PROC_CATEGORY_PC);
}

bool unicode_is_case_ignorable(int32_t point) {
  static const int32_t marks[] = {'\'',   '.',    ':',    0xB7,   0x387,  0x55F,  0x5F4,  0x2018,
                                  0x2019, 0x2024, 0x2027, 0xFE13, 0xFE52, 0xFE55, 0xFF07, 0xFF0E,
                                  0xFF1A, '^',    '`',    0xA8,   0xAD,   0xAF,   0xB4,   0xB8};
  for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
    if (point == marks[i]) return true;
  utf8proc_category_t kind = category(point);
  return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK;
}

/* Unicode's SpecialCasing.txt, what holds in all languages: capitals and titles of more than one code point. */
typedef struct SpecialCase {
  int32_t point, upper[3], title[3];
} SpecialCase;

static const SpecialCase special_cases[] = {{0xDF, {0x53, 0x53}, {0x53, 0x73}},
                                            {0x149, {0x2BC, 0x4E}, {0x2BC, 0x4E}},
                                            {0x1F0, {0x4A, 0x30C}, {0x4A, 0x30C}},
                                            {0x390, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
                                            {0x3B0, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
                                            {0x587, {0x535, 0x552}, {0x535, 0x582}},
                                            {0x1E96, {0x48, 0x331}, {0x48, 0x331}},
                                            {0x1E97, {0x54, 0x308}, {0x54, 0x308}},
                                            {0x1E98, {0x57, 0x30A}, {0x57, 0x30A}},
                                            {0x1E99, {0x59, 0x30A}, {0x59, 0x30A}},
                                            {0x1E9A, {0x41, 0x2BE}, {0x41, 0x2BE}},
                                            {0x1F50, {0x3A5, 0x313}, {0x3A5, 0x313}},
                                            {0x1F52, {0x3A5, 0x313, 0x300}, {0x3A5, 0x313, 0x300}},
                                            {0x1F54, {0x3A5, 0x313, 0x301}, {0x3A5, 0x313, 0x301}},
                                            {0x1F56, {0x3A5, 0x313, 0x342}, {0x3A5, 0x313, 0x342}},
                                            {0x1F80, {0x1F08, 0x399}, {0x1F88}},
                                            {0x1F81, {0x1F09, 0x399}, {0x1F89}},
                                            {0x1F82, {0x1F0A, 0x399}, {0x1F8A}},
                                            {0x1F83, {0x1F0B, 0x399}, {0x1F8B}},
                                            {0x1F84, {0x1F0C, 0x399}, {0x1F8C}},
                                            {0x1F85, {0x1F0D, 0x399}, {0x1F8D}},
                                            {0x1F86, {0x1F0E, 0x399}, {0x1F8E}},
                                            {0x1F87, {0x1F0F, 0x399}, {0x1F8F}},
                                            {0x1F88, {0x1F08, 0x399}, {0x1F88}},
                                            {0x1F89, {0x1F09, 0x399}, {0x1F89}},
                                            {0x1F8A, {0x1F0A, 0x399}, {0x1F8A}},
                                            {0x1F8B, {0x1F0B, 0x399}, {0x1F8B}},
                                            {0x1F8C, {0x1F0C, 0x399}, {0x1F8C}},
                                            {0x1F8D, {0x1F0D, 0x399}, {0x1F8D}},
                                            {0x1F8E, {0x1F0E, 0x399}, {0x1F8E}},
                                            {0x1F8F, {0x1F0F, 0x399}, {0x1F8F}},
                                            {0x1F90, {0x1F28, 0x399}, {0x1F98}},
                                            {0x1F91, {0x1F29, 0x399}, {0x1F99}},
                                            {0x1F92, {0x1F2A, 0x399}, {0x1F9A}},
                                            {0x1F93, {0x1F2B, 0x399}, {0x1F9B}},
                                            {0x1F94, {0x1F2C, 0x399}, {0x1F9C}},
                                            {0x1F95, {0x1F2D, 0x399}, {0x1F9D}},
                                            {0x1F96, {0x1F2E, 0x399}, {0x1F9E}},
                                            {0x1F97, {0x1F2F, 0x399}, {0x1F9F}},
                                            {0x1F98, {0x1F28, 0x399}, {0x1F98}},
                                            {0x1F99, {0x1F29, 0x399}, {0x1F99}},
                                            {0x1F9A, {0x1F2A, 0x399}, {0x1F9A}},
                                            {0x1F9B, {0x1F2B, 0x399}, {0x1F9B}},
                                            {0x1F9C, {0x1F2C, 0x399}, {0x1F9C}},
                                            {0x1F9D, {0x1F2D, 0x399}, {0x1F9D}},
                                            {0x1F9E, {0x1F2E, 0x399}, {0x1F9E}},
                                            {0x1F9F, {0x1F2F, 0x399}, {0x1F9F}},
                                            {0x1FA0, {0x1F68, 0x399}, {0x1FA8}},
                                            {0x1FA1, {0x1F69, 0x399}, {0x1FA9}},
                                            {0x1FA2, {0x1F6A, 0x399}, {0x1FAA}},
                                            {0x1FA3, {0x1F6B, 0x399}, {0x1FAB}},
                                            {0x1FA4, {0x1F6C, 0x399}, {0x1FAC}},
                                            {0x1FA5, {0x1F6D, 0x399}, {0x1FAD}},
                                            {0x1FA6, {0x1F6E, 0x399}, {0x1FAE}},
                                            {0x1FA7, {0x1F6F, 0x399}, {0x1FAF}},
                                            {0x1FA8, {0x1F68, 0x399}, {0x1FA8}},
                                            {0x1FA9, {0x1F69, 0x399}, {0x1FA9}},
                                            {0x1FAA, {0x1F6A, 0x399}, {0x1FAA}},
                                            {0x1FAB, {0x1F6B, 0x399}, {0x1FAB}},
                                            {0x1FAC, {0x1F6C, 0x399}, {0x1FAC}},
                                            {0x1FAD, {0x1F6D, 0x399}, {0x1FAD}},
                                            {0x1FAE, {0x1F6E, 0x399}, {0x1FAE}},
                                            {0x1FAF, {0x1F6F, 0x399}, {0x1FAF}},
                                            {0x1FB2, {0x1FBA, 0x399}, {0x1FBA, 0x345}},
                                            {0x1FB3, {0x391, 0x399}, {0x1FBC}},
                                            {0x1FB4, {0x386, 0x399}, {0x386, 0x345}},
                                            {0x1FB6, {0x391, 0x342}, {0x391, 0x342}},
                                            {0x1FB7, {0x391, 0x342, 0x399}, {0x391, 0x342, 0x345}},
                                            {0x1FBC, {0x391, 0x399}, {0x1FBC}},
                                            {0x1FC2, {0x1FCA, 0x399}, {0x1FCA, 0x345}},
                                            {0x1FC3, {0x397, 0x399}, {0x1FCC}},
                                            {0x1FC4, {0x389, 0x399}, {0x389, 0x345}},
                                            {0x1FC6, {0x397, 0x342}, {0x397, 0x342}},
                                            {0x1FC7, {0x397, 0x342, 0x399}, {0x397, 0x342, 0x345}},
                                            {0x1FCC, {0x397, 0x399}, {0x1FCC}},
                                            {0x1FD2, {0x399, 0x308, 0x300}, {0x399, 0x308, 0x300}},
                                            {0x1FD3, {0x399, 0x308, 0x301}, {0x399, 0x308, 0x301}},
                                            {0x1FD6, {0x399, 0x342}, {0x399, 0x342}},
                                            {0x1FD7, {0x399, 0x308, 0x342}, {0x399, 0x308, 0x342}},
                                            {0x1FE2, {0x3A5, 0x308, 0x300}, {0x3A5, 0x308, 0x300}},
                                            {0x1FE3, {0x3A5, 0x308, 0x301}, {0x3A5, 0x308, 0x301}},
                                            {0x1FE4, {0x3A1, 0x313}, {0x3A1, 0x313}},
                                            {0x1FE6, {0x3A5, 0x342}, {0x3A5, 0x342}},
                                            {0x1FE7, {0x3A5, 0x308, 0x342}, {0x3A5, 0x308, 0x342}},
                                            {0x1FF2, {0x1FFA, 0x399}, {0x1FFA, 0x345}},
                                            {0x1FF3, {0x3A9, 0x399}, {0x1FFC}},
                                            {0x1FF4, {0x38F, 0x399}, {0x38F, 0x345}},
                                            {0x1FF6, {0x3A9, 0x342}, {0x3A9, 0x342}},
                                            {0x1FF7, {0x3A9, 0x342, 0x399}, {0x3A9, 0x342, 0x345}},
                                            {0x1FFC, {0x3A9, 0x399}, {0x1FFC}},
                                            {0xFB00, {0x46, 0x46}, {0x46, 0x66}},
                                            {0xFB01, {0x46, 0x49}, {0x46, 0x69}},
                                            {0xFB02, {0x46, 0x4C}, {0x46, 0x6C}},
                                            {0xFB03, {0x46, 0x46, 0x49}, {0x46, 0x66, 0x69}},
                                            {0xFB04, {0x46, 0x46, 0x4C}, {0x46, 0x66, 0x6C}},
                                            {0xFB05, {0x53, 0x54}, {0x53, 0x74}},
                                            {0xFB06, {0x53, 0x54}, {0x53, 0x74}},
                                            {0xFB13, {0x544, 0x546}, {0x544, 0x576}},
                                            {0xFB14, {0x544, 0x535}, {0x544, 0x565}},
                                            {0xFB15, {0x544, 0x53B}, {0x544, 0x56B}},
                                            {0xFB16, {0x54E, 0x546}, {0x54E, 0x576}},
                                            {0xFB17, {0x544, 0x53D}, {0x544, 0x56D}}};

static const SpecialCase *special_case(int32_t point) {
  size_t low = 0, high = sizeof special_cases / sizeof *special_cases;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (special_cases[middle].point < point)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == sizeof special_cases / sizeof *special_cases) return NULL;
  return special_cases[low].point == point ? &special_cases[low] : NULL;
}

static size_t copy_points(const int32_t from[3], int32_t out[3]) {
  size_t count = 0;
  while (count < 3 && from[count]) {
    out[count] = from[count];
    count++;
  }
  return count;
}

size_t unicode_upper(int32_t point, int32_t out[3]) {
  const SpecialCase *special = point < 0x80 ? NULL : special_case(point);
  if (special) return copy_points(special->upper, out);
  out[0] = point < UNICODE_BROKEN ? utf8proc_toupper(point) : point;
  return 1;
}

size_t unicode_title(int32_t point, int32_t out[3]) {
  const SpecialCase *special = point < 0x80 ? NULL : special_case(point);
  if (special) return copy_points(special->title, out);
  out[0] = point < UNICODE_BROKEN ? utf8proc_totitle(point) : point;
  return 1;
}

size_t unicode_lower(int32_t point, int32_t out[3]) {
  if (point == 0x130) { /* I with dot: i and a dot above */
    out[0] = 'i';
    out[1] = 0x307;
    return 2;
  }
  out[0] = point < UNICODE_BROKEN ? utf8proc_tolower(point) : point;
  return 1;
}
