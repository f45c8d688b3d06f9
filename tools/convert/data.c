/* Which files are learnt from, and by which template they are read. */
#include "tools/convert/convert.h"

#include "datasets/dataset.h"

#include <stdio.h>
#include <string.h>

#define NOT_HERE                                                                                          \
  "there is no file or directory %s; a dataset of the hub is fetched by: hf download --type dataset %s; " \
  "then give its "                                                                                        \
  "files as --data"

#define MODELS_OWN "%s there; here the model's own: drover inspect chat shows it"

/* Files that were found, as an array of paths, and what is the same for all of them. */
typedef struct Found {
  json_t *files;
  const char *format, *template; /* NULL: not said */
  json_t *columns;               /* NULL: none */
} Found;

static bool exists(const char *path) {
  return file_exists(path) || directory_exists(path);
}

static bool add_file(Found *found, const char *path, Error *error) {
  return json_array_append_new(found->files, json_string(path)) == 0 ||
         error_out_of_memory(error, "files", 0);
}

/* What one dataset says must not contradict another: they are read alike here. */
static bool agree(Conversion *c, const char *name, const char **so_far, const char *now, const char *what,
                  bool first, Error *error) {
  if (first || (*so_far && now && strcmp(*so_far, now) == 0) || *so_far == now) {
    *so_far = now;
    return true;
  }
  return problem(c, name, error,
                 "its %s is another than that of the datasets before it: one run reads all data alike", what);
}

static bool add_column(Found *found, const char *ours, const char *there, Error *error) {
  if (strcmp(ours, there) == 0) return true;
  if (!found->columns) found->columns = json_object();
  return (found->columns && json_object_set_new(found->columns, ours, json_string(there)) == 0) ||
         error_out_of_memory(error, "columns", 0);
}

/* -- axolotl -------------------------------------------------------------------------------------------- */

/* Paths of data_files, or the path itself. */
static bool add_paths(Conversion *c, Found *found, const char *name, const json_t *entry, Error *error) {
  const json_t *files = json_object_get(entry, "data_files");
  const char *path = json_string_value(json_object_get(entry, "path"));
  if (json_is_string(files)) return add_file(found, json_string_value(files), error);
  for (size_t i = 0; i < json_array_size(files); i++) {
    if (!add_file(found, json_string_value(json_array_get(files, i)), error)) return false;
  }
  if (json_array_size(files) > 0) return true;
  if (!path) return problem(c, name, error, "a dataset without a path");
  return exists(path) ? add_file(found, path, error) : problem(c, name, error, NOT_HERE, path, path);
}

/* What a template of axolotl is here: those by the name of a family are the models' own; NULL: it has no equal. */
static const char *axolotl_template(const char *theirs) {
  static const char *const same[] = {"chatml", "alpaca", "llama3"};
  static const char *const own[] = {"llama",  "qwen",   "qwen2",   "gemma", "phi",     "mistral", "cohere",
                                    "falcon", "exaone", "command", "olmo",  "granite", "smollm",  "deepseek"};
  if (!theirs || strncmp(theirs, "tokenizer_default", 17) == 0) return "auto";
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    if (strcmp(theirs, same[i]) == 0) return same[i];
  }
  for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
    if (strncmp(theirs, own[i], strlen(own[i])) == 0) return "auto";
  }
  return NULL;
}

