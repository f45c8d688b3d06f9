/* PEFT's files: the tensors of an adapter in and out, and adapter_config.json out. */
#include "lora/peft.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/reader.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool peft_ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

bool peft_tensors_open(SafetensorsSet *set, const char *directory, Error *error) {
  *set = (SafetensorsSet){0};
  char *single = path_join(directory, PEFT_STEM ".safetensors");
  char *pickled = path_join(directory, PEFT_STEM ".bin");
  bool ok = (single && pickled) || error_out_of_memory(error, "path", strlen(directory));
  if (ok && !file_exists(single) && file_exists(pickled))
    ok = error_set(error, ERROR_MODEL, "%s: only adapters saved as safetensors are read", pickled);
  ok = ok && safetensors_set_open(set, directory, PEFT_STEM, error);
  memory_free(single);
  memory_free(pickled);
  return ok;
}

/* ---- reading ---- */

/* The tensors of one module that a file may have. */
enum { MODULE_MATRICES = 4 };

/* The k-th, or NULL where there is none. *shared: it is the table's, under the head's name. */
static const LoraMatrix *matrix_at(const LoraSet *set, int id, int k, bool *shared) {
  const LoraPair *pair = &set->pairs[id];
  const LoraCopy *copy = &set->copies[id];
  const LoraMatrix *all[MODULE_MATRICES] = {&pair->a, &pair->b, &copy->weight, &copy->bias};
  *shared = k < 2 ? pair->shared : copy->shared;
  return all[k]->name ? all[k] : NULL;
}

static const LoraMatrix *find_matrix(const LoraSet *set, const char *name) {
  bool shared;
  for (int id = 0; id < set->count; id++)
    for (int k = 0; k < MODULE_MATRICES; k++) {
      const LoraMatrix *matrix = matrix_at(set, id, k, &shared);
      if (matrix && strcmp(matrix->name, name) == 0) return matrix;
    }
  return NULL;
}

/* Its shape in the file. */
static void file_shape(const LoraMatrix *matrix, int64_t shape[2]) {
  const Tensor value = matrix->value;
  shape[0] = value.dim[matrix->turned ? 1 : 0];
  shape[1] = value.rank == 1 ? 0 : value.dim[matrix->turned ? 0 : 1];
}

static bool check_entry(const SafetensorsEntry *entry, int rank, const int64_t *shape, Error *error) {
  char expected[64], found[128];
  safetensors_shape_text(rank, shape, expected, sizeof expected);
  safetensors_shape_text(entry->rank, entry->shape, found, sizeof found);
  if (entry->rank != rank || memcmp(entry->shape, shape, (size_t)rank * sizeof *shape) != 0)
    return error_set(error, ERROR_MODEL, "%s: %s: expected the shape %s, found %s", entry->path, entry->name,
                     expected, found);
  if (dtype_is_float(entry->dtype)) return true;
  return error_set(error, ERROR_MODEL, "%s: %s: expected F32, F16 or BF16, found %s", entry->path,
                   entry->name, dtype_file_name(entry->dtype));
}

/* Adapters of a base that was given more tokens. */
static bool check_vocabulary(const SafetensorsEntry *entry, const LoraModule *module, int rank,
                             const int64_t *shape, Error *error) {
  const int64_t tokens = module->kind == LORA_EMBEDDING ? module->inputs : module->outputs;
  if (module->kind == LORA_LINEAR || entry->rank != rank) return true;
  for (int d = 0; d < rank; d++) {
    if (shape[d] != tokens || entry->shape[d] <= tokens) continue;
    return error_set(
        error, ERROR_MODEL,
        "%s: %s is of a vocabulary of %lld tokens, and the base has %lld: the adapter was trained "
        "after tokens were added. Add them to the base first (drover tokenizer add), and give "
        "the result as the model",
        entry->path, entry->name, (long long)entry->shape[d], (long long)tokens);
  }
  return true;
}

static float *read_values(const SafetensorsEntry *entry, size_t count, Error *error) {
  const size_t broken = dtype_count_not_finite(entry->data, entry->dtype, count);
  if (broken) {
    (void)safetensors_not_finite(entry, broken, error);
    return NULL;
  }
  float *values = memory_alloc(count * sizeof *values);
  if (!values) {
    error_out_of_memory(error, "adapter tensor", count * sizeof *values);
    return NULL;
  }
  dtype_convert(values, DTYPE_F32, entry->data, entry->dtype, count);
  return values;
}

