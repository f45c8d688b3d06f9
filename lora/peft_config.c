/* Reading adapter_config.json, and the modules and ranks from the names and shapes beside it. */
#include "lora/peft.h"

#include "base/file.h"
#include "formats/json.h"

#include <ctype.h>
#include <regex.h>
#include <string.h>

/* ---- what is supported ---- */

/* Options that are read here, or say nothing about the result. Any other that is switched on (true, or an object
 * or list with something in it) changes what the adapter computes, and is refused: use_dora, lora_bias,
 * layer_replication, trainable_token_indices, and those to come. */
static const char *const understood[] = {
    "alpha_pattern",       "auto_mapping",    "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights",   "layers_pattern",  "loftq_config",    "eva_config",     "corda_config",
    "lora_ga_config",      "modules_to_save", "rank_pattern",    "target_modules", "use_rslora",
    "layers_to_transform", "peft_type",       "task_type"};

static bool is_understood(const char *key) {
  for (size_t i = 0; i < sizeof understood / sizeof *understood; i++)
    if (strcmp(key, understood[i]) == 0) return true;
  return false;
}

static bool is_on(const json_t *value) {
  return json_is_true(value) || json_object_size(value) > 0 || json_array_size(value) > 0;
}

static const char *text_of(const json_t *config, const char *key) {
  return json_string_value(json_object_get(config, key));
}

/* Initialisations that leave the base weights alone: with the others (pissa, olora, loftq ...) the adapter belongs to
 * changed base weights, and on the unchanged ones it is wrong. */
static bool check_initialization(const json_t *config, Error *error) {
  static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
  const json_t *value = json_object_get(config, "init_lora_weights");
  const char *name = json_string_value(value);
  if (!name) return true;
  for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
    if (strcmp(name, harmless[i]) == 0) return true;
  return error_set(error, ERROR_MODEL,
                   "\"init_lora_weights\": \"%s\" changes the base weights, which is not supported", name);
}

static bool check_modules_to_save(const json_t *config, Error *error) {
  const json_t *list = json_object_get(config, "modules_to_save");
  size_t i;
  json_t *item;
  json_array_foreach(list, i, item) {
    const char *name = json_string_value(item);
    if (!name || (strcmp(name, "score") != 0 && strcmp(name, "classifier") != 0))
      return error_set(error, ERROR_MODEL,
                       "\"modules_to_save\": \"%s\" is not supported (known: score, classifier)",
                       name ? name : "?");
  }
  return true;
}

static bool check_options(const json_t *config, Error *error) {
  const char *type = text_of(config, "peft_type");
  if (!type || strcmp(type, "LORA") != 0)
    return error_set(error, ERROR_MODEL, "\"peft_type\": expected \"LORA\", found \"%s\"", type ? type : "");
  const char *bias = text_of(config, "bias");
  if (bias && strcmp(bias, "none") != 0)
    return error_set(error, ERROR_MODEL, "\"bias\": \"%s\" is not supported (known: none)", bias);
  const char *key;
  json_t *value;
  json_object_foreach((json_t *)config, key, value) {
    if (!is_understood(key) && is_on(value))
      return error_set(error, ERROR_MODEL, "\"%s\": this kind of adapter is not supported", key);
  }
  return check_initialization(config, error) && check_modules_to_save(config, error);
}

json_t *peft_config_read(const char *directory, Error *error) {
  char *path = path_join(directory, PEFT_CONFIG);
  json_t *config = NULL;
  if (!path)
    error_out_of_memory(error, "path", strlen(directory));
  else
    config = json_file_read(path, error);
  if (config && !check_options(config, error)) {
    error_context(error, "%s", path);
    json_decref(config);
    config = NULL;
  }
  memory_free(path);
  return config;
}

/* ---- alpha_pattern ---- */

/* Python's regular expression as a POSIX one: \d, \w and \s are spelled out; what POSIX has no words for (groups with
 * "?", lazy repetition, other escapes) is refused. */
static bool translate_pattern(const char *pattern, Buffer *out, Error *error) {
  static const char *const classes[][2] = {{"d", "[0-9]"}, {"w", "[A-Za-z0-9_]"}, {"s", "[[:space:]]"}};
  if (!buffer_text(out, "^(.*\\.)?(", error)) return false;
  for (const char *p = pattern; *p; p++) {
    if (*p == '?' && p > pattern && strchr("(*+?}", p[-1]) && !(p - 1 > pattern && p[-2] == '\\'))
      return error_set(error, ERROR_MODEL, "the pattern \"%s\" is not supported", pattern);
    if (*p != '\\' || !isalnum((unsigned char)p[1])) {
      if (!buffer_append(out, p, 1, error)) return false;
      if (*p == '\\' && p[1] && !buffer_append(out, ++p, 1, error)) return false;
      continue;
    }
    const char *spelled = NULL;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
      if (p[1] == classes[i][0][0]) spelled = classes[i][1];
    if (!spelled) return error_set(error, ERROR_MODEL, "the pattern \"%s\" is not supported", pattern);
    if (!buffer_text(out, spelled, error)) return false;
    p++;
  }
  return buffer_text(out, ")$", error);
}

/* As PEFT: (.*\.)?(key)$ from the beginning of the module's name. */
static bool pattern_matches(const char *pattern, const char *module, bool *matches, Error *error) {
  Buffer text = {0};
  regex_t compiled;
  bool ok = translate_pattern(pattern, &text, error);
  if (ok && regcomp(&compiled, text.data, REG_EXTENDED | REG_NOSUB) != 0)
    ok = error_set(error, ERROR_MODEL, "the pattern \"%s\" is not supported", pattern);
  else if (ok) {
    *matches = regexec(&compiled, module, 0, NULL, 0) == 0;
    regfree(&compiled);
  }
  buffer_free(&text);
  return ok;
}

