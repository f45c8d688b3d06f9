/* Attention of rollouts over a paged cache (Kwon et al. 2023), with split keys (flash-decoding: Dao et al.
 * 2023).
 *
 * The keys of a row are cut into partitions of 256 positions, counted from position 0: what is computed of a
 * row is a function of its query, its position and its cache alone. A partition's four warps give each a
 * maximum, a sum and an out over their own keys, which are folded in the order of the warps, and the
 * partitions in order of position. Where that is done differs with the number of rows, its arithmetic does
 * not:
 *   - few rows: a block for every partition, so that a long context is read by many multiprocessors; partial
 *     results go to scratch, and a second kernel folds them;
 *   - many rows: a block goes through all partitions of its rows and folds on the way.
 *
 * A block serves the query heads that share a key head, and up to a few consecutive rows of one sequence that
 * lie together in the call (a prefill chunk): the block of the first of them does the work, those of the
 * others return at once. Grids come from shapes alone.
 *
 * The floor of decoding is one reading of the row's keys and values. A prefill chunk of n rows reads its
 * context n * group / columns times (group: query heads per key head; columns of a block: 16, above head size
 * 128 8), from L2 for the most part. */
#include "compute/cuda/attention_paged_plain.cuh"
#include "compute/cuda/attention_paged_warp.cuh"

#include "compute/cuda/paged.cuh"
#include "compute/cuda/runtime.cuh"

