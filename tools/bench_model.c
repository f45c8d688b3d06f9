/* bench_model: speed of whole steps on a model of a given shape with random weights, no model file needed.
 *
 * Prints one JSON object: what was measured, in how many seconds, how many operations or bytes that takes at
 * least, and the planned and the reached memory. tools/bench_gpu.sh sets the figures beside those of PyTorch. */
#include "base/process.h"
#include "base/json.h"
#include "rollout/engine.h"
#include "tools/bench_model/work.h"
#include "train/plan.h"
#include "train/program.h"

#include <math.h>
#include <string.h>

static const char *const works[] = {"sft_lora", "sft_full", "decode", "attention", NULL};
static const char *const dtypes[] = {"f32", "bf16", NULL};

static const Option options[] = {
    ROW_STRING_REQUIRED("config", BenchConfig, config, "config.json of the shape"),
    ROW_CHOICE("work", BenchConfig, work, "sft_lora", works, "what is measured"),
    ROW_CHOICE("dtype", BenchConfig, dtype, "bf16", dtypes, "type of the weights"),
    ROW_INT("length", BenchConfig, length, "2048", 2, 1 << 20, "tokens of a sequence (decode: of a prompt)"),
    ROW_INT("micro-batch-tokens", BenchConfig, micro_batch_tokens, "8192", 2, 1 << 24,
            "tokens of a training step; sequences are packed into it"),
    ROW_BOOL("recompute", BenchConfig, recompute, "true", "keep only the input of each block"),
    ROW_INT("r", BenchConfig, r, "8", 1, 4096, "rank of the adapter, on all linears"),
    ROW_INT("batch", BenchConfig, batch, "1", 1, 4096, "decode: sequences at once"),
    CACHE_DTYPE_OPTION("cache-dtype", BenchConfig, cache_dtype),
    ROW_INT("new-tokens", BenchConfig, new_tokens, "128", 1, 1 << 20, "decode: tokens after the prompt"),
    ROW_INT("steps", BenchConfig, steps, "5", 1, 1000, "measured steps, after those that warm up"),
    ROW_BYTES("graphs", BenchConfig, device.graphs, "0",
              "training: memory for graphs of passes, as device.graphs"),
    ROW_CHOICE("device", BenchConfig, device.backend, "auto", device_choices, "where to compute"),
    ROW_INT("threads", BenchConfig, device.threads, "0", 0, 4096, "CPU threads; 0 = all cores"),
    ROW_BYTES("memory-limit", BenchConfig, device.memory_limit, "0", "memory the run may use, e.g. 24GiB")};

/* Values do not matter for speed, except that nothing may overflow or be zero: one random block again and again. */
static bool fill_weights(Model *model, Compute *compute, Error *error) {
  enum { BLOCK = 1 << 22 };
  float *values = memory_alloc(BLOCK * sizeof *values);
  uint16_t *narrow = memory_alloc(BLOCK * sizeof *narrow);
  if (!values || !narrow) {
    memory_free(values);
    memory_free(narrow);
    return error_out_of_memory(error, "random block", BLOCK * sizeof *values);
  }
  const RandomKey key = random_key(0, RANDOM_INIT);
  for (int64_t i = 0; i < BLOCK; i++) values[i] = 0.04f * (random_uniform(key, 0, (uint64_t)i) - 0.5f);
  dtype_convert(narrow, DTYPE_BF16, values, DTYPE_F32, BLOCK);
  for (int i = 0; i < model->tensor_count; i++) {
    const Tensor value = model->tensors[i].value;
    const int64_t total = tensor_count(value);
    const Tensor flat = tensor_1d(value.data, value.dtype, total);
    if (value.rank == 1) {
      op_fill(compute, flat, strstr(model->tensors[i].name, "bias") ? 0 : 1);
      continue;
    }
    for (int64_t first = 0; first < total; first += BLOCK) {
      const int64_t n = total - first < BLOCK ? total - first : BLOCK;
      compute_upload(compute, tensor_rows(flat, first, n),
                     value.dtype == DTYPE_BF16 ? (void *)narrow : values);
    }
  }
  memory_free(values);
  memory_free(narrow);
  return true;
}

static bool open_model(Bench *b, Error *error) {
  const DType dtype = b->config->dtype == 1 ? DTYPE_BF16 : DTYPE_F32;
  return model_open_config(&b->model, b->shape, (WeightFormat){.dtype = dtype}, &b->compute,
                           &b->memory.weights, error);
}

