/* Activations, gates, casts, limits and dropout: one pass over memory each. */
#include "compute/cpu/cpu.h"

#include "compute/cpu/vector_math.h"

static const float GELU_TANH_SCALE = 0.797884561f; /* sqrt(2 / pi) */
static const float GELU_TANH_CUBE = 0.044715f;

typedef struct Curve {
  Vec value, slope; /* f(x), f'(x) */
} Curve;

static inline Curve curve_silu(Vec x) {
  VecLogistic s = vec_logistic(x);
  return (Curve){x * s.value, s.value * vec_fma(x, s.rest, vec_splat(1.0f))};
}

static inline Curve curve_gelu(Vec x) {
  Vec gauss = vec_gauss(x);
  Vec cdf = vec_normal_cdf(x, gauss);
  return (Curve){x * cdf, vec_fma(x * vec_splat(0.398942280f), gauss, cdf)};
}

/* (1 + tanh u) / 2 is the logistic function of 2u. */
static inline Curve curve_gelu_tanh(Vec x) {
  Vec scale = vec_splat(2 * GELU_TANH_SCALE), one = vec_splat(1.0f), square = x * x;
  VecLogistic s = vec_logistic(scale * x * vec_fma(vec_splat(GELU_TANH_CUBE), square, one));
  Vec inner = scale * vec_fma(vec_splat(3 * GELU_TANH_CUBE), square, one); /* derivative of the argument */
  return (Curve){x * s.value, s.value * vec_fma(x * inner, s.rest, one)};
}

static inline Curve curve_relu(Vec x) {
  Vec zero = vec_splat(0.0f);
  return (Curve){vec_max(zero, x), vec_select(vec_less(zero, x), vec_splat(1.0f), zero)};
}

static inline Curve curve_relu_squared(Vec x) {
  Vec positive = vec_max(vec_splat(0.0f), x);
  return (Curve){positive * positive, positive + positive};
}

static inline __attribute__((always_inline)) Curve curve(Activation kind, Vec x) {
  switch (kind) {
    case ACTIVATION_SILU:
      return curve_silu(x);
    case ACTIVATION_GELU:
      return curve_gelu(x);
    case ACTIVATION_GELU_TANH:
      return curve_gelu_tanh(x);
    case ACTIVATION_RELU:
      return curve_relu(x);
    case ACTIVATION_RELU_SQUARED:
      break;
  }
  return curve_relu_squared(x);
}

/* Runs `body` with the kind as a compile-time constant, so that each activation gets its own tight loop. */
#define FOR_ACTIVATION(kind, body)   \
  switch (kind) {                    \
    case ACTIVATION_SILU:            \
      body(ACTIVATION_SILU);         \
      break;                         \
    case ACTIVATION_GELU:            \
      body(ACTIVATION_GELU);         \
      break;                         \
    case ACTIVATION_GELU_TANH:       \
      body(ACTIVATION_GELU_TANH);    \
      break;                         \
    case ACTIVATION_RELU:            \
      body(ACTIVATION_RELU);         \
      break;                         \
    case ACTIVATION_RELU_SQUARED:    \
      body(ACTIVATION_RELU_SQUARED); \
      break;                         \
  }

static inline __attribute__((always_inline)) void activation_span(float *out, const float *x, int64_t n,
                                                                  Activation kind) {
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    vec_store_part(out + i, curve(kind, vec_load_part(x + i, part)).value, part);
  }
}

void CPU(activation)(Compute *c, Tensor out, Tensor x, Activation kind) {
  if (c->dry) return;
  Spans spans = spans_of(out, x);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *po = f32(out) + span_offset(s, out);
    const float *px = f32(x) + span_offset(s, x);
#define BODY(constant) activation_span(po, px, s.size, constant)
    FOR_ACTIVATION(kind, BODY)
#undef BODY
  }
}

static inline __attribute__((always_inline)) void activation_backward_span(float *dx, const float *dy,
                                                                           const float *x, int64_t n,
                                                                           Activation kind) {
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Vec slope = curve(kind, vec_load_part(x + i, part)).slope;
    vec_store_part(dx + i, vec_load_part(dy + i, part) * slope, part);
  }
}

void CPU(activation_backward)(Compute *c, Tensor dx, Tensor dy, Tensor x, Activation kind) {
  if (c->dry) return;
  Spans spans = spans_of3(dx, dy, x);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *pdx = f32(dx) + span_offset(s, dx);
    const float *pdy = f32(dy) + span_offset(s, dy), *px = f32(x) + span_offset(s, x);
#define BODY(constant) activation_backward_span(pdx, pdy, px, s.size, constant)
    FOR_ACTIVATION(kind, BODY)
#undef BODY
  }
}

static inline __attribute__((always_inline)) void gated_span(float *out, const float *gate, const float *up,
                                                             int64_t n, Activation kind) {
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Vec f = curve(kind, vec_load_part(gate + i, part)).value;
    vec_store_part(out + i, f * vec_load_part(up + i, part), part);
  }
}

