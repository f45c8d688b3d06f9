#include "tests/support/saved.h"

#include "tests/support/rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Mask buffers are no weights: they are passed over at load and not written. */
static bool is_buffer(const SafetensorsEntry *entry) {
  const char *end = ".attn.bias";
  const size_t length = strlen(entry->name);
  return length > strlen(end) && strcmp(entry->name + length - strlen(end), end) == 0;
}

static void assert_same_entry(const SafetensorsEntry *got, const SafetensorsEntry *want, bool changed) {
  assert_string_equal(got->name, want->name);
  if (got->dtype != want->dtype)
    fail_msg("%s: %s, expected %s", got->name, dtype_name(got->dtype), dtype_name(want->dtype));
  assert_int_equal(got->rank, want->rank);
  assert_memory_equal(got->shape, want->shape, (size_t)want->rank * sizeof *want->shape);
  if (changed)
    assert_memory_not_equal(got->data, want->data, want->bytes);
  else
    assert_memory_equal(got->data, want->data, want->bytes);
}

void assert_same_tensors_but(const char *saved, const char *original, const char *stem, const char *changed) {
  Error error = {0};
  SafetensorsSet a = {0}, b = {0};
  rig_check(safetensors_set_open(&a, saved, stem, &error), &error);
  rig_check(safetensors_set_open(&b, original, stem, &error), &error);
  size_t n = 0;
  for (size_t i = 0; i < b.count; i++) {
    if (is_buffer(b.entries[i])) continue;
    if (n == a.count) fail_msg("%s: \"%s\" was not written", saved, b.entries[i]->name);
    assert_same_entry(a.entries[n++], b.entries[i], changed && strcmp(b.entries[i]->name, changed) == 0);
  }
  assert_int_equal(n, a.count);
  safetensors_set_close(&a);
  safetensors_set_close(&b);
}

void assert_same_tensors(const char *saved, const char *original, const char *stem) {
  assert_same_tensors_but(saved, original, stem, NULL);
}
