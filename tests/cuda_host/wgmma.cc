#include "tests/cuda_host/wgmma.h"

#include "tests/cuda_host/emulated.h"

#include <cstring>
#include <memory>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { GROUP = 128, WARP_ROWS = 16, K = 16, PIECE = 16, THREADS = 1024 };
enum { PIECES = (HOST_SHARED_BYTES + (4 << 10)) / PIECE };

namespace {

/* -- descriptors --------------------------------------------------------------------------------------------- */

typedef struct Matrix {
  uint32_t start, leading, stride; /* bytes */
  uint32_t width;                  /* of the swizzle; 0: none */
  bool transposed;                 /* MN-major */
} Matrix;

static Matrix read_descriptor(uint64_t d, bool transposed, const char *factor) {
  static const uint32_t widths[] = {0, 128, 64, 32};
  Matrix m;
  m.start = (uint32_t)(d & 0x3fff) << 4;
  m.leading = (uint32_t)(d >> 16 & 0x3fff) << 4;
  m.stride = (uint32_t)(d >> 32 & 0x3fff) << 4;
  m.width = widths[d >> 62];
  m.transposed = transposed;
  if (d & 0x3ff1c000c000c000ull)
    host_fault("wgmma: descriptor %016llx of %s: bits that must be 0", (unsigned long long)d, factor);
  if (d >> 49 & 7) host_fault("wgmma: descriptor of %s: a base offset is not emulated", factor);
  if (transposed && m.width != 128)
    host_fault("wgmma: %s is transposed with a swizzle of %u bytes, which is not emulated", factor, m.width);
  /* The pattern repeats each eight rows; along K a matrix may begin within a row. */
  if (m.width && m.start % (8 * m.width) >= (transposed ? 1 : m.width))
    host_fault("wgmma: %s begins at shared address %u, within the pattern of a swizzle of %u bytes", factor,
               m.start, m.width);
  return m;
}

/* Where the piece with element (row, k) lies: eight along K, or along the rows of a transposed matrix. */
static uint32_t piece_address(const Matrix *m, int row, int k) {
  if (!m->width)
    return m->start + (uint32_t)(row % 8 * 16) + (uint32_t)(row / 8) * m->stride +
           (uint32_t)(k / 8) * m->leading;
  uint32_t at = m->start;
  if (m->transposed) {
    at += (uint32_t)(k % 8 * 128 + row % 64 / 8 * 16) + (uint32_t)(k / 8) * m->stride +
          (uint32_t)(row / 64) * m->leading;
  } else {
    at += (uint32_t)row % 8 * m->width + (uint32_t)(row / 8) * m->stride + (uint32_t)(k / 8 * 16);
  }
  return at ^ (at >> 3 & (m->width - PIECE)); /* bits 4 .. 6 by bits 7 .. 9, as many as the swizzle has */
}

/* -- state of the running block -------------------------------------------------------------------------------- */

/* A warp's registers for sums while products are under way. */
typedef struct Sums {
  float *d[32];
  int each; /* of a lane */
  std::vector<float> value;
  int under_way;
} Sums;

typedef struct Product {
  Matrix a, b;
  int n;
  bool add;                     /* else the sums begin with it */
  const uint32_t *fragment[32]; /* of A, of each lane; NULL: a */
  std::vector<uint16_t> seen;   /* what a and b were when it was issued */
  std::shared_ptr<Sums> sums;
} Product;

typedef struct Warp {
  std::vector<Product> products;
  std::vector<size_t> groups; /* products of each; the last is still open */
  std::vector<std::shared_ptr<Sums>> sums;
  size_t issued;
} Warp;

typedef struct Issue {
  uint64_t a, b;
  int n;
  bool transposed_a, transposed_b, add;
} Issue;

static bool issue_equal(const Issue *x, const Issue *y) {
  return x->a == y->a && x->b == y->b && x->n == y->n && x->transposed_a == y->transposed_a &&
         x->transposed_b == y->transposed_b && x->add == y->add;
}

typedef struct Fence { /* registers, and what was in them */
  const void *at;
  std::vector<uint32_t> value;
} Fence;

typedef struct Thread {
  std::vector<Fence> sums;        /* since the last wait */
  Fence fragments;                /* of A, by the last fence */
  std::vector<uint32_t> unfenced; /* pieces it has written */
} Thread;

typedef struct State { /* of one OS thread */
  bool used;
  Warp warp[THREADS / warpSize];
  std::vector<Issue> issued[THREADS / GROUP];
  Thread thread[THREADS];
  uint16_t writer[PIECES]; /* 1 + thread that wrote a piece and has not fenced it; 0: none */
} State;

static thread_local std::unique_ptr<State>
    own; /* one within a function would be shared memory (statics.cc) */

static State *state(void) {
  if (!own) own.reset(new State());
  return own.get();
}

/* -- reading factors ------------------------------------------------------------------------------------------ */

static const uint16_t *piece_at(uint32_t address, bool is_new) {
  const char *shared = (const char *)host_shared_memory();
  if (address < HOST_SHARED_START) host_fault("wgmma: shared address %u", address);
  const uint32_t at = address - HOST_SHARED_START;
  host_check_shared(shared + at, PIECE, "wgmma");
  const uint16_t writer = state()->writer[at / PIECE];
  if (is_new && writer) host_fault("wgmma reads what thread %d copied without fence_proxy_async", writer - 1);
  return (const uint16_t *)(shared + at);
}

/* to[row][k], rows first .. first + count - 1. */
static void read_matrix(const Matrix *m, int first, int count, bool is_new, uint16_t *to) {
  for (int row = 0; row < count; row += m->transposed ? 8 : 1) {
    for (int k = 0; k < K; k += m->transposed ? 1 : 8) {
      const uint16_t *piece = piece_at(piece_address(m, first + row, k), is_new);
      if (!m->transposed) memcpy(to + row * K + k, piece, PIECE);
      for (int i = 0; i < 8 && m->transposed; i++) to[(row + i) * K + k] = piece[i];
    }
  }
}

/* As ptx.cuh has them. */
static void read_fragments(const uint32_t *const fragment[32], uint16_t *to) {
  for (int lane = 0; lane < warpSize; lane++) {
    for (int i = 0; i < 8; i++) {
      const int row = lane / 4 + i / 2 % 2 * 8, k = lane % 4 * 2 + i / 4 * 8 + i % 2;
      to[row * K + k] = (uint16_t)(fragment[lane][i / 2] >> 16 * (i % 2));
    }
  }
}

static std::vector<uint16_t> read_factors(const Product *p, int warp, bool is_new) {
  std::vector<uint16_t> values((size_t)(WARP_ROWS + p->n) * K);
  if (p->fragment[0]) {
    read_fragments(p->fragment, values.data());
  } else {
    read_matrix(&p->a, warp % 4 * WARP_ROWS, WARP_ROWS, is_new, values.data());
  }
  read_matrix(&p->b, 0, p->n, is_new, values.data() + WARP_ROWS * K);
  return values;
}

/* -- products -------------------------------------------------------------------------------------------------- */

static float widened(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float y;
  memcpy(&y, &bits, sizeof(y));
  return y;
}

static void multiply(const Product *p) {
  const int n = p->n;
  std::vector<double> b((size_t)(K * n)), sum((size_t)n);
  for (int column = 0; column < n; column++)
    for (int k = 0; k < K; k++)
      b[(size_t)(k * n + column)] = widened(p->seen[(size_t)((WARP_ROWS + column) * K + k)]);
  Sums *sums = p->sums.get();
  for (int row = 0; row < WARP_ROWS; row++) {
    for (double &s : sum) s = 0;
    for (int k = 0; k < K; k++) {
      const double a = widened(p->seen[(size_t)(row * K + k)]);
      for (int column = 0; column < n; column++) sum[(size_t)column] += a * b[(size_t)(k * n + column)];
    }
    for (int column = 0; column < n; column++) {
      const int lane = row % 8 * 4 + column % 8 / 2, i = column / 8 * 4 + row / 8 * 2 + column % 2;
      float *d = &sums->value[(size_t)(lane * sums->each + i)];
      *d = (float)((p->add ? (double)*d : 0.0) + sum[(size_t)column]);
    }
  }
}

static void finish_product(Product *p, int warp) {
  if (read_factors(p, warp, false) != p->seen)
    host_fault("wgmma: memory that a product of warp %d reads was changed before it was waited for", warp);
  multiply(p);
  Sums *sums = p->sums.get();
  if (--sums->under_way > 0) return;
  const size_t bytes = (size_t)sums->each * sizeof(float);
  std::vector<char> poison(bytes);
  host_poison(poison.data(), bytes);
  for (int lane = 0; lane < warpSize; lane++) {
    ASAN_UNPOISON_MEMORY_REGION(sums->d[lane], bytes);
    if (memcmp(sums->d[lane], poison.data(), bytes) != 0)
      host_fault("wgmma: lane %d of warp %d changed sums while a product was under way", lane, warp);
    memcpy(sums->d[lane], &sums->value[(size_t)(lane * sums->each)], bytes);
  }
}

/* The registers; they belong to products from now on. */
static std::shared_ptr<Sums> take_sums(Warp *warp, float *const d[32], int each) {
  for (auto &sums : warp->sums) {
    if (sums->d[0] != d[0] || sums->under_way == 0) continue;
    if (sums->each != each) host_fault("wgmma: sums of %d registers are under way as %d", each, sums->each);
    return sums;
  }
  auto sums = std::make_shared<Sums>();
  sums->each = each;
  for (int lane = 0; lane < warpSize; lane++) {
    sums->d[lane] = d[lane];
    sums->value.insert(sums->value.end(), d[lane], d[lane] + each);
    host_poison(d[lane], (size_t)each * sizeof(float));
    ASAN_POISON_MEMORY_REGION(d[lane], (size_t)each * sizeof(float));
  }
  warp->sums.push_back(sums);
  return sums;
}

static bool under_way(const Warp *warp, int lane, const float *d) {
  for (const auto &sums : warp->sums)
    if (sums->under_way && sums->d[lane] == d) return true;
  return false;
}

/* -- what lanes bring ------------------------------------------------------------------------------------------ */

struct HostWgmma {
  float *d;
  int thread;
  Issue issue;
  const uint32_t *fragment; /* of A; NULL: issue.a */

