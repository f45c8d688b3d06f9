/* Values as text; base/json.h has the contract. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static bool append_string(Buffer *out, const json_t *string, Error *error) {
  char *quoted = json_dumps(string, JSON_ENCODE_ANY);
  const bool ok = quoted ? buffer_text(out, quoted, error) : error_out_of_memory(error, "JSON text", 0);
  free(quoted);
  return ok;
}

static bool append_real(Buffer *out, double value, Error *error) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, value);
    if (strtod(text, NULL) == value) break;
  }
  return buffer_text(out, text, error) && (strpbrk(text, ".e") || buffer_text(out, ".0", error));
}

static bool append_members(Buffer *out, const json_t *object, Error *error) {
  const char *name, *between = "{";
  json_t *member;
  json_object_foreach((json_t *)object, name, member) {
    json_t *key = json_string(name);
    const bool ok = key ? buffer_text(out, between, error) && append_string(out, key, error) &&
                              buffer_text(out, ":", error) && json_append_text(out, member, error)
                        : error_out_of_memory(error, "JSON text", strlen(name));
    json_decref(key);
    if (!ok) return false;
    between = ",";
  }
  return buffer_text(out, *between == '{' ? "{}" : "}", error);
}

bool json_append_text(Buffer *out, const json_t *value, Error *error) {
  switch (json_typeof(value)) {
    case JSON_OBJECT: /* a number that is kept as it is spelled looks like one */
      return json_holds_object(value) ? append_members(out, value, error)
                                      : buffer_text(out, json_kind(value), error);
    case JSON_ARRAY:
      for (size_t i = 0; i < json_array_size(value); i++) {
        if (!buffer_text(out, i ? "," : "[", error) ||
            !json_append_text(out, json_array_get(value, i), error))
          return false;
      }
      return buffer_text(out, json_array_size(value) ? "]" : "[]", error);
    case JSON_STRING:
      return append_string(out, value, error);
    case JSON_INTEGER:
      return buffer_format(out, error, "%lld", (long long)json_integer_value(value));
    case JSON_REAL:
      return append_real(out, json_real_value(value), error);
    case JSON_TRUE:
      return buffer_text(out, "true", error);
    case JSON_FALSE:
      return buffer_text(out, "false", error);
    default:
      return buffer_text(out, "null", error);
  }
}
