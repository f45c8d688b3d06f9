/* bench_ops [--threads N] [WORD]: speed of the compute operations at the shapes of GPT-2 124M and SmolLM2-135M.
 *
 * One line per operation and shape: the shortest of several runs, and its rate. Products are set against the
 * library product of the same shape, what reads weights or caches against plain reading of memory, both
 * measured in the same run. WORD picks the lines that contain it. */
#include "base/process.h"
#include "base/log.h"
#include "compute/ceilings.h"
#include "compute/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bench {
  Compute c;
  Arena arena;
  const char *word; /* NULL: everything */
  double memory;    /* bytes/s of plain reading */
} Bench;

static const double SECONDS = 0.4; /* per line */

/* Shortest time of `call`, which sees `b`; the first call plans the scratch memory. */
#define SHORTEST(b, best, ...)                                                    \
  do {                                                                            \
    Error error_ = {0};                                                           \
    compute_dry_begin(&(b)->c);                                                   \
    __VA_ARGS__;                                                                  \
    if (!compute_dry_end(&(b)->c, &error_)) fail(&error_);                        \
    __VA_ARGS__;                                                                  \
    best = INFINITY;                                                              \
    for (double start_ = time_monotonic(), t_ = start_; t_ - start_ < SECONDS;) { \
      __VA_ARGS__;                                                                \
      double now_ = time_monotonic();                                             \
      if (now_ - t_ < best) best = now_ - t_;                                     \
      t_ = now_;                                                                  \
    }                                                                             \
  } while (0)

static _Noreturn void fail(const Error *error) {
  fprintf(stderr, "bench_ops: %s\n", error->message);
  exit((int)error->code);
}

static bool wanted(const Bench *b, const char *line) {
  return !b->word || strstr(line, b->word);
}

static void report(const char *line, double seconds, double rate, const char *unit, double limit,
                   const char *of) {
  printf("%-44s %10.1f us %9.1f %-7s", line, seconds * 1e6, rate, unit);
  if (limit > 0) printf(" %5.0f%% of %s", 100 * rate / limit, of);
  printf("\n");
  fflush(stdout);
}

static Tensor filled(Bench *b, DType dtype, int64_t rows, int64_t columns, float value) {
  Tensor x = tensor_new_2d(&b->arena, dtype, rows, columns);
  op_fill(&b->c, x, value);
  return x;
}

static Tensor heads_of(Tensor x, int64_t first, int64_t heads, int64_t size) {
  return tensor_heads(x, first, heads, size, size);
}

/* Forward and both backwards of a training linear. */
static void bench_linear(Bench *b, int64_t T, int64_t I, int64_t O, DType dtype) {
  char line[128];
  snprintf(line, sizeof line, "linear %d x %d -> %d %s", (int)T, (int)I, (int)O, dtype_name(dtype));
  if (!wanted(b, line)) return;
  size_t mark = arena_mark(&b->arena);
  Tensor x = filled(b, DTYPE_F32, T, I, 0.5f), y = filled(b, DTYPE_F32, T, O, 0.5f), none = {0};
  Tensor bias = tensor_rows(filled(b, DTYPE_F32, O, 1, 0), 0, O);
  bias = tensor_1d(bias.data, DTYPE_F32, O);
  Weight w = {.data = filled(b, dtype, O, I, 0.01f)};
  Weight dw = {.data = filled(b, DTYPE_F32, O, I, 0), .narrow = dtype == DTYPE_BF16};
  double flop = 2.0 * (double)T * (double)I * (double)O * 1e-9, best;
  SHORTEST(b, best, op_linear(&b->c, y, x, w, bias, 1, 0));
  report(line, best, flop / best, "GFLOP/s", 0, "");
  SHORTEST(b, best, op_linear_backward_input(&b->c, x, y, w, 1, 0));
  report("  backward, input", best, flop / best, "GFLOP/s", 0, "");
  SHORTEST(b, best, op_linear_backward_weight(&b->c, dw, none, y, x, 1));
  report("  backward, weight", best, flop / best, "GFLOP/s", 0, "");
  arena_release(&b->arena, mark);
}

