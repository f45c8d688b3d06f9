/* Activations, gates, casts and limits: one pass over memory each. The floor is the bytes read and written;
 * the arithmetic stays below it. */
#include "compute/cuda/pointwise.cuh"

namespace {

typedef struct Curve {
  float value, slope; /* f(x), f'(x) */
} Curve;

/* The logistic function and one minus it, each to full relative precision. */
typedef struct Logistic {
  float value, rest;
} Logistic;

__device__ __forceinline__ Logistic logistic(float x) {
  float e = expf(-fabsf(x)), large = 1.0f / (1.0f + e), small = e * large;
  return x < 0 ? Logistic{small, large} : Logistic{large, small};
}

template <int KIND>
__device__ __forceinline__ Curve curve(float x) {
  if (KIND == ACTIVATION_SILU) {
    Logistic s = logistic(x);
    return Curve{x * s.value, s.value * fmaf(x, s.rest, 1.0f)};
  }
  if (KIND == ACTIVATION_GELU) {
    float cdf = 0.5f * erfcf(-0.707106781f * x), density = 0.398942280f * expf(-0.5f * x * x);
    return Curve{x * cdf, fmaf(x, density, cdf)};
  }
  if (KIND == ACTIVATION_GELU_TANH) { /* (1 + tanh u) / 2 is the logistic function of 2u */
    const float scale = 2 * 0.797884561f, cube = 0.044715f; /* 2 sqrt(2 / pi) */
    float square = x * x, inner = scale * fmaf(3 * cube, square, 1.0f);
    Logistic s = logistic(scale * x * fmaf(cube, square, 1.0f));
    return Curve{x * s.value, s.value * fmaf(x * inner, s.rest, 1.0f)};
  }
  const float positive = x < 0 ? 0.0f : x; /* NaN goes through */
  if (KIND == ACTIVATION_RELU) return Curve{positive, x > 0 ? 1.0f : 0.0f};
  return Curve{positive * positive, 2 * positive};
}

/* Runs the statement with KIND as a compile-time constant. */
#define WITH_ACTIVATION(kind, KIND, ...)              \
  do {                                                \
    switch (kind) {                                   \
      case ACTIVATION_SILU: {                         \
        constexpr int KIND = ACTIVATION_SILU;         \
        __VA_ARGS__;                                  \
      } break;                                        \
      case ACTIVATION_GELU: {                         \
        constexpr int KIND = ACTIVATION_GELU;         \
        __VA_ARGS__;                                  \
      } break;                                        \
      case ACTIVATION_GELU_TANH: {                    \
        constexpr int KIND = ACTIVATION_GELU_TANH;    \
        __VA_ARGS__;                                  \
      } break;                                        \
      case ACTIVATION_RELU: {                         \
        constexpr int KIND = ACTIVATION_RELU;         \
        __VA_ARGS__;                                  \
      } break;                                        \
      case ACTIVATION_RELU_SQUARED: {                 \
        constexpr int KIND = ACTIVATION_RELU_SQUARED; \
        __VA_ARGS__;                                  \
      } break;                                        \
    }                                                 \
  } while (0)

/* -- activation ----------------------------------------------------------------------------------------- */

template <class T, int KIND>
struct Activate {
  Rows<T> out, x;
};

template <int N, class T, int KIND>
__device__ __forceinline__ void apply(const Activate<T, KIND> &op, int64_t row, int64_t column, int count) {
  float x[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = curve<KIND>(x[i]).value;
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

template <class T>
static void activation(Compute *c, Tensor out, Tensor x, Activation kind) {
  Walk w = walk_of(out, x);
  WITH_ACTIVATION(kind, KIND, walk_launch<PACK<T>>(c, w, Activate<T, KIND>{rows_of<T>(out), rows_of<T>(x)}));
}

template <class T, int KIND>
struct ActivateBackward {
  Rows<T> dx, dy, x;
};

template <int N, class T, int KIND>
__device__ __forceinline__ void apply(const ActivateBackward<T, KIND> &op, int64_t row, int64_t column,
                                      int count) {
  float x[N], dy[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
  load_floats<N>(dy, row_of(op.dy, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) dy[i] *= curve<KIND>(x[i]).slope;
  store_floats<N>(row_of(op.dx, row) + column, dy, count);
}

template <class T>
static void activation_backward(Compute *c, Tensor dx, Tensor dy, Tensor x, Activation kind) {
  Walk w = walk_of(dx, dy, x);
  WITH_ACTIVATION(
      kind, KIND,
      walk_launch<PACK<T>>(c, w, ActivateBackward<T, KIND>{rows_of<T>(dx), rows_of<T>(dy), rows_of<T>(x)}));
}

/* -- gates ---------------------------------------------------------------------------------------------- */

template <class T, int KIND>
struct Gate {
  Rows<T> out, gate, up;
};

template <int N, class T, int KIND>
__device__ __forceinline__ void apply(const Gate<T, KIND> &op, int64_t row, int64_t column, int count) {
  float gate[N], up[N];
  load_floats<N>(gate, row_of(op.gate, row) + column, count);
  load_floats<N>(up, row_of(op.up, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) up[i] *= curve<KIND>(gate[i]).value;
  store_floats<N>(row_of(op.out, row) + column, up, count);
}

template <class T>
static void gated(Compute *c, Tensor out, Tensor gate, Tensor up, Activation kind) {
  Walk w = walk_of(out, gate, up);
  WITH_ACTIVATION(
      kind, KIND,
      walk_launch<PACK<T>>(c, w, Gate<T, KIND>{rows_of<T>(out), rows_of<T>(gate), rows_of<T>(up)}));
}

template <class T, int KIND>
struct GateBackward {
  Rows<T> dgate, dup, dout, gate, up;
};

template <int N, class T, int KIND>
__device__ __forceinline__ void apply(const GateBackward<T, KIND> &op, int64_t row, int64_t column,
                                      int count) {
  float d[N], gate[N], up[N];
  load_floats<N>(d, row_of(op.dout, row) + column, count);
  load_floats<N>(gate, row_of(op.gate, row) + column, count);
  load_floats<N>(up, row_of(op.up, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) {
    Curve f = curve<KIND>(gate[i]);
    gate[i] = d[i] * up[i] * f.slope;
    up[i] = d[i] * f.value;
  }
  store_floats<N>(row_of(op.dgate, row) + column, gate, count);
  store_floats<N>(row_of(op.dup, row) + column, up, count);
}

template <class T>
static void gated_backward(Compute *c, Tensor dgate, Tensor dup, Tensor dout, Tensor gate, Tensor up,
                           Activation kind) {
  Walk w = walk_of(dgate, dup, dout, gate, up);
  WITH_ACTIVATION(
      kind, KIND,
      walk_launch<PACK<T>>(c, w,
                           GateBackward<T, KIND>{rows_of<T>(dgate), rows_of<T>(dup), rows_of<T>(dout),
                                                 rows_of<T>(gate), rows_of<T>(up)}));
}

/* -- sums and casts ------------------------------------------------------------------------------------- */

template <class T, class U, bool ADD>
struct Axpby {
  Rows<T> out;
  Rows<const U> x;
  float alpha, beta;
};

template <int N, class T, class U, bool ADD>
__device__ __forceinline__ void apply(const Axpby<T, U, ADD> &op, int64_t row, int64_t column, int count) {
  float x[N], out[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
  if (ADD) load_floats<N>(out, row_of(op.out, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) {
    x[i] *= op.alpha;
    if (ADD) x[i] = fmaf(op.beta, out[i], x[i]);
  }
  store_floats<N>(row_of(op.out, row) + column, x, count);
}

template <class T, class U>
static void axpby(Compute *c, Tensor out, Tensor x, float alpha, float beta) {
  Walk w = walk_of(out, x);
  if (beta != 0) {
    walk_launch<PACK_OF<T, U>>(c, w, Axpby<T, U, true>{rows_of<T>(out), rows_of<const U>(x), alpha, beta});
  } else { /* out may hold anything */
    walk_launch<PACK_OF<T, U>>(c, w, Axpby<T, U, false>{rows_of<T>(out), rows_of<const U>(x), alpha, beta});
  }
}

template <class T>
struct Fill {
  Rows<T> x;
  float value;
};

template <int N, class T>
__device__ __forceinline__ void apply(const Fill<T> &op, int64_t row, int64_t column, int count) {
  float x[N];
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = op.value;
  store_floats<N>(row_of(op.x, row) + column, x, count);
}

/* -- limits --------------------------------------------------------------------------------------------- */

/* The limit as an element holds it, so that a limited element equals it and the backward can tell. */
template <class T>
__device__ __forceinline__ float limit_of(float limit) {
  return to_float(from_float<T>(limit));
}

template <class T>
struct Clamp {
  Rows<T> x;
  float limit;
};

template <int N, class T>
__device__ __forceinline__ void apply(const Clamp<T> &op, int64_t row, int64_t column, int count) {
  float x[N], limit = limit_of<T>(op.limit);
  load_floats<N>(x, row_of(op.x, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
  store_floats<N>(row_of(op.x, row) + column, x, count);
}

template <class T>
struct ClampBackward {
  Rows<T> dx, y;
  float limit;
};

template <int N, class T>
__device__ __forceinline__ void apply(const ClampBackward<T> &op, int64_t row, int64_t column, int count) {
  float dx[N], y[N], limit = limit_of<T>(op.limit);
  load_floats<N>(dx, row_of(op.dx, row) + column, count);
  load_floats<N>(y, row_of(op.y, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) dx[i] = fabsf(y[i]) < limit ? dx[i] : 0.0f;
  store_floats<N>(row_of(op.dx, row) + column, dx, count);
}

template <class T>
struct Softcap {
  Rows<T> x;
  float cap;
};

template <int N, class T>
__device__ __forceinline__ void apply(const Softcap<T> &op, int64_t row, int64_t column, int count) {
  float x[N];
  load_floats<N>(x, row_of(op.x, row) + column, count);
#pragma unroll
  for (int i = 0; i < N; i++) x[i] = op.cap * tanhf(x[i] / op.cap);
  store_floats<N>(row_of(op.x, row) + column, x, count);
}

}  // namespace

extern "C" void cuda_activation(Compute *c, Tensor out, Tensor x, Activation kind) {
  if (c->dry) return;
  ASSERT(x.dtype == out.dtype);
  WITH_TYPE(out.dtype, T, activation<T>(c, out, x, kind));
}

extern "C" void cuda_activation_backward(Compute *c, Tensor dx, Tensor dy, Tensor x, Activation kind) {
  if (c->dry) return;
  ASSERT(dy.dtype == dx.dtype && x.dtype == dx.dtype);
  WITH_TYPE(dx.dtype, T, activation_backward<T>(c, dx, dy, x, kind));
}

extern "C" void cuda_gated(Compute *c, Tensor out, Tensor gate, Tensor up, Activation kind) {
  if (c->dry) return;
  ASSERT(gate.dtype == out.dtype && up.dtype == out.dtype);
  WITH_TYPE(out.dtype, T, gated<T>(c, out, gate, up, kind));
}

extern "C" void cuda_gated_backward(Compute *c, Tensor dgate, Tensor dup, Tensor dout, Tensor gate, Tensor up,
                                    Activation kind) {
  if (c->dry) return;
  ASSERT(dup.dtype == dgate.dtype && dout.dtype == dgate.dtype);
  ASSERT(gate.dtype == dgate.dtype && up.dtype == dgate.dtype);
  WITH_TYPE(dgate.dtype, T, gated_backward<T>(c, dgate, dup, dout, gate, up, kind));
}

extern "C" void cuda_axpby(Compute *c, Tensor out, Tensor x, float alpha, float beta) {
  if (c->dry) return;
  if (x.dtype == DTYPE_F16) {
    WITH_TYPE(out.dtype, T, axpby<T, __half>(c, out, x, alpha, beta));
  } else {
    WITH_TYPE(out.dtype, T, WITH_TYPE(x.dtype, U, axpby<T, U>(c, out, x, alpha, beta)));
  }
}

extern "C" void cuda_fill(Compute *c, Tensor x, float value) {
  if (c->dry) return;
  WITH_TYPE(x.dtype, T, walk_launch<PACK<T>>(c, walk_of(x), Fill<T>{rows_of<T>(x), value}));
}

extern "C" void cuda_clamp(Compute *c, Tensor x, float limit) {
  if (c->dry) return;
  WITH_TYPE(x.dtype, T, walk_launch<PACK<T>>(c, walk_of(x), Clamp<T>{rows_of<T>(x), limit}));
}

extern "C" void cuda_clamp_backward(Compute *c, Tensor dx, Tensor y, float limit) {
  if (c->dry) return;
  ASSERT(y.dtype == dx.dtype);
  WITH_TYPE(dx.dtype, T,
            walk_launch<PACK<T>>(c, walk_of(dx, y), ClampBackward<T>{rows_of<T>(dx), rows_of<T>(y), limit}));
}

extern "C" void cuda_softcap(Compute *c, Tensor x, float cap) {
  if (c->dry) return;
  WITH_TYPE(x.dtype, T, walk_launch<PACK<T>>(c, walk_of(x), Softcap<T>{rows_of<T>(x), cap}));
}
