/* The CPU as a device: its memory is ordinary memory. */
#include "compute/cpu/cpu.h"

#include "compute/product.h"

bool CPU(open)(Compute *c, Error *error) {
  (void)c;
  (void)error;
  return true;
}

void CPU(close)(Compute *c) {
  (void)c;
}

bool CPU(arena)(Compute *c, Arena *arena, const char *name, size_t bytes, Error *error) {
  (void)c;
  return arena_init(arena, name, bytes, error);
}

void CPU(arena_free)(Compute *c, Arena *arena) {
  (void)c;
  arena_free(arena);
}

void CPU(upload)(Compute *c, Tensor device, const void *host) {
  (void)c;
  memcpy(device.data, host, tensor_bytes(device));
}

void CPU(download)(Compute *c, void *host, Tensor device) {
  (void)c;
  memcpy(host, device.data, tensor_bytes(device));
}

DeviceMemory CPU(memory)(const Compute *c) {
  (void)c;
  return (DeviceMemory){0};
}

const char *CPU(describe)(const Compute *c) {
  return product_has_matrix_unit() ? "cpu (avx512, amx)" : c->backend->name;
}
