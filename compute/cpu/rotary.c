/* Rotary position embedding (Su et al. 2021). */
#include "compute/cpu/cpu.h"

#include <math.h>

/* Rotates one head by the angles whose cosines and sines are given. */
static void rotate(float *x, const float *cosine, const float *sine, int64_t pairs, bool interleaved) {
  if (interleaved) {
    for (int64_t i = 0; i < pairs; i++) {
      float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * cosine[i] - b * sine[i];
      x[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
  } else {
    float *y = x + pairs;
#pragma omp simd
    for (int64_t i = 0; i < pairs; i++) {
      float a = x[i], b = y[i];
      x[i] = a * cosine[i] - b * sine[i];
      y[i] = b * cosine[i] + a * sine[i];
    }
  }
}

void CPU(rotary)(Compute *c, Tensor x, Tensor positions, RotarySpec spec, bool inverse) {
  int64_t tokens = x.dim[0], heads = x.dim[1], pairs = spec.inverse_frequency.dim[0];
  ASSERT(2 * pairs <= x.dim[2]);
  size_t mark = scratch_open(c);
  float *tables = scratch_floats(c, c->threads * 2 * pairs);
  if (!c->dry) {
#pragma omp parallel for num_threads(c->threads) schedule(static, 1) if (tensor_count(x) > SPAN)
    for (int64_t k = 0; k < c->threads; k++) {
      float *cosine = tables + k * 2 * pairs, *sine = cosine + pairs;
      for (int64_t t = tokens * k / c->threads; t < tokens * (k + 1) / c->threads; t++) {
        for (int64_t i = 0; i < pairs; i++) {
          /* An fp32 product, as Transformers has it: at large positions the rounding shows. */
          float angle = (float)i32(positions)[t] * f32(spec.inverse_frequency)[i];
          float s, co;
          sincosf(angle, &s, &co);
          cosine[i] = co * spec.scale;
          sine[i] = (inverse ? -s : s) * spec.scale;
        }
        for (int64_t h = 0; h < heads; h++) {
          rotate(f32(x) + t * x.stride[0] + h * x.stride[1], cosine, sine, pairs, spec.interleaved);
        }
      }
    }
  }
  scratch_close(c, mark);
}
