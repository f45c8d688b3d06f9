/* Matrix products by cuBLASLt; whatever it refuses, by a plain kernel of our own.
 *
 * cuBLASLt counts column by column: a row-major [m,n] is its column-major [n,m], so that out = a b is asked for as
 * out^T = b^T a^T, and a bias of n runs along its rows, where the bias epilogue wants it.
 *
 * The floor is the tensor cores' rate, 2 m n k operations, for large products; for the thin ones of an adapter
 * (n or k of 8 to 64) it is memory: u = x[T,I] A^T reads x once, out[T,O] = u B^T writes out once, and the base
 * product that follows adds to it (beta 1), reading out tile by tile behind its own arithmetic. The arithmetic of
 * the thin ones takes less time than that by far, so what the smallest tiles of cuBLASLt (64 wide or so) waste on a
 * thin side is free; what decides is how many blocks share the reading. With n = R there are T/64 or so, too few for
 * a large card, unless the sum over k is split: allowed here, in fp32 through the workspace (the gradients of A and
 * B, with sums over T, are the same case). With k = R there are T O / (128 * 128), plenty, with one or two steps of k
 * each: a copy with a little arithmetic. Which algorithms are chosen and what they reach is for a card to show. */
#include "compute/cuda/kernel.cuh"
#include "compute/cuda/product.cuh"

extern "C" {
#include "base/memory.h"
}

namespace {

/* -- plans ---------------------------------------------------------------------------------------------- */

/* All that the choice of an algorithm depends on; no padding, for it is compared and hashed as bytes. */
typedef struct PlanKey {
  int64_t m, n, k, lda, ldb, ldc, ldo; /* c: what is added */
  uint8_t narrow, narrow_out, transpose_a, transpose_b;
  uint8_t bias_alignment; /* 0 without */
  uint8_t alignment_a, alignment_b, alignment_c, alignment_out;
  uint8_t apart; /* c is not out */
  uint8_t rest[6];
} PlanKey;

typedef struct Plan {
  PlanKey key;
  bool used;
  bool found; /* else cuBLASLt has no algorithm for it */
  cublasLtMatmulAlgo_t algorithm;
} Plan;

/* Training on packed batches of any length meets new shapes for ever: a table that is full starts anew. Asking
 * again gives the same answer, for there are no timings in it. */
enum { PLANS = 4096, PLANS_MOST = 3072 };

typedef struct Products {
  int count;
  Plan plans[PLANS];
} Products;

static void blas_check(cublasStatus_t status, const char *what) {
  if (status != CUBLAS_STATUS_SUCCESS) device_failed(what, cublasLtGetStatusString(status));
}

/* The place of the key, or the free one where it belongs. */
static Plan *plan_place(Products *products, const PlanKey *key) {
  uint64_t words[sizeof *key / 8], hash = 0;
  static_assert(sizeof words == sizeof *key, "no padding");
  memcpy(words, key, sizeof *key);
  for (uint64_t word : words) hash = (hash ^ word ^ hash >> 29) * 0x9e3779b97f4a7c15u;
  for (uint64_t i = hash >> 32;; i++) {
    Plan *plan = &products->plans[i % PLANS];
    if (!plan->used || memcmp(&plan->key, key, sizeof *key) == 0) return plan;
  }
}

/* -- cuBLASLt ------------------------------------------------------------------------------------------- */

typedef struct Request { /* in cuBLASLt's words: A is b, B is a */
  cublasLtMatmulDescOpaque_t product;
  cublasLtMatrixLayoutOpaque_t a, b, c, out;
} Request;

/* The largest power of two that divides the address, up to what the widest loads and TMA need. Asking with more,
 * where it happens to be there, could only make the choice depend on the address. */
static uint8_t alignment_of(const void *p) {
  uintptr_t bits = (uintptr_t)p | 16u;
  return (uint8_t)(bits & (~bits + 1));
}

/* Distance between rows; that of a single row may be anything. */
static int64_t distance(Tensor x) {
  return x.dim[0] > 1 ? x.stride[0] : x.dim[1];
}

static cudaDataType_t data_type(bool narrow) {
  return narrow ? CUDA_R_16BF : CUDA_R_32F;
}

static void set(Request *r, cublasLtMatmulDescAttributes_t attribute, const void *value, size_t bytes) {
  blas_check(cublasLtMatmulDescSetAttribute(&r->product, attribute, value, bytes), "describing a product");
}

static void describe(Request *r, const PlanKey *key, const void *bias) {
  const cublasOperation_t op_a = key->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t op_b = key->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cudaDataType_t in = data_type(key->narrow), out = data_type(key->narrow_out);
  const uint64_t m = (uint64_t)key->m, n = (uint64_t)key->n, k = (uint64_t)key->k;
  blas_check(cublasLtMatmulDescInit(&r->product, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describing a product");
  set(r, CUBLASLT_MATMUL_DESC_TRANSA, &op_a, sizeof op_a);
  set(r, CUBLASLT_MATMUL_DESC_TRANSB, &op_b, sizeof op_b);
  if (bias) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    set(r, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    set(r, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
  }
  blas_check(
      cublasLtMatrixLayoutInit(&r->a, in, key->transpose_b ? k : n, key->transpose_b ? n : k, key->ldb),
      "describing a matrix");
  blas_check(
      cublasLtMatrixLayoutInit(&r->b, in, key->transpose_a ? m : k, key->transpose_a ? k : m, key->lda),
      "describing a matrix");
  blas_check(cublasLtMatrixLayoutInit(&r->c, out, n, m, key->ldc), "describing a matrix");
  blas_check(cublasLtMatrixLayoutInit(&r->out, out, n, m, key->ldo), "describing a matrix");
}

/* The first choice of cuBLASLt's rules. Sums over k may be split if the parts are added up in fp32 by a second
 * step, never through the output (rounded between) or in the order of arrival. */
static void choose(const Device *d, Request *r, Plan *plan) {
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  const uint64_t workspace = d->blas_workspace_bytes;
  const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  const struct {
    cublasLtMatmulPreferenceAttributes_t name;
    uint32_t bytes;
  } alignments[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, plan->key.alignment_b},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, plan->key.alignment_a},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, plan->key.alignment_c},
                    {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, plan->key.alignment_out}};
  cublasStatus_t status = cublasLtMatmulPreferenceInit(&preference);
  blas_check(status, "choosing a product");
  blas_check(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &workspace, sizeof workspace),
             "choosing a product");
  blas_check(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                  &reductions, sizeof reductions),
             "choosing a product");
  for (const auto &a : alignments) {
    blas_check(cublasLtMatmulPreferenceSetAttribute(&preference, a.name, &a.bytes, sizeof a.bytes),
               "choosing a product");
  }
  status = cublasLtMatmulAlgoGetHeuristic(d->blas, &r->product, &r->a, &r->b, &r->c, &r->out, &preference, 1,
                                          &result, &count);
  plan->found = status == CUBLAS_STATUS_SUCCESS && count > 0 && result.state == CUBLAS_STATUS_SUCCESS;
  if (plan->found) plan->algorithm = result.algo;
}

