#include "tokenizer/normalize.h"

#include "base/base64.h"
#include "tokenizer/characters.h"
#include "tokenizer/charsmap.h"
#include "tokenizer/spaces.h"
#include "tokenizer/normal_forms.h"

#include <string.h>

typedef enum NormalizerKind {
  NORMALIZE_PREPEND,
  NORMALIZE_REPLACE,
  NORMALIZE_FORM,
  NORMALIZE_STRIP,
  NORMALIZE_CHARACTERS,
  NORMALIZE_CHARSMAP,
  NORMALIZE_SPACES,
  NORMALIZE_BYTES
} NormalizerKind;

struct NormalizerStep {
  NormalizerKind kind;
  char *content; /* what Prepend and Replace put in; owned */
  size_t content_bytes;
  Regex *pattern; /* Replace */
  NormalForm form;
  CharacterMap characters;
  Charsmap *charsmap; /* Precompiled */
  Spaces *spaces;     /* SentencePiece */
  bool left, right;   /* Strip */
};

static bool set_content(NormalizerStep *step, const char *text, size_t bytes, Error *error) {
  step->content = memory_alloc(bytes + 1);
  if (!step->content) return error_out_of_memory(error, "normalizer", bytes);
  memcpy(step->content, text, bytes);
  step->content_bytes = bytes;
  return true;
}

static bool read_replace(NormalizerStep *step, const Reader *reader, Error *error) {
  Reader pattern;
  const char *text, *content;
  size_t bytes, content_bytes;
  if (!reader_member(reader, "pattern", &pattern, error)) return false;
  bool literal = reader_has(&pattern, "String");
  if (!reader_text(&pattern, literal ? "String" : "Regex", true, &text, &bytes, error)) return false;
  if (!reader_text(reader, "content", true, &content, &content_bytes, error)) return false;
  step->pattern = regex_compile(text, bytes, literal ? REGEX_LITERAL : REGEX_ONIGURUMA, error);
  if (!step->pattern) return error_context(error, "%s: %s", pattern.path, pattern.where);
  return set_content(step, content, content_bytes, error);
}

static bool read_strip(NormalizerStep *step, const Reader *reader, Error *error) {
  return reader_bool_required(reader, "strip_left", &step->left, error) &&
         reader_bool_required(reader, "strip_right", &step->right, error);
}

static bool read_prepend(NormalizerStep *step, const Reader *reader, Error *error) {
  const char *text;
  size_t bytes;
  return reader_text(reader, "prepend", true, &text, &bytes, error) && set_content(step, text, bytes, error);
}

static bool read_charsmap(NormalizerStep *step, const Reader *reader, Error *error) {
  Buffer map = {0};
  const char *text;
  size_t bytes;
  if (!reader_text(reader, "precompiled_charsmap", true, &text, &bytes, error)) return false;
  bool done = base64_decode(text, bytes, &map, error);
  if (done) step->charsmap = charsmap_open(map.data ? map.data : "", map.size, error);
  buffer_free(&map);
  return step->charsmap || error_context(error, "%s: %s.precompiled_charsmap", reader->path, reader->where);
}

/* ---- the list of steps ---- */

/* A new step at the end, zeroed but for its kind. */
static NormalizerStep *push_step(Normalizer *normalizer, NormalizerKind kind, Error *error) {
  NormalizerStep *steps = memory_resize(normalizer->steps, (normalizer->count + 1) * sizeof *steps);
  if (!steps) {
    error_out_of_memory(error, "normalizer", (normalizer->count + 1) * sizeof *steps);
    return NULL;
  }
  normalizer->steps = steps;
  steps[normalizer->count] = (NormalizerStep){.kind = kind};
  return &steps[normalizer->count++];
}

static bool push_characters(Normalizer *normalizer, CharacterMap map, Error *error) {
  NormalizerStep *step = push_step(normalizer, NORMALIZE_CHARACTERS, error);
  if (step) step->characters = map;
  return step != NULL;
}

static bool push_form(Normalizer *normalizer, NormalForm form, Error *error) {
  NormalizerStep *step = push_step(normalizer, NORMALIZE_FORM, error);
  if (step) step->form = form;
  return step != NULL;
}

