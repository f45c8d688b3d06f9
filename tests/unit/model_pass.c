/* The whole forward and backward on tiny random models, over every feature that ModelSpec can switch on: the gradient
 * of a loss on log-probabilities, entropies and scores against central differences along random directions;
 * recomputation and packing change nothing. Variants that no architecture of model/arch/ uses yet are made by changing
 * the spec of an opened model. */
#include "model/head.h"
#include "model/weights.h"
#include "tests/support/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { VOCAB = 31, SEQUENCES = 3, TOKENS = 14, PICKED = 8 };
/* Of the differences: smaller ones measure the rounding of the losses, larger ones cross more kinks. */
static const double step = 1e-3;
/* Relative: extrapolation, and the rounding of fp32 losses over the step. A loss is a sum of 24 values with weights of
 * norm 4.4, and a log-probability of logits around 10 is good to 1e-6 or so: 4e-6. Measured: 2.5e-6 to 4e-6. */
static double tolerance(double h) {
  return 3e-3 + 4e-6 / h;
}

static const char *const llama =
    "{\"model_type\":\"llama\",\"vocab_size\":31,\"hidden_size\":24,\"intermediate_size\":20,\"num_hidden_"
    "layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":4,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":"
    "64,"
    "\"tie_word_embeddings\":true}";
static const char *const llama_gqa =
    "{\"model_type\":\"llama\",\"vocab_size\":31,\"hidden_size\":24,\"intermediate_size\":20,\"num_hidden_"
    "layers\":2,"
    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":"
    "64,"
    "\"tie_word_embeddings\":false}";
static const char *const neox =
    "{\"model_type\":\"gpt_neox\",\"vocab_size\":31,\"hidden_size\":24,\"intermediate_size\":20,\"num_hidden_"
    "layers\":2,"
    "\"num_attention_heads\":3,\"rotary_pct\":0.25,\"layer_norm_eps\":1e-5,\"max_position_embeddings\":64,"
    "\"use_parallel_residual\":true}";
static const char *const gpt2 =
    "{\"model_type\":\"gpt2\",\"vocab_size\":31,\"n_embd\":24,\"n_layer\":2,\"n_head\":4,\"n_positions\":64}";

typedef struct Fixture {
  Compute compute;
  Arena weights, gradients, step;
  Model model;
  ScoreHead head;
  Batch batch;
  Pass pass;
  ParameterList parameters;
} Fixture;

static void use_head_norms_everywhere(Model *m) {
  for (int64_t i = 0; i < m->spec.layers; i++) {
    Block *block = &m->blocks[i];
    block->norm[NORM_ATTENTION_POST] = block->norm[NORM_MLP];
    block->norm[NORM_MLP_POST] = block->norm[NORM_ATTENTION];
    block->norm[NORM_Q] = block->norm[NORM_ATTENTION];
    block->norm[NORM_K] = block->norm[NORM_MLP];
  }
}

static void none(Model *m) {
  (void)m;
}
static void window_and_caps(Model *m) {
  m->spec.window[0] = 3;
  m->spec.attention_softcap = 2;
  m->spec.logit_softcap = 3;
  m->spec.embedding_scale = 1.5f;
}
static void sandwich(Model *m) {
  m->spec.placement = NORM_SANDWICH;
  m->spec.norm.weight_offset = 1;
}
static void output_norm(Model *m) {
  m->spec.placement = NORM_OUTPUT;
}
static void post_norm(Model *m) {
  m->spec.placement = NORM_POST;
}
static void whole_qk_norm(Model *m) {
  m->spec.qk_norm = QK_NORM_ALL;
}
static void clipped(Model *m) {
  m->spec.clip_qkv = 3; /* two standard deviations */
}
static void embedding_norm(Model *m) {
  m->spec.embedding_norm = true;
  m->embedding_norm = m->final_norm;
}
static void parallel_shared(Model *m) {
  m->spec.parallel = m->spec.parallel_shared = true;
}
static void interleaved(Model *m) {
  m->spec.rotary_interleaved = true;
}
static void alibi(Model *m) {
  m->spec.position = POSITION_ALIBI; /* fixture_open gives it slopes */
}
static void sequential(Model *m) {
  m->spec.parallel = false;
}
static void scaled_by_layer(Model *m) {
  m->spec.scale_by_layer = true;
}

