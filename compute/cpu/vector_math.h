/* Vector exp, tanh, the logistic function and the normal distribution function: relative error a few 1e-7
 * (tanh, cdf: absolute). NaN goes through. The C library's functions would be called lane by lane. */
#ifndef COMPUTE_CPU_VECTOR_MATH_H
#define COMPUTE_CPU_VECTOR_MATH_H

#include "compute/cpu/vector.h"

typedef struct VecReduced {
  Vec n, p; /* e^x = 2^n (1 + p) */
} VecReduced;

/* x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite's two-part constant), p = e^r - 1 by its Taylor series
 * to r^7, whose remainder is below 6e-9. */
static inline VecReduced vec_exp_reduce(Vec x) {
  Vec n = vec_round(x * vec_splat(1.44269504f));
  Vec r = vec_fma(n, vec_splat(-0.693359375f), x);
  r = vec_fma(n, vec_splat(2.12194440e-4f), r);
  Vec p = vec_splat(1.0f / 5040);
  p = vec_fma(p, r, vec_splat(1.0f / 720));
  p = vec_fma(p, r, vec_splat(1.0f / 120));
  p = vec_fma(p, r, vec_splat(1.0f / 24));
  p = vec_fma(p, r, vec_splat(1.0f / 6));
  p = vec_fma(p, r, vec_splat(0.5f));
  return (VecReduced){n, vec_fma(p * r, r, r)};
}

/* e^x; 0 below -87.3 (also for -infinity), held at e^88 above. */
static inline Vec vec_exp(Vec x) {
  const Vec low = vec_splat(-87.3f);
  VecReduced e = vec_exp_reduce(vec_min(vec_splat(88.0f), vec_max(low, x)));
  return vec_select(vec_less(x, low), vec_splat(0.0f), vec_scale2(e.p + vec_splat(1.0f), e.n));
}

/* t / (t + 2) with t = e^2x - 1, which keeps full relative precision near 0. */
static inline Vec vec_tanh(Vec x) {
  Vec twice = vec_min(vec_splat(20.0f), vec_max(vec_splat(-20.0f), x + x));
  VecReduced e = vec_exp_reduce(twice);
  Vec power = vec_scale2(vec_splat(1.0f), e.n);
  Vec t = vec_fma(power, e.p, power - vec_splat(1.0f));
  return t / (t + vec_splat(2.0f));
}

/* The logistic function, and one minus it, each to full relative precision. */
typedef struct VecLogistic {
  Vec value, rest;
} VecLogistic;

static inline VecLogistic vec_logistic(Vec x) {
  Vec zero = vec_splat(0.0f), one = vec_splat(1.0f);
  Vec e = vec_exp(zero - vec_abs(x)), large = one / (one + e), small = e * large;
  Mask negative = vec_less(x, zero);
  return (VecLogistic){vec_select(negative, small, large), vec_select(negative, large, small)};
}

/* The standard normal distribution function, erfc(-x / sqrt 2) / 2. With z = |x| / sqrt 2, the smooth
 * function (1 + 2z) e^(z^2) erfc(z) is a polynomial in (z-2)/(z+2) (the mapping of Shepherd & Laframboise,
 * Math. Comp. 36, 1981; the coefficients are a Chebyshev fit of degree 9, relative error 1.6e-7). `gauss` is
 * e^(-x^2/2). */
static inline Vec vec_normal_cdf(Vec x, Vec gauss) {
  static const float coefficient[] = {-0.000410065579f, -0.00124245894f, 0.00132059772f, 0.00864367746f,
                                      -0.00806145463f,  -0.0542079695f,  0.164055482f,   -0.166031063f,
                                      -0.0927639902f,   1.27697837f};
  Vec z = vec_abs(x) * vec_splat(0.707106781f);
  Vec u = (z - vec_splat(2.0f)) / (z + vec_splat(2.0f));
  Vec p = vec_splat(coefficient[0]);
  for (int i = 1; i < 10; i++) p = vec_fma(p, u, vec_splat(coefficient[i]));
  Vec tail = vec_splat(0.5f) * gauss * p / vec_fma(vec_splat(2.0f), z, vec_splat(1.0f));
  return vec_select(vec_less(x, vec_splat(0.0f)), tail, vec_splat(1.0f) - tail);
}

static inline Vec vec_gauss(Vec x) {
  return vec_exp(vec_splat(-0.5f) * x * x);
}

#endif
