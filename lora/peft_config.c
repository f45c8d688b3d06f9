/* Reading adapter_config.json, and the modules and ranks from the names and shapes beside it. */
#include "lora/peft.h"

#include "base/file.h"
#include "base/reader.h"
#include "base/regex.h"
#include "base/json.h"

#include <ctype.h>
#include <string.h>

/* ---- what is supported ---- */

/* What is read here or elsewhere in Drover. */
static const char *const read_keys[] = {"peft_type",
                                        "task_type",
                                        "r",
                                        "lora_alpha",
                                        "lora_dropout",
                                        "target_modules",
                                        "exclude_modules",
                                        "modules_to_save",
                                        "bias",
                                        "use_rslora",
                                        "layers_to_transform",
                                        "layers_pattern",
                                        "rank_pattern",
                                        "alpha_pattern",
                                        "base_model_name_or_path",
                                        "init_lora_weights",
                                        "ensure_weight_tying",
                                        PEFT_SHIFT,
                                        PEFT_ZERO};

/* What says nothing about what an adapter computes once it is trained: where it comes from, how it was made, how
 * matrices lie in the base (which is known from the base), and settings of options that are refused when they are on. */
static const char *const harmless_keys[] = {"auto_mapping",   "peft_version",   "revision",
                                            "inference_mode", "fan_in_fan_out", "loftq_config",
                                            "eva_config",     "corda_config",   "lora_ga_config",
                                            "runtime_config", "megatron_core",  "qalora_group_size"};

static bool among(const char *key, const char *const *names, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(key, names[i]) == 0) return true;
  return false;
}

/* Every other option may only be off: use_dora, lora_bias, layer_replication, trainable_token_indices, and those to
 * come. */
static bool is_off(const json_t *value) {
  return json_is_null(value) || json_is_false(value) ||
         ((json_is_object(value) || json_is_array(value)) &&
          json_object_size(value) + json_array_size(value) == 0);
}

/* Initialisations that leave the base weights alone: with the others (pissa, olora, loftq ...) the adapter belongs to
 * changed base weights, and on the unchanged ones it is wrong. */
static bool check_initialization(const Reader *config, Error *error) {
  static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
  Reader member;
  const char *name;
  size_t bytes;
  if (!reader_member(config, "init_lora_weights", &member, error)) return false;
  if (!member.value || json_is_boolean(member.value)) return true;
  if (!reader_as_text(&member, &name, &bytes, error)) return false;
  return among(name, harmless, sizeof harmless / sizeof *harmless) ||
         reader_fail(&member, error, "\"%s\" changes the base weights, which is not supported", name);
}

/* modules_to_save but for the names of score heads. */
static bool read_copies(LoraSpec *spec, const Reader *config, Error *error) {
  Reader list, item;
  const char *name;
  size_t bytes;
  if (!reader_member(config, "modules_to_save", &list, error)) return false;
  if (!list.value) return true;
  if (!reader_as_list(&list, error)) return false;
  for (size_t i = 0; i < json_array_size(list.value); i++) {
    if (!reader_item(&list, i, &item, error) || !reader_as_text(&item, &name, &bytes, error)) return false;
    if (bytes == 0) return reader_fail(&item, error, "expected the name of a module, found an empty string");
    if (strcmp(name, "score") == 0 || strcmp(name, "classifier") == 0) continue;
    if (!lora_spec_copied(spec, name, error)) return false;
  }
  return true;
}

static bool check_word(const Reader *config, const char *key, bool required, const char *expected,
                       Error *error) {
  const char *word;
  size_t bytes;
  if (!reader_text(config, key, required, &word, &bytes, error)) return false;
  if (!word || strcmp(word, expected) == 0) return true;
  Reader member;
  return reader_member(config, key, &member, error) &&
         reader_fail(&member, error, "expected \"%s\", found \"%s\", which is not supported", expected, word);
}

