/* Linear layers: forward by the products of product.h, backward by the library's; where the processor has a matrix unit, on that, F32 factors whole. With
 * bf16 weights, either the unit has x (or dy) narrowed, or the weights are widened: forward as they are packed, backward block by block. Weights of block
 * dtypes take the same way, as the bf16 weights that they stand for. */
#include "compute/cpu/cpu.h"

#include "compute/amx/product.h"
#include "compute/linear_adapted.h"

#include "compute/cpu/blocks.h"
#include "compute/cpu/product.h"

/* A widened block stays in the second-level caches. One for the matrix unit is large enough to be as fast as all of the weight,
 * and bounds the memory for what is not bf16 already. */
enum { WIDEN_BLOCK = 1 << 20, NARROW_BLOCK = 1 << 24 };

static bool on_matrix_unit(Weight w) {
  return w.data.dtype != DTYPE_F32 && product_has_matrix_unit();
}

enum {
  THIN = 48,           /* fewer outputs are the library's, since packing x would not pay */
  SHORT_SUM = 64,      /* fewer links are too few for the unit, which has them by 32, each in three parts */
  SHORT_GRADIENT = 128 /* the same of the gradient of a weight, where both factors have to be turned */
};

/* Whether F32 factors go to the unit whole, for products with n outputs of k links. What a row is must not depend on how many there are. */
static bool whole_on_unit(int64_t n, int64_t k) {
  return n >= THIN && k >= SHORT_SUM && product_has_matrix_unit();
}

/* Whether the forward has this weight whole on the unit; rows of a rollout have their own definition (linear_rows.h). */
static bool forward_is_whole(const Compute *c, Weight w) {
  return w.data.dtype == DTYPE_F32 && !c->row_invariant && whole_on_unit(weight_outputs(w), weight_inputs(w));
}

/* How many outputs are taken at once where a weight is widened or decoded first, on the matrix unit by the backward alone. The same for all
 * that is bf16 by value: sums depend on it. */
static int64_t block_outputs(Weight w) {
  int64_t outputs = weight_outputs(w), elements = on_matrix_unit(w) ? NARROW_BLOCK : WIDEN_BLOCK;
  if (w.data.dtype == DTYPE_F32) return outputs;
  return min64(outputs, max64(64, elements / max64(1, weight_inputs(w))));
}

static void *block_scratch(Compute *c, Weight w) {
  const bool blocks = dtype_is_blocks(w.data.dtype);
  ASSERT(w.data.dtype == DTYPE_F32 || w.data.dtype == DTYPE_BF16 || (blocks && !w.transposed));
  if (on_matrix_unit(w) ? !blocks : w.data.dtype == DTYPE_F32) return NULL;
  const size_t size = on_matrix_unit(w) ? sizeof(uint16_t) : sizeof(float);
  return scratch_alloc(c, (size_t)(block_outputs(w) * weight_inputs(w)) * size);
}

/* F32; for the matrix unit BF16. */
typedef struct Matrix {
  const void *data;
  int64_t stride;
} Matrix;

static Matrix widened_block(const Compute *c, Weight w, int64_t offset, int64_t rows, int64_t columns,
                            float *to) {
  const uint16_t *from = (const uint16_t *)w.data.data + offset;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (rows * columns > SPAN)
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < columns; i += VEC) {
      int part = vec_part(columns - i);
      vec_store_part(to + r * columns + i, vec_load_bf16_part(from + r * w.data.stride[0] + i, part), part);
    }
  }
  return (Matrix){to, columns};
}

/* Rows first .. first+rows-1 of a matrix of blocks. */
static Matrix decoded_block(const Compute *c, Tensor w, int64_t first, int64_t rows, bool narrow, void *to) {
  const Blocks m = blocks_of(w, false);
  const int64_t columns = w.dim[1];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (rows * columns > SPAN)
  for (int64_t r = 0; r < rows; r++) {
    const int64_t n = (first + r) * m.per_row;
    if (narrow)
      blocks_to_bf16(&m, n, m.per_row, (uint16_t *)to + r * columns);
    else
      blocks_to_floats(&m, n, m.per_row, (float *)to + r * columns);
  }
  return (Matrix){to, columns};
}