/* Opens what the work needs, dry or real. */
static bool open_all(Bench *b, Error *error) {
  return open_model(b, error) && b->work->open(b, error);
}

static void close_all(Bench *b) {
  b->work->close(b);
  model_free(&b->model);
}

/* The plan as a stage makes it: everything once, dry. */
static bool plan(Bench *b, MemoryPlan *plan, Error *error) {
  plan_begin(&b->memory, &b->compute);
  const bool ok = open_all(b, error) && b->work->step(b, error);
  close_all(b);
  if (!plan_end(plan, &b->memory, &b->compute, error) || !ok) return false;
  plan_add(plan, "graphs of passes, at most", (size_t)b->config->device.graphs);
  const size_t limit = device_limit(&b->compute);
  if (plan_total(plan) <= limit) return true;
  plan_show(plan, b->log, device_limits(&b->compute));
  return error_set(error, ERROR_MEMORY, "the plan above does not fit");
}

/* Parameters of the linears and the LM head: what takes part in matrix products. */
static double product_parameters(const Model *model) {
  const ModelProducts products = model_products(model);
  return products.blocks + products.head;
}

static bool measure(Bench *b, const MemoryPlan *plan, ProgramResult *result, Error *error) {
  const int warm = b->config->device.graphs > 0 ? 2 : 1; /* the second one records */
  for (int i = 0; i < warm; i++)
    if (!b->work->step(b, error)) return false;
  b->flops = b->work->flops(b, product_parameters(&b->model));
  double best = INFINITY, total = 0;
  for (int64_t i = 0; i < b->config->steps; i++) {
    const double started = time_monotonic();
    if (!b->work->step(b, error)) return false;
    const double seconds = b->seconds > 0 ? b->seconds : time_monotonic() - started;
    total += seconds;
    if (seconds < best) best = seconds;
  }
  const double mean = total / (double)b->config->steps;
  return buffer_format(
             &result->json, error,
             "{\"work\":\"%s\",\"device\":\"%s\",\"seconds\":%.6g,\"best_seconds\":%.6g,\"tokens\":%.0f,"
             "\"tokens_per_second\":%.6g,\"product_parameters\":%.0f,\"flops\":%.6g,\"bytes\":%.6g,"
             "\"planned_bytes\":%zu,\"peak_bytes\":%zu%s}",
             works[b->config->work], compute_device_name(&b->compute), mean, best, b->tokens,
             b->tokens / mean, product_parameters(&b->model), b->flops, b->bytes, plan_total(plan),
             device_peak(&b->compute), b->more) &&
         buffer_format(&result->text, error, "%s: %.4g s a step, %.4g tokens/s, %.4g TFLOP/s, %.4g GB/s",
                       works[b->config->work], mean, b->tokens / mean, b->flops / mean * 1e-12,
                       b->bytes / mean * 1e-9);
}

static bool run(const ProgramCall *call, ProgramResult *result, Error *error) {
  const BenchConfig *config = call->config;
  Bench *b = memory_zeroed(1, sizeof *b);
  if (!b) return error_out_of_memory(error, "bench", sizeof *b);
  b->config = config;
  b->log = call->log;
  const BenchWork *const table[] = {&bench_training, &bench_training, &bench_decoding, &bench_attention};
  b->work = table[config->work];
  b->shape = json_file_read(config->config, error);
  MemoryPlan memory_plan = {0};
  bool ok = b->shape && device_open(&b->compute, &config->device, b->log, error);
  if (ok) {
    ok = plan(b, &memory_plan, error);
    if (ok && call->check) {
      plan_show(&memory_plan, call->log, device_limits(&b->compute));
    } else if (ok) {
      ok = train_memory_allocate(&b->memory, &b->compute, NULL, error) && open_all(b, error) &&
           fill_weights(&b->model, &b->compute, error) && b->work->start(b, error) &&
           measure(b, &memory_plan, result, error);
      close_all(b);
    }
    train_memory_free(&b->memory, &b->compute);
    compute_close(&b->compute);
  }
  json_decref(b->shape);
  memory_free(b);
  return ok;
}

int main(int argc, char **argv) {
  process_begin(argv);
  const Program program = {.name = "bench_model",
                           .summary = "Speed of training, decoding and attention at the shape of a model.",
                           .options = options,
                           .option_count = sizeof options / sizeof *options,
                           .config_size = sizeof(BenchConfig),
                           .run = run};
  return program_run(&program, argc, argv, stdout, stderr);
}
