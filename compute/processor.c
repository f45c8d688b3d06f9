#include "compute/processor.h"

#include "compute/ops.h"
#include "compute/product.h"

#include <stdlib.h>
#include <string.h>

/* By feature bits, never by model: virtual machines mask the model number, and new models are unknown to old
 * tables. These are the features of x86-64-v3 and x86-64-v4 that the kernels are compiled for. */
static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void) {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}

static const struct {
  const char *name;
  bool (*has)(void); /* the kernels' instructions; whether there is AMX too is asked of oneDNN */
  const Backend *backend;
  ProductSet products;
} paths[] = {{"avx2", has_avx2, &backend_cpu_v3, PRODUCT_AVX2},
             {"avx512", has_avx512, &backend_cpu_v4, PRODUCT_AVX512},
             {"amx", has_avx512, &backend_cpu_v4, PRODUCT_AMX}};
enum { PATHS = sizeof paths / sizeof *paths };

static const Backend *named(const char *name, Error *error) {
  int i = 0;
  while (i < PATHS && strcmp(name, paths[i].name) != 0) i++;
  if (i == PATHS) {
    error_set(error, ERROR_USAGE, "DROVER_CPU is '%s', but the code paths are avx2, avx512 and amx", name);
    return NULL;
  }
  if (!paths[i].has()) {
    error_set(
        error, ERROR_DEVICE,
        "DROVER_CPU is %s, but this processor cannot do that; without the variable the best that it can "
        "is taken",
        name);
    return NULL;
  }
  if (!product_hold(paths[i].products)) {
    const char *limit = getenv("ONEDNN_MAX_CPU_ISA");
    error_set(
        error, ERROR_DEVICE,
        "DROVER_CPU is %s, but oneDNN takes %s here%s%s; without the variable the best that there is is "
        "taken",
        name, product_set_name(), limit ? ", where ONEDNN_MAX_CPU_ISA is " : "", limit ? limit : "");
    return NULL;
  }
  return paths[i].backend;
}

const Backend *processor_backend(Error *error) {
  __builtin_cpu_init();
  const char *name = getenv("DROVER_CPU");
  if (name && *name) return named(name, error);
  if (has_avx512()) return &backend_cpu_v4;
  if (has_avx2()) return &backend_cpu_v3;
  error_set(error, ERROR_DEVICE, "this processor has no AVX2 and FMA, the least that Drover runs on");
  return NULL;
}