/* The first pattern that matches decides. */
static bool module_alpha(const json_t *config, const char *module, double fallback, double *alpha,
                         Error *error) {
  *alpha = fallback;
  const char *pattern;
  json_t *value;
  json_object_foreach(json_object_get(config, "alpha_pattern"), pattern, value) {
    bool matches = false;
    if (!pattern_matches(pattern, module, &matches, error)) return error_context(error, "\"alpha_pattern\"");
    if (!matches) continue;
    if (!json_is_number(value))
      return error_set(error, ERROR_MODEL, "\"alpha_pattern\": expected a number for \"%s\"", pattern);
    *alpha = json_number_value(value);
    return true;
  }
  return true;
}

/* ---- modules and ranks ---- */

/* Adds what the file says of one module, given its A. */
static bool add_module(LoraSpec *spec, const json_t *config, const SafetensorsEntry *a, bool as_target,
                       Error *error) {
  const size_t prefix = strlen(PEFT_PREFIX), suffix = strlen(PEFT_SUFFIX_A);
  char module[512];
  size_t length = strlen(a->name);
  if (length <= prefix + suffix || length - prefix - suffix >= sizeof module ||
      strncmp(a->name, PEFT_PREFIX, prefix) != 0)
    return error_set(error, ERROR_MODEL, "%s: unexpected tensor %s", a->path, a->name);
  length -= prefix + suffix;
  memcpy(module, a->name + prefix, length);
  module[length] = '\0';
  if (a->rank != 2 || a->shape[0] < 1 || a->shape[0] > INT32_MAX)
    return error_set(error, ERROR_MODEL, "%s: %s: expected a matrix [r, inputs]", a->path, a->name);
  double alpha;
  if (!module_alpha(config, module, spec->alpha, &alpha, error)) return false;
  int r = (int)a->shape[0];
  if ((r != spec->r || alpha != spec->alpha) && !lora_spec_override(spec, module, r, alpha, error))
    return false;
  return !as_target || lora_spec_target(spec, module, error);
}

static bool read_modules(LoraSpec *spec, const json_t *config, const char *directory, bool as_targets,
                         Error *error) {
  SafetensorsSet set;
  if (!peft_tensors_open(&set, directory, error)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < set.count; i++)
    if (peft_ends_with(set.entries[i]->name, PEFT_SUFFIX_A))
      ok = add_module(spec, config, set.entries[i], as_targets, error);
  if (ok && as_targets && spec->target_count == 0)
    ok = error_set(error, ERROR_MODEL, "%s: there are no adapter tensors in it", directory);
  safetensors_set_close(&set);
  return ok;
}

/* Whether target_modules alone says which modules are adapted, in a form that lora_open understands. */
static bool targets_suffice(const json_t *config) {
  const json_t *targets = json_object_get(config, "target_modules");
  const json_t *layers = json_object_get(config, "layers_to_transform");
  const json_t *excluded = json_object_get(config, "exclude_modules");
  if (is_on(excluded) || json_is_string(excluded) || is_on(layers) || json_is_integer(layers)) return false;
  return json_is_array(targets) ||
         (json_is_string(targets) && strcasecmp(json_string_value(targets), "all-linear") == 0);
}

static bool read_targets(LoraSpec *spec, const json_t *targets, Error *error) {
  if (json_is_string(targets)) return lora_spec_target(spec, "all-linear", error);
  size_t i;
  json_t *item;
  json_array_foreach(targets, i, item) {
    if (!json_is_string(item))
      return error_set(error, ERROR_MODEL, "\"target_modules\": expected a list of strings");
    if (!lora_spec_target(spec, json_string_value(item), error)) return false;
  }
  return true;
}

static bool read_numbers(LoraSpec *spec, const json_t *config, Error *error) {
  const json_t *r = json_object_get(config, "r"), *alpha = json_object_get(config, "lora_alpha");
  const json_t *dropout = json_object_get(config, "lora_dropout");
  if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > INT32_MAX)
    return error_set(error, ERROR_MODEL, "\"r\": expected an integer of 1 or more");
  if (!json_is_number(alpha)) return error_set(error, ERROR_MODEL, "\"lora_alpha\": expected a number");
  if (dropout && !json_is_null(dropout) && !json_is_number(dropout))
    return error_set(error, ERROR_MODEL, "\"lora_dropout\": expected a number");
  spec->r = (int)json_integer_value(r);
  spec->alpha = json_number_value(alpha);
  spec->dropout = (float)json_number_value(dropout);
  spec->rslora = json_is_true(json_object_get(config, "use_rslora"));
  const char *task = text_of(config, "task_type");
  spec->sequence_classification = task && strcmp(task, "SEQ_CLS") == 0;
  if (!task || spec->sequence_classification || strcmp(task, "CAUSAL_LM") == 0) return true;
  return error_set(error, ERROR_MODEL, "\"task_type\": \"%s\" is not supported (known: CAUSAL_LM, SEQ_CLS)",
                   task);
}

bool lora_spec_read(LoraSpec *spec, const char *directory, Error *error) {
  *spec = (LoraSpec){0};
  json_t *config = peft_config_read(directory, error);
  if (!config) return false;
  bool suffice = targets_suffice(config);
  bool ok = read_numbers(spec, config, error) &&
            (!suffice || read_targets(spec, json_object_get(config, "target_modules"), error));
  if (!ok) error_context(error, "%s/%s", directory, PEFT_CONFIG);
  ok = ok && read_modules(spec, config, directory, !suffice, error);
  json_decref(config);
  if (!ok) lora_spec_free(spec);
  return ok;
}
