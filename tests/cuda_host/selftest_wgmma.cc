/* The emulation of a warpgroup's products: layouts by the figures of the PTX ISA, which piece lies where, not by the arithmetic of addresses
 * that the emulation has; that nothing comes early; and that mistakes are noticed. */
#include <cuda_runtime.h>

#include <cuda_bf16.h>
#include <wgmma.cuh>

#include "tests/cuda_host/selftest.h"

typedef __nv_bfloat16 bf16;

enum { M = 64, LINKS = 4, K = 16 * LINKS, MOST_N = 128, SHARED = 32 << 10 };

/* -- layouts --------------------------------------------------------------------------------------------------- */

typedef struct Layout {
  const char *name;
  int width; /* bytes of a row of the swizzle; 0: none */
  bool
      transposed; /* MN-major: a row is 64 rows of the matrix for one k; the next 64 are `leading` further on */
  int mode;       /* in the descriptor */
  int leading, stride;
} Layout;

/* Row by row, by how much the pieces of 16 bytes are moved (figures of "Swizzling Modes"). */
static int moved(int width, int row) {
  static const int by128[8] = {0, 1, 2, 3, 4, 5, 6, 7}, by64[8] = {0, 0, 1, 1, 2, 2, 3, 3},
                   by32[8] = {0, 0, 0, 0, 1, 1, 1, 1};
  const int *by = width == 128 ? by128 : width == 64 ? by64 : by32;
  return by[row % 8];
}

/* Byte of element (row, k) in a tile that begins at 0. A tile of K 64 with a narrower swizzle is K / (width / 2) tiles, behind one another. */
static int place(const Layout *l, int rows, int row, int k) {
  if (l->transposed)
    return row / 64 * l->leading + k / 8 * l->stride + k % 8 * 128 + (row % 64 / 8 ^ moved(128, k)) * 16 +
           row % 8 * 2;
  if (!l->width) return k / 8 * l->leading + row / 8 * l->stride + row % 8 * 16 + k % 8 * 2;
  const int each = l->width / 2, tile = k / each, piece = k % each / 8;
  return tile * rows * l->width + row / 8 * l->stride + row % 8 * l->width +
         (piece ^ moved(l->width, row)) * 16 + k % 8 * 2;
}

/* Where 16 of K begin: what is added to the address of the tile. */
static int link_start(const Layout *l, int rows, int link) {
  if (l->transposed) return link * 2 * l->stride;
  if (!l->width) return link * 2 * l->leading;
  const int links = l->width / 32;
  return link / links * rows * l->width + link % links * 32;
}

static uint64_t descriptor(const Layout *l, uint32_t address) {
  return (uint64_t)(address / 16) | (uint64_t)(l->leading / 16) << 16 | (uint64_t)(l->stride / 16) << 32 |
         (uint64_t)l->mode << 62;
}

typedef struct Links {
  uint64_t a[LINKS], b[LINKS];
} Links;

/* d of the lanes, [128][N / 2], from what shared memory is to hold. */
template <int N, bool TRANSPOSED>
__global__ void layout_kernel(float *out, const char *image, int bytes, const Links links) {
  SHARED_MEMORY_1024(char, shared);
  for (int i = (int)threadIdx.x; i < bytes; i += 128) shared[i] = image[i];
  fence_proxy_async();
  __syncthreads();
  float d[N / 2];
  for (int i = 0; i < N / 2; i++) d[i] = (float)i;
  wgmma_fence(d);
  for (int link = 0; link < LINKS; link++) wgmma_bf16<TRANSPOSED>(d, links.a[link], links.b[link]);
  wgmma_commit();
  wgmma_wait<0>(d);
  for (int i = 0; i < N / 2; i++) out[threadIdx.x * (N / 2) + i] = d[i];
}

static float value_a(int row, int k) {
  return (float)((row * 37 + k * 11) % 101 - 50) / 16;
}
static float value_b(int row, int k) {
  return (float)((row * 53 + k * 29) % 97 - 48) / 8;
}

