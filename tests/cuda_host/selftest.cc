/* The emulation's own test: that it does what a device does, and that it notices what a device would punish or,
 * worse, let pass. Runs in both orders of threads, and with streams that do their work late (CMakeLists.txt). */
#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <ptx.cuh>

#include "tests/cuda_host/selftest.h"

#include <atomic>
#include <thread>

/* A new OS thread asks for the order anew. */
static void in_order(const char *order, void (*work)()) {
  const char *given = getenv("DROVER_CUDA_HOST_ORDER");
  std::vector<char> kept;
  if (given) kept.assign(given, given + strlen(given) + 1);
  setenv("DROVER_CUDA_HOST_ORDER", order, 1);
  std::thread(work).join();
  if (given) setenv("DROVER_CUDA_HOST_ORDER", kept.data(), 1);
  if (!given) unsetenv("DROVER_CUDA_HOST_ORDER");
}

/* -- warps --------------------------------------------------------------------------------------------------- */

__global__ void shuffle_kernel(int *out, double *wide) {
  int lane = threadIdx.x % 32, *mine = out + 8 * threadIdx.x;
  mine[0] = __shfl_sync(FULL, lane, 5);
  mine[1] = __shfl_xor_sync(FULL, lane, 3);
  mine[2] = __shfl_up_sync(FULL, lane, 2);
  mine[3] = __shfl_down_sync(FULL, lane, 2);
  mine[4] = __shfl_sync(FULL, lane, 9, 8);
  mine[5] = __shfl_down_sync(FULL, lane, 5, 8);
  mine[6] = __shfl_xor_sync(FULL, lane, 16, 16);
  if (lane < 16) {
    mine[7] = __shfl_sync(0x0000ffffu, lane, 15);
  } else {
    mine[7] = __shfl_sync(0xffff0000u, lane, 16);
  }
  wide[threadIdx.x] = __shfl_xor_sync(FULL, 0.1 * lane, 1);
}

static void test_shuffles(void **) {
  enum { THREADS = 64 };
  int *out = device_new<int>(8 * THREADS);
  double *wide = device_new<double>(THREADS);
  RUN(shuffle_kernel, 1, THREADS, 0, out, wide);
  for (int t = 0; t < THREADS; t++) {
    int lane = t % 32;
    const int *mine = out + 8 * t;
    assert_int_equal(mine[0], 5);
    assert_int_equal(mine[1], lane ^ 3);
    assert_int_equal(mine[2], lane < 2 ? lane : lane - 2);
    assert_int_equal(mine[3], lane > 29 ? lane : lane + 2);
    assert_int_equal(mine[4], lane / 8 * 8 + 1);
    assert_int_equal(mine[5], lane % 8 + 5 > 7 ? lane : lane + 5);
    assert_int_equal(mine[6], lane < 16 ? lane : lane ^ 16);
    assert_int_equal(mine[7], lane < 16 ? 15 : 16);
    assert_true(wide[t] == 0.1 * (lane ^ 1));
  }
  cudaFree(out);
  cudaFree(wide);
}

__global__ void vote_kernel(unsigned *out) {
  int lane = threadIdx.x;
  unsigned *mine = out + 8 * lane;
  mine[0] = __ballot_sync(FULL, lane % 3 == 0);
  mine[1] = __any_sync(FULL, lane == 7) + 2 * __any_sync(FULL, lane == 77);
  mine[2] = __all_sync(FULL, lane < 32) + 2 * __all_sync(FULL, lane < 31);
  mine[3] = __reduce_add_sync(FULL, (unsigned)lane);
  mine[4] = (unsigned)__reduce_max_sync(FULL, lane == 4 ? -1 : -lane - 5);
  mine[5] = __match_any_sync(FULL, lane % 2);
  mine[6] = __reduce_xor_sync(FULL, 1u << lane);
}

