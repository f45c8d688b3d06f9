/* embedding, embedding_backward, gather_rows, scatter_add_rows. Sizes: T, V (or rows of x), C. */
#ifndef TESTS_COMPUTE_OPS_ROWS_H
#define TESTS_COMPUTE_OPS_ROWS_H

#include "harness.h"

static inline Tensor random_ids(Test *t, int64_t n, int64_t limit) {
  Tensor ids = ids_tensor(t, n);
  for (int64_t i = 0; i < n; i++) ids_of(t, ids)[i] = (int32_t)(draw_uniform(t) * (double)limit);
  return ids;
}

static void test_embedding(Test *t) {
  int64_t T = t->shape.size[0], V = t->shape.size[1], C = t->shape.size[2];
  DType dtype = t->shape.flags & BF16 ? DTYPE_BF16 : DTYPE_F32;
  Tensor table = random_tensor(t, dtype, 2, V, C, 1, 1), out = random_2d(t, T, C), ids = random_ids(t, T, V);
  double *expected = zeros(t, T * C);
  poison(t, out);
  RUN(t, op_embedding(&t->c, out, table, ids, 1.0f, 0.0f));
  for (int64_t i = 0; i < T * C; i++) expected[i] = at(t, table, ids_of(t, ids)[i / C] * C + i % C);
  compare(t, "out", expected, out);
  RUN(t, op_embedding(&t->c, out, table, ids, 3.0f, 0.5f));
  for (int64_t i = 0; i < T * C; i++) { /* beside the first result, as it was rounded */
    expected[i] = 3 * expected[i] + 0.5 * rounded(out.dtype, expected[i]);
  }
  compare(t, "out, accumulated", expected, out);
}

static void test_embedding_backward(Test *t) {
  int64_t T = t->shape.size[0], V = t->shape.size[1], C = t->shape.size[2];
  Tensor dtable = random_tensor(t, DTYPE_F32, 2, V, C, 1, 1), dout = random_2d(t, T, C),
         ids = random_ids(t, T, V);
  double *expected = doubles(t, dtable);
  RUN(t, op_embedding_backward(&t->c, dtable, dout, ids, 0.25f));
  for (int64_t i = 0; i < T * C; i++) expected[ids_of(t, ids)[i / C] * C + i % C] += 0.25 * at(t, dout, i);
  compare(t, "dtable", expected, dtable);
}

/* Distinct rows in a mixed order. */
static inline Tensor distinct_rows(Test *t, int64_t n, int64_t limit) {
  Tensor rows = ids_tensor(t, limit);
  uint32_t *order = host_of(t, rows.data);
  random_permutation(random_key(9, RANDOM_TEST), 1, order, (uint32_t)limit);
  return tensor_rows(rows, 0, n);
}

static void test_gather_rows(Test *t) {
  int64_t N = t->shape.size[0], T = t->shape.size[1], C = t->shape.size[2];
  Tensor x = random_2d(t, T, C), out = random_2d(t, N, C), rows = distinct_rows(t, N, T);
  double *expected = zeros(t, N * C);
  for (int64_t i = 0; i < N * C; i++) expected[i] = at(t, x, ids_of(t, rows)[i / C] * C + i % C);
  poison(t, out);
  RUN(t, op_gather_rows(&t->c, out, x, rows));
  compare_exact(t, "out", expected, out);
}

static void test_scatter_add_rows(Test *t) {
  int64_t N = t->shape.size[0], T = t->shape.size[1], C = t->shape.size[2];
  Tensor dx = random_2d(t, T, C), dout = random_2d(t, N, C), rows = distinct_rows(t, N, T);
  double *expected = doubles(t, dx);
  for (int64_t i = 0; i < N * C; i++) expected[ids_of(t, rows)[i / C] * C + i % C] += at(t, dout, i);
  RUN(t, op_scatter_add_rows(&t->c, dx, dout, rows));
  compare(t, "dx", expected, dx);
}

#define ROWS_SHAPES(op, run, f)                                                 \
  {op, run, {{1, 3, 20}, f}, 1e-6}, {op, run, {{9, 11, 1}, f | STRIDED}, 1e-6}, \
      {op, run, {{40, 50, 300}, f | STRIDED}, 1e-6},                            \
      {op, run, {{10, 12, 264}, f | STRIDED | ALIGNED}, 1e-6}, {                \
    op, run, {{0, 7, 20}, f}, 1e-6                                              \
  }

#define ROW_CASES                                                                                            \
  ROWS_SHAPES("embedding", test_embedding, 0),                                                               \
      {"embedding", test_embedding, {{30, 20, 77}, BF16 | STRIDED}, 1e-6},                                   \
      ROWS_SHAPES("embedding", test_embedding, NARROW),                                                      \
      ROWS_SHAPES("embedding", test_embedding, NARROW | BF16),                                               \
      ROWS_SHAPES("embedding_backward", test_embedding_backward, 0),                                         \
      ROWS_SHAPES("embedding_backward", test_embedding_backward, NARROW),                                    \
      {"embedding_backward", test_embedding_backward, {{300, 3, 77}, 0}, 5e-6},                              \
      {"embedding_backward", test_embedding_backward, {{300, 3, 77}, NARROW}, 5e-6},                         \
      ROWS_SHAPES("gather_rows", test_gather_rows, 0), ROWS_SHAPES("gather_rows", test_gather_rows, NARROW), \
      ROWS_SHAPES("scatter_add_rows", test_scatter_add_rows, 0),                                             \
      ROWS_SHAPES("scatter_add_rows", test_scatter_add_rows, NARROW)

#endif