/* What a tied head's tensors say again must be what the table's said. */
static bool check_same(const LoraMatrix *matrix, const SafetensorsEntry *entry, const float *values,
                       Compute *compute, Error *error) {
  if (compute->dry) return true;
  float *known = lora_download(matrix, compute, error);
  if (!known) return false;
  bool same = true;
  for (int64_t i = 0; same && i < tensor_count(matrix->value); i++) {
    float stored = values[i];
    if (matrix->value.dtype == DTYPE_BF16 && tensor_is_none(matrix->master))
      stored = float_from_bf16(bf16_from_float(stored));
    same = stored == known[i];
  }
  memory_free(known);
  return same ||
         error_set(error, ERROR_MODEL,
                   "%s: %s: expected the numbers of the embedding table's tensor, since the base ties "
                   "the LM head to it, found others",
                   entry->path, entry->name);
}

static bool read_matrix(const SafetensorsSet *file, const char *directory, const LoraMatrix *out, bool shared,
                        const LoraModule *module, Compute *compute, Error *error) {
  const SafetensorsEntry *entry = safetensors_set_find(file, out->name);
  int64_t shape[2];
  file_shape(out, shape);
  if (!entry) return error_set(error, ERROR_MODEL, "%s: tensor %s is missing", directory, out->name);
  if (!check_vocabulary(entry, module, out->value.rank, shape, error) ||
      !check_entry(entry, out->value.rank, shape, error))
    return false;
  float *values = read_values(entry, (size_t)tensor_count(out->value), error);
  const bool ok = values && (shared ? check_same(out, entry, values, compute, error)
                                    : lora_upload(out, values, compute, error));
  memory_free(values);
  return ok;
}

/* The score head's tensor, read elsewhere; and those of an LM head, in a model that only scores. */
static bool is_passed_over(const LoraSet *set, const char *name) {
  if (strcmp(name, PEFT_SCORE) == 0) return true;
  const size_t prefix = strlen(PEFT_PREFIX);
  if (!set->spec.sequence_classification || strncmp(name, PEFT_PREFIX, prefix) != 0) return false;
  for (int id = 0; id < set->count; id++) {
    const char *module = set->modules[id].name;
    const size_t length = strlen(module);
    if (set->modules[id].kind == LORA_HEAD && strncmp(name + prefix, module, length) == 0 &&
        name[prefix + length] == '.')
      return true;
  }
  return false;
}

/* shared: those that repeat another's, which are compared once the others are there */
static bool read_matrices(LoraSet *set, const SafetensorsSet *file, const char *directory, bool shared,
                          Compute *compute, Error *error) {
  bool own;
  for (int id = 0; id < set->count; id++)
    for (int k = 0; k < MODULE_MATRICES; k++) {
      const LoraMatrix *matrix = matrix_at(set, id, k, &own);
      if (matrix && own == shared &&
          !read_matrix(file, directory, matrix, shared, &set->modules[id], compute, error))
        return false;
    }
  return true;
}

bool lora_read(LoraSet *set, const char *directory, Compute *compute, Error *error) {
  SafetensorsSet file;
  if (!peft_tensors_open(&file, directory, error)) return false;
  bool ok = true;
  for (size_t i = 0; ok && i < file.count; i++) {
    const char *name = file.entries[i]->name;
    if (!is_passed_over(set, name) && !find_matrix(set, name))
      ok = error_set(error, ERROR_MODEL, "%s: unexpected tensor %s: the model has no such module to adapt",
                     file.entries[i]->path, name);
  }
  ok = ok && read_matrices(set, &file, directory, false, compute, error) &&
       read_matrices(set, &file, directory, true, compute, error);
  safetensors_set_close(&file);
  return ok;
}