static bool check_options(const Reader *config, Error *error) {
  if (!check_word(config, "peft_type", true, "LORA", error) ||
      !check_word(config, "bias", false, "none", error))
    return false;
  const char *key;
  json_t *value;
  json_object_foreach(config->value, key, value) {
    if (among(key, read_keys, sizeof read_keys / sizeof *read_keys) ||
        among(key, harmless_keys, sizeof harmless_keys / sizeof *harmless_keys) || is_off(value))
      continue;
    return reader_fail(config, error, "%s: an adapter with this option is not supported", key);
  }
  return check_initialization(config, error);
}

/* As peft_config_read; *path is new too. */
static json_t *open_config(const char *directory, char **path, Error *error) {
  *path = path_join(directory, PEFT_CONFIG);
  if (!*path) {
    error_out_of_memory(error, "path", strlen(directory));
    return NULL;
  }
  json_t *root = json_file_read(*path, error);
  Reader config = reader_top(*path, root);
  if (root && reader_as_object(&config, error) && check_options(&config, error)) return root;
  json_decref(root);
  return NULL;
}

json_t *peft_config_read(const char *directory, Error *error) {
  char *path;
  json_t *config = open_config(directory, &path, error);
  memory_free(path);
  return config;
}

/* ---- rank_pattern and alpha_pattern ---- */

enum { MAX_PATTERNS = 10000 };
static const double largest_alpha =
    65536; /* and the largest rank: what is beyond is a mistake, or overflows */

/* A pattern and the value of the modules that it matches. The first that matches decides. */
typedef struct Pattern {
  Regex *regex;
  double value;
} Pattern;

typedef struct Patterns {
  Pattern *items;
  size_t count;
} Patterns;

static void patterns_free(Patterns *patterns) {
  for (size_t i = 0; i < patterns->count; i++) regex_free(patterns->items[i].regex);
  memory_free(patterns->items);
  *patterns = (Patterns){0};
}

/* PEFT's re.match(rf"(.*\.)?({key})$", module). */
static bool add_pattern(Patterns *patterns, const Reader *list, const char *key, const Reader *value,
                        Error *error) {
  Pattern *pattern = &patterns->items[patterns->count];
  if (!reader_as_number(value, 0, largest_alpha, &pattern->value, error)) return false;
  char *whole = memory_format("(.*\\.)?(%s)$", key);
  if (!whole) return error_out_of_memory(error, "pattern", strlen(key));
  pattern->regex = regex_compile(whole, strlen(whole), REGEX_PYTHON, error);
  memory_free(whole);
  if (!pattern->regex) return error_context(error, "%s: %s: \"%.100s\"", list->path, list->where, key);
  patterns->count++;
  return true;
}

static bool patterns_read(Patterns *patterns, const Reader *config, const char *name, Error *error) {
  Reader list, value;
  const char *key;
  json_t *item;
  if (!reader_member(config, name, &list, error)) return false;
  if (!list.value) return true;
  if (!reader_as_object(&list, error)) return false;
  size_t count = json_object_size(list.value);
  if (count > MAX_PATTERNS)
    return reader_fail(&list, error, "%zu patterns: at most %d are supported", count, MAX_PATTERNS);
  patterns->items = memory_zeroed(count + 1, sizeof *patterns->items);
  if (!patterns->items) return error_out_of_memory(error, "patterns", count * sizeof *patterns->items);
  json_object_foreach(list.value, key, item) {
    if (!reader_member(&list, key, &value, error)) return false;
    if (!value.value) return reader_fail(&value, error, "expected a number, found null");
    if (!add_pattern(patterns, &list, key, &value, error)) return false;
  }
  return true;
}

static bool patterns_value(const Patterns *patterns, RegexScratch *scratch, const char *module,
                           double fallback, double *value, Error *error) {
  *value = fallback;
  for (size_t i = 0; i < patterns->count; i++) {
    bool matches;
    if (!regex_matches(patterns->items[i].regex, scratch, module, strlen(module), false, &matches, error))
      return false;
    if (!matches) continue;
    *value = patterns->items[i].value;
    return true;
  }
  return true;
}

/* ---- which modules are adapted ---- */

/* target_modules or exclude_modules: a list of names, or a regular expression. */
typedef struct Selection {
  Reader list;  /* value NULL: not a list */
  Regex *regex; /* or NULL */
} Selection;