namespace {

enum { THREADS = WARPS * WARP, FOLD_THREADS = 128, MAX_SIZE = 256 };

typedef struct PagedArguments {
  void *out;
  const void *q;
  Cached cached;
  const int *table, *sequence, *position;
  float *partial;                           /* [rows, H, partitions, D], not divided by the sums */
  float2 *partial_stats;                    /* [rows, H, partitions]: maximum, sum */
  int64_t out_row, out_head, q_row, q_head; /* strides, in elements */
  int64_t block_stride, head_stride, key_stride, table_stride; /* of the cache; of codes, in keys */
  int rows, heads, group, size, block_size;                    /* group: query heads of a key head */
  int heads_per_block, rows_per_block, parts; /* parts: blocks that share a key head of a row */
  int partitions;                             /* that a row may have */
  bool split, narrow, aligned;                /* narrow: q and out are BF16; aligned: q in 16 bytes */
  ScoreSpec score;
} PagedArguments;

__device__ __forceinline__ int first_key(const PagedArguments &a, int position) {
  return max(0, position - a.score.window + 1);
}

/* -- folding: running (maximum, sum, out) takes up another ---------------------------------------------- */

struct Running {
  float highest, sum;
};
struct Factors {
  float keep, add; /* of what there was; of what comes */
};

/* A partition in which the row sees nothing is left out (live == false): it is there for other rows. */
__device__ __forceinline__ Factors fold_factors(Running *running, float2 stats, bool *live) {
  *live = stats.y != 0;
  if (!*live) return {1, 0};
  const float highest = fmaxf(running->highest, stats.x);
  const Factors f = {exp2_fast(running->highest - highest), exp2_fast(stats.x - highest)};
  running->highest = highest;
  running->sum = fmaf(stats.y, f.add, __fmul_rn(running->sum, f.keep));
  return f;
}
__device__ __forceinline__ float fold_value(float running, float x, Factors f) {
  return fmaf(x, f.add, __fmul_rn(running, f.keep));
}

__device__ __forceinline__ void store_out(const PagedArguments &a, int64_t at, float x) {
  if (a.narrow) {
    static_cast<bf16 *>(a.out)[at] = from_float<bf16>(x);
  } else {
    static_cast<float *>(a.out)[at] = x;
  }
}

/* -- the block ------------------------------------------------------------------------------------------ */

/* The rows and heads of a block: column i is row i / heads_per_block, head i % heads_per_block of them. */
struct Segment {
  int first_row, first_head, kv_head, sequence;
  int columns;
  int first, last;  /* keys that any row of it sees */
  int own_position; /* of row first_row + lane; -1 beyond the segment */
};

/* False when the block of an earlier row has this one's work. */
__device__ __forceinline__ bool segment_of(const PagedArguments &a, Segment *s, int lane) {
  const int n = (int)blockIdx.x, part = (int)blockIdx.y % a.parts;
  s->sequence = a.sequence[n];
  if (n % a.rows_per_block != 0 && a.sequence[n - 1] == s->sequence) return false;
  const int most = min(a.rows_per_block - n % a.rows_per_block, a.rows - n);
  const bool same = lane < most && a.sequence[n + lane] == s->sequence;
  const unsigned together = __ballot_sync(FULL_MASK, same);
  const int rows = __ffs((int)~together) - 1; /* fewer than a warp */
  s->own_position = lane < rows ? a.position[n + lane] : -1;
  s->first = INT32_MAX;
  s->last = 0;
  for (int i = 0; i < rows; i++) {
    const int position = __shfl_sync(FULL_MASK, s->own_position, i);
    s->first = min(s->first, first_key(a, position));
    s->last = max(s->last, position);
  }
  s->kv_head = (int)blockIdx.y / a.parts;
  s->first_row = n;
  s->first_head = s->kv_head * a.group + part * a.heads_per_block;
  s->columns = (rows - 1) * a.heads_per_block + min(a.heads_per_block, a.group - part * a.heads_per_block);
  return true;
}

/* In every lane, for a column that any lane asks for; all lanes take part. */
__device__ __forceinline__ int column_position(const PagedArguments &a, const Segment &s, int column) {
  const int position = __shfl_sync(FULL_MASK, s.own_position, min(column / a.heads_per_block, WARP - 1));
  return column < s.columns ? position : -1;
}

template <class W>
__device__ __forceinline__ void warp_open(W &w, const PagedArguments &a, const Segment &s, int lane) {
#pragma unroll
  for (int group = 0; group < W::GROUPS; group++) {
    const int column = query_column(w, group, lane);
    const int64_t row = s.first_row + column / a.heads_per_block;
    const int64_t head = s.first_head + column % a.heads_per_block;
    const int64_t at = row * a.q_row + head * a.q_head;
    const char *q = static_cast<const char *>(a.q) + at * (a.narrow ? 2 : 4);
    warp_query(w, q, a.narrow, group, a.size, column < s.columns, a.aligned, lane);
#pragma unroll
    for (int i = 0; i < W::OWN; i++) {
      const int own = own_column(w, group, i, lane);
      const int position = column_position(a, s, own);
      const int own_head = s.first_head + own % a.heads_per_block;
      w.column[group][i] = {position, position >= 0 ? score_slope(a.score, own_head) : 0.0f};
    }
  }
}

/* Where the cache holds a key; -1 when no row of the block sees it. */
__device__ __forceinline__ int64_t key_offset(const PagedArguments &a, const Segment &s, int key) {
  if (key < s.first || key > s.last) return -1;
  const int64_t block = a.table[s.sequence * a.table_stride + key / a.block_size];
  return block * a.block_stride + s.kv_head * a.head_stride + key % a.block_size * a.key_stride;
}

/* The warps' results of a partition: factors in the lane that has the column's number. */
struct PartitionFold {
  float warp[WARPS];
  float2 stats;
};

template <int COLUMNS>
__device__ __forceinline__ PartitionFold partition_fold(const float2 (*stats)[COLUMNS], int column,
                                                        int columns) {
  PartitionFold f = {{}, {LOWEST, 0}};
  if (column >= columns) return f;
#pragma unroll
  for (int w = 0; w < WARPS; w++) f.stats.x = fmaxf(f.stats.x, stats[w][column].x);
#pragma unroll
  for (int w = 0; w < WARPS; w++) {
    f.warp[w] = exp2_fast(stats[w][column].x - f.stats.x);
    f.stats.y = fmaf(stats[w][column].y, f.warp[w], f.stats.y);
  }
  return f;
}

/* Where a column's partial results lie. */
__device__ __forceinline__ int64_t partial_index(const PagedArguments &a, int row, int head, int partition) {
  return ((int64_t)row * a.heads + head) * a.partitions + partition;
}

template <class W>
__device__ __forceinline__ void paged_block(const PagedArguments &a) {
  enum { COLUMNS = W::COLUMNS, PADDED = W::PADDED, EACH = COLUMNS * PADDED / THREADS };
  __shared__ int64_t offset[PARTITION];
  alignas(16) __shared__ float result[WARPS][COLUMNS][PADDED + 4];
  __shared__ float2 stats[WARPS][COLUMNS];
  const int tid = (int)threadIdx.x, warp = tid / WARP, lane = tid % WARP;
  Segment s;
  if (!segment_of(a, &s, lane)) return;
  int partition = s.first / PARTITION, last = s.last / PARTITION;
  if (a.split) {
    if ((int)blockIdx.z < partition || (int)blockIdx.z > last) return;
    partition = last = (int)blockIdx.z;
  }
  W w;
  warp_open(w, a, s, lane);
  /* Columns are lanes here: a lane keeps the statistics of the column with its number. */
  const int position = column_position(a, s, lane);
  const int head = s.first_head + lane % a.heads_per_block, row = s.first_row + lane / a.heads_per_block;
  const bool alone = first_key(a, position) / PARTITION == position / PARTITION; /* its only partition */
  const bool finish = position >= 0 && (!a.split || (alone && position / PARTITION == partition));
  Running running = {LOWEST, 0};
  float out[EACH] = {};
  int64_t ahead[PARTITION / THREADS];
#pragma unroll
  for (int i = 0; i < PARTITION / THREADS; i++)
    ahead[i] = key_offset(a, s, partition * PARTITION + tid + i * THREADS);

  for (; partition <= last; partition++) {
    const int start = partition * PARTITION;
#pragma unroll
    for (int i = 0; i < PARTITION / THREADS; i++) offset[tid + i * THREADS] = ahead[i];
    __syncthreads(); /* also: the last partition's results are read */
#pragma unroll
    for (int i = 0; i < PARTITION / THREADS; i++)
      ahead[i] = key_offset(a, s, start + PARTITION + tid + i * THREADS);
    warp_partition(w, result[warp], stats[warp], a.cached, offset, a.size, s.columns, a.score, start, warp,
                   lane);
    __syncthreads();
    const PartitionFold fold = partition_fold<COLUMNS>(stats, lane, s.columns);
    bool live;
    const Factors factors = fold_factors(&running, fold.stats, &live);
    if (!finish && position >= 0 && warp == 0) {
      a.partial_stats[partial_index(a, row, head, partition)] = fold.stats;
    }
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int column = (tid + i * THREADS) / PADDED, d = (tid + i * THREADS) % PADDED;
      if (column >= s.columns) break; /* alike in the whole warp */
      float x = 0;
#pragma unroll
      for (int k = 0; k < WARPS; k++) {
        x = fmaf(result[k][column][d], __shfl_sync(FULL_MASK, fold.warp[k], column), x);
      }
      const Factors f = {__shfl_sync(FULL_MASK, factors.keep, column),
                         __shfl_sync(FULL_MASK, factors.add, column)};
      if (__shfl_sync(FULL_MASK, (int)live, column)) out[i] = fold_value(out[i], x, f);
      const int64_t index = partial_index(a, s.first_row + column / a.heads_per_block,
                                          s.first_head + column % a.heads_per_block, partition);
      if (!__shfl_sync(FULL_MASK, (int)finish, column) && d < a.size) a.partial[index * a.size + d] = x;
    }
  }
  const float inverse = 1.0f / running.sum;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    const int column = (tid + i * THREADS) / PADDED, d = (tid + i * THREADS) % PADDED;
    if (column >= s.columns) break;
    const float factor = __shfl_sync(FULL_MASK, inverse, column);
    const bool wanted = __shfl_sync(FULL_MASK, (int)finish, column) && d < a.size;
    const int64_t at = (s.first_row + column / a.heads_per_block) * a.out_row +
                       (s.first_head + column % a.heads_per_block) * a.out_head + d;
    if (wanted) store_out(a, at, out[i] * factor);
  }
}