static PlanKey key_of(Tensor out, Tensor add, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                      const void *bias) {
  PlanKey key;
  memset(&key, 0, sizeof key);
  key.m = out.dim[0];
  key.n = out.dim[1];
  key.k = a.dim[transpose_a ? 0 : 1];
  key.lda = distance(a);
  key.ldb = distance(b);
  key.ldc = distance(add);
  key.ldo = distance(out);
  key.narrow = a.dtype == DTYPE_BF16;
  key.narrow_out = out.dtype == DTYPE_BF16;
  key.transpose_a = transpose_a;
  key.transpose_b = transpose_b;
  key.bias_alignment = bias ? alignment_of(bias) : 0;
  key.alignment_a = alignment_of(a.data);
  key.alignment_b = alignment_of(b.data);
  key.alignment_c = alignment_of(add.data);
  key.alignment_out = alignment_of(out.data);
  key.apart = add.data != out.data;
  return key;
}

/* False when cuBLASLt has no algorithm. */
static bool library_product(Compute *c, Tensor out, Tensor add, Tensor a, bool transpose_a, Tensor b,
                            bool transpose_b, const void *bias, float alpha, float beta) {
  Device *d = c->device;
  Products *products = (Products *)d->products;
  const PlanKey key = key_of(out, add, a, transpose_a, b, transpose_b, bias);
  Request r;
  Plan *plan = plan_place(products, &key);
  if (plan->used && !plan->found) return false;
  describe(&r, &key, bias);
  if (!plan->used && d->recording) { /* newer libraries refuse to choose then */
    d->unrecordable = true;
    return false;
  }
  if (!plan->used) {
    if (products->count == PLANS_MOST) {
      memset(products, 0, sizeof *products);
      plan = plan_place(products, &key);
    }
    products->count++;
    plan->used = true;
    plan->key = key;
    choose(d, &r, plan);
    if (!plan->found) return false;
  }
  const cublasStatus_t status =
      cublasLtMatmul(d->blas, &r.product, &alpha, b.data, &r.a, a.data, &r.b, &beta, add.data, &r.c, out.data,
                     &r.out, &plan->algorithm, d->blas_workspace, d->blas_workspace_bytes, d->stream);
  if (status != CUBLAS_STATUS_SUCCESS && d->recording) {
    d->unrecordable = true;
    return false;
  }
  if (status ==
      CUBLAS_STATUS_NOT_SUPPORTED) { /* of an algorithm that it chose itself: it is not asked again */
    plan->found = false;
    return false;
  }
  blas_check(status, "product");
  return true;
}