/* The linear of rollouts. Several copies of the weights in turn, so that they come from memory. */
static void bench_rows(Bench *b, int64_t T, int64_t I, int64_t O, DType dtype, bool transposed) {
  char line[128];
  snprintf(line, sizeof line, "rows %d x %d -> %d %s%s", (int)T, (int)I, (int)O, dtype_name(dtype),
           transposed ? " transposed" : "");
  if (!wanted(b, line)) return;
  size_t mark = arena_mark(&b->arena);
  const int64_t rows = transposed ? I : O, columns = transposed ? O : I;
  double bytes = (double)tensor_bytes(tensor_2d(NULL, dtype, rows, columns)), best, library = 0;
  int64_t copies = T > 64 ? 1 : 1 + (int64_t)(600e6 / bytes), next = 0;
  Tensor x = filled(b, DTYPE_F32, T, I, 0.5f), y = filled(b, DTYPE_F32, T, O, 0.5f), none = {0};
  const Tensor all = tensor_new_2d(&b->arena, DTYPE_U8, copies, (int64_t)bytes);
  if (dtype_is_blocks(dtype)) {
    memset(all.data, 0, (size_t)copies * (size_t)bytes); /* zeros cost what other values do */
  } else {
    op_fill(&b->c, tensor_2d(all.data, dtype, copies * rows, columns), 0.01f);
  }
  Weight w = {.data = tensor_2d(all.data, dtype, rows, columns), .transposed = transposed};
  b->c.row_invariant = true;
  SHORTEST(b, best, {
    w.data.data = tensor_rows(all, next++ % copies, 1).data;
    op_linear(&b->c, y, x, w, none, 1, 0);
  });
  b->c.row_invariant = false;
  double flop = 2.0 * (double)T * (double)I * (double)O;
  if (T > 64) {
    SHORTEST(b, library, op_linear(&b->c, y, x, w, none, 1, 0));
    report(line, best, flop / best * 1e-9, "GFLOP/s", flop / library * 1e-9, "the library product");
  } else {
    report(line, best, bytes / best * 1e-9, "GB/s", b->memory * 1e-9, "memory");
  }
  arena_release(&b->arena, mark);
}

static void bench_attention(Bench *b, int64_t B, int64_t T, int64_t H, int64_t K, int64_t D) {
  char line[128];
  snprintf(line, sizeof line, "attention %d x %d, %d/%d heads of %d", (int)B, (int)T, (int)H, (int)K, (int)D);
  if (!wanted(b, line)) return;
  size_t mark = arena_mark(&b->arena);
  int64_t rows = B * T, width = (H + 2 * K) * D;
  Tensor qkv = filled(b, DTYPE_F32, rows, width, 0.1f), d = filled(b, DTYPE_F32, rows, width, 0);
  Tensor out = filled(b, DTYPE_F32, rows, H * D, 0), dout = filled(b, DTYPE_F32, rows, H * D, 0.1f);
  Tensor lse = filled(b, DTYPE_F32, rows, H, 0), offsets = tensor_new_1d(&b->arena, DTYPE_I32, B + 1);
  for (int64_t i = 0; i <= B; i++) ((int32_t *)offsets.data)[i] = (int32_t)(i * T);
  Tensor q = heads_of(qkv, 0, H, D), k = heads_of(qkv, H * D, K, D), v = heads_of(qkv, (H + K) * D, K, D);
  Tensor dq = heads_of(d, 0, H, D), dk = heads_of(d, H * D, K, D), dv = heads_of(d, (H + K) * D, K, D);
  Tensor o = heads_of(out, 0, H, D), od = heads_of(dout, 0, H, D);
  AttentionSpec spec = {.scale = 0.125f};
  double flop = 2.0 * (double)B * (double)T * (double)T * (double)(H * D) * 1e-9,
         best; /* causal: half of 4 */
  SHORTEST(b, best, op_attention(&b->c, o, lse, q, k, v, offsets, spec));
  report(line, best, flop / best, "GFLOP/s", 0, "");
  SHORTEST(b, best, op_attention_backward(&b->c, dq, dk, dv, od, o, lse, q, k, v, offsets, spec));
  report("  backward (5 products counted, 7 done)", best, 2.5 * flop / best, "GFLOP/s", 0, "");
  arena_release(&b->arena, mark);
}