template <int N, bool TRANSPOSED>
static void try_layouts(const Layout *la, const Layout *lb) {
  enum { A_BYTES = M * K * 2, BYTES = A_BYTES + N * K * 2 };
  char *image = device_new<char>(BYTES);
  float *out = device_new<float>(128 * N / 2);
  for (int k = 0; k < K; k++) {
    for (int row = 0; row < M; row++) {
      const bf16 a = value_a(row, k);
      memcpy(image + place(la, M, row, k), &a, 2);
    }
    for (int row = 0; row < N; row++) {
      const bf16 b = value_b(row, k);
      memcpy(image + A_BYTES + place(lb, N, row, k), &b, 2);
    }
  }
  Links links;
  for (int link = 0; link < LINKS; link++) {
    links.a[link] = descriptor(la, (uint32_t)(HOST_SHARED_START + link_start(la, M, link)));
    links.b[link] = descriptor(lb, (uint32_t)(HOST_SHARED_START + A_BYTES + link_start(lb, N, link)));
  }
  RUN((layout_kernel<N, TRANSPOSED>), 1, 128, BYTES, out, (const char *)image, (int)BYTES, links);
  for (int row = 0; row < M; row++) {
    for (int column = 0; column < N; column++) {
      double expected = 0;
      for (int k = 0; k < K; k++)
        expected += (double)(float)(bf16)value_a(row, k) * (double)(float)(bf16)value_b(column, k);
      /* "WGMMA .m64nNk16 register fragment layout for accumulator matrix D" */
      const int thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2,
                i = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
      const double got = out[thread * (N / 2) + i] - i;
      if (!(fabs(got - expected) < 1e-3))
        fail_msg("A %s, B %s, N %d: element %d, %d is %f, not %f", la->name, lb->name, N, row, column, got,
                 expected);
    }
  }
  cudaFree(image);
  cudaFree(out);
}

template <int N>
static void try_all_layouts(void) {
  const Layout a[] = {{"128", 128, false, 1, 16, 1024},
                      {"64", 64, false, 2, 16, 512},
                      {"32", 32, false, 3, 16, 256},
                      {"none", 0, false, 0, 128, 1024},         /* core matrices row by row ... */
                      {"none", 0, false, 0, M / 8 * 128, 128}}; /* ... or column by column */
  const Layout b[] = {{"128", 128, false, 1, 16, 1024},
                      {"64", 64, false, 2, 16, 512},
                      {"none", 0, false, 0, N / 8 * 128, 128}};
  const Layout turned = {"128, transposed", 128, true, 1, 16, 1024};
  for (const Layout &lb : b) {
    for (const Layout &la : a) try_layouts<N, false>(&la, &lb);
    try_layouts<N, true>(&turned, &lb);
  }
}

static void test_layouts(void **) {
  try_all_layouts<8>();
  try_all_layouts<32>();
  try_all_layouts<128>();
}

/* A from registers, by the fragments of the PTX ISA ("WGMMA .m64k16 register fragment layout for matrix A"). */
template <int N, bool TRANSPOSED>
__global__ void registers_kernel(float *out, const char *image, int bytes, const bf16 *a, const Links links) {
  SHARED_MEMORY_1024(char, shared);
  for (int i = (int)threadIdx.x; i < bytes; i += 128) shared[i] = image[i];
  fence_proxy_async();
  __syncthreads();
  float d[N / 2] = {};
  uint32_t w[LINKS][4];
  const int row = (int)threadIdx.x / 32 * 16 + (int)threadIdx.x % 32 / 4, k = (int)threadIdx.x % 4 * 2;
  for (int link = 0; link < LINKS; link++)
    for (int i = 0; i < 4; i++) memcpy(&w[link][i], a + (row + i % 2 * 8) * K + link * 16 + k + i / 2 * 8, 4);
  wgmma_fence(d, w);
  for (int link = 0; link < LINKS; link++) wgmma_bf16_registers<TRANSPOSED>(d, w[link], links.b[link]);
  wgmma_commit();
  wgmma_wait<0>(d);
  for (int i = 0; i < N / 2; i++) out[threadIdx.x * (N / 2) + i] = d[i];
}

template <int N, bool TRANSPOSED>
static void try_registers(const Layout *lb, int bytes) {
  char *image = device_new<char>(bytes);
  bf16 *a = device_new<bf16>(M * K);
  float *out = device_new<float>(128 * N / 2);
  Links links = {};
  for (int row = 0; row < M; row++)
    for (int k = 0; k < K; k++) a[row * K + k] = (bf16)value_a(row, k);
  for (int row = 0; row < N; row++)
    for (int k = 0; k < K; k++) {
      const bf16 b = value_b(row, k);
      memcpy(image + place(lb, N, row, k), &b, 2);
    }
  for (int link = 0; link < LINKS; link++)
    links.b[link] = descriptor(lb, (uint32_t)(HOST_SHARED_START + link_start(lb, N, link)));
  RUN((registers_kernel<N, TRANSPOSED>), 1, 128, (size_t)bytes, out, (const char *)image, bytes,
      (const bf16 *)a, links);
  for (int row = 0; row < M; row++) {
    for (int column = 0; column < N; column++) {
      double expected = 0;
      for (int k = 0; k < K; k++)
        expected += (double)(float)(bf16)value_a(row, k) * (double)(float)(bf16)value_b(column, k);
      const int thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2,
                i = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
      const double got = out[thread * (N / 2) + i];
      if (!(fabs(got - expected) < 1e-3))
        fail_msg("B %s, N %d: element %d, %d is %f, not %f", lb->name, N, row, column, got, expected);
    }
  }
  for (void *p : {(void *)image, (void *)a, (void *)out}) cudaFree(p);
}

