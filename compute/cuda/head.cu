/* Language-model head fused with log-softmax: logits exist for a chunk of rows at a time, in F32.
 *
 * The products are cuda_linear's and its backwards'. Between them a block takes a row: maximum, sum of
 * exponentials and sum of their exponents in one pass (Milakov & Gimelshein 2018, "Online normalizer calculation
 * for softmax"; the sum for the entropy rescaled along with the other), then, in the backward, a second pass that
 * leaves d loss / d logit in place of the logit. With BF16 activations that gradient is BF16, for the tensor
 * cores, and lies in the first half of its logits' row.
 *
 * Floor, bytes per logit: forward 4 written by the product, 4 read. Backward 4 written, 4 read twice (the second
 * time mostly from the second-level cache where the rows under way fit it), 4 or 2 written, and 4 or 2 read by
 * each of the two products that follow. The products' own time is 2 C multiplications per logit and product. */
#include "compute/cuda/kernel.cuh"

#include <ptx.cuh>

namespace {

enum { HEAD_THREADS = 512, CHUNK_UNIT = 64, ROW_UNIT = 64 };
#ifdef DROVER_CUDA_HOST
enum { CHUNK_FLOATS = 4 << 20 }; /* small tests see several chunks */
#else
enum { CHUNK_FLOATS = 64 << 20 }; /* 256 MiB */
#endif

/* -- one row --------------------------------------------------------------------------------------------- */

/* z = cap(logit) / temperature. */
typedef struct Transform {
  float cap, inverse_cap, inverse_temperature; /* cap 0 = none */
} Transform;

__device__ __forceinline__ float capped(float logit, Transform t) {
  return t.cap > 0 ? t.cap * tanhf(logit * t.inverse_cap) : logit;
}

/* With highest the maximum so far: sum of e^y and of y e^y, y = z - highest. */
typedef struct Online {
  float highest, sum, weighted;
} Online;

/* The same sums about another highest. */
__device__ __forceinline__ Online moved(Online a, float highest) {
  const float shift = a.highest - highest, factor = exp2_fast(shift * LOG2_E);
  return {highest, a.sum * factor, (a.weighted + shift * a.sum) * factor};
}

template <int N>
__device__ __forceinline__ void online_add(Online *a, const float z[N]) {
  float highest = a->highest;
#pragma unroll
  for (int i = 0; i < N; i++) highest = fmaxf(highest, z[i]);
  if (highest > a->highest) *a = moved(*a, highest);
#pragma unroll
  for (int i = 0; i < N; i++) {
    const float y = z[i] - highest, e = exp2_fast(y * LOG2_E);
    a->sum += e;
    a->weighted = fmaf(fmaxf(y, LOWEST), e, a->weighted); /* -infinity times 0 is 0 here */
  }
}

/* What is known of a row's distribution over z. */
typedef struct RowStats {
  float highest, log_sum, entropy; /* log_sum: of z - highest */
} RowStats;

/* The whole block; logits is 16-byte aligned, and may be read to the next multiple of four. */
__device__ __forceinline__ RowStats row_stats(const float *logits, int count, Transform t) {
  constexpr int FOURS = 4; /* reads under way */
  Online mine = {LOWEST, 0, 0};
  for (int first = (int)threadIdx.x * 4; first < count; first += FOURS * HEAD_THREADS * 4) {
    Pack<float, 4> z[FOURS];
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
      const int at = first + k * HEAD_THREADS * 4;
      if (at < count) z[k] = load_pack<float, 4>(logits + at);
    }
#pragma unroll
    for (int k = 0; k < FOURS; k++) {
      const int left = count - (first + k * HEAD_THREADS * 4);
      if (left <= 0) break;
#pragma unroll
      for (int i = 0; i < 4; i++) {
        z[k].at[i] = i < left ? capped(z[k].at[i], t) * t.inverse_temperature : -INFINITY;
      }
      online_add<4>(&mine, z[k].at);
    }
  }
  const float highest = block_max<HEAD_THREADS>(mine.highest);
  mine = moved(mine, highest);
  const float sum = block_sum<HEAD_THREADS>(mine.sum), weighted = block_sum<HEAD_THREADS>(mine.weighted);
  const float log_sum = logf(sum);
  return {highest, log_sum, log_sum - weighted / sum};
}