/* Fewer blocks to a multiprocessor than would be there with spilled registers, which are memory traffic too: keys and values come by
 * many loads of each thread at once (no card has been asked which is better). */
template <class Stored, int CHUNKS, int GROUPS>
__global__ void __launch_bounds__(THREADS, CHUNKS <= 2 && GROUPS == 1 ? 3 : 2)
    paged_tensor_kernel(PagedArguments a) {
  paged_block<TensorWarp<Stored, CHUNKS, GROUPS>>(a);
}
template <class T, int CHUNKS>
__global__ void __launch_bounds__(THREADS, CHUNKS <= 4 ? 3 : 2) paged_plain_kernel(PagedArguments a) {
  paged_block<PlainWarp<T, CHUNKS>>(a);
}

/* A block for a row and a head; what a partition's block has not finished. */
__global__ void __launch_bounds__(FOLD_THREADS) paged_fold_kernel(PagedArguments a) {
  const int row = (int)blockIdx.x, head = (int)blockIdx.y, position = a.position[row];
  const int first = first_key(a, position) / PARTITION, last = position / PARTITION;
  if (first == last) return;
  Running running = {LOWEST, 0};
  float out[MAX_SIZE / FOLD_THREADS] = {};
#pragma unroll 4
  for (int partition = first; partition <= last; partition++) {
    const int64_t index = partial_index(a, row, head, partition);
    bool live;
    const Factors f = fold_factors(&running, a.partial_stats[index], &live);
#pragma unroll
    for (int i = 0; i < MAX_SIZE / FOLD_THREADS; i++) {
      const int d = (int)threadIdx.x + i * FOLD_THREADS;
      if (live && d < a.size) out[i] = fold_value(out[i], a.partial[index * a.size + d], f);
    }
  }
  const float inverse = 1.0f / running.sum;
#pragma unroll
  for (int i = 0; i < MAX_SIZE / FOLD_THREADS; i++) {
    const int d = (int)threadIdx.x + i * FOLD_THREADS;
    if (d < a.size) store_out(a, row * a.out_row + head * a.out_head + d, out[i] * inverse);
  }
}

