/* One linear's adapter: forward against a double-precision reference, backward against finite differences (the
 * adapter is linear in x, in A and in B, so a large step is exact), merging, and which modules a spec adapts. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "lora/lora.h"
#include "tests/support/device.h"
#include "tests/support/draws.h"
#include "tests/temporary.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { T = 5, I = 7, O = 6, R = 3 };

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

static LoraModule modules[] = {
    {.name = (char *)"model.layers.0.self_attn.q_proj", .inputs = I, .outputs = O},
    {.name = (char *)"model.layers.0.self_attn.xq_proj", .inputs = I, .outputs = O},
    {.name = (char *)"model.layers.0.mlp.down_proj", .inputs = I, .outputs = O, .transposed = true},
    {.name = (char *)"lm_head", .inputs = I, .outputs = 11, .kind = LORA_HEAD}};
enum { MODULES = sizeof modules / sizeof *modules };

static LoraSpec spec_for(const char *target) {
  LoraSpec spec = {.r = R, .alpha = 5};
  Error error = {0};
  assert_true(lora_spec_target(&spec, target, &error));
  return spec;
}

static float number(uint64_t stream, uint64_t i) {
  return random_normal(random_key(7, RANDOM_TEST), stream, i);
}

static void fill(Tensor tensor, uint64_t stream) {
  device_random(&compute, tensor, random_key(7, RANDOM_TEST), stream, 0, 1);
}

/* The values of a small tensor, and back. */
enum { MOST = O * I };
static void values_of(Tensor tensor, float out[MOST]) {
  assert_true(tensor_count(tensor) <= MOST);
  compute_download(&compute, out, tensor);
}

/* A set over the modules with random A and B, and the arenas and inputs of a pass. */
typedef struct Bench {
  Arena arena;
  LoraRows rows;
  LoraSet set;
  LoraPair *pair; /* of module 0 */
  Tensor x, out, dout, dx;
} Bench;

/* Two sequences, the second of them the run's 2^32 - 1st. */
static const int32_t row_draws[T] = {4, 4, -1, -1, -1}, row_positions[T] = {0, 1, 0, 1, 2};

static Tensor matrix(Bench *bench, int64_t rows, int64_t columns) {
  return tensor_new_2d(&bench->arena, DTYPE_F32, rows, columns);
}

static void bench_open(Bench *bench, float dropout, bool rslora, bool trainable) {
  *bench = (Bench){0};
  Error error = {0};
  LoraSpec spec = spec_for("q_proj");
  spec.dropout = dropout;
  spec.rslora = rslora;
  device_arena(&compute, &bench->arena, "bench", 1 << 20);
  assert_true(
      lora_open(&bench->set, &spec, modules, MODULES, DTYPE_F32, trainable, &compute, &bench->arena, &error));
  lora_spec_free(&spec);
  bench->set.dropout_key = random_key(3, RANDOM_DROPOUT);
  bench->pair = &bench->set.pairs[0];
  fill(bench->pair->a.value, 1);
  fill(bench->pair->b.value, 2);
  bench->x = matrix(bench, T, I);
  bench->out = matrix(bench, T, O);
  bench->dout = matrix(bench, T, O);
  bench->dx = matrix(bench, T, I);
  fill(bench->x, 3);
  fill(bench->out, 4);
  fill(bench->dout, 5);
  fill(bench->dx, 6);
  bench->rows =
      (LoraRows){tensor_new_1d(&bench->arena, DTYPE_I32, T), tensor_new_1d(&bench->arena, DTYPE_I32, T)};
  compute_upload(&compute, bench->rows.draws, row_draws);
  compute_upload(&compute, bench->rows.positions, row_positions);
  /* One real run's worth of operation workspace, found by a dry run, as programs do it. */
  compute_dry_begin(&compute);
  Arena dry;
  arena_init_dry(&dry, "plan");
  LoraState state;
  lora_forward(&compute, &bench->set, 0, bench->out, bench->x, 1, &state, bench->rows, &dry);
  lora_backward(&compute, &bench->set, 0, bench->dx, bench->dout, bench->x, 1, &state, &dry);
  assert_true(compute_dry_end(&compute, &error));
}

