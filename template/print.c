/* str() and repr(). */
#include "template/number.h"
#include "template/object.h"
#include "template/text.h"
#include "template/unicode.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- strings ---- */

/* The quotes that need fewer escapes; double ones only when there are single quotes alone. */
static char quote_for(const ValueString *string) {
  bool single = memchr(string->bytes, '\'', string->size) != NULL;
  return single && !memchr(string->bytes, '"', string->size) ? '"' : '\'';
}

/* The escape of a code point within these quotes; 0 if it stands for itself. */
static int escape_point(int32_t point, char quote, char out[16]) {
  if (point == quote || point == '\\') return snprintf(out, 16, "\\%c", (char)point);
  if (point == '\n') return snprintf(out, 16, "\\n");
  if (point == '\r') return snprintf(out, 16, "\\r");
  if (point == '\t') return snprintf(out, 16, "\\t");
  if (unicode_is_printable(point)) return 0;
  if (point >= UNICODE_BROKEN) return snprintf(out, 16, "\\udc%02x", (unsigned)(point - UNICODE_BROKEN));
  const char *format = point < 0x100 ? "\\x%02x" : point < 0x10000 ? "\\u%04x" : "\\U%08x";
  return snprintf(out, 16, format, (unsigned)point);
}

static bool print_quoted(Run *run, const ValueString *string) {
  char quote = quote_for(string);
  size_t plain = 0, width;
  if (!text_add(run, &quote, 1)) return false;
  for (size_t at = 0; at < string->size; at += width) {
    char escape[16];
    int size = escape_point(unicode_read(string->bytes + at, string->size - at, &width), quote, escape);
    if (size == 0) continue;
    if (!text_add_slice(run, string, plain, at) ||
        !text_add_changed(run, string, at, at + width, escape, (size_t)size))
      return false;
    plain = at + width;
  }
  return text_add_slice(run, string, plain, string->size) && text_add(run, &quote, 1);
}

/* ---- containers ---- */

static bool print_items(Run *run, const ValueList *list) {
  bool tuple = list->type != LIST_PLAIN;
  if (!text_add_text(run, tuple ? "(" : "[")) return false;
  for (size_t i = 0; i < list->count; i++)
    if ((i && !text_add_text(run, ", ")) || !print_repr(run, list->items[i])) return false;
  return text_add_text(run, !tuple ? "]" : list->count == 1 ? ",)" : ")");
}

static bool print_dict(Run *run, const ValueDict *dict) {
  if (!text_add_text(run, "{")) return false;
  for (size_t i = 0; i < dict->count; i++)
    if ((i && !text_add_text(run, ", ")) || !print_repr(run, dict->entries[i].key) ||
        !text_add_text(run, ": ") || !print_repr(run, dict->entries[i].value))
      return false;
  return text_add_text(run, "}");
}

static bool print_view(Run *run, const ValueObject *view) {
  if (!text_add_text(run, object_type(view)) || !text_add_text(run, "([")) return false;
  for (size_t i = 0; i < view->as.view.dict->count; i++) {
    Value item;
    if ((i && !text_add_text(run, ", ")) || !view_item(run, view, i, &item) || !print_repr(run, item))
      return false;
  }
  return text_add_text(run, "])");
}

static bool print_range(Run *run, const ValueObject *range) {
  char text[80];
  int64_t start = range->as.range.start, stop = range->as.range.stop, step = range->as.range.step;
  int size = snprintf(text, sizeof text, "range(%" PRId64 ", %" PRId64, start, stop);
  if (step != 1) size += snprintf(text + size, sizeof text - (size_t)size, ", %" PRId64, step);
  return text_add(run, text, (size_t)size) && text_add_text(run, ")");
}

static bool print_object(Run *run, const ValueObject *object) {
  switch (object->kind) {
    case OBJECT_MACRO: {
      Value name = object->as.macro.function->name;
      if (name.kind == VALUE_NONE) return text_add_text(run, "<Macro anonymous>");
      return text_add_text(run, "<Macro ") && print_repr(run, name) && text_add_text(run, ">");
    }
    case OBJECT_NAMESPACE:
      return text_add_text(run, "<Namespace ") && print_dict(run, &object->as.fields) &&
             text_add_text(run, ">");
    case OBJECT_RANGE:
      return print_range(run, object);
    case OBJECT_VIEW:
      return print_view(run, object);
    default:
      return run_fail(run, "a '%s' object has no text that would be the same twice%s", object_type(object),
                      object->kind == OBJECT_ITERATOR ? " (|list makes one that has)" : "");
  }
}

/* ---- values ---- */

static bool print_number(Run *run, Value value) {
  char text[FLOAT_TEXT];
  if (value.kind == VALUE_FLOAT)
    number_print(value.as.real, text);
  else
    snprintf(text, sizeof text, "%" PRId64, value.as.integer);
  return text_add_text(run, text);
}

static bool print_container(Run *run, Value value) {
  if (!run_step(run) || !run_deepen(run)) return false;
  bool done = value.kind == VALUE_LIST   ? print_items(run, value.as.list)
              : value.kind == VALUE_DICT ? print_dict(run, value.as.dict)
                                         : print_object(run, value.as.object);
  run->depth--;
  return done;
}

bool print_repr(Run *run, Value value) {
  switch (value.kind) {
    case VALUE_UNDEFINED:
      return text_add_text(run, "Undefined");
    case VALUE_NONE:
      return text_add_text(run, "None");
    case VALUE_BOOL:
      return text_add_text(run, value.as.boolean ? "True" : "False");
    case VALUE_INT:
    case VALUE_FLOAT:
      return print_number(run, value);
    case VALUE_STRING:
      if (!value.as.string->markup) return print_quoted(run, value.as.string);
      return text_add_text(run, "Markup(") && print_quoted(run, value.as.string) && text_add_text(run, ")");
    default:
      return print_container(run, value);
  }
}

bool print_value(Run *run, Value value) {
  if (value.kind == VALUE_STRING) return text_add_string(run, value.as.string);
  return value.kind == VALUE_UNDEFINED || print_repr(run, value);
}

bool value_to_string(Run *run, Value value, Value *out) {
  *out = value;
  if (value.kind == VALUE_STRING) return true;
  size_t mark = text_mark(run);
  return print_value(run, value) && text_cut(run, mark, out);
}
