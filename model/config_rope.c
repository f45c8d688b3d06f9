/* The rotary keys of config.json, in their old and new spelling, with the fallbacks of Transformers
 * (modeling_rope_utils.py of 5.24). Where two keys say the same thing differently, Transformers takes one of them; here it is
 * an error that names both. */
#include "model/arch.h"

#include <math.h>
#include <string.h>

/* -- numbers ---------------------------------------------------------------------------------------------- */

static bool positive(const Reader *object, const char *key, double *out, Error *error) {
  Reader member;
  if (!reader_member(object, key, &member, error) ||
      !reader_as_number(&member, -INFINITY, INFINITY, out, error))
    return false;
  return (*out > 0 && isfinite(*out)) ||
         reader_fail(&member, error, "expected a number above 0, found %g", *out);
}

/* *out keeps its value where the key is absent or null. */
static bool positive_or(const Reader *object, const char *key, double *out, Error *error) {
  return !reader_has(object, key) || positive(object, key, out, error);
}

/* A number that stands beside the rotary object (`outside` when it does not), within it, or in both alike; in neither: *out
 * keeps its value. */
static bool positive_in_both(const Reader *config, const Reader *rope, const char *key, double outside,
                             double *out, Error *error) {
  double inside = 0;
  if (!positive_or(config, key, &outside, error) || !positive_or(rope, key, &inside, error)) return false;
  if (outside > 0 && inside > 0 && outside != inside)
    return reader_fail(rope, error, "\"%s\" is %g here and %g beside it: take one of them out", key, inside,
                       outside);
  if (outside > 0 || inside > 0) *out = outside > 0 ? outside : inside;
  return true;
}

/* -- kinds ------------------------------------------------------------------------------------------------ */

/* What one table is read from. */
typedef struct Source {
  const Reader *config, *rope; /* rope: the object with its keys; its value may be NULL */
  double longest;              /* max_position_embeddings; 0 = not known */
  RopeDefaults defaults;
} Source;

static bool need_longest(const Source *from, Error *error) {
  double unused;
  return from->longest > 0 || positive(from->config, "max_position_embeddings", &unused, error);
}

static bool read_original_max(const Source *from, double *out, Error *error) {
  *out = from->longest;
  return need_longest(from, error) &&
         positive_in_both(from->config, from->rope, "original_max_position_embeddings",
                          from->defaults.original_max, out, error);
}

/* From how the positions grew, where no factor is given. */
static bool read_factor(const Source *from, RopeSpec *out, Error *error) {
  out->factor = from->longest / out->original_max;
  return positive_or(from->rope, "factor", &out->factor, error);
}

static double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static bool read_yarn(const Source *from, RopeSpec *out, Error *error) {
  const Reader *rope = from->rope;
  double mscale, mscale_all;
  bool truncate;
  if (!read_original_max(from, &out->original_max, error) || !read_factor(from, out, error) ||
      !positive_or(rope, "attention_factor", &out->attention_factor, error) ||
      !config_float_or(rope, "beta_fast", 0, &out->beta_fast, error) ||
      !config_float_or(rope, "beta_slow", 0, &out->beta_slow, error) ||
      !config_float_or(rope, "mscale", 0, &mscale, error) ||
      !config_float_or(rope, "mscale_all_dim", 0, &mscale_all, error) ||
      !config_bool_or(rope, "truncate", true, &truncate, error))
    return false;
  out->kind = ROPE_YARN;
  out->yarn_exact = !truncate;
  if (out->beta_fast == 0) out->beta_fast = 32;
  if (out->beta_slow == 0) out->beta_slow = 1;
  if (out->attention_factor == 0 && mscale != 0 && mscale_all != 0)
    out->attention_factor = yarn_mscale(out->factor, mscale) / yarn_mscale(out->factor, mscale_all);
  return true;
}

static bool read_llama3(const Source *from, RopeSpec *out, Error *error) {
  const Reader *rope = from->rope;
  out->kind = ROPE_LLAMA3;
  return positive(rope, "factor", &out->factor, error) &&
         positive(rope, "low_freq_factor", &out->low_freq_factor, error) &&
         positive(rope, "high_freq_factor", &out->high_freq_factor, error) &&
         read_original_max(from, &out->original_max, error);
}

/* A factor for each pair; those beyond the list stay 0, by which config_rope_fits finds a list of another length. */
static bool read_factors(const Reader *rope, const char *key, float out[ROPE_MAX_PAIRS], Error *error) {
  Reader list, item;
  if (!reader_array(rope, key, &list, error)) return false;
  const size_t count = json_array_size(list.value);
  if (count == 0 || count > ROPE_MAX_PAIRS)
    return reader_fail(&list, error, "expected a number for each rotary pair, found %zu of them", count);
  for (size_t i = 0; i < count; i++) {
    double value;
    if (!reader_item(&list, i, &item, error) || !reader_as_number(&item, 0, INFINITY, &value, error))
      return false;
    out[i] = (float)value;
    if (!(out[i] > 0) || !isfinite(out[i]))
      return reader_fail(&item, error, "expected a number above 0, found %g", value);
  }
  return true;
}