/* -- host ----------------------------------------------------------------------------------------------- */

static bool aligned_heads(Tensor x) {
  return (uintptr_t)x.data % 16 == 0 && x.stride[0] % 8 == 0 && x.stride[1] % 8 == 0;
}

static bool tensor_cores(Tensor q, PagedCache cache) {
  const size_t bytes = 8 * dtype_size(cache.keys.dtype); /* that a lane takes at once */
  const bool aligned = (uintptr_t)cache.keys.data % bytes == 0 && (uintptr_t)cache.values.data % bytes == 0 &&
                       cache.keys.stride[0] % 8 == 0 && cache.keys.stride[1] % 8 == 0 &&
                       cache.keys.stride[2] % 8 == 0;
  return aligned && q.dtype == DTYPE_BF16 && cache.keys.dtype != DTYPE_F32 && q.dim[2] % 8 == 0;
}

/* Most rows whose partitions get blocks of their own: until every multiprocessor has several blocks, and no
 * more than a modest workspace holds. More rows never need more workspace than these. */
static int64_t split_rows(const Compute *c, int64_t heads, int64_t kv_heads, int64_t partitions,
                          int64_t size) {
  const int64_t bytes = heads * partitions * (size + 2) * (int64_t)sizeof(float);
  const int64_t fitting = ((int64_t)32 << 20) / bytes;
  const int64_t wanted = divide_up((int64_t)8 * c->device->multiprocessors, kv_heads);
  return fitting < 1 ? 1 : fitting < wanted ? fitting : wanted;
}

template <class Stored>
static void launch_tensor(Compute *c, const PagedArguments &a, dim3 grid, int groups) {
  if (a.size <= 64) {
    if (groups == 1) {
      LAUNCH(c, (paged_tensor_kernel<Stored, 2, 1>), grid, THREADS, 0, a);
    } else {
      LAUNCH(c, (paged_tensor_kernel<Stored, 2, 2>), grid, THREADS, 0, a);
    }
  } else if (a.size <= 96) {
    if (groups == 1) {
      LAUNCH(c, (paged_tensor_kernel<Stored, 3, 1>), grid, THREADS, 0, a);
    } else {
      LAUNCH(c, (paged_tensor_kernel<Stored, 3, 2>), grid, THREADS, 0, a);
    }
  } else if (a.size <= 128) {
    if (groups == 1) {
      LAUNCH(c, (paged_tensor_kernel<Stored, 4, 1>), grid, THREADS, 0, a);
    } else {
      LAUNCH(c, (paged_tensor_kernel<Stored, 4, 2>), grid, THREADS, 0, a);
    }
  } else {
    LAUNCH(c, (paged_tensor_kernel<Stored, 8, 1>), grid, THREADS, 0, a);
  }
}

