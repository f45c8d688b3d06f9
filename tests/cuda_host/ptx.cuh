/* The functions of compute/cuda/device/ptx.cuh in software. The layouts of fragments are described there.
 * A copy arrives only when its group is waited for; until then the destination is poison. */
#ifndef TESTS_CUDA_HOST_PTX_CUH
#define TESTS_CUDA_HOST_PTX_CUH

#include "tests/cuda_host/warp.h"

#include "tests/cuda_host/cuda_bf16.h"

/* -- tensor-core products --------------------------------------------------------------------------------- */

struct HostMma {
  float *d;
  const uint32_t *a, *b;

  static void finish(void *const brought[32], uint32_t) {
    host_count_product();
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < 32; lane++) {
      const HostMma *mine = static_cast<const HostMma *>(brought[lane]);
      int group = lane / 4, pair = lane % 4 * 2;
      for (int half = 0; half < 2; half++) {
        int shift = 16 * half, k = pair + half;
        for (int i = 0; i < 4; i++) {
          a[group + 8 * (i % 2)][k + 8 * (i / 2)] = host_from_bf16((unsigned short)(mine->a[i] >> shift));
        }
        for (int i = 0; i < 2; i++)
          b[k + 8 * i][group] = host_from_bf16((unsigned short)(mine->b[i] >> shift));
        for (int i = 0; i < 2; i++) d[group + 8 * i][k] = mine->d[2 * i + half];
      }
    }
    for (int row = 0; row < 16; row++) {
      for (int k = 0; k < 16; k++) {
        for (int column = 0; column < 8; column++) d[row][column] += a[row][k] * b[k][column];
      }
    }
    for (int lane = 0; lane < 32; lane++) {
      const HostMma *mine = static_cast<const HostMma *>(brought[lane]);
      for (int i = 0; i < 4; i++) mine->d[i] = d[lane / 4 + 8 * (i / 2)][lane % 4 * 2 + i % 2];
    }
  }
};

inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
  HostMma mine = {d, a, b};
  host_meet_warp(0xffffffffu, "mma_bf16", HostMma::finish, &mine);
}

/* As instructions see it: an offset, behind the KiB that the driver keeps. */
inline uint32_t shared_address(const void *p) {
  host_check_shared(p, 1, "shared_address");
  return HOST_SHARED_START +
         (uint32_t)(static_cast<const char *>(p) - static_cast<char *>(host_shared_memory()));
}

/* -- matrices from shared memory -------------------------------------------------------------------------- */

template <int COUNT, bool TRANSPOSED>
struct HostLoadMatrix {
  uint32_t *r;
  const void *row;

  static void finish(void *const brought[32], uint32_t) {
    for (int i = 0; i < COUNT; i++) {
      unsigned short matrix[8][8];
      for (int j = 0; j < 8; j++) {
        memcpy(matrix[j], static_cast<const HostLoadMatrix *>(brought[8 * i + j])->row, sizeof(matrix[j]));
      }
      for (int lane = 0; lane < 32; lane++) {
        int group = lane / 4, pair = lane % 4 * 2;
        uint32_t low = TRANSPOSED ? matrix[pair][group] : matrix[group][pair];
        uint32_t high = TRANSPOSED ? matrix[pair + 1][group] : matrix[group][pair + 1];
        static_cast<const HostLoadMatrix *>(brought[lane])->r[i] = low | high << 16;
      }
    }
  }

  static void load(uint32_t *r, const void *row, const char *what) {
    if (host_lane() < 8 * COUNT) {
      if (reinterpret_cast<uintptr_t>(row) % 16)
        host_fault("%s: address %p is not 16-byte aligned", what, row);
      host_check_shared(row, 16, what);
    }
    HostLoadMatrix mine = {r, row};
    host_meet_warp(0xffffffffu, what, finish, &mine);
  }
};

inline void load_matrix_x4(uint32_t r[4], const void *row) {
  HostLoadMatrix<4, false>::load(r, row, "load_matrix_x4");
}
inline void load_matrix_x4_transposed(uint32_t r[4], const void *row) {
  HostLoadMatrix<4, true>::load(r, row, "load_matrix_x4_transposed");
}
inline void load_matrix_x2(uint32_t r[2], const void *row) {
  HostLoadMatrix<2, false>::load(r, row, "load_matrix_x2");
}
inline void load_matrix_x2_transposed(uint32_t r[2], const void *row) {
  HostLoadMatrix<2, true>::load(r, row, "load_matrix_x2_transposed");
}

/* -- asynchronous copies ---------------------------------------------------------------------------------- */

inline void copy_async_16(void *shared, const void *global, bool valid) {
  host_copy_async(shared, global, valid);
}
inline void copy_async_commit() {
  host_copy_commit();
}
template <int PENDING>
inline void copy_async_wait() {
  host_copy_wait(PENDING);
}

/* -- barriers of a part of the block ---------------------------------------------------------------------- */

template <int BARRIER, int THREADS>
inline void meet_threads() {
  host_meet_threads(BARRIER, THREADS);
}

/* -- conversions ------------------------------------------------------------------------------------------ */

inline uint32_t pack_bf16(float low, float high) {
  return (uint32_t)host_to_bf16(low) | (uint32_t)host_to_bf16(high) << 16;
}

inline float exp2_fast(float x) {
  float y = exp2f(x);
  return y < 1.17549435e-38f ? 0.0f : y; /* small results are flushed to zero */
}

#endif