static void test_votes(void **) {
  unsigned *out = device_new<unsigned>(32 * 8);
  RUN(vote_kernel, 1, 32, 0, out);
  for (int lane = 0; lane < 32; lane++) {
    const unsigned *mine = out + 8 * lane;
    assert_int_equal(mine[0], 0x49249249u);
    assert_int_equal(mine[1], 1);
    assert_int_equal(mine[2], 1);
    assert_int_equal(mine[3], 31 * 16);
    assert_int_equal(mine[4], (unsigned)-1);
    assert_int_equal(mine[5], lane % 2 ? 0xaaaaaaaau : 0x55555555u);
    assert_int_equal(mine[6], FULL);
  }
  cudaFree(out);
}

/* -- blocks -------------------------------------------------------------------------------------------------- */

__global__ void barrier_kernel(int *out) {
  __shared__ int place[96];
  unsigned t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  place[t] = (int)t;
  __syncthreads();
  int seen = place[95 - t];
  __syncthreads();
  place[t] = seen;
  __syncthreads();
  int *mine = out + 4 * (96 * (blockIdx.x + gridDim.x * blockIdx.y) + t);
  mine[0] = place[(t + 1) % 96];
  mine[1] = __syncthreads_count(t % 2 == 0);
  if (t >= 90) return; /* the others meet without them */
  mine[2] = __syncthreads_or(t == 89);
  mine[3] = __syncthreads_and(t != 3);
}

static void test_barriers(void **) {
  int *out = device_new<int>(4 * 96 * 6);
  RUN(barrier_kernel, dim3(3, 2), dim3(8, 4, 3), 0, out);
  for (int i = 0; i < 96 * 6; i++) {
    int t = i % 96;
    assert_int_equal(out[4 * i], 95 - (t + 1) % 96);
    assert_int_equal(out[4 * i + 1], 48);
    if (t < 90) assert_int_equal(out[4 * i + 2], 1);
    if (t < 90) assert_int_equal(out[4 * i + 3], 0);
  }
  cudaFree(out);
}

__global__ void poison_kernel(float *dynamic, float *fixed, int *index) {
  SHARED_MEMORY(float, shared);
  __shared__ float known[4];
  __shared__ int place;
  dynamic[blockIdx.x] = shared[threadIdx.x];
  fixed[blockIdx.x] = known[threadIdx.x];
  index[blockIdx.x] = place;
  shared[threadIdx.x] = known[threadIdx.x] = 1;
  place = 1;
}

static void test_poison(void **) {
  enum { BLOCKS = 3 };
  float *dynamic = device_new<float>(BLOCKS), *fixed = device_new<float>(BLOCKS);
  int *index = device_new<int>(BLOCKS);
  assert_true(dynamic[2] != dynamic[2]);
  __nv_bfloat16 narrow;
  memcpy(&narrow, dynamic, sizeof(narrow));
  assert_true(__hisnan(narrow));
  for (int again = 0; again < 2; again++) {
    RUN(poison_kernel, BLOCKS, 1, 16, dynamic, fixed, index);
    for (int i = 0; i < BLOCKS; i++) {
      assert_true(dynamic[i] != dynamic[i]);
      assert_true(fixed[i] != fixed[i]);
      assert_true(index[i] > 1 << 30);
    }
  }
  cudaFree(dynamic);
  cudaFree(fixed);
  cudaFree(index);
}

/* Each thread leaves a value to its neighbours, and nobody waits. */
__global__ void forgetful_kernel(int *out) {
  __shared__ int place[64];
  int t = threadIdx.x;
  place[t] = t;
  out[2 * t] = place[(t + 1) % 64];
  out[2 * t + 1] = place[(t + 63) % 64];
}

static int wrong_places;

static void count_wrong_places(void) {
  int *out = nullptr, wrong = 0;
  if (cudaMalloc(&out, 128 * sizeof(int)) != cudaSuccess) abort();
  host_launch_on(nullptr, "forgetful_kernel", forgetful_kernel, 1, 64, 0, out);
  cudaDeviceSynchronize();
  for (int t = 0; t < 64; t++) wrong += (out[2 * t] != (t + 1) % 64) << 8 | (out[2 * t + 1] != (t + 63) % 64);
  cudaFree(out);
  wrong_places = wrong;
}

