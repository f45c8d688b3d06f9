/* Attention alone, at the heads of the shape: forward, then backward, over packed sequences of one length. The FLOPs
 * are those of causal attention: 4*D a pair of query and key forward, 10*D backward (five products). */
#include "tools/bench_model/work.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>

static Tensor heads_new(Bench *b, int64_t rows, int64_t heads) {
  const int64_t size = b->model.spec.head_size;
  const DType dtype = compute_activation(&b->compute, b->model.dtype);
  return tensor_heads(tensor_new_2d(&b->memory.step, dtype, rows, heads * size), 0, heads, size, size);
}

static bool open(Bench *b, Error *error) {
  const ModelSpec *s = &b->model.spec;
  const int64_t sequences = b->config->micro_batch_tokens / b->config->length;
  if (sequences < 1) return error_set(error, ERROR_USAGE, "micro-batch-tokens is less than length");
  const int64_t rows = sequences * b->config->length;
  b->tokens = (double)rows;
  Tensor *query_sized[] = {&b->q, &b->out, &b->dout, &b->dq}, *key_sized[] = {&b->k, &b->v, &b->dk, &b->dv};
  for (int i = 0; i < 4; i++) *query_sized[i] = heads_new(b, rows, s->heads);
  for (int i = 0; i < 4; i++) *key_sized[i] = heads_new(b, rows, s->kv_heads);
  b->lse = tensor_new_2d(&b->memory.step, DTYPE_F32, rows, s->heads);
  b->offsets = tensor_new_1d(&b->memory.step, DTYPE_I32, sequences + 1);
  return true;
}

static bool fill(Bench *b, Tensor x, uint64_t number, Error *error) {
  const int64_t count = tensor_count(x);
  const Tensor flat = tensor_1d(x.data, x.dtype, count);
  const RandomKey key = random_key(number, RANDOM_TEST);
  float *values = memory_alloc((size_t)count * sizeof *values);
  void *narrow = memory_alloc(tensor_bytes(flat));
  if (!values || !narrow) return error_out_of_memory(error, "values", (size_t)count * sizeof *values);
#pragma omp parallel for
  for (int64_t i = 0; i < count; i++) values[i] = random_normal(key, 0, (uint64_t)i);
  dtype_convert(narrow, x.dtype, values, DTYPE_F32, (size_t)count);
  compute_upload(&b->compute, flat, narrow);
  memory_free(values);
  memory_free(narrow);
  return true;
}

static bool start(Bench *b, Error *error) {
  const int64_t sequences = b->offsets.dim[0] - 1;
  int32_t *offsets = memory_alloc((size_t)(sequences + 1) * sizeof *offsets);
  if (!offsets) return error_out_of_memory(error, "offsets", (size_t)sequences);
  for (int64_t i = 0; i <= sequences; i++) offsets[i] = (int32_t)(i * b->config->length);
  compute_upload(&b->compute, b->offsets, offsets);
  memory_free(offsets);
  return fill(b, b->q, 1, error) && fill(b, b->k, 2, error) && fill(b, b->v, 3, error) &&
         fill(b, b->dout, 4, error);
}

static void wait(Bench *b) {
  float value[1];
  compute_download(&b->compute, value, tensor_1d(b->lse.data, DTYPE_F32, 1));
}

static bool step(Bench *b, Error *error) {
  (void)error;
  enum { REPEAT = 10 };
  const AttentionSpec spec = {.scale = 1 / sqrtf((float)b->model.spec.head_size)};
  double seconds[2];
  wait(b);
  for (int backward = 0; backward < 2; backward++) {
    const double started = time_monotonic();
    for (int i = 0; i < REPEAT && !(b->compute.dry && i); i++) {
      if (backward) {
        op_attention_backward(&b->compute, b->dq, b->dk, b->dv, b->dout, b->out, b->lse, b->q, b->k, b->v,
                              b->offsets, spec);
      } else {
        op_attention(&b->compute, b->out, b->lse, b->q, b->k, b->v, b->offsets, spec);
      }
    }
    wait(b);
    seconds[backward] = (time_monotonic() - started) / REPEAT;
  }
  b->seconds = seconds[0];
  snprintf(b->more, sizeof b->more, ",\"forward_seconds\":%.6g,\"backward_seconds\":%.6g", seconds[0],
           seconds[1]);
  return true;
}

static double flops(const Bench *b, double product_parameters) {
  (void)product_parameters;
  const double pairs = b->tokens * ((double)b->config->length + 1) / 2;
  return 4 * pairs * (double)(b->model.spec.heads * b->model.spec.head_size);
}

static void close(Bench *b) {
  (void)b;
}

const BenchWork bench_attention = {open, start, step, flops, close};