static void scaled_branches(Model *m) {
  m->spec.residual_scale = 0.4f;
}
static void scaled_sandwich(Model *m) {
  sandwich(m);
  scaled_branches(m);
}
static void scaled_logits(Model *m) {
  m->spec.logit_scale = 0.3f;
  m->spec.logit_softcap = 1.5f;
}
static void one_layer_without_rotary(Model *m) {
  m->spec.without_rotary[1] = true;
}
static void squared_relu(Model *m) {
  m->spec.activation = ACTIVATION_RELU_SQUARED;
}

static const struct {
  const char *name, *config;
  void (*change)(Model *);
} variants[] = {
    {"llama", llama, none},
    {"llama, grouped heads", llama_gqa, none},
    {"window, caps, embedding scale", llama_gqa, window_and_caps},
    {"sandwich norms, 1+w", llama, sandwich},
    {"norm on the output", llama, output_norm},
    {"norm after the sum", llama, post_norm},
    {"q/k norm over the projection", llama, whole_qk_norm},
    {"clamped q, k, v", llama_gqa, clipped},
    {"embedding norm", llama, embedding_norm},
    {"parallel, one norm", llama, parallel_shared},
    {"interleaved rotary", llama_gqa, interleaved},
    {"ALiBi", llama, alibi},
    {"scaled branches", llama_gqa, scaled_branches},
    {"scaled branches, sandwich norms", llama, scaled_sandwich},
    {"scaled and capped logits", llama, scaled_logits},
    {"a layer without rotary", llama, one_layer_without_rotary},
    {"squared relu", neox, squared_relu},
    {"gpt_neox", neox, none},
    {"gpt_neox, sequential", neox, sequential},
    {"gpt2", gpt2, none},
    {"gpt2, scaled by layer", gpt2, scaled_by_layer},
};

