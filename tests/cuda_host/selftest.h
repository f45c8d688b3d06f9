/* What the emulation's own tests share. */
#ifndef TESTS_CUDA_HOST_SELFTEST_H
#define TESTS_CUDA_HOST_SELFTEST_H

#include <cuda_runtime.h>

#include <launch.cuh>

#include "tests/cuda_host/emulated.h"

extern "C" {
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
}

#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#define FULL 0xffffffffu
#define RUN(kernel, grid, block, shared, ...)                                   \
  do {                                                                          \
    host_launch_on(nullptr, #kernel, kernel, grid, block, shared, __VA_ARGS__); \
    assert_int_equal(cudaGetLastError(), cudaSuccess);                          \
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);                     \
  } while (0)

template <class T>
static inline T *device_new(size_t count) {
  T *p = nullptr;
  assert_int_equal(cudaMalloc(&p, count * sizeof(T)), cudaSuccess);
  return p;
}

/* What the work says as it dies; fails the test when it lives. */
static inline std::vector<char> last_words(void (*work)()) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  fflush(nullptr);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    work();
    _exit(0);
  }
  close(ends[1]);
  std::vector<char> text;
  char piece[4096];
  for (ssize_t n; (n = read(ends[0], piece, sizeof(piece))) > 0;) text.insert(text.end(), piece, piece + n);
  text.push_back(0);
  close(ends[0]);
  int status = 0;
  assert_int_equal(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) fail_msg("a mistake was not noticed");
  return text;
}

static inline void assert_dies(void (*work)(), const char *part, const char *other_part) {
  std::vector<char> text = last_words(work);
  if (!strstr(text.data(), part) || !strstr(text.data(), other_part)) {
    fail_msg("neither '%s' nor '%s' may be missing in: %s", part, other_part, text.data());
  }
}

#endif