static bool selection_read(Selection *selection, const Reader *config, const char *key, Error *error) {
  Reader member, item;
  const char *text;
  size_t bytes;
  *selection = (Selection){0};
  if (!reader_member(config, key, &member, error)) return false;
  if (!member.value) return true;
  if (json_is_string(member.value)) {
    if (!reader_as_text(&member, &text, &bytes, error)) return false;
    if (bytes == 0 || strcasecmp(text, "all-linear") == 0) return true;
    selection->regex = regex_compile(text, bytes, REGEX_PYTHON, error);
    return selection->regex || error_context(error, "%s: %s", member.path, member.where);
  }
  if (!reader_as_list(&member, error)) return false;
  for (size_t i = 0; i < json_array_size(member.value); i++)
    if (!reader_item(&member, i, &item, error) || !reader_as_text(&item, &text, &bytes, error)) return false;
  selection->list = member;
  return true;
}

/* The name itself, or its last parts. */
static bool listed(const Reader *list, const char *module) {
  size_t length = strlen(module);
  for (size_t i = 0; i < json_array_size(list->value); i++) {
    const json_t *item = json_array_get(list->value, i);
    const char *name = json_string_value(item);
    size_t bytes = json_string_length(item);
    if (bytes <= length && memcmp(module + length - bytes, name, bytes) == 0 &&
        (bytes == length || module[length - bytes - 1] == '.'))
      return true;
  }
  return false;
}

static bool selects(const Selection *selection, RegexScratch *scratch, const char *module, bool *result,
                    Error *error) {
  if (selection->regex)
    return regex_matches(selection->regex, scratch, module, strlen(module), true, result, error);
  *result = listed(&selection->list, module);
  return true;
}

/* The layer of a module as PEFT finds it: the first part that is a number, with two or more before it and one behind;
 * -1 when there is none. */
static long long layer_of(const char *module) {
  int part = 0;
  for (const char *at = module; at; at = strchr(at, '.'), part++) {
    if (part > 0) at++;
    size_t digits = strspn(at, "0123456789");
    if (part >= 2 && digits > 0 && digits < 18 && at[digits] == '.') return strtoll(at, NULL, 10);
  }
  return -1;
}

/* layers_to_transform: one number or a list, empty or absent for all. */
static bool layer_selected(const Reader *config, const char *module, bool *result, Error *error) {
  Reader layers, patterns, item;
  long long layer = layer_of(module), chosen;
  *result = true;
  if (!reader_member(config, "layers_to_transform", &layers, error) ||
      !reader_member(config, "layers_pattern", &patterns, error))
    return false;
  /* With patterns, which part is the layer's number is PEFT's to say; the tensors of the file are believed. */
  if (!layers.value || json_array_size(patterns.value) > 0 || json_string_length(patterns.value) > 0)
    return true;
  if (!json_is_array(layers.value)) {
    if (!reader_as_int(&layers, 0, INT32_MAX, &chosen, error)) return false;
    *result = chosen == layer;
    return true;
  }
  *result = json_array_size(layers.value) == 0;
  for (size_t i = 0; !*result && i < json_array_size(layers.value); i++) {
    if (!reader_item(&layers, i, &item, error) || !reader_as_int(&item, 0, INT32_MAX, &chosen, error))
      return false;
    *result = chosen == layer;
  }
  return true;
}

/* ---- modules and ranks ---- */

/* adapter_config.json, read once for all modules. */
typedef struct Config {
  Reader top;
  Patterns ranks, alphas;
  Selection targets, excluded;
  RegexScratch *scratch;
} Config;

static void config_free(Config *config) {
  patterns_free(&config->ranks);
  patterns_free(&config->alphas);
  regex_free(config->targets.regex);
  regex_free(config->excluded.regex);
  regex_scratch_free(config->scratch);
}

static bool config_read(Config *config, Error *error) {
  config->scratch = regex_scratch_new(error);
  return config->scratch && patterns_read(&config->ranks, &config->top, "rank_pattern", error) &&
         patterns_read(&config->alphas, &config->top, "alpha_pattern", error) &&
         selection_read(&config->targets, &config->top, "target_modules", error) &&
         selection_read(&config->excluded, &config->top, "exclude_modules", error);
}

