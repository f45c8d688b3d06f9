/* Sampling of tokens from logits. Nothing is sorted: the cut of top-k and top-p is found by radix selection over
 * the bits of e^(z - max), which for non-negative floats order as integers. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector_math.h"

#include <math.h>

/* Digits of the 30 bits that a float in [0,1] can use, from the top. */
enum { LEVELS = 3, DIGIT_BITS = 10, DIGITS = 1 << DIGIT_BITS };

static inline uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* e[j] = e^((logit_j - max) / temperature); returns their sum, added in a fixed order. */
static double exponentials(float *e, const float *logits, int64_t n, float temperature, float highest) {
  Vec scale = vec_splat(1.0f / temperature);
  double total = 0;
  for (int64_t first = 0; first < n; first += SPAN) {
    Vec sum = vec_splat(0.0f);
    int64_t last = min64(n, first + SPAN);
    for (int64_t i = first; i < last; i += VEC) {
      int part = vec_part(last - i);
      Vec y = (vec_load_part(logits + i, part) - vec_splat(highest)) * scale;
      if (part < VEC) y = vec_select(vec_less(vec_iota(), vec_splat((float)part)), y, vec_splat(-1e30f));
      Vec p = vec_exp(y);
      vec_store_part(e + i, p, part);
      sum += p;
    }
    total += (double)vec_sum(sum);
  }
  return total;
}

/* Keeps elements above `bits`, and the first `ties` (by id) of those equal to it; zeroes the others. */
static void keep_above(float *e, int64_t n, uint32_t bits, int64_t ties) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t own = float_bits(e[i]);
    if (own > bits || (own == bits && ties-- > 0)) continue;
    e[i] = 0;
  }
}

/* Keeps the fewest greatest elements (lower ids first among equals) whose number reaches `count`, or whose sum
 * reaches `mass`. One digit a level: find the bin where the limit is crossed, then look only into that bin. */
static void keep_greatest(float *e, int64_t n, double count, double mass) {
  uint32_t prefix = 0;
  double above_count = 0, above_mass = 0;
  for (int level = 0; level < LEVELS; level++) {
    int shift = DIGIT_BITS * (LEVELS - 1 - level);
    uint32_t number[DIGITS] = {0};
    double sum[DIGITS] = {0};
    for (int64_t i = 0; i < n; i++) {
      uint32_t bits = float_bits(e[i]);
      if (level > 0 && bits >> (shift + DIGIT_BITS) != prefix) continue;
      uint32_t digit = bits >> shift & (DIGITS - 1);
      number[digit]++;
      sum[digit] += (double)e[i];
    }
    int digit = DIGITS - 1;
    for (; digit > 0; digit--) {
      bool crossed = above_count + number[digit] >= count || above_mass + sum[digit] >= mass;
      if (number[digit] > 0 && crossed) break;
      above_count += number[digit];
      above_mass += sum[digit];
    }
    prefix = prefix << DIGIT_BITS | (uint32_t)digit;
  }
  /* The digits now spell one value; how many of its equals are needed? */
  float value;
  memcpy(&value, &prefix, sizeof value);
  double by_mass = value > 0 ? ceil((mass - above_mass) / (double)value) : INFINITY;
  keep_above(e, n, prefix, (int64_t)fmax(1, fmin(1e15, fmin(count - above_count, by_mass))));
}

static double sum_in_order(const float *e, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)e[i];
  return sum;
}

/* The first id whose cumulative sum exceeds u * total. */
static int64_t draw(const float *e, int64_t n, double total, float u) {
  double limit = (double)u * total, sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!(e[i] > 0)) continue;
    sum += (double)e[i];
    last = i;
    if (sum > limit) break;
  }
  return last;
}

static int64_t highest_id(const float *logits, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

static int64_t sample_row(float *e, const float *logits, int64_t n, const SampleRow *row, float *logprob) {
  bool greedy = row->temperature <= 0;
  float temperature = greedy ? 1.0f : row->temperature;
  int64_t best = highest_id(logits, n), id = best;
  if (greedy && !logprob) return id;
  double total = exponentials(e, logits, n, temperature, logits[best]), all = total;
  if (!greedy) {
    bool cut = false;
    if (row->top_k > 0 && row->top_k < n) {
      keep_greatest(e, n, row->top_k, INFINITY);
      cut = true;
    }
    if (row->top_p < 1) {
      if (cut) total = sum_in_order(e, n);
      keep_greatest(e, n, INFINITY, (double)row->top_p * total);
      cut = true;
    }
    if (cut) total = sum_in_order(e, n);
    id = draw(e, n, total, random_uniform(row->key, row->sample, row->position));
  }
  if (logprob)
    *logprob = (float)(((double)logits[id] - (double)logits[best]) / (double)temperature - log(all));
  return id;
}

void CPU(sample)(Compute *c, Tensor ids, Tensor logprob, Tensor logits, const SampleRow *rows) {
  int64_t count = logits.dim[0], n = logits.dim[1];
  size_t mark = scratch_open(c);
  float *memory = scratch_floats(c, c->threads * n);
  if (!c->dry) {
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 1) if (count > 1)
    for (int64_t r = 0; r < count; r++) {
      float *e = memory + omp_get_thread_num() * n;
      int64_t id = sample_row(e, f32(logits) + r * logits.stride[0], n, &rows[r],
                              tensor_is_none(logprob) ? NULL : f32(logprob) + r);
      ((int32_t *)ids.data)[r] = (int32_t)id;
    }
  }
  scratch_close(c, mark);
}
