#include "model/spec.h"

#include <math.h>

/* The arithmetic is in float, step by step as Transformers does it, because positions multiply what is lost
 * here: one ulp of an inverse frequency is 1e-4 of an angle at position 2000. */

static const float two_pi = 6.2831853071795864769f;

/* Low frequencies (long waves) are stretched, high ones kept, those between blended: Llama 3. */
static float llama3_frequency(const RopeSpec *spec, float inverse) {
  float wavelength = two_pi / inverse;
  float original = (float)spec->original_max, factor = (float)spec->factor;
  float low = (float)spec->low_freq_factor, high = (float)spec->high_freq_factor;
  if (wavelength < (float)(spec->original_max / spec->high_freq_factor)) return inverse;
  if (wavelength > (float)(spec->original_max / spec->low_freq_factor)) return inverse / factor;
  float smooth = (original / wavelength - low) / (high - low);
  return (1 - smooth) * inverse / factor + smooth * inverse;
}

/* The pair whose wave makes `rotations` turns over the original context: YaRN (Peng et al. 2023),
 * section 3.2. */
static double yarn_correction(const RopeSpec *spec, int64_t rotary_size, double rotations) {
  double turns = spec->original_max / (rotations * 2 * M_PI);
  return (double)rotary_size * log(turns) / (2 * log(spec->theta));
}

static void yarn_frequencies(const RopeSpec *spec, int64_t rotary_size, float *out) {
  double low = yarn_correction(spec, rotary_size, spec->beta_fast);
  double high = yarn_correction(spec, rotary_size, spec->beta_slow);
  if (!spec->yarn_exact) {
    low = floor(low);
    high = ceil(high);
  }
  if (low < 0) low = 0;
  if (high > (double)(rotary_size - 1)) high = (double)(rotary_size - 1);
  if (low == high) high += 0.001; /* no division by 0 */
  for (int64_t i = 0; i < rotary_size / 2; i++) {
    float ramp = ((float)i - (float)low) / (float)(high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    float kept = 1 - ramp;
    float stretched = 1 / ((float)spec->factor * (1 / out[i]));
    out[i] = stretched * (1 - kept) + out[i] * kept;
  }
}

bool rope_is_extended(const RopeSpec *spec) {
  return (spec->kind == ROPE_DYNAMIC || spec->kind == ROPE_LONGROPE) && spec->context > spec->original_max;
}

bool rope_serves(const RopeSpec *spec, int64_t length) {
  RopeSpec asked = *spec;
  asked.context = (double)length;
  return !rope_is_extended(&asked) || asked.context <= spec->context;
}

/* The base grows with the longest sequence, so that the lowest frequency spans it (NTK-aware scaling). */
static float dynamic_theta(const RopeSpec *spec, int64_t rotary_size) {
  const float factor = (float)spec->factor;
  const float growth = factor * (float)spec->context / (float)spec->original_max - (float)(spec->factor - 1);
  const double power = (double)rotary_size / (double)(rotary_size - 2);
  return (float)spec->theta * (float)pow((double)growth, power);
}

static double attention_factor(const RopeSpec *spec) {
  if (spec->kind != ROPE_YARN && spec->kind != ROPE_LONGROPE) return 1;
  if (spec->attention_factor != 0) return spec->attention_factor;
  if (spec->factor <= 1) return 1;
  return spec->kind == ROPE_YARN ? 0.1 * log(spec->factor) + 1
                                 : sqrt(1 + log(spec->factor) / log(spec->original_max));
}

void rope_frequencies(const RopeSpec *spec, int64_t rotary_size, float *out, float *scale) {
  const bool extended = rope_is_extended(spec);
  const float *factors = extended ? spec->long_factor : spec->short_factor;
  float theta = (float)spec->theta;
  if (extended && spec->kind == ROPE_DYNAMIC) theta = dynamic_theta(spec, rotary_size);
  for (int64_t i = 0; i < rotary_size / 2; i++) {
    float wave = powf(theta, (float)(2 * i) / (float)rotary_size);
    if (spec->kind == ROPE_LONGROPE) wave *= factors[i];
    float inverse = 1 / wave;
    if (spec->kind == ROPE_LINEAR) inverse /= (float)spec->factor;
    if (spec->kind == ROPE_LLAMA3) inverse = llama3_frequency(spec, inverse);
    out[i] = inverse;
  }
  if (spec->kind == ROPE_YARN) yarn_frequencies(spec, rotary_size, out);
  *scale = (float)attention_factor(spec);
}

float attention_scale(const ModelSpec *spec) {
  return spec->attention_scale != 0 ? spec->attention_scale : 1 / sqrtf((float)spec->head_size);
}

/* Heads beyond the last power of two fall between the first ones. */
static double alibi_exponent(int64_t head, int64_t heads) {
  int64_t power = 1;
  while (power * 2 <= heads) power *= 2;
  if (head < power) return (double)(head + 1) / (double)power;
  return (double)(2 * (head - power) + 1) / (double)(2 * power);
}

void alibi_slopes(const ModelSpec *spec, float *out) {
  for (int64_t h = 0; h < spec->heads; h++) {
    out[h] = (float)exp2(-alibi_exponent(h, spec->heads) * (double)spec->alibi_max);
    if (spec->alibi_by_place) out[h] = float_from_bf16(bf16_from_float(out[h]));
  }
}
