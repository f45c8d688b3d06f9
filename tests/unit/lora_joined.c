/* The adapters of linears with one input, at once: outputs, gradients and dx are those of one after the other. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "lora/lora.h"
#include "tests/support/device.h"

#include <math.h>

enum { T = 5, O = 6 };

static Compute compute;

static int open_compute(void **state) {
  (void)state;
  test_device_open(&compute, 2);
  return 0;
}

static int close_compute(void **state) {
  (void)state;
  compute_close(&compute);
  return 0;
}

static void fill(Tensor tensor, uint64_t stream) {
  device_random(&compute, tensor, random_key(7, RANDOM_TEST), stream, 0, 1);
}

/* Two sequences. */
static const int32_t row_draws[T] = {4, 4, -1, -1, -1}, row_positions[T] = {0, 1, 0, 1, 2};

/* Three linears, with sizes of which one A ends where the next begins, or does not. */
static LoraModule three[] = {
    {.name = (char *)"model.layers.0.self_attn.q_proj", .outputs = O},
    {.name = (char *)"model.layers.0.self_attn.k_proj", .outputs = O, .joined = true},
    {.name = (char *)"model.layers.0.self_attn.v_proj", .outputs = O, .joined = true}};

typedef struct Joint {
  const char *targets[3];
  int inputs, r;
  float dropout;
  bool apart; /* their As do not follow each other, or each has its own input */
} Joint;

/* Outputs, gradients of A and B, and dx of the modules, one by one or at once. */
typedef struct JointResult {
  float out[3][T * O], a[3][64], b[3][64], dx[T * 16];
} JointResult;

static void open_joint(const Joint *joint, LoraSet *set, Arena *arena) {
  Error error = {0};
  LoraSpec spec = {.r = joint->r, .alpha = 5, .dropout = joint->dropout};
  for (int i = 0; i < 3; i++) {
    three[i].inputs = joint->inputs;
    if (joint->targets[i]) assert_true(lora_spec_target(&spec, joint->targets[i], &error));
  }
  assert_true(lora_open(set, &spec, three, 3, DTYPE_F32, true, &compute, arena, &error));
  lora_spec_free(&spec);
  set->dropout_key = random_key(3, RANDOM_DROPOUT);
  for (int id = 0; id < 3; id++) {
    if (!lora_pair(set, id)) continue;
    fill(set->pairs[id].a.value, (uint64_t)id + 31);
    fill(set->pairs[id].b.value, (uint64_t)id + 41);
  }
}

static void run_joint(const LoraSet *set, bool at_once, int inputs, LoraRows rows, Arena *arena,
                      JointResult *result) {
  static const int ids[3] = {0, 1, 2};
  LoraState states[3] = {0}, *state[3] = {&states[0], &states[1], &states[2]};
  Tensor out[3], dout[3], x = tensor_new_2d(arena, DTYPE_F32, T, inputs),
                          dx = tensor_new_2d(arena, DTYPE_F32, T, inputs);
  fill(x, 3);
  fill(dx, 6);
  for (int id = 0; id < 3; id++) {
    out[id] = tensor_new_2d(arena, DTYPE_F32, T, O);
    dout[id] = tensor_new_2d(arena, DTYPE_F32, T, O);
    fill(out[id], (uint64_t)id + 51);
    fill(dout[id], (uint64_t)id + 61);
  }
  if (at_once) {
    lora_forward_joined(&compute, set, ids, 3, out, x, 0.5f, state, rows, arena);
    assert_true(lora_backward_joined(&compute, set, ids, 3, dx, dout, x, 2, state, arena));
  } else {
    float beta = 2;
    for (int id = 0; id < 3; id++) {
      lora_forward(&compute, set, id, out[id], x, 0.5f, state[id], rows, arena);
      if (lora_backward(&compute, set, id, dx, dout[id], x, beta, state[id], arena)) beta = 1;
    }
  }
  compute_download(&compute, result->dx, dx);
  for (int id = 0; id < 3; id++) {
    compute_download(&compute, result->out[id], out[id]);
    if (!lora_pair(set, id)) continue;
    compute_download(&compute, result->a[id], set->pairs[id].a.grad);
    compute_download(&compute, result->b[id], set->pairs[id].b.grad);
    op_fill(&compute, set->pairs[id].a.grad, 0);
    op_fill(&compute, set->pairs[id].b.grad, 0);
  }
}

static void linears_with_one_input_are_as_one_by_one(void **state) {
  (void)state;
  static const Joint cases[] = {{{"q_proj", "k_proj", "v_proj"}, 16, 4, 0, false},
                                {{"q_proj", "v_proj"}, 16, 4, 0, false},
                                {{"k_proj"}, 16, 4, 0, true},
                                {{"q_proj", "k_proj", "v_proj"}, 7, 3, 0, true},
                                {{"q_proj", "k_proj", "v_proj"}, 16, 4, 0.4f, false}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    const Joint *joint = &cases[c];
    LoraSet set;
    Arena arena;
    Error error = {0};
    JointResult apart = {0}, together = {0};
    device_arena(&compute, &arena, "joint", 1 << 20);
    open_joint(joint, &set, &arena);
    if (!joint->apart) {
      const int second = lora_pair(&set, 1) ? 1 : 2;
      const Tensor a[2] = {set.pairs[0].a.value, set.pairs[second].a.value};
      const Tensor da[2] = {set.pairs[0].a.grad, set.pairs[second].a.grad};
      assert_int_equal(tensor_stacked(a, 2).dim[0], 2 * joint->r);
      assert_int_equal(tensor_stacked(da, 2).dim[0], 2 * joint->r);
    }
    LoraRows rows = {tensor_new_1d(&arena, DTYPE_I32, T), tensor_new_1d(&arena, DTYPE_I32, T)};
    compute_upload(&compute, rows.draws, row_draws);
    compute_upload(&compute, rows.positions, row_positions);
    compute_dry_begin(&compute);
    Arena dry;
    arena_init_dry(&dry, "plan");
    for (int i = 0; i < 2; i++) run_joint(&set, i == 0, joint->inputs, rows, &dry, &apart);
    assert_true(compute_dry_end(&compute, &error));
    run_joint(&set, false, joint->inputs, rows, &arena, &apart);
    run_joint(&set, true, joint->inputs, rows, &arena, &together);
    const float *expected = (const float *)&apart, *found = (const float *)&together;
    for (size_t i = 0; i < sizeof apart / sizeof *found; i++)
      if (fabsf(found[i] - expected[i]) > 2e-5f * (1 + fabsf(expected[i])))
        fail_msg("case %d, number %d: %g, expected %g", (int)c, (int)i, (double)found[i],
                 (double)expected[i]);
    lora_free(&set);
    compute_arena_free(&compute, &arena);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(linears_with_one_input_are_as_one_by_one)};
  return cmocka_run_group_tests(tests, open_compute, close_compute);
}