/* -- the plain kernel ----------------------------------------------------------------------------------- */

enum { TILE = 64, DEPTH = 16, SIDE = 16, EACH = TILE / SIDE, PLAIN_THREADS = SIDE * SIDE };

/* A factor as the kernel sees it: TILE is along `outer`, the sum along `inner`. */
template <class T>
struct Factor {
  const T *data;
  int64_t outer, inner; /* distances */
};

/* tile[i][j] = element (first + j) of the outer, (start + i) of the inner dimension, 0 beyond the ends; neighbouring
 * threads read neighbouring elements. */
template <class T>
__device__ __forceinline__ void load_tile(float (*tile)[TILE + 4], Factor<T> f, int64_t first, int64_t outers,
                                          int64_t start, int64_t inners) {
#pragma unroll
  for (int e = (int)threadIdx.x; e < TILE * DEPTH; e += PLAIN_THREADS) {
    const int i = f.inner == 1 ? e % DEPTH : e / TILE, j = f.inner == 1 ? e / DEPTH : e % TILE;
    const bool inside = first + j < outers && start + i < inners;
    tile[i][j] = inside ? to_float(f.data[(first + j) * f.outer + (start + i) * f.inner]) : 0.0f;
  }
}

/* One element of any bias. */
__device__ __forceinline__ float bias_at(const void *bias, bool narrow, int64_t i) {
  return narrow ? to_float(static_cast<const bf16 *>(bias)[i]) : static_cast<const float *>(bias)[i];
}

/* A block makes a tile of TILE rows and columns, a thread EACH by EACH of it. Any dtypes, any alignment; the sum over
 * k is that of the sums of DEPTH, each a chain of multiply-adds. */
template <class A, class B, class O>
__global__ void __launch_bounds__(PLAIN_THREADS)
    plain_product_kernel(O *out, int64_t out_stride, const O *add, int64_t add_stride, int64_t m, int64_t n,
                         int64_t k, Factor<A> a, Factor<B> b, const void *bias, bool narrow_bias, float alpha,
                         float beta) {
  __shared__ float left[DEPTH][TILE + 4], right[DEPTH][TILE + 4];
  const int64_t row = (int64_t)blockIdx.x * TILE, column = (int64_t)blockIdx.y * TILE;
  const int y = (int)threadIdx.x / SIDE, x = (int)threadIdx.x % SIDE;
  float sum[EACH][EACH] = {};
  for (int64_t start = 0; start < k; start += DEPTH) {
    __syncthreads(); /* everyone has read the tiles before */
    load_tile(left, a, row, m, start, k);
    load_tile(right, b, column, n, start, k);
    __syncthreads();
    float part[EACH][EACH] = {};
#pragma unroll
    for (int i = 0; i < DEPTH; i++) {
#pragma unroll
      for (int p = 0; p < EACH; p++) {
#pragma unroll
        for (int q = 0; q < EACH; q++) {
          part[p][q] = fmaf(left[i][y + SIDE * p], right[i][x + SIDE * q], part[p][q]);
        }
      }
    }
#pragma unroll
    for (int p = 0; p < EACH; p++) {
#pragma unroll
      for (int q = 0; q < EACH; q++) sum[p][q] += part[p][q];
    }
  }
#pragma unroll
  for (int p = 0; p < EACH; p++) {
#pragma unroll
    for (int q = 0; q < EACH; q++) {
      const int64_t r = row + y + SIDE * p, s = column + x + SIDE * q;
      if (r >= m || s >= n) continue;
      float value = alpha * sum[p][q];
      if (bias) value += bias_at(bias, narrow_bias, s);
      if (beta != 0) value = fmaf(beta, to_float(add[r * add_stride + s]), value);
      out[r * out_stride + s] = from_float<O>(value);
    }
  }
}

