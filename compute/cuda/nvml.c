#include "compute/cuda/nvml.h"

#include <dlfcn.h>

/* As in NVML's API reference: nvmlReturn_t 0 is success, nvmlMemory_t is this. */
typedef struct NvmlMemory {
  unsigned long long total, free, used;
} NvmlMemory;

typedef int (*Start)(void);
typedef int (*Find)(const char *address, void **card);
typedef int (*Look)(void *card, NvmlMemory *memory);

/* POSIX lets a function come out of dlsym as void *, ISO C has no conversion for it: hence the unions. */
static bool look(void *library, const char *address, NvmlMemory *memory) {
  union {
    void *symbol;
    Start call;
  } start = {dlsym(library, "nvmlInit_v2")}, stop = {dlsym(library, "nvmlShutdown")};
  union {
    void *symbol;
    Find call;
  } find = {dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2")};
  union {
    void *symbol;
    Look call;
  } query = {dlsym(library, "nvmlDeviceGetMemoryInfo")};
  if (!start.symbol || !stop.symbol || !find.symbol || !query.symbol || start.call() != 0) return false;
  void *card = NULL;
  bool ok = find.call(address, &card) == 0 && query.call(card, memory) == 0;
  stop.call();
  return ok;
}

bool nvml_memory(const char *address, size_t *free, size_t *total) {
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) return false;
  NvmlMemory memory = {0};
  bool ok = look(library, address, &memory);
  dlclose(library);
  if (!ok) return false;
  *free = (size_t)memory.free;
  *total = (size_t)memory.total;
  return true;
}