  static void finish(void *const brought[32], uint32_t) {
    State *s = state();
    const HostWgmma *first = (const HostWgmma *)brought[0];
    const Issue *issue = &first->issue;
    const int warp = first->thread / warpSize;
    float *d[32];
    for (int lane = 0; lane < warpSize; lane++) {
      const HostWgmma *mine = (const HostWgmma *)brought[lane];
      if (!issue_equal(&mine->issue, issue))
        host_fault("wgmma: the lanes of warp %d have different products", warp);
      d[lane] = mine->d;
    }
    Warp *self = &s->warp[warp];
    std::vector<Issue> *issued = &s->issued[warp / 4];
    if (self->issued == issued->size()) issued->push_back(*issue);
    if (!issue_equal(&(*issued)[self->issued++], issue))
      host_fault("wgmma: product %zu of warp %d is not that of the other warps of its group", self->issued,
                 warp);
    Product p;
    if (!first->fragment) p.a = read_descriptor(issue->a, issue->transposed_a, "A");
    for (int lane = 0; lane < warpSize; lane++)
      p.fragment[lane] = ((const HostWgmma *)brought[lane])->fragment;
    p.b = read_descriptor(issue->b, issue->transposed_b, "B");
    p.n = issue->n;
    p.add = issue->add;
    p.sums = take_sums(self, d, issue->n / 2);
    p.sums->under_way++;
    p.seen = read_factors(&p, warp, true);
    if (self->groups.empty()) self->groups.push_back(0);
    self->groups.back()++;
    self->products.push_back(std::move(p));
  }
};

static void check_fence(const HostWgmma *mine) {
  const Thread *self = &state()->thread[mine->thread];
  const size_t count = (size_t)mine->issue.n / 2;
  const Fence *fence = nullptr;
  for (const Fence &other : self->sums)
    if (other.at == mine->d && other.value.size() == count) fence = &other;
  if (!fence) host_fault("wgmma: no wgmma_fence of these sums since the last wait");
  if (!under_way(&state()->warp[mine->thread / warpSize], mine->thread % warpSize, mine->d) &&
      memcmp(fence->value.data(), mine->d, count * sizeof(float)) != 0)
    host_fault("wgmma: the sums were changed after wgmma_fence");
  if (!mine->fragment) return;
  const uint32_t *a = (const uint32_t *)self->fragments.at;
  if (!a || mine->fragment < a || mine->fragment + 4 > a + self->fragments.value.size())
    host_fault("wgmma: no wgmma_fence of these fragments since the last wait");
  if (memcmp(&self->fragments.value[(size_t)(mine->fragment - a)], mine->fragment, 4 * sizeof(uint32_t)) != 0)
    host_fault("wgmma: the fragments were changed after wgmma_fence");
}

static void issue_product(HostWgmma mine) {
  const int n = mine.issue.n;
  if (!host_device()->specific) host_fault("wgmma: sm_%d has no such instruction", host_device()->capability);
  if (n < 8 || n > 256 || n % 8) host_fault("wgmma: n is %d", n);
  const int threads = (int)(blockDim.x * blockDim.y * blockDim.z);
  if (mine.thread / GROUP * GROUP + GROUP > threads)
    host_fault("wgmma: the last warps of the block are no warpgroup");
  state()->used = true;
  check_fence(&mine);
  host_meet_warp(0xffffffffu, "wgmma", HostWgmma::finish, &mine);
}

}  // namespace

