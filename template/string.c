/* Strings: counted in code points, cut and put together, with the spans that say where their bytes came from. */
#include "template/values.h"

#include "template/unicode.h"

#include <string.h>

size_t string_length(const ValueString *string) {
  if (string->length == LENGTH_UNKNOWN)
    ((ValueString *)string)->length = unicode_count(string->bytes, string->size); /* a rendering's own */
  return string->length;
}

size_t string_offset(const ValueString *string, size_t index) {
  if (string_length(string) == string->size) return index;
  size_t at = 0;
  while (index-- > 0) at += unicode_width(string->bytes + at, string->size - at);
  return at;
}

size_t span_after(const Span *spans, size_t count, size_t at) {
  size_t low = 0, high = count;
  while (low < high) {
    size_t middle = low + (high - low) / 2;
    if (spans[middle].end <= at)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

Span span_clip(Span span, size_t begin, size_t end) {
  size_t from = span.begin > begin ? span.begin : begin, to = span.end < end ? span.end : end;
  if (span.exact) {
    span.from += from - span.begin;
    span.bytes = to - from;
  }
  span.begin = from - begin;
  span.end = to - begin;
  return span;
}

bool string_slice(ValueHeap *heap, const ValueString *string, size_t begin, size_t end, Value *out,
                  Error *error) {
  if (begin == 0 && end == string->size) {
    *out = value_of_string(string);
    return true;
  }
  size_t first = span_after(string->spans, string->span_count, begin), count = 0;
  while (first + count < string->span_count && string->spans[first + count].begin < end) count++;
  ValueString *slice = heap_alloc(heap, sizeof *slice + count * sizeof(Span), error);
  if (!slice) return false;
  Span *spans = (Span *)(slice + 1);
  *slice = (ValueString){.bytes = string->bytes + begin,
                         .size = end - begin,
                         .length = string->length == string->size ? end - begin : LENGTH_UNKNOWN,
                         .spans = spans,
                         .span_count = count,
                         .markup = string->markup};
  for (size_t i = 0; i < count; i++) spans[i] = span_clip(string->spans[first + i], begin, end);
  *out = value_of_string(slice);
  return true;
}

/* Memory for left and what is added to it: that behind left, or new. The first sum is exact, since most have no further part; sums of sums
 * are given room. */
static Growth *room_behind(ValueHeap *heap, const ValueString *left, size_t size, size_t spans,
                           Error *error) {
  Growth *growth = left->growth;
  if (growth && growth->used == left->size && growth->capacity >= size &&
      growth->spans_used == left->span_count && growth->span_capacity >= spans)
    return growth;
  size_t capacity = growth ? size * 2 : size, span_capacity = growth ? spans * 2 : spans;
  growth = heap_alloc(heap, sizeof *growth + span_capacity * sizeof(Span) + capacity, error);
  if (!growth) return NULL;
  Span *first = (Span *)(growth + 1);
  *growth = (Growth){.bytes = (char *)(first + span_capacity),
                     .capacity = capacity,
                     .spans = first,
                     .span_capacity = span_capacity};
  memcpy(growth->bytes, left->bytes, left->size);
  if (left->span_count) memcpy(growth->spans, left->spans, left->span_count * sizeof(Span));
  return growth;
}

bool string_add(ValueHeap *heap, const ValueString *left, const ValueString *right, Value *out,
                Error *error) {
  if (right->size == 0 || left->size == 0) {
    *out = value_of_string(right->size == 0 ? left : right);
    return true;
  }
  size_t size = left->size + right->size, spans = left->span_count + right->span_count;
  ValueString *sum = heap_alloc(heap, sizeof *sum, error);
  Growth *growth = sum ? room_behind(heap, left, size, spans, error) : NULL;
  if (!growth) return false;
  memcpy(growth->bytes + left->size, right->bytes, right->size);
  for (size_t i = 0; i < right->span_count; i++) {
    Span span = right->spans[i];
    span.begin += left->size;
    span.end += left->size;
    growth->spans[left->span_count + i] = span;
  }
  growth->used = size;
  growth->spans_used = spans;
  bool counted = left->length != LENGTH_UNKNOWN && right->length != LENGTH_UNKNOWN;
  *sum = (ValueString){.bytes = growth->bytes,
                       .size = size,
                       .length = counted ? left->length + right->length : LENGTH_UNKNOWN,
                       .spans = growth->spans,
                       .span_count = spans,
                       .growth = growth,
                       .markup = left->markup};
  *out = value_of_string(sum);
  return true;
}

bool string_equals(const ValueString *string, const char *text) {
  size_t size = strlen(text);
  return string->size == size && memcmp(string->bytes, text, size) == 0;
}

bool strings_equal(const ValueString *left, const ValueString *right) {
  return left->size == right->size && memcmp(left->bytes, right->bytes, left->size) == 0;
}

int strings_compare(const ValueString *left, const ValueString *right) {
  size_t common = left->size < right->size ? left->size : right->size;
  int order = memcmp(left->bytes, right->bytes, common);
  return order ? (order > 0) - (order < 0) : (left->size > right->size) - (left->size < right->size);
}