/* A module that has tensors, though the configuration leaves it out, would be passed over by PEFT. */
static bool check_selected(const Config *config, const char *module, Error *error) {
  bool excluded, target = true, layer;
  bool named = config->targets.regex || config->targets.list.value;
  if (!selects(&config->excluded, config->scratch, module, &excluded, error) ||
      (named && !selects(&config->targets, config->scratch, module, &target, error)) ||
      !layer_selected(&config->top, module, &layer, error))
    return false;
  if (target && layer && !excluded) return true;
  return reader_fail(&config->top, error,
                     "%s leaves out the module %s, which has tensors in the file beside it",
                     !target    ? "target_modules"
                     : excluded ? "exclude_modules"
                                : "layers_to_transform",
                     module);
}

static bool check_rank(const Config *config, const LoraSpec *spec, const char *module,
                       const SafetensorsEntry *a, Error *error) {
  double rank;
  if (!patterns_value(&config->ranks, config->scratch, module, spec->r, &rank, error)) return false;
  if (rank == (double)a->shape[0]) return true;
  return reader_fail(&config->top, error, "%s is %g for %s, but the rank of its tensors in %s is %lld",
                     rank == spec->r ? "r" : "rank_pattern", rank, module, a->path, (long long)a->shape[0]);
}

/* The module of a tensor whose name ends in `suffix`. */
static bool module_name(const SafetensorsEntry *entry, const char *suffix, char *out, size_t size,
                        Error *error) {
  const size_t prefix = strlen(PEFT_PREFIX), end = strlen(suffix), length = strlen(entry->name);
  if (length <= prefix + end || length - prefix - end >= size ||
      strncmp(entry->name, PEFT_PREFIX, prefix) != 0)
    return error_set(error, ERROR_MODEL, "%s: unexpected tensor %s", entry->path, entry->name);
  memcpy(out, entry->name + prefix, length - prefix - end);
  out[length - prefix - end] = '\0';
  return true;
}

/* Adds what the file says of one module, given its A. */
static bool add_module(LoraSpec *spec, const Config *config, const SafetensorsEntry *a, const char *suffix,
                       bool as_target, Error *error) {
  char module[512];
  if (!module_name(a, suffix, module, sizeof module, error)) return false;
  if (a->rank != 2 || a->shape[0] < 1 || a->shape[0] > INT32_MAX)
    return error_set(error, ERROR_MODEL, "%s: %s: expected a matrix [r, inputs]", a->path, a->name);
  double alpha;
  if (!patterns_value(&config->alphas, config->scratch, module, spec->alpha, &alpha, error) ||
      !check_rank(config, spec, module, a, error) ||
      (as_target && !spec->tie && !check_selected(config, module, error)))
    return false;
  int r = (int)a->shape[0];
  if ((r != spec->r || alpha != spec->alpha) && !lora_spec_override(spec, module, r, alpha, error))
    return false;
  return !as_target || lora_spec_target(spec, module, error);
}

/* Whether modules_to_save names it: PEFT compares ends. */
static bool is_copy(const LoraSpec *spec, const char *module) {
  for (size_t i = 0; i < spec->copy_count; i++)
    if (peft_ends_with(module, spec->copies[i])) return true;
  return false;
}

/* A whole weight. */
static bool add_whole(LoraSpec *spec, const SafetensorsEntry *entry, Error *error) {
  char module[512];
  const bool base_layer = peft_ends_with(entry->name, PEFT_BASE PEFT_WEIGHT);
  if (strcmp(entry->name, PEFT_SCORE) == 0) return true;
  return module_name(entry, base_layer ? PEFT_BASE PEFT_WEIGHT : PEFT_WEIGHT, module, sizeof module, error) &&
         (is_copy(spec, module) || lora_spec_carried(spec, module, base_layer, error));
}

