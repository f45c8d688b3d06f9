#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/memory.h"
#include "base/room.h"
#include "tests/temporary.h"
#include "train/plan.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A stage whose memory is easily reckoned: in MiB, 8 of weights (4 in bf16, 3 in 8 bits, 2 in 4, 1 with tables in 8), 8 of gradients and 16 of
 * optimiser (4 in 8 bits; 1 for both with LoRA) that may be of the host on a card, and activations of one for 100 tokens, a quarter of that with
 * recomputation, of the host with an offload. Answers at once take a quarter of one each, half of that in 8 bits, and are sampled from 4 of copies in 8 bits. A level of sharding takes
 * away 4 of them, and frozen models have 8, or 2 where they are divided. */
static bool make(void *context, const PlanSettings *settings, MemoryPlan *plan, Error *error) {
  size_t mib = 1 << 20;
  const bool card = *(const bool *)context, away = settings->optim.offload == OPTIM_OFFLOAD_STATE;
  if (!card && (away || settings->model.offload == MODEL_OFFLOAD_ACTIVATIONS))
    return error_set(error, ERROR_USAGE, "expected a GPU");
  plan_add(plan, "weights",
           (settings->model.tables == MODEL_TABLES_INT8       ? 1
            : settings->model.quantize == MODEL_QUANTIZE_NF4  ? 2
            : settings->model.quantize == MODEL_QUANTIZE_INT8 ? 3
            : settings->model.dtype == MODEL_DTYPE_BF16       ? 4
                                                              : 8) *
               mib);
  (away ? plan_add_host : plan_add)(plan, "training",
                                    (settings->lora.enabled                      ? 1
                                     : settings->optim.state == OPTIM_STATE_8BIT ? 12
                                                                                 : 24) *
                                        mib);
  size_t activations = (size_t)settings->optim.micro_batch_tokens * mib / 100;
  const bool offload = settings->model.offload == MODEL_OFFLOAD_ACTIVATIONS;
  (offload ? plan_add_host : plan_add)(plan, "activations",
                                       settings->model.recompute ? activations / 4 : activations);
  plan_add(plan, "graphs", (size_t)settings->graphs);
  plan_add(plan, "cache",
           (size_t)settings->rollout_batch * mib / (settings->cache_dtype == CACHE_DTYPE_INT8 ? 8 : 4));
  plan_add(plan, "copies", settings->rollout_weights == SAMPLER_WEIGHTS_INT8 ? 4 * mib : 0);
  plan_add(plan, "divided", (size_t)(4 * (settings->most_shard - settings->shard)) * mib);
  if (settings->has_frozen) {
    const bool sliced = settings->shard_frozen || settings->shard == SHARD_WEIGHTS;
    plan_add(plan, "frozen", (sliced ? 2 : 8) * mib);
  }
  return true;
}

static bool check_settings(MemoryLimits limits, const PlanSettings *settings, Error *error) {
  bool card = limits.host != SIZE_MAX;
  Log log;
  MemoryPlan plan;
  log_init(&log, stderr, LOG_ERROR + 1);
  return plan_check(make, &card, settings, 400, limits, &log, &plan, error);
}

static bool check_with(size_t limit_mib, int64_t rollout_batch, int cache_dtype, Error *error) {
  const PlanSettings settings = {
      .optim.micro_batch_tokens = 1600, .rollout_batch = rollout_batch, .cache_dtype = cache_dtype};
  return check_settings((MemoryLimits){limit_mib << 20, SIZE_MAX}, &settings, error);
}

static bool check(size_t limit_mib, Error *error) {
  return check_with(limit_mib, 0, CACHE_DTYPE_AUTO, error);
}

static void expect_advice(size_t limit_mib, const char *text) {
  Error error = {0};
  assert_false(check(limit_mib, &error));
  assert_int_equal(error.code, ERROR_MEMORY);
  if (!strstr(error.message, text)) fail_msg("'%s' is not in: %s", text, error.message);
}

static void what_fits_passes(void **state) {
  (void)state;
  Error error = {0};
  assert_true(check(48, &error));
}