/* Outputs first .. first+count-1 of the weight, in its own layout. */
static Matrix weight_block(const Compute *c, Weight w, int64_t first, int64_t count, void *scratch) {
  const int64_t offset = w.transposed ? first : first * w.data.stride[0];
  if (dtype_is_blocks(w.data.dtype))
    return decoded_block(c, w.data, first, count, on_matrix_unit(w), scratch);
  if (w.data.dtype == DTYPE_F32) return (Matrix){f32(w.data) + offset, w.data.stride[0]};
  if (on_matrix_unit(w)) return (Matrix){(const uint16_t *)w.data.data + offset, w.data.stride[0]};
  return widened_block(c, w, offset, w.transposed ? w.data.dim[0] : count,
                       w.transposed ? count : w.data.dim[1], scratch);
}

/* out = bias + beta * out, so that the product can be added. */
static void put_bias(const Compute *c, Tensor out, const float *bias, float beta) {
#pragma omp parallel for num_threads(c->threads) schedule(static) if (tensor_count(out) > SPAN)
  for (int64_t t = 0; t < out.dim[0]; t++) {
    float *row = f32(out) + t * out.stride[0];
    for (int64_t i = 0; i < out.dim[1]; i += VEC) {
      int part = vec_part(out.dim[1] - i);
      Vec y = vec_load_part(bias + i, part);
      if (beta != 0) y = vec_fma(vec_splat(beta), vec_load_part(row + i, part), y);
      vec_store_part(row + i, y, part);
    }
  }
}

static void check_shapes(Tensor x, Tensor y, Weight w) {
  ASSERT(x.dtype == DTYPE_F32 && y.dtype == DTYPE_F32 && x.rank == 2 && y.rank == 2 && w.data.rank == 2);
  ASSERT(x.dim[0] == y.dim[0] && x.dim[1] == weight_inputs(w) && y.dim[1] == weight_outputs(w));
}

/* Workspace of a product on the matrix unit; NULL without. */
static void *unit_scratch(Compute *c, bool unit, bool whole, int64_t m, int64_t n, int64_t k) {
  return unit ? scratch_alloc(c, product_amx_scratch(c->threads, whole, m, n, k)) : NULL;
}

/* The links [link, inputs) of outputs from `output` on; blocks: room for what it points to. */
static ProductFactor weight_factor(const Compute *c, Weight w, int64_t output, int64_t link, Blocks *blocks) {
  ProductFactor f = {
      .stride = w.data.stride[0], .narrow = w.data.dtype == DTYPE_BF16, .across = w.transposed};
  if (!dtype_is_blocks(w.data.dtype)) {
    const int64_t offset = w.transposed ? link * f.stride + output : output * f.stride + link;
    f.data = c->dry ? NULL : (const char *)w.data.data + offset * (f.narrow ? 2 : 4);
    return f;
  }
  *blocks = blocks_of(w.data, c->dry);
  const int64_t first = output * blocks->per_row + link / BLOCK;
  if (!c->dry) blocks->codes += first * (blocks->dtype == DTYPE_Q8 ? BLOCK : BLOCK / 2);
  if (!c->dry) blocks->scales += first;
  f.blocks = blocks;
  return f;
}

/* out = alpha * x W^T + term + bias + beta * out for the outputs of W from `output` on, as many as out has. Long sums are put into out and go on from
 * there, so that many rows of x stay in the caches meanwhile; the term comes first. */
static void put_product(Compute *c, Tensor out, Tensor x, Weight w, int64_t output, const float *bias,
                        float alpha, float beta, const AdapterTerm *term) {
  const size_t mark = scratch_open(c);
  const int64_t inputs = x.dim[1], more = term ? term->u.dim[1] : 0;
  const int64_t most = (PRODUCT_LINKS - more) / BLOCK * BLOCK, parts = max64(1, (inputs + most - 1) / most);
  const int64_t step = (inputs + parts * BLOCK - 1) / (parts * BLOCK) * BLOCK; /* parts of one size */
  ASSERT(w.data.dtype == DTYPE_F32 || w.data.dtype == DTYPE_BF16 || !w.transposed);
  Product p = {.m = x.dim[0], .n = out.dim[1], .chains = 1, .alpha = alpha, .beta = beta, .bias = bias};
  p.c = f32(out);
  p.ldc = out.stride[0];
  float *scratch =
      scratch_floats(c, CPU(product_floats)(c->threads, p.m, p.n, min64(step, inputs) + more, p.chains));
  for (int64_t link = 0; !c->dry && link < max64(1, inputs); link += step) {
    Blocks blocks;
    p.k = min64(step, inputs - link);
    p.a = (ProductFactor){.data = f32(x) + link, .stride = x.stride[0]};
    p.b = weight_factor(c, w, output, link, &blocks);
    p.more = 0;
    if (term && link == 0) {
      p.more = more;
      p.more_a = (ProductFactor){.data = term->u.data, .stride = term->u.stride[0]};
      p.more_b = (ProductFactor){.data = term->b.data, .stride = term->b.stride[0]};
      p.more_scale = term->scale;
    }
    CPU(product)(c->threads, &p, scratch);
    p.beta = 1;
    p.bias = NULL;
  }
  scratch_close(c, mark);
}