bool lora_read_score(const char *directory, int64_t hidden, float *weight, ScoreZero *zero, bool *found,
                     Error *error) {
  *found = false;
  *zero = (ScoreZero){0};
  json_t *config = peft_config_read(directory, error);
  SafetensorsSet file;
  if (!config) return false;
  bool ok = peft_tensors_open(&file, directory, error);
  if (ok) {
    const SafetensorsEntry *entry = safetensors_set_find(&file, PEFT_SCORE);
    const int64_t shape[2] = {1, hidden};
    *found = entry != NULL;
    ok = !entry || check_entry(entry, 2, shape, error);
    const size_t broken = ok && entry ? dtype_count_not_finite(entry->data, entry->dtype, (size_t)hidden) : 0;
    ok = ok && (broken == 0 || safetensors_not_finite(entry, broken, error));
    if (ok && entry) dtype_convert(weight, DTYPE_F32, entry->data, entry->dtype, (size_t)hidden);
    safetensors_set_close(&file);
    double value;
    Reader top = reader_top(PEFT_CONFIG, config);
    ok = ok && reader_number(&top, PEFT_SHIFT, -1e30, 1e30, 0, &value, error);
    ok = ok && reader_bool(&top, PEFT_ZERO, false, &zero->known, error);
    if (ok)
      zero->shift = (float)value;
    else
      error_context(error, "%s", directory);
  }
  json_decref(config);
  return ok;
}

bool lora_base_name(const char *directory, char **name, Error *error) {
  *name = NULL;
  json_t *config = peft_config_read(directory, error);
  if (!config) return false;
  const char *text = json_string_value(json_object_get(config, "base_model_name_or_path"));
  if (text && *text) *name = memory_copy_string(text);
  const bool ok = !text || !*text || *name || error_out_of_memory(error, "base model name", strlen(text));
  json_decref(config);
  return ok;
}

bool lora_is_score(const char *directory, bool *score, Error *error) {
  json_t *config = peft_config_read(directory, error);
  SafetensorsSet file;
  if (!config) return false;
  const char *task = json_string_value(json_object_get(config, "task_type"));
  *score = task && strcmp(task, "SEQ_CLS") == 0;
  json_decref(config);
  if (!peft_tensors_open(&file, directory, error)) return false;
  *score |= safetensors_set_find(&file, PEFT_SCORE) != NULL;
  safetensors_set_close(&file);
  return true;
}

/* ---- writing ---- */

static bool declare_tensors(SafetensorsWriter *writer, const LoraSet *set, bool score, int64_t hidden,
                            Error *error) {
  bool shared;
  for (int id = 0; id < set->count; id++)
    for (int k = 0; k < MODULE_MATRICES; k++) {
      const LoraMatrix *matrix = matrix_at(set, id, k, &shared);
      int64_t shape[2];
      if (!matrix) continue;
      file_shape(matrix, shape);
      if (!safetensors_writer_declare(writer, matrix->name, DTYPE_F32, matrix->value.rank, shape, error))
        return false;
    }
  const int64_t shape[2] = {1, hidden};
  return !score || safetensors_writer_declare(writer, PEFT_SCORE, DTYPE_F32, 2, shape, error);
}

static bool write_entry(SafetensorsWriter *writer, const SafetensorsEntry *entry, const LoraSet *set,
                        const float *score, Compute *compute, Error *error) {
  const LoraMatrix *matrix = find_matrix(set, entry->name); /* NULL for the score */
  if (!matrix) return safetensors_writer_write_finite(writer, score, entry->bytes, error);
  float *values = lora_download(matrix, compute, error);
  if (!values) return false;
  bool ok = safetensors_writer_write_finite(writer, values, entry->bytes, error);
  memory_free(values);
  return ok;
}

static bool write_tensors(const LoraSet *set, const float *score, int64_t hidden, const char *path,
                          Compute *compute, Error *error) {
  SafetensorsWriter writer = {0};
  const SafetensorsEntry *next;
  bool ok = declare_tensors(&writer, set, score != NULL, hidden, error) &&
            safetensors_writer_begin(&writer, path, error);
  while (ok && (next = safetensors_writer_next(&writer)) != NULL)
    ok = write_entry(&writer, next, set, score, compute, error);
  ok = ok && safetensors_writer_finish(&writer, error);
  safetensors_writer_free(&writer);
  return ok;
}

/* The targets as a list. "all-linear" is spelled out by the last parts of the modules' names, so that no
 * library has to know what it means for this model. */
