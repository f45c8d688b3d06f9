#include "tokenizer/normalize.h"

#include <string.h>
#include <utf8proc.h>

typedef enum NormalizerKind {
  NORMALIZE_PREPEND,
  NORMALIZE_REPLACE,
  NORMALIZE_UNICODE,
  NORMALIZE_STRIP,
  NORMALIZE_STRIP_ACCENTS,
  NORMALIZE_LOWERCASE
} NormalizerKind;

struct NormalizerStep {
  NormalizerKind kind;
  char *content; /* what Prepend and Replace put in; owned */
  size_t content_bytes;
  Regex *pattern;            /* Replace */
  utf8proc_option_t unicode; /* NFC ... as utf8proc's options */
  bool left, right;          /* Strip */
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

static bool read_step(NormalizerStep *step, const Reader *reader, const char *type, Error *error) {
  static const struct {
    const char *name;
    utf8proc_option_t options;
  } forms[] = {{"NFC", UTF8PROC_COMPOSE},
               {"NFD", UTF8PROC_DECOMPOSE},
               {"NFKC", UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
               {"NFKD", UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
  for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
    if (strcmp(type, forms[i].name) == 0) {
      step->kind = NORMALIZE_UNICODE;
      step->unicode = forms[i].options | UTF8PROC_STABLE;
      return true;
    }
  if (strcmp(type, "Prepend") == 0) {
    const char *text;
    size_t bytes;
    step->kind = NORMALIZE_PREPEND;
    return reader_text(reader, "prepend", true, &text, &bytes, error) &&
           set_content(step, text, bytes, error);
  }
  if (strcmp(type, "Replace") == 0) {
    step->kind = NORMALIZE_REPLACE;
    return read_replace(step, reader, error);
  }
  if (strcmp(type, "Strip") == 0) {
    step->kind = NORMALIZE_STRIP;
    return reader_bool_required(reader, "strip_left", &step->left, error) &&
           reader_bool_required(reader, "strip_right", &step->right, error);
  }
  step->kind = strcmp(type, "Lowercase") == 0 ? NORMALIZE_LOWERCASE : NORMALIZE_STRIP_ACCENTS;
  if (step->kind == NORMALIZE_LOWERCASE || strcmp(type, "StripAccents") == 0) return true;
  return reader_fail(
      reader, error,
      "normalizer %s is not supported (known: Sequence, Prepend, Replace, NFC, NFD, NFKC, NFKD, "
      "Strip, StripAccents, Lowercase)",
      type);
}

static bool read_steps(Normalizer *normalizer, const Reader *reader, int depth, Error *error) {
  const char *type;
  if (!reader_type(reader, &type, error)) return false;
  if (strcmp(type, "Sequence") == 0) {
    Reader list, item;
    if (depth == 0) return reader_fail(reader, error, "sequences are nested too deeply");
    if (!reader_array(reader, "normalizers", &list, error)) return false;
    for (size_t i = 0; i < json_array_size(list.value); i++)
      if (!reader_item(&list, i, &item, error) || !read_steps(normalizer, &item, depth - 1, error))
        return false;
    return true;
  }
  NormalizerStep *steps = memory_resize(normalizer->steps, (normalizer->count + 1) * sizeof *steps);
  if (!steps) return error_out_of_memory(error, "normalizer", (normalizer->count + 1) * sizeof *steps);
  normalizer->steps = steps;
  steps[normalizer->count] = (NormalizerStep){0};
  return read_step(&steps[normalizer->count++], reader, type, error);
}

bool normalizer_init(Normalizer *normalizer, const Reader *reader, Error *error) {
  *normalizer = (Normalizer){0};
  if (!reader->value) return true;
  if (read_steps(normalizer, reader, 8, error)) return true;
  normalizer_free(normalizer);
  return false;
}

void normalizer_free(Normalizer *normalizer) {
  for (size_t i = 0; i < normalizer->count; i++) {
    memory_free(normalizer->steps[i].content);
    regex_free(normalizer->steps[i].pattern);
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
    if (!text_append_part(out, in, done, match.begin, error)) return false;
    if (!text_append(out, step->content, step->content_bytes, span, error)) return false;
    done = match.end;
  }
}

/* True when a character can begin a stretch that normalises independently of what is before it: its decomposition
 * starts with a character that neither moves (combining class 0) nor joins the one before (marks, Hangul vowels
 * and finals). */
static bool starts_segment(uint32_t c, utf8proc_option_t options) {
  if (c < 0x300) return true;
  utf8proc_int32_t parts[32];
  int boundclass = 0;
  utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 32, options, &boundclass);
  utf8proc_int32_t first = count > 0 && count <= 32 ? parts[0] : (utf8proc_int32_t)c;
  if ((first >= 0x1160 && first <= 0x11ff) || (first >= 0xd7b0 && first <= 0xd7ff)) return false;
  const utf8proc_property_t *property = utf8proc_get_property(first);
  return property->combining_class == 0 && property->category != UTF8PROC_CATEGORY_MN &&
         property->category != UTF8PROC_CATEGORY_MC && property->category != UTF8PROC_CATEGORY_ME;
}

typedef struct Points {
  utf8proc_int32_t *data;
  size_t size, capacity;
} Points;

static bool points_reserve(Points *points, size_t more, Error *error) {
  if (points->capacity - points->size >= more) return true;
  size_t capacity = points->capacity * 2 + more + 64;
  utf8proc_int32_t *data = memory_resize(points->data, capacity * sizeof *data);
  if (!data) return error_out_of_memory(error, "normalizer", capacity * sizeof *data);
  points->data = data;
  points->capacity = capacity;
  return true;
}

static int combining_class(utf8proc_int32_t c) {
  return utf8proc_get_property(c)->combining_class;
}

/* Sorts `count` marks by combining class, those of one class in their order: by counting, since a text may hold any
 * number of marks behind one letter. `spare` has room for as many. */
static void sort_marks(utf8proc_int32_t *marks, size_t count, utf8proc_int32_t *spare) {
  size_t place[257] = {0};
  for (size_t i = 0; i < count; i++) place[combining_class(marks[i]) + 1]++;
  for (int i = 0; i < 256; i++) place[i + 1] += place[i];
  for (size_t i = 0; i < count; i++) spare[place[combining_class(marks[i])]++] = marks[i];
  memcpy(marks, spare, count * sizeof *marks);
}

/* The canonical order (Unicode 15, section 3.11, D108) of the first `count` points; the rest of the room is spare. */
static void order_marks(utf8proc_int32_t *points, size_t count) {
  for (size_t i = 0; i < count; i++) {
    size_t begin = i;
    bool sorted = true;
    while (i < count && combining_class(points[i]) != 0) {
      if (i > begin && combining_class(points[i]) < combining_class(points[i - 1])) sorted = false;
      i++;
    }
    if (!sorted) sort_marks(points + begin, i - begin, points + count);
  }
}

/* The decomposition of bytes begin..end. utf8proc_decompose would order the marks too, in quadratic time. */
static bool decompose(const Text *in, size_t begin, size_t end, utf8proc_option_t options, Points *points,
                      Error *error) {
  enum { LONGEST = 32 }; /* U+FDFA has 18 */
  points->size = 0;
  for (size_t at = begin; at < end;) {
    int boundclass = 0;
    if (!points_reserve(points, LONGEST, error)) return false;
    utf8proc_int32_t c = (utf8proc_int32_t)utf8_next(in->data, &at);
    utf8proc_ssize_t count =
        utf8proc_decompose_char(c, points->data + points->size, LONGEST, options, &boundclass);
    if (count < 0 || count > LONGEST) return error_set(error, ERROR_DATA, "text cannot be normalised");
    points->size += (size_t)count;
  }
  if (!points_reserve(points, points->size, error)) return false;
  order_marks(points->data, points->size);
  return true;
}

static bool normalize_segment(const Text *in, size_t begin, size_t end, utf8proc_option_t options,
                              Points *points, Text *out, Error *error) {
  if (!decompose(in, begin, end, options, points, error)) return false;
  utf8proc_ssize_t count = (utf8proc_ssize_t)points->size;
  if (options & UTF8PROC_COMPOSE) count = utf8proc_normalize_utf32(points->data, count, options);
  TokenSpan span = text_span(in, begin, end);
  char utf8[4];
  for (utf8proc_ssize_t i = 0; i < count; i++)
    if (!text_append(out, utf8, utf8_put((uint32_t)points->data[i], utf8), span, error)) return false;
  return true;
}

static bool normalize_text(const NormalizerStep *step, const Text *in, Points *points, Text *out,
                           Error *error) {
  for (size_t begin = 0; begin < in->size;) {
    size_t plain = begin; /* ASCII is its own normal form, but its last character may take a mark */
    while (plain < in->size && (unsigned char)in->data[plain] < 0x80) plain++;
    if (plain == in->size || plain > begin + 1) {
      size_t end = plain == in->size ? plain : plain - 1;
      if (!text_append_part(out, in, begin, end, error)) return false;
      begin = end;
      continue;
    }
    size_t end = begin;
    (void)utf8_next(in->data, &end);
    while (end < in->size) {
      size_t next = end;
      if (starts_segment(utf8_next(in->data, &next), step->unicode)) break;
      end = next;
    }
    if (!normalize_segment(in, begin, end, step->unicode, points, out, error)) return false;
    begin = end;
  }
  return true;
}

static bool apply_unicode(const NormalizerStep *step, const Text *in, Text *out, Error *error) {
  Points points = {0};
  bool done = normalize_text(step, in, &points, out, error);
  memory_free(points.data);
  return done;
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
  return text_append_part(out, in, begin, end, error);
}

/* Lowercase (one character at a time, so no final sigma rule) and StripAccents. */
static bool apply_characters(const NormalizerStep *step, const Text *in, Text *out, Error *error) {
  for (size_t at = 0; at < in->size;) {
    size_t begin = at, length;
    char utf8[8];
    uint32_t c = utf8_next(in->data, &at);
    if (step->kind == NORMALIZE_STRIP_ACCENTS) {
      utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
      if (category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME) continue;
      length = utf8_put(c, utf8);
    } else if (c == 0x130) { /* the one character whose lower case is two */
      memcpy(utf8, "i\xcc\x87", 3);
      length = 3;
    } else {
      length = utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)c), utf8);
    }
    if (!text_append(out, utf8, length, text_span(in, begin, at), error)) return false;
  }
  return true;
}

bool normalizer_apply(const Normalizer *normalizer, Text *text, Text *spare, RegexScratch *scratch,
                      Error *error) {
  for (size_t i = 0; i < normalizer->count; i++) {
    const NormalizerStep *step = &normalizer->steps[i];
    bool done = false;
    spare->size = 0;
    switch (step->kind) {
      case NORMALIZE_PREPEND:
        done = apply_prepend(step, text, spare, error);
        break;
      case NORMALIZE_REPLACE:
        done = apply_replace(step, text, spare, scratch, error);
        break;
      case NORMALIZE_UNICODE:
        done = apply_unicode(step, text, spare, error);
        break;
      case NORMALIZE_STRIP:
        done = apply_strip(step, text, spare, error);
        break;
      case NORMALIZE_STRIP_ACCENTS:
      case NORMALIZE_LOWERCASE:
        done = apply_characters(step, text, spare, error);
        break;
    }
    if (!done) return false;
    Text swap = *text;
    *text = *spare;
    *spare = swap;
  }
  return true;
}
