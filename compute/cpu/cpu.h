/* What the CPU kernels share. Every file of this folder is compiled once per instruction set (CPU_ISA = v3:
 * AVX2 and FMA, v4: AVX-512), and names with linkage carry it: CPU(linear) is cpu_v4_linear.
 *
 * Reproducible to the bit: loops that write disjoint results may run in any order, sums have a fixed one. */
#ifndef COMPUTE_CPU_CPU_H
#define COMPUTE_CPU_CPU_H

#include "compute/ops.h"

#include <omp.h>

#define CPU_JOIN_EXPANDED(isa, name) cpu_##isa##_##name
#define CPU_JOIN(isa, name)          CPU_JOIN_EXPANDED(isa, name)
#define CPU(name)                    CPU_JOIN(CPU_ISA, name)

/* Where constants of the caller have to become constants of the body. */
#define INLINE static inline __attribute__((always_inline))

#define OP(name, parameters, arguments) void CPU(name) parameters;
#include "compute/ops.def"
#undef OP

/* The device functions of the backend table (device.c). */
bool CPU(open)(Compute *c, Error *error);
void CPU(close)(Compute *c);
bool CPU(arena)(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error);
void CPU(arena_free)(Compute *c, Arena *arena);
void CPU(upload)(Compute *c, Tensor device, const void *host);
void CPU(download)(Compute *c, void *host, Tensor device);
DeviceMemory CPU(memory)(const Compute *c);
const char *CPU(describe)(const Compute *c);

/* Workspace of one operation: mark = scratch_open, scratch_alloc as needed, scratch_close. The memory is real
 * unless c->dry. */
static inline size_t scratch_open(const Compute *c) {
  return arena_mark(&c->scratch);
}
static inline void *scratch_alloc(Compute *c, size_t bytes) {
  ASSERT(c->dry || !c->scratch.dry); /* else the caller never planned its scratch with a dry run */
  return arena_alloc(&c->scratch, bytes);
}
static inline float *scratch_floats(Compute *c, int64_t count) {
  return (float *)scratch_alloc(c, (size_t)count * sizeof(float));
}
static inline void scratch_close(Compute *c, size_t mark) {
  arena_release(&c->scratch, mark);
}

/* The linear whose rows do not depend on each other (linear_rows.c). */
void CPU(linear_rows)(Compute *c, Tensor out, Tensor x, Weight w, Tensor bias, float alpha, float beta);

/* The contents of an F32 or BF16 vector as floats: the tensor's own memory, or a copy in scratch that the
 * caller opened. NULL for none. In a dry run only the scratch is counted. */
const float *CPU(vector_f32)(Compute *c, Tensor vector);

static inline float *f32(Tensor x) {
  return (float *)x.data;
}
static inline const int32_t *i32(Tensor x) {
  return (const int32_t *)x.data;
}
static inline int64_t min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t max64(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* Pointwise work is cut into spans of one row of a tensor seen as rows x columns. */
enum { SPAN = 4096 };

typedef struct Spans {
  int64_t rows, columns, per_row, count;
} Spans;

typedef struct Span {
  int64_t row, first, size;
} Span;

static inline Spans spans_of_rows(int64_t rows, int64_t columns) {
  Spans s = {.rows = rows, .columns = columns, .per_row = (columns + SPAN - 1) / SPAN};
  s.count = s.rows * s.per_row;
  return s;
}

/* Three tensors of the same shape, each contiguous (then they are one long row) or 2-d with strided rows. */
static inline Spans spans_of3(Tensor x, Tensor y, Tensor z) {
  ASSERT(tensor_count(x) == tensor_count(y) && tensor_count(x) == tensor_count(z));
  if (tensor_is_contiguous(x) && tensor_is_contiguous(y) && tensor_is_contiguous(z)) {
    return spans_of_rows(1, tensor_count(x));
  }
  ASSERT(x.rank == 2 && y.rank == 2 && z.rank == 2);
  return spans_of_rows(x.dim[0], x.dim[1]);
}

static inline Spans spans_of(Tensor x, Tensor y) {
  return spans_of3(x, y, y);
}

static inline Span span_at(Spans s, int64_t i) {
  int64_t first = i % s.per_row * SPAN;
  return (Span){.row = i / s.per_row, .first = first, .size = min64(SPAN, s.columns - first)};
}

/* Index of the span's first element in the memory of x. */
static inline int64_t span_offset(Span span, Tensor x) {
  return (span.row ? span.row * x.stride[0] : 0) + span.first;
}

/* `for` over spans on all threads. */
#define CPU_PRAGMA(text) _Pragma(#text)
#define FOR_SPANS(c, i, spans)                                                                   \
  CPU_PRAGMA(omp parallel for num_threads((c)->threads) schedule(static) if ((spans).count > 1)) \
  for (int64_t i = 0; i < (spans).count; i++)

#endif
