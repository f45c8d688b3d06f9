#include "tools/bench/bench.h"

#include "compute/ceilings.h"
#include "model/decode.h"
#include "model/source.h"
#include "model/weights.h"

#include <math.h>
#include <string.h>

/* -- ceilings --------------------------------------------------------------------------------------------- */

/* Once; the ceilings so far, where they are higher. */
static bool try_ceilings(Bench *bench, Error *error) {
  const double seconds = fmin(0.5, bench->config->seconds);
  Compute compute;
  Arena arena;
  double product;
  if (!compute_open(&compute, DEVICE_CPU, bench->threads, error)) return false;
  bool ok = compute_arena(&compute, &arena, "ceilings", (size_t)320 << 20, error);
  if (ok) bench->memory = fmax(bench->memory, ceiling_reading(&compute, &arena));
  ok = ok && ceiling_product(&compute, &arena, DTYPE_F32, seconds, &product, error);
  if (ok) bench->product_f32 = fmax(bench->product_f32, product);
  ok = ok && ceiling_product(&compute, &arena, DTYPE_BF16, seconds, &product, error);
  if (ok) bench->product_bf16 = fmax(bench->product_bf16, product);
  compute_arena_free(&compute, &arena);
  compute_close(&compute);
  return ok;
}

bool ceilings_measure(Bench *bench, json_t *out, Error *error) {
  double others = 1;
  /* The best of all attempts: what disturbs makes a ceiling lower and never higher. */
  for (int64_t attempt = 0; attempt <= bench->config->repeat && others * 100 > QUIET_PERCENT; attempt++) {
    const Load load = load_begin(&bench->cores, 0);
    if (!try_ceilings(bench, error)) return false;
    others = fmin(others, load_others(&load, &bench->cores, 0));
  }
  const bool ok = json_object_set_new(out, "product_f32", json_real(bench->product_f32)) == 0 &&
                  json_object_set_new(out, "product_bf16", json_real(bench->product_bf16)) == 0 &&
                  json_object_set_new(out, "memory", json_real(bench->memory)) == 0 &&
                  json_object_set_new(out, "others", json_real(others)) == 0 &&
                  json_object_set_new(out, "disturbed", json_boolean(others * 100 > QUIET_PERCENT)) == 0;
  return ok || error_out_of_memory(error, "result", 0);
}

/* -- work ------------------------------------------------------------------------------------------------- */

typedef struct Shape {
  ModelSpec spec;
  ModelProducts products;
  double cached; /* bytes of keys and values of a token */
} Shape;

static bool read_shape(const Bench *bench, const char *weights, Shape *shape, Error *error) {
  const ModelQuantize quantize = weights_quantize(weights);
  const WeightFormat format = weight_format(strcmp(weights, "bf16") == 0 ? MODEL_DTYPE_BF16 : MODEL_DTYPE_F32,
                                            quantize, quantize ? MODEL_TABLES_INT8 : MODEL_TABLES_NONE);
  Compute compute;
  Arena arena;
  Model model = {0};
  if (!compute_open(&compute, DEVICE_CPU, 1, error)) return false;
  arena_init_dry(&arena, "weights");
  const bool ok = model_open(&model, bench->model, format, &compute, &arena, error);
  if (ok) {
    *shape = (Shape){model.spec, model_products(&model), 0};
    shape->cached = (double)kv_block_bytes(&model.spec, 1, compute_activation(&compute, model.dtype));
  }
  model_free(&model);
  compute_close(&compute);
  return ok;
}

/* Operations of attention for a token that sees `context` others: two products by the head. */
static double attention(const Shape *shape, double context) {
  return 4 * context * (double)(shape->spec.layers * shape->spec.heads * shape->spec.head_size);
}

/* Operations of a forward pass over texts of `length` tokens, of which `heads` go through the LM head. */
static double forward(const Shape *shape, double texts, double length, double heads) {
  return texts * (length * (2 * shape->products.blocks + attention(shape, length / 2)) +
                  heads * 2 * shape->products.head);
}

/* Seconds of decoding `steps` tokens of each of `batch` sequences that begin at `length`: reading weights and cache, or
 * computing, whichever is longer. */
static double decoding(const Bench *bench, const Shape *shape, double batch, double length, double steps,
                       double product) {
  const double context = length + steps / 2;
  const double bytes = shape->products.bytes + batch * context * shape->cached;
  const double flops =
      batch * (2 * (shape->products.blocks + shape->products.head) + attention(shape, context));
  return steps * fmax(bytes / bench->memory, flops / product);
}

/* Least operations: 2 a parameter and token forward, as many for the gradient of the activations, and as many for that of weights that
 * are trained; of attention likewise. What makes an iteration of PPO: the rollout; the reference over it, the critic and the
 * reward model; the updates of policy and critic. */
bool floor_rate(const Bench *bench, const Workload *work, double *rate, Error *error) {
  Shape shape;
  if (!read_shape(bench, work->weights, &shape, error)) return false;
  /* A matrix unit takes weights of 4 and 8 bits too. */
  const double product =
      strcmp(work->weights, "f32") == 0 ? bench->product_f32 : fmax(bench->product_bf16, bench->product_f32);
  const double batch = (double)work->batch, length = (double)work->length, answer = (double)work->answer;
  const double passes = work->lora ? 2 : 3;
  const double prompts = forward(&shape, batch, length, 1) / product;
  switch (work->kind) {
    case WORK_SFT:
      *rate = batch * length * product / (passes * forward(&shape, batch, length, length));
      break;
    case WORK_REWARD:
      *rate = 2 * batch * length * product / (passes * forward(&shape, 2 * batch, length, 0));
      break;
    case WORK_DECODE:
      *rate = batch * answer / decoding(bench, &shape, batch, length, answer, product);
      break;
    case WORK_PREFILL:
      *rate = batch * length / prompts;
      break;
    case WORK_ROLLOUT:
      *rate = batch * answer / (prompts + decoding(bench, &shape, batch, length, answer - 1, product));
      break;
    case WORK_PPO: {
      const double speaking = forward(&shape, batch, length + answer, answer);
      const double scoring = forward(&shape, batch, length + answer, 0);
      const double seconds = prompts + decoding(bench, &shape, batch, length, answer - 1, product) +
                             (speaking + 2 * scoring + passes * (speaking + scoring)) / product;
      *rate = batch * answer / seconds;
      break;
    }
  }
  return true;
}
