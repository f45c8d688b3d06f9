/* Linear layers: library products. With bf16 weights, either x (or dy) is narrowed for the matrix unit, where
 * the processor has one, or the weights are widened block by block. Weights of block dtypes take the same way, as the bf16 weights
 * that they stand for. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/blocks.h"
#include "compute/product.h"

/* A widened block of a bf16 weight stays in the second-level caches. */
enum { WIDEN_BLOCK = 1 << 20 };

/* How a weight is taken: F32 at once, BF16 in blocks of outputs. */
static int64_t block_outputs(Weight w) {
  int64_t outputs = weight_outputs(w);
  if (w.data.dtype == DTYPE_F32) return outputs;
  ASSERT(w.data.dtype == DTYPE_BF16 || dtype_is_blocks(w.data.dtype));
  return min64(outputs, max64(64, WIDEN_BLOCK / max64(1, weight_inputs(w))));
}

static float *block_scratch(Compute *c, Weight w) {
  return w.data.dtype == DTYPE_F32 ? NULL : scratch_floats(c, block_outputs(w) * weight_inputs(w));
}

typedef struct Block {
  const float *data;
  int64_t stride;
} Block;

static void dequantize_floats(const Compute *c, Tensor w, int64_t first, int64_t count, float *out) {
  const Blocks m = blocks_of(w, c->dry);
#pragma omp parallel for num_threads(c->threads) schedule(static) if (count * w.dim[1] > SPAN)
  for (int64_t o = 0; o < count; o++)
    blocks_to_floats(&m, (first + o) * m.per_row, m.per_row, out + o * w.dim[1]);
}

/* Outputs first .. first+count-1 of the weight, in its own layout. */
static Block weight_block(const Compute *c, Weight w, int64_t first, int64_t count, float *scratch) {
  int64_t offset = w.transposed ? first : first * w.data.stride[0];
  if (dtype_is_blocks(w.data.dtype)) {
    dequantize_floats(c, w.data, first, count, scratch);
    return (Block){scratch, w.data.dim[1]};
  }
  if (w.data.dtype == DTYPE_F32) return (Block){f32(w.data) + offset, w.data.stride[0]};
  int64_t rows = w.transposed ? w.data.dim[0] : count, columns = w.transposed ? count : w.data.dim[1];
  const uint16_t *from = (const uint16_t *)w.data.data + offset;
#pragma omp parallel for num_threads(c->threads) schedule(static) if (rows * columns > SPAN)
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < columns; i += VEC) {
      int part = vec_part(columns - i);
      vec_store_part(scratch + r * columns + i, vec_load_bf16_part(from + r * w.data.stride[0] + i, part),
                     part);
    }
  }
  return (Block){scratch, columns};
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

static bool on_matrix_unit(Weight w) {
  return w.data.dtype != DTYPE_F32 && product_bf16_is_fast();
}

/* The weight itself, or the bf16 one that it stands for, in scratch. */
static Tensor narrow_weight(Compute *c, Tensor w) {
  if (!dtype_is_blocks(w.dtype)) return w;
  const Tensor out =
      tensor_2d(scratch_alloc(c, (size_t)(w.dim[0] * w.dim[1]) * 2), DTYPE_BF16, w.dim[0], w.dim[1]);
  if (c->dry) return out;
  const Blocks m = blocks_of(w, false);
#pragma omp parallel for num_threads(c->threads) schedule(static) if (w.dim[0] * w.dim[1] > SPAN)
  for (int64_t o = 0; o < w.dim[0]; o++)
    blocks_to_bf16(&m, o * m.per_row, m.per_row, (uint16_t *)out.data + o * w.dim[1]);
  return out;
}

