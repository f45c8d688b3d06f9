#include "model/arch.h"

#include "model/arch/list.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A new architecture: its file in model/arch/ and its line in list.def. */
static const Architecture *const architecture_list[] = {
#define ARCHITECTURE(name) &architecture_##name,
#include "model/arch/list.def"
#undef ARCHITECTURE
};
enum { ARCHITECTURE_COUNT = sizeof architecture_list / sizeof *architecture_list };

bool config_int_or(const Reader *config, const char *key, int64_t fallback, int64_t *out, Error *error) {
  *out = fallback;
  return !reader_has(config, key) || config_int(config, key, out, error);
}

static bool read_int(const Reader *config, const char *key, int64_t least, int64_t most, int64_t *out,
                     Error *error) {
  long long value = 0;
  const bool ok = reader_int(config, key, least, most, &value, error);
  *out = value;
  return ok;
}

bool config_int(const Reader *config, const char *key, int64_t *out, Error *error) {
  return read_int(config, key, INT64_MIN, INT64_MAX, out, error);
}

/* No model comes near it, and products of a few such numbers stay far from the end of 64 bits. */
static const int64_t largest_size = 1 << 24;

bool config_size(const Reader *config, const char *key, int64_t *out, Error *error) {
  return read_int(config, key, 1, largest_size, out, error);
}

bool config_size_or(const Reader *config, const char *key, int64_t fallback, int64_t *out, Error *error) {
  *out = fallback;
  return !reader_has(config, key) || config_size(config, key, out, error);
}

bool config_size_named(const Reader *config, const char *key, const char *other, int64_t fallback,
                       int64_t *out, Error *error) {
  const bool here = reader_has(config, key), there = reader_has(config, other);
  if (here && there &&
      !json_equal(json_object_get(config->value, key), json_object_get(config->value, other)))
    return reader_fail(config, error, "%s and %s are two names of one number, and differ", key, other);
  const char *name = there && !here ? other : key;
  return fallback && !here && !there ? config_size_or(config, key, fallback, out, error)
                                     : config_size(config, name, out, error);
}

bool config_even_heads(const Reader *config, ModelSpec *spec, Error *error) {
  if (spec->hidden % spec->heads != 0)
    return reader_fail(config, error, "a hidden size of %lld is not a multiple of %lld attention heads",
                       (long long)spec->hidden, (long long)spec->heads);
  spec->kv_heads = spec->heads;
  spec->head_size = spec->hidden / spec->heads;
  return true;
}

bool config_float_or(const Reader *config, const char *key, double fallback, double *out, Error *error) {
  *out = fallback;
  return !reader_has(config, key) || reader_number(config, key, -INFINITY, INFINITY, fallback, out, error);
}

bool config_bool_or(const Reader *config, const char *key, bool fallback, bool *out, Error *error) {
  *out = fallback;
  return !reader_has(config, key) || reader_bool(config, key, fallback, out, error);
}

bool config_text_or(const Reader *config, const char *key, const char *fallback, const char **out,
                    Error *error) {
  size_t bytes;
  *out = fallback;
  return !reader_has(config, key) || reader_text(config, key, true, out, &bytes, error);
}

/* An error about the value of a key. */
static bool refuse(const Reader *config, const char *key, Error *error, const char *format, ...)
    PRINTF_LIKE(4, 5);

static bool refuse(const Reader *config, const char *key, Error *error, const char *format, ...) {
  char message[900];
  Reader member;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return reader_member(config, key, &member, error) && reader_fail(&member, error, "%s", message);
}

bool config_activation(const Reader *config, const char *key, const char *fallback, Activation *out,
                       Error *error) {
  /* gelu_fast writes the constant sqrt(2/pi) with ten digits, which is below what a float holds. */
  static const struct {
    const char *name;
    Activation kind;
  } known[] = {{"silu", ACTIVATION_SILU},
               {"swish", ACTIVATION_SILU},
               {"gelu", ACTIVATION_GELU},
               {"gelu_python", ACTIVATION_GELU},
               {"gelu_new", ACTIVATION_GELU_TANH},
               {"gelu_pytorch_tanh", ACTIVATION_GELU_TANH},
               {"gelu_python_tanh", ACTIVATION_GELU_TANH},
               {"gelu_fast", ACTIVATION_GELU_TANH},
               {"gelu_accurate", ACTIVATION_GELU_TANH},
               {"relu", ACTIVATION_RELU},
               {"relu2", ACTIVATION_RELU_SQUARED}};
  *out = ACTIVATION_SILU;
  const char *name;
  if (!config_text_or(config, key, fallback, &name, error)) return false;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp(name, known[i].name) == 0) {
      *out = known[i].kind;
      return true;
    }
  return refuse(config, key, error,
                "activation \"%s\" is not supported (known: silu, gelu, gelu_new, gelu_pytorch_tanh, "
                "gelu_fast, relu, relu2)",
                name);
}

bool config_refuse(const Reader *config, const char *key, const char *why, Error *error) {
  const json_t *value = json_object_get(config->value, key);
  if (!value || json_is_null(value) || json_is_false(value)) return true;
  if ((json_is_object(value) || json_is_array(value)) &&
      json_object_size(value) + json_array_size(value) == 0)
    return true;
  return refuse(config, key, error, "%s", why);
}