static bool axolotl_type(Conversion *c, const char *name, const json_t *entry, const char **format,
                         const char **template, Error *error) {
  const json_t *value = json_object_get(entry, "type");
  const char *type = json_string_value(value),
             *chat = json_string_value(json_object_get(entry, "chat_template"));
  static const char bradley_terry[] = "bradley_terry."; /* of reward models: pairs */
  *format = *template = NULL;
  if (value && !type)
    return problem(c, name, error,
                   "a type of its own making: data.format and data.columns say what records look like");
  if (type && strncmp(type, bradley_terry, strlen(bradley_terry)) == 0) type += strlen(bradley_terry);
  if (!type || strncmp(type, "chat_template", 13) == 0) {
    if (!chat) return true;
    *template = axolotl_template(chat);
    return *template ||
           problem(c, name, error,
                   "chat_template '%s' has no equal here: give a file *.jinja as data.template", chat);
  }
  if (strcmp(type, "alpaca") == 0) {
    *format = *template = "alpaca";
  } else if (strcmp(type, "completion") == 0) {
    *format = "text";
  } else {
    return problem(c, name, error,
                   "type '%s' has no equal here: expected chat_template, alpaca or completion", type);
  }
  return true;
}

/* Whether names of roles are mapped as they are understood here. */
static bool usual_roles(const json_t *roles) {
  static const char *const usual[][4] = {
      {"user", "user", "human", NULL}, {"assistant", "assistant", "gpt", NULL}, {"system", "system", NULL}};
  const char *role;
  json_t *names;
  json_object_foreach((json_t *)roles, role, names) {
    for (size_t i = 0; i < json_array_size(names); i++) {
      const char *name = json_string_value(json_array_get(names, i));
      bool known = false;
      for (size_t r = 0; name && r < sizeof usual / sizeof *usual; r++)
        for (size_t k = 1; strcmp(role, usual[r][0]) == 0 && usual[r][k]; k++)
          known |= strcmp(name, usual[r][k]) == 0;
      if (!known) return false;
    }
    if (!json_is_array(names)) return false;
  }
  return json_is_object(roles);
}

/* Whether a key within a dataset says what is done here anyway. */
static bool axolotl_member(Conversion *c, const char *name, const char *key, const json_t *value,
                           Found *found, Error *error) {
  static const char *const known[] = {"path",    "type", "data_files",        "chat_template",
                                      "ds_type", "name", "trust_remote_code", "revision"};
  const char *text = json_string_value(value);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(key, known[i]) == 0) return true;
  }
  if (is_off(value)) return true;
  if (strcmp(key, "split") == 0 && text && strcmp(text, "train") == 0) return true;
  if (strcmp(key, "train_on_eos") == 0 && text && strcmp(text, "turn") == 0) return true;
  if (strcmp(key, "field") == 0 && text) return add_column(found, "text", text, error);
  if (strcmp(key, "field_messages") == 0 && text)
    return strcmp(text, "conversations") == 0 || add_column(found, "messages", text, error);
  if ((strcmp(key, "field_chosen") == 0 || strcmp(key, "field_rejected") == 0) && text)
    return add_column(found, key + strlen("field_"), text, error);
  if (strcmp(key, "roles") == 0 && usual_roles(value)) return true;
  if (strcmp(key, "message_field_role") == 0 && text && (!strcmp(text, "role") || !strcmp(text, "from")))
    return true;
  if (strcmp(key, "message_field_content") == 0 && text &&
      (!strcmp(text, "content") || !strcmp(text, "value")))
    return true;
  if (strcmp(key, "message_property_mappings") == 0) {
    const char *role = json_string_value(json_object_get(value, "role")),
               *content = json_string_value(json_object_get(value, "content"));
    if (json_object_size(value) == 2 && role && content && (!strcmp(role, "role") || !strcmp(role, "from")) &&
        (!strcmp(content, "content") || !strcmp(content, "value")))
      return true;
  }
  if (strcmp(key, "roles_to_train") == 0 && json_array_size(value) == 1) {
    const char *role = json_string_value(json_array_get(value, 0));
    if (role && (!strcmp(role, "assistant") || !strcmp(role, "gpt"))) return true;
  }
  char whole[160];
  snprintf(whole, sizeof whole, "%s.%s", name, key);
  return problem(c, whole, error, "it has no equal here");
}