static void test_forgotten_barrier(void **) {
  in_order("ascending", count_wrong_places);
  int ascending = wrong_places;
  in_order("reverse", count_wrong_places);
  assert_int_equal(ascending, 63 << 8 | 1);
  assert_int_equal(wrong_places, 1 << 8 | 63);
}

/* -- tensor cores -------------------------------------------------------------------------------------------- */

enum { M = 16, N = 8, K = 16 };

/* By the fragments as ptx.cuh describes them. */
__global__ void product_kernel(float *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b) {
  int lane = threadIdx.x, group = lane / 4, pair = lane % 4 * 2;
  uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; i++) memcpy(&fa[i], a + (group + i % 2 * 8) * K + pair + i / 2 * 8, 4);
  for (int i = 0; i < 2; i++) memcpy(&fb[i], b + group * K + pair + 8 * i, 4); /* column-major */
  float fd[4];
  for (int i = 0; i < 4; i++) fd[i] = d[(group + i / 2 * 8) * N + pair + i % 2];
  mma_bf16(fd, fa, fb);
  for (int i = 0; i < 4; i++) d[(group + i / 2 * 8) * N + pair + i % 2] = fd[i];
}

/* The same, with a and b as they lie in memory: [M,K] and [K,N], which is transposed on the way. */
__global__ void product_matrix_kernel(float *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b) {
  SHARED_MEMORY(__nv_bfloat16, shared);
  __nv_bfloat16 *tile_a = shared, *tile_b = shared + M * K;
  int lane = threadIdx.x;
  for (int i = lane; i < M * K / 8; i += 32) copy_async_16(tile_a + 8 * i, a + 8 * i, true);
  for (int i = lane; i < K * N / 8; i += 32) copy_async_16(tile_b + 8 * i, b + 8 * i, true);
  copy_async_commit();
  copy_async_wait<0>();
  __syncwarp();
  uint32_t fa[4], fb[2];
  load_matrix_x4(fa, tile_a + lane % 16 * K + lane / 16 * 8);
  load_matrix_x2_transposed(fb, tile_b + lane % 16 * N);
  float fd[4] = {};
  mma_bf16(fd, fa, fb);
  for (int i = 0; i < 4; i++) d[(lane / 4 + i / 2 * 8) * N + lane % 4 * 2 + i % 2] = fd[i];
}

static void test_products(void **) {
  float *d = device_new<float>(M * N);
  __nv_bfloat16 *a = device_new<__nv_bfloat16>(M * K), *b = device_new<__nv_bfloat16>(K * N),
                *b_columns = device_new<__nv_bfloat16>(K * N);
  for (int i = 0; i < M * K; i++) a[i] = (float)(i * 37 % 101 - 50) / 16;
  for (int i = 0; i < K * N; i++) b[i] = (float)(i * 53 % 97 - 48) / 8;
  for (int i = 0; i < K * N; i++) b_columns[i % N * K + i / N] = b[i];
  double expected[M * N] = {};
  for (int i = 0; i < M * N * K; i++) {
    int row = i / K / N, column = i / K % N, k = i % K;
    expected[row * N + column] += (double)(float)a[row * K + k] * (double)(float)b[k * N + column];
  }
  for (int i = 0; i < M * N; i++) d[i] = (float)i;
  RUN(product_kernel, 1, 32, 0, d, a, b_columns);
  for (int i = 0; i < M * N; i++) assert_true(fabs(d[i] - (expected[i] + i)) < 1e-3);
  RUN(product_matrix_kernel, 1, 32, (M + N) * K * 2, d, a, b);
  for (int i = 0; i < M * N; i++) assert_true(fabs(d[i] - expected[i]) < 1e-3);
  for (void *p : {(void *)d, (void *)a, (void *)b, (void *)b_columns}) cudaFree(p);
}

