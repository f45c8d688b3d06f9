#include "model/text_part.h"

#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

bool text_part_is(const json_t *config) {
  const char *type = json_string_value(json_object_get(config, "model_type"));
  return type && strcmp(type, "gemma3") == 0;
}

/* -- config.json ------------------------------------------------------------------------------------------ */

/* What the whole model says of its text. */
static void take_over(json_t *text, const json_t *whole) {
  static const char *const keys[] = {"bos_token_id", "eos_token_id",        "pad_token_id",        "dtype",
                                     "torch_dtype",  "tie_word_embeddings", "transformers_version"};
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    json_t *value = json_object_get(whole, keys[i]);
    if (value && !json_is_null(value)) json_object_set(text, keys[i], value);
  }
}

static bool is_score(const json_t *config) {
  const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
  return name && strcmp(name, "Gemma3ForSequenceClassification") == 0;
}

json_t *text_part_config_take(json_t *config, Error *error) {
  json_t *part = json_object_get(config, "text_config"), *text = NULL;
  if (!json_is_object(part)) {
    error_set(error, ERROR_MODEL, "text_config: expected an object, found %s",
              part ? "another type" : "nothing");
  } else if (json_object_get(config, "quantization_config")) {
    error_set(error, ERROR_MODEL, "quantization_config: quantised checkpoints are not supported");
  } else {
    text = json_deep_copy(part);
    if (!text) error_out_of_memory(error, "config.json", 0);
  }
  if (text) {
    json_object_del(text, "torch_dtype");
    json_object_del(text, "dtype");
    json_object_set_new(text, "model_type", json_string("gemma3_text"));
    json_object_del(text, "architectures");
    if (is_score(config))
      json_object_set_new(text, "architectures", json_pack("[s]", "Gemma3TextForSequenceClassification"));
    take_over(text, config);
  }
  json_decref(config);
  return text;
}

/* -- weights ---------------------------------------------------------------------------------------------- */

typedef struct Source {
  void *source; /* of the files as they were opened */
  void (*close)(void *source);
  StringList names;
} Source;

static void source_close(void *context) {
  Source *s = context;
  if (s->close) s->close(s->source);
  string_list_free(&s->names);
  memory_free(s);
}

/* What a name of the language model begins with when it stands alone, and the rest; NULL when it is none of its names. */
static const char *new_stem(const char *name, const char **rest) {
  static const struct {
    const char *from, *to;
  } known[] = {{"language_model.model.", "model."}, /* as the released files have it */
               {"model.language_model.", "model."}, /* as the classes of Transformers 5 have it */
               {"language_model.lm_head.", "lm_head."},
               {"lm_head.", "lm_head."}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    const size_t length = strlen(known[i].from);
    *rest = name + length;
    if (strncmp(name, known[i].from, length) == 0) return known[i].to;
  }
  return NULL;
}

/* *out becomes STEM REST, kept in the list. */
static bool keep_name(StringList *names, const char *stem, const char *rest, const char **out, Error *error) {
  char *name = memory_format("%s%s", stem, rest);
  const bool ok =
      name ? string_list_push(names, name, error) : error_out_of_memory(error, "tensor name", strlen(rest));
  memory_free(name);
  if (ok) *out = names->items[names->count - 1];
  return ok;
}

static bool is_other_part(const char *name) {
  static const char *const parts[] = {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                                      "model.multi_modal_projector."};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (strncmp(name, parts[i], strlen(parts[i])) == 0) return true;
  return false;
}

static int compare_entries(const void *a, const void *b) {
  return strcmp(((const WeightEntry *)a)->name, ((const WeightEntry *)b)->name);
}

/* Entries that are no part of the whole stay, under their names: they are unexpected. */
static bool keep_text(WeightFiles *files, Source *source, Error *error) {
  size_t kept = 0;
  for (size_t i = 0; i < files->count; i++) {
    WeightEntry entry = files->entries[i];
    if (is_other_part(entry.name)) continue;
    const char *rest;
    const char *stem = new_stem(entry.name, &rest);
    if (stem && !keep_name(&source->names, stem, rest, &entry.name, error)) return false;
    files->entries[kept++] = entry;
  }
  files->count = kept;
  if (kept) qsort(files->entries, kept, sizeof *files->entries, compare_entries);
  for (size_t i = 1; i < kept; i++)
    if (strcmp(files->entries[i - 1].name, files->entries[i].name) == 0)
      return error_set(error, ERROR_MODEL, "%s: two tensors are %s of the language model",
                       files->entries[i].path, files->entries[i].name);
  return true;
}

bool text_part_weights(WeightFiles *files, Error *error) {
  Source *source = memory_zeroed(1, sizeof *source);
  if (!source) {
    weight_files_close(files);
    return error_out_of_memory(error, "names of tensors", sizeof *source);
  }
  source->source = files->source;
  source->close = files->close;
  files->source = source;
  files->close = source_close;
  if (keep_text(files, source, error)) return true;
  weight_files_close(files);
  return false;
}