template <class A, class B, class O>
static void plain_product(Compute *c, Tensor out, Tensor add, Tensor a, bool transpose_a, Tensor b,
                          bool transpose_b, Tensor bias, float alpha, float beta) {
  const int64_t m = out.dim[0], n = out.dim[1], k = a.dim[transpose_a ? 0 : 1];
  const Factor<A> left = {data<A>(a), transpose_a ? 1 : distance(a), transpose_a ? distance(a) : 1};
  const Factor<B> right = {data<B>(b), transpose_b ? distance(b) : 1, transpose_b ? 1 : distance(b)};
  const dim3 grid((unsigned)divide_up(m, TILE), (unsigned)divide_up(n, TILE));
  LAUNCH(c, (plain_product_kernel<A, B, O>), grid, PLAIN_THREADS, 0, data<O>(out), distance(out),
         data<O>(add), distance(add), m, n, k, left, right, bias.data, bias.dtype == DTYPE_BF16, alpha, beta);
}

/* -- any product ---------------------------------------------------------------------------------------- */

template <class From, class To>
__global__ void convert_bias_kernel(To *out, const From *in, int64_t count) {
  const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) out[i] = from_float<To>(to_float(in[i]));
}

}  // namespace

void *cuda_products_open(void) {
  return memory_zeroed(1, sizeof(Products));
}

void cuda_products_close(void *products) {
  memory_free(products);
}

void cuda_product(Compute *c, Tensor out, Tensor a, bool transpose_a, Tensor b, bool transpose_b, Tensor bias,
                  float alpha, float beta) {
  cuda_product_add(c, out, out, a, transpose_a, b, transpose_b, bias, alpha, beta);
}

void cuda_product_add(Compute *c, Tensor out, Tensor add, Tensor a, bool transpose_a, Tensor b,
                      bool transpose_b, Tensor bias, float alpha, float beta) {
  const int64_t k = a.dim[transpose_a ? 0 : 1];
  ASSERT(out.rank == 2 && a.rank == 2 && b.rank == 2);
  ASSERT(add.rank == 2 && add.dtype == out.dtype && add.dim[0] == out.dim[0] && add.dim[1] == out.dim[1]);
  ASSERT(a.dim[transpose_a ? 1 : 0] == out.dim[0] && b.dim[transpose_b ? 0 : 1] == out.dim[1]);
  ASSERT(b.dim[transpose_b ? 1 : 0] == k && (tensor_is_none(bias) || bias.dim[0] == out.dim[1]));
  /* cuBLASLt wants a bias of the output's dtype. A wide one for narrow outputs would be rounded twice. */
  const bool widen_bias = !tensor_is_none(bias) && bias.dtype == DTYPE_BF16 && out.dtype == DTYPE_F32;
  const bool round_bias = !tensor_is_none(bias) && bias.dtype == DTYPE_F32 && out.dtype == DTYPE_BF16;
  const size_t mark = scratch_open(c);
  /* The library's epilogue may load a bias by 16 bytes, whatever its heuristic was told. */
  float *own_bias = tensor_is_none(bias) ? NULL : scratch_new<float>(c, bias.dim[0]);
  if (!c->dry && out.dim[0] > 0 && out.dim[1] > 0) {
    bool done = false;
    if (a.dtype == b.dtype && (a.dtype == DTYPE_BF16 || out.dtype == DTYPE_F32) && !round_bias && k > 0) {
      const void *given = bias.data;
      const unsigned blocks = own_bias ? (unsigned)divide_up(bias.dim[0], 256) : 0;
      if (widen_bias) {
        LAUNCH(c, (convert_bias_kernel<bf16, float>), blocks, 256, 0, own_bias, data<bf16>(bias),
               bias.dim[0]);
        given = own_bias;
      } else if ((uintptr_t)bias.data % 16 != 0) {
        WITH_TYPE(bias.dtype, T,
                  LAUNCH(c, (convert_bias_kernel<T, T>), blocks, 256, 0, (T *)own_bias, data<T>(bias),
                         bias.dim[0]));
        given = own_bias;
      }
      done = library_product(c, out, add, a, transpose_a, b, transpose_b, given, alpha, beta);
    }
    if (!done) {
      WITH_TYPE(a.dtype, A,
                WITH_TYPE(b.dtype, B,
                          WITH_TYPE(out.dtype, O,
                                    (plain_product<A, B, O>(c, out, add, a, transpose_a, b, transpose_b, bias,
                                                            alpha, beta)))));
    }
  }
  scratch_close(c, mark);
}