static void advice_is_computed(void **state) {
  (void)state;
  expect_advice(
      47,
      "needs 48.00 MiB and 47.00 MiB can be used; it fits with optim.micro_batch_tokens 800 (40.00 MiB); "
      "or model.recompute true (36.00 MiB)");
  expect_advice(37,
                "fits with optim.micro_batch_tokens 400 (36.00 MiB); or model.recompute true (36.00 MiB)");
  expect_advice(35, "fits with optim.micro_batch_tokens 800 with model.recompute true (34.00 MiB)");
  expect_advice(31,
                "fits with optim.state 8bit with model.recompute true (24.00 MiB); or lora.enabled true with "
                "model.recompute true (13.00 MiB)");
  expect_advice(22, "fits with optim.micro_batch_tokens 800 with optim.state 8bit and model.recompute true");
  expect_advice(13, "fits with lora.enabled true with model.recompute true (13.00 MiB)");
  expect_advice(7, "fits with optim.micro_batch_tokens 800 with model.dtype bf16");
  expect_advice(5,
                "fits with optim.micro_batch_tokens 400 with model.quantize int8, model.dtype bf16, "
                "lora.enabled true and "
                "model.recompute true (5.00 MiB)");
  expect_advice(4,
                "fits with optim.micro_batch_tokens 400 with model.quantize nf4, model.dtype bf16, "
                "lora.enabled true and "
                "model.recompute true (4.00 MiB)");
  expect_advice(3,
                "fits with optim.micro_batch_tokens 400 with model.quantize_tables int8, model.quantize nf4, "
                "model.dtype bf16, lora.enabled true and model.recompute true (3.00 MiB)");
  expect_advice(2, "no setting of this stage makes it fit");
}

