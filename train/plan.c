#include "train/plan.h"

#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void plan_add(MemoryPlan *plan, const char *name, size_t bytes) {
  if (bytes == 0) return;
  ASSERT(plan->count < PLAN_MAX_LINES);
  plan->lines[plan->count++] = (PlanLine){.name = name, .bytes = bytes};
}

void plan_add_host(MemoryPlan *plan, const char *name, size_t bytes) {
  plan_add(plan, name, bytes);
  if (bytes > 0) plan->lines[plan->count - 1].host = true;
}

void plan_add_program(MemoryPlan *plan, const Compute *compute) {
  if (compute_on_host(compute)) plan_add(plan, "tokenizer, data, tables", memory_held());
  plan_add(plan, "program and libraries", device_overhead(compute));
}

void plan_add_memory(MemoryPlan *plan, const TrainMemory *memory, const Compute *compute) {
  const Arena *arenas[] = {&memory->weights, &memory->adapters, &memory->gradients, &memory->optimizer};
  for (size_t i = 0; i < sizeof arenas / sizeof *arenas; i++) {
    plan_add(plan, arenas[i]->name, arenas[i]->dry ? arenas[i]->peak : arenas[i]->capacity);
  }
  const Arena *step = &memory->step, *cache = &memory->cache;
  const size_t pass = step->dry ? step->peak : step->capacity,
               rollout = cache->dry ? cache->peak : cache->capacity;
  if (pass > 0 && rollout > 0) { /* the same memory */
    plan_add(plan, "activations or rollout", rollout > pass ? rollout : pass);
  } else {
    plan_add(plan, step->name, pass);
    plan_add(plan, cache->name, rollout);
  }
  plan_add(plan, "workspace of operations", compute->scratch.peak);
  const Arena *offloaded = &memory->offloaded;
  plan_add_host(plan, offloaded->name, offloaded->dry ? offloaded->peak : offloaded->capacity);
  plan_add_program(plan, compute);
  const size_t total = plan_total(plan), peak = compute_on_host(compute) ? device_peak(compute) : 0;
  if (peak > total) plan_add(plan, "more while files are opened", peak - total);
}

void plan_begin(TrainMemory *memory, Compute *compute) {
  train_memory_dry(memory);
  compute_dry_begin(compute);
  compute->scratch.peak = 0; /* of an earlier plan with other settings */
}

bool plan_end(MemoryPlan *plan, const TrainMemory *memory, Compute *compute, Error *error) {
  plan_add_memory(plan, memory, compute);
  return compute_dry_end(compute, error);
}

static size_t total_of(const MemoryPlan *plan, bool host) {
  size_t total = 0;
  for (int i = 0; i < plan->count; i++) {
    if (plan->lines[i].host == host) total += plan->lines[i].bytes;
  }
  return total;
}

size_t plan_total(const MemoryPlan *plan) {
  return total_of(plan, false);
}

size_t plan_host_total(const MemoryPlan *plan) {
  return total_of(plan, true);
}

static bool fits(const MemoryPlan *plan, MemoryLimits limits) {
  return plan_total(plan) <= limits.device && plan_host_total(plan) <= limits.host;
}

void plan_bytes_text(size_t bytes, char out[32]) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double value = (double)bytes;
  int unit = 0;
  for (; value >= 1024 && unit < 4; unit++) value /= 1024;
  snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.2f %s", value, units[unit]);
}

static void show_lines(const MemoryPlan *plan, bool host, Log *log) {
  char text[32];
  for (int i = 0; i < plan->count; i++) {
    if (plan->lines[i].host != host) continue;
    plan_bytes_text(plan->lines[i].bytes, text);
    log_info(log, "  %-28s %12s", plan->lines[i].name, text);
  }
}

/* A limit of SIZE_MAX is none. */
static void show_total(const char *name, size_t total, size_t limit, Log *log) {
  char text[32], most[32];
  plan_bytes_text(total, text);
  plan_bytes_text(limit, most);
  const bool limited = limit != SIZE_MAX;
  log_info(log, "  %-28s %12s%s%s", name, text, limited ? " of " : "", limited ? most : "");
}

void plan_show(const MemoryPlan *plan, Log *log, MemoryLimits limits) {
  log_info(log, "memory plan:");
  show_lines(plan, false, log);
  show_total("total", plan_total(plan), limits.device, log);
  if (plan_host_total(plan) == 0) return;
  log_info(log, "beside it, of the host's memory, pinned:");
  show_lines(plan, true, log);
  show_total("total of the host", plan_host_total(plan), limits.host, log);
}

void plan_report_peak(const MemoryPlan *plan, const Compute *compute, Log *log) {
  char peak[32], planned[32];
  plan_bytes_text(device_peak(compute), peak);
  plan_bytes_text(plan_total(plan), planned);
  log_info(log, "peak memory %s, planned %s", peak, planned);
}

bool plan_fits(const MemoryPlan *plan, size_t limit, const char *advice, Log *log, Error *error) {
  char needed[32], available[32];
  if (plan_total(plan) <= limit) return true;
  plan_show(plan, log, (MemoryLimits){limit, SIZE_MAX});
  plan_bytes_text(plan_total(plan), needed);
  plan_bytes_text(limit, available);
  return error_set(error, ERROR_MEMORY, "needs %s of memory, and %s can be used%s%s", needed, available,
                   advice ? "; " : "", advice ? advice : "");
}

/* -- advice --------------------------------------------------------------------------------------------- */

typedef struct Advice {
  PlanMaker make;
  void *context;
  MemoryLimits limits;
  char text[512];
} Advice;

