#include "template/object.h"

#include <stdio.h>

const char *object_type(const ValueObject *object) {
  switch (object->kind) {
    case OBJECT_MACRO:
      return "Macro";
    case OBJECT_NAMESPACE:
      return "TemplateNamespace";
    case OBJECT_LOOP:
      return "LoopContext";
    case OBJECT_RANGE:
      return "range";
    case OBJECT_VIEW: {
      static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
      return names[object->as.view.type];
    }
    case OBJECT_ITERATOR:
      return object->as.iterator.type;
    case OBJECT_FUNCTION:
      return "function";
    case OBJECT_METHOD:
      return "builtin_function_or_method";
    case OBJECT_JOINER:
      return "Joiner";
    case OBJECT_CYCLER:
      return "Cycler";
  }
  return "object";
}

const char *object_path(Value value) {
  if (value.kind == VALUE_OBJECT) switch (value.as.object->kind) {
      case OBJECT_MACRO:
        return "jinja2.runtime.Macro";
      case OBJECT_NAMESPACE:
        return "transformers.utils.chat_template_utils.TemplateNamespace";
      case OBJECT_LOOP:
        return "jinja2.runtime.LoopContext";
      case OBJECT_JOINER:
        return "jinja2.utils.Joiner";
      case OBJECT_CYCLER:
        return "jinja2.utils.Cycler";
      default:
        break;
    }
  if (value.kind == VALUE_STRING && value.as.string->markup) return "markupsafe.Markup";
  if (value.kind == VALUE_LIST && value.as.list->type == LIST_GROUP) return "jinja2.filters._GroupTuple";
  return value_type(value);
}

bool object_new(Run *run, ObjectKind kind, ValueObject **object, Value *out) {
  *object = run_alloc(run, sizeof **object);
  if (!*object) return false;
  **object = (ValueObject){.kind = kind};
  *out = (Value){.kind = VALUE_OBJECT, .as.object = *object};
  return true;
}

Value range_item(const ValueObject *range, size_t index) {
  return value_int(range->as.range.start + (int64_t)index * range->as.range.step);
}
