#include "tools/new/new.h"

#include <stdio.h>
#include <string.h>

bool look_at_model(New *new, Error *error) {
  const char *const arguments[] = {"model", "--model", new->config->model, "--json", NULL};
  ModelFacts *facts = &new->model;
  json_t *model;
  *facts = (ModelFacts){.positions = INT64_MAX, .template = "auto"};
  if (!new->config->model) return true;
  if (!ask_json(&model, "inspect", arguments, error)) return false;
  const char *class = json_string_value(json_object_get(model, "class"));
  const int64_t positions = json_integer_value(json_object_get(model, "max_positions"));
  snprintf(facts->class, sizeof facts->class, "%s", class ? class : "a model");
  facts->parameters = json_integer_value(json_object_get(model, "parameters"));
  if (positions > 0) facts->positions = positions;
  facts->known = true;
  json_decref(model);
  return true;
}

/* For a model that has no template: ChatML where its mark is a token, else plain text. */
static bool choose_template(New *new, Error *error) {
  const char *const arguments[] = {"tokens", "--model", new->config->model, "--text", "<|im_end|>",
                                   "--json", NULL};
  json_t *tokens;
  if (!ask_json(&tokens, "inspect", arguments, error)) return false;
  const bool one = json_array_size(json_object_get(tokens, "ids")) == 1;
  snprintf(new->model.template, sizeof new->model.template, one ? "chatml" : "plain");
  json_decref(tokens);
  return true;
}

/* What `inspect data` says of one file. */
static bool look_at_file(const New *new, const char *path, const char *kind, json_t **value, Error *error) {
  const char *adapter = new->config->adapter;
  const char *const arguments[] = {"data",
                                   "--model",
                                   new->config->model,
                                   "--data",
                                   path,
                                   "--kind",
                                   kind,
                                   "--template",
                                   new->model.template,
                                   "--examples",
                                   "0",
                                   "--json",
                                   adapter ? "--adapter" : NULL,
                                   adapter,
                                   NULL};
  return ask_json(value, "inspect", arguments, error);
}

static void note_format(DataFacts *facts, const char *format) {
  const size_t used = strlen(facts->formats);
  if (strstr(facts->formats, format)) return;
  snprintf(facts->formats + used, sizeof facts->formats - used, "%s%s", used ? ", " : "", format);
}

static void add_facts(DataFacts *facts, const json_t *data) {
  const json_t *lengths = json_object_get(data, "lengths");
  const int64_t longest = json_integer_value(json_object_get(lengths, "longest_sequence")),
                p99 = json_integer_value(json_object_get(lengths, "p99"));
  const char *format = json_string_value(json_object_get(data, "format"));
  if (format) note_format(facts, format);
  facts->examples += json_integer_value(json_object_get(data, "examples"));
  if (longest > facts->longest) facts->longest = longest;
  if (p99 > facts->p99) facts->p99 = p99;
  facts->known = true;
}

bool look_at_data(New *new, DataFacts *facts, const OptionSources *files, const char *kind, Error *error) {
  *facts = (DataFacts){0};
  for (size_t i = 0; new->model.known &&i < files->count; i++) {
    const char *path = files->items[i].path;
    json_t *data;
    Error why = {0};
    log_info(new->log, "looking at %s", path);
    bool ok = look_at_file(new, path, kind, &data, &why);
    if (!ok && strstr(why.message, "which need a chat template"))
      ok = choose_template(new, error) && look_at_file(new, path, kind, &data, error);
    if (!ok) return error->code == ERROR_NONE ? error_set(error, why.code, "%s", why.message) : false;
    add_facts(facts, data);
    json_decref(data);
  }
  return true;
}