/* NaN, to be seen, for a target that is no token. */
__device__ __forceinline__ float row_logprob(const float *logits, int count, Transform t, RowStats stats,
                                             int target) {
  if (target < 0 || target >= count) return NAN;
  return (capped(logits[target], t) * t.inverse_temperature - stats.highest) - stats.log_sum;
}

typedef struct HeadRows {
  float *logits; /* rows `stride` apart, the chunk's */
  int64_t stride;
  int count, padded; /* of a row; with its padding */
  Transform transform;
  const int32_t *targets;
  float *logprob, *entropy; /* NULL: not wanted */
} HeadRows;

__global__ void __launch_bounds__(HEAD_THREADS) head_logprob_kernel(const HeadRows h) {
  const int64_t row = blockIdx.x;
  const float *logits = h.logits + row * h.stride;
  const RowStats stats = row_stats(logits, h.count, h.transform);
  if (threadIdx.x == 0) {
    h.logprob[row] = row_logprob(logits, h.count, h.transform, stats, h.targets[row]);
    if (h.entropy) h.entropy[row] = stats.entropy;
  }
}

/* The gradient of the product x W^T + bias:
 *   d logprob / d z_j = [j = target] - p_j,   d entropy / d z_j = -p_j (log p_j + entropy);
 *   d z / d logit = (1 - tanh^2) / temperature. */
__device__ __forceinline__ float logit_gradient(float logit, Transform t, RowStats stats, bool is_target,
                                                float dlogprob, float dentropy) {
  const float tangent = t.cap > 0 ? tanhf(logit * t.inverse_cap) : 0.0f;
  const float z = (t.cap > 0 ? t.cap * tangent : logit) * t.inverse_temperature;
  const float log_p = fmaxf(LOWEST, (z - stats.highest) - stats.log_sum), p = exp2_fast(log_p * LOG2_E);
  float d = -dlogprob * p;
  if (dentropy != 0) d = fmaf(-dentropy * p, log_p + stats.entropy, d);
  if (is_target) d += dlogprob;
  return d * t.inverse_temperature * (1.0f - tangent * tangent);
}

/* Element j of T in place of element j of F32, in the same row. Narrow ones lie where other threads' logits
 * were: a sweep is read by all before any of it is written, and what it overwrites is no later sweep's. */
template <class T>
__global__ void __launch_bounds__(HEAD_THREADS)
    head_gradient_kernel(const HeadRows h, const float *dlogprobs, const float *dentropies) {
  constexpr int EACH = 8, SWEEP = HEAD_THREADS * EACH;
  const int64_t row = blockIdx.x;
  float *logits = h.logits + row * h.stride;
  T *out = reinterpret_cast<T *>(logits);
  const int target = h.targets[row];
  const float dlogprob = dlogprobs[row], dentropy = dentropies ? dentropies[row] : 0.0f;
  const RowStats stats = row_stats(logits, h.count, h.transform);
  if (h.logprob && threadIdx.x == 0) {
    h.logprob[row] = row_logprob(logits, h.count, h.transform, stats, target);
  }
  __syncthreads(); /* the target's logit has been read */
  for (int sweep = 0; sweep < h.padded; sweep += SWEEP) {
    const int first = sweep + (int)threadIdx.x * EACH;
    Pack<T, EACH> d;
    if (first <
        h.padded) { /* the row's padding may be read: it is memory of the chunk; it gets no gradient */
      const Pack<float, EACH> z = load_pack<float, EACH>(logits + first);
#pragma unroll
      for (int i = 0; i < EACH; i++) {
        const float gradient =
            logit_gradient(z.at[i], h.transform, stats, first + i == target, dlogprob, dentropy);
        d.at[i] = from_float<T>(first + i < h.count ? gradient : 0.0f);
      }
    }
    if (sizeof(T) < sizeof(float)) __syncthreads();
    if (first < h.padded) store_pack(out + first, d);
  }
}

/* -- chunks ---------------------------------------------------------------------------------------------- */

/* Rows of logits at a time: as many as CHUNK_FLOATS hold, in whole CHUNK_UNITs where they can be; a function of V
 * alone, so that a row's chunk depends on its number alone. Rows begin at multiples of 256 bytes. */
