/* The emulated cuBLASLt: see cublasLt.h. */
#include "tests/cuda_host/cublasLt.h"

#include "tests/cuda_host/runtime_api.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#define RULE(condition)                                                                             \
  do {                                                                                              \
    if (!(condition)) {                                                                             \
      fprintf(stderr, "\ncuBLASLt (emulated): a rule of the library was broken: %s\n", #condition); \
      abort();                                                                                      \
    }                                                                                               \
  } while (0)

struct cublasLtContext {
  int open;
};

const char *cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "success"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                 : "invalid value";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
  *handle = new cublasLtContext{1};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

/* -- descriptions ----------------------------------------------------------------------------------------- */

cublasStatus_t cublasLtMatmulDescInit(cublasLtMatmulDesc_t product, cublasComputeType_t compute,
                                      cudaDataType_t scale) {
  RULE(compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F);
  *product = {CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr};
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
static void take(T *place, const void *value, size_t bytes) {
  RULE(bytes == sizeof(T));
  memcpy(place, value, bytes);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t name, const void *value,
                                              size_t bytes) {
  switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      take(&product->transpose_a, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
      take(&product->transpose_b, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      take(&product->epilogue, value, bytes);
      break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      take(&product->bias, value, bytes);
      break;
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutInit(cublasLtMatrixLayout_t layout, cudaDataType type, uint64_t rows,
                                        uint64_t columns, int64_t distance) {
  RULE(type == CUDA_R_32F || type == CUDA_R_16BF);
  *layout = {type, rows, columns, distance};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceInit(cublasLtMatmulPreference_t preference) {
  *preference = {0, 7, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes) {
  if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES) {
    take(&preference->workspace, value, bytes);
  } else if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) {
    take(&preference->reductions, value, bytes);
  } else {
    const int which = (int)name - (int)CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES;
    if (which < 0 || which > 3) return CUBLAS_STATUS_INVALID_VALUE;
    take(&preference->alignment[which], value, bytes);
  }
  return CUBLAS_STATUS_SUCCESS;
}

/* -- choice ----------------------------------------------------------------------------------------------- */

static bool same(const cublasLtMatrixLayoutOpaque_t *x, const cublasLtMatrixLayoutOpaque_t *y) {
  return x->type == y->type && x->rows == y->rows && x->columns == y->columns && x->distance == y->distance;
}

/* Rows and columns after the operation. */
static uint64_t rows_of(const cublasLtMatrixLayoutOpaque_t *x, cublasOperation_t op) {
  return op == CUBLAS_OP_T ? x->columns : x->rows;
}
static uint64_t columns_of(const cublasLtMatrixLayoutOpaque_t *x, cublasOperation_t op) {
  return op == CUBLAS_OP_T ? x->rows : x->columns;
}

static void check_fit(const cublasLtMatmulDescOpaque_t *p, const cublasLtMatrixLayoutOpaque_t *a,
                      const cublasLtMatrixLayoutOpaque_t *b, const cublasLtMatrixLayoutOpaque_t *d) {
  RULE(a->rows > 0 && a->columns > 0 && b->rows > 0 && b->columns > 0);
  RULE(rows_of(a, p->transpose_a) == d->rows && columns_of(b, p->transpose_b) == d->columns);
  RULE(columns_of(a, p->transpose_a) == rows_of(b, p->transpose_b));
  RULE(a->distance >= (int64_t)a->rows && b->distance >= (int64_t)b->rows && d->distance >= (int64_t)d->rows);
  RULE(a->type == b->type);
}

static bool awkward(const cublasLtMatrixLayoutOpaque_t *x, uint32_t alignment) {
  return x->type == CUDA_R_16BF && (alignment % 16 != 0 || (size_t)x->distance * 2 % 16 != 0);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found) {
  *found = 0;
  RULE(handle && handle->open && wanted >= 1);
  RULE(c->type == d->type && c->rows == d->rows && c->columns == d->columns);
  check_fit(product, a, b, d);
  RULE((product->epilogue == CUBLASLT_EPILOGUE_BIAS) == (product->bias != nullptr));
  const uint32_t *alignment = preference->alignment;
  const char *rule = getenv("DROVER_CUDA_HOST_BLAS");
  if (a->type == CUDA_R_32F && d->type == CUDA_R_16BF) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (rule && strcmp(rule, "none") == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  if ((!rule || strcmp(rule, "any") != 0) && (awkward(a, alignment[0]) || awkward(b, alignment[1]) ||
                                              awkward(c, alignment[2]) || awkward(d, alignment[3]))) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  memset(results, 0, sizeof *results);
  results->algo.transpose_a = product->transpose_a;
  results->algo.transpose_b = product->transpose_b;
  results->algo.epilogue = product->epilogue;
  results->algo.a = *a;
  results->algo.b = *b;
  results->algo.c = *c;
  results->algo.out = *d;
  memcpy(results->algo.alignment, alignment, sizeof results->algo.alignment);
  results->algo.workspace = preference->workspace;
  results->workspaceSize = preference->workspace;
  results->state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

/* -- computation ------------------------------------------------------------------------------------------ */

typedef struct Product {
  cublasLtMatmulAlgo_t algorithm;
  float alpha, beta;
  const void *a, *b, *c, *bias;
  void *out;
  void *workspace;
} Product;

static float load(const void *data, cudaDataType_t type, int64_t i) {
  if (type == CUDA_R_32F) return ((const float *)data)[i];
  uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static void store(void *data, cudaDataType_t type, int64_t i, float value) {
  if (type == CUDA_R_32F) {
    ((float *)data)[i] = value;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  if (value != value) {
    bits |= 0x400000u;
  } else {
    bits += 0x7fffu + (bits >> 16 & 1u); /* to nearest, ties to even */
  }
  ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
}

/* A strip of `wide` rows of op(A), or columns of op(B), as floats in order of k, zeros beyond the end. `outer` and
 * `inner`: distances in memory along the strip's width and along k. */
static void pack(float *strip, int wide, const void *data, cudaDataType_t type, int64_t first, int64_t end,
                 int64_t outer, int64_t inner, int64_t depth) {
  for (int64_t k = 0; k < depth; k++) {
    for (int i = 0; i < wide; i++) {
      strip[k * wide + i] = first + i < end ? load(data, type, (first + i) * outer + k * inner) : 0.0f;
    }
  }
}

enum { TALL = 32, WIDE = 4, CHAIN = 64 };

/* sum[j][i] += over k of a[k][i] b[k][j], in chains that are added up in double. */
static void multiply(double sum[WIDE][TALL], const float *a, const float *b, int64_t depth) {
  for (int64_t start = 0; start < depth; start += CHAIN) {
    const int64_t end = depth - start < CHAIN ? depth : start + CHAIN;
    float part[WIDE][TALL] = {};
    for (int64_t k = start; k < end; k++) {
      for (int j = 0; j < WIDE; j++) {
        const float factor = b[k * WIDE + j];
        for (int i = 0; i < TALL; i++) part[j][i] += a[k * TALL + i] * factor;
      }
    }
    for (int j = 0; j < WIDE; j++) {
      for (int i = 0; i < TALL; i++) sum[j][i] += (double)part[j][i];
    }
  }
}

static void finish(const Product *p, const double sum[WIDE][TALL], int64_t row, int64_t column) {
  const cublasLtMatrixLayoutOpaque_t *out = &p->algorithm.out;
  for (int64_t j = column; j < (int64_t)out->columns && j < column + WIDE; j++) {
    for (int64_t i = row; i < (int64_t)out->rows && i < row + TALL; i++) {
      const int64_t at = j * out->distance + i;
      float value = p->alpha * (float)sum[j - column][i - row];
      if (p->beta != 0) value += p->beta * load(p->c, out->type, j * p->algorithm.c.distance + i);
      if (p->bias) value += load(p->bias, out->type, i);
      store(p->out, out->type, at, value);
    }
  }
}

static void run(const Product *p) {
  const cublasLtMatmulAlgo_t *r = &p->algorithm;
  const int64_t rows = (int64_t)r->out.rows, columns = (int64_t)r->out.columns;
  const int64_t depth = (int64_t)columns_of(&r->a, r->transpose_a);
  const bool ta = r->transpose_a == CUBLAS_OP_T, tb = r->transpose_b == CUBLAS_OP_T;
  float *a = new float[(size_t)(depth * TALL)], *b = new float[(size_t)(depth * WIDE)];
  /* What lies in the workspace afterwards is nobody's business. */
  if (p->workspace) host_poison(p->workspace, r->workspace < 4096 ? r->workspace : 4096);
  for (int64_t row = 0; row < rows; row += TALL) {
    pack(a, TALL, p->a, r->a.type, row, rows, ta ? r->a.distance : 1, ta ? 1 : r->a.distance, depth);
    for (int64_t column = 0; column < columns; column += WIDE) {
      pack(b, WIDE, p->b, r->b.type, column, columns, tb ? 1 : r->b.distance, tb ? r->b.distance : 1, depth);
      double sum[WIDE][TALL] = {};
      multiply(sum, a, b, depth);
      finish(p, sum, row, column);
    }
  }
  delete[] a;
  delete[] b;
}

static bool aligned(const void *p, uint32_t alignment) {
  return (uintptr_t)p % alignment == 0;
}

static std::atomic<uint64_t> ragged;

uint64_t host_ragged(void) {
  return ragged;
}

static bool is_ragged(const cublasLtMatrixLayoutOpaque_t *x) {
  return x->rows * (x->type == CUDA_R_16BF ? 2 : 4) % 16 != 0;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  RULE(handle && handle->open && (c != d || same(c_layout, d_layout)));
  check_fit(product, a_layout, b_layout, d_layout);
  RULE(algorithm->transpose_a == product->transpose_a && algorithm->transpose_b == product->transpose_b);
  RULE(algorithm->epilogue == product->epilogue);
  RULE(same(&algorithm->a, a_layout) && same(&algorithm->b, b_layout) && same(&algorithm->c, c_layout) &&
       same(&algorithm->out, d_layout));
  RULE(aligned(a, algorithm->alignment[0]) && aligned(b, algorithm->alignment[1]));
  RULE(aligned(c, algorithm->alignment[2]) && aligned(d, algorithm->alignment[3]));
  RULE(workspace_bytes >= algorithm->workspace && aligned(workspace, 256));
  Product p = {*algorithm, 0, 0, a, b, c, product->bias, d, workspace};
  memcpy(&p.alpha, alpha, sizeof p.alpha);
  memcpy(&p.beta, beta, sizeof p.beta);
  host_count_launch();
  if (a_layout->type == CUDA_R_16BF && (is_ragged(a_layout) || is_ragged(b_layout) || is_ragged(d_layout)))
    ragged++;
  host_submit(stream, [p] { run(&p); });
  return CUBLAS_STATUS_SUCCESS;
}