/* B along K, and across it: rows of 64 columns, one tile after the other ("Leading dimension byte offset" and "Stride dimension byte offset"
 * of MN-major matrices), also with room between tiles and between eight rows. */
static void test_registers(void **) {
  const Layout along = {"128", 128, false, 1, 16, 1024},
               close = {"128, transposed", 128, true, 1, K * 128, 1024},
               apart = {"128, transposed, apart", 128, true, 1, 1024, 2048};
  try_registers<16, false>(&along, 16 * K * 2);
  try_registers<64, false>(&along, 64 * K * 2);
  try_registers<128, false>(&along, 128 * K * 2);
  try_registers<64, true>(&close, 64 * K * 2);
  try_registers<128, true>(&close, 128 * K * 2);
  try_registers<128, true>(&apart, 128 * K * 2);
}

/* The card's own descriptors. */
__global__ void own_kernel(uint64_t *out) {
  SHARED_MEMORY_1024(char, shared);
  out[0] = wgmma_link<false>(wgmma_matrix(shared + 8192), 3);
  out[1] = wgmma_link<true>(wgmma_matrix(shared), 2);
  out[2] = wgmma_link<true>(wgmma_matrix(shared, K * 128), 3);
}

static void test_descriptors(void **) {
  uint64_t *out = device_new<uint64_t>(3);
  RUN(own_kernel, 1, 1, SHARED, out);
  const Layout rows = {"128", 128, false, 1, 16, 1024}, turned = {"128, transposed", 128, true, 1, 16, 1024},
               wide = {"128, transposed", 128, true, 1, K * 128, 1024};
  assert_int_equal(out[0], descriptor(&rows, (uint32_t)(HOST_SHARED_START + 8192 + link_start(&rows, M, 3))));
  assert_int_equal(out[1], descriptor(&turned, (uint32_t)(HOST_SHARED_START + link_start(&turned, M, 2))));
  assert_int_equal(out[2], descriptor(&wide, (uint32_t)(HOST_SHARED_START + link_start(&wide, 128, 3))));
  cudaFree(out);
}

/* -- what comes when ------------------------------------------------------------------------------------------- */

/* Shared memory all ones, each of A and B at 0: an element is 16 for each product. */
static __device__ void fill_ones(bf16 *shared) {
  for (int i = (int)threadIdx.x; i < SHARED / 2; i += (int)blockDim.x) shared[i] = (bf16)1.0f;
  fence_proxy_async();
  __syncthreads();
}

/* EARLY: looks at the sums before they are there. */
template <bool EARLY>
__global__ void late_kernel(float *out) {
  SHARED_MEMORY_1024(bf16, shared);
  fill_ones(shared);
  const uint64_t x = wgmma_matrix(shared);
  float d[4] = {}, other[4] = {}, *mine = out + 4 * threadIdx.x;
  wgmma_fence(d);
  wgmma_bf16<false>(d, x, x);
  wgmma_commit();
  if (EARLY) mine[0] = d[0];
  wgmma_fence(other);
  wgmma_bf16<false>(other, x, x);
  wgmma_bf16<false>(other, x, x);
  wgmma_commit();
  wgmma_wait<1>(d);
  mine[1] = d[0];
  if (EARLY) mine[2] = other[0];
  wgmma_wait<0>(other);
  mine[3] = other[0];
}

#ifdef __SANITIZE_ADDRESS__
static void launch_early(void) {
  RUN(late_kernel<true>, 1, 128, SHARED, device_new<float>(4 * 128));
}
#endif

/* Before the wait they are poison, which the address sanitizer lets nobody read. */
static void test_late(void **) {
  float *out = device_new<float>(4 * 256);
#ifdef __SANITIZE_ADDRESS__
  assert_dies(launch_early, "use-after-poison", "");
  RUN(late_kernel<false>, 1, 256, SHARED, out);
#else
  RUN(late_kernel<true>, 1, 256, SHARED, out);
#endif
  for (int t = 0; t < 256; t++) {
#ifndef __SANITIZE_ADDRESS__
    assert_true(out[4 * t] != out[4 * t]);
    assert_true(out[4 * t + 2] != out[4 * t + 2]);
#endif
    assert_true(out[4 * t + 1] == 16);
    assert_true(out[4 * t + 3] == 32);
  }
  cudaFree(out);
}

