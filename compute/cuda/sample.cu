/* Sampling of tokens from logits, a block to each row. Nothing is sorted: the cut of top-k and top-p is found by
 * radix selection over the bits of e = e^((z - max) / temperature), which for non-negative floats order as
 * integers; draws follow the inverse of the cumulative distribution in order of id.
 *
 * Sums are integers, of e in units of 2^-shift: exact, and so the same in whatever order threads add. An e below
 * one unit counts as nothing; with units for up to 2^18 tokens this is one chance in 2^45.
 *
 * Passes over the row: one for the maximum; one for the total and the first digit of the cut; and, where tokens
 * are cut, one that copies what is left in the race into shared memory, when it has room, where the rest happens.
 * The floor is reading the row once; the later passes come from the second-level cache. */
#include "compute/cuda/random.cuh"

namespace {

typedef unsigned long long Mass;

/* Digits of the 30 bits that a float in [0,1] can use, from the top. */
enum { LEVELS = 3, DIGIT_BITS = 10, DIGITS = 1 << DIGIT_BITS };
enum { THREADS = DIGITS, WARPS = THREADS / WARP, LIST_MOST = THREADS };
enum { AHEAD = 8 }; /* loads that a thread has under way */

/* What of the row is still in the race. */
struct Race {
  const float *logits;
  int count;
  bool listed;         /* it is what stands in the list of the workspace, else all of the row */
  float highest, rate; /* e = e^((logit - highest) * rate) */
  float units;         /* 2^shift */
};

/* Keeps elements above `bits`, and the first `ties` of those equal to it. */
struct Cut {
  uint32_t bits;
  unsigned ties;
};

/* What a histogram counts: elements, or mass of elements not below `least`. */
enum Tally { TALLY_NOTHING, TALLY_COUNT, TALLY_MASS };

struct Workspace {
  union {
    unsigned count[DIGITS];
    Mass mass[DIGITS];
  } bin;
  Mass warp_mass[WARPS];
  unsigned warp_ties[WARPS];
  float warp_highest[WARPS];
  int warp_id[WARPS];
  Mass above;
  int digit;
  int listed;
  float list[LIST_MOST]; /* e of what is left, in order of id */
  int32_t ids[LIST_MOST];
};

__device__ __forceinline__ uint32_t float_bits(float x) {
  return __float_as_uint(x);
}

/* NaN, and what is far below, count as nothing. */
__device__ __forceinline__ float exponential(const Race &race, float logit) {
  float y = (logit - race.highest) * race.rate;
  return y > -87.3f ? expf(y) : 0.0f;
}

__device__ __forceinline__ float element(const Workspace *w, const Race &race, int i) {
  return race.listed ? w->list[i] : exponential(race, race.logits[i]);
}

__device__ __forceinline__ Mass mass_of(const Race &race, float e) {
  return (Mass)(e * race.units);
}

/* f(i, e) for the elements first, first + step, ... before last. */
template <class F>
__device__ __forceinline__ void for_elements(const Workspace *w, const Race &race, int first, int last,
                                             int step, F f) {
  for (int i = first; i < last; i += AHEAD * step) {
    float e[AHEAD];
#pragma unroll
    for (int k = 0; k < AHEAD; k++) e[k] = i + k * step < last ? element(w, race, i + k * step) : 0.0f;
#pragma unroll
    for (int k = 0; k < AHEAD; k++) {
      if (i + k * step < last) f(i + k * step, e[k]);
    }
  }
}

/* The highest logit and its id, the lowest of equals; id -1 where there is nothing to choose by: one is NaN or +infinity,
 * or all are -infinity. A NaN counts as +infinity, which no other logit is above. */
__device__ static void find_highest(Workspace *w, const float *logits, int n, float *highest, int *id) {
  float best = -INFINITY;
  int at = INT32_MAX;
#pragma unroll 8
  for (int i = (int)threadIdx.x; i < n; i += THREADS) {
    float z = logits[i] < INFINITY ? logits[i] : INFINITY;
    if (z > best || (z == best && i < at)) {
      best = z;
      at = i;
    }
  }
  for (int round = 0; round < 2; round++) { /* in the warps, then over them */
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
      float other = __shfl_xor_sync(FULL_MASK, best, step);
      int other_at = __shfl_xor_sync(FULL_MASK, at, step);
      if (other > best || (other == best && other_at < at)) {
        best = other;
        at = other_at;
      }
    }
    if (round == 1) break;
    if (threadIdx.x % WARP == 0) {
      w->warp_highest[threadIdx.x / WARP] = best;
      w->warp_id[threadIdx.x / WARP] = at;
    }
    __syncthreads();
    best = w->warp_highest[threadIdx.x % WARP];
    at = w->warp_id[threadIdx.x % WARP];
  }
  *highest = best;
  *id = best > -INFINITY && best < INFINITY ? at : -1;
}