static void bench_close(Bench *bench) {
  lora_free(&bench->set);
  compute_arena_free(&compute, &bench->arena);
}

/* dropout(x)[t,i] in double */
static double dropped(const Bench *bench, bool training, int t, int i) {
  const float p = bench->set.spec.dropout;
  const double x = (double)number(3, (uint64_t)(t * I + i));
  if (!training || p == 0) return x;
  const float draw = dropout_draw(bench->set.dropout_key, 0, row_draws[t], row_positions[t], i);
  return draw >= p ? x / (1 - (double)p) : 0;
}

static double expected_out(const Bench *bench, bool training, double scale, int t, int o) {
  double sum = (double)number(4, (uint64_t)(t * O + o)); /* what was in out before */
  for (int r = 0; r < R; r++) {
    double u = 0;
    for (int i = 0; i < I; i++)
      u += dropped(bench, training, t, i) * (double)number(1, (uint64_t)(r * I + i));
    sum += scale * u * (double)number(2, (uint64_t)(o * R + r));
  }
  return sum;
}

static void check_forward(float dropout, bool rslora, bool training) {
  Bench bench;
  bench_open(&bench, dropout, rslora, false);
  LoraState state;
  size_t used = bench.arena.used;
  lora_forward(&compute, &bench.set, 0, bench.out, bench.x, 1, training ? &state : NULL, bench.rows,
               &bench.arena);
  if (!training) assert_int_equal(bench.arena.used, used);
  float out[MOST];
  values_of(bench.out, out);
  const double scale = 5 / (rslora ? sqrt(3.0) : 3.0);
  for (int t = 0; t < T; t++)
    for (int o = 0; o < O; o++) {
      double expected = expected_out(&bench, training, scale, t, o);
      assert_true(fabs((double)out[t * O + o] - expected) < 1e-5 * (1 + fabs(expected)));
    }
  bench_close(&bench);
}

static void the_forward_is_the_formula(void **state) {
  (void)state;
  check_forward(0, false, false);
  check_forward(0, true, true);
  check_forward(0.4f, false, true);
  check_forward(0.4f, false, false); /* no dropout in inference */
}

/* sum(out * dout) of a forward from out = 0 */
static double loss_of(Bench *bench) {
  size_t mark = arena_mark(&bench->arena);
  Tensor out = matrix(bench, T, O);
  op_fill(&compute, out, 0);
  LoraState state;
  lora_forward(&compute, &bench->set, 0, out, bench->x, 1, &state, bench->rows, &bench->arena);
  float values[MOST];
  values_of(out, values);
  double sum = 0;
  for (int i = 0; i < T * O; i++) sum += (double)values[i] * (double)number(5, (uint64_t)i);
  arena_release(&bench->arena, mark);
  return sum;
}

/* gradient - base equals the slope of the loss in every element. */
static void check_slopes(Bench *bench, Tensor values, Tensor gradient, const float *base) {
  float v[MOST], g[MOST];
  values_of(values, v);
  values_of(gradient, g);
  for (int64_t i = 0; i < tensor_count(values); i++) {
    const float kept = v[i];
    v[i] = kept + 1;
    device_write(&compute, values, v);
    double up = loss_of(bench);
    v[i] = kept - 1;
    device_write(&compute, values, v);
    double down = loss_of(bench);
    v[i] = kept;
    device_write(&compute, values, v);
    double slope = (up - down) / 2, found = (double)g[i] - (double)base[i];
    if (fabs(found - slope) > 2e-5 * (1 + fabs(slope)))
      fail_msg("element %d: %g, expected %g", (int)i, found, slope);
  }
}

static void check_backward(float dropout) {
  Bench bench;
  bench_open(&bench, dropout, false, true);
  fill(bench.pair->a.grad, 11); /* gradients add to what is there */
  fill(bench.pair->b.grad, 12);
  float da[MOST], db[MOST], dx[MOST];
  values_of(bench.pair->a.grad, da);
  values_of(bench.pair->b.grad, db);
  values_of(bench.dx, dx);
  LoraState state;
  lora_forward(&compute, &bench.set, 0, bench.out, bench.x, 1, &state, bench.rows, &bench.arena);
  size_t used = bench.arena.used;
  lora_backward(&compute, &bench.set, 0, bench.dx, bench.dout, bench.x, 1, &state, &bench.arena);
  assert_int_equal(bench.arena.used, used);
  check_slopes(&bench, bench.pair->a.value, bench.pair->a.grad, da);
  check_slopes(&bench, bench.pair->b.value, bench.pair->b.grad, db);
  check_slopes(&bench, bench.x, bench.dx, dx);
  bench_close(&bench);
}

