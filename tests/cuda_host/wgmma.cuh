/* The functions of compute/cuda/device/wgmma.cuh in software (wgmma.h). */
#ifndef TESTS_CUDA_HOST_WGMMA_CUH
#define TESTS_CUDA_HOST_WGMMA_CUH

#include "compute/cuda/device/wgmma_matrix.cuh"
#include "tests/cuda_host/wgmma.h"

inline void fence_proxy_async() {
  host_fence_proxy_async();
}
template <int COUNT>
inline void wgmma_fence(float (&d)[COUNT]) {
  host_wgmma_fence(d, COUNT, nullptr, 0);
}
template <int COUNT, int LINKS>
inline void wgmma_fence(float (&d)[COUNT], uint32_t (&a)[LINKS][4]) {
  host_wgmma_fence(d, COUNT, a[0], LINKS * 4);
}
inline void wgmma_commit() {
  host_wgmma_commit();
}
template <int PENDING>
inline void wgmma_wait() {
  host_wgmma_wait(PENDING, nullptr);
}
template <int PENDING, int COUNT>
inline void wgmma_wait(float (&d)[COUNT]) {
  host_wgmma_wait(PENDING, d);
}
template <bool TRANSPOSED, int COUNT>
inline void wgmma_bf16(float (&d)[COUNT], uint64_t a, uint64_t b, bool add = true) {
  host_wgmma(d, 2 * COUNT, a, b, TRANSPOSED, add);
}
template <bool TRANSPOSED, int COUNT>
inline void wgmma_bf16_registers(float (&d)[COUNT], const uint32_t (&a)[4], uint64_t b) {
  host_wgmma_registers(d, 2 * COUNT, a, b, TRANSPOSED);
}

#endif
