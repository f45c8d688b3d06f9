/* How the factors of the linear of rollouts come to shared memory: tiles by a ring of asynchronous copies. */
#ifndef COMPUTE_CUDA_LINEAR_ROWS_BRING_CUH
#define COMPUTE_CUDA_LINEAR_ROWS_BRING_CUH

#include "compute/cuda/kernel.cuh"

#include <ptx.cuh>

/* Where 16-byte piece `piece` of row `row` lies in a tile with rows of WIDTH elements: moved about so that eight
 * rows' pieces of the same number lie in different banks. In elements. */
template <int WIDTH>
__device__ __forceinline__ int place(int row, int piece) {
  constexpr int PIECES = WIDTH / 8, SPREAD = PIECES < 8 ? PIECES : 8;
  return row * WIDTH + (piece ^ (row / (8 / SPREAD) % SPREAD)) * 8;
}

/* A thread's part in bringing HEIGHT x WIDTH tiles to shared memory, step by step: pieces of 16 bytes, APART rows
 * from one to the next. */
template <int HEIGHT, int WIDTH, int THREADS>
struct Route {
  static constexpr int PIECES = WIDTH / 8, EACH = (HEIGHT * PIECES + THREADS - 1) / THREADS,
                       APART = THREADS / PIECES;
  static constexpr bool SOME = HEIGHT * PIECES < THREADS; /* of the threads have a piece */
  static_assert((SOME || HEIGHT * PIECES % THREADS == 0) && APART % 4 == 0, "every thread has as many");
  /* Whether `place` moves the thread's pieces about alike; else those of odd and of even number. */
  static constexpr bool ALIKE = PIECES < 8 || APART % 8 == 0;

  const bf16 *from, *safe; /* the first piece in the tile to be brought next; where one may always point to */
  int64_t apart, step;     /* from piece to piece, from tile to tile */
  int to[2], row, column;  /* of the first piece: of an even and of an odd one, as if it were the first */
};

template <class R, int WIDTH>
__device__ __forceinline__ R route(const void *data, int64_t stride, int64_t row, int64_t column,
                                   int64_t step, int thread) {
  R r;
  r.row = thread / R::PIECES;
  r.column = thread % R::PIECES * 8;
  r.safe = (const bf16 *)data;
  r.from = r.safe + (row + r.row) * stride + column + r.column;
  r.apart = R::APART * stride;
  r.step = step;
  r.to[0] = place<WIDTH>(r.row, r.column / 8);
  r.to[1] = place<WIDTH>(r.row + R::APART, r.column / 8) - R::APART * WIDTH;
  return r;
}

/* Brings a tile, zeros beyond `rows` and `columns`. ALIGNED: pieces are whole, and on their way after this; else
 * element by element. */
template <bool ALIGNED, int HEIGHT, int WIDTH, int THREADS>
__device__ __forceinline__ void bring(Route<HEIGHT, WIDTH, THREADS> *r, bf16 *tile, int rows, int columns) {
  typedef Route<HEIGHT, WIDTH, THREADS> R;
  if (R::SOME && r->row >= HEIGHT) return;
  const bf16 *from = r->from;
  if (ALIGNED && rows >= HEIGHT && columns >= WIDTH) { /* most of the time: nothing to ask per piece */
#pragma unroll
    for (int i = 0; i < R::EACH; i++, from += r->apart) {
      copy_async_16(tile + r->to[R::ALIKE ? 0 : i % 2] + i * R::APART * WIDTH, from, true);
    }
  } else {
#pragma unroll
    for (int i = 0; i < R::EACH; i++, from += r->apart) {
      bf16 *to = tile + r->to[R::ALIKE ? 0 : i % 2] + i * R::APART * WIDTH;
      const int valid = r->row + i * R::APART < rows ? max(0, min(8, columns - r->column)) : 0;
      if (ALIGNED) {
        copy_async_16(to, valid ? from : r->safe, valid > 0);
      } else {
        Pack<bf16, 8> pack;
#pragma unroll
        for (int k = 0; k < 8; k++) pack.at[k] = k < valid ? from[k] : from_float<bf16>(0.0f);
        store_pack(to, pack);
      }
    }
  }
  r->from += r->step;
}

#endif