void CPU(gated)(Compute *c, Tensor out, Tensor gate, Tensor up, Activation kind) {
  if (c->dry) return;
  Spans spans = spans_of3(out, gate, up);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *po = f32(out) + span_offset(s, out);
    const float *pg = f32(gate) + span_offset(s, gate), *pu = f32(up) + span_offset(s, up);
#define BODY(constant) gated_span(po, pg, pu, s.size, constant)
    FOR_ACTIVATION(kind, BODY)
#undef BODY
  }
}

static inline __attribute__((always_inline)) void gated_backward_span(float *dgate, float *dup,
                                                                      const float *dout, const float *gate,
                                                                      const float *up, int64_t n,
                                                                      Activation kind) {
  for (int64_t i = 0; i < n; i += VEC) {
    int part = vec_part(n - i);
    Curve f = curve(kind, vec_load_part(gate + i, part));
    Vec d = vec_load_part(dout + i, part), u = vec_load_part(up + i, part);
    vec_store_part(dgate + i, d * u * f.slope, part);
    vec_store_part(dup + i, d * f.value, part);
  }
}

void CPU(gated_backward)(Compute *c, Tensor dgate, Tensor dup, Tensor dout, Tensor gate, Tensor up,
                         Activation kind) {
  if (c->dry) return;
  Spans spans = spans_of3(dgate, dup, dout);
  Spans inputs = spans_of3(gate, up, dgate);
  if (inputs.rows > spans.rows) spans = inputs;
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *pdg = f32(dgate) + span_offset(s, dgate), *pdu = f32(dup) + span_offset(s, dup);
    const float *pd = f32(dout) + span_offset(s, dout);
    const float *pg = f32(gate) + span_offset(s, gate), *pu = f32(up) + span_offset(s, up);
#define BODY(constant) gated_backward_span(pdg, pdu, pd, pg, pu, s.size, constant)
    FOR_ACTIVATION(kind, BODY)
#undef BODY
  }
}

static inline Vec load_any(Tensor x, int64_t offset, int part) {
  switch (x.dtype) {
    case DTYPE_F32:
      return vec_load_part((const float *)x.data + offset, part);
    case DTYPE_BF16:
      return vec_load_bf16_part((const uint16_t *)x.data + offset, part);
    case DTYPE_F16:
      return vec_load_f16_part((const uint16_t *)x.data + offset, part);
    default:
      ASSERT(!"axpby takes F32, BF16 and F16");
      return vec_splat(0.0f);
  }
}

static inline void store_any(Tensor x, int64_t offset, Vec value, int part) {
  if (x.dtype == DTYPE_F32) {
    vec_store_part((float *)x.data + offset, value, part);
  } else {
    ASSERT(x.dtype == DTYPE_BF16);
    vec_store_bf16_part((uint16_t *)x.data + offset, value, part);
  }
}

void CPU(axpby)(Compute *c, Tensor out, Tensor x, float alpha, float beta) {
  if (c->dry) return;
  Spans spans = spans_of(out, x);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    int64_t at_out = span_offset(s, out), at_x = span_offset(s, x);
    for (int64_t j = 0; j < s.size; j += VEC) {
      int part = vec_part(s.size - j);
      Vec y = vec_splat(alpha) * load_any(x, at_x + j, part);
      if (beta != 0) y = vec_fma(vec_splat(beta), load_any(out, at_out + j, part), y);
      store_any(out, at_out + j, y, part);
    }
  }
}

void CPU(fill)(Compute *c, Tensor x, float value) {
  if (c->dry) return;
  Spans spans = spans_of(x, x);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    int64_t at = span_offset(s, x);
    for (int64_t j = 0; j < s.size; j += VEC) {
      store_any(x, at + j, vec_splat(value), vec_part(s.size - j));
    }
  }
}

void CPU(clamp)(Compute *c, Tensor x, float limit) {
  if (c->dry) return;
  Spans spans = spans_of(x, x);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *p = f32(x) + span_offset(s, x);
    for (int64_t j = 0; j < s.size; j += VEC) {
      int part = vec_part(s.size - j);
      Vec y = vec_min(vec_splat(limit), vec_max(vec_splat(-limit), vec_load_part(p + j, part)));
      vec_store_part(p + j, y, part);
    }
  }
}

void CPU(clamp_backward)(Compute *c, Tensor dx, Tensor y, float limit) {
  if (c->dry) return;
  Spans spans = spans_of(dx, y);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *pdx = f32(dx) + span_offset(s, dx);
    const float *py = f32(y) + span_offset(s, y);
    for (int64_t j = 0; j < s.size; j += VEC) {
      int part = vec_part(s.size - j);
      Mask inside = vec_less(vec_abs(vec_load_part(py + j, part)), vec_splat(limit));
      vec_store_part(pdx + j, vec_select(inside, vec_load_part(pdx + j, part), vec_splat(0.0f)), part);
    }
  }
}

void CPU(softcap)(Compute *c, Tensor x, float cap) {
  if (c->dry) return;
  Spans spans = spans_of(x, x);
  FOR_SPANS(c, i, spans) {
    Span s = span_at(spans, i);
    float *p = f32(x) + span_offset(s, x);
    for (int64_t j = 0; j < s.size; j += VEC) {
      int part = vec_part(s.size - j);
      Vec y = vec_splat(cap) * vec_tanh(vec_load_part(p + j, part) / vec_splat(cap));
      vec_store_part(p + j, y, part);
    }
  }
}