static bool read_longrope(const Source *from, RopeSpec *out, Error *error) {
  const Reader *rope = from->rope;
  out->kind = ROPE_LONGROPE;
  return read_factors(rope, "short_factor", out->short_factor, error) &&
         read_factors(rope, "long_factor", out->long_factor, error) &&
         read_original_max(from, &out->original_max, error) && read_factor(from, out, error) &&
         positive_or(rope, "attention_factor", &out->attention_factor, error);
}

static bool read_kind(const Source *from, const char *type, RopeSpec *out, Error *error) {
  const Reader *rope = from->rope;
  if (strcmp(type, "default") == 0) return true;
  if (strcmp(type, "longrope") == 0) return read_longrope(from, out, error);
  if (from->defaults.longrope_alone) {
    if (strcmp(type, "su") == 0 || strcmp(type, "yarn") == 0) return read_longrope(from, out, error);
    return reader_fail(rope, error, "rope type \"%s\" is not supported for this model type (known: longrope)",
                       type);
  }
  if (strcmp(type, "linear") == 0) {
    out->kind = ROPE_LINEAR;
    return positive(rope, "factor", &out->factor, error);
  }
  if (strcmp(type, "dynamic") == 0) {
    out->kind = ROPE_DYNAMIC; /* grows from the longest position, whatever the original one was */
    out->original_max = from->longest;
    return positive(rope, "factor", &out->factor, error) && need_longest(from, error);
  }
  if (strcmp(type, "llama3") == 0) return read_llama3(from, out, error);
  if (strcmp(type, "yarn") == 0) return read_yarn(from, out, error);
  return reader_fail(
      rope, error,
      "rope type \"%s\" is not supported (known: default, linear, dynamic, llama3, yarn, longrope)", type);
}

/* "rope_type", or "type" as it was first called. */
static bool read_type(const Reader *rope, const char **out, Error *error) {
  const char *older;
  if (!config_text_or(rope, "type", "default", &older, error) ||
      !config_text_or(rope, "rope_type", older, out, error))
    return false;
  if (!reader_has(rope, "type") || strcmp(older, *out) == 0) return true;
  return reader_fail(rope, error, "\"rope_type\" is \"%s\" and \"type\" is \"%s\": take one of them out",
                     *out, older);
}

/* -- objects ---------------------------------------------------------------------------------------------- */

static bool is_empty(const Reader *object) {
  return !object->value || json_object_size(object->value) == 0;
}

static bool object_or_none(const Reader *config, const char *key, Reader *out, Error *error) {
  return reader_member(config, key, out, error) && (!out->value || reader_as_object(out, error));
}

/* Transformers takes rope_scaling and drops rope_parameters whole: they must say the same. */
static bool check_both(const Reader *config, const Reader *old, const Reader *newer, Error *error) {
  const char *key;
  json_t *value;
  json_object_foreach(newer->value, key, value) {
    const bool moved = strcmp(key, "rope_theta") == 0 && !reader_has(old, key);
    if (!config_same_value(json_object_get(moved ? config->value : old->value, key), value))
      return reader_fail(newer, error, "\"%s\" is not what \"rope_scaling\" says: take one of the two out",
                         key);
  }
  return true;
}

bool config_rope_object(const Reader *config, Reader *rope, Error *error) {
  Reader newer;
  if (!object_or_none(config, "rope_scaling", rope, error) ||
      !object_or_none(config, "rope_parameters", &newer, error))
    return false;
  if (!is_empty(rope)) return check_both(config, rope, &newer, error);
  *rope = newer;
  return true;
}

/* One table, of base `theta`. */
static bool read_table(const Source *from, double theta, RopeSpec *out, Error *error) {
  const char *type;
  *out = (RopeSpec){.kind = ROPE_DEFAULT, .theta = theta};
  return config_check_rope_keys(from->rope, from->defaults.own_key, error) &&
         read_type(from->rope, &type, error) && read_kind(from, type, out, error);
}

static bool is_by_layer(const Reader *rope) {
  return reader_has(rope, "full_attention") || reader_has(rope, "sliding_attention");
}

static bool read_alone(const Source *from, RopeSpec *out, Error *error) {
  double theta = from->defaults.theta;
  if (is_by_layer(from->rope))
    return reader_fail(from->rope, error, "parameters by layer type are not known for this model type");
  return positive_in_both(from->config, from->rope, "rope_theta", 0, &theta, error) &&
         read_table(from, theta, out, error);
}

bool config_rope(const Reader *config, double default_theta, RopeSpec *out, Error *error) {
  Reader rope;
  Source from = {.config = config, .rope = &rope, .defaults = {.theta = default_theta}};
  return config_rope_object(config, &rope, error) &&
         positive_or(config, "max_position_embeddings", &from.longest, error) &&
         read_alone(&from, out, error);
}

/* -- the heads' part -------------------------------------------------------------------------------------- */

