/* Collectives of a card's tensors (compute/collective.h): on a stream of their own, which events order against the operations. NCCL
 * moves the values (compute/comm_nccl.h), and a kernel sums them here, in the order of ranks.
 *
 * A reduction sends each slice to the rank whose it is, as a ring would in as many bytes: (size - 1)/size of the values out of each
 * rank, piece by piece through a workspace. An all-reduce then gathers the slices.
 * The host waits for none of this; ranks.cu looks after it. */
#include "compute/cuda/ranks.cuh"

/* Up to so many bytes of all ranks together go to each of them: one exchange instead of two. */
enum { SMALL = 256 << 10 };

static CommCards *cards_of(const Compute *c) {
  return c->comm.world->cards;
}

/* -- the order of things -------------------------------------------------------------------------------- */

/* The stream waits for the operations called so far. */
static RanksJob *begin(const Compute *c, const char *what) {
  Device *d = c->device;
  CommCards *ranks = cards_of(c);
  ASSERT(!d->recording);
  pthread_mutex_lock(&ranks->lock);
  while (ranks->started - ranks->seen == RANKS_JOBS) pthread_cond_wait(&ranks->changed, &ranks->lock);
  pthread_mutex_unlock(&ranks->lock);
  RanksJob *job = &ranks->jobs[(ranks->started + 1) % RANKS_JOBS];
  job->what = what;
  device_check(cudaEventRecord(d->computed, d->stream), "cudaEventRecord");
  device_check(cudaStreamWaitEvent(ranks->stream, d->computed, 0), "cudaStreamWaitEvent");
  device_check(cudaEventRecord(job->begun, ranks->stream), "cudaEventRecord");
  return job;
}

static int64_t end(CommCards *ranks, const RanksJob *job) {
  device_check(cudaEventRecord(job->done, ranks->stream), "cudaEventRecord");
  pthread_mutex_lock(&ranks->lock);
  const int64_t number = ++ranks->started;
  pthread_cond_broadcast(&ranks->changed);
  pthread_mutex_unlock(&ranks->lock);
  return number;
}

void cuda_collective_wait(const Compute *c, int64_t number) {
  const CommCards *ranks = cards_of(c);
  ASSERT(!c->device->recording);
  if (number <= ranks->started - RANKS_JOBS) return; /* seen to be done */
  device_check(cudaStreamWaitEvent(c->device->stream, ranks->jobs[number % RANKS_JOBS].done, 0),
               "cudaStreamWaitEvent");
}

/* -- reductions ----------------------------------------------------------------------------------------- */

/* own[n] = ((x0 + x1) + x2) + ...: x of this rank is own, that of another one its row of the workspace. */
__global__ void sum_ranks_kernel(float *own, const float *rows, int64_t n, int rank, int ranks) {
  const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  for (int64_t i = first; i < n; i += (int64_t)gridDim.x * blockDim.x) {
    float sum = rank == 0 ? own[i] : rows[i];
    for (int r = 1; r < ranks; r++) sum += r == rank ? own[i] : rows[r * n + i];
    own[i] = sum;
  }
}

/* On a part of the card: the operations go on beside it, and memory is the limit. */
static void sum_ranks(const Compute *c, float *own, int64_t n) {
  enum { THREADS = 256, BLOCKS = 2 /* of a multiprocessor */ };
  CommCards *ranks = cards_of(c);
  const int64_t blocks = divide_up(n, THREADS), most = (int64_t)BLOCKS * c->device->multiprocessors;
  LAUNCH(&ranks->beside, sum_ranks_kernel, (unsigned)(blocks < most ? blocks : most), THREADS, 0, own,
         (const float *)ranks->workspace, n, c->comm.rank, c->comm.size);
}

/* Of a slice of `length`, elements in the piece that begins at `done`. */
static int64_t piece_of(int64_t length, int64_t done, int64_t piece) {
  const int64_t left = length - done;
  return left < 0 ? 0 : left < piece ? left : piece;
}