__global__ void matrix_kernel(uint32_t *out) {
  __shared__ __align__(16) unsigned short matrix[4][8][8];
  int lane = threadIdx.x;
  for (int i = lane; i < 256; i += 32) (&matrix[0][0][0])[i] = (unsigned short)i;
  __syncwarp();
  load_matrix_x4(out + 12 * lane, matrix[lane / 8][lane % 8]);
  load_matrix_x4_transposed(out + 12 * lane + 4, matrix[lane / 8][lane % 8]);
  load_matrix_x2(out + 12 * lane + 8, matrix[lane % 16 / 8][lane % 8]);
  load_matrix_x2_transposed(out + 12 * lane + 10, matrix[lane % 16 / 8][lane % 8]);
}

static void test_matrices(void **) {
  uint32_t *out = device_new<uint32_t>(32 * 12);
  RUN(matrix_kernel, 1, 32, 0, out);
  for (int lane = 0; lane < 32; lane++) {
    for (int i = 0; i < 12; i++) {
      uint32_t matrix = i < 8 ? i % 4 : i % 2, first = lane / 4, second = lane % 4 * 2;
      bool transposed = i >= 10 || (i >= 4 && i < 8);
      uint32_t low = transposed ? 64 * matrix + 8 * second + first : 64 * matrix + 8 * first + second;
      assert_int_equal(out[12 * lane + i], low | (low + (transposed ? 8 : 1)) << 16);
    }
  }
  cudaFree(out);
}

/* -- asynchronous copies ------------------------------------------------------------------------------------- */

/* Two groups; waits for the first, looks, waits for the second if told to, looks. */
__global__ void copy_kernel(float *seen, const float *x, bool wait) {
  __shared__ __align__(16) float place[12];
  copy_async_16(place, x, true);
  copy_async_commit();
  copy_async_16(place + 4, x + 4, true);
  copy_async_16(place + 8, x + 4, false);
  copy_async_commit();
  copy_async_wait<1>();
  for (int i = 0; i < 12; i++) seen[i] = place[i];
  if (wait) copy_async_wait<0>();
  for (int i = 0; i < 12; i++) seen[12 + i] = place[i];
}

static void test_copies(void **) {
  float *seen = device_new<float>(24), *x = device_new<float>(8);
  for (int i = 0; i < 8; i++) x[i] = (float)i;
  for (int wait = 0; wait < 2; wait++) {
    RUN(copy_kernel, 1, 1, 0, seen, x, wait != 0);
    for (int i = 0; i < 24; i++) {
      if (i % 12 < 4 || (wait && i >= 12)) {
        assert_true(seen[i] == (i % 12 < 8 ? (float)(i % 12) : 0.0f));
      } else {
        assert_true(seen[i] != seen[i]); /* not yet */
      }
    }
  }
  cudaFree(seen);
  cudaFree(x);
}

/* -- mistakes ------------------------------------------------------------------------------------------------ */

