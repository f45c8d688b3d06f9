#include "template/markup.h"

#include "template/text.h"

#include <string.h>

bool markup_mark(Run *run, Value value, bool markup, Value *out) {
  if (!value_to_string(run, value, &value)) return false;
  *out = value;
  if (value.as.string->markup == markup) return true;
  ValueString *copy = run_alloc(run, sizeof *copy);
  if (!copy) return false;
  *copy = *value.as.string;
  copy->markup = markup;
  *out = value_of_string(copy);
  return true;
}

static const char *escape_of(char c) {
  switch (c) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '\'':
      return "&#39;";
    case '"':
      return "&#34;";
    default:
      return NULL;
  }
}

bool markup_force(Run *run, Value value, Value *out) {
  if (!value_to_string(run, value, &value)) return false;
  const ValueString *string = value.as.string;
  size_t mark = text_mark(run), plain = 0;
  for (size_t i = 0; i < string->size; i++) {
    const char *escape = escape_of(string->bytes[i]);
    if (!escape) continue;
    size_t size = strlen(escape);
    if (!text_add_slice(run, string, plain, i) || !text_add_changed(run, string, i, i + 1, escape, size))
      return false;
    plain = i + 1;
  }
  if (!text_add_slice(run, string, plain, string->size) || !text_cut_if_changed(run, mark, string, out))
    return false;
  return markup_mark(run, *out, true, out);
}

bool markup_escape(Run *run, Value value, Value *out) {
  if (value.kind == VALUE_STRING && value.as.string->markup) {
    *out = value;
    return true;
  }
  return markup_force(run, value, out);
}
