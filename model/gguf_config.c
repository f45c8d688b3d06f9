/* From the metadata of GGUF to config.json. */
#include "model/gguf_config.h"

#include "model/gguf_family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- access ---- */

enum { KEY = 128 };

static const char *full_key(const GgufMeta *meta, const char *key, char out[KEY]) {
  snprintf(out, KEY, "%s.%s", meta->family->architecture, key);
  return out;
}

const GgufValue *meta_find(GgufMeta *meta, const char *key) {
  char full[KEY];
  const GgufValue *value = gguf_find(meta->file, full_key(meta, key, full));
  if (value) meta->used[value - meta->file->values] = true;
  return value;
}

bool meta_int(GgufMeta *meta, const char *key, int64_t least, int64_t *out, Error *error) {
  char full[KEY];
  meta_find(meta, key);
  return gguf_int(meta->file, full_key(meta, key, full), least, INT32_MAX, out, error);
}

bool meta_number(GgufMeta *meta, const char *key, double *out, Error *error) {
  char full[KEY];
  meta_find(meta, key);
  return gguf_number(meta->file, full_key(meta, key, full), out, error);
}

bool meta_bool(GgufMeta *meta, const char *key, bool *out, Error *error) {
  char full[KEY];
  meta_find(meta, key);
  return gguf_bool(meta->file, full_key(meta, key, full), out, error);
}

bool meta_fail(const GgufMeta *meta, const char *key, Error *error, const char *format, ...) {
  char full[KEY], text[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return gguf_fail(meta->file, full_key(meta, key, full), error, "%s", text);
}

bool meta_has_tensor(const GgufMeta *meta, const char *name) {
  return gguf_set_find(meta->set, name) != NULL;
}

void meta_set_int(GgufMeta *meta, const char *key, int64_t value) {
  json_object_set_new(meta->config, key, json_integer(value));
}

void meta_set_number(GgufMeta *meta, const char *key, double value) {
  json_object_set_new(meta->config, key, json_real(value));
}

void meta_set_bool(GgufMeta *meta, const char *key, bool value) {
  json_object_set_new(meta->config, key, json_boolean(value));
}

void meta_set_text(GgufMeta *meta, const char *key, const char *value) {
  json_object_set_new(meta->config, key, json_string(value));
}

int64_t meta_config_int(const GgufMeta *meta, const char *key) {
  return json_integer_value(json_object_get(meta->config, key));
}

double gguf_shortest(float value) {
  char text[32];
  for (int digits = 6; digits <= 9; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, (double)value);
    if (strtof(text, NULL) == value) break;
  }
  return strtod(text, NULL);
}

/* ---- keys that are values of config.json ---- */

static bool set_key(GgufMeta *meta, const GgufKey *key, Error *error) {
  const GgufValue *value = meta_find(meta, key->from);
  if (!value) return true;
  if (value->array || value->kind == GGUF_STRING)
    return meta_fail(meta, key->from, error, "expected one number, found %s",
                     value->array ? "a list: layers of different shapes are not supported" : "a string");
  if (value->kind == GGUF_BOOL)
    meta_set_bool(meta, key->to, *(const uint8_t *)value->data != 0);
  else if (value->kind == GGUF_F32)
    meta_set_number(meta, key->to, gguf_shortest((float)gguf_value_number(value, 0)));
  else if (value->kind == GGUF_F64)
    meta_set_number(meta, key->to, gguf_value_number(value, 0));
  else
    meta_set_int(meta, key->to, gguf_value_int(value, 0));
  return true;
}

static bool set_keys(GgufMeta *meta, Error *error) {
  for (const GgufKey *key = meta->family->keys; key->from; key++)
    if (!set_key(meta, key, error)) return false;
  return true;
}

/* ---- sizes ---- */

static const char *config_key(const GgufFamily *family, const char *from) {
  for (const GgufKey *key = family->keys; key->from; key++)
    if (strcmp(key->from, from) == 0) return key->to;
  return NULL;
}