/* One decoding step of N sequences that are all `length` long. */
static void bench_paged(Bench *b, int64_t N, int64_t length, int64_t H, int64_t K, int64_t D, DType dtype) {
  char line[128];
  snprintf(line, sizeof line, "paged %d at %d, %d/%d heads of %d %s", (int)N, (int)length, (int)H, (int)K,
           (int)D, dtype_name(dtype));
  if (!wanted(b, line)) return;
  size_t mark = arena_mark(&b->arena);
  enum { BLOCK = 16 };
  const bool codes = dtype == DTYPE_I8;
  double bytes = 2.0 * (double)(N * length * K) * (double)(D * (int64_t)dtype_size(dtype) + 4 * codes), best;
  int64_t layers = 1 + (int64_t)(400e6 / bytes), per_layer = N * (length / BLOCK), next = 0;
  Tensor k = filled(b, codes ? DTYPE_F32 : dtype, layers * per_layer, K * BLOCK * D / (codes ? 4 : 1), 0.1f);
  Tensor v = filled(b, codes ? DTYPE_F32 : dtype, layers * per_layer, K * BLOCK * D / (codes ? 4 : 1), 0.1f);
  Tensor scales = filled(b, DTYPE_F32, layers * per_layer, K * BLOCK, 1e-3f);
  Tensor table = tensor_new_2d(&b->arena, DTYPE_I32, N, length / BLOCK);
  Tensor sequence = tensor_new_1d(&b->arena, DTYPE_I32, N), position = tensor_new_1d(&b->arena, DTYPE_I32, N);
  for (int64_t i = 0; i < per_layer; i++) ((int32_t *)table.data)[i] = (int32_t)((i * 7919) % per_layer);
  for (int64_t i = 0; i < N; i++) {
    ((int32_t *)sequence.data)[i] = (int32_t)i;
    ((int32_t *)position.data)[i] = (int32_t)(length - 1);
  }
  Tensor q = heads_of(filled(b, DTYPE_F32, N, H * D, 0.1f), 0, H, D);
  Tensor out = heads_of(filled(b, DTYPE_F32, N, H * D, 0.1f), 0, H, D);
  int64_t dim[] = {per_layer, K, BLOCK, D};
  AttentionSpec spec = {.scale = 0.125f};
  SHORTEST(b, best, {
    int64_t layer = next++ % layers;
    const Tensor scale =
        tensor_over(tensor_rows(scales, layer * per_layer, per_layer).data, DTYPE_F32, 3, dim);
    PagedCache cache = {.table = table, .key_scales = scale, .value_scales = scale};
    cache.keys = tensor_over(tensor_rows(k, layer * per_layer, per_layer).data, dtype, 4, dim);
    cache.values = tensor_over(tensor_rows(v, layer * per_layer, per_layer).data, dtype, 4, dim);
    op_attention_paged(&b->c, out, q, cache, sequence, position, spec);
  });
  report(line, best, bytes / best * 1e-9, "GB/s", b->memory * 1e-9, "memory");
  arena_release(&b->arena, mark);
}