template <class T>
static void launch_plain(Compute *c, const PagedArguments &a, dim3 grid) {
  if (a.size <= 32) {
    LAUNCH(c, (paged_plain_kernel<T, 1>), grid, THREADS, 0, a);
  } else if (a.size <= 64) {
    LAUNCH(c, (paged_plain_kernel<T, 2>), grid, THREADS, 0, a);
  } else if (a.size <= 128) {
    LAUNCH(c, (paged_plain_kernel<T, 4>), grid, THREADS, 0, a);
  } else {
    LAUNCH(c, (paged_plain_kernel<T, 8>), grid, THREADS, 0, a);
  }
}

static PagedArguments arguments_of(Tensor out, Tensor q, PagedCache cache, Tensor sequence, Tensor position,
                                   AttentionSpec spec) {
  const Tensor keys = cache.keys, places = cache_places(cache);
  PagedArguments a = {};
  a.out = out.data;
  a.q = q.data;
  a.narrow = q.dtype == DTYPE_BF16;
  a.cached = {keys.data, cache.values.data, data<float>(cache.key_scales), data<float>(cache.value_scales),
              a.narrow};
  a.table = data<int>(cache.table);
  a.sequence = data<int>(sequence);
  a.position = data<int>(position);
  a.out_row = out.stride[0];
  a.out_head = out.stride[1];
  a.q_row = q.stride[0];
  a.q_head = q.stride[1];
  a.block_stride = places.stride[0];
  a.head_stride = places.stride[1];
  a.key_stride = places.stride[2];
  a.table_stride = cache.table.stride[0];
  a.rows = (int)q.dim[0];
  a.heads = (int)q.dim[1];
  a.group = (int)(q.dim[1] / keys.dim[1]);
  a.size = (int)q.dim[2];
  a.block_size = (int)keys.dim[2];
  a.partitions = (int)divide_up(cache.table.dim[1] * keys.dim[2], PARTITION);
  a.aligned = aligned_heads(q);
  a.score = score_spec(spec);
  return a;
}

static void launch_warps(Compute *c, const PagedArguments &a, DType cached, bool tensor, dim3 grid,
                         int groups) {
  if (tensor && cached == DTYPE_I8) {
    launch_tensor<int8_t>(c, a, grid, groups);
  } else if (tensor) {
    launch_tensor<bf16>(c, a, grid, groups);
  } else if (cached == DTYPE_I8) {
    launch_plain<int8_t>(c, a, grid);
  } else {
    WITH_TYPE(cached, T, launch_plain<T>(c, a, grid));
  }
}

}  // namespace

extern "C" void cuda_attention_paged(Compute *c, Tensor out, Tensor q, PagedCache cache, Tensor sequence,
                                     Tensor position, AttentionSpec spec) {
  const int64_t rows = q.dim[0], heads = q.dim[1], size = q.dim[2], kv_heads = cache.keys.dim[1];
  ASSERT(heads % kv_heads == 0 && cache.keys.dim[3] == size && size <= MAX_SIZE && q.dtype == out.dtype);
  PagedArguments a = arguments_of(out, q, cache, sequence, position, spec);
  const size_t mark = scratch_open(c);
  const int64_t most = split_rows(c, heads, kv_heads, a.partitions, size);
  const int64_t parted = (rows < most ? rows : most) * heads * a.partitions;
  a.partial = scratch_new<float>(c, parted * size);
  a.partial_stats = scratch_new<float2>(c, parted);
  a.split = rows <= most && a.partitions > 1;
  if (!c->dry && rows > 0) {
    /* More rows than sequences: some of them are a chunk of one, and more columns read its keys at once. */
    const bool tensor = tensor_cores(q, cache), chunks = rows > cache.table.dim[0];
    const int groups = tensor && size <= 128 && (chunks || a.group > 8) ? 2 : 1;
    a.parts = (int)divide_up(a.group, 8 * groups);
    a.heads_per_block = (int)divide_up(a.group, a.parts);
    a.rows_per_block = a.parts > 1 ? 1 : 8 * groups / a.heads_per_block;
    const dim3 grid((unsigned)rows, (unsigned)(kv_heads * a.parts), a.split ? (unsigned)a.partitions : 1);
    launch_warps(c, a, cache.keys.dtype, tensor, grid, groups);
    if (a.split) LAUNCH(c, paged_fold_kernel, dim3((unsigned)rows, (unsigned)heads), FOLD_THREADS, 0, a);
  }
  scratch_close(c, mark);
}