static void fixture_open(Fixture *f, const char *config, void (*change)(Model *), DType dtype) {
  Error error = {0};
  memset(f, 0, sizeof *f);
  test_device_open(&f->compute, 2);
  const size_t room = 8 << 20;
  device_arena(&f->compute, &f->weights, "weights", room);
  device_arena(&f->compute, &f->gradients, "gradients", room);
  device_arena(&f->compute, &f->step, "step", room);
  compute_dry_begin(&f->compute); /* no operation has to be planned to open a model */
  assert_true(compute_dry_end(&f->compute, &error));
  json_t *json = json_loads(config, 0, NULL);
  assert_true(
      model_open_config(&f->model, json, (WeightFormat){.dtype = dtype}, &f->compute, &f->weights, &error));
  json_decref(json);
  use_head_norms_everywhere(&f->model);
  change(&f->model);
  if (f->model.spec.position == POSITION_ALIBI) {
    f->model.alibi = tensor_new_1d(&f->weights, DTYPE_F32, 4);
    device_write(&f->compute, f->model.alibi, (float[]){0.5f, 0.25f, 0.125f, 0.0625f});
  }
  assert_true(model_make_trainable(&f->model, &f->compute, &f->gradients, &f->parameters, &error));
  f->head.weight = tensor_new_2d(&f->weights, DTYPE_F32, 1, f->model.spec.hidden);
  f->head.weight_grad = tensor_new_2d(&f->gradients, DTYPE_F32, 1, f->model.spec.hidden);
  op_fill(&f->compute, f->head.weight_grad, 0);
  assert_true(parameter_list_push(
      &f->parameters,
      (Parameter){.name = "score", .value = f->head.weight, .grad = f->head.weight_grad, .decay = true},
      &error));
  const RandomKey key = random_key(7, RANDOM_TEST);
  for (size_t i = 0; i < f->parameters.count; i++) {
    const Tensor x = f->parameters.items[i].value;
    const bool norm = x.rank == 1 && strstr(f->parameters.items[i].name, "norm");
    device_random(&f->compute, x, key, i, norm ? 1 : 0, 0.3f);
  }
  assert_true(batch_init(&f->batch, TOKENS, SEQUENCES, &error));
  const int lengths[SEQUENCES] = {6, 1, 7};
  for (int b = 0, next = 0; b < SEQUENCES; b++) {
    int32_t ids[TOKENS];
    int64_t first;
    for (int i = 0; i < lengths[b]; i++) ids[i] = (int32_t)random_below(key, 1000, (uint64_t)next++, VOCAB);
    assert_true(batch_add(&f->batch, ids, lengths[b], &first));
  }
  assert_true(pass_init(&f->pass, &f->model, &error));
  /* Operations' workspace: run once dry. */
  compute_dry_begin(&f->compute);
  Arena dry;
  arena_init_dry(&dry, "dry");
  Pass pass;
  assert_true(pass_init(&pass, &f->model, &error));
  pass_forward(&pass, &f->compute, &f->model, NULL, &f->batch, PASS_TRAIN, &dry);
  float values[PICKED];
  const TokenRows rows = {.count = PICKED};
  lm_logprobs(&pass, rows, 1, values, values);
  lm_logprobs_backward(&pass, rows, 1, values, values, NULL);
  score_values(&pass, &f->head, rows, values);
  score_values_backward(&pass, &f->head, rows, values);
  pass_backward(&pass);
  pass_free(&pass);
  assert_true(compute_dry_end(&f->compute, &error));
  assert_true(dry.peak <= room);
}

static void fixture_close(Fixture *f) {
  pass_free(&f->pass);
  batch_free(&f->batch);
  parameter_list_free(&f->parameters);
  model_free(&f->model);
  compute_arena_free(&f->compute, &f->weights);
  compute_arena_free(&f->compute, &f->gradients);
  compute_arena_free(&f->compute, &f->step);
  compute_close(&f->compute);
}

static const int32_t rows[PICKED] = {0, 2, 4, 5, 6, 8, 11, 13};
static const int32_t targets[PICKED] = {3, 30, 0, 7, 7, 12, 1, 9};
static const float dlogprob[PICKED] = {1, -0.5f, 0.25f, 2, -1, 0.5f, 1.5f, -0.75f};
static const float dentropy[PICKED] = {0.5f, 0, -0.25f, 0.1f, 1, -1, 0.2f, 0.3f};
static const float dvalue[PICKED] = {-1, 0.5f, 0.75f, -0.25f, 1, 1, 0.1f, -2};

/* The loss at the present weights; with a mode that trains, its gradient is accumulated too. */
static double loss_of(Fixture *f, PassMode mode) {
  float logprob[PICKED], entropy[PICKED], value[PICKED], again[PICKED];
  const TokenRows picked = token_rows(rows, targets, PICKED);
  const size_t mark = arena_mark(&f->step);
  pass_forward(&f->pass, &f->compute, &f->model, NULL, &f->batch, mode, &f->step);
  lm_logprobs(&f->pass, picked, 0.7f, logprob, entropy);
  score_values(&f->pass, &f->head, picked, value);
  if (mode != PASS_INFERENCE) {
    lm_logprobs_backward(&f->pass, picked, 0.7f, dlogprob, dentropy, again);
    for (int i = 0; i < PICKED; i++) assert_true(fabsf(again[i] - logprob[i]) < 1e-5f);
    score_values_backward(&f->pass, &f->head, picked, dvalue);
    pass_backward(&f->pass);
  }
  arena_release(&f->step, mark);
  double loss = 0;
  for (int i = 0; i < PICKED; i++) {
    loss +=
        (double)dlogprob[i] * logprob[i] + (double)dentropy[i] * entropy[i] + (double)dvalue[i] * value[i];
  }
  return loss;
}