static bool axolotl_datasets(Conversion *c, const char *key, Found *found, Error *error) {
  const json_t *list = theirs(c, key);
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *entry = json_array_get(list, i);
    const char *member, *format, *template;
    json_t *value;
    char name[64];
    snprintf(name, sizeof name, "%s[%zu]", key, i);
    if (!json_is_object(entry)) return problem(c, key, error, "expected a list of datasets with a path each");
    if (!add_paths(c, found, name, entry, error) ||
        !axolotl_type(c, name, entry, &format, &template, error) ||
        !agree(c, name, &found->format, format, "type", i == 0, error) ||
        !agree(c, name, &found->template, template, "template", i == 0, error))
      return false;
    json_object_foreach((json_t *)entry, member, value) {
      if (!axolotl_member(c, name, member, value, found, error)) return false;
    }
  }
  return see(c, key, error);
}

/* -- LLaMA-Factory -------------------------------------------------------------------------------------- */

/* dataset_dir/dataset_info.json, a new reference; NULL when there is none. */
static json_t *factory_info(const Conversion *c) {
  const char *directory = json_string_value(theirs(c, "dataset_dir"));
  char *path = path_join(directory ? directory : "data", "dataset_info.json");
  Error ignored = {0};
  json_t *info = path && file_exists(path) ? json_file_read(path, &ignored) : NULL;
  memory_free(path);
  return info;
}

/* The columns of an entry by the names that records have here. */
static bool factory_columns(Conversion *c, const char *name, const json_t *columns, Found *found,
                            Error *error) {
  static const struct {
    const char *there, *here;
  } pairs[] = {{"prompt", "instruction"}, {"query", "input"},   {"response", "output"},
               {"history", "history"},    {"system", "system"}, {"messages", "conversations"},
               {"tools", "tools"},        {"chosen", "chosen"}, {"rejected", "rejected"}};
  const char *column;
  json_t *value;
  json_object_foreach((json_t *)columns, column, value) {
    const char *text = json_string_value(value), *here = NULL;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
      if (strcmp(column, pairs[i].there) == 0) here = pairs[i].here;
    }
    if (!text) continue;
    if (!here) {
      if (!problem(c, name, error, "its column '%s' in dataset_info.json has no equal here", column))
        return false;
    } else if (strcmp(text, "messages") != 0 ||
               strcmp(here, "conversations") != 0) { /* both are recognised */
      if (!add_column(found, here, text, error)) return false;
    }
  }
  return true;
}

static bool factory_entry(Conversion *c, const char *key, const char *name, const json_t *entry, Found *found,
                          bool first, Error *error) {
  const char *file = json_string_value(json_object_get(entry, "file_name")),
             *formatting = json_string_value(json_object_get(entry, "formatting")),
             *directory = json_string_value(theirs(c, "dataset_dir"));
  if (!file)
    return problem(c, key, error, "'%s' is not in a file by dataset_info.json: nothing is downloaded", name);
  char *path = path_join(directory ? directory : "data", file);
  if (!path) return error_out_of_memory(error, "path", strlen(file));
  const bool ranking = json_is_true(json_object_get(entry, "ranking"));
  const char *format = ranking || (formatting && strcmp(formatting, "sharegpt") == 0) ? NULL : "alpaca";
  const bool ok =
      (exists(path) ? add_file(found, path, error) : problem(c, key, error, "there is no file %s", path)) &&
      agree(c, key, &found->format, format, "formatting", first, error) &&
      factory_columns(c, key, json_object_get(entry, "columns"), found, error) &&
      (is_off(json_object_get(entry, "tags")) ||
       problem(c, key, error, "the tags of '%s' in dataset_info.json have no equal here", name));
  memory_free(path);
  return ok;
}

static bool factory_dataset(Conversion *c, const char *key, const char *name, const json_t *info,
                            Found *found, bool first, Error *error) {
  const json_t *entry = json_object_get(info, name);
  if (entry) return factory_entry(c, key, name, entry, found, first, error);
  if (exists(name)) return add_file(found, name, error);
  return problem(c, key, error, "'%s' is in no dataset_info.json here: give its file as --data", name);
}