/* The same for few outputs. */
static void put_thin_product(const Compute *c, Tensor out, Tensor x, Weight w, const float *bias, float alpha,
                             float beta) {
  if (c->dry || out.dim[0] == 0) return;
  if (bias) put_bias(c, out, bias, beta);
  product_f32(c->threads, false, !w.transposed, x.dim[0], out.dim[1], x.dim[1], alpha, f32(x), x.stride[0],
              f32(w.data), w.data.stride[0], bias ? 1 : beta, f32(out), out.stride[0]);
}

/* The same on the matrix unit, for all of W. */
static void put_product_on_unit(Compute *c, Tensor out, Tensor x, Weight w, const float *bias, float alpha,
                                float beta) {
  if (bias && !c->dry) put_bias(c, out, bias, beta);
  if (bias) beta = 1;
  const int64_t m = x.dim[0], n = weight_outputs(w), k = x.dim[1];
  const bool whole = w.data.dtype == DTYPE_F32;
  void *scratch = unit_scratch(c, true, whole, m, n, k);
  if (c->dry || m == 0) return;
  Blocks blocks;
  ProductFactor b = {
      .data = w.data.data, .stride = w.data.stride[0], .narrow = !whole, .across = w.transposed};
  if (dtype_is_blocks(w.data.dtype)) {
    blocks = blocks_of(w.data, false);
    b = (ProductFactor){.blocks = &blocks};
  }
  const ProductFactor a = {.data = x.data, .stride = x.stride[0]};
  product_amx(c->threads, whole, m, n, k, alpha, a, b, beta, f32(out), out.stride[0], scratch);
}

void CPU(linear)(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta) {
  check_shapes(x, out, w);
  const bool unit = on_matrix_unit(w) || forward_is_whole(c, w); /* whose rows do not depend on each other */
  if (c->row_invariant && !unit) {
    CPU(linear_rows)(c, out, x, w, bias, alpha, beta);
    return;
  }
  size_t mark = scratch_open(c);
  const float *b = CPU(vector_f32)(c, bias);
  if (unit) {
    put_product_on_unit(c, out, x, w, b, alpha, beta);
  } else if (w.data.dtype == DTYPE_F32 && out.dim[1] < THIN) {
    put_thin_product(c, out, x, w, b, alpha, beta);
  } else {
    put_product(c, out, x, w, 0, b, alpha, beta, NULL);
  }
  scratch_close(c, mark);
}

void CPU(linear_add)(Compute *c, Tensor out, Tensor addend, Tensor x, Weight w, Tensor bias, float alpha) {
  CPU(axpby)(c, out, addend, 1, 0);
  CPU(linear)(c, out, x, w, bias, alpha, 1);
}

/* Whether a term's links can be added to those of x. */
static bool can_follow(AdapterTerm term) {
  return tensor_is_none(term.u) || (term.b.dtype == DTYPE_F32 && term.u.dim[1] <= PRODUCT_LINKS / 2);
}

void CPU(linear_adapted)(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, const AdapterTerm *terms,
                         int count, float beta) {
  bool follow = !c->row_invariant && !on_matrix_unit(w) && !forward_is_whole(c, w);
  for (int i = 0; i < count; i++) follow = follow && can_follow(terms[i]);
  if (!follow) {
    linear_adapted_in_steps(CPU(linear), c, out, x, w, bias, terms, count, beta);
    return;
  }
  check_shapes(x, out, w);
  const size_t mark = scratch_open(c);
  const float *b = CPU(vector_f32)(c, bias);
  for (int64_t i = 0, output = 0; i < count; output += terms[i++].outputs)
    put_product(c, tensor_columns(out, output, terms[i].outputs), x, w, output, b ? b + output : NULL, 1,
                beta, tensor_is_none(terms[i].u) ? NULL : &terms[i]);
  scratch_close(c, mark);
}

