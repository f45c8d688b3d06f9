#include "base/reader.h"

#include <stdio.h>
#include <string.h>

json_t *reader_parse(const char *path, const Buffer *text, Error *error) {
  json_error_t problem;
  json_t *root = json_parse(text->data, text->size, json_limit_tokenizer, JSON_ALLOW_NUL, &problem);
  if (!root) {
    error_set(error, ERROR_MODEL, "%s:%d: %s", path, problem.line, problem.text);
    return NULL;
  }
  if (!json_holds_object(root)) {
    error_set(error, ERROR_MODEL, "%s: expected a JSON object, found %s", path, json_kind(root));
    json_decref(root);
    return NULL;
  }
  return root;
}

Reader reader_top(const char *path, json_t *root) {
  return (Reader){.path = path, .value = root};
}

bool reader_fail(const Reader *reader, Error *error, const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return error_set(error, ERROR_MODEL, "%s%s%s%s%s", reader->path ? reader->path : "",
                   reader->path ? ": " : "", reader->where, reader->where[0] ? ": " : "", message);
}

static void join(Reader *out, const Reader *object, const char *key) {
  char where[sizeof out->where];
  int length = snprintf(where, sizeof where, "%s%s%s", object->where, object->where[0] ? "." : "", key);
  if (length >= (int)sizeof where) memcpy(where + sizeof where - 4, "...", 4);
  *out = (Reader){.path = object->path};
  memcpy(out->where, where, sizeof where);
}

static bool expect(const Reader *reader, bool right, const char *expected, Error *error) {
  return right || reader_fail(reader, error, "expected %s, found %s", expected, json_kind(reader->value));
}

bool reader_has(const Reader *object, const char *key) {
  const json_t *value = json_object_get(object->value, key);
  return value && !json_is_null(value);
}

bool reader_member(const Reader *object, const char *key, Reader *out, Error *error) {
  if (!expect(object, json_holds_object(object->value), "an object", error)) return false;
  join(out, object, key);
  out->value = json_object_get(object->value, key);
  if (json_is_null(out->value)) out->value = NULL;
  return true;
}

bool reader_item(const Reader *array, size_t index, Reader *out, Error *error) {
  if (!expect(array, json_is_array(array->value), "a list", error)) return false;
  *out = (Reader){.path = array->path, .value = json_array_get(array->value, index)};
  int length =
      snprintf(out->where, sizeof out->where, "%.*s[%zu]", (int)sizeof out->where - 24, array->where, index);
  ASSERT(length < (int)sizeof out->where);
  return expect(out, out->value != NULL, "an item", error);
}

bool reader_array(const Reader *object, const char *key, Reader *out, Error *error) {
  return reader_member(object, key, out, error) && reader_as_list(out, error);
}

bool reader_bool(const Reader *object, const char *key, bool fallback, bool *out, Error *error) {
  Reader member;
  if (!reader_member(object, key, &member, error)) return false;
  *out = fallback;
  if (!member.value) return true;
  if (!expect(&member, json_is_boolean(member.value), "true or false", error)) return false;
  *out = json_is_true(member.value);
  return true;
}

bool reader_bool_required(const Reader *object, const char *key, bool *out, Error *error) {
  Reader member;
  return reader_member(object, key, &member, error) &&
         expect(&member, json_is_boolean(member.value), "true or false", error) &&
         reader_bool(object, key, false, out, error);
}

bool reader_int(const Reader *object, const char *key, long long min, long long max, long long *out,
                Error *error) {
  Reader member;
  return reader_member(object, key, &member, error) && reader_as_int(&member, min, max, out, error);
}

bool reader_number(const Reader *object, const char *key, double min, double max, double fallback,
                   double *out, Error *error) {
  Reader member;
  if (!reader_member(object, key, &member, error)) return false;
  *out = fallback;
  return !member.value || reader_as_number(&member, min, max, out, error);
}

bool reader_text(const Reader *object, const char *key, bool required, const char **out, size_t *bytes,
                 Error *error) {
  Reader member;
  if (!reader_member(object, key, &member, error)) return false;
  *out = NULL;
  *bytes = 0;
  if (!member.value && !required) return true;
  return reader_as_text(&member, out, bytes, error);
}

bool reader_type(const Reader *object, const char **type, Error *error) {
  size_t bytes;
  return reader_text(object, "type", true, type, &bytes, error);
}

bool reader_as_object(const Reader *reader, Error *error) {
  return expect(reader, json_holds_object(reader->value), "an object", error);
}

bool reader_as_list(const Reader *reader, Error *error) {
  return expect(reader, json_is_array(reader->value), "a list", error);
}

bool reader_as_text(const Reader *reader, const char **out, size_t *bytes, Error *error) {
  if (!expect(reader, json_is_string(reader->value), "a string", error)) return false;
  *out = json_string_value(reader->value);
  *bytes = json_string_length(reader->value);
  return true;
}

bool reader_as_int(const Reader *reader, long long min, long long max, long long *out, Error *error) {
  if (!expect(reader, json_is_integer(reader->value), "an integer", error)) return false;
  *out = json_integer_value(reader->value);
  if (*out < min || *out > max)
    return reader_fail(reader, error, "expected a number from %lld to %lld, found %lld", min, max, *out);
  return true;
}

bool reader_as_number(const Reader *reader, double min, double max, double *out, Error *error) {
  if (!expect(reader, json_is_number(reader->value), "a number", error)) return false;
  *out = json_number_value(reader->value);
  if (*out >= min && *out <= max) return true;
  return reader_fail(reader, error, "expected a number from %g to %g, found %g", min, max, *out);
}