static bool factory_datasets(Conversion *c, const char *key, Found *found, Error *error) {
  const char *text = json_string_value(theirs(c, key));
  char *copy = memory_copy_string(text ? text : ""), *rest = copy, *name;
  json_t *info = factory_info(c);
  bool ok = copy || error_out_of_memory(error, "datasets", 0), first = true;
  while (ok && (name = strsep(&rest, ","))) {
    name += strspn(name, " ");
    if (*name) ok = factory_dataset(c, key, name, info, found, first, error);
    first = false;
  }
  memory_free(copy);
  json_decref(info);
  return ok && see(c, key, error) && see(c, "dataset_dir", error);
}

/* -- TRL ------------------------------------------------------------------------------------------------ */

static bool trl_datasets(Conversion *c, const char *key, Found *found, Error *error) {
  const json_t *list = theirs(c, "datasets");
  const char *name = json_string_value(theirs(c, "dataset_name"));
  (void)key;
  if (name && !(exists(name) ? add_file(found, name, error)
                             : problem(c, "dataset_name", error, NOT_HERE, name, name)))
    return false;
  for (size_t i = 0; i < json_array_size(list); i++) {
    char place[64];
    snprintf(place, sizeof place, "datasets[%zu]", i);
    if (!add_paths(c, found, place, json_array_get(list, i), error)) return false;
  }
  const char *column = json_string_value(theirs(c, "dataset_text_field"));
  return (!column || add_column(found, "text", column, error)) && see(c, "datasets", error) &&
         see(c, "dataset_name", error) && see(c, "dataset_text_field", error) &&
         see(c, "dataset_train_split", error) && see(c, "dataset_test_split", error);
}

/* TRL learns from whole conversations unless assistant_only_loss, and from completions alone unless completion_only_loss is false. */
static bool trl_loss(Conversion *c, const json_t *files, Error *error) {
  DatasetFormat format = FORMAT_AUTO;
  DatasetKind kind;
  Error ignored = {0};
  const char *file = json_string_value(json_array_get(files, 0));
  const bool known = file && dataset_detect(file, NULL, &format, &kind, &ignored);
  const json_t *completion = theirs(c, "completion_only_loss");
  if (!see(c, "completion_only_loss", error) || !see(c, "assistant_only_loss", error)) return false;
  if (!known || (strcmp(dataset_format_names[format], "messages") != 0 &&
                 strcmp(dataset_format_names[format], "prompt_completion") != 0))
    return true;
  const bool messages = strcmp(dataset_format_names[format], "messages") == 0;
  const bool whole = messages ? !json_is_true(theirs(c, "assistant_only_loss")) : json_is_false(completion);
  return !whole || put_take(c, "data.train_on_inputs", json_true(),
                            messages ? "assistant_only_loss is not set: whole conversations"
                                     : "completion_only_loss: false",
                            error);
}

/* -- all of them ---------------------------------------------------------------------------------------- */

static json_t *given_files(const OptionSources *files) {
  json_t *list = json_array();
  for (size_t i = 0; list && i < files->count; i++)
    json_array_append_new(list, json_string(files->items[i].path));
  return list;
}

/* One path stands alone. */
static bool put_files(Conversion *c, const char *key, json_t *files, Error *error) {
  const size_t count = json_array_size(files);
  if (count == 0) return true;
  return put_take(c, key, count == 1 ? json_incref(json_array_get(files, 0)) : json_incref(files), NULL,
                  error);
}

typedef bool Datasets(Conversion *c, const char *key, Found *found, Error *error);