static void the_backward_is_the_slope(void **state) {
  (void)state;
  check_backward(0);
  check_backward(0.4f);
}

static void a_frozen_set_only_passes_gradients_on(void **state) {
  (void)state;
  Bench bench;
  bench_open(&bench, 0.4f, false, false);
  float dx[MOST];
  values_of(bench.dx, dx);
  LoraState kept;
  lora_forward(&compute, &bench.set, 0, bench.out, bench.x, 1, &kept, bench.rows, &bench.arena);
  lora_backward(&compute, &bench.set, 0, bench.dx, bench.dout, bench.x, 1, &kept, &bench.arena);
  check_slopes(&bench, bench.x, bench.dx, dx);
  assert_true(tensor_is_none(bench.pair->a.grad));
  bench_close(&bench);
}

/* The same rows in another order give the same outputs: masks belong to the sequences, not to places in a batch. */
static void masks_do_not_depend_on_packing(void **state) {
  (void)state;
  static const int other_way[T] = {2, 3, 4, 0, 1};
  Bench bench;
  bench_open(&bench, 0.4f, false, false);
  float x[MOST], moved[MOST], out[MOST], moved_out[MOST];
  int32_t draws[T], positions[T];
  LoraState kept;
  lora_forward(&compute, &bench.set, 0, bench.out, bench.x, 0, &kept, bench.rows, &bench.arena);
  values_of(bench.out, out);
  values_of(bench.x, x);
  for (int t = 0; t < T; t++) {
    memcpy(moved + t * I, x + other_way[t] * I, I * sizeof *x);
    draws[t] = row_draws[other_way[t]];
    positions[t] = row_positions[other_way[t]];
  }
  device_write(&compute, bench.x, moved);
  compute_upload(&compute, bench.rows.draws, draws);
  compute_upload(&compute, bench.rows.positions, positions);
  lora_forward(&compute, &bench.set, 0, bench.out, bench.x, 0, &kept, bench.rows, &bench.arena);
  values_of(bench.out, moved_out);
  for (int i = 0; i < T * O; i++) {
    assert_float_equal(moved_out[i], out[other_way[i / O] * O + i % O], 1e-6f); /* tiles of other rows */
  }
  bench_close(&bench);
}

/* Two linears with the same input and the same matrices drop different values of it. */
static void linears_have_masks_of_their_own(void **state) {
  (void)state;
  Bench bench;
  bench_open(&bench, 0.4f, false, false);
  LoraSpec spec = spec_for("all-linear");
  spec.dropout = 0.4f;
  LoraSet all;
  Error error = {0};
  assert_true(lora_open(&all, &spec, modules, MODULES, DTYPE_F32, false, &compute, &bench.arena, &error));
  lora_spec_free(&spec);
  all.dropout_key = bench.set.dropout_key;
  float out[2][MOST];
  for (int id = 0; id < 2; id++) {
    LoraState kept;
    fill(all.pairs[id].a.value, 1);
    fill(all.pairs[id].b.value, 2);
    assert_true(lora_forward(&compute, &all, id, bench.out, bench.x, 0, &kept, bench.rows, &bench.arena));
    values_of(bench.out, out[id]);
  }
  int different = 0;
  for (int i = 0; i < T * O; i++) different += out[0][i] != out[1][i];
  assert_true(different > T * O / 2);
  lora_free(&all);
  bench_close(&bench);
}

static void without_a_pair_nothing_happens(void **state) {
  (void)state;
  Bench bench;
  bench_open(&bench, 0, false, true);
  float before[MOST] = {0}, after[MOST] = {0};
  values_of(bench.out, before);
  LoraState kept;
  lora_forward(&compute, &bench.set, 1, bench.out, bench.x, 1, &kept, bench.rows,
               &bench.arena); /* not adapted */
  lora_forward(&compute, NULL, 0, bench.out, bench.x, 1, NULL, bench.rows, &bench.arena);
  lora_backward(&compute, &bench.set, 1, bench.dx, bench.dout, bench.x, 1, &kept, &bench.arena);
  values_of(bench.out, after);
  assert_memory_equal(before, after, sizeof before);
  bench_close(&bench);
}