static int64_t chunk_rows(int64_t stride) {
  const int64_t most = CHUNK_FLOATS / stride;
  return most >= CHUNK_UNIT ? most / CHUNK_UNIT * CHUNK_UNIT : most > 0 ? most : 1;
}

typedef struct Chunks {
  Tensor logits; /* [rows, V] F32, padded rows */
  int64_t rows, total;
} Chunks;

static Chunks chunks_new(Compute *c, HeadTerms z) {
  const int64_t V = weight_outputs(z.w), stride = divide_up(V, ROW_UNIT) * ROW_UNIT,
                most = chunk_rows(stride);
  Chunks chunks = {};
  chunks.total = z.x.dim[0];
  chunks.rows = most < chunks.total ? most : chunks.total;
  chunks.logits = tensor_2d(scratch_new<float>(c, chunks.rows * stride), DTYPE_F32, chunks.rows, V);
  chunks.logits.stride[0] = stride;
  return chunks;
}

/* `count` rows of the terms; w, bias and b are all of them. */
static HeadTerms terms_of(HeadTerms all, int64_t first, int64_t count) {
  HeadTerms part = all;
  if (!tensor_is_none(all.x)) part.x = tensor_rows(all.x, first, count);
  if (!tensor_is_none(all.u)) part.u = tensor_rows(all.u, first, count);
  return part;
}

static Weight plain(Tensor data) {
  Weight weight = {};
  weight.data = data;
  return weight;
}

/* The table with the zeros behind it, and logits or their gradients with as many columns. */
static Weight padded_table(HeadTerms z) {
  Weight w = z.w;
  if (z.padded > 0) w.data.dim[0] = z.padded;
  return w;
}
static Tensor padded_columns(Tensor logits, HeadTerms z) {
  ASSERT(z.padded <= divide_up(logits.dim[1], ROW_UNIT) * ROW_UNIT);
  if (z.padded > 0) logits.dim[1] = z.padded;
  return logits;
}

/* The thin product first: the large one reads what it adds to behind its arithmetic. Columns of the padding have no meaning; a bias
 * has none for them. */
static void chunk_products(Compute *c, Tensor logits, HeadTerms z) {
  const bool thin = !tensor_is_none(z.u);
  if (thin) cuda_linear(c, logits, z.u, plain(z.b), {}, z.scale, 0.0f);
  if (tensor_is_none(z.bias)) {
    cuda_linear(c, padded_columns(logits, z), z.x, padded_table(z), {}, 1.0f, thin ? 1.0f : 0.0f);
  } else {
    cuda_linear(c, logits, z.x, z.w, z.bias, 1.0f, thin ? 1.0f : 0.0f);
  }
}

/* Logits of the rows from `first` on, edited where that is asked for; slopes: of the edits, for the backward, or none. */
static void chunk_logits(Compute *c, Tensor logits, HeadTerms z, HeadSpec spec, int64_t first,
                         Tensor slopes) {
  chunk_products(c, logits, z);
  if (!logits_edited(spec.edits)) return;
  ASSERT(!(spec.softcap > 0));
  cuda_edit_logits(c, logits, edits_rows(spec.edits, first, logits.dim[0]), slopes);
}

/* Room for the slopes of a chunk's edits; none without them. */
static Tensor chunk_slopes(Compute *c, HeadSpec spec, int64_t rows) {
  if (tensor_is_none(spec.edits.ids)) return {};
  return tensor_2d(scratch_new<float>(c, rows * spec.edits.most), DTYPE_F32, rows, spec.edits.most);
}

/* dz: gradient of the chunk's logits, zero in the padding */
static void chunk_backward(Compute *c, HeadTerms d, Tensor dz, HeadTerms z) {
  if (!tensor_is_none(d.x))
    cuda_linear_backward_input(c, d.x, padded_columns(dz, z), padded_table(z), 1.0f, 0.0f);
  if (!tensor_is_none(d.w.data))
    cuda_linear_backward_weight(c, padded_table(d), {}, padded_columns(dz, d), z.x, 1.0f);
  if (!tensor_is_none(d.bias)) cuda_linear_backward_weight(c, {}, d.bias, dz, z.x, 1.0f);
  if (tensor_is_none(z.u)) return;
  if (!tensor_is_none(d.u)) cuda_linear_backward_input(c, d.u, dz, plain(z.b), z.scale, 0.0f);
  if (!tensor_is_none(d.b)) cuda_linear_backward_weight(c, plain(d.b), {}, dz, z.u, z.scale);
}