/* -- the histogram of a digit --------------------------------------------------------------------------- */

struct Histogram {
  Tally tally;
  int shift;
  uint32_t prefix; /* only elements that have these bits above the digit */
  uint32_t least;  /* nothing below these bits can matter */
};

__device__ __forceinline__ void add_weight(Workspace *w, const Race &race, Histogram h, float e,
                                           unsigned times) {
  uint32_t bits = float_bits(e), digit = bits >> h.shift & (DIGITS - 1);
  if (bits >> h.shift >> DIGIT_BITS != h.prefix) return;
  if (h.tally == TALLY_COUNT) {
    atomicAdd(&w->bin.count[digit], times);
  } else {
    atomicAdd(&w->bin.mass[digit], times * mass_of(race, e));
  }
}

/* One element that no cut has removed. */
__device__ __forceinline__ void tally_element(Workspace *w, const Race &race, Histogram h, Cut cut, float e) {
  uint32_t bits = float_bits(e);
  if (bits > cut.bits && bits >= h.least) add_weight(w, race, h, e, 1);
}

__device__ static void clear_bins(Workspace *w) {
  __syncthreads(); /* they may still be read */
  w->bin.mass[threadIdx.x] = 0;
  __syncthreads();
}

/* The sum of x over the threads up to and with this one. */
__device__ static Mass block_running_sum(Workspace *w, Mass x) {
  int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
#pragma unroll
  for (int step = 1; step < WARP; step *= 2) {
    Mass other = __shfl_up_sync(FULL_MASK, x, step);
    if (lane >= step) x += other;
  }
  if (lane == WARP - 1) w->warp_mass[warp] = x;
  __syncthreads();
  Mass before = 0;
  for (int k = 0; k < warp; k++) before += w->warp_mass[k];
  return before + x;
}

/* The digit, from the top, where the sum of the bins reaches `limit`, and the sum above it; false when nowhere. */
__device__ static bool find_digit(Workspace *w, Tally tally, Mass limit, uint32_t *digit, Mass *above) {
  int own = DIGITS - 1 - (int)threadIdx.x;
  if (threadIdx.x == 0) w->digit = -1;
  __syncthreads(); /* of the counting too */
  Mass weight = tally == TALLY_COUNT ? w->bin.count[own] : w->bin.mass[own];
  Mass sum = block_running_sum(w, weight);
  if (sum >= limit && sum - weight < limit) {
    w->digit = own;
    w->above = sum - weight;
  }
  __syncthreads();
  *digit = (uint32_t)w->digit;
  *above = w->above;
  return w->digit >= 0;
}

/* -- the short list ------------------------------------------------------------------------------------- */

/* Bitonic sort by id of the first `size` entries, a power of two. */
__device__ static void sort_list(Workspace *w, int size) {
  int i = (int)threadIdx.x;
  for (int run = 2; run <= size; run *= 2) {
    for (int step = run / 2; step > 0; step /= 2) {
      int other = i ^ step;
      if (i < size && other > i && (w->ids[i] > w->ids[other]) == ((i & run) == 0)) {
        int32_t id = w->ids[i];
        float e = w->list[i];
        w->ids[i] = w->ids[other];
        w->list[i] = w->list[other];
        w->ids[other] = id;
        w->list[other] = e;
      }
      __syncthreads();
    }
  }
}

/* Leaves in the race what has at least these bits, where that fits the list. */
__device__ static void shorten(Workspace *w, Race *race, uint32_t least) {
  if (race->listed) return;
  if (threadIdx.x == 0) w->listed = 0;
  __syncthreads();
  for_elements(w, *race, (int)threadIdx.x, race->count, THREADS, [&](int i, float e) {
    if (float_bits(e) < least || e == 0) return;
    int slot = atomicAdd(&w->listed, 1);
    if (slot < LIST_MOST) {
      w->list[slot] = e;
      w->ids[slot] = i;
    }
  });
  __syncthreads();
  int listed = w->listed, size = 1;
  if (listed > LIST_MOST) return;
  while (size < listed) size *= 2;
  if ((int)threadIdx.x >= listed && (int)threadIdx.x < size) w->ids[threadIdx.x] = INT32_MAX;
  __syncthreads();
  sort_list(w, size);
  race->listed = true;
  race->count = listed;
}