bool config_same_value(const json_t *a, const json_t *b) {
  if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
  return a && json_equal(a, b);
}

bool config_expect(const Reader *config, const char *key, const char *json, Error *error) {
  if (!reader_has(config, key)) return true;
  json_t *expected = json_loads(json, JSON_DECODE_ANY, NULL);
  ASSERT(expected);
  const bool same = config_same_value(json_object_get(config->value, key), expected);
  json_decref(expected);
  return same || refuse(config, key, error, "only %s is supported", json);
}

/* "architectures" names the class that is written, for language models and for reward models. */
static bool names_class(const Architecture *arch, const json_t *config) {
  const char *name = json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
  return name && (strcmp(name, arch->causal_class) == 0 || strcmp(name, arch->score_class) == 0);
}

/* Some models with code on the hub have no model_type: then it is the class that tells. */
static bool is_meant(const Architecture *arch, const json_t *config, const char *type) {
  if (type ? strcmp(type, arch->model_type) != 0 : !names_class(arch, config)) return false;
  return !arch->applies || arch->applies(config);
}

/* The names of all types, each once: those of one type stand together. */
static void list_types(char *out, size_t size) {
  size_t used = 0;
  for (int i = 0; i < ARCHITECTURE_COUNT && used < size; i++) {
    const char *type = architecture_list[i]->model_type;
    if (i > 0 && strcmp(type, architecture_list[i - 1]->model_type) == 0) continue;
    used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", type);
  }
}

const Architecture *architecture_find(const json_t *config, Error *error) {
  const Reader top = reader_top(NULL, (json_t *)config);
  const char *type;
  if (!reader_as_object(&top, error) || !config_text_or(&top, "model_type", NULL, &type, error)) return NULL;
  for (int i = 0; i < ARCHITECTURE_COUNT; i++)
    if (is_meant(architecture_list[i], config, type)) return architecture_list[i];
  char known[1024];
  list_types(known, sizeof known);
  if (type)
    refuse(&top, "model_type", error, "\"%s\" is not supported (known: %s)", type, known);
  else
    refuse(&top, "model_type", error, "expected one of %s, found nothing", known);
  return NULL;
}

/* bitsandbytes' are dequantised or taken as they are (formats/bitsandbytes.h). */
static bool config_check_quantization(const Reader *config, Error *error) {
  const json_t *how = json_object_get(config->value, "quantization_config");
  const char *method = json_string_value(json_object_get(how, "quant_method"));
  if (json_holds_object(how) && method && strcmp(method, "bitsandbytes") == 0) return true;
  return config_refuse(
      config, "quantization_config",
      "quantised checkpoints are not supported, but for bitsandbytes': take the model in 16 bits", error);
}

/* Options that no architecture supports yet, with more to say than that they are not known. */
static bool refuse_unsupported(const Reader *config, Error *error) {
  return config_check_quantization(config, error) &&
         config_refuse(config, "is_encoder_decoder", "only decoder models are supported", error) &&
         config_refuse(config, "add_cross_attention", "cross attention is not supported", error) &&
         config_refuse(config, "pruned_heads", "pruned heads are not supported", error);
}

static bool check_shape(const ModelSpec *spec, Error *error) {
  if (spec->layers > MODEL_MAX_LAYERS)
    return error_set(error, ERROR_MODEL, "%lld layers: at most %d are supported", (long long)spec->layers,
                     MODEL_MAX_LAYERS);
  if (spec->heads * spec->head_size > largest_size)
    return error_set(error, ERROR_MODEL, "%lld heads of %lld elements: that is too large",
                     (long long)spec->heads, (long long)spec->head_size);
  if (spec->heads % spec->kv_heads != 0)
    return error_set(error, ERROR_MODEL, "%lld attention heads are not a multiple of %lld key/value heads",
                     (long long)spec->heads, (long long)spec->kv_heads);
  if (spec->position == POSITION_ROTARY &&
      (spec->rotary_size < 2 || spec->rotary_size % 2 || spec->rotary_size > spec->head_size))
    return error_set(error, ERROR_MODEL, "%lld rotary elements in heads of %lld: expected an even number",
                     (long long)spec->rotary_size, (long long)spec->head_size);
  return spec->position != POSITION_ROTARY ||
         (config_rope_fits(&spec->rope, spec->rotary_size, error) &&
          (!spec->rope_by_window || config_rope_fits(&spec->rope_local, spec->rotary_size, error)));
}

bool architecture_read(const Architecture *arch, const json_t *config, ModelSpec *spec, Error *error) {
  const Reader top = reader_top(NULL, (json_t *)config);
  *spec = (ModelSpec){
      .embedding_scale = 1, .alibi_max = 8, .residual_scale = 1, .logit_scale = 1, .final_norm = true};
  return refuse_unsupported(&top, error) && arch->read(&top, spec, error) &&
         config_check_keys(&top, arch, error) && check_shape(spec, error);
}

bool architecture_is_score(const Architecture *arch, const json_t *config) {
  const json_t *first = json_array_get(json_object_get(config, "architectures"), 0);
  return json_is_string(first) && strcmp(json_string_value(first), arch->score_class) == 0;
}