static HeadRows head_rows(Tensor logits, Tensor targets, int64_t first, Tensor logprob, Tensor entropy,
                          HeadSpec spec) {
  ASSERT(logits.dim[1] < INT32_MAX / 2);
  HeadRows h = {};
  h.logits = data<float>(logits);
  h.stride = logits.stride[0];
  h.count = (int)logits.dim[1];
  h.padded = (int)logits.stride[0];
  h.transform = {spec.softcap, spec.softcap > 0 ? 1 / spec.softcap : 0.0f, 1 / spec.temperature};
  h.targets = data<int32_t>(targets) + first;
  if (!tensor_is_none(logprob)) h.logprob = data<float>(logprob) + first;
  if (!tensor_is_none(entropy)) h.entropy = data<float>(entropy) + first;
  return h;
}

/* The chunk's logits become their gradients, in the dtype of x. */
static Tensor chunk_gradient(Compute *c, Tensor logits, DType dtype, HeadRows h, Tensor dlogprob,
                             Tensor dentropy, int64_t first) {
  Tensor gradient = logits;
  if (dtype == DTYPE_BF16) {
    gradient.dtype = DTYPE_BF16;
    gradient.stride[0] = 2 * logits.stride[0];
  }
  if (c->dry) return gradient;
  const float *dlogprobs = data<float>(dlogprob) + first;
  const float *dentropies = tensor_is_none(dentropy) ? NULL : data<float>(dentropy) + first;
  WITH_TYPE(gradient.dtype, T,
            LAUNCH(c, head_gradient_kernel<T>, dim3((unsigned)logits.dim[0]), dim3(HEAD_THREADS), 0, h,
                   dlogprobs, dentropies));
  return gradient;
}

}  // namespace

extern "C" void cuda_head_logprob(Compute *c, Tensor logprob, Tensor entropy, HeadTerms z, Tensor targets,
                                  HeadSpec spec) {
  const size_t mark = scratch_open(c);
  const Chunks chunks = chunks_new(c, z);
  for (int64_t first = 0; first < chunks.total; first += chunks.rows) {
    const int64_t count = chunks.total - first < chunks.rows ? chunks.total - first : chunks.rows;
    const Tensor logits = tensor_rows(chunks.logits, 0, count);
    chunk_logits(c, logits, terms_of(z, first, count), spec, first, {});
    if (c->dry) continue;
    LAUNCH(c, head_logprob_kernel, dim3((unsigned)count), dim3(HEAD_THREADS), 0,
           head_rows(logits, targets, first, logprob, entropy, spec));
  }
  scratch_close(c, mark);
}

extern "C" void cuda_head_logprob_backward(Compute *c, HeadTerms d, Tensor logprob, HeadTerms z,
                                           Tensor targets, Tensor dlogprob, Tensor dentropy, HeadSpec spec) {
  const size_t mark = scratch_open(c);
  const Chunks chunks = chunks_new(c, z);
  const Tensor slopes = chunk_slopes(c, spec, chunks.rows);
  for (int64_t first = 0; first < chunks.total; first += chunks.rows) {
    const int64_t count = chunks.total - first < chunks.rows ? chunks.total - first : chunks.rows;
    const Tensor logits = tensor_rows(chunks.logits, 0, count);
    const HeadTerms part = terms_of(z, first, count);
    chunk_logits(c, logits, part, spec, first, slopes);
    const HeadRows h = head_rows(logits, targets, first, logprob, {}, spec);
    const Tensor dz = chunk_gradient(c, logits, z.x.dtype, h, dlogprob, dentropy, first);
    if (logits_edited(spec.edits))
      cuda_edit_logits_backward(c, dz, edits_rows(spec.edits, first, count), slopes);
    chunk_backward(c, terms_of(d, first, count), dz, part);
  }
  scratch_close(c, mark);
}