static void zero_gradients(Fixture *f) {
  for (size_t i = 0; i < f->parameters.count; i++) {
    op_fill(&f->compute, f->parameters.items[i].grad, 0);
  }
}

enum { ALL = -1 };

/* The weights of parameter `only` (or of ALL) on their way along a random direction, one of many. */
typedef struct Way {
  Fixture *fixture;
  RandomKey key;
  float *start[64]; /* where they were; NULL: not moved */
} Way;

static Way way_open(Fixture *f, int only, uint64_t direction) {
  Way way = {.fixture = f, .key = random_key(11 + direction, RANDOM_TEST)};
  assert_true(f->parameters.count <= sizeof way.start / sizeof *way.start);
  for (size_t p = 0; p < f->parameters.count; p++) {
    if (only == ALL || (int)p == only)
      way.start[p] = device_values(&f->compute, f->parameters.items[p].value);
  }
  return way;
}

/* Puts the weights a distance from their start, and returns what the gradients predict for the loss there beside that at
 * the start: for the weights as they are, each rounded to fp32. */
static double way_go(const Way *way, double distance) {
  double predicted = 0;
  for (size_t p = 0; p < way->fixture->parameters.count; p++) {
    if (!way->start[p]) continue;
    const Parameter *parameter = &way->fixture->parameters.items[p];
    float *x = device_values(&way->fixture->compute, parameter->value);
    float *g = device_values(&way->fixture->compute, parameter->grad);
    for (int64_t i = 0; i < tensor_count(parameter->value); i++) {
      x[i] = (float)(way->start[p][i] + distance * random_normal(way->key, p, (uint64_t)i));
      predicted += ((double)x[i] - way->start[p][i]) * g[i];
    }
    device_write(&way->fixture->compute, parameter->value, x);
    free(x);
    free(g);
  }
  return predicted;
}

static void way_close(Way *way) {
  (void)way_go(way, 0);
  for (size_t p = 0; p < way->fixture->parameters.count; p++) free(way->start[p]);
}

/* Which values of q, k and v the clamp holds at the present weights, one bit each, up to 64 a word; other kinks no
 * variant has. Returns how many are held. */
static int held_values(Fixture *f, uint64_t bits[], size_t words) {
  const size_t mark = arena_mark(&f->step);
  size_t next = 0;
  int held = 0;
  memset(bits, 0, words * sizeof *bits);
  pass_forward(&f->pass, &f->compute, &f->model, NULL, &f->batch, PASS_TRAIN, &f->step);
  for (int64_t layer = 0; layer < f->model.spec.layers; layer++) {
    for (int i = 0; i < 3; i++) {
      /* It may be columns of a larger one. */
      const Tensor part = f->pass.blocks[layer].projection[i];
      const Tensor projection = tensor_new_2d(&f->step, part.dtype, part.dim[0], part.dim[1]);
      op_axpby(&f->compute, projection, part, 1, 0);
      float *values = device_values(&f->compute, projection);
      for (int64_t k = 0; k < tensor_count(projection); k++, next++) {
        if (fabsf(values[k]) < f->model.spec.clip_qkv) continue;
        assert_true(next < 64 * words);
        bits[next / 64] |= (uint64_t)1 << next % 64;
        held++;
      }
      free(values);
    }
  }
  arena_release(&f->step, mark);
  return held;
}

/* What the gradients predict for the slope along a direction, and the slope by two central differences extrapolated
 * to h = 0 (Richardson): what is left is the rounding of fp32 losses and the fifth derivative. False
 * when a value crosses a kink on the way from -2h to 2h: such differences are of no slope. */