/* Without `add`, what was in the registers does not matter: here something that is no number. */
__global__ void first_kernel(float *out) {
  SHARED_MEMORY_1024(bf16, shared);
  fill_ones(shared);
  const uint64_t x = wgmma_matrix(shared);
  float d[4] = {NAN, NAN, NAN, NAN};
  wgmma_fence(d);
  wgmma_bf16<false>(d, x, x, false);
  wgmma_bf16<false>(d, x, x);
  wgmma_commit();
  wgmma_wait<0>(d);
  out[threadIdx.x] = d[0] + d[1] + d[2] + d[3];
}

static void test_first(void **) {
  float *out = device_new<float>(128);
  RUN(first_kernel, 1, 128, SHARED, out);
  for (int t = 0; t < 128; t++) assert_true(out[t] == 4 * 32);
  cudaFree(out);
}

/* The two halves of a block meet each on its own, one more often than the other. */
__global__ void parts_kernel(int *out) {
  __shared__ int place[128];
  const int t = (int)threadIdx.x;
  int seen = 0;
  for (int i = 0; i < (t < 64 ? 3 : 5); i++) {
    place[t] = 100 * i + t;
    t < 64 ? meet_threads<1, 64>() : meet_threads<2, 64>();
    seen += place[t ^ 63] - 100 * i - (t ^ 63);
    t < 64 ? meet_threads<1, 64>() : meet_threads<2, 64>();
  }
  __syncthreads();
  out[t] = seen + place[127 - t];
}

static void test_parts(void **) {
  int *out = device_new<int>(128);
  RUN(parts_kernel, 1, 128, 0, out);
  for (int t = 0; t < 128; t++) assert_int_equal(out[t], (t < 64 ? 400 : 200) + 127 - t);
  cudaFree(out);
}

/* -- mistakes -------------------------------------------------------------------------------------------------- */

/* One of all that may be wrong. */
enum Mistake {
  NONE,
  COPY_NOT_FENCED,
  COPY_NOT_WAITED,
  NO_FENCE,
  CHANGED_SUMS,
  FILLED_EARLY,
  CHANGED_FACTOR,
  FACTOR_NOT_FENCED,
  CHANGED_EARLY,
  WAITED_TOO_LITTLE,
  NOT_WAITED,
  WARP_MISSING,
  WARP_DIFFERS,
  CROOKED,
  OUTSIDE
};

template <Mistake MISTAKE>
__global__ void mistaken_kernel(const bf16 *x) {
  SHARED_MEMORY_1024(bf16, shared);
  for (int i = (int)threadIdx.x; i < SHARED / 16; i += (int)blockDim.x)
    copy_async_16(shared + i * 8, x, true);
  copy_async_commit();
  if (MISTAKE != COPY_NOT_WAITED) copy_async_wait<0>();
  if (MISTAKE != COPY_NOT_FENCED) fence_proxy_async();
  __syncthreads();
  const int warp = (int)threadIdx.x / 32;
  const uint64_t tile = wgmma_matrix(shared + (MISTAKE == CROOKED   ? 128
                                               : MISTAKE == OUTSIDE ? SHARED / 2 - 512
                                                                    : 0));
  float d[4] = {};
  if (MISTAKE != NO_FENCE) wgmma_fence(d);
  if (MISTAKE == CHANGED_SUMS) d[3] = 1;
  if (MISTAKE != WARP_MISSING || warp != 2)
    wgmma_bf16<false>(d, tile, MISTAKE == WARP_DIFFERS && warp == 2 ? tile + 2 : tile);
  wgmma_commit();
  if (MISTAKE == COPY_NOT_WAITED) copy_async_wait<0>();
  if (MISTAKE == FILLED_EARLY && warp == 0) shared[threadIdx.x] = (bf16)2.0f;
  if (MISTAKE == CHANGED_EARLY) d[1] = 1;
  if (MISTAKE == WAITED_TOO_LITTLE) wgmma_wait<1>(d);
  if (MISTAKE != NOT_WAITED) wgmma_wait<0>(d);
  if (MISTAKE == CHANGED_FACTOR || MISTAKE == FACTOR_NOT_FENCED) {
    uint32_t a[1][4] = {};
    wgmma_fence(d, a);
    if (MISTAKE == FACTOR_NOT_FENCED) a[0][3] = 1;
    wgmma_bf16_registers<false>(d, a[0], tile);
    wgmma_commit();
    if (MISTAKE == CHANGED_FACTOR) a[0][2] = threadIdx.x;
    wgmma_wait<0>(d);
  }
}

