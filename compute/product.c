#include "compute/product.h"

#include "base/dtype.h"
#include "base/error.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

/* oneDNN asks OpenMP how many threads to use. */
static int use_threads(int threads) {
  int before = omp_get_max_threads();
  if (before != threads) omp_set_num_threads(threads);
  return before;
}

void product_f32(int threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                 int64_t ldc) {
  if (m == 0 || n == 0) return;
  int before = use_threads(threads);
  dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda,
                                    b, ldb, beta, c, ldc);
  use_threads(before);
  ASSERT(status == dnnl_success); /* it fails on wrong arguments only */
}

/* -- instruction sets: oneDNN's values are sets of bits, of which its versions have more and more -- */

static bool includes(dnnl_cpu_isa_t set, dnnl_cpu_isa_t part) {
  return ((unsigned)set & (unsigned)part) == (unsigned)part;
}

static ProductSet product_set(void) {
  dnnl_cpu_isa_t set = dnnl_get_effective_cpu_isa();
  return includes(set, dnnl_cpu_isa_avx512_core_amx) ? PRODUCT_AMX
         : includes(set, dnnl_cpu_isa_avx512_core)   ? PRODUCT_AVX512
         : includes(set, dnnl_cpu_isa_avx2)          ? PRODUCT_AVX2
                                                     : PRODUCT_LESS;
}

bool product_bf16_is_fast(void) {
  return product_set() == PRODUCT_AMX;
}

const char *product_set_name(void) {
  static const char *const names[] = {"less than avx2", "avx2", "avx512", "amx"};
  return names[product_set()];
}

bool product_hold(ProductSet set) {
  static const dnnl_cpu_isa_t most[] = {
      [PRODUCT_AVX2] = dnnl_cpu_isa_avx2,
      [PRODUCT_AVX512] = dnnl_cpu_isa_avx512_core,
      [PRODUCT_AMX] = dnnl_cpu_isa_avx512_core_amx,
  };
  /* The call would overrule what the user has told oneDNN itself. It fails when oneDNN has been used already; what
   * counts is what it takes now. */
  if (!getenv("ONEDNN_MAX_CPU_ISA") && !getenv("DNNL_MAX_CPU_ISA")) (void)dnnl_set_max_cpu_isa(most[set]);
  return product_set() == set;
}

/* -- bf16 -- */

/* oneDNN fails on wrong arguments and exhausted memory only. */
static void check(dnnl_status_t status) {
  ASSERT(status == dnnl_success);
}

/* A shape takes 0.2 to 0.5 MiB, a thread up to 0.8 (oneDNN 2.6). */
enum { KEPT_SHAPES = 32 };
static const size_t SHAPE_BYTES = (size_t)1 << 19, THREAD_BYTES = (size_t)1 << 20;

size_t product_bf16_held(int threads) {
  return KEPT_SHAPES * SHAPE_BYTES + (size_t)threads * THREAD_BYTES;
}

static void hold_cache(void) {
  static bool held;
  if (!held) check(dnnl_set_primitive_cache_capacity(KEPT_SHAPES));
  held = true;
}

/* c = alpha * (a b) + beta * c of matrices in these layouts. */
typedef struct Matmul {
  dnnl_memory_desc_t a, b, c;
  float alpha, beta;
} Matmul;

/* What differs between oneDNN 2 and 3: descriptions of matrices became objects, that of the operation went. */
#if DNNL_VERSION_MAJOR >= 3
static void layout(dnnl_memory_desc_t *desc, const dnnl_dims_t size, dnnl_data_type_t type,
                   const dnnl_dims_t stride) {
  check(dnnl_memory_desc_create_with_strides(desc, 2, size, type, stride));
}

static void layout_free(dnnl_memory_desc_t *desc) {
  check(dnnl_memory_desc_destroy(*desc));
}

static void memory_new(dnnl_memory_t *memory, const dnnl_memory_desc_t *desc, dnnl_engine_t engine,
                       void *data) {
  check(dnnl_memory_create(memory, *desc, engine, data));
}

static void then_scale(dnnl_post_ops_t post, float alpha) {
  check(dnnl_post_ops_append_eltwise(post, dnnl_eltwise_linear, alpha, 0));
}

static void then_add(dnnl_post_ops_t post, float beta) {
  check(dnnl_post_ops_append_sum(post, beta, 0, dnnl_data_type_undef));
}

static void matmul_new(dnnl_primitive_desc_t *desc, const Matmul *matmul, dnnl_engine_t engine,
                       const_dnnl_primitive_attr_t attributes) {
  check(dnnl_matmul_primitive_desc_create(desc, engine, matmul->a, matmul->b, NULL, matmul->c, attributes));
}
#else
static void layout(dnnl_memory_desc_t *desc, const dnnl_dims_t size, dnnl_data_type_t type,
                   const dnnl_dims_t stride) {
  check(dnnl_memory_desc_init_by_strides(desc, 2, size, type, stride));
}