static void a_merged_weight_does_what_the_adapter_does(void **state) {
  (void)state;
  for (int transposed = 0; transposed < 2; transposed++) {
    Bench bench;
    bench_open(&bench, 0.4f, false, false);
    modules[0].transposed = transposed;
    Tensor weight = transposed ? matrix(&bench, I, O) : matrix(&bench, O, I);
    Tensor merged = matrix(&bench, T, O);
    const Weight w = {.data = weight, .transposed = transposed};
    fill(weight, 20);
    op_linear(&compute, bench.out, bench.x, w, (Tensor){0}, 1, 0);
    lora_forward(&compute, &bench.set, 0, bench.out, bench.x, 1, NULL, bench.rows, &bench.arena);
    Error error = {0};
    float sum[MOST], apart[MOST], together[MOST];
    values_of(weight, sum);
    assert_true(lora_merge(&bench.set, 0, sum, &compute, &error));
    device_write(&compute, weight, sum);
    op_linear(&compute, merged, bench.x, w, (Tensor){0}, 1, 0);
    values_of(merged, together);
    values_of(bench.out, apart);
    for (int i = 0; i < T * O; i++)
      assert_true(fabsf(apart[i] - together[i]) < 2e-5f * (1 + fabsf(apart[i])));
    bench_close(&bench);
  }
}

/* ---- sets ---- */

static void open_narrow(LoraSet *set, Arena *arena) {
  Error error = {0};
  LoraSpec spec = spec_for("q_proj");
  assert_true(compute_arena(&compute, arena, "set", 1 << 16, &error));
  assert_true(lora_open(set, &spec, modules, MODULES, DTYPE_BF16, true, &compute, arena, &error));
  lora_spec_free(&spec);
}

/* What is trained in BF16 goes through files in fp32, and a pass sees it rounded. */
static void files_keep_exact_values(void **state) {
  (void)state;
  LoraSet set, again;
  Arena arena, arena_again;
  Temporary temporary;
  Error error = {0};
  float values[MOST];
  temporary_open(&temporary);
  open_narrow(&set, &arena);
  open_narrow(&again, &arena_again);
  for (int i = 0; i < MOST; i++) values[i] = number(30, (uint64_t)i); /* 24 bits, of which BF16 has 8 */
  assert_true(lora_upload(&set.pairs[0].a, values, &compute, &error));
  assert_true(lora_upload(&set.pairs[0].b, values, &compute, &error));
  assert_true(lora_save(&set, NULL, I, (ScoreZero){0}, (LoraBase){"base", NULL}, temporary.directory,
                        &compute, &error));
  assert_true(lora_read(&again, temporary.directory, &compute, &error));
  float *a = lora_download(&again.pairs[0].a, &compute, &error);
  float *b = lora_download(&again.pairs[0].b, &compute, &error);
  assert_memory_equal(a, values, R * I * sizeof(float));
  assert_memory_equal(b, values, O * R * sizeof(float));
  memory_free(a);
  memory_free(b);
  const DType dtype = compute_activation(&compute, DTYPE_BF16);
  float *seen = device_values(&compute, again.pairs[0].a.value);
  for (int i = 0; i < R * I; i++) {
    const float rounded = float_from_bf16(bf16_from_float(values[i]));
    assert_float_equal(seen[i], dtype == DTYPE_BF16 ? rounded : values[i], 0);
  }
  free(seen);
  lora_free(&set);
  lora_free(&again);
  compute_arena_free(&compute, &arena);
  compute_arena_free(&compute, &arena_again);
  temporary_close(&temporary);
}

static bool open_set(LoraSet *set, Arena *arena, const char *target, Error *error) {
  LoraSpec spec = spec_for(target);
  Error ignored = {0};
  bool room = compute_arena(&compute, arena, "set", 1 << 16, &ignored);
  bool ok = room && lora_open(set, &spec, modules, MODULES, DTYPE_F32, true, &compute, arena, error);
  lora_spec_free(&spec);
  return ok;
}