/* What changes no result comes before what does, and the host's memory has an end too. */
static void the_host_takes_what_it_can(void **state) {
  (void)state;
  const PlanSettings settings = {.optim.micro_batch_tokens = 1600};
  PlanSettings offloaded = settings;
  offloaded.model.recompute = true;
  offloaded.model.offload = MODEL_OFFLOAD_ACTIVATIONS;
  const struct {
    const PlanSettings *settings;
    size_t device, host;
    const char *text;
  } cases[] = {
      {&settings, 32, 4, "fits with model.offload activations with model.recompute true (32.00 MiB)"},
      {&settings, 32, 3,
       "fits with optim.micro_batch_tokens 800 with model.offload activations and model.recompute true"},
      {&offloaded, 32, 3,
       "the plan needs 4.00 MiB of the host's memory and 3.00 MiB can be used; it fits with "
       "optim.micro_batch_tokens 800 (32.00 MiB)"},
      {&offloaded, 32, 4, NULL},
      {&settings, 13, 24,
       "fits with optim.offload state with model.recompute true (12.00 MiB); or lora.enabled true with "
       "model.recompute true (13.00 MiB)"},
      {&settings, 13, 23,
       "fits with optim.state 8bit with optim.offload state and model.recompute true (12.00 MiB); or "
       "lora.enabled"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    const MemoryLimits limits = {cases[i].device << 20, cases[i].host << 20};
    assert_true(check_settings(limits, cases[i].settings, &error) == !cases[i].text);
    if (cases[i].text && !strstr(error.message, cases[i].text))
      fail_msg("'%s' is not in: %s", cases[i].text, error.message);
  }
}

/* Graphs go first, and stay away from whatever else is needed. */
static void graphs_are_given_up(void **state) {
  (void)state;
  static const struct {
    size_t limit;
    const char *text;
  } cases[] = {
      {51, "it fits with device.graphs 0 (48.00 MiB)"},
      {47,
       "it fits with optim.micro_batch_tokens 800 with device.graphs 0 (40.00 MiB); or device.graphs 0 "
       "with model.recompute true (36.00 MiB)"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    const PlanSettings settings = {.optim.micro_batch_tokens = 1600, .graphs = 4 << 20};
    assert_false(check_settings((MemoryLimits){cases[i].limit << 20, SIZE_MAX}, &settings, &error));
    if (!strstr(error.message, cases[i].text)) fail_msg("'%s' is not in: %s", cases[i].text, error.message);
  }
}

static void expect_rollout_advice(size_t limit_mib, int cache_dtype, const char *text) {
  Error error = {0};
  assert_false(check_with(limit_mib, 128, cache_dtype, &error));
  if (!strstr(error.message, text)) fail_msg("'%s' is not in: %s", text, error.message);
}

static void fewer_answers_at_once_come_first(void **state) {
  (void)state;
  expect_rollout_advice(
      55, CACHE_DTYPE_AUTO,
      "needs 80.00 MiB and 55.00 MiB can be used; it fits with rollout.batch 16 (52.00 MiB)");
}

/* As many at once, in half the memory; not where they are in 8 bits already. */
static void a_cache_in_8_bits_is_named(void **state) {
  (void)state;
  expect_rollout_advice(64, CACHE_DTYPE_AUTO,
                        "it fits with rollout.batch 64 (64.00 MiB); or rollout.cache_dtype int8 (64.00 MiB)");
  expect_rollout_advice(
      60, CACHE_DTYPE_INT8,
      "needs 64.00 MiB and 60.00 MiB can be used; it fits with rollout.batch 64 (56.00 MiB)");
  Error error = {0};
  assert_false(check_with(60, 128, CACHE_DTYPE_INT8, &error));
  assert_null(strstr(error.message, "cache_dtype"));
}

/* They are given up by themselves where that is enough, and before the model is quantised, which goes with exact ones alone. */
static void copies_in_8_bits_are_given_up(void **state) {
  (void)state;
  PlanSettings settings = {.optim.micro_batch_tokens = 400,
                           .rollout_batch = 1,
                           .rollout_weights = SAMPLER_WEIGHTS_INT8,
                           .lora.enabled = true,
                           .model = {.dtype = MODEL_DTYPE_BF16, .recompute = true}};
  Error error = {0};
  const size_t quarter =
      1 << 18; /* 4 of weights, 1 of training, 1 of activations, 4 of copies, and the answer */
  assert_false(check_settings((MemoryLimits){25 * quarter, SIZE_MAX}, &settings, &error));
  assert_non_null(
      strstr(error.message,
             "needs 10.25 MiB and 6.25 MiB can be used; it fits with rollout.weights exact (6.25 MiB)"));
  error = (Error){0};
  assert_false(check_settings((MemoryLimits){22 * quarter, SIZE_MAX}, &settings, &error));
  assert_non_null(
      strstr(error.message, "fits with rollout.weights exact with model.quantize int8 (5.25 MiB)"));
  settings.rollout_weights = SAMPLER_WEIGHTS_EXACT;
  error = (Error){0};
  assert_false(check_settings((MemoryLimits){22 * quarter, SIZE_MAX}, &settings, &error));
  assert_null(strstr(error.message, "rollout.weights"));
}

/* Where neither is enough alone, both are proposed, and what is set already is not. */
static void settings_are_tried_together(void **state) {
  (void)state;
  PlanSettings settings = {.optim.micro_batch_tokens = 1600, .rollout_batch = 64, .lora.enabled = true};
  const struct {
    size_t limit; /* KiB */
    int dtype;
    bool recompute;
    const char *text;
  } cases[] = {
      {8 << 10, MODEL_DTYPE_BF16, true,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 8 (8.00 MiB)"},
      {8 << 10, MODEL_DTYPE_BF16, false,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 8 and model.recompute true (8.00 MiB)"},
      {16 << 10, MODEL_DTYPE_BF16, false,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 16 (13.00 MiB)"},
      {8 << 10, MODEL_DTYPE_F32, true,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 8 and model.dtype bf16 (8.00 MiB)"},
      {6 << 10, MODEL_DTYPE_BF16, true,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 4 and model.quantize int8 (6.00 MiB)"},
      {5 << 10, MODEL_DTYPE_BF16, true,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 4 and model.quantize nf4 (5.00 MiB)"},
      {3200, MODEL_DTYPE_BF16, true,
       "fits with optim.micro_batch_tokens 400 with rollout.batch 1, rollout.cache_dtype int8, "
       "model.quantize_tables "
       "int8 and model.quantize nf4 (3.12 MiB)"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Error error = {0};
    settings.model.dtype = cases[i].dtype;
    settings.model.recompute = cases[i].recompute;
    assert_false(check_settings((MemoryLimits){cases[i].limit << 10, SIZE_MAX}, &settings, &error));
    if (!strstr(error.message, cases[i].text)) fail_msg("'%s' is not in: %s", cases[i].text, error.message);
  }
}

/* The first that is enough: levels that keep weights whole, then these with frozen models divided, then all. */
static void levels_are_tried_in_order(void **state) {
  (void)state;
  const struct {
    size_t limit;
    int shard, most;
    bool frozen, has_frozen;
    const char *text;
  } cases[] = {
      {64, SHARD_NONE, SHARD_WEIGHTS, false, true, "fits with device.shard optimizer (64.00 MiB)"},
      {60, SHARD_NONE, SHARD_WEIGHTS, false, true, "fits with device.shard gradients (60.00 MiB)"},
      {59, SHARD_NONE, SHARD_WEIGHTS, false, true,
       "fits with device.shard optimizer with device.shard_frozen true (58.00 MiB)"},
      {58, SHARD_OPTIMIZER, SHARD_WEIGHTS, false, true, "fits with device.shard_frozen true (58.00 MiB)"},
      {57, SHARD_NONE, SHARD_WEIGHTS, false, true,
       "fits with device.shard gradients with device.shard_frozen true (54.00 MiB)"},
      {53, SHARD_NONE, SHARD_WEIGHTS, false, true, "fits with device.shard weights (50.00 MiB)"},
      {59, SHARD_NONE, SHARD_WEIGHTS, true, true, "fits with device.shard optimizer (58.00 MiB)"},
      {48, SHARD_NONE, SHARD_WEIGHTS, false, false, "fits with device.shard weights (48.00 MiB)"},
      {53, SHARD_NONE, SHARD_GRADIENTS, false, false, "fits with device.shard optimizer (52.00 MiB)"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    PlanSettings settings = {.optim.micro_batch_tokens = 1600};
    Error error = {0};
    settings.shard = cases[i].shard;
    settings.most_shard = cases[i].most;
    settings.shard_frozen = cases[i].frozen;
    settings.has_frozen = cases[i].has_frozen;
    assert_false(check_settings((MemoryLimits){cases[i].limit << 20, SIZE_MAX}, &settings, &error));
    if (!strstr(error.message, cases[i].text)) fail_msg("'%s' is not in: %s", cases[i].text, error.message);
  }
}

static void sizes_as_text(void **state) {
  (void)state;
  char text[32];
  bytes_text(1000, text);
  assert_string_equal(text, "1000 bytes");
  bytes_text((size_t)5 << 29, text);
  assert_string_equal(text, "2.50 GiB");
}

static void the_limit_of_the_machine(void **state) {
  (void)state;
  DeviceConfig device = {.backend = DEVICE_CPU, .threads = 1, .memory_limit = 12345};
  Compute compute;
  Error error = {0};
  assert_true(device_open(&compute, &device, NULL, &error));
  assert_int_equal(device_limit(&compute), 12345);
  compute.memory_limit = 0;
  const size_t alone = device_limit(&compute);
  assert_true(alone > (size_t)1 << 20);
  compute.comm.neighbours = 8; /* ranks on this host */
  assert_true(device_limit(&compute) < alone / 4);
  assert_true(device_peak(&compute) > (size_t)1 << 19);
  compute_close(&compute);
}

/* The peak is this program's own: a program that had much memory and starts another leaves it the number that getrusage
 * has. The other is this one, started with an argument: see main. */
static int peak_is_small(void) {
  DeviceConfig device = {.backend = DEVICE_CPU, .threads = 1};
  Compute compute;
  Error error = {0};
  if (!device_open(&compute, &device, NULL, &error)) return 2;
  const size_t peak = device_peak(&compute);
  compute_close(&compute);
  return peak > 0 && peak < (size_t)300 << 20 ? 0 : 1;
}

static void the_peak_is_of_this_program(void **state) {
  (void)state;
  const pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    const size_t much = (size_t)400 << 20;
    char *memory = malloc(much);
    if (!memory) _exit(3);
    memset(memory, 1, much);
    const char *const arguments[] = {"test", "peak", NULL};
    execv("/proc/self/exe", (char **)arguments);
    _exit(memory[much / 2] + 3);
  }
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

static Temporary group;

static void put(const char *name, const char *text) {
  Error error = {0};
  if (!file_write_text(temporary_path(&group, name), text, &error)) fail_msg("%s", error.message);
}

static void the_limit_of_a_control_group(void **state) {
  (void)state;
  Error error = {0};
  temporary_open(&group);
  assert_true(device_group_limit(group.directory) == SIZE_MAX);
  assert_true(directory_create(temporary_path(&group, "memory"), &error)); /* version 1 */
  put("memory/memory.limit_in_bytes", "1000\n");
  put("memory/memory.usage_in_bytes", "900\n");
  assert_int_equal(device_group_limit(group.directory), 100);
  put("memory/memory.stat",
      "active_file 1\ninactive_file 2\ntotal_active_file 300\ntotal_inactive_file 500\n");
  assert_int_equal(device_group_limit(group.directory), 900);
  put("memory.max", "max\n"); /* version 2, unlimited */
  put("memory.current", "10\n");
  assert_int_equal(device_group_limit(group.directory), 900);
  put("memory.max", "5000\n");
  put("memory.stat", "anon 3000\nfile 1500\ninactive_file 1200\nactive_file 300\n");
  put("memory.current", "4600\n");
  assert_int_equal(device_group_limit(group.directory), 1900);
  put("memory.current", "9000\n");
  assert_int_equal(device_group_limit(group.directory), 0);
  temporary_close(&group);
}

/* On the CPU: the plan of nothing but arenas grows by what the heap has been asked for, whatever was free in it before. */
static size_t plan_of_heap(const Compute *compute) {
  MemoryPlan plan = {0};
  plan_add_program(&plan, compute);
  return plan_total(&plan);
}

static long resident_pages(void) {
  long all, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  assert_non_null(file);
  assert_int_equal(fscanf(file, "%ld %ld", &all, &resident), 2);
  fclose(file);
  return resident;
}

static void what_the_heap_holds_is_planned(void **state) {
  (void)state;
  enum { PIECES = 4096, PIECE = 2000 };
  Error error = {0};
  Compute compute;
  static char *pieces[PIECES];
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  const size_t held = memory_held(), before = plan_of_heap(&compute);
  for (int i = 0; i < PIECES; i++) pieces[i] = memory_zeroed(1, PIECE);
  const bool told = memory_held() > held; /* a sanitizer's own heap does not tell */
  const size_t with = plan_of_heap(&compute);
  for (int i = 0; i + 1 < PIECES; i++) memory_free(pieces[i]); /* the last one holds the heap up */
  const long resident = resident_pages();
  const size_t after = plan_of_heap(&compute);
  if (!told) skip();
  assert_in_range(with - before, (size_t)PIECES * PIECE, (size_t)PIECES * PIECE * 11 / 10);
  assert_true(after <= before + 4 * PIECE);
  assert_true(resident - resident_pages() > (long)PIECES * PIECE / sysconf(_SC_PAGESIZE) * 8 / 10);
  memory_free(pieces[PIECES - 1]);
  compute_close(&compute);
}

/* A process that once held more than its arenas will ask for says so. */
static void what_was_held_while_opening_is_planned(void **state) {
  (void)state;
  Error error = {0};
  Compute compute;
  TrainMemory memory;
  MemoryPlan plan = {0};
  assert_true(compute_open(&compute, DEVICE_CPU, 1, &error));
  const size_t bytes = (size_t)256 << 20;
  char *large = memory_alloc(bytes);
  assert_non_null(large);
  memset(large, 1, bytes);
  memory_free(large);
  plan_begin(&memory, &compute);
  assert_true(plan_end(&plan, &memory, &compute, &error));
  assert_true(plan_total(&plan) >= bytes && plan_total(&plan) >= device_peak(&compute));
  compute_close(&compute);
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "peak")) return peak_is_small();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_fits_passes),
      cmocka_unit_test(advice_is_computed),
      cmocka_unit_test(graphs_are_given_up),
      cmocka_unit_test(fewer_answers_at_once_come_first),
      cmocka_unit_test(a_cache_in_8_bits_is_named),
      cmocka_unit_test(copies_in_8_bits_are_given_up),
      cmocka_unit_test(settings_are_tried_together),
      cmocka_unit_test(the_host_takes_what_it_can),
      cmocka_unit_test(levels_are_tried_in_order),
      cmocka_unit_test(sizes_as_text),
      cmocka_unit_test(the_limit_of_the_machine),
      cmocka_unit_test(the_peak_is_of_this_program),
      cmocka_unit_test(the_limit_of_a_control_group),
      cmocka_unit_test(what_the_heap_holds_is_planned),
      cmocka_unit_test(what_was_held_while_opening_is_planned),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