/* Plans with other settings and notes them when they fit. */
static bool try_settings(Advice *advice, const PlanSettings *settings, const char *what) {
  MemoryPlan plan = {0};
  Error ignored = {0};
  if (!advice->make(advice->context, settings, &plan, &ignored)) return false;
  if (!fits(&plan, advice->limits)) return false;
  char bytes[32];
  plan_bytes_text(plan_total(&plan), bytes);
  size_t used = strlen(advice->text);
  snprintf(advice->text + used, sizeof advice->text - used, "%s%s (%s)", used ? "; or " : "", what, bytes);
  return true;
}

/* The largest smaller micro-batch that fits, by halving. */
static bool try_smaller(Advice *advice, PlanSettings settings, int64_t least, const char *also) {
  int64_t *tokens = &settings.optim.micro_batch_tokens;
  while (*tokens / 2 >= least) {
    *tokens /= 2;
    char what[160];
    snprintf(what, sizeof what, "optim.micro_batch_tokens %" PRId64 "%s", *tokens, also);
    if (try_settings(advice, &settings, what)) return true;
  }
  return false;
}

/* The largest smaller number of answers at once that fits, by halving. */
static bool try_fewer(Advice *advice, PlanSettings settings) {
  while (settings.rollout_batch > 1) {
    settings.rollout_batch /= 2;
    char what[64];
    snprintf(what, sizeof what, "rollout.batch %" PRId64, settings.rollout_batch);
    if (try_settings(advice, &settings, what)) return true;
  }
  return false;
}

/* The last of what changes no result: slower than the others, and it takes memory of the host. On the CPU no plan has it. */
static bool try_offload(Advice *advice, PlanSettings settings, int64_t least, bool recomputes) {
  if (settings.model.offload == MODEL_OFFLOAD_ACTIVATIONS) return false;
  settings.model.offload = MODEL_OFFLOAD_ACTIVATIONS;
  return try_settings(advice, &settings,
                      recomputes ? "model.offload activations"
                                 : "model.offload activations with model.recompute true") ||
         try_smaller(advice, settings, least,
                     recomputes ? " with model.offload activations"
                                : " with model.offload activations and model.recompute true");
}

/* The first of what does: keys and values in 8 bits, with as many answers at once. */
static bool try_narrow_cache(Advice *advice, PlanSettings settings) {
  if (settings.rollout_batch == 0 || settings.cache_dtype == CACHE_DTYPE_INT8) return false;
  settings.cache_dtype = CACHE_DTYPE_INT8;
  return try_settings(advice, &settings, "rollout.cache_dtype int8");
}

static void find_advice(Advice *advice, const PlanSettings *settings, int64_t least) {
  bool found = try_fewer(advice, *settings);
  found |= try_smaller(advice, *settings, least, "");
  PlanSettings changed = *settings;
  if (!settings->model.recompute) {
    changed.model.recompute = true;
    found |= try_settings(advice, &changed, "model.recompute true");
    if (!found) found = try_smaller(advice, changed, least, " with model.recompute true");
  }
  if (!found) found = try_offload(advice, changed, least, settings->model.recompute);
  found |= try_narrow_cache(advice, *settings);
  if (found) return;
  if (!settings->lora.enabled && settings->optim.state != OPTIM_STATE_8BIT) {
    PlanSettings narrow = changed;
    narrow.optim.state = OPTIM_STATE_8BIT;
    found = try_settings(advice, &narrow, "optim.state 8bit with model.recompute true") ||
            try_smaller(advice, narrow, least, " with optim.state 8bit and model.recompute true");
  }
  if (!settings->lora.enabled) {
    changed.lora.enabled = true;
    found |= try_settings(advice, &changed, "lora.enabled true with model.recompute true") ||
             try_smaller(advice, changed, least, " with lora.enabled true and model.recompute true");
  }
  if (!found && settings->model.dtype != MODEL_DTYPE_BF16) {
    changed.model.dtype = MODEL_DTYPE_BF16;
    found =
        try_settings(advice, &changed, "model.dtype bf16 with lora.enabled true and model.recompute true") ||
        try_smaller(advice, changed, least,
                    " with model.dtype bf16, lora.enabled true and model.recompute true");
  }
  if (found || settings->model.quantize == MODEL_QUANTIZE_NF4) return;
  changed.model.quantize = MODEL_QUANTIZE_NF4;
  if (!try_settings(advice, &changed,
                    "model.quantize nf4 with model.dtype bf16, lora.enabled true and model.recompute true"))
    try_smaller(advice, changed, least,
                " with model.quantize nf4, model.dtype bf16, lora.enabled true and model.recompute true");
}

bool plan_check(PlanMaker make, void *context, const PlanSettings *settings, int64_t least_tokens,
                MemoryLimits limits, Log *log, MemoryPlan *plan, Error *error) {
  *plan = (MemoryPlan){0};
  if (!make(context, settings, plan, error)) return false;
  plan_show(plan, log, limits);
  if (fits(plan, limits)) return true;
  Advice advice = {.make = make, .context = context, .limits = limits};
  find_advice(&advice, settings, least_tokens < 1 ? 1 : least_tokens);
  const bool device = plan_total(plan) > limits.device;
  char needed[32], available[32];
  plan_bytes_text(device ? plan_total(plan) : plan_host_total(plan), needed);
  plan_bytes_text(device ? limits.device : limits.host, available);
  return error_set(error, ERROR_MEMORY, "the plan needs %s%s and %s can be used%s%s", needed,
                   device ? "" : " of the host's memory", available,
                   advice.text[0] ? "; it fits with "
                                  : "; no setting of this stage makes it fit: choose a "
                                    "smaller model or a machine with more memory",
                   advice.text);
}