static void targets_match_as_in_peft(void **state) {
  (void)state;
  static const struct {
    const char *target;
    bool adapted[MODULES];
  } cases[] = {{"q_proj", {true, false, false, false}},
               {"self_attn.q_proj", {true, false, false, false}},
               {"model.layers.0.self_attn.xq_proj", {false, true, false, false}},
               {"all-linear", {true, true, true, false}}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    LoraSet set;
    Arena arena;
    Error error = {0};
    assert_true(open_set(&set, &arena, cases[c].target, &error));
    for (int i = 0; i < MODULES; i++)
      assert_int_equal(!tensor_is_none(set.pairs[i].a.value), cases[c].adapted[i]);
    lora_free(&set);
    compute_arena_free(&compute, &arena);
  }
}

static void wrong_specs_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *target, *message;
  } cases[] = {
      {"k_proj", "\"k_proj\" is no linear of this model (there are: q_proj, xq_proj, down_proj, lm_head)"},
      {"proj", "\"proj\" is no linear"}};
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    LoraSet set;
    Arena arena;
    Error error = {0};
    assert_false(open_set(&set, &arena, cases[c].target, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    if (!strstr(error.message, cases[c].message)) fail_msg("%s", error.message);
    lora_free(&set);
    compute_arena_free(&compute, &arena);
  }
}

static void fresh_sets_change_nothing_and_come_from_the_seed(void **state) {
  (void)state;
  LoraSet a, b;
  Arena arena_a, arena_b;
  Error error = {0};
  assert_true(open_set(&a, &arena_a, "all-linear", &error));
  assert_true(open_set(&b, &arena_b, "all-linear", &error));
  assert_true(lora_initialize(&a, &compute, 4, &error));
  assert_true(lora_initialize(&b, &compute, 5, &error));
  float v[MOST], zero[MOST], other[MOST], again[MOST];
  values_of(a.pairs[0].a.value, v);
  values_of(a.pairs[0].b.value, zero);
  float largest = 0;
  for (int i = 0; i < R * I; i++) largest = fmaxf(largest, fabsf(v[i]));
  assert_true(largest <= 1 / sqrtf(I) && largest > 0.5f / sqrtf(I));
  for (int i = 0; i < O * R; i++) assert_float_equal(zero[i], 0, 0);
  values_of(b.pairs[0].a.value, other);
  assert_memory_not_equal(v, other, R * I * sizeof(float));
  values_of(a.pairs[1].a.value, other);
  assert_memory_not_equal(v, other, R * I * sizeof(float));
  assert_true(lora_initialize(&b, &compute, 4, &error));
  for (int id = 0; id < 3; id++) {
    values_of(a.pairs[id].a.value, other);
    values_of(b.pairs[id].a.value, again);
    assert_memory_equal(other, again, R * I * sizeof(float));
  }
  assert_int_equal(lora_parameter_count(&a), 3 * R * (I + O));
  ParameterList list = {0};
  assert_true(lora_parameters(&a, &list, &error));
  assert_int_equal(list.count, 6);
  assert_string_equal(list.items[0].name, "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
  parameter_list_free(&list);
  lora_free(&a);
  lora_free(&b);
  compute_arena_free(&compute, &arena_a);
  compute_arena_free(&compute, &arena_b);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(the_forward_is_the_formula),
                                     cmocka_unit_test(the_backward_is_the_slope),
                                     cmocka_unit_test(a_frozen_set_only_passes_gradients_on),
                                     cmocka_unit_test(masks_do_not_depend_on_packing),
                                     cmocka_unit_test(linears_have_masks_of_their_own),
                                     cmocka_unit_test(without_a_pair_nothing_happens),
                                     cmocka_unit_test(a_merged_weight_does_what_the_adapter_does),
                                     cmocka_unit_test(files_keep_exact_values),
                                     cmocka_unit_test(targets_match_as_in_peft),
                                     cmocka_unit_test(wrong_specs_are_refused),
                                     cmocka_unit_test(fresh_sets_change_nothing_and_come_from_the_seed)};
  return cmocka_run_group_tests(tests, open_compute, close_compute);
}
