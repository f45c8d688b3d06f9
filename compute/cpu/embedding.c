/* Rows of a table by id, and rows of an activation by number. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/blocks.h"

static inline Vec load_row(Tensor table, int64_t offset, int part) {
  return table.dtype == DTYPE_F32 ? vec_load_part((const float *)table.data + offset, part)
                                  : vec_load_bf16_part((const uint16_t *)table.data + offset, part);
}

/* A row of a table of blocks, as the loop over a plain one below. */
static void embed_blocks(const Blocks *m, int64_t id, float *row, float scale, float beta) {
  for (int64_t b = 0; b < m->per_row; b++) {
    Vec values[BLOCK_VECTORS];
    blocks_load(m, id * m->per_row + b, values);
    for (int v = 0; v < BLOCK_VECTORS; v++) {
      float *at = row + b * BLOCK + v * VEC;
      Vec y = vec_splat(scale) * values[v];
      if (beta != 0) y = vec_fma(vec_splat(beta), vec_load(at), y);
      vec_store(at, y);
    }
  }
}

void CPU(embedding)(Compute *c, Tensor out, Tensor table, Tensor ids, float scale, float beta) {
  if (c->dry) return;
  const bool of_blocks = dtype_is_blocks(table.dtype);
  ASSERT(table.dtype == DTYPE_F32 || table.dtype == DTYPE_BF16 || of_blocks);
  const Blocks blocks = of_blocks ? blocks_of(table, false) : (Blocks){0};
  int64_t tokens = ids.dim[0], channels = table.dim[1];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (tokens * channels > SPAN)
  for (int64_t t = 0; t < tokens; t++) {
    int64_t id = i32(ids)[t];
    ASSERT(id >= 0 && id < table.dim[0]);
    float *row = f32(out) + t * out.stride[0];
    if (of_blocks) embed_blocks(&blocks, id, row, scale, beta);
    for (int64_t i = 0; !of_blocks && i < channels; i += VEC) {
      int part = vec_part(channels - i);
      Vec y = vec_splat(scale) * load_row(table, id * table.stride[0] + i, part);
      if (beta != 0) y = vec_fma(vec_splat(beta), vec_load_part(row + i, part), y);
      vec_store_part(row + i, y, part);
    }
  }
}

/* Each thread owns some columns and takes the tokens in order: repeated ids add up in a fixed order. */
void CPU(embedding_backward)(Compute *c, Tensor dtable, Tensor dout, Tensor ids, float scale) {
  if (c->dry) return;
  int64_t tokens = ids.dim[0], channels = dtable.dim[1], vectors = (channels + VEC - 1) / VEC;
  for (int64_t t = 0; t < tokens; t++) ASSERT(i32(ids)[t] >= 0 && i32(ids)[t] < dtable.dim[0]);
#pragma omp parallel for num_threads(c->threads) \
    schedule(static, (vectors + c->threads - 1) / c->threads) if (tokens * channels > SPAN)
  for (int64_t v = 0; v < vectors; v++) {
    int64_t i = v * VEC;
    int part = vec_part(channels - i);
    for (int64_t t = 0; t < tokens; t++) {
      float *d = f32(dtable) + i32(ids)[t] * dtable.stride[0] + i;
      Vec g = vec_load_part(f32(dout) + t * dout.stride[0] + i, part);
      vec_store_part(d, vec_fma(vec_splat(scale), g, vec_load_part(d, part)), part);
    }
  }
}

void CPU(gather_rows)(Compute *c, Tensor out, Tensor x, Tensor rows) {
  if (c->dry) return;
  int64_t count = rows.dim[0], channels = x.dim[1];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (count * channels > SPAN)
  for (int64_t n = 0; n < count; n++) {
    int64_t row = i32(rows)[n];
    ASSERT(row >= 0 && row < x.dim[0]);
    memcpy(f32(out) + n * out.stride[0], f32(x) + row * x.stride[0], (size_t)channels * sizeof(float));
  }
}

void CPU(scatter_add_rows)(Compute *c, Tensor dx, Tensor dout, Tensor rows) {
  if (c->dry) return;
  int64_t count = rows.dim[0], channels = dx.dim[1];
#pragma omp parallel for num_threads(c->threads) schedule(static) if (count * channels > SPAN)
  for (int64_t n = 0; n < count; n++) {
    int64_t row = i32(rows)[n];
    ASSERT(row >= 0 && row < dx.dim[0]);
    float *d = f32(dx) + row * dx.stride[0];
    const float *g = f32(dout) + n * dout.stride[0];
    for (int64_t i = 0; i < channels; i++) d[i] += g[i];
  }
}
