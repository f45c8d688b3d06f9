/* Rotary positions in GGUF: scaling by keys, and tables of factors by which frequencies are divided. */
#include "model/gguf_family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- llama3: rope_freqs.weight ---- */

typedef struct Llama3 {
  double factor, low, high, original;
} Llama3;

static double llama3_factor(const Llama3 *l, double frequency) {
  const double wave = 2 * M_PI / frequency;
  if (wave < l->original / l->high) return 1;
  if (wave > l->original / l->low) return l->factor;
  const double smooth = (l->original / wave - l->low) / (l->high - l->low);
  return 1 / ((1 - smooth) / l->factor + smooth);
}

typedef struct Factors {
  const GgufTensor *tensor;
  double theta;
  int64_t head_size;
} Factors;

static double frequency_at(const Factors *f, int64_t i) {
  return pow(f->theta, -2.0 * (double)i / (double)f->head_size);
}

static double factor_at(const Factors *f, int64_t i) {
  float value;
  block_read(f->tensor->type, f->tensor->data, (size_t)i, 1, &value);
  return (double)value;
}

/* Factors are floats, made from frequencies that are floats. */
static bool explains(const Llama3 *l, const Factors *f) {
  for (int64_t i = 0; i < f->head_size / 2; i++) {
    const double found = factor_at(f, i), expected = llama3_factor(l, frequency_at(f, i));
    if (!(fabs(found - expected) <= 2e-5 * expected)) return false;
  }
  return true;
}

/* Between the kept and the divided frequencies 1/factor is linear in the frequency; two of them give the line. Of low, high and the
 * original context only two numbers count, so low is 1. */
static bool fit(Llama3 *l, const Factors *f) {
  double x[2] = {0}, s[2] = {0};
  int found = 0;
  for (int64_t i = 0; i < f->head_size / 2; i++) {
    const double factor = factor_at(f, i);
    if (!(factor > 1.0001 && factor < l->factor * 0.9999)) continue;
    const int place = found < 2 ? found++ : 1; /* the first and the last */
    x[place] = frequency_at(f, i) / (2 * M_PI);
    s[place] = (1 / factor - 1 / l->factor) / (1 - 1 / l->factor);
  }
  if (found < 2) return false;
  const double slope = (s[0] - s[1]) / (x[0] - x[1]), at_zero = slope * x[0] - s[0];
  if (!(slope > 0 && at_zero > 0)) return false;
  l->low = 1;
  l->high = 1 + 1 / at_zero;
  l->original = slope / at_zero;
  return explains(l, f);
}

static bool set_llama3(GgufMeta *meta, const Factors *f, Error *error) {
  /* the context of Llama 3, which most of them have */
  Llama3 l = {.factor = gguf_shortest((float)factor_at(f, f->head_size / 2 - 1)),
              .low = 1,
              .high = 4,
              .original = 8192};
  if (!explains(&l, f) && !fit(&l, f))
    return error_set(error, ERROR_MODEL,
                     "%s: tensor " GGUF_ROPE_FREQUENCIES
                     ": these factors are not those of a llama3 scaling, and no "
                     "other is supported",
                     meta->file->path);
  json_object_set_new(
      meta->config, "rope_scaling",
      json_pack(
          "{s:s,s:f,s:f,s:f,s:o}", "rope_type", "llama3", "factor", l.factor, "low_freq_factor", l.low,
          "high_freq_factor", l.high, "original_max_position_embeddings",
          l.original == floor(l.original) ? json_integer((json_int_t)l.original) : json_real(l.original)));
  return true;
}

static bool read_factors(GgufMeta *meta, int64_t head_size, Error *error) {
  Factors f = {
      .tensor = gguf_set_find(meta->set, GGUF_ROPE_FREQUENCIES), .head_size = head_size, .theta = 10000};
  bool neutral = true;
  if (!f.tensor) return true;
  if (!meta_number(meta, "rope.freq_base", &f.theta, error)) return false;
  if (f.tensor->rank != 1 || (int64_t)f.tensor->count != head_size / 2 ||
      strcmp(f.tensor->type->name, "F32") != 0)
    return error_set(error, ERROR_MODEL, "%s: tensor " GGUF_ROPE_FREQUENCIES ": expected [%lld] of F32",
                     meta->file->path, (long long)head_size / 2);
  for (int64_t i = 0; i < head_size / 2; i++) neutral &= factor_at(&f, i) == 1;
  if (neutral) return true;
  if (json_object_get(meta->config, "rope_scaling"))
    return meta_fail(meta, "rope.scaling.type", error,
                     "a scaling, and factors in " GGUF_ROPE_FREQUENCIES " besides: only one is supported");
  return set_llama3(meta, &f, error);
}