/* In no file of the library: source_sentencepiece.c makes it. */
static bool read_spaces(NormalizerStep *step, const Reader *reader, Error *error) {
  if (reader_has(reader, "precompiled_charsmap") && !read_charsmap(step, reader, error)) return false;
  step->spaces = spaces_open(reader, step->charsmap, error);
  if (step->spaces) step->charsmap = NULL;
  return step->spaces != NULL;
}

static bool push_bert(Normalizer *normalizer, const Reader *reader, Error *error) {
  bool clean, chinese, accents, lowercase;
  return reader_bool_required(reader, "clean_text", &clean, error) &&
         reader_bool_required(reader, "handle_chinese_chars", &chinese, error) &&
         reader_bool_required(reader, "lowercase", &lowercase, error) &&
         reader_bool(reader, "strip_accents", lowercase, &accents, error) &&
         (!clean || push_characters(normalizer, CHARACTERS_CLEAN, error)) &&
         (!chinese || push_characters(normalizer, CHARACTERS_CHINESE, error)) &&
         (!accents || (push_form(normalizer, NORMAL_NFD, error) &&
                       push_characters(normalizer, CHARACTERS_NO_MN, error))) &&
         (!lowercase || push_characters(normalizer, CHARACTERS_LOWERCASE, error));
}

typedef struct StepKind {
  const char *type;
  NormalizerKind kind;
  int which; /* form or map of characters */
  bool (*read)(NormalizerStep *step, const Reader *reader, Error *error);
} StepKind;

static const StepKind step_kinds[] = {{"Prepend", NORMALIZE_PREPEND, 0, read_prepend},
                                      {"Replace", NORMALIZE_REPLACE, 0, read_replace},
                                      {"NFC", NORMALIZE_FORM, NORMAL_NFC, NULL},
                                      {"NFD", NORMALIZE_FORM, NORMAL_NFD, NULL},
                                      {"NFKC", NORMALIZE_FORM, NORMAL_NFKC, NULL},
                                      {"NFKD", NORMALIZE_FORM, NORMAL_NFKD, NULL},
                                      {"Strip", NORMALIZE_STRIP, 0, read_strip},
                                      {"StripAccents", NORMALIZE_CHARACTERS, CHARACTERS_STRIP_ACCENTS, NULL},
                                      {"Lowercase", NORMALIZE_CHARACTERS, CHARACTERS_LOWERCASE, NULL},
                                      {"Nmt", NORMALIZE_CHARACTERS, CHARACTERS_NMT, NULL},
                                      {"Precompiled", NORMALIZE_CHARSMAP, 0, read_charsmap},
                                      {"SentencePiece", NORMALIZE_SPACES, 0, read_spaces},
                                      {"ByteLevel", NORMALIZE_BYTES, 0, NULL}};

static bool push_normalizer(Normalizer *normalizer, const Reader *reader, const char *type, Error *error) {
  if (strcmp(type, "BertNormalizer") == 0) return push_bert(normalizer, reader, error);
  for (size_t i = 0; i < sizeof step_kinds / sizeof step_kinds[0]; i++) {
    const StepKind *known = &step_kinds[i];
    if (strcmp(type, known->type) != 0) continue;
    NormalizerStep *step = push_step(normalizer, known->kind, error);
    if (!step) return false;
    step->form = (NormalForm)known->which;
    step->characters = (CharacterMap)known->which;
    return !known->read || known->read(step, reader, error);
  }
  return reader_fail(
      reader, error,
      "normalizer %s is not supported (known: Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, "
      "Strip, StripAccents, Lowercase, BertNormalizer, Nmt, Precompiled, ByteLevel)",
      type);
}