/* What files are given beside the configuration stand in the place of its own. */
static bool find_files(Conversion *c, Datasets *datasets, const char *key, const OptionSources *given,
                       Found *found, Error *error) {
  *found = (Found){.files = given_files(given)};
  if (!found->files) return error_out_of_memory(error, "files", 0);
  if (given->count == 0) return datasets(c, key, found, error);
  return see(c, key, error) && see(c, "datasets", error) && see(c, "dataset_name", error) &&
         see(c, "dataset_dir", error) && see(c, "pretraining_dataset", error);
}

static void found_free(Found *found) {
  json_decref(found->files);
  json_decref(found->columns);
}

static bool take_evaluation(Conversion *c, Datasets *datasets, Error *error) {
  static const char *const keys[] = {"test_datasets", "eval_dataset", "eval_dataset"};
  Found found;
  const char *share = c->from == AXOLOTL ? "val_set_size" : "val_size";
  const double held = json_number_value(theirs(c, share));
  bool ok = true;
  if (c->config->eval_data.count || (theirs(c, keys[c->from]) && c->from != TRL)) {
    ok = find_files(c, datasets, keys[c->from], &c->config->eval_data, &found, error) &&
         put_files(c, "data.eval", found.files, error);
    found_free(&found);
  }
  if (!ok || held == 0) return ok && see(c, share, error);
  if (held >= 1)
    return problem(c, share, error, "a number of examples: data.eval_fraction is a share of data.train");
  return see(c, share, error) && put_take(c, "data.eval_fraction", json_real(held), NULL, error);
}

bool take_data(Conversion *c, Error *error) {
  static Datasets *const datasets[] = {axolotl_datasets, factory_datasets, trl_datasets};
  static const char *const keys[] = {"datasets", "dataset", "datasets"};
  const bool prompts = strcmp(c->stage, "ppo") == 0;
  Found found;
  bool ok = find_files(c, datasets[c->from], keys[c->from], &c->config->data, &found, error) &&
            put_files(c, prompts ? "data.prompts" : "data.train", found.files, error) &&
            (!found.format || put_take(c, "data.format", json_string(found.format), NULL, error)) &&
            (!found.template || put_take(c, "data.template", json_string(found.template), NULL, error)) &&
            (!found.columns || put_take(c, "data.columns", json_incref(found.columns), NULL, error));
  if (ok && c->from == TRL && strcmp(c->stage, "sft") == 0) ok = trl_loss(c, found.files, error);
  found_free(&found);
  return ok && take_evaluation(c, datasets[c->from], error);
}

bool take_template(Conversion *c, Error *error) {
  static const char *const same[] = {"alpaca", "vicuna", "zephyr", "llama2", "llama3", "chatml"};
  const char *key = c->from == AXOLOTL ? "chat_template" : "template",
             *name = json_string_value(theirs(c, key)),
             *file = json_string_value(theirs(c, "chat_template_jinja"));
  if (!see(c, "chat_template", error) || !see(c, "template", error) || !see(c, "chat_template_jinja", error))
    return false;
  if (file) {
    return file_exists(file) ? put_take(c, "data.template", json_string(file), NULL, error)
                             : problem(c, "chat_template_jinja", error,
                                       "write the template to a file *.jinja and name that");
  }
  if (!name) return true;
  if (c->from == AXOLOTL) {
    const char *here = axolotl_template(name);
    char note[160];
    snprintf(note, sizeof note, MODELS_OWN, name);
    return here
               ? put_take(c, "data.template", json_string(here), strcmp(here, "auto") == 0 ? note : NULL,
                          error)
               : problem(c, key, error, "'%s' has no equal here: give a file *.jinja as data.template", name);
  }
  for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
    if (strcmp(name, same[i]) == 0) return put_take(c, "data.template", json_string(name), NULL, error);
  }
  if (strcmp(name, "default") == 0 || strcmp(name, "empty") == 0)
    return problem(c, key, error, "'%s' has no equal here: give a file *.jinja, or plain, as data.template",
                   name);
  char note[160];
  snprintf(note, sizeof note, MODELS_OWN, name);
  return put_take(c, "data.template", json_string("auto"), note, error);
}
