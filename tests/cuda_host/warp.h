/* Shuffles, votes and barriers. The lanes that a mask names must all arrive, at the same function. */
#ifndef TESTS_CUDA_HOST_WARP_H
#define TESTS_CUDA_HOST_WARP_H

#include "tests/cuda_host/grid.h"

#include <type_traits>

/* -- barriers --------------------------------------------------------------------------------------------- */

inline void __syncthreads() {
  host_meet_block(BARRIER, 0);
}
inline int __syncthreads_or(int value) {
  return host_meet_block(BARRIER_OR, value);
}
inline int __syncthreads_and(int value) {
  return host_meet_block(BARRIER_AND, value);
}
inline int __syncthreads_count(int value) {
  return host_meet_block(BARRIER_COUNT, value);
}

inline void host_finish_nothing(void *const[32], uint32_t) {}

inline void __syncwarp(uint32_t mask = 0xffffffffu) {
  host_meet_warp(mask, "__syncwarp", host_finish_nothing, &mask);
}

/* -- shuffles --------------------------------------------------------------------------------------------- */

template <class T>
struct HostShuffle {
  T value;
  int from; /* lane */
  T answer;

  static void finish(void *const brought[32], uint32_t mask) {
    for (int lane = 0; lane < 32; lane++) {
      if (!(mask >> lane & 1)) continue;
      HostShuffle *mine = static_cast<HostShuffle *>(brought[lane]);
      if (mask >> mine->from & 1) {
        mine->answer = static_cast<HostShuffle *>(brought[mine->from])->value;
      } else {
        host_poison(&mine->answer, sizeof(T)); /* of a lane outside the mask: undefined */
      }
    }
  }
};

inline int host_lane() {
  return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize);
}

template <class T>
inline T host_shuffle(uint32_t mask, const char *what, T value, int from) {
  static_assert(std::is_trivially_copyable<T>::value &&
                    (sizeof(T) == 2 || sizeof(T) == 4 || sizeof(T) == 8) &&
                    std::is_same<T, bool>::value == false,
                "shuffles move 2, 4 or 8 bytes");
  HostShuffle<T> mine = {value, from, value};
  host_meet_warp(mask, what, HostShuffle<T>::finish, &mine);
  return mine.answer;
}

template <class T>
inline T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
  int lane = host_lane();
  return host_shuffle(mask, "__shfl_sync", value, (lane & ~(width - 1)) | (source & (width - 1)));
}
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T value, int lanes, int width = 32) {
  int lane = host_lane(), from = lane ^ lanes;
  bool outside = from > (lane | (width - 1));
  return host_shuffle(mask, "__shfl_xor_sync", value, outside ? lane : from & 31);
}
template <class T>
inline T __shfl_up_sync(uint32_t mask, T value, unsigned int lanes, int width = 32) {
  int lane = host_lane(), from = lane - (int)lanes;
  return host_shuffle(mask, "__shfl_up_sync", value, from < (lane & ~(width - 1)) ? lane : from);
}
template <class T>
inline T __shfl_down_sync(uint32_t mask, T value, unsigned int lanes, int width = 32) {
  int lane = host_lane(), from = lane + (int)lanes;
  return host_shuffle(mask, "__shfl_down_sync", value, from > (lane | (width - 1)) ? lane : from);
}

/* -- votes and reductions --------------------------------------------------------------------------------- */

inline void host_finish_ballot(void *const brought[32], uint32_t mask) {
  uint32_t votes = 0;
  for (int lane = 0; lane < 32; lane++) {
    if (mask >> lane & 1 && *static_cast<uint32_t *>(brought[lane])) votes |= 1u << lane;
  }
  for (int lane = 0; lane < 32; lane++) {
    if (mask >> lane & 1) *static_cast<uint32_t *>(brought[lane]) = votes;
  }
}

inline uint32_t __ballot_sync(uint32_t mask, int predicate) {
  uint32_t mine = predicate != 0;
  host_meet_warp(mask, "__ballot_sync", host_finish_ballot, &mine);
  return mine;
}
inline int __any_sync(uint32_t mask, int predicate) {
  return __ballot_sync(mask, predicate) != 0;
}
inline int __all_sync(uint32_t mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

template <class T>
struct HostMatch {
  T value;
  uint32_t same;

  static void finish(void *const brought[32], uint32_t mask) {
    for (int lane = 0; lane < 32; lane++) {
      if (!(mask >> lane & 1)) continue;
      HostMatch *mine = static_cast<HostMatch *>(brought[lane]);
      mine->same = 0;
      for (int other = 0; other < 32; other++) {
        if (mask >> other & 1 && static_cast<HostMatch *>(brought[other])->value == mine->value)
          mine->same |= 1u << other;
      }
    }
  }
};

template <class T>
inline uint32_t __match_any_sync(uint32_t mask, T value) {
  HostMatch<T> mine = {value, 0};
  host_meet_warp(mask, "__match_any_sync", HostMatch<T>::finish, &mine);
  return mine.same;
}

#define HOST_REDUCE(name, T, combined)                                                                    \
  inline void host_finish_reduce_##name(void *const brought[32], T *, uint32_t mask) {                    \
    T a = 0;                                                                                              \
    bool any = false;                                                                                     \
    for (int lane = 0; lane < 32; lane++) {                                                               \
      if (!(mask >> lane & 1)) continue;                                                                  \
      T b = *static_cast<T *>(brought[lane]);                                                             \
      a = any ? (T)(combined) : b;                                                                        \
      any = true;                                                                                         \
    }                                                                                                     \
    for (int lane = 0; lane < 32; lane++)                                                                 \
      if (mask >> lane & 1) *static_cast<T *>(brought[lane]) = a;                                         \
  }                                                                                                       \
  inline T __reduce_##name##_sync(uint32_t mask, T value) {                                               \
    host_meet_warp(                                                                                       \
        mask, "__reduce_" #name "_sync",                                                                  \
        [](void *const brought[32], uint32_t m) { host_finish_reduce_##name(brought, (T *)nullptr, m); }, \
        &value);                                                                                          \
    return value;                                                                                         \
  }
HOST_REDUCE(add, unsigned int, a + b)
HOST_REDUCE(add, int, a + b)
HOST_REDUCE(min, unsigned int, a < b ? a : b)
HOST_REDUCE(min, int, a < b ? a : b)
HOST_REDUCE(max, unsigned int, a > b ? a : b)
HOST_REDUCE(max, int, a > b ? a : b)
HOST_REDUCE(and, unsigned int, a &b)
HOST_REDUCE(or, unsigned int, a | b)
HOST_REDUCE(xor, unsigned int, a ^ b)
#undef HOST_REDUCE

#endif
