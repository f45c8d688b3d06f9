#include "template/text.h"

#include "template/unicode.h"

#include <string.h>

static bool may_write(Run *run, size_t size) {
  if (!run_charge(run, size)) return false;
  if (size <= run->limits.output && run->text->size <= run->limits.output - size) return true;
  return run_fail(run, "the text gets too long: more than %zu bytes", run->limits.output);
}

bool text_add(Run *run, const char *bytes, size_t size) {
  return may_write(run, size) && buffer_append(run->text, bytes, size, run->error);
}

bool text_add_text(Run *run, const char *text) {
  return text_add(run, text, strlen(text));
}

bool text_repeat(Run *run, const char *bytes, size_t size, int64_t times) {
  if (times <= 0 || size == 0) return true;
  if ((size_t)times > run->limits.output / size)
    return run_fail(run, "the text gets too long: more than %zu bytes", run->limits.output);
  for (int64_t i = 0; i < times; i++)
    if (!run_step(run) || !text_add(run, bytes, size)) return false;
  return true;
}

bool text_add_point(Run *run, int32_t point) {
  char bytes[4];
  return text_add(run, bytes, unicode_write(point, bytes));
}

/* ---- spans ---- */

/* Adds it to the span before where they are one in both texts. */
static bool add_span(Run *run, Span span) {
  SpanArray *spans = run->spans;
  Span *last = spans->count ? &spans->items[spans->count - 1] : NULL;
  if (last && last->end == span.begin && span.begin > run->barrier && last->exact == span.exact &&
      last->generation == span.generation &&
      (last->from && span.from ? last->from + last->bytes == span.from : last->from == span.from)) {
    last->end = span.end;
    last->bytes += span.bytes;
    return true;
  }
  if (spans->count == spans->capacity) {
    size_t capacity = spans->capacity ? spans->capacity * 2 : 64;
    if (capacity * sizeof(Span) > run->limits.output * 4)
      return run_fail(run, "the text is in too many pieces: more than %zu", spans->capacity);
    Span *items = memory_resize(spans->items, capacity * sizeof *items);
    if (!items) return error_out_of_memory(run->error, "origins of a rendering", capacity * sizeof *items);
    spans->items = items;
    spans->capacity = capacity;
  }
  spans->items[spans->count++] = span;
  return true;
}

bool text_add_slice(Run *run, const ValueString *string, size_t begin, size_t end) {
  size_t at = run->text->size;
  if (begin == end) return true;
  if (!text_add(run, string->bytes + begin, end - begin)) return false;
  for (size_t i = span_after(string->spans, string->span_count, begin);
       i < string->span_count && string->spans[i].begin < end; i++) {
    Span span = span_clip(string->spans[i], begin, end);
    span.begin += at;
    span.end += at;
    if (!add_span(run, span)) return false;
  }
  return true;
}

bool text_add_string(Run *run, const ValueString *string) {
  return text_add_slice(run, string, 0, string->size);
}

bool text_add_changed(Run *run, const ValueString *string, size_t begin, size_t end, const char *bytes,
                      size_t size) {
  size_t at = run->text->size;
  if (!text_add(run, bytes, size)) return false;
  size_t first = span_after(string->spans, string->span_count, begin);
  if (size == 0 || first == string->span_count || string->spans[first].begin >= end) return true;
  Span span = span_clip(string->spans[first], begin, end);
  span.begin = at;
  span.end = at + size;
  span.exact = false;
  return add_span(run, span);
}

/* ---- strings of it ---- */

/* The first span behind the mark. */
static size_t first_span(const Run *run, size_t mark) {
  return span_after(run->spans->items, run->spans->count, mark);
}

void text_drop(Run *run, size_t mark) {
  run->spans->count = first_span(run, mark);
  run->text->size = mark;
}

bool text_cut(Run *run, size_t mark, Value *out) {
  size_t size = run->text->size - mark, first = first_span(run, mark), count = run->spans->count - first;
  ValueString *string = run_alloc(run, sizeof *string + count * sizeof(Span) + size);
  if (!string || !run_charge(run, size)) return false;
  Span *spans = (Span *)(string + 1);
  char *bytes = (char *)(spans + count);
  if (size) memcpy(bytes, run->text->data + mark, size);
  for (size_t i = 0; i < count; i++) {
    spans[i] = run->spans->items[first + i];
    spans[i].begin -= mark;
    spans[i].end -= mark;
  }
  *string = (ValueString){
      .bytes = bytes, .size = size, .length = LENGTH_UNKNOWN, .spans = spans, .span_count = count};
  text_drop(run, mark);
  *out = value_of_string(string);
  return true;
}

bool text_cut_if_changed(Run *run, size_t mark, const ValueString *source, Value *out) {
  size_t size = run->text->size - mark;
  if (size == source->size && (size == 0 || memcmp(run->text->data + mark, source->bytes, size) == 0)) {
    text_drop(run, mark);
    *out = value_of_string(source);
    return true;
  }
  if (!text_cut(run, mark, out)) return false;
  ((ValueString *)out->as.string)->markup = source->markup; /* just made */
  return true;
}

bool text_mark_generation(Run *run, size_t mark) {
  size_t first = first_span(run, mark), count = run->spans->count - first, at = mark;
  if (count == 0)
    return at == run->text->size ||
           add_span(run, (Span){.begin = at, .end = run->text->size, .exact = true, .generation = true});
  Span *inner = run_alloc(run, count * sizeof *inner);
  if (!inner) return false;
  memcpy(inner, run->spans->items + first, count * sizeof *inner);
  run->spans->count = first;
  for (size_t i = 0; i <= count; i++) {
    size_t next = i < count ? inner[i].begin : run->text->size;
    Span literal = {.begin = at, .end = next, .exact = true, .generation = true};
    if (next > at && !add_span(run, literal)) return false;
    if (i == count) break;
    inner[i].generation = true;
    if (!add_span(run, inner[i])) return false;
    at = inner[i].end;
  }
  return true;
}