/* Sizes without which no other can be told. */
static bool need(GgufMeta *meta, const char *from, int64_t most, int64_t *out, Error *error) {
  *out = 0;
  if (!meta_int(meta, from, 1, out, error)) return false;
  if (*out == 0) return meta_fail(meta, from, error, "is missing");
  return *out <= most ||
         meta_fail(meta, from, error, "expected at most %lld, found %lld", (long long)most, (long long)*out);
}

/* The size of a head, and how many there are of keys. */
static bool set_heads(GgufMeta *meta, int64_t *head_size, Error *error) {
  const GgufFamily *family = meta->family;
  int64_t hidden, layers, heads, values, kv_heads;
  if (!need(meta, "embedding_length", 1 << 24, &hidden, error) ||
      !need(meta, "block_count", MODEL_MAX_LAYERS, &layers, error) ||
      !need(meta, "attention.head_count", 1 << 24, &heads, error))
    return false;
  kv_heads = heads;
  *head_size = hidden / heads;
  if (!meta_int(meta, "attention.key_length", 1, head_size, error)) return false;
  values = *head_size;
  if (!meta_int(meta, "attention.value_length", 1, &values, error) ||
      !meta_int(meta, "attention.head_count_kv", 1, &kv_heads, error))
    return false;
  if (values != *head_size)
    return meta_fail(meta, "attention.value_length", error, "expected %lld, the length of keys, found %lld",
                     (long long)*head_size, (long long)values);
  const char *key = config_key(family, "attention.key_length"),
             *kv = config_key(family, "attention.head_count_kv");
  if (key) meta_set_int(meta, key, *head_size);
  if (!key && *head_size * heads != hidden)
    return meta_fail(meta, "attention.key_length", error,
                     "expected %lld, the hidden size by heads, found %lld", (long long)(hidden / heads),
                     (long long)*head_size);
  if (kv) meta_set_int(meta, kv, kv_heads);
  if (kv || kv_heads == heads) return true;
  return meta_fail(meta, "attention.head_count_kv", error, "expected %lld, the number of heads, found %lld",
                   (long long)heads, (long long)kv_heads);
}

static bool set_vocabulary(GgufMeta *meta, Error *error) {
  const GgufTensor *table = gguf_set_find(meta->set, GGUF_EMBEDDING ".weight");
  if (!table || table->rank != 2)
    return error_set(error, ERROR_MODEL, "%s: tensor " GGUF_EMBEDDING ".weight of two dimensions is missing",
                     meta->file->path);
  int64_t rows = table->shape[0];
  if (!meta_int(meta, "vocab_size", 1, &rows, error)) return false;
  if (rows != table->shape[0])
    return meta_fail(meta, "vocab_size", error,
                     "expected %lld, the rows of " GGUF_EMBEDDING ".weight, found %lld",
                     (long long)table->shape[0], (long long)rows);
  meta_set_int(meta, "vocab_size", rows);
  return true;
}

/* ---- ids ---- */

static bool set_id(GgufMeta *meta, const char *from, const char *to, Error *error) {
  int64_t id = -1;
  if (!gguf_int(meta->file, from, -1, UINT32_MAX, &id, error)) return false;
  if (id >= 0 && id < meta_config_int(meta, "vocab_size")) meta_set_int(meta, to, id);
  return true;
}

/* The end of a turn ends an answer too, where it is another token. */
static bool set_ids(GgufMeta *meta, Error *error) {
  int64_t turn = -1;
  if (!set_id(meta, "tokenizer.ggml.bos_token_id", "bos_token_id", error) ||
      !set_id(meta, "tokenizer.ggml.eos_token_id", "eos_token_id", error) ||
      !set_id(meta, "tokenizer.ggml.padding_token_id", "pad_token_id", error) ||
      !gguf_int(meta->file, "tokenizer.ggml.eot_token_id", -1, UINT32_MAX, &turn, error))
    return false;
  const json_t *end = json_object_get(meta->config, "eos_token_id");
  if (end && turn >= 0 && turn < meta_config_int(meta, "vocab_size") && turn != json_integer_value(end))
    json_object_set_new(meta->config, "eos_token_id",
                        json_pack("[I,I]", json_integer_value(end), (json_int_t)turn));
  return true;
}

/* ---- keys that nobody asked for ---- */

