/* The device functions of the CUDA backend, on a card or emulated: what is said where it cannot be used, memory and
 * its limit, copies, recordings. Copies run on the processor's backend too. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "compute/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Opens the kind, or says why not; a run that is there for CUDA (tests/support/device.h) must have it. */
static bool opened(Compute *c, DeviceKind kind) {
  Error error = {0};
  if (compute_open(c, kind, 2, &error)) return true;
  const char *wanted = getenv("DROVER_TEST_BACKEND");
  if (kind != DEVICE_CUDA || (wanted && strcmp(wanted, "cuda") == 0)) fail_msg("%s", error.message);
  assert_int_equal(error.code, ERROR_DEVICE);
  print_message("%s\n", error.message);
  return false;
}

/* What there is to say of a device that cannot be used; only an emulated one can be told to be so. The emulation
 * reads the variable once in a process. Exits with 0 if the message has `text`. */
static void refuse(const char *device, const char *text) {
  Compute c;
  Error error = {0};
  setenv("DROVER_CUDA_HOST_DEVICE", device, 1);
  bool ok = !compute_open(&c, DEVICE_CUDA, 1, &error) && error.code == ERROR_DEVICE &&
            strstr(error.message, text) && compute_open(&c, DEVICE_AUTO, 1, &error) &&
            c.backend != backend_cuda;
  if (!ok) print_error("%s: %s\n", device, error.message);
  fflush(NULL);
  _exit(!ok);
}