void CPU(linear_backward_input)(Compute *c, Tensor dx, Tensor dy, Weight w, float alpha, float beta) {
  check_shapes(dx, dy, w);
  size_t mark = scratch_open(c);
  const int64_t m = dx.dim[0], n = dx.dim[1], step = block_outputs(w);
  const int64_t outputs = c->dry || m == 0 ? 0 : weight_outputs(w);
  const bool whole = w.data.dtype == DTYPE_F32 && whole_on_unit(n, step);
  void *scratch = block_scratch(c, w), *unit = unit_scratch(c, whole || on_matrix_unit(w), whole, m, n, step);
  for (int64_t first = 0; first < outputs; first += step) {
    const int64_t count = min64(step, outputs - first);
    const Matrix block = weight_block(c, w, first, count, scratch);
    const ProductFactor a = {.data = f32(dy) + first, .stride = dy.stride[0]};
    const ProductFactor b = {block.data, block.stride, .narrow = !whole, .across = !w.transposed};
    const float rest = first ? 1.0f : beta;
    if (unit)
      product_amx(c->threads, whole, m, n, count, alpha, a, b, rest, f32(dx), dx.stride[0], unit);
    else
      product_f32(c->threads, false, w.transposed, m, n, count, alpha, a.data, a.stride, b.data, b.stride,
                  rest, f32(dx), dx.stride[0]);
  }
  scratch_close(c, mark);
}

/* dbias += column sums of dy, rows in order. */
static void add_column_sums(const Compute *c, float *dbias, Tensor dy) {
  int64_t vectors = (dy.dim[1] + VEC - 1) / VEC;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (tensor_count(dy) > SPAN)
  for (int64_t v = 0; v < vectors; v++) {
    int64_t i = v * VEC;
    int part = vec_part(dy.dim[1] - i);
    Vec sum = vec_splat(0.0f);
    for (int64_t t = 0; t < dy.dim[0]; t++) sum += vec_load_part(f32(dy) + t * dy.stride[0] + i, part);
    vec_store_part(dbias + i, vec_load_part(dbias + i, part) + sum, part);
  }
}

/* dw += alpha * left^T right, whole on the matrix unit, so many rows of dw at once: of a vocabulary, packed left would have 100 MiB and more. */
static void add_whole_product(Compute *c, Weight dw, Tensor left, Tensor right, float alpha) {
  enum { ROWS_AT_ONCE = 4096 };
  const int64_t m = left.dim[1], n = right.dim[1], k = left.dim[0], step = min64(m, ROWS_AT_ONCE);
  void *unit = unit_scratch(c, true, true, step, n, k);
  const ProductFactor b = {.data = right.data, .stride = right.stride[0], .across = true};
  for (int64_t row = 0; row < (c->dry ? 0 : m); row += step) {
    const ProductFactor a = {.data = f32(left) + row, .stride = left.stride[0], .across = true};
    product_amx(c->threads, true, min64(step, m - row), n, k, alpha, a, b, 1,
                f32(dw.data) + row * dw.data.stride[0], dw.data.stride[0], unit);
  }
}

/* The same, wherever it is best. */
static void add_product(Compute *c, Weight dw, Tensor left, Tensor right, float alpha) {
  const int64_t m = left.dim[1], n = right.dim[1], k = left.dim[0];
  if (!dw.narrow && m >= THIN && k >= SHORT_GRADIENT && whole_on_unit(n, k)) {
    add_whole_product(c, dw, left, right, alpha);
    return;
  }
  void *unit = unit_scratch(c, dw.narrow && product_has_matrix_unit(), false, m, n, k);
  if (c->dry || k == 0) return;
  const ProductFactor a = {.data = left.data, .stride = left.stride[0], .across = true};
  const ProductFactor b = {.data = right.data, .stride = right.stride[0], .across = true};
  if (unit)
    product_amx(c->threads, false, m, n, k, alpha, a, b, 1, f32(dw.data), dw.data.stride[0], unit);
  else
    product_f32(c->threads, true, false, m, n, k, alpha, f32(left), left.stride[0], f32(right),
                right.stride[0], 1, f32(dw.data), dw.data.stride[0]);
}

void CPU(linear_backward_weight)(Compute *c, Weight dw, Tensor dbias, Tensor dy, Tensor x, float alpha) {
  if (!tensor_is_none(dw.data)) {
    check_shapes(x, dy, dw);
    ASSERT(dw.data.dtype == DTYPE_F32);
  }
  const size_t mark = scratch_open(c);
  if (!tensor_is_none(dw.data)) add_product(c, dw, dw.transposed ? x : dy, dw.transposed ? dy : x, alpha);
  if (!tensor_is_none(dbias) && !c->dry) add_column_sums(c, f32(dbias), dy);
  scratch_close(c, mark);
}