static void bench_head(Bench *b, int64_t N, int64_t C, int64_t V, DType dtype) {
  char line[128];
  snprintf(line, sizeof line, "head %d x %d -> %d %s", (int)N, (int)C, (int)V, dtype_name(dtype));
  if (!wanted(b, line)) return;
  size_t mark = arena_mark(&b->arena);
  Tensor x = filled(b, DTYPE_F32, N, C, 0.1f), dx = filled(b, DTYPE_F32, N, C, 0.1f), none = {0};
  HeadTerms z = {.x = x, .w = {filled(b, dtype, V, C, 0.01f), false}};
  HeadTerms d = {.x = dx, .w = {filled(b, DTYPE_F32, V, C, 0), false}};
  Tensor logprob = tensor_1d(filled(b, DTYPE_F32, 1, N, 1).data, DTYPE_F32, N);
  Tensor entropy = tensor_1d(filled(b, DTYPE_F32, 1, N, 1e-6f).data, DTYPE_F32, N);
  Tensor targets = tensor_new_1d(&b->arena, DTYPE_I32, N);
  for (int64_t i = 0; i < N; i++) ((int32_t *)targets.data)[i] = (int32_t)(i % V);
  HeadSpec spec = {.temperature = 1};
  double flop = 2.0 * (double)N * (double)C * (double)V * 1e-9, best;
  SHORTEST(b, best, op_head_logprob(&b->c, logprob, entropy, z, targets, spec));
  report(line, best, flop / best, "GFLOP/s", 0, "");
  SHORTEST(b, best, op_head_logprob_backward(&b->c, d, none, z, targets, entropy, none, spec));
  report("  backward (3 products)", best, 3 * flop / best, "GFLOP/s", 0, "");
  arena_release(&b->arena, mark);
}

static void bench_pointwise(Bench *b) {
  enum { T = 1024, C = 768, F = 3072 };
  size_t mark = arena_mark(&b->arena);
  Tensor x = filled(b, DTYPE_F32, T, F, 0.3f), y = filled(b, DTYPE_F32, T, F, 0.3f),
         z = filled(b, DTYPE_F32, T, F, 0.3f);
  Tensor n = filled(b, DTYPE_F32, T, C, 0.3f), m = filled(b, DTYPE_F32, T, C, 0.3f), none = {0};
  Tensor half = filled(b, DTYPE_BF16, T, F, 0.3f),
         w = tensor_1d(filled(b, DTYPE_F32, 1, C, 1).data, DTYPE_F32, C);
  Tensor dw = tensor_1d(filled(b, DTYPE_F32, 1, C, 1).data, DTYPE_F32, C);
  Tensor mean = tensor_1d(filled(b, DTYPE_F32, 1, T, 0).data, DTYPE_F32, T);
  Tensor rstd = tensor_1d(filled(b, DTYPE_F32, 1, T, 1).data, DTYPE_F32, T);
  Tensor positions = tensor_new_1d(&b->arena, DTYPE_I32, T);
  for (int i = 0; i < T; i++) ((int32_t *)positions.data)[i] = i;
  RotarySpec rotary = {.inverse_frequency = tensor_1d(filled(b, DTYPE_F32, 1, 32, 0.1f).data, DTYPE_F32, 32),
                       .scale = 1};
  DropoutSpec dropout = {.p = 0.1f,
                         .key = random_key(1, RANDOM_DROPOUT),
                         .draws = positions, /* any numbers do */
                         .positions = positions};
  NormSpec layer = {NORM_LAYER, 1e-5f, 0}, rms = {NORM_RMS, 1e-5f, 0};
  double best, bytes = 4.0 * T * F;
#define LINE(name, traffic, call)                                                            \
  if (wanted(b, name)) {                                                                     \
    SHORTEST(b, best, call);                                                                 \
    report(name, best, (double)(traffic) / best * 1e-9, "GB/s", b->memory * 1e-9, "memory"); \
  }
  LINE("gelu_tanh 1024 x 3072", 2 * bytes, op_activation(&b->c, y, x, ACTIVATION_GELU_TANH));
  LINE("gelu 1024 x 3072", 2 * bytes, op_activation(&b->c, y, x, ACTIVATION_GELU));
  LINE("gelu_tanh backward", 3 * bytes, op_activation_backward(&b->c, y, z, x, ACTIVATION_GELU_TANH));
  LINE("silu gated 1024 x 3072", 3 * bytes, op_gated(&b->c, y, x, z, ACTIVATION_SILU));
  LINE("silu gated backward", 5 * bytes, op_gated_backward(&b->c, y, z, x, y, z, ACTIVATION_SILU));
  LINE("add 1024 x 3072", 3 * bytes, op_axpby(&b->c, y, x, 1, 1));
  LINE("cast f32 to bf16", 1.5 * bytes, op_axpby(&b->c, half, x, 1, 0));
  LINE("dropout 1024 x 3072", 2 * bytes, op_dropout(&b->c, y, x, dropout, 0));
  LINE("layernorm 1024 x 768", 2.0 * 4 * T * C, op_norm(&b->c, m, mean, rstd, n, w, w, layer));
  LINE("rmsnorm 1024 x 768", 2.0 * 4 * T * C, op_norm(&b->c, m, none, rstd, n, w, none, rms));
  LINE("layernorm backward", 3.0 * 4 * T * C,
       op_norm_backward(&b->c, m, dw, dw, n, n, mean, rstd, w, layer, 0));
  LINE("rotary 1024 x 12 heads of 64", 2.0 * 4 * T * C,
       op_rotary(&b->c, heads_of(n, 0, 12, 64), positions, rotary, false));
#undef LINE
  arena_release(&b->arena, mark);
}