static bool slopes(Fixture *f, int only, uint64_t direction, double h, double *predicted, double *found) {
  static const struct { int at, weight; } points[] = {{-2, 1}, {-1, -8}, {1, 8}, {2, -1}};
  enum { WORDS = 32 };
  uint64_t here[WORDS], there[WORDS];
  const bool kinks = f->model.spec.clip_qkv > 0;
  if (kinks) assert_true(held_values(f, here, WORDS) >= 20);
  Way way = way_open(f, only, direction);
  bool smooth = true;
  *predicted = *found = 0;
  for (int i = 0; i < 4; i++) {
    *predicted += points[i].weight * way_go(&way, points[i].at * h) / (12 * h);
    *found += points[i].weight * loss_of(f, PASS_INFERENCE) / (12 * h);
    if (!kinks) continue;
    held_values(f, there, WORDS);
    smooth = smooth && memcmp(here, there, sizeof here) == 0;
  }
  way_close(&way);
  return smooth;
}

enum { DIRECTIONS = 12 }; /* that are tried for one without a kink: most have none */

static void check_direction(Fixture *f, const char *name, int only, double h) {
  double slope = 0, found = 0;
  uint64_t direction = 0;
  while (direction < DIRECTIONS && !slopes(f, only, direction, h, &slope, &found)) direction++;
  if (direction == DIRECTIONS) fail_msg("%s: every direction crosses a kink", name);
  const double error = fabs(found - slope), scale = fabs(slope) + 1;
  if (!(error <= tolerance(h) * scale)) {
    fail_msg("%s, %s: gradient gives %.6f, differences %.6f", name,
             only == ALL ? "all parameters" : f->parameters.items[only].name, slope, found);
  }
}

static void gradients(void **state) {
  (void)state;
  for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
    Fixture f;
    fixture_open(&f, variants[v].config, variants[v].change, DTYPE_F32);
    const double loss = loss_of(&f, PASS_TRAIN);
    assert_true(isfinite(loss));
    assert_true(fabs(loss - loss_of(&f, PASS_INFERENCE)) < 1e-4);
    if (device_brief()) check_direction(&f, variants[v].name, ALL, step / 4); /* all at once: a longer way */
    for (int p = 0; !device_brief() && p < (int)f.parameters.count; p++)
      check_direction(&f, variants[v].name, p, step);
    fixture_close(&f);
  }
}

/* A gradient that is wrong must be noticed: a doubled one is. */
static void wrong_gradient_is_noticed(void **state) {
  (void)state;
  Fixture f;
  fixture_open(&f, llama, none, DTYPE_F32);
  (void)loss_of(&f, PASS_TRAIN);
  double slope, doubled, found;
  assert_true(slopes(&f, 1, 0, step, &slope, &found));
  const Tensor grad = f.parameters.items[1].grad;
  op_axpby(&f.compute, grad, grad, 1, 1);
  assert_true(slopes(&f, 1, 0, step, &doubled, &found));
  assert_true(fabs(doubled - found) > tolerance(step) * (fabs(doubled) + 1));
  fixture_close(&f);
}

static void recomputation_changes_nothing(void **state) {
  (void)state;
  for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
    Fixture f;
    fixture_open(&f, variants[v].config, variants[v].change, DTYPE_F32);
    (void)loss_of(&f, PASS_TRAIN);
    float *kept[64];
    assert_true(f.parameters.count <= 64);
    for (size_t p = 0; p < f.parameters.count; p++) {
      const Tensor g = f.parameters.items[p].grad;
      kept[p] = device_values(&f.compute, g);
    }
    zero_gradients(&f);
    (void)loss_of(&f, PASS_RECOMPUTE);
    for (size_t p = 0; p < f.parameters.count; p++) {
      const Tensor g = f.parameters.items[p].grad;
      float *again = device_values(&f.compute, g);
      if (memcmp(kept[p], again, tensor_bytes(g)) != 0) {
        fail_msg("%s: %s differs with recomputation", variants[v].name, f.parameters.items[p].name);
      }
      free(again);
      free(kept[p]);
    }
    fixture_close(&f);
  }
}

