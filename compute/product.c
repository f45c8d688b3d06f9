#include "compute/product.h"

#include "base/error.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

void product_f32(int threads, bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                 float alpha, const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                 int64_t ldc) {
  if (m == 0 || n == 0) return;
  /* oneDNN asks OpenMP how many threads to use. */
  int before = omp_get_max_threads();
  if (before != threads) omp_set_num_threads(threads);
  dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a, lda,
                                    b, ldb, beta, c, ldc);
  if (before != threads) omp_set_num_threads(before);
  ASSERT(status == dnnl_success); /* it fails on wrong arguments only */
}

bool product_bf16_is_fast(void) {
  return dnnl_get_effective_cpu_isa() >= dnnl_cpu_isa_avx512_core_amx;
}

/* oneDNN fails on wrong arguments and exhausted memory only. */
static void check(dnnl_status_t status) {
  ASSERT(status == dnnl_success);
}

static dnnl_memory_desc_t matrix(int64_t rows, int64_t columns, dnnl_data_type_t type, int64_t row_stride,
                                 int64_t column_stride) {
  dnnl_memory_desc_t desc;
  check(dnnl_memory_desc_init_by_strides(&desc, 2, (dnnl_dims_t){rows, columns}, type,
                                         (dnnl_dims_t){row_stride, column_stride}));
  return desc;
}

static void run_matmul(const dnnl_matmul_desc_t *desc, const_dnnl_primitive_attr_t attributes, void *a,
                       void *b, void *c) {
  dnnl_engine_t engine;
  dnnl_stream_t stream;
  dnnl_primitive_desc_t primitive_desc;
  dnnl_primitive_t primitive; /* oneDNN keeps the compiled code in a cache of its own */
  check(dnnl_engine_create(&engine, dnnl_cpu, 0));
  check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags));
  check(dnnl_primitive_desc_create(&primitive_desc, desc, attributes, engine, NULL));
  check(dnnl_primitive_create(&primitive, primitive_desc));
  dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, NULL}, {DNNL_ARG_WEIGHTS, NULL}, {DNNL_ARG_DST, NULL}};
  check(dnnl_memory_create(&arguments[0].memory, &desc->src_desc, engine, a));
  check(dnnl_memory_create(&arguments[1].memory, &desc->weights_desc, engine, b));
  check(dnnl_memory_create(&arguments[2].memory, &desc->dst_desc, engine, c));
  check(dnnl_primitive_execute(primitive, stream, 3, arguments));
  check(dnnl_stream_wait(stream));
  for (int i = 0; i < 3; i++) dnnl_memory_destroy(arguments[i].memory);
  dnnl_primitive_destroy(primitive);
  dnnl_primitive_desc_destroy(primitive_desc);
  dnnl_stream_destroy(stream);
  dnnl_engine_destroy(engine);
}

void product_bf16(int threads, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                  const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float beta, float *c,
                  int64_t ldc) {
  if (m == 0 || n == 0) return;
  dnnl_memory_desc_t src = matrix(m, k, dnnl_bf16, lda, 1), dst = matrix(m, n, dnnl_f32, ldc, 1);
  dnnl_memory_desc_t weights = matrix(k, n, dnnl_bf16, transpose_b ? 1 : ldb, transpose_b ? ldb : 1);
  dnnl_matmul_desc_t desc;
  dnnl_primitive_attr_t attributes;
  dnnl_post_ops_t post;
  check(dnnl_matmul_desc_init(&desc, &src, &weights, NULL, &dst));
  check(dnnl_primitive_attr_create(&attributes));
  check(dnnl_post_ops_create(&post));
  if (alpha != 1) check(dnnl_primitive_attr_set_output_scales(attributes, 1, 0, &alpha));
  if (beta != 0) check(dnnl_post_ops_append_sum(post, beta));
  check(dnnl_primitive_attr_set_post_ops(attributes, post));
  int before = omp_get_max_threads();
  if (before != threads) omp_set_num_threads(threads);
  run_matmul(&desc, attributes, (void *)(uintptr_t)a, (void *)(uintptr_t)b, c);
  if (before != threads) omp_set_num_threads(before);
  dnnl_post_ops_destroy(post);
  dnnl_primitive_attr_destroy(attributes);
}