static void bench_optimizer(Bench *b) {
  size_t mark = arena_mark(&b->arena);
  int64_t n = 32 << 20;
  Tensor p = filled(b, DTYPE_F32, 1, n, 1), m = filled(b, DTYPE_F32, 1, n, 1),
         v = filled(b, DTYPE_F32, 1, n, 1);
  Tensor g = filled(b, DTYPE_F32, 1, n, 1), sum = tensor_new_1d(&b->arena, DTYPE_F64, 1);
  AdamStep step = {1e-4f, 0.9f, 0.99f, 1e-8f, 0.1f, 1, 1, 1};
  const OptimTensor all = {.p = p, .m.data = m, .v.data = v, .grad = g, .decay = true};
  double best;
  if (wanted(b, "adamw 32 M")) { /* p, m, v and the gradient are read and written */
    SHORTEST(b, best, op_adamw(&b->c, &all, 1, step));
    report("adamw 32 M", best, 32.0 * (double)n / best * 1e-9, "GB/s", b->memory * 1e-9, "memory");
  }
  Tensor codes[2], factors[2];
  for (int i = 0; i < 2; i++) {
    codes[i] = tensor_2d(i ? v.data : m.data, DTYPE_U8, state_blocks(n), STATE_BLOCK);
    factors[i] = filled(b, DTYPE_F32, 1, state_blocks(n), 1);
  }
  const OptimTensor narrow = {
      .p = p, .m = {codes[0], factors[0]}, .v = {codes[1], factors[1]}, .grad = g, .decay = true};
  if (wanted(b, "adamw 8 bit 32 M")) {
    SHORTEST(b, best, op_adamw(&b->c, &narrow, 1, step));
    report("adamw 8 bit 32 M", best, 20.06 * (double)n / best * 1e-9, "GB/s", b->memory * 1e-9, "memory");
  }
  if (wanted(b, "sum_squares 32 M")) {
    SHORTEST(b, best, op_sum_squares(&b->c, sum, &g, 1));
    report("sum_squares 32 M", best, 4.0 * (double)n / best * 1e-9, "GB/s", b->memory * 1e-9, "memory");
  }
  arena_release(&b->arena, mark);
}

static void bench_sample(Bench *b, const char *line, SampleRow row) {
  enum { N = 8, V = 50257 };
  if (!wanted(b, line)) return;
  size_t mark = arena_mark(&b->arena);
  Tensor logits = filled(b, DTYPE_F32, N, V, 0), ids = tensor_new_1d(&b->arena, DTYPE_I32, N);
  Tensor logprob = tensor_new_1d(&b->arena, DTYPE_F32, N);
  SampleRow rows[N];
  for (int i = 0; i < N; i++) {
    rows[i] = row;
    rows[i].sample = (uint64_t)i;
    for (int j = 0; j < V; j++) {
      ((float *)logits.data)[i * V + j] =
          3 * random_normal(random_key(1, RANDOM_TEST), (uint64_t)i, (uint64_t)j);
    }
  }
  double best;
  SHORTEST(b, best, op_sample(&b->c, ids, logprob, logits, rows));
  report(line, best, N / best, "tokens/s", 0, "");
  arena_release(&b->arena, mark);
}