template <Mistake MISTAKE, int THREADS = 128>
static void make_mistake(void) {
  bf16 *x = device_new<bf16>(8);
  for (int i = 0; i < 8; i++) x[i] = (bf16)1.0f;
  host_launch_on(nullptr, "mistaken_kernel", mistaken_kernel<MISTAKE>, 1, THREADS, SHARED, x);
  cudaDeviceSynchronize();
  cudaFree(x);
}

/* This program again, on a card without the instruction: see main. */
static void run_elsewhere(void) {
  execl("/proc/self/exe", "selftest_wgmma", "elsewhere", nullptr);
}

static __global__ void deadlock_kernel(int *out) {
  if (threadIdx.x < 64) meet_threads<3, 128>();
  out[threadIdx.x] = 1;
}
static void launch_deadlock(void) {
  host_launch_on(nullptr, "deadlock_kernel", deadlock_kernel, 1, 96, 0, device_new<int>(96));
  cudaDeviceSynchronize();
}
static __global__ void lonely_kernel(int *out) {
  if (threadIdx.x < 32) meet_threads<3, 64>();
  out[threadIdx.x] = 1;
}
static void launch_lonely(void) {
  host_launch_on(nullptr, "lonely_kernel", lonely_kernel, 1, 64, 0, device_new<int>(64));
  cudaDeviceSynchronize();
}

static void test_mistakes(void **) {
  make_mistake<NONE>();
  make_mistake<NONE, 256>();
  assert_dies(make_mistake<NONE, 96>, "mistaken_kernel", "no warpgroup");
  assert_dies(make_mistake<COPY_NOT_FENCED>, "reads what thread 0 copied", "fence_proxy_async");
  assert_dies(make_mistake<COPY_NOT_WAITED>, "wgmma", "was changed before it was waited for");
  assert_dies(make_mistake<NO_FENCE>, "no wgmma_fence of these sums", "");
  assert_dies(make_mistake<CHANGED_SUMS>, "changed after wgmma_fence", "");
  assert_dies(make_mistake<FILLED_EARLY>, "was changed before it was waited for", "");
  assert_dies(make_mistake<CHANGED_FACTOR>, "was changed before it was waited for", "");
  assert_dies(make_mistake<FACTOR_NOT_FENCED>, "the fragments were changed after wgmma_fence", "");
#ifdef __SANITIZE_ADDRESS__
  assert_dies(make_mistake<CHANGED_EARLY>, "use-after-poison", "");
#else
  assert_dies(make_mistake<CHANGED_EARLY>, "changed sums while a product was under way", "");
#endif
  assert_dies(make_mistake<WAITED_TOO_LITTLE>, "are still under way", "");
  assert_dies(make_mistake<NOT_WAITED>, "has ended and not waited for its products", "");
  assert_dies(make_mistake<WARP_MISSING>, "warp 2 has issued 0 products, its group 1", "");
  assert_dies(make_mistake<WARP_DIFFERS>, "is not that of the other warps of its group", "");
  assert_dies(make_mistake<CROOKED>, "within the pattern of a swizzle of 128 bytes", "");
  assert_dies(make_mistake<OUTSIDE>, "past the 32768 bytes of dynamic shared memory", "");
  assert_dies(run_elsewhere, "sm_90 has no such instruction", "");
  assert_dies(launch_deadlock, "meet_threads: barrier 3 of 128 threads, in a block of 96", "");
  assert_dies(launch_lonely, "threads 0 to 31: waits at barrier 3 for 64 threads", "");
}

int main(int count, char **arguments) {
  unsetenv("DROVER_CUDA_HOST_GUARD"); /* tests look at device memory */
  setenv("DROVER_CUDA_HOST_DEVICE", count == 2 && strcmp(arguments[1], "elsewhere") == 0 ? "90" : "90a", 1);
  if (count == 2) {
    make_mistake<NONE>();
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_layouts),   cmocka_unit_test(test_descriptors),
                                     cmocka_unit_test(test_registers), cmocka_unit_test(test_late),
                                     cmocka_unit_test(test_first),     cmocka_unit_test(test_parts),
                                     cmocka_unit_test(test_mistakes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