static bool add_tensor(LoraSpec *spec, const Config *config, const SafetensorsEntry *entry, bool as_targets,
                       Error *error) {
  if (peft_ends_with(entry->name, PEFT_SUFFIX_A))
    return add_module(spec, config, entry, PEFT_SUFFIX_A, as_targets, error);
  if (peft_ends_with(entry->name, PEFT_TABLE_A))
    return add_module(spec, config, entry, PEFT_TABLE_A, as_targets, error);
  if (!peft_ends_with(entry->name, PEFT_WEIGHT) || strstr(entry->name, ".lora_")) return true;
  return add_whole(spec, entry, error);
}

static bool read_modules(LoraSpec *spec, const Config *config, const char *directory, bool as_targets,
                         Error *error) {
  SafetensorsSet set;
  if (!peft_tensors_open(&set, directory, error)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < set.count; i++)
    ok = add_tensor(spec, config, set.entries[i], as_targets, error);
  if (ok && as_targets && spec->target_count == 0)
    ok = error_set(error, ERROR_MODEL, "%s: there are no adapter tensors in it", directory);
  safetensors_set_close(&set);
  return ok;
}

/* Whether target_modules alone says which modules are adapted, in a form that lora_open understands; *all: every
 * linear. */
static bool targets_suffice(const json_t *config, bool *all) {
  const json_t *targets = json_object_get(config, "target_modules");
  const json_t *layers = json_object_get(config, "layers_to_transform");
  const json_t *excluded = json_object_get(config, "exclude_modules");
  *all = json_is_string(targets) && strcasecmp(json_string_value(targets), "all-linear") == 0;
  bool narrowed = json_string_length(excluded) > 0 || json_array_size(excluded) > 0 ||
                  json_is_integer(layers) || json_array_size(layers) > 0;
  return (json_is_array(targets) || *all) && !narrowed;
}

static bool read_targets(LoraSpec *spec, const Config *config, bool all, Error *error) {
  if (all) return lora_spec_target(spec, "all-linear", error);
  size_t i;
  json_t *item;
  json_array_foreach(config->targets.list.value, i, item) {
    if (!lora_spec_target(spec, json_string_value(item), error)) return false;
  }
  return true;
}

static bool read_numbers(LoraSpec *spec, const Reader *config, Error *error) {
  long long r;
  double dropout;
  Reader alpha;
  const char *task;
  size_t bytes;
  if (!reader_int(config, "r", 1, (long long)largest_alpha, &r, error) ||
      !reader_member(config, "lora_alpha", &alpha, error) ||
      !reader_as_number(&alpha, 0, largest_alpha, &spec->alpha, error) ||
      !reader_number(config, "lora_dropout", 0, 1, 0, &dropout, error) ||
      !reader_bool(config, "use_rslora", false, &spec->rslora, error) ||
      !reader_bool(config, "ensure_weight_tying", false, &spec->tie, error) ||
      !reader_text(config, "task_type", false, &task, &bytes, error))
    return false;
  spec->r = (int)r;
  spec->dropout = (float)dropout;
  spec->sequence_classification = task && strcmp(task, "SEQ_CLS") == 0;
  spec->names_shared = spec->sequence_classification; /* PEFT passes over what is not there */
  if (!task || spec->sequence_classification || strcmp(task, "CAUSAL_LM") == 0) return true;
  return reader_fail(config, error, "task_type: \"%s\" is not supported (known: CAUSAL_LM, SEQ_CLS)", task);
}

bool lora_spec_read(LoraSpec *spec, const char *directory, Error *error) {
  *spec = (LoraSpec){0};
  char *path;
  json_t *root = open_config(directory, &path, error);
  Config config = {.top = reader_top(path, root)};
  bool all, suffice = targets_suffice(root, &all);
  bool ok = root && config_read(&config, error) && read_numbers(spec, &config.top, error) &&
            read_copies(spec, &config.top, error) && (!suffice || read_targets(spec, &config, all, error)) &&
            read_modules(spec, &config, directory, !suffice, error);
  config_free(&config);
  json_decref(root);
  memory_free(path);
  if (!ok) lora_spec_free(spec);
  return ok;
}