/* Log-probabilities of a sequence do not depend on its neighbours in the batch. */
static void packing_equals_one_by_one(void **state) {
  (void)state;
  for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
    Fixture f;
    fixture_open(&f, variants[v].config, variants[v].change, DTYPE_F32);
    const int32_t first = f.batch.offsets[2], last = f.batch.offsets[3] - 1;
    const int32_t packed_rows[2] = {first, last}, alone_rows[2] = {0, last - first}, target[2] = {4, 5};
    float packed[2], alone[2];
    pass_forward(&f.pass, &f.compute, &f.model, NULL, &f.batch, PASS_INFERENCE, &f.step);
    lm_logprobs(&f.pass, token_rows(packed_rows, target, 2), 1, packed, NULL);
    Batch single;
    Error error = {0};
    int64_t begin;
    assert_true(batch_init(&single, TOKENS, 1, &error));
    assert_true(batch_add(&single, f.batch.ids + first, last - first + 1, &begin));
    pass_forward(&f.pass, &f.compute, &f.model, NULL, &single, PASS_INFERENCE, &f.step);
    lm_logprobs(&f.pass, token_rows(alone_rows, target, 2), 1, alone, NULL);
    for (int i = 0; i < 2; i++) assert_true(fabsf(packed[i] - alone[i]) < 1e-5f);
    batch_free(&single);
    fixture_close(&f);
  }
}

/* A model whose weights are the same, since both are rounded to bf16, in another type. */
static void round_weights(Fixture *f) {
  for (size_t i = 0; i < f->parameters.count; i++) {
    const Tensor x = f->parameters.items[i].value;
    float *values = device_values(&f->compute, x);
    for (int64_t k = 0; k < tensor_count(x); k++) values[k] = float_from_bf16(bf16_from_float(values[k]));
    device_write(&f->compute, x, values);
    free(values);
  }
}

/* bf16 weights, and activations in bf16 where the device has or multiplies them so, give what F32 gives but for the
 * rounding: each of some ten roundings on the way through two blocks and back moves a value by 2^-9, which the norms and
 * the softmax of random weights this large amplify. Measured, of the whole gradient: up to 0.14 % with bf16 weights
 * alone, 0.3 to 2.4 % where a matrix unit multiplies (AMX), 0.7 to 4.2 % with bf16 activations throughout. */
static void narrow_is_near(void **state) {
  (void)state;
  for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
    Fixture wide, narrow;
    fixture_open(&wide, variants[v].config, variants[v].change, DTYPE_F32);
    fixture_open(&narrow, variants[v].config, variants[v].change, DTYPE_BF16);
    round_weights(&wide);
    const double expected = loss_of(&wide, PASS_TRAIN), loss = loss_of(&narrow, PASS_TRAIN);
    double squares = 0, error = 0;
    for (size_t p = 0; p < wide.parameters.count; p++) {
      float *a = device_values(&wide.compute, wide.parameters.items[p].grad);
      float *b = device_values(&narrow.compute, narrow.parameters.items[p].grad);
      for (int64_t i = 0; i < tensor_count(wide.parameters.items[p].grad); i++) {
        squares += (double)a[i] * (double)a[i];
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
      }
      free(a);
      free(b);
    }
    const double relative = sqrt(error / squares);
    print_message("    %s: loss %.4f, in bf16 %.4f; gradients differ by %.2g\n", variants[v].name, expected,
                  loss, relative);
    if (!(fabs(loss - expected) <= 0.05 * (1 + fabs(expected)))) fail_msg("%s: loss", variants[v].name);
    if (!(relative <= (device_narrows(&narrow.compute) ? 0.06 : 0.005)))
      fail_msg("%s: gradients", variants[v].name);
    fixture_close(&wide);
    fixture_close(&narrow);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients),
      cmocka_unit_test(wrong_gradient_is_noticed),
      cmocka_unit_test(recomputation_changes_nothing),
      cmocka_unit_test(packing_equals_one_by_one),
      cmocka_unit_test(narrow_is_near),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