static void layout_free(dnnl_memory_desc_t *desc) {
  (void)desc;
}

static void memory_new(dnnl_memory_t *memory, const dnnl_memory_desc_t *desc, dnnl_engine_t engine,
                       void *data) {
  check(dnnl_memory_create(memory, desc, engine, data));
}

static void then_scale(dnnl_post_ops_t post, float alpha) {
  check(dnnl_post_ops_append_eltwise(post, 1, dnnl_eltwise_linear, alpha, 0));
}

static void then_add(dnnl_post_ops_t post, float beta) {
  check(dnnl_post_ops_append_sum(post, beta));
}

static void matmul_new(dnnl_primitive_desc_t *desc, const Matmul *matmul, dnnl_engine_t engine,
                       const_dnnl_primitive_attr_t attributes) {
  dnnl_matmul_desc_t operation;
  check(dnnl_matmul_desc_init(&operation, &matmul->a, &matmul->b, NULL, &matmul->c));
  check(dnnl_primitive_desc_create(desc, &operation, attributes, engine, NULL));
}
#endif

static dnnl_primitive_attr_t scale_and_add(float alpha, float beta) {
  dnnl_primitive_attr_t attributes;
  dnnl_post_ops_t post;
  check(dnnl_primitive_attr_create(&attributes));
  check(dnnl_post_ops_create(&post));
  if (alpha != 1) then_scale(post, alpha);
  if (beta != 0) then_add(post, beta);
  check(dnnl_primitive_attr_set_post_ops(attributes, post)); /* a copy */
  check(dnnl_post_ops_destroy(post));
  return attributes;
}

static void run_matmul(const Matmul *matmul, void *a, void *b, void *c) {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_desc_t desc;
  dnnl_primitive_t primitive; /* oneDNN keeps the compiled code in a cache of its own */
  hold_cache();
  dnnl_primitive_attr_t attributes = scale_and_add(matmul->alpha, matmul->beta);
  check(dnnl_engine_create(&engine, dnnl_cpu, 0));
  check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
  matmul_new(&desc, matmul, engine, attributes);
  check(dnnl_primitive_create(&primitive, desc));
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, NULL}, {DNNL_ARG_WEIGHTS, NULL}, {DNNL_ARG_DST, NULL}};
  memory_new(&arguments[0].memory, &matmul->a, engine, a);
  memory_new(&arguments[1].memory, &matmul->b, engine, b);
  memory_new(&arguments[2].memory, &matmul->c, engine, c);
  check(dnnl_primitive_execute(primitive, stream, 3, arguments));
  check(dnnl_stream_wait(stream));
  for (int i = 0; i < 3; i++) dnnl_memory_destroy(arguments[i].memory);
  dnnl_primitive_destroy(primitive);
  dnnl_primitive_desc_destroy(desc);
  dnnl_stream_destroy(stream);
  dnnl_engine_destroy(engine);
  dnnl_primitive_attr_destroy(attributes);
}

/* A product with one column. oneDNN 3.7 writes beside it where the rows of c lie apart; and being a sum over memory that is
 * read once, it needs no matrix unit. */
static void product_column(int threads, int64_t m, int64_t k, float alpha, const uint16_t *a, int64_t lda,
                           const uint16_t *b, int64_t stride, float beta, float *c, int64_t ldc) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t i = 0; i < m; i++) {
    float sum = 0;
    for (int64_t l = 0; l < k; l++) sum += float_from_bf16(a[i * lda + l]) * float_from_bf16(b[l * stride]);
    c[i * ldc] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc]);
  }
}

void product_bf16(int threads, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                  const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float beta, float *c,
                  int64_t ldc) {
  ASSERT(product_bf16_is_fast());
  if (m == 0 || n == 0) return;
  if (n == 1) {
    product_column(threads, m, k, alpha, a, lda, b, transpose_b ? 1 : ldb, beta, c, ldc);
    return;
  }
  Matmul matmul = {.alpha = alpha, .beta = beta};
  layout(&matmul.a, (dnnl_dims_t){m, k}, dnnl_bf16, (dnnl_dims_t){lda, 1});
  layout(&matmul.b, (dnnl_dims_t){k, n}, dnnl_bf16,
         (dnnl_dims_t){transpose_b ? 1 : ldb, transpose_b ? ldb : 1});
  layout(&matmul.c, (dnnl_dims_t){m, n}, dnnl_f32, (dnnl_dims_t){ldc, 1});
  int before = use_threads(threads);
  run_matmul(&matmul, (void *)(uintptr_t)a, (void *)(uintptr_t)b, c);
  use_threads(before);
  layout_free(&matmul.a);
  layout_free(&matmul.b);
  layout_free(&matmul.c);
}
