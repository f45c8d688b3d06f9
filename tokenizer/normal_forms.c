#include "tokenizer/normal_forms.h"

#include "base/memory.h"

#include <utf8proc.h>

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

static bool normalize_text(const Text *in, utf8proc_option_t options, Points *points, Text *out,
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
      if (starts_segment(utf8_next(in->data, &next), options)) break;
      end = next;
    }
    if (!normalize_segment(in, begin, end, options, points, out, error)) return false;
    begin = end;
  }
  return true;
}

bool normal_form_append(NormalForm form, const Text *in, Text *out, Error *error) {
  static const utf8proc_option_t options[] = {
      [NORMAL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
      [NORMAL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
      [NORMAL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
      [NORMAL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT};
  Points points = {0};
  bool done = normalize_text(in, options[form], &points, out, error);
  memory_free(points.data);
  return done;
}