/* This rank's part of a piece goes from `send` of each other rank to that rank, and what they have for this one into the workspace. */
static void exchange(const Compute *c, float *const *send, const int64_t *sent, int64_t received,
                     const char *what) {
  const CommCards *ranks = cards_of(c);
  const size_t bytes = (size_t)received * sizeof(float);
  for (int r = 0; r < c->comm.size; r++) {
    ranks->parts[r] =
        (CommPart){(const unsigned char *)send[r], (unsigned char *)ranks->workspace + (size_t)r * bytes,
                   (size_t)sent[r] * sizeof(float), bytes};
  }
  comm_nccl_exchange(ranks->nccl, ranks->parts, ranks->stream, what);
}

static void reduce_slices(const Compute *c, float *values, const int64_t *at, const char *what) {
  const CommCards *ranks = cards_of(c);
  const int size = c->comm.size, rank = c->comm.rank;
  const int64_t piece = RANKS_WORKSPACE / (int64_t)sizeof(float) / size, own = at[rank + 1] - at[rank];
  int64_t longest = 0;
  for (int r = 0; r < size; r++) longest = at[r + 1] - at[r] > longest ? at[r + 1] - at[r] : longest;
  for (int64_t done = 0; done < longest; done += piece) {
    for (int r = 0; r < size; r++) {
      ranks->send[r] = values + at[r] + done;
      ranks->sent[r] = piece_of(at[r + 1] - at[r], done, piece);
    }
    const int64_t n = piece_of(own, done, piece);
    exchange(c, ranks->send, ranks->sent, n, what);
    sum_ranks(c, values + at[rank] + done, n);
  }
}

/* Every rank sums all of it. */
static void reduce_small(const Compute *c, float *values, int64_t count, const char *what) {
  const CommCards *ranks = cards_of(c);
  for (int r = 0; r < c->comm.size; r++) {
    ranks->send[r] = values;
    ranks->sent[r] = count;
  }
  exchange(c, ranks->send, ranks->sent, count, what);
  sum_ranks(c, values, count);
}

int64_t cuda_all_reduce(const Compute *c, Tensor values) {
  CommCards *ranks = cards_of(c);
  const int64_t count = tensor_count(values);
  const RanksJob *job = begin(c, "all-reduce");
  if (count * (int64_t)sizeof(float) * c->comm.size <= SMALL) {
    reduce_small(c, data<float>(values), count, job->what);
  } else {
    for (int r = 0; r <= c->comm.size; r++) ranks->even[r] = count * r / c->comm.size;
    float *own = data<float>(values) + ranks->even[c->comm.rank];
    reduce_slices(c, data<float>(values), ranks->even, job->what);
    comm_nccl_all_gather(ranks->nccl, own, values.data, sizeof(float), ranks->even, ranks->stream);
  }
  return end(ranks, job);
}

int64_t cuda_reduce_scatter(const Compute *c, Tensor values, const int64_t *at) {
  const RanksJob *job = begin(c, "reduce-scatter");
  reduce_slices(c, data<float>(values), at, job->what);
  return end(cards_of(c), job);
}

int64_t cuda_all_gather(const Compute *c, Tensor own, Tensor values, const int64_t *at) {
  CommCards *ranks = cards_of(c);
  const RanksJob *job = begin(c, "all-gather");
  comm_nccl_all_gather(ranks->nccl, own.data, values.data, dtype_size(values.dtype), at, ranks->stream);
  return end(ranks, job);
}

int64_t cuda_broadcast(const Compute *c, int root, Tensor values) {
  CommCards *ranks = cards_of(c);
  const RanksJob *job = begin(c, "broadcast");
  comm_nccl_broadcast(ranks->nccl, root, values.data, tensor_bytes(values), ranks->stream);
  return end(ranks, job);
}