static void bench_all(Bench *b) {
  const DType types[] = {DTYPE_F32, DTYPE_BF16};
  for (int i = 0; i < 2; i++) {
    bench_linear(b, 1024, 768, 2304, types[i]);
    bench_linear(b, 1024, 768, 3072, types[i]);
    bench_linear(b, 1024, 3072, 768, types[i]);
    bench_linear(b, 1024, 576, 1536, types[i]);
  }
  bench_linear(b, 1024, 576, 24, DTYPE_F32); /* adapters' */
  bench_linear(b, 1024, 1536, 8, DTYPE_F32);
  bench_linear(b, 1024, 8, 576, DTYPE_F32);
  const int64_t counts[] = {1, 4, 8, 32, 64, 256};
  for (int i = 0; i < 2; i++) {
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
      bench_rows(b, counts[k], 768, 3072, types[i], false);
      bench_rows(b, counts[k], 3072, 768, types[i], false);
      bench_rows(b, counts[k], 768, 3072, types[i], true);
      bench_rows(b, counts[k], 3072, 768, types[i], true);
      bench_rows(b, counts[k], 768, 50257, types[i], false);
    }
  }
  const DType linears[] = {DTYPE_F32, DTYPE_BF16, DTYPE_NF4_PLAIN},
              tables[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q8};
  for (int i = 0; i < 3; i++) {
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
      bench_rows(b, counts[k], 576, 1536, linears[i], false);
      bench_rows(b, counts[k], 1536, 576, linears[i], false);
      bench_rows(b, counts[k], 576, 49152, tables[i], false);
    }
  }
  bench_attention(b, 4, 256, 12, 12, 64);
  bench_attention(b, 1, 1024, 12, 12, 64);
  bench_attention(b, 4, 256, 9, 3, 64);
  bench_attention(b, 32, 40, 9, 3, 64);
  bench_paged(b, 8, 256, 12, 12, 64, DTYPE_F32);
  bench_paged(b, 8, 256, 12, 12, 64, DTYPE_BF16);
  bench_paged(b, 8, 256, 12, 12, 64, DTYPE_I8);
  bench_paged(b, 8, 256, 9, 3, 64, DTYPE_F32);
  bench_paged(b, 8, 256, 9, 3, 64, DTYPE_I8);
  bench_head(b, 1024, 768, 50257, DTYPE_F32);
  bench_head(b, 1024, 576, 49152, DTYPE_BF16);
  bench_pointwise(b);
  bench_optimizer(b);
  bench_sample(b, "sample greedy 8 x 50257", (SampleRow){.top_p = 1});
  bench_sample(b, "sample temperature 8 x 50257", (SampleRow){.temperature = 1, .top_p = 1});
  bench_sample(b, "sample top_k 50 8 x 50257", (SampleRow){.temperature = 1, .top_p = 1, .top_k = 50});
  bench_sample(b, "sample top_p 0.9 8 x 50257", (SampleRow){.temperature = 1, .top_p = 0.9f});
}

int main(int argc, char **argv) {
  process_begin(argv);
  Bench b = {0};
  Error error = {0};
  int threads = 0, argument = 1;
  if (argument + 1 < argc && strcmp(argv[argument], "--threads") == 0) {
    threads = atoi(argv[argument + 1]);
    argument += 2;
  }
  if (argument < argc) b.word = argv[argument++];
  if (argument < argc || (b.word && b.word[0] == '-')) {
    fprintf(stderr, "usage: bench_ops [--threads N] [WORD]\n");
    return ERROR_USAGE;
  }
  if (!compute_open(&b.c, DEVICE_CPU, threads, &error)) fail(&error);
  if (!compute_arena(&b.c, &b.arena, "bench", (size_t)2 << 30, &error)) fail(&error);
  b.memory = ceiling_reading(&b.c, &b.arena);
  printf("%s, %d threads, memory read %.1f GB/s\n", compute_device_name(&b.c), b.c.threads, b.memory * 1e-9);
  bench_all(&b);
  compute_arena_free(&b.c, &b.arena);
  compute_close(&b.c);
  return 0;
}