/* ---- scaling by keys ---- */

static bool set_yarn(GgufMeta *meta, double factor, Error *error) {
  static const GgufKey keys[] = {{"rope.scaling.yarn_beta_fast", "beta_fast"},
                                 {"rope.scaling.yarn_beta_slow", "beta_slow"}};
  double extension = 1, log_multiplier = 0;
  int64_t original = 0;
  if (!meta_int(meta, "rope.scaling.original_context_length", 1, &original, error) ||
      !meta_number(meta, "rope.scaling.yarn_ext_factor", &extension, error) ||
      !meta_number(meta, "rope.scaling.yarn_log_multiplier", &log_multiplier, error))
    return false;
  if (original == 0) return meta_fail(meta, "rope.scaling.original_context_length", error, "is missing");
  if (extension != 1)
    return meta_fail(meta, "rope.scaling.yarn_ext_factor", error, "expected 1, found %g", extension);
  if (log_multiplier != 0)
    return meta_fail(meta, "rope.scaling.yarn_log_multiplier", error, "%g is not supported", log_multiplier);
  json_t *scaling = json_pack("{s:s,s:f,s:I}", "rope_type", "yarn", "factor", factor,
                              "original_max_position_embeddings", (json_int_t)original);
  bool ok = true;
  for (size_t i = 0; ok && i < sizeof keys / sizeof *keys; i++) {
    double value = NAN;
    ok = meta_number(meta, keys[i].from, &value, error);
    if (ok && !isnan(value)) json_object_set_new(scaling, keys[i].to, json_real(gguf_shortest((float)value)));
  }
  json_object_set_new(meta->config, "rope_scaling", scaling);
  return ok;
}

/* The factor alone means linear scaling; old files spell it rope.scale_linear. */
static bool set_scaling(GgufMeta *meta, Error *error) {
  static const char key[] = "rope.scaling.type";
  char name[16] = "linear";
  double factor = 0, attention = 1;
  const GgufValue *type = meta_find(meta, key);
  const void *at = NULL;
  if (type && (type->array || type->kind != GGUF_STRING))
    return meta_fail(meta, key, error, "expected a string");
  if (type) {
    const GgufText text = gguf_value_text(type, &at);
    snprintf(name, sizeof name, "%.*s", (int)(text.size < 15 ? text.size : 15), text.data);
  }
  if (!meta_number(meta, "rope.scale_linear", &factor, error) ||
      !meta_number(meta, "rope.scaling.factor", &factor, error) ||
      !meta_number(meta, "rope.scaling.attn_factor", &attention, error) ||
      !meta_number(meta, "rope.scaling.yarn_attn_factor", &attention, error))
    return false;
  factor = factor == 0 ? 1 : gguf_shortest((float)factor);
  if (!(factor >= 1 && factor < 1e6))
    return meta_fail(meta, "rope.scaling.factor", error, "expected 1 or more, found %g", factor);
  if (attention != 1)
    return meta_fail(meta, "rope.scaling.attn_factor", error, "expected 1, found %g: not supported",
                     attention);
  if (strcmp(name, "none") == 0 && factor == 1) return true;
  if (strcmp(name, "yarn") == 0) return set_yarn(meta, factor, error);
  if (strcmp(name, "linear") != 0)
    return meta_fail(meta, key, error, "%s is not supported (known: none, linear, yarn)", name);
  if (factor != 1)
    json_object_set_new(meta->config, "rope_scaling",
                        json_pack("{s:s,s:f}", "rope_type", "linear", "factor", factor));
  return true;
}

/* ---- all of it ---- */

static bool set_partial(GgufMeta *meta, int64_t head_size, Error *error) {
  static const char key[] = "rope.dimension_count";
  const char *to = meta->family->partial;
  int64_t rotary = head_size;
  if (!meta_int(meta, key, 1, &rotary, error)) return false;
  if (rotary == head_size) return true;
  if (!to)
    return meta_fail(meta, key, error, "expected %lld, the size of a head, found %lld", (long long)head_size,
                     (long long)rotary);
  meta_set_number(meta, to, (double)rotary / (double)head_size);
  return true;
}

bool gguf_rope_describe(GgufMeta *meta, int64_t head_size, Error *error) {
  return set_partial(meta, head_size, error) && set_scaling(meta, error) &&
         read_factors(meta, head_size, error);
}
