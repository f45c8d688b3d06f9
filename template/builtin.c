#include "template/builtin.h"

#include <string.h>

const Builtin *builtin_find(BuiltinTable table, const char *name, size_t size) {
  for (size_t i = 0; i < table.count; i++)
    if (strlen(table.items[i].name) == size && memcmp(table.items[i].name, name, size) == 0)
      return &table.items[i];
  return NULL;
}

/* A parameter in the list of them; *list goes behind it. */
typedef struct Parameter {
  const char *name;
  size_t size;
  bool optional, nameless;
} Parameter;

static bool next_parameter(const char **list, Parameter *out) {
  const char *at = *list;
  while (*at == ' ') at++;
  if (*at == '\0') return false;
  *out = (Parameter){0};
  for (; *at == '?' || *at == '/'; at++) *(*at == '?' ? &out->optional : &out->nameless) = true;
  out->name = at;
  out->size = strcspn(at, " ");
  *list = at + out->size;
  return true;
}

static bool bind_keyword(Run *run, const Builtin *builtin, const KeywordValue *keyword, Value *values) {
  const ValueString *name = keyword->name.as.string;
  const char *list = builtin->parameters;
  Parameter parameter;
  for (size_t i = 0; next_parameter(&list, &parameter); i++) {
    if (parameter.nameless || parameter.size != name->size ||
        memcmp(parameter.name, name->bytes, name->size) != 0)
      continue;
    if (!value_is_missing(values[i]))
      return run_fail(run, "%s() got multiple values for argument '%.*s'", builtin->name, (int)name->size,
                      name->bytes);
    values[i] = keyword->value;
    return true;
  }
  return run_fail(run, "%s() got an unexpected keyword argument '%.*s'", builtin->name, (int)name->size,
                  name->bytes);
}

static bool bind(Run *run, const Builtin *builtin, const CallArguments *arguments, Value *values) {
  const char *list = builtin->parameters;
  Parameter parameter;
  size_t count = 0;
  for (; next_parameter(&list, &parameter); count++)
    values[count] = count < arguments->count ? arguments->positional[count] : value_missing();
  if (arguments->count > count)
    return run_fail(run, "%s() takes at most %zu argument(s), %zu given", builtin->name, count,
                    arguments->count);
  for (size_t i = 0; i < arguments->keyword_count; i++)
    if (!bind_keyword(run, builtin, &arguments->keywords[i], values)) return false;
  list = builtin->parameters;
  for (size_t i = 0; next_parameter(&list, &parameter); i++)
    if (value_is_missing(values[i]) && !parameter.optional)
      return run_fail(run, "%s() missing 1 required positional argument: '%.*s'", builtin->name,
                      (int)parameter.size, parameter.name);
  return true;
}

bool builtin_call(Run *run, const Builtin *builtin, Value self, const CallArguments *arguments, Value *out) {
  if (builtin->variadic) return builtin->variadic(run, self, arguments, out);
  if (!builtin->function) return run_fail(run, "'%s' is not supported", builtin->name);
  Value values[MAX_PARAMETERS];
  return bind(run, builtin, arguments, values) && builtin->function(run, self, values, out);
}