/* -- sums by segment ------------------------------------------------------------------------------------ */

static __host__ __device__ __forceinline__ int segment_length(int size) {
  return (size + WARPS - 1) / WARPS;
}

/* Cuts size elements from `first` into WARPS segments; of each, the mass above the cut and the number of ties.
 * Adds to the histogram on the way. */
__device__ static void sum_segments(Workspace *w, const Race &race, Cut cut, int first, int size,
                                    Histogram h) {
  int warp = (int)threadIdx.x / WARP, length = segment_length(size), last = first + size;
  int from = first + warp * length, to = from + length < last ? from + length : last;
  Mass mass = 0;
  unsigned ties = 0;
  for_elements(w, race, from + (int)threadIdx.x % WARP, to, WARP, [&](int, float e) {
    uint32_t bits = float_bits(e);
    if (bits > cut.bits) mass += mass_of(race, e);
    ties += bits == cut.bits;
    if (h.tally != TALLY_NOTHING) tally_element(w, race, h, cut, e);
  });
#pragma unroll
  for (int step = WARP / 2; step > 0; step /= 2) {
    mass += __shfl_xor_sync(FULL_MASK, mass, step);
    ties += __shfl_xor_sync(FULL_MASK, ties, step);
  }
  __syncthreads(); /* earlier sums have been read */
  if (threadIdx.x % WARP == 0) {
    w->warp_mass[warp] = mass;
    w->warp_ties[warp] = ties;
  }
  __syncthreads();
}

/* The mass that the cut keeps of the segments. */
__device__ static Mass kept_mass(const Workspace *w, const Race &race, Cut cut) {
  Mass sum = 0;
  unsigned ties = 0;
  for (int k = 0; k < WARPS; k++) {
    sum += w->warp_mass[k];
    ties += w->warp_ties[k];
  }
  if (ties > cut.ties) ties = cut.ties;
  return sum + ties * mass_of(race, __uint_as_float(cut.bits));
}

/* -- cuts and the draw ---------------------------------------------------------------------------------- */

/* The cut that keeps the fewest greatest elements (lower ids first among equals) of those that `cut` keeps, whose
 * number, or mass, reaches `limit`; `cut` itself when all together do not. The first digit has been counted. */
__device__ static Cut keep_greatest(Workspace *w, Race *race, Cut cut, Histogram h, Mass limit) {
  Mass above = 0;
  uint32_t prefix = 0;
  for (int level = 0; level < LEVELS; level++) {
    if (level > 0) {
      h.shift -= DIGIT_BITS;
      h.prefix = prefix;
      clear_bins(w);
      for_elements(w, *race, (int)threadIdx.x, race->count, THREADS,
                   [&](int, float e) { tally_element(w, *race, h, cut, e); });
    }
    if (threadIdx.x == 0 && cut.ties > 0) add_weight(w, *race, h, __uint_as_float(cut.bits), cut.ties);
    uint32_t digit;
    Mass over;
    if (!find_digit(w, h.tally, limit - above, &digit, &over)) return cut;
    prefix = prefix << DIGIT_BITS | digit;
    above += over;
    if (level == 0) shorten(w, race, prefix << h.shift);
  }
  /* The digits now spell one value; how many of its equals are needed? */
  Mass value = h.tally == TALLY_COUNT ? 1 : mass_of(*race, __uint_as_float(prefix));
  return Cut{prefix, (unsigned)((limit - above + value - 1) / value)};
}

/* The first id whose cumulative sum exceeds u times the whole, u in units of 2^-24; -1 of nothing. The segments of
 * the whole race have been summed; then those of the segment that was hit, until it is one element. */
