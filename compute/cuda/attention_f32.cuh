/* Attention in fp32 with ordinary multiply-adds, for parity with the CPU. A block of 16x16 threads has tiles of
 * TILE = 16*R queries and keys; thread (x, y) has the scores of queries y + 16*i and keys x + 16*j, and of the
 * sums rows y + 16*i and elements x + 16*j. Rows in shared memory are one float longer than SIZE: the 16 rows
 * that threads x read at once then lie in different banks. Floor: the fp32 units, and the two loads of shared
 * memory for each R multiply-adds. */
#ifndef COMPUTE_CUDA_ATTENTION_F32_CUH
#define COMPUTE_CUDA_ATTENTION_F32_CUH

#include "compute/cuda/attention.cuh"

enum { SIDE = 16, PLAIN_THREADS = SIDE * SIDE };

/* Rows that do not exist, and what lies beyond the head size, become zero. */
template <int ROWS, int SIZE>
__device__ __forceinline__ void plain_load(float *to, HeadView<const float> view, int64_t row, int head,
                                           int rows, int size) {
  const float *from = head_row(view, row, head);
  for (int i = (int)threadIdx.x; i < ROWS * SIZE; i += PLAIN_THREADS) {
    int r = i / SIZE, d = i % SIZE;
    to[r * (SIZE + 1) + d] = r < rows && d < size ? from[r * view.row + d] : 0.0f;
  }
}

/* s[i][j] += a row (y + 16*i) . b row (x + 16*j) */
template <int R, int SIZE>
__device__ __forceinline__ void plain_scores(float (&s)[R][R], const float *a, const float *b) {
  int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
#pragma unroll 4
  for (int d = 0; d < SIZE; d++) {
    float left[R], right[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
      left[i] = a[(y + SIDE * i) * (SIZE + 1) + d];
      right[i] = b[(x + SIDE * i) * (SIZE + 1) + d];
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
      for (int j = 0; j < R; j++) s[i][j] = fmaf(left[i], right[j], s[i][j]);
    }
  }
}

/* sum[i][j] += over k of  weight(y + 16*i, k) * b row k, element x + 16*j; weight(r, k) = p[r * row + k * column] */
template <int R, int SIZE>
__device__ __forceinline__ void plain_accumulate(float (&sum)[R][SIZE / SIDE], const float *p, int row,
                                                 int column, const float *b) {
  int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
#pragma unroll 2
  for (int k = 0; k < SIDE * R; k++) {
    float weight[R];
#pragma unroll
    for (int i = 0; i < R; i++) weight[i] = p[(y + SIDE * i) * row + k * column];
#pragma unroll
    for (int j = 0; j < SIZE / SIDE; j++) {
      float value = b[k * (SIZE + 1) + x + SIDE * j];
#pragma unroll
      for (int i = 0; i < R; i++) sum[i][j] = fmaf(weight[i], value, sum[i][j]);
    }
  }
}

template <int R, int SIZE>
__device__ __forceinline__ void plain_store(HeadView<float> view, int64_t row, int head, int rows, int size,
                                            const float (&sum)[R][SIZE / SIDE], const float (&scale)[R]) {
  int x = (int)threadIdx.x % SIDE, y = (int)threadIdx.x / SIDE;
#pragma unroll
  for (int i = 0; i < R; i++) {
    if (y + SIDE * i >= rows) continue;
    float *to = head_row(view, row + y + SIDE * i, head);
#pragma unroll
    for (int j = 0; j < SIZE / SIDE; j++) {
      if (x + SIDE * j < size) to[x + SIDE * j] = sum[i][j] * scale[i];
    }
  }
}

#endif