__global__ void late_kernel(int *out) {
  if (threadIdx.x == 37) return;
  out[threadIdx.x] = __shfl_xor_sync(FULL, (int)threadIdx.x, 1);
}
__global__ void split_kernel(int *out) {
  if (threadIdx.x < 32) __syncthreads();
  if (threadIdx.x >= 32) out[0] = __syncthreads_or(1);
}
__global__ void stranger_kernel(int *out) {
  out[threadIdx.x] = __shfl_sync(0xfffffffeu, (int)threadIdx.x, 1);
}
__global__ void overrun_kernel(int *out) {
  SHARED_MEMORY(int, shared);
  shared[threadIdx.x] = 1;
  out[threadIdx.x] = 1;
}
__global__ void crowded_kernel(int *out) {
  SHARED_MEMORY(int, shared);
  __shared__ int fixed[512];
  fixed[threadIdx.x] = shared[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = fixed[(threadIdx.x + 1) % 64];
}
__global__ void crooked_kernel(const int *x) {
  __shared__ __align__(16) int place[8];
  copy_async_16(place, x + 1, true);
}
__global__ void elsewhere_kernel(int *x) {
  copy_async_16(x, x + 4, true);
}

template <void (*kernel)(int *)>
static void launch_bad(void) {
  int *out = device_new<int>(64);
  host_launch_on(nullptr, "bad_kernel", kernel, 1, 64, 32 * sizeof(int), out);
  cudaDeviceSynchronize();
}
static void launch_crooked(void) {
  host_launch_on(nullptr, "crooked_kernel", crooked_kernel, 1, 1, 0, (const int *)device_new<int>(64));
  cudaDeviceSynchronize();
}
static void launch_crowded(void) {
  host_launch_on(nullptr, "crowded_kernel", crowded_kernel, 1, 64, 47 << 10, device_new<int>(64));
  cudaDeviceSynchronize();
}
static void overrun_allocation(void) {
  char *p = device_new<char>(100);
  p[100] = 1;
  cudaFree(p);
}

static void launch_host_pointer(void) {
  int x[64] = {};
  host_launch_on(nullptr, "bad_kernel", late_kernel, 1, 64, 0, x);
}

/* This program again, with a device that guards its memory: see main. */
static void touch_guarded(void) {
  setenv("DROVER_CUDA_HOST_GUARD", "1", 1);
  execl("/proc/self/exe", "selftest", "touch", nullptr);
}
static int touch(void) {
  int *x = device_new<int>(4), back = 0;
  if (cudaMemset(x, 0, 16) != cudaSuccess) return 0;
  if (cudaMemcpy(&back, x + 3, 4, cudaMemcpyDeviceToHost) != cudaSuccess || back != 0) return 0;
  fprintf(stderr, "copied\n");
  return x[3];
}

static void test_mistakes(void **) {
  assert_dies(launch_bad<late_kernel>, "kernel bad_kernel, grid (1,1,1), block (0,0,0) of (64,1,1) threads",
              "threads 37 to 37: has ended");
  assert_dies(launch_bad<split_kernel>, "threads 0 to 31: waits at __syncthreads\n",
              "threads 32 to 63: waits at __syncthreads_or\n");
  assert_dies(launch_bad<stranger_kernel>, "leaves out the calling lane 0", "__shfl_sync");
  assert_dies(launch_bad<elsewhere_kernel>, "is not in shared memory", "copy_async_16");
  assert_dies(launch_host_pointer, "kernel bad_kernel: argument 0", "not memory of the device");
  assert_dies(touch_guarded, "copied\n", "the host touched device memory");
  assert_dies(launch_crowded, "48128 bytes of dynamic shared memory beside 2048 in variables", "47104 are");
  assert_dies(launch_crooked, "crooked_kernel", "is not 16-byte aligned");
#ifdef __SANITIZE_ADDRESS__
  assert_dies(launch_bad<overrun_kernel>, "AddressSanitizer", "overrun_kernel");
  assert_dies(overrun_allocation, "AddressSanitizer", "overrun_allocation");
#else
  (void)overrun_allocation;
  assert_dies(launch_bad<overrun_kernel>, "bad_kernel", "wrote past the 128 bytes of dynamic shared memory");
#endif
}

__global__ void nothing_kernel(int) {}

static cudaError_t try_launch(dim3 grid, dim3 block, size_t shared) {
  host_launch_on(nullptr, "nothing_kernel", nothing_kernel, grid, block, shared, 0);
  return cudaGetLastError();
}

static void test_limits(void **) {
  assert_int_equal(try_launch(1, 1024, 48 << 10), cudaSuccess);
  assert_int_equal(try_launch(1, 1025, 0), cudaErrorInvalidConfiguration);
  assert_int_equal(try_launch(1, dim3(1, 1, 65), 0), cudaErrorInvalidConfiguration);
  assert_int_equal(try_launch(dim3(1, 65536), 1, 0), cudaErrorInvalidConfiguration);
  assert_int_equal(try_launch(1, 1, (48 << 10) + 1), cudaErrorInvalidValue);
  int most = 0;
  assert_int_equal(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
  auto allow = [](int bytes) {
    return cudaFuncSetAttribute(nothing_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  };
  assert_int_equal(allow(most + 1), cudaErrorInvalidValue);
  assert_int_equal(allow(most), cudaSuccess);
  cudaGetLastError();
  assert_int_equal(try_launch(1, 1, (size_t)most), cudaSuccess);
  void *p = nullptr;
  assert_int_equal(cudaMalloc(&p, (size_t)1 << 50), cudaErrorMemoryAllocation);
  assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
}

/* -- streams and recordings ---------------------------------------------------------------------------------- */

__global__ void add_kernel(int *x, int value) {
  x[threadIdx.x] += value;
}

static void test_recording(void **) {
  cudaStream_t stream;
  assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  int *x = device_new<int>(4), *y = device_new<int>(4), back[4] = {};
  assert_int_equal(cudaMemsetAsync(x, 0, 16, stream), cudaSuccess);
  assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
  host_launch_on(stream, "add_kernel", add_kernel, 1, 4, 0, x, 3);
  assert_int_equal(cudaMemcpyAsync(y, x, 16, cudaMemcpyDeviceToDevice, stream), cudaSuccess);
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  assert_int_equal(cudaGraphInstantiate(&executable, graph, 0ull), cudaSuccess);
  assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
  assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
  assert_int_equal(x[2], 0); /* noted, not done */
  for (int i = 1; i <= 3; i++) {
    assert_int_equal(cudaGraphLaunch(executable, stream), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(back, y, 16, cudaMemcpyDeviceToHost, stream), cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(stream), cudaSuccess);
    assert_int_equal(back[2], 3 * i);
  }
  /* Waiting spoils a recording. */
  assert_int_equal(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
  assert_int_equal(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  assert_int_equal(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  cudaGetLastError();
  assert_int_equal(cudaGraphExecDestroy(executable), cudaSuccess);
  assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
  cudaFree(x);
  cudaFree(y);
}

/* Work on two streams ordered by an event; with streams that are late, the host must wait to see it. */
static void test_streams(void **) {
  const char *when = getenv("DROVER_CUDA_HOST_STREAMS");
  bool late = when && strcmp(when, "late") == 0;
  cudaStream_t first, second;
  cudaEvent_t event;
  cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  int *x = device_new<int>(1), *pinned = nullptr;
  assert_int_equal(cudaMallocHost(&pinned, 8), cudaSuccess);
  pinned[0] = 5;
  assert_int_equal(cudaMemcpyAsync(x, pinned, 4, cudaMemcpyHostToDevice, first), cudaSuccess);
  host_launch_on(first, "add_kernel", add_kernel, 1, 1, 0, x, 2);
  assert_int_equal(cudaEventRecord(event, first), cudaSuccess);
  assert_int_equal(cudaStreamWaitEvent(second, event, 0), cudaSuccess);
  assert_int_equal(cudaMemcpyAsync(pinned + 1, x, 4, cudaMemcpyDeviceToHost, second), cudaSuccess);
  assert_int_equal(pinned[1] == 7, !late);
  assert_int_equal(cudaStreamSynchronize(second), cudaSuccess);
  assert_int_equal(pinned[1], 7);
  assert_int_equal(cudaEventQuery(event), cudaSuccess);
  /* A copy in the wrong direction. */
  assert_int_equal(cudaMemcpyAsync(pinned, x, 4, cudaMemcpyHostToDevice, first), cudaErrorInvalidValue);
  cudaGetLastError();
  cudaEventDestroy(event);
  cudaStreamDestroy(first);
  cudaStreamDestroy(second);
  cudaFree(x);
  cudaFreeHost(pinned);
}

/* Work that waits for what is elsewhere is tried until it is done, and keeps nobody from asking. */
static void test_waiting_work(void **) {
  const char *when = getenv("DROVER_CUDA_HOST_STREAMS");
  if (!when || strcmp(when, "late") != 0) return; /* the call itself would wait */
  cudaStream_t stream;
  cudaEvent_t event;
  std::atomic<bool> ready(false);
  std::atomic<int> tries(0);
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  host_submit_until(stream, [&] {
    tries++;
    return ready.load();
  });
  assert_int_equal(cudaEventRecord(event, stream), cudaSuccess);
  assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
  assert_int_equal(tries, 1);
  std::thread waits([stream] { cudaStreamSynchronize(stream); });
  while (tries < 3) std::this_thread::yield();
  assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
  ready = true;
  waits.join();
  assert_int_equal(cudaEventQuery(event), cudaSuccess);
  cudaEventDestroy(event);
  cudaStreamDestroy(stream);
}

static void add_many(int *x) {
  for (int i = 0; i < 50; i++) host_launch_on(nullptr, "add_kernel", add_kernel, 1, 256, 0, x, 1);
  cudaDeviceSynchronize();
}

static void test_host_threads(void **) {
  int *x = device_new<int>(256), *y = device_new<int>(256);
  memset(x, 0, 1024);
  memset(y, 0, 1024);
  std::thread one(add_many, x), other(add_many, y);
  one.join();
  other.join();
  for (int i = 0; i < 256; i++) assert_true(x[i] == 50 && y[i] == 50);
  cudaFree(x);
  cudaFree(y);
}

/* -- numbers ------------------------------------------------------------------------------------------------- */

static void test_numbers(void **) {
  for (uint32_t bits = 0; bits < 1u << 16; bits++) {
    __half half = __ushort_as_half((unsigned short)bits);
    __nv_bfloat16 narrow = __ushort_as_bfloat16((unsigned short)bits);
    float h = __half2float(half), b = __bfloat162float(narrow);
    if (h == h) assert_int_equal(__half_as_ushort(__float2half_rn(h)), bits);
    if (b == b) assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(b)), bits);
  }
  assert_true((float)__float2bfloat16_rn(1 + 0x1p-8f) == 1); /* halfway: to the even one */
  assert_true((float)__float2bfloat16_rn(1 + 3 * 0x1p-8f) == 1 + 0x1p-6f);
  assert_true((float)__float2bfloat16_rn(3.4e38f) == INFINITY);
  assert_int_equal(__bfloat16_as_ushort(__float2bfloat16_rn(NAN)), 0x7fff);
  assert_true(__half2float(__float2half_rn(1 + 0x1p-11f)) == 1);
  assert_true(__half2float(__float2half_rn(65520)) == INFINITY);
  assert_true(__half2float(__float2half_rn(3 * 0x1p-25f)) == 0x1p-23f);
  assert_int_equal(pack_bf16(1, -2), 0xc0003f80u);
  assert_int_equal(__brev(1), 0x80000000u);
  assert_int_equal(__umulhi(0xd2511f53u, 0xcd9e8d57u), (uint64_t)0xd2511f53u * 0xcd9e8d57u >> 32);
  assert_int_equal(__clz(0), 32);
  assert_int_equal(__ffs(0), 0);
  assert_int_equal(__byte_perm(0x03020100u, 0x07060504u, 0x7531u), 0x07050301u);
  assert_int_equal(__funnelshift_l(0x80000000u, 1, 1), 3);
  assert_int_equal(__float2int_rn(2.5f), 2);
  assert_int_equal(__float2int_rz(NAN), 0);
  unsigned counter = 3;
  assert_int_equal(atomicInc(&counter, 3), 3);
  assert_int_equal(counter, 0);
  float sum = 1;
  assert_true(atomicAdd(&sum, 2.0f) == 1 && sum == 3);
}

int main(int count, char **arguments) {
  if (count == 2 && strcmp(arguments[1], "touch") == 0) return touch();
  unsetenv("DROVER_CUDA_HOST_GUARD"); /* the other tests look at device memory */
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_shuffles),          cmocka_unit_test(test_votes),
      cmocka_unit_test(test_barriers),          cmocka_unit_test(test_poison),
      cmocka_unit_test(test_forgotten_barrier), cmocka_unit_test(test_products),
      cmocka_unit_test(test_matrices),          cmocka_unit_test(test_copies),
      cmocka_unit_test(test_mistakes),          cmocka_unit_test(test_limits),
      cmocka_unit_test(test_recording),         cmocka_unit_test(test_streams),
      cmocka_unit_test(test_host_threads),      cmocka_unit_test(test_numbers),
      cmocka_unit_test(test_waiting_work),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