static bool read_steps(Normalizer *normalizer, const Reader *reader, int depth, Error *error) {
  const char *type;
  if (!reader_type(reader, &type, error)) return false;
  if (strcmp(type, "Sequence") != 0) return push_normalizer(normalizer, reader, type, error);
  Reader list, item;
  if (depth == 0) return reader_fail(reader, error, "sequences are nested too deeply");
  if (!reader_array(reader, "normalizers", &list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++)
    if (!reader_item(&list, i, &item, error) || !read_steps(normalizer, &item, depth - 1, error))
      return false;
  return true;
}

bool normalizer_init(Normalizer *normalizer, const Reader *reader, Error *error) {
  *normalizer = (Normalizer){0};
  byte_alphabet_init(&normalizer->alphabet);
  if (!reader->value) return true;
  if (read_steps(normalizer, reader, 8, error)) return true;
  normalizer_free(normalizer);
  return false;
}

void normalizer_free(Normalizer *normalizer) {
  for (size_t i = 0; i < normalizer->count; i++) {
    memory_free(normalizer->steps[i].content);
    regex_free(normalizer->steps[i].pattern);
    charsmap_free(normalizer->steps[i].charsmap);
    spaces_free(normalizer->steps[i].spaces);
  }
  memory_free(normalizer->steps);
  *normalizer = (Normalizer){0};
}

static TokenSpan empty_span_before(const Text *text, size_t at) {
  if (!text->tracked || text->size == 0) return (TokenSpan){0, 0};
  uint32_t place = at < text->size ? text->spans[at].begin : text->spans[text->size - 1].end;
  return (TokenSpan){place, place};
}

static bool apply_prepend(const NormalizerStep *step, const Text *in, Text *out, Error *error) {
  if (in->size == 0) return true;
  return text_append(out, step->content, step->content_bytes, empty_span_before(in, 0), error) &&
         text_append_part(out, in, 0, in->size, error);
}

/* What is put in stands, for `tokenizers`, where the last character that it replaces did. */
static bool drops_first(const NormalizerStep *step, const Text *in, size_t end) {
  return end > 0 && (step->content_bytes == 0 || utf8_previous(in->data, end) > 0);
}

static bool apply_replace(const NormalizerStep *step, const Text *in, Text *out, RegexScratch *scratch,
                          Error *error) {
  RegexCursor cursor = {0};
  RegexMatch match;
  size_t done = 0;
  for (bool found = true;;) {
    if (!regex_next(step->pattern, scratch, in->data, in->size, &cursor, &match, &found, error)) return false;
    if (!found) return text_append_part(out, in, done, in->size, error);
    TokenSpan span =
        match.begin < match.end ? text_span(in, match.begin, match.end) : empty_span_before(in, match.begin);
    if (match.begin == 0 && drops_first(step, in, match.end)) out->from_start = false;
    if (!text_append_part(out, in, done, match.begin, error)) return false;
    if (!text_append(out, step->content, step->content_bytes, span, error)) return false;
    done = match.end;
  }
}

static bool apply_strip(const NormalizerStep *step, const Text *in, Text *out, Error *error) {
  size_t begin = 0, end = in->size;
  while (step->left && begin < end) {
    size_t at = begin;
    if (!char_is_space(utf8_next(in->data, &at))) break;
    begin = at;
  }
  while (step->right && end > begin) {
    size_t previous = utf8_previous(in->data, end), at = previous;
    if (!char_is_space(utf8_next(in->data, &at))) break;
    end = previous;
  }
  if (begin > 0) out->from_start = false;
  return text_append_part(out, in, begin, end, error);
}

static bool apply_step(const Normalizer *normalizer, const NormalizerStep *step, const Text *in, Text *out,
                       RegexScratch *scratch, Error *error) {
  switch (step->kind) {
    case NORMALIZE_PREPEND:
      return apply_prepend(step, in, out, error);
    case NORMALIZE_REPLACE:
      return apply_replace(step, in, out, scratch, error);
    case NORMALIZE_FORM:
      return normal_form_append(step->form, in, out, error);
    case NORMALIZE_STRIP:
      return apply_strip(step, in, out, error);
    case NORMALIZE_CHARACTERS:
      return characters_append(step->characters, in, out, error);
    case NORMALIZE_CHARSMAP:
      return charsmap_append(step->charsmap, in, out, error);
    case NORMALIZE_SPACES:
      return spaces_append(step->spaces, in, out, error);
    case NORMALIZE_BYTES:
      return text_append_bytes(out, &normalizer->alphabet, in, 0, in->size, error);
  }
  return true;
}

bool normalizer_apply(const Normalizer *normalizer, Text *text, Text *spare, RegexScratch *scratch,
                      Error *error) {
  for (size_t i = 0; i < normalizer->count; i++) {
    spare->size = 0;
    spare->from_start = text->from_start;
    if (!apply_step(normalizer, &normalizer->steps[i], text, spare, scratch, error)) return false;
    Text swap = *text;
    *text = *spare;
    *spare = swap;
  }
  return true;
}