static int in_child(const char *device, const char *text) {
  int status = 0;
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    Compute c;
    Error error = {0};
    if (device) refuse(device, text);
    _exit(!(compute_open(&c, DEVICE_CUDA, 1, &error) && strstr(compute_device_name(&c), "emulated")));
  }
  assert_int_equal(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The first test: no other may have opened the device of this process. */
static void test_refusals(void **state) {
  (void)state;
  if (!backend_cuda || in_child(NULL, NULL) != 0) skip();
  assert_int_equal(in_child("driver=0", "no NVIDIA driver"), 0);
  assert_int_equal(in_child("driver=11080", "serves CUDA 11.8"), 0);
  assert_int_equal(in_child("devices=0", "no GPU found"), 0);
  assert_int_equal(in_child("capability=75", "compute capability is 7.5, and 8.0 is the least"), 0);
  assert_int_equal(in_child("memory=1G,taken=1000M", "GiB are free of 1.00 GiB"), 0);
}

static void test_device_memory(void **state) {
  (void)state;
  const size_t mebibyte = 1 << 20;
  Compute c;
  Arena arena, other;
  Error error = {0};
  if (!opened(&c, DEVICE_CUDA)) skip();
  assert_memory_equal(compute_device_name(&c), "cuda (", 6);
  DeviceMemory at_first = compute_device_memory(&c);
  assert_true(at_first.free > 0 && at_first.free + at_first.overhead <= at_first.total);
  assert_true(at_first.overhead > 0 && at_first.arenas == 0 && at_first.used >= at_first.overhead);
  assert_true(compute_arena(&c, &arena, "nothing", 0, &error));
  assert_null(arena.base);
  compute_arena_free(&c, &arena);
  /* the limit counts what driver and libraries take */
  c.memory_limit = at_first.overhead + 3 * mebibyte;
  assert_true(compute_arena(&c, &arena, "first", 2 * mebibyte, &error));
  assert_int_equal((uintptr_t)arena.base % 256, 0);
  assert_false(compute_arena(&c, &other, "second", mebibyte + 1, &error));
  assert_int_equal(error.code, ERROR_MEMORY);
  assert_non_null(strstr(error.message, "second"));
  assert_non_null(strstr(error.message, "device.memory_limit"));
  assert_int_equal(compute_device_memory(&c).arenas, 2 * mebibyte);
  assert_true(compute_device_memory(&c).used >= at_first.overhead + 2 * mebibyte);
  compute_arena_free(&c, &arena);
  assert_int_equal(compute_device_memory(&c).arenas, 0);
  assert_int_equal(compute_device_memory(&c).peak, 2 * mebibyte);
  /* and the card has an end of its own */
  c.memory_limit = 0;
  error = (Error){0};
  assert_false(compute_arena(&c, &other, "giant", at_first.total, &error));
  assert_int_equal(error.code, ERROR_MEMORY);
  assert_non_null(strstr(error.message, "giant"));
  error = (Error){0};
  assert_true(compute_arena(&c, &arena, "again", mebibyte, &error));
  compute_arena_free(&c, &arena);
  compute_close(&c);
}

static unsigned char pattern(size_t i, unsigned seed) {
  return (unsigned char)((i * 2654435761u >> 13) + seed);
}

static Tensor bytes_of(const Arena *arena, size_t first, size_t count) {
  return tensor_1d(arena->base + first, DTYPE_U8, (int64_t)count);
}

/* Up and down again; the host's memory changes right after the call. */
static void check_copy(Compute *c, const Arena *arena, size_t count, unsigned seed) {
  unsigned char *host = malloc(count), *back = calloc(count, 1);
  assert_true(host && back);
  for (size_t i = 0; i < count; i++) host[i] = pattern(i, seed);
  compute_upload(c, bytes_of(arena, 0, count), host);
  memset(host, 0, count);
  compute_download(c, back, bytes_of(arena, 0, count));
  size_t wrong = 0;
  for (size_t i = 0; i < count; i++) wrong += back[i] != pattern(i, seed);
  assert_int_equal(wrong, 0);
  free(host);
  free(back);
}

static void check_copies(DeviceKind kind) {
  enum { MEBIBYTE = 1 << 20, LARGEST = 41 * MEBIBYTE + 13, PIECE = 100003, PIECES = 300 };
  static const size_t counts[] = {1, 4095, MEBIBYTE, MEBIBYTE + 1, 8 * MEBIBYTE, 32 * MEBIBYTE, LARGEST};
  Compute c;
  Arena arena;
  Error error = {0};
  if (!opened(&c, kind)) skip();
  assert_true(compute_arena(&c, &arena, "test", LARGEST, &error));
  for (int i = 0; i < 7; i++) check_copy(&c, &arena, counts[i], (unsigned)i);
  /* small ones, more than staging holds, without a pause */
  unsigned char *piece = malloc(PIECE), *all = malloc(LARGEST);
  assert_true(piece && all);
  for (int k = 0; k < PIECES; k++) {
    for (size_t i = 0; i < PIECE; i++) piece[i] = pattern(i, (unsigned)k);
    compute_upload(&c, bytes_of(&arena, (size_t)k * PIECE, PIECE), piece);
  }
  compute_download(&c, all, bytes_of(&arena, 0, (size_t)PIECE * PIECES));
  size_t wrong = 0;
  for (size_t i = 0; i < (size_t)PIECE * PIECES; i++) {
    wrong += all[i] != pattern(i % PIECE, (unsigned)(i / PIECE));
  }
  assert_int_equal(wrong, 0);
  /* large and small over one another: the last wins */
  memset(all, 7, 3 * MEBIBYTE);
  compute_upload(&c, bytes_of(&arena, 0, 3 * MEBIBYTE), all);
  compute_upload(&c, bytes_of(&arena, MEBIBYTE, PIECE), piece);
  compute_download(&c, all, bytes_of(&arena, MEBIBYTE - 1, PIECE + 2));
  assert_memory_equal(all + 1, piece, PIECE);
  assert_true(all[0] == 7 && all[PIECE + 1] == 7);
  memset(all, 9, LARGEST); /* so large that its first pieces must have gone before the last ones can */
  compute_upload(&c, bytes_of(&arena, MEBIBYTE, PIECE), piece);
  compute_upload(&c, bytes_of(&arena, 0, LARGEST), all);
  compute_download(&c, piece, bytes_of(&arena, MEBIBYTE, PIECE));
  for (size_t i = 0; i < PIECE; i++) wrong += piece[i] != 9;
  assert_int_equal(wrong, 0);
  free(piece);
  free(all);
  compute_arena_free(&c, &arena);
  compute_close(&c);
}

static void test_copies_cpu(void **state) {
  (void)state;
  check_copies(DEVICE_CPU);
}

static void test_copies_cuda(void **state) {
  (void)state;
  check_copies(DEVICE_CUDA);
}

/* A recorded product is not done until it is replayed, and then with what its operands hold by that time. */
static void test_recording(void **state) {
  (void)state;
  Compute c;
  Arena arena;
  Error error = {0};
  if (!opened(&c, DEVICE_CUDA)) skip();
  assert_true(compute_can_record(&c));
  assert_true(compute_arena(&c, &arena, "test", 4096, &error));
  Tensor x = tensor_new_2d(&arena, DTYPE_F32, 1, 4), out = tensor_new_2d(&arena, DTYPE_F32, 1, 2), none = {0};
  Weight w = {.data = tensor_new_2d(&arena, DTYPE_F32, 2, 4)};
  compute_dry_begin(&c);
  op_linear(&c, out, x, w, none, 1, 0);
  assert_true(compute_dry_end(&c, &error));
  const float weight[8] = {1, 2, 3, 4, 5, 6, 7, 8}, first[4] = {1, 0, 0, 0}, second[4] = {0, 1, 0, 1};
  float result[2] = {0, 0};
  compute_upload(&c, w.data, weight);
  compute_upload(&c, x, first);
  op_linear(&c, out, x, w, none, 1, 0);
  compute_upload(&c, x, second);
  compute_record_begin(&c);
  op_linear(&c, out, x, w, none, 1, 0);
  op_linear(&c, out, x, w, none, 10, 1);
  ComputeGraph *graph = compute_record_end(&c);
  compute_download(&c, result, out);
  assert_true(result[0] == 1 && result[1] == 5);
  compute_replay(&c, graph);
  compute_download(&c, result, out);
  assert_true(result[0] == 66 && result[1] == 154);
  compute_upload(&c, x, first);
  compute_replay(&c, graph);
  compute_replay(&c, graph);
  compute_download(&c, result, out);
  assert_true(result[0] == 11 && result[1] == 55);
  compute_graph_free(&c, graph);
  compute_graph_free(&c, NULL);
  compute_arena_free(&c, &arena);
  compute_close(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_refusals),   cmocka_unit_test(test_device_memory),
      cmocka_unit_test(test_copies_cpu), cmocka_unit_test(test_copies_cuda),
      cmocka_unit_test(test_recording),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
