#include "tools/data/scripts.h"

const char *const script_names[SCRIPT_COUNT] = {
#define X(id, name) name,
    SCRIPT_LIST(X)
#undef X
};

typedef struct ScriptRange {
  uint32_t first, last;
  Script script;
} ScriptRange;

/* Scripts.txt of Unicode 17, by rising characters; ranges of one script are joined over characters that are not assigned. */
/* clang-format off: a table */
static const ScriptRange ranges[] = {
    {0x00041, 0x0005a, SCRIPT_LATIN},      {0x00061, 0x0007a, SCRIPT_LATIN},
    {0x000aa, 0x000aa, SCRIPT_LATIN},      {0x000ba, 0x000ba, SCRIPT_LATIN},
    {0x000c0, 0x000d6, SCRIPT_LATIN},      {0x000d8, 0x000f6, SCRIPT_LATIN},
    {0x000f8, 0x002b8, SCRIPT_LATIN},      {0x002e0, 0x002e4, SCRIPT_LATIN},
    {0x00370, 0x00373, SCRIPT_GREEK},      {0x00375, 0x0037d, SCRIPT_GREEK},
    {0x0037f, 0x00384, SCRIPT_GREEK},      {0x00386, 0x00386, SCRIPT_GREEK},
    {0x00388, 0x003e1, SCRIPT_GREEK},      {0x003f0, 0x003ff, SCRIPT_GREEK},
    {0x00400, 0x00484, SCRIPT_CYRILLIC},   {0x00487, 0x0052f, SCRIPT_CYRILLIC},
    {0x00531, 0x0058f, SCRIPT_ARMENIAN},   {0x00591, 0x005f4, SCRIPT_HEBREW},
    {0x00600, 0x00604, SCRIPT_ARABIC},     {0x00606, 0x0060b, SCRIPT_ARABIC},
    {0x0060d, 0x0061a, SCRIPT_ARABIC},     {0x0061c, 0x0061e, SCRIPT_ARABIC},
    {0x00620, 0x0063f, SCRIPT_ARABIC},     {0x00641, 0x0064a, SCRIPT_ARABIC},
    {0x00656, 0x0066f, SCRIPT_ARABIC},     {0x00671, 0x006dc, SCRIPT_ARABIC},
    {0x006de, 0x006ff, SCRIPT_ARABIC},     {0x00750, 0x0077f, SCRIPT_ARABIC},
    {0x00870, 0x008e1, SCRIPT_ARABIC},     {0x008e3, 0x008ff, SCRIPT_ARABIC},
    {0x00900, 0x00950, SCRIPT_DEVANAGARI}, {0x00955, 0x00963, SCRIPT_DEVANAGARI},
    {0x00966, 0x0097f, SCRIPT_DEVANAGARI}, {0x00980, 0x009fe, SCRIPT_BENGALI},
    {0x00a01, 0x00a76, SCRIPT_GURMUKHI},   {0x00a81, 0x00aff, SCRIPT_GUJARATI},
    {0x00b82, 0x00bfa, SCRIPT_TAMIL},      {0x00c00, 0x00c7f, SCRIPT_TELUGU},
    {0x00c80, 0x00cf3, SCRIPT_KANNADA},    {0x00d00, 0x00d7f, SCRIPT_MALAYALAM},
    {0x00d81, 0x00df4, SCRIPT_SINHALA},    {0x00e01, 0x00e3a, SCRIPT_THAI},
    {0x00e40, 0x00e5b, SCRIPT_THAI},       {0x00e81, 0x00edf, SCRIPT_LAO},
    {0x00f00, 0x00fd4, SCRIPT_TIBETAN},    {0x00fd9, 0x00fda, SCRIPT_TIBETAN},
    {0x01000, 0x0109f, SCRIPT_MYANMAR},    {0x010a0, 0x010fa, SCRIPT_GEORGIAN},
    {0x010fc, 0x010ff, SCRIPT_GEORGIAN},   {0x01100, 0x011ff, SCRIPT_HANGUL},
    {0x01200, 0x01399, SCRIPT_ETHIOPIC},   {0x01780, 0x017f9, SCRIPT_KHMER},
    {0x019e0, 0x019ff, SCRIPT_KHMER},      {0x01c80, 0x01c8a, SCRIPT_CYRILLIC},
    {0x01c90, 0x01cbf, SCRIPT_GEORGIAN},   {0x01d00, 0x01d25, SCRIPT_LATIN},
    {0x01d26, 0x01d2a, SCRIPT_GREEK},      {0x01d2b, 0x01d2b, SCRIPT_CYRILLIC},
    {0x01d2c, 0x01d5c, SCRIPT_LATIN},      {0x01d5d, 0x01d61, SCRIPT_GREEK},
    {0x01d62, 0x01d65, SCRIPT_LATIN},      {0x01d66, 0x01d6a, SCRIPT_GREEK},
    {0x01d6b, 0x01d77, SCRIPT_LATIN},      {0x01d78, 0x01d78, SCRIPT_CYRILLIC},
    {0x01d79, 0x01dbe, SCRIPT_LATIN},      {0x01dbf, 0x01dbf, SCRIPT_GREEK},
    {0x01e00, 0x01eff, SCRIPT_LATIN},      {0x01f00, 0x01ffe, SCRIPT_GREEK},
    {0x02071, 0x02071, SCRIPT_LATIN},      {0x0207f, 0x0207f, SCRIPT_LATIN},
    {0x02090, 0x0209f, SCRIPT_LATIN},      {0x02126, 0x02126, SCRIPT_GREEK},
    {0x0212a, 0x0212b, SCRIPT_LATIN},      {0x02132, 0x02132, SCRIPT_LATIN},
    {0x0214e, 0x0214e, SCRIPT_LATIN},      {0x02160, 0x02188, SCRIPT_LATIN},
    {0x02c60, 0x02c7f, SCRIPT_LATIN},      {0x02d00, 0x02d2d, SCRIPT_GEORGIAN},
    {0x02d80, 0x02dde, SCRIPT_ETHIOPIC},   {0x02de0, 0x02dff, SCRIPT_CYRILLIC},
    {0x02e80, 0x02fd5, SCRIPT_HAN},        {0x03005, 0x03005, SCRIPT_HAN},
    {0x03007, 0x03007, SCRIPT_HAN},        {0x03021, 0x03029, SCRIPT_HAN},
    {0x0302e, 0x0302f, SCRIPT_HANGUL},     {0x03038, 0x0303b, SCRIPT_HAN},
    {0x03041, 0x03096, SCRIPT_HIRAGANA},   {0x0309d, 0x0309f, SCRIPT_HIRAGANA},
    {0x030a1, 0x030fa, SCRIPT_KATAKANA},   {0x030fd, 0x030ff, SCRIPT_KATAKANA},
    {0x03131, 0x0318e, SCRIPT_HANGUL},     {0x031f0, 0x031ff, SCRIPT_KATAKANA},
    {0x03200, 0x0321e, SCRIPT_HANGUL},     {0x03260, 0x0327e, SCRIPT_HANGUL},
    {0x032d0, 0x032fe, SCRIPT_KATAKANA},   {0x03300, 0x03357, SCRIPT_KATAKANA},
    {0x03400, 0x04dbf, SCRIPT_HAN},        {0x04e00, 0x09fff, SCRIPT_HAN},
    {0x0a640, 0x0a69f, SCRIPT_CYRILLIC},   {0x0a722, 0x0a787, SCRIPT_LATIN},
    {0x0a78b, 0x0a7ff, SCRIPT_LATIN},      {0x0a8e0, 0x0a8ff, SCRIPT_DEVANAGARI},
    {0x0a960, 0x0a97c, SCRIPT_HANGUL},     {0x0a9e0, 0x0a9fe, SCRIPT_MYANMAR},
    {0x0aa60, 0x0aa7f, SCRIPT_MYANMAR},    {0x0ab01, 0x0ab2e, SCRIPT_ETHIOPIC},
    {0x0ab30, 0x0ab5a, SCRIPT_LATIN},      {0x0ab5c, 0x0ab64, SCRIPT_LATIN},
    {0x0ab65, 0x0ab65, SCRIPT_GREEK},      {0x0ab66, 0x0ab69, SCRIPT_LATIN},
    {0x0ab6c, 0x0ab6d, SCRIPT_LATIN},      {0x0ac00, 0x0d7fb, SCRIPT_HANGUL},
    {0x0f900, 0x0fad9, SCRIPT_HAN},        {0x0fb00, 0x0fb06, SCRIPT_LATIN},
    {0x0fb13, 0x0fb17, SCRIPT_ARMENIAN},   {0x0fb1d, 0x0fb4f, SCRIPT_HEBREW},
    {0x0fb50, 0x0fd3d, SCRIPT_ARABIC},     {0x0fd40, 0x0fdff, SCRIPT_ARABIC},
    {0x0fe2e, 0x0fe2f, SCRIPT_CYRILLIC},   {0x0fe70, 0x0fefc, SCRIPT_ARABIC},
    {0x0ff21, 0x0ff3a, SCRIPT_LATIN},      {0x0ff41, 0x0ff5a, SCRIPT_LATIN},
    {0x0ff66, 0x0ff6f, SCRIPT_KATAKANA},   {0x0ff71, 0x0ff9d, SCRIPT_KATAKANA},
    {0x0ffa0, 0x0ffdc, SCRIPT_HANGUL},     {0x10140, 0x1018e, SCRIPT_GREEK},
    {0x101a0, 0x101a0, SCRIPT_GREEK},      {0x10780, 0x107bf, SCRIPT_LATIN},
    {0x10e60, 0x10e7e, SCRIPT_ARABIC},     {0x10ec2, 0x10eff, SCRIPT_ARABIC},
    {0x111e1, 0x111f4, SCRIPT_SINHALA},    {0x116d0, 0x116e3, SCRIPT_MYANMAR},
    {0x11b00, 0x11b0a, SCRIPT_DEVANAGARI}, {0x11df0, 0x11df1, SCRIPT_BENGALI},
    {0x11fc0, 0x11fff, SCRIPT_TAMIL},      {0x16fe2, 0x16fe3, SCRIPT_HAN},
    {0x16ff0, 0x16ff6, SCRIPT_HAN},        {0x1aff0, 0x1b000, SCRIPT_KATAKANA},
    {0x1b001, 0x1b11f, SCRIPT_HIRAGANA},   {0x1b120, 0x1b122, SCRIPT_KATAKANA},
    {0x1b123, 0x1b123, SCRIPT_HIRAGANA},   {0x1b124, 0x1b128, SCRIPT_KATAKANA},
    {0x1b132, 0x1b152, SCRIPT_HIRAGANA},   {0x1b155, 0x1b168, SCRIPT_KATAKANA},
    {0x1d200, 0x1d245, SCRIPT_GREEK},      {0x1df00, 0x1dff2, SCRIPT_LATIN},
    {0x1dff3, 0x1dff4, SCRIPT_GREEK},      {0x1dff5, 0x1dfff, SCRIPT_LATIN},
    {0x1e030, 0x1e08f, SCRIPT_CYRILLIC},   {0x1e7e0, 0x1e7fe, SCRIPT_ETHIOPIC},
    {0x1ee00, 0x1eef1, SCRIPT_ARABIC},     {0x1f200, 0x1f200, SCRIPT_HIRAGANA},
    {0x20000, 0x33479, SCRIPT_HAN}};
/* clang-format on */
enum { RANGES = sizeof ranges / sizeof *ranges };

Script script_of(uint32_t c) {
  if (c < 0x80) return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ? SCRIPT_LATIN : SCRIPT_NONE;
  size_t low = 0, high = RANGES;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (ranges[middle].last < c) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < RANGES && ranges[low].first <= c ? ranges[low].script : SCRIPT_NONE;
}

bool script_has_no_spaces(Script script) {
  switch (script) {
    case SCRIPT_HAN:
    case SCRIPT_HIRAGANA:
    case SCRIPT_KATAKANA:
    case SCRIPT_KHMER:
    case SCRIPT_LAO:
    case SCRIPT_MYANMAR:
    case SCRIPT_THAI:
      return true;
    default:
      return false;
  }
}

void scripts_count(ScriptTally *tally, const char *text, size_t bytes) {
  for (size_t at = 0; at < bytes;) tally->characters[script_of(utf8_next(text, &at))]++;
}

Script scripts_main(const ScriptTally *tally) {
  Script best = SCRIPT_NONE;
  for (Script script = SCRIPT_NONE + 1; script < SCRIPT_COUNT; script++) {
    if (tally->characters[script] > (best ? tally->characters[best] : 0)) best = script;
  }
  return best;
}