void host_wgmma(float *d, int n, uint64_t a, uint64_t b, bool transposed_a, bool add) {
  issue_product({d, host_thread(), {a, b, n, transposed_a, false, add}, nullptr});
}

void host_wgmma_registers(float *d, int n, const uint32_t a[4], uint64_t b, bool transposed_b) {
  issue_product({d, host_thread(), {0, b, n, false, transposed_b, true}, a});
}

static void finish_nothing(void *const[32], uint32_t) {}

void host_wgmma_fence(const float *d, int count, const uint32_t *a, int a_count) {
  Thread *self = &state()->thread[host_thread()];
  state()->used = true;
  Fence fence = {d, std::vector<uint32_t>((size_t)count)};
  /* Of sums under way nobody may look at the registers. */
  if (!under_way(&state()->warp[host_thread() / warpSize], host_thread() % warpSize, d))
    memcpy(fence.value.data(), d, (size_t)count * sizeof(float));
  for (size_t i = self->sums.size(); i-- > 0;)
    if (self->sums[i].at == d) self->sums.erase(self->sums.begin() + (ptrdiff_t)i);
  self->sums.push_back(std::move(fence));
  self->fragments.at = a;
  self->fragments.value.assign(a, a + a_count);
  host_meet_warp(0xffffffffu, "wgmma_fence", finish_nothing, self);
}