static bool read_part(const Source *from, ModelSpec *spec, Error *error) {
  static const char *const key = "partial_rotary_factor";
  const bool whole = from->defaults.part == 0;
  double part = whole ? 1 : from->defaults.part;
  if (!positive_in_both(from->config, from->rope, key, 0, &part, error)) return false;
  if (whole && part != 1)
    return reader_fail(from->config, error, "%s: %g is not supported for this model type", key, part);
  if (part > 1)
    return reader_fail(from->config, error, "%s: expected a number above 0 and up to 1, found %g", key, part);
  spec->position = POSITION_ROTARY;
  spec->rotary_size = (int64_t)((double)spec->head_size * part);
  return true;
}

bool config_rotary(const Reader *config, RopeDefaults defaults, ModelSpec *spec, Error *error) {
  Reader rope;
  const Source from = {config, &rope, (double)spec->max_positions, defaults};
  return config_rope_object(config, &rope, error) && read_alone(&from, &spec->rope, error) &&
         read_part(&from, spec, error);
}

/* -- a table for each type of layer ----------------------------------------------------------------------- */

/* outer_key: where an old config has the base. */
static bool read_layer_table(const Source *outer, const char *type, double theta, const char *outer_key,
                             ModelSpec *spec, RopeSpec *out, Error *error) {
  Reader rope;
  Source from = *outer;
  from.rope = &rope;
  if (!object_or_none(outer->rope, type, &rope, error)) return false;
  if (reader_has(&rope, "truncate")) /* Transformers looks for it one level up, where it is not */
    return reader_fail(&rope, error, "\"truncate\" is not supported by layer type");
  double beside = 0;
  if (!positive_or(&rope, "rope_theta", &theta, error) ||
      (outer_key && !positive_or(outer->config, outer_key, &beside, error)))
    return false;
  if (beside > 0 && beside != theta)
    return reader_fail(&rope, error, "the base is %g here and \"%s\" is %g: take one of them out", theta,
                       outer_key, beside);
  return read_table(&from, theta, out, error) && read_part(&from, spec, error);
}

static bool read_layer_tables(const Source *from, LayerRopeDefaults defaults, ModelSpec *spec, Error *error) {
  const char *key;
  json_t *value;
  json_object_foreach(from->rope->value, key, value) {
    if (strcmp(key, "full_attention") != 0 && strcmp(key, "sliding_attention") != 0)
      return reader_fail(from->rope, error, "\"%s\" stands beside the parameters of each layer type", key);
  }
  return config_refuse(from->config, "rope_scaling", "\"rope_parameters\" by layer type are there too",
                       error) &&
         read_layer_table(from, "full_attention", defaults.theta, "rope_theta", spec, &spec->rope, error) &&
         read_layer_table(from, "sliding_attention", defaults.local_theta, defaults.local_key, spec,
                          &spec->rope_local, error);
}

bool config_rotary_by_layer(const Reader *config, LayerRopeDefaults defaults, ModelSpec *spec, Error *error) {
  Reader rope;
  const Source from = {config, &rope, (double)spec->max_positions, {.theta = defaults.theta}};
  spec->rope_by_window = true;
  if (!object_or_none(config, "rope_parameters", &rope, error)) return false;
  if (is_by_layer(&rope)) return read_layer_tables(&from, defaults, spec, error);
  if (!is_empty(&rope))
    return reader_fail(&rope, error, "expected parameters of \"full_attention\" and \"sliding_attention\"");
  spec->rope_local = (RopeSpec){.kind = ROPE_DEFAULT, .theta = defaults.local_theta};
  return object_or_none(config, "rope_scaling", &rope, error) && read_alone(&from, &spec->rope, error) &&
         (!defaults.local_key || positive_or(config, defaults.local_key, &spec->rope_local.theta, error)) &&
         read_part(&from, spec, error);
}

/* -- what only the heads decide --------------------------------------------------------------------------- */

bool config_rope_fits(const RopeSpec *rope, int64_t rotary_size, Error *error) {
  const int64_t pairs = rotary_size / 2;
  if (rope->kind == ROPE_DYNAMIC && (pairs < 2 || pairs > ROPE_MAX_PAIRS))
    return error_set(error, ERROR_MODEL,
                     "rope type \"dynamic\" with %lld rotary pairs is not supported (from 2 to %d are)",
                     (long long)pairs, ROPE_MAX_PAIRS);
  if (rope->kind != ROPE_LONGROPE) return true;
  const float *const lists[] = {rope->short_factor, rope->long_factor};
  for (int i = 0; i < 2; i++) {
    if (pairs <= ROPE_MAX_PAIRS && lists[i][pairs - 1] > 0 &&
        (pairs == ROPE_MAX_PAIRS || lists[i][pairs] == 0))
      continue;
    return error_set(error, ERROR_MODEL, "\"%s\": expected a number for each of %lld rotary pairs",
                     i ? "long_factor" : "short_factor", (long long)pairs);
  }
  return true;
}
