/* Edits of single logits (LogitEdits in ops.h): a block for a row, a thread for an id. The time is that of a launch. */
#include "compute/cuda/kernel.cuh"

namespace {

enum { EDIT_THREADS = 128 };

typedef struct Edits {
  float penalty;
  const int32_t *ids, *from, *count, *banned, *bans; /* NULL: none */
  int banned_count;
} Edits;

static Edits edits_of(LogitEdits edits) {
  Edits e = {};
  e.penalty = edits.penalty;
  if (!tensor_is_none(edits.ids)) {
    e.ids = data<const int32_t>(edits.ids);
    e.from = data<const int32_t>(edits.from);
    e.count = data<const int32_t>(edits.count);
  }
  if (!tensor_is_none(edits.banned)) {
    e.banned = data<const int32_t>(edits.banned);
    e.bans = data<const int32_t>(edits.bans);
    e.banned_count = (int)edits.banned.dim[0];
  }
  return e;
}

/* f(i, id) for the row's ids, then ban(id) for what is banned in it. */
template <class F, class Ban>
__device__ __forceinline__ void for_edits(const Edits &e, int64_t row, F f, Ban ban) {
  const int count = e.ids ? e.count[row] : 0;
  for (int i = (int)threadIdx.x; i < count; i += EDIT_THREADS) f(i, e.ids[e.from[row] + i]);
  __syncthreads(); /* an id may be in both */
  if (!e.banned || !e.bans[row]) return;
  for (int i = (int)threadIdx.x; i < e.banned_count; i += EDIT_THREADS) ban(e.banned[i]);
}

__global__ void __launch_bounds__(EDIT_THREADS)
    edit_logits_kernel(float *logits, int64_t stride, Edits e, float *slopes, int64_t slope_stride) {
  const int64_t row = blockIdx.x;
  float *own = logits + row * stride;
  for_edits(
      e, row,
      [&](int i, int32_t id) {
        const float logit = own[id];
        own[id] = logit < 0 ? logit * e.penalty : __fdiv_rn(logit, e.penalty);
        if (slopes) slopes[row * slope_stride + i] = logit < 0 ? e.penalty : __fdiv_rn(1.0f, e.penalty);
      },
      [&](int32_t id) { own[id] = -INFINITY; });
}

template <class T>
__global__ void __launch_bounds__(EDIT_THREADS)
    edit_gradient_kernel(T *d, int64_t stride, Edits e, const float *slopes, int64_t slope_stride) {
  const int64_t row = blockIdx.x;
  T *own = d + row * stride;
  for_edits(
      e, row,
      [&](int i, int32_t id) { own[id] = from_float<T>(to_float(own[id]) * slopes[row * slope_stride + i]); },
      [&](int32_t id) { own[id] = from_float<T>(0.0f); });
}

static int64_t stride_of(Tensor slopes) {
  return tensor_is_none(slopes) ? 0 : slopes.stride[0];
}

}  // namespace

extern "C" void cuda_edit_logits(Compute *c, Tensor logits, LogitEdits edits, Tensor slopes) {
  if (c->dry || logits.dim[0] == 0) return;
  LAUNCH(c, edit_logits_kernel, dim3((unsigned)logits.dim[0]), dim3(EDIT_THREADS), 0, data<float>(logits),
         logits.stride[0], edits_of(edits), data<float>(slopes), stride_of(slopes));
}

extern "C" void cuda_edit_logits_backward(Compute *c, Tensor d, LogitEdits edits, Tensor slopes) {
  if (c->dry || d.dim[0] == 0) return;
  WITH_TYPE(d.dtype, T,
            LAUNCH(c, edit_gradient_kernel<T>, dim3((unsigned)d.dim[0]), dim3(EDIT_THREADS), 0, data<T>(d),
                   d.stride[0], edits_of(edits), data<const float>(slopes), stride_of(slopes)));
}