/* out = alpha * x op(w) + beta * out, x narrowed to bf16. */
static void narrow_product(Compute *c, Tensor out, Tensor x, Weight w, bool transpose, float alpha,
                           float beta) {
  size_t mark = scratch_open(c);
  const Tensor weight = narrow_weight(c, w.data);
  Tensor narrow = tensor_2d(scratch_alloc(c, (size_t)tensor_count(x) * 2), DTYPE_BF16, x.dim[0], x.dim[1]);
  if (!c->dry) {
    CPU(axpby)(c, narrow, x, 1.0f, 0.0f);
    product_bf16(c->threads, transpose, x.dim[0], out.dim[1], x.dim[1], alpha, narrow.data, x.dim[1],
                 weight.data, weight.stride[0], beta, f32(out), out.stride[0]);
  }
  scratch_close(c, mark);
}

static void check_shapes(Tensor x, Tensor y, Weight w) {
  ASSERT(x.dtype == DTYPE_F32 && y.dtype == DTYPE_F32 && x.rank == 2 && y.rank == 2 && w.data.rank == 2);
  ASSERT(x.dim[0] == y.dim[0] && x.dim[1] == weight_inputs(w) && y.dim[1] == weight_outputs(w));
  ASSERT(!(w.transposed && dtype_is_blocks(w.data.dtype)));
}

void CPU(linear)(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta) {
  check_shapes(x, out, w);
  if (c->row_invariant) {
    CPU(linear_rows)(c, out, x, w, bias, alpha, beta);
    return;
  }
  size_t mark = scratch_open(c);
  const float *b = CPU(vector_f32)(c, bias);
  if (b && !c->dry) put_bias(c, out, b, beta);
  float rest = b ? 1.0f : beta;
  float *widened = on_matrix_unit(w) ? NULL : block_scratch(c, w);
  if (on_matrix_unit(w)) {
    narrow_product(c, out, x, w, !w.transposed, alpha, rest);
  } else if (!c->dry && out.dim[0] > 0) {
    int64_t step = block_outputs(w), outputs = weight_outputs(w);
    for (int64_t first = 0; first < outputs; first += step) {
      int64_t count = min64(step, outputs - first);
      Block block = weight_block(c, w, first, count, widened);
      product_f32(c->threads, false, !w.transposed, x.dim[0], count, x.dim[1], alpha, f32(x), x.stride[0],
                  block.data, block.stride, rest, f32(out) + first, out.stride[0]);
    }
  }
  scratch_close(c, mark);
}

void CPU(linear_backward_input)(Compute *c, Tensor dx, Tensor dy, Weight w, float alpha, float beta) {
  check_shapes(dx, dy, w);
  size_t mark = scratch_open(c);
  float *widened = on_matrix_unit(w) ? NULL : block_scratch(c, w);
  if (on_matrix_unit(w)) {
    narrow_product(c, dx, dy, w, w.transposed, alpha, beta);
  } else if (!c->dry && dx.dim[0] > 0) {
    int64_t step = block_outputs(w), outputs = weight_outputs(w);
    for (int64_t first = 0; first < outputs; first += step) {
      int64_t count = min64(step, outputs - first);
      Block block = weight_block(c, w, first, count, widened);
      product_f32(c->threads, false, w.transposed, dx.dim[0], dx.dim[1], count, alpha, f32(dy) + first,
                  dy.stride[0], block.data, block.stride, first ? 1.0f : beta, f32(dx), dx.stride[0]);
    }
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

void CPU(linear_backward_weight)(Compute *c, Weight dw, Tensor dbias, Tensor dy, Tensor x, float alpha) {
  if (!tensor_is_none(dw.data)) {
    check_shapes(x, dy, dw);
    ASSERT(dw.data.dtype == DTYPE_F32);
  }
  if (c->dry || dy.dim[0] == 0) return;
  if (!tensor_is_none(dw.data)) {
    Tensor left = dw.transposed ? x : dy, right = dw.transposed ? dy : x;
    product_f32(c->threads, true, false, left.dim[1], right.dim[1], dy.dim[0], alpha, f32(left),
                left.stride[0], f32(right), right.stride[0], 1.0f, f32(dw.data), dw.data.stride[0]);
  }
  if (!tensor_is_none(dbias)) add_column_sums(c, f32(dbias), dy);
}