__device__ static int draw(Workspace *w, const Race &race, Cut cut, uint32_t u) {
  Mass total = kept_mass(w, race, cut), tie = mass_of(race, __uint_as_float(cut.bits)), sum = 0;
  if (total == 0) return -1;
  Mass limit = (total >> 24) * u + ((total & 0xffffff) * u >> 24); /* below the total */
  int first = 0, size = race.count;
  for (;;) {
    int hit = 0;
    for (; hit < WARPS - 1; hit++) {
      unsigned ties = w->warp_ties[hit] < cut.ties ? w->warp_ties[hit] : cut.ties;
      Mass mass = w->warp_mass[hit] + ties * tie;
      if (sum + mass > limit) break;
      sum += mass;
      cut.ties -= ties;
    }
    int length = segment_length(size), end = first + size;
    first += hit * length;
    size = end - first < length ? end - first : length;
    if (size <= 1) break;
    sum_segments(w, race, cut, first, size, Histogram{TALLY_NOTHING, 0, 0, 0});
  }
  return race.listed ? w->ids[first] : first;
}

/* top-k, then top-p of what is left, then the draw. `h` is of the first cut, and counted. */
__device__ static int winner(Workspace *w, Race race, const SampleRow &row, Mass total, Histogram h,
                             bool top_k) {
  Cut cut = {0, 0};
  bool top_p = row.top_p < 1;
  Histogram nothing = {TALLY_NOTHING, 0, 0, 0};
  if (top_k) {
    cut = keep_greatest(w, &race, cut, h, (Mass)row.top_k);
    if (top_p) {
      clear_bins(w);
      h.tally = TALLY_MASS;
    }
    sum_segments(w, race, cut, 0, race.count, top_p ? h : nothing);
    total = kept_mass(w, race, cut);
  }
  if (top_p) {
    Mass limit = (Mass)ceil(fmax((double)row.top_p, 0.0) * (double)total);
    cut = keep_greatest(w, &race, cut, h, limit > 0 ? limit : 1);
    sum_segments(w, race, cut, 0, race.count, nothing);
  }
  return draw(w, race, cut, random_units(row.key, row.sample, row.position));
}

__global__ void __launch_bounds__(THREADS)
    sample_kernel(int32_t *ids, float *logprob, const float *logits, int64_t stride, int n, int shift,
                  const SampleRow *rows) {
  __shared__ Workspace workspace;
  Workspace *w = &workspace;
  const SampleRow &row = rows[blockIdx.x];
  logits += blockIdx.x * stride;
  bool greedy = !(row.temperature > 0), top_k = row.top_k > 0 && row.top_k < n, top_p = row.top_p < 1;
  float temperature = greedy ? 1.0f : row.temperature, highest;
  int best, id;
  find_highest(w, logits, n, &highest, &best);
  id = best;
  if (best < 0) {
    if (threadIdx.x == 0 && logprob) logprob[blockIdx.x] = NAN;
  } else if (!greedy || logprob) {
    Race race = {logits, n, false, highest, 1.0f / temperature, ldexpf(1.0f, shift)};
    Histogram h = {TALLY_NOTHING, DIGIT_BITS * (LEVELS - 1), 0, 0};
    if (!greedy && (top_k || top_p)) h.tally = top_k ? TALLY_COUNT : TALLY_MASS;
    /* All elements below (1 - p) / n are less than what top-p leaves out (a total is at least 1): they need not
     * be counted, which spares the bins that nearly all tokens would crowd into. */
    if (h.tally == TALLY_MASS) h.least = float_bits(0.99f * fmaxf(1.0f - row.top_p, 0.0f) / (float)n);
    clear_bins(w);
    sum_segments(w, race, Cut{0, 0}, 0, n, h);
    Mass total = kept_mass(w, race, Cut{0, 0});
    if (!greedy) id = winner(w, race, row, total, h, top_k);
    if (id < 0) id = best;
    if (threadIdx.x == 0 && logprob) {
      double sum = ldexp((double)total, -shift);
      logprob[blockIdx.x] = (float)(((double)logits[id] - (double)highest) / (double)temperature - log(sum));
    }
  }
  if (threadIdx.x == 0) ids[blockIdx.x] = id;
}

}  // namespace

extern "C" void cuda_sample(Compute *c, Tensor ids, Tensor logprob, Tensor logits, const SampleRow *rows) {
  if (c->dry) return;
  int64_t n = logits.dim[1];
  ASSERT(logits.dtype == DTYPE_F32 && n > 0 && n < INT32_MAX / 8);
  int shift = 62; /* n units of 1 stay below 2^63 */
  while (shift > 0 && n >> (62 - shift) > 0) shift--;
  if (shift > 50) shift = 50;
  LAUNCH(c, sample_kernel, dim3((unsigned)logits.dim[0]), dim3(THREADS), 0, data<int32_t>(ids),
         data<float>(logprob), data<const float>(logits), logits.stride[0], (int)n, shift, rows);
}