static json_t *targets_json(const LoraSet *set) {
  json_t *names = json_object(); /* keys keep their order and stand once */
  for (size_t i = 0; i < set->spec.target_count; i++) {
    const char *target = set->spec.targets[i];
    if (strcasecmp(target, "all-linear") != 0) {
      json_object_set_new(names, target, json_null());
      continue;
    }
    for (int id = 0; id < set->count; id++) {
      const char *name = set->modules[id].name, *dot = strrchr(name, '.');
      if (lora_pair(set, id) && set->modules[id].kind == LORA_LINEAR)
        json_object_set_new(names, dot ? dot + 1 : name, json_null());
    }
  }
  json_t *list = json_array();
  const char *key;
  json_t *value;
  json_object_foreach(names, key, value) json_array_append_new(list, json_string(key));
  json_decref(names);
  return list;
}

static json_t *number_json(double value) {
  return value == floor(value) && fabs(value) < 1e15 ? json_integer((json_int_t)value) : json_real(value);
}

static void set_overrides(json_t *config, const LoraSpec *spec) {
  json_t *ranks = json_object(), *alphas = json_object();
  for (size_t i = 0; i < spec->override_count; i++) {
    const LoraOverride *o = &spec->overrides[i];
    if (o->r != spec->r) json_object_set_new(ranks, o->module, json_integer(o->r));
    if (o->alpha != spec->alpha) json_object_set_new(alphas, o->module, number_json(o->alpha));
  }
  json_object_set_new(config, "rank_pattern", ranks);
  json_object_set_new(config, "alpha_pattern", alphas);
}

/* null where no module is whole. */
static json_t *copies_json(const LoraSpec *spec, bool score) {
  if (!score && spec->copy_count == 0) return json_null();
  json_t *list = json_array();
  for (size_t i = 0; i < spec->copy_count; i++) json_array_append_new(list, json_string(spec->copies[i]));
  if (score) json_array_append_new(list, json_string("score"));
  return list;
}

static json_t *config_json(const LoraSet *set, bool score, ScoreZero zero, LoraBase base) {
  const LoraSpec *spec = &set->spec;
  bool transposed = false;
  for (int id = 0; id < set->count; id++)
    if (lora_pair(set, id) && set->modules[id].kind == LORA_LINEAR) transposed |= set->modules[id].transposed;
  char dropout[32];
  snprintf(dropout, sizeof dropout, "%.7g", (double)spec->dropout); /* 0.1, not 0.10000000149 */
  json_t *config = json_pack(
      "{s:s, s:s, s:s?, s:b, s:i, s:o, s:f, s:o, s:s, s:b, s:b, s:b, s:b, s:b, s:n, s:n, s:n}", "peft_type",
      "LORA", "task_type", score || spec->sequence_classification ? "SEQ_CLS" : "CAUSAL_LM",
      "base_model_name_or_path", base.name, "inference_mode", 1, "r", spec->r, "lora_alpha",
      number_json(spec->alpha), "lora_dropout", strtod(dropout, NULL), "target_modules", targets_json(set),
      "bias", "none", "fan_in_fan_out", (int)transposed, "use_rslora", (int)spec->rslora, "use_dora", 0,
      "lora_bias", 0, "init_lora_weights", 1, "exclude_modules", "layers_to_transform", "layers_pattern");
  if (!config) return NULL;
  if (base.revision) json_object_set_new(config, "revision", json_string(base.revision));
  set_overrides(config, spec);
  json_object_set_new(config, "modules_to_save", copies_json(spec, score));
  if (spec->tie) json_object_set_new(config, "ensure_weight_tying", json_true());
  if (score) {
    json_object_set_new(config, PEFT_SHIFT, json_real((double)zero.shift));
    json_object_set_new(config, PEFT_ZERO, json_boolean(zero.known));
  }
  return config;
}

bool lora_save(const LoraSet *set, const float *score, int64_t hidden, ScoreZero zero, LoraBase base,
               const char *directory, Compute *compute, Error *error) {
  if (!directory_create(directory, error)) return false;
  char *tensors = path_join(directory, PEFT_STEM ".safetensors");
  char *described = path_join(directory, PEFT_CONFIG);
  json_t *config = config_json(set, score != NULL, zero, base);
  bool ok = (tensors && described && config) || error_out_of_memory(error, "adapter files", 0);
  ok = ok && write_tensors(set, score, hidden, tensors, compute, error) &&
       json_file_write(described, config, error);
  json_decref(config);
  memory_free(tensors);
  memory_free(described);
  return ok;
}