static bool begins_with(GgufText text, const char *begin) {
  return text.size >= strlen(begin) && memcmp(text.data, begin, strlen(begin)) == 0;
}

/* Where a file comes from, its tokenizer, how it was quantised and split: nothing that changes a logit. */
static bool is_about_the_file(GgufText key) {
  static const char *const about[] = {"general.", "tokenizer.", "split.", "quantize.", "mradermacher."};
  for (size_t i = 0; i < sizeof about / sizeof *about; i++)
    if (begins_with(key, about[i])) return true;
  return false;
}

/* Of the architecture, and without a say: of training, of embedding models' pooling, of a scaling that is not there, of a layout that
 * there is one of. */
static bool is_harmless(const GgufMeta *meta, GgufText key) {
  static const char *const harmless[] = {"rope.scaling.finetuned", "rope.scaling.original_context_length",
                                         "pooling_type", "tensor_data_layout"};
  char full[KEY];
  for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++)
    if (gguf_text_is(key, full_key(meta, harmless[i], full))) return true;
  return false;
}

/* 0, false, or nothing at all. */
static bool is_off(const GgufValue *value) {
  const void *at = NULL;
  if (value->array) return value->count == 0;
  if (value->kind == GGUF_STRING) return gguf_value_text(value, &at).size == 0;
  if (value->kind == GGUF_BOOL) return *(const uint8_t *)value->data == 0;
  return gguf_value_number(value, 0) == 0;
}

static bool check_keys(const GgufMeta *meta, Error *error) {
  for (size_t i = 0; i < meta->file->value_count; i++) {
    const GgufValue *value = &meta->file->values[i];
    if (meta->used[i] || is_about_the_file(value->key) || is_harmless(meta, value->key) || is_off(value))
      continue;
    return error_set(error, ERROR_MODEL,
                     "%s: key '%.*s' is not known for %s: what it changes would be passed over",
                     meta->file->path, (int)(value->key.size < 200 ? value->key.size : 200), value->key.data,
                     meta->family->architecture);
  }
  return true;
}

/* ---- the configuration ---- */

bool gguf_is_tied(const GgufSet *set) {
  const GgufTensor *table = gguf_set_find(set, GGUF_EMBEDDING ".weight");
  const GgufTensor *head = gguf_set_find(set, GGUF_HEAD ".weight");
  return !head || (table && head->type == table->type && head->bytes == table->bytes &&
                   memcmp(head->data, table->data, head->bytes) == 0);
}

static bool check_type(const GgufFile *file, Error *error) {
  GgufText type = {0};
  if (!gguf_text(file, "general.type", &type, error)) return false;
  return !type.data || gguf_text_is(type, "model") ||
         gguf_fail(file, "general.type", error, "expected model, found %.*s",
                   (int)(type.size < 60 ? type.size : 60), type.data);
}

static bool describe(GgufMeta *meta, Error *error) {
  int64_t head_size;
  meta_set_text(meta, "model_type", meta->family->model_type);
  if (!set_keys(meta, error) || !set_heads(meta, &head_size, error) || !set_vocabulary(meta, error))
    return false;
  meta_set_bool(meta, "tie_word_embeddings", gguf_is_tied(meta->set));
  return set_ids(meta, error) && meta->family->describe(meta, error) &&
         gguf_rope_describe(meta, head_size, error) && check_keys(meta, error);
}

json_t *gguf_config_of(const GgufSet *set, Error *error) {
  GgufMeta meta = {.set = set, .file = set->files, .family = gguf_family_find(set->files, error)};
  bool ok = meta.family && check_type(set->files, error);
  if (ok) {
    meta.config = json_object();
    meta.used = memory_zeroed(set->files->value_count, sizeof *meta.used);
    ok = (meta.config && meta.used) || error_out_of_memory(error, "configuration", set->files->value_count);
  }
  ok = ok && describe(&meta, error);
  memory_free(meta.used);
  if (ok) return meta.config;
  json_decref(meta.config);
  return NULL;
}

json_t *gguf_config_read(const char *file, Error *error) {
  GgufSet set;
  if (!gguf_set_open(&set, file, error)) return NULL;
  json_t *config = gguf_config_of(&set, error);
  gguf_set_close(&set);
  return config;
}