static void finish_commit(void *const brought[32], uint32_t) {
  Warp *warp = (Warp *)brought[0];
  if (warp->groups.empty()) warp->groups.push_back(0);
  warp->groups.push_back(0);
}

void host_wgmma_commit(void) {
  host_meet_warp(0xffffffffu, "wgmma_commit", finish_commit, &state()->warp[host_thread() / warpSize]);
}

namespace {

struct HostWgmmaWait {
  int pending, warp;

  static void finish(void *const brought[32], uint32_t) {
    const HostWgmmaWait *first = (const HostWgmmaWait *)brought[0];
    Warp *self = &state()->warp[first->warp];
    const size_t closed = self->groups.empty() ? 0 : self->groups.size() - 1,
                 pending = (size_t)first->pending;
    if (closed <= pending) return;
    size_t count = 0;
    for (size_t i = 0; i < closed - pending; i++) count += self->groups[i];
    for (size_t i = 0; i < count; i++) finish_product(&self->products[i], first->warp);
    self->products.erase(self->products.begin(), self->products.begin() + (ptrdiff_t)count);
    self->groups.erase(self->groups.begin(), self->groups.begin() + (ptrdiff_t)(closed - pending));
    for (size_t i = self->sums.size(); i-- > 0;)
      if (self->sums[i]->under_way == 0) self->sums.erase(self->sums.begin() + (ptrdiff_t)i);
  }
};

}  // namespace

void host_wgmma_wait(int pending, const float *d) {
  const int thread = host_thread();
  state()->used = true;
  state()->thread[thread].sums.clear();
  state()->thread[thread].fragments.at = nullptr;
  HostWgmmaWait mine = {pending, thread / warpSize};
  host_meet_warp(0xffffffffu, "wgmma_wait", HostWgmmaWait::finish, &mine);
  if (d && under_way(&state()->warp[thread / warpSize], thread % warpSize, d))
    host_fault("wgmma_wait: the sums that are to be at hand are still under way");
}

/* -- who may read what was written ----------------------------------------------------------------------------- */

void host_wgmma_written(const void *shared) {
  if (!host_device()->specific) return;
  const ptrdiff_t at = (const char *)shared - (const char *)host_shared_memory();
  if (at < 0 || at >= PIECES * PIECE) return; /* a variable: no product reads it */
  State *s = state();
  s->used = true;
  s->writer[at / PIECE] = (uint16_t)(1 + host_thread());
  s->thread[host_thread()].unfenced.push_back((uint32_t)(at / PIECE));
}

void host_fence_proxy_async(void) {
  State *s = state();
  const int thread = host_thread();
  for (uint32_t piece : s->thread[thread].unfenced)
    if (s->writer[piece] == 1 + thread) s->writer[piece] = 0;
  s->thread[thread].unfenced.clear();
}

void host_wgmma_begin_block(void) {
  State *s = state();
  if (!s->used) return;
  for (Warp &warp : s->warp) warp = Warp();
  for (auto &issued : s->issued) issued.clear();
  for (Thread &thread : s->thread) {
    thread.sums.clear();
    thread.fragments.at = nullptr;
    thread.unfenced.clear();
  }
  memset(s->writer, 0, sizeof(s->writer));
  s->used = false;
}

void host_wgmma_end_block(int threads) {
  State *s = state();
  if (!s->used) return;
  for (int w = 0; w < threads / warpSize; w++) {
    if (!s->warp[w].products.empty())
      host_fault("wgmma: warp %d has ended and not waited for its products", w);
    if (s->warp[w].issued != s->issued[w / 4].size())
      host_fault("wgmma: warp %d has issued %zu products, its group %zu", w, s->warp[w].issued,
                 s->issued[w / 4].size());
  }
}
