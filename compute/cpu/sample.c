/* Sampling of tokens from logits. Nothing is sorted: the cut of top-k and top-p is found by radix selection
 * over the bits of e^(z - max), which for non-negative floats order as integers. */
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

/* What tokens are still in the race, in order of id. */
typedef struct Race {
  float *e;
  int32_t *ids;
  float *bin; /* workspace as long as e */
  int64_t count;
} Race;

/* Keeps elements above `bits`, and the first `ties` (by id) of those equal to it. */
static void keep_above(Race *race, uint32_t bits, int64_t ties) {
  int64_t kept = 0;
  for (int64_t i = 0; i < race->count; i++) {
    uint32_t own = float_bits(race->e[i]);
    bool tie = own == bits && ties > 0;
    ties -= tie;
    race->e[kept] = race->e[i];
    race->ids[kept] = race->ids[i];
    kept += own > bits || tie;
  }
  race->count = kept;
}

typedef struct Histogram {
  uint32_t number[DIGITS];
  double sum[DIGITS];
} Histogram;

static void count_digits(Histogram *h, const float *e, int64_t n, int shift, bool sums) {
  memset(h, 0, sizeof *h);
  for (int64_t i = 0; i < n; i++) h->number[float_bits(e[i]) >> shift & (DIGITS - 1)]++;
  for (int64_t i = 0; sums && i < n; i++) h->sum[float_bits(e[i]) >> shift & (DIGITS - 1)] += (double)e[i];
}

/* Keeps the fewest greatest elements (lower ids first among equals) whose number reaches `count`, or whose
 * sum reaches `mass`. One digit a level: find the bin where the limit is crossed, then look only into that
 * bin. */
static void keep_greatest(Race *race, double count, double mass) {
  uint32_t prefix = 0;
  double above_count = 0, above_mass = 0;
  const float *e = race->e;
  int64_t n = race->count;
  for (int level = 0; level < LEVELS; level++) {
    int shift = DIGIT_BITS * (LEVELS - 1 - level);
    Histogram h;
    count_digits(&h, e, n, shift, mass < INFINITY);
    int digit = DIGITS - 1;
    for (; digit > 0; digit--) {
      bool crossed = above_count + h.number[digit] >= count || above_mass + h.sum[digit] >= mass;
      if (h.number[digit] > 0 && crossed) break;
      above_count += h.number[digit];
      above_mass += h.sum[digit];
    }
    prefix = prefix << DIGIT_BITS | (uint32_t)digit;
    int64_t inside = 0;
    for (int64_t i = 0; i < n; i++) {
      race->bin[inside] = e[i];
      inside += float_bits(e[i]) >> shift == prefix;
    }
    e = race->bin;
    n = inside;
  }
  /* The digits now spell one value; how many of its equals are needed? */
  float value;
  memcpy(&value, &prefix, sizeof value);
  double by_mass = value > 0 ? ceil((mass - above_mass) / (double)value) : INFINITY;
  keep_above(race, prefix, (int64_t)fmax(1, fmin(1e15, fmin(count - above_count, by_mass))));
}

static double sum_in_order(const Race *race) {
  double sum = 0;
  for (int64_t i = 0; i < race->count; i++) sum += (double)race->e[i];
  return sum;
}

/* The first id whose cumulative sum exceeds u * total. */
static int64_t draw(const Race *race, double total, float u) {
  double limit = (double)u * total, sum = 0;
  int64_t last = 0;
  for (int64_t i = 0; i < race->count; i++) {
    if (!(race->e[i] > 0)) continue;
    sum += (double)race->e[i];
    last = race->ids[i];
    if (sum > limit) break;
  }
  return last;
}

/* The highest logit's id, the lowest of equals; -1 where there is nothing to choose by: one is NaN or +infinity, or all
 * are -infinity. */
static int64_t highest_id(const float *logits, int64_t n) {
  int64_t best = 0;
  bool sound = true;
  for (int64_t i = 0; i < n; i++) {
    sound &= logits[i] < INFINITY;
    if (logits[i] > logits[best]) best = i;
  }
  return sound && logits[best] > -INFINITY ? best : -1;
}

/* top-k, then top-p of what is left, then the draw. */
static int64_t race_winner(Race *race, const SampleRow *row, double total) {
  bool cut = row->top_k > 0 && row->top_k < race->count;
  if (cut) {
    keep_greatest(race, row->top_k, INFINITY);
    total = sum_in_order(race);
  }
  if (row->top_p < 1) {
    keep_greatest(race, INFINITY, (double)row->top_p * total);
    total = sum_in_order(race);
  }
  return draw(race, total, random_uniform(row->key, row->sample, row->position));
}

static int64_t sample_row(Race *race, const float *logits, int64_t n, const SampleRow *row, float *logprob) {
  bool greedy = row->temperature <= 0;
  float temperature = greedy ? 1.0f : row->temperature;
  int64_t best = highest_id(logits, n), id = best;
  if (best < 0 && logprob) *logprob = NAN;
  if (best < 0 || (greedy && !logprob)) return id;
  double total = exponentials(race->e, logits, n, temperature, logits[best]);
  if (!greedy) {
    for (int64_t i = 0; i < n; i++) race->ids[i] = (int32_t)i;
    race->count = n;
    id = race_winner(race, row, total);
  }
  if (logprob)
    *logprob = (float)(((double)logits[id] - (double)logits[best]) / (double)temperature - log(total));
  return id;
}

void CPU(sample)(Compute *c, Tensor ids, Tensor logprob, Tensor logits, const SampleRow *rows) {
  int64_t count = logits.dim[0], n = logits.dim[1];
  size_t mark = scratch_open(c);
  float *memory = scratch_floats(c, c->threads * 3 * n);
  if (!c->dry) {
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 1) if (count > 1)
    for (int64_t r = 0; r < count; r++) {
      float *own = memory + omp_get_thread_num() * 3 * n;
      Race race = {.e = own, .bin = own + n, .ids = (int32_t *)(own + 2 * n)};
      int64_t id = sample_row(&race, f32(logits) + r * logits.stride[0], n, &rows[r],
                              tensor_is_none(logprob) ? NULL : f32(logprob) + r);
      ((int32_t *)ids.data)[r] = (int32_t)id;
    }
  }
  scratch_close(c, mark);
}
