/* Embeddings are multiplied by the scale as the weights' dtype holds it: in BF16 sqrt(24) = 4.8990 is 4.90625, as in Gemma's code. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "model/block.h"
#include "tests/support/rig.h"

enum { ROWS = 3 };

static void embed(Rig *rig, void *out) {
  static const int32_t ids[ROWS] = {4, 0, 50};
  const size_t mark = arena_mark(&rig->step);
  const BlockContext context = {.compute = &rig->compute, .model = &rig->model, .arena = &rig->step};
  const Tensor device = tensor_new_1d(&rig->step, DTYPE_I32, ROWS);
  compute_upload(&rig->compute, device, ids);
  const Tensor x = model_embed(&context, device, NULL);
  if (!rig->compute.dry) {
    float *values = rig_host(rig, x);
    for (int64_t i = 0; i < ROWS * rig->model.spec.hidden; i++) ((float *)out)[i] = values[i];
    free(values);
  }
  arena_release(&rig->step, mark);
}

/* narrow: what another rounding of the products may do, where activations are BF16. */
static void check(DType dtype, float scale, float narrow) {
  static const int64_t ids[ROWS] = {4, 0, 50};
  Rig rig;
  float out[ROWS * 64];
  rig_open(&rig, (RigSpec){.model = FIXTURES "/arch/gemma", .dtype = dtype}, embed, out);
  embed(&rig, out);
  const float tolerance = compute_activation(&rig.compute, dtype) == DTYPE_F32 ? 1e-7f : narrow;
  const int64_t hidden = rig.model.spec.hidden;
  float *table = rig_host(&rig, rig.model.tensors[rig.model.embedding].value);
  for (int64_t i = 0; i < ROWS * hidden; i++) {
    const float want = table[ids[i / hidden] * hidden + i % hidden] * scale;
    assert_true(fabsf(out[i] - want) <= tolerance * fabsf(want));
  }
  free(table);
  rig_close(&rig);
}

static void scale_has_the_dtype_of_the_weights(void **state) {
  (void)state;
  check(DTYPE_F32, sqrtf(24), 1e-7f);
  check(DTYPE_BF16, 4.90625f, 1.0f / 256);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(scale_has_the_dtype_of_the_weights)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
