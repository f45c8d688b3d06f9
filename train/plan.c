#include "train/plan.h"

#include "base/file.h"
#include "base/memory.h"
#include "base/room.h"
#include "train/ranks.h"

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
  const Arena *host[] = {&memory->offloaded, &memory->sums, &memory->state};
  for (size_t i = 0; i < sizeof host / sizeof *host; i++)
    plan_add_host(plan, host[i]->name, host[i]->dry ? host[i]->peak : host[i]->capacity);
  if (compute->host) plan_add_host(plan, "workspace of the host", compute->host->scratch.peak);
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

static void show_lines(const MemoryPlan *plan, bool host, Log *log) {
  char text[32];
  for (int i = 0; i < plan->count; i++) {
    if (plan->lines[i].host != host) continue;
    bytes_text(plan->lines[i].bytes, text);
    log_info(log, "  %-28s %12s", plan->lines[i].name, text);
  }
}

/* A limit of SIZE_MAX is none. */
static void show_total(const char *name, size_t total, size_t limit, Log *log) {
  char text[32], most[32];
  bytes_text(total, text);
  bytes_text(limit, most);
  const bool limited = limit != SIZE_MAX;
  log_info(log, "  %-28s %12s%s%s", name, text, limited ? " of " : "", limited ? most : "");
}

void plan_show(const MemoryPlan *plan, Log *log, MemoryLimits limits) {
  log_info(log, "memory plan:");
  show_lines(plan, false, log);
  show_total("total", plan_total(plan), limits.device, log);
  if (plan_host_total(plan) == 0) return;
  log_info(log, "beside it, of the host's memory:");
  show_lines(plan, true, log);
  show_total("total of the host", plan_host_total(plan), limits.host, log);
}

void plan_report_peak(const MemoryPlan *plan, const Compute *compute, Log *log) {
  char peak[32], planned[32];
  bytes_text(device_peak(compute), peak);
  bytes_text(plan_total(plan), planned);
  log_info(log, "peak memory %s, planned %s", peak, planned);
}

void plan_report_graphs(const PassRecords *records, Log *log) {
  char bytes[32];
  int forward = 0, backward = 0;
  if (!records->compute) return;
  for (int i = 0; i < records->count; i++) {
    forward += records->list[i].forward.graph != NULL;
    backward += records->list[i].backward.graph != NULL;
  }
  bytes_text(records->bytes, bytes);
  log_info(log, "graphs of %d forward and %d backward passes, of %d kinds of passes: %s", forward, backward,
           records->count, bytes);
}

static void say_ranks(const Comm *comm, const int64_t (*all)[2], Log *log) {
  Buffer text = {0};
  Error ignored = {0}; /* a line that finds no memory is not said */
  bool ok = true;
  for (int r = 0; ok && r < comm->size; r++) {
    char peak[32], planned[32];
    bytes_text((size_t)all[r][0], peak);
    bytes_text((size_t)all[r][1], planned);
    ok = buffer_format(&text, &ignored, "%s%s of %s", r ? ", " : "", peak, planned);
  }
  if (ok) log_info(log, "peak memory of ranks, and planned: %s", text.data);
  buffer_free(&text);
}

void plan_report_peaks(const MemoryPlan *plan, const Compute *compute, Log *log) {
  const Comm *comm = &compute->comm;
  const int64_t own[2] = {(int64_t)device_peak(compute), (int64_t)plan_total(plan)};
  int64_t(*all)[2] = memory_zeroed((size_t)comm->size, sizeof *all);
  plan_report_peak(plan, compute, log);
  if (comm->size > 1 && ranks_most(comm, !all) == 0) {
    comm_all_gather(comm, own, all, sizeof own);
    say_ranks(comm, all, log);
  }
  memory_free(all);
}

bool plan_fits(const MemoryPlan *plan, size_t limit, const char *advice, Log *log, Error *error) {
  char needed[32], available[32];
  if (plan_total(plan) <= limit) return true;
  plan_show(plan, log, (MemoryLimits){limit, SIZE_MAX});
  bytes_text(plan_total(plan), needed);
  bytes_text(limit, available);
  return error_set(error, ERROR_MEMORY, "needs %s of memory, and %s can be used%s%s", needed, available,
                   advice ? "; " : "", advice ? advice : "");
}

/* -- advice --------------------------------------------------------------------------------------------- */

typedef struct Advice {
  PlanMaker make;
  void *context;
  const PlanSettings *given;
  int64_t least_tokens; /* of a micro-batch */
  MemoryLimits limits;
  char text[512];
} Advice;

enum { CHANGES = 15, CHANGE = 48 };

/* What differs, from the smallest change on: "optim.micro_batch_tokens 256 with rollout.batch 4 and model.recompute true". */
static void describe(const PlanSettings *from, const PlanSettings *to, char *out, size_t size) {
  char changes[CHANGES][CHANGE];
  int count = 0;
  const ModelConfig *model = &to->model, *before = &from->model;
  if (to->optim.micro_batch_tokens != from->optim.micro_batch_tokens)
    snprintf(changes[count++], CHANGE, "optim.micro_batch_tokens %" PRId64, to->optim.micro_batch_tokens);
  if (to->graphs != from->graphs) snprintf(changes[count++], CHANGE, "device.graphs 0");
  if (to->shard != from->shard)
    snprintf(changes[count++], CHANGE, "device.shard %s", shard_choices[to->shard]);
  if (to->shard_frozen != from->shard_frozen) snprintf(changes[count++], CHANGE, "device.shard_frozen true");
  if (to->rollout_batch != from->rollout_batch)
    snprintf(changes[count++], CHANGE, "rollout.batch %" PRId64, to->rollout_batch);
  if (to->cache_dtype != from->cache_dtype)
    snprintf(changes[count++], CHANGE, "rollout.cache_dtype %s", cache_dtype_choices[to->cache_dtype]);
  if (to->rollout_weights != from->rollout_weights)
    snprintf(changes[count++], CHANGE, "rollout.weights %s", sampler_weights_choices[to->rollout_weights]);
  if (model->tables != before->tables)
    snprintf(changes[count++], CHANGE, "model.quantize_tables %s", model_tables_choices[model->tables]);
  if (model->quantize != before->quantize)
    snprintf(changes[count++], CHANGE, "model.quantize %s", model_quantize_choices[model->quantize]);
  if (model->dtype != before->dtype)
    snprintf(changes[count++], CHANGE, "model.dtype %s", model_dtype_choices[model->dtype]);
  if (to->lora.enabled != from->lora.enabled) snprintf(changes[count++], CHANGE, "lora.enabled true");
  if (to->optim.state != from->optim.state)
    snprintf(changes[count++], CHANGE, "optim.state %s", optimizer_state_choices[to->optim.state]);
  if (to->optim.offload != from->optim.offload)
    snprintf(changes[count++], CHANGE, "optim.offload %s", optim_offload_choices[to->optim.offload]);
  if (model->offload != before->offload)
    snprintf(changes[count++], CHANGE, "model.offload %s", model_offload_choices[model->offload]);
  if (model->recompute != before->recompute) snprintf(changes[count++], CHANGE, "model.recompute true");
  *out = 0;
  for (int i = 0; i < count; i++) {
    const size_t used = strlen(out);
    const char *between = i == 0 ? "" : i == 1 ? " with " : i + 1 < count ? ", " : " and ";
    snprintf(out + used, size - used, "%s%s", between, changes[i]);
  }
}

static bool settings_fit(const Advice *advice, const PlanSettings *settings, MemoryPlan *plan) {
  Error ignored = {0};
  *plan = (MemoryPlan){0};
  return advice->make(advice->context, settings, plan, &ignored) && fits(plan, advice->limits);
}

/* Plans with other settings and notes them when they fit. */
static bool try_settings(Advice *advice, const PlanSettings *settings) {
  MemoryPlan plan;
  if (!settings_fit(advice, settings, &plan)) return false;
  char bytes[32], what[CHANGES * CHANGE];
  bytes_text(plan_total(&plan), bytes);
  describe(advice->given, settings, what, sizeof what);
  size_t used = strlen(advice->text);
  snprintf(advice->text + used, sizeof advice->text - used, "%s%s (%s)", used ? "; or " : "", what, bytes);
  return true;
}

/* The largest smaller micro-batch that fits, by halving. */
static bool try_smaller(Advice *advice, PlanSettings settings) {
  int64_t *tokens = &settings.optim.micro_batch_tokens;
  while (*tokens / 2 >= advice->least_tokens) {
    *tokens /= 2;
    if (try_settings(advice, &settings)) return true;
  }
  return false;
}

/* The largest smaller number of answers at once that fits, by halving. */
static bool try_fewer(Advice *advice, PlanSettings settings) {
  while (settings.rollout_batch > 1) {
    settings.rollout_batch /= 2;
    if (try_settings(advice, &settings)) return true;
  }
  return false;
}

/* Both where neither is enough: first the answers, beside the smallest micro-batch, then the largest micro-batch beside them. Passes and
 * generation share their memory, so that neither gives way to the other. */
static bool try_both(Advice *advice, PlanSettings settings) {
  MemoryPlan plan;
  PlanSettings least = settings;
  while (least.optim.micro_batch_tokens / 2 >= advice->least_tokens) least.optim.micro_batch_tokens /= 2;
  while (least.rollout_batch > 1) {
    least.rollout_batch /= 2;
    if (!settings_fit(advice, &least, &plan)) continue;
    settings.rollout_batch = least.rollout_batch;
    return try_smaller(advice, settings);
  }
  return false;
}

/* The settings, and beside them what costs least: smaller micro-batches, fewer answers at once, or both. */
static bool try_around(Advice *advice, const PlanSettings *settings) {
  return try_settings(advice, settings) || try_smaller(advice, *settings) || try_fewer(advice, *settings) ||
         try_both(advice, *settings);
}

/* Graphs are there for speed alone: what else is tried is tried without them. */
static bool try_without_graphs(Advice *advice, PlanSettings *settings) {
  if (settings->graphs == 0) return false;
  settings->graphs = 0;
  return try_settings(advice, settings);
}

static bool try_levels(Advice *advice, PlanSettings settings, int from, int to) {
  for (settings.shard = from; settings.shard <= to; settings.shard++) {
    if (try_settings(advice, &settings)) return true;
  }
  return false;
}

/* The first that is enough by itself. None changes a result, and they cost more and more time: the first level none; frozen models
 * their weights once a pass, in which `weights` has those of the others too. */
static bool try_shards(Advice *advice, PlanSettings settings) {
  const int given = settings.shard, most = settings.most_shard,
            whole = most < SHARD_GRADIENTS ? most : SHARD_GRADIENTS; /* whose weights are */
  if (try_levels(advice, settings, given + 1, whole)) return true;
  if (settings.has_frozen && !settings.shard_frozen) {
    PlanSettings frozen = settings;
    frozen.shard_frozen = true;
    if (try_levels(advice, frozen, given, whole)) return true;
  }
  return given < SHARD_WEIGHTS && try_levels(advice, settings, SHARD_WEIGHTS, most);
}

/* What changes no result, the fastest first. On the CPU no plan has an offload. */
static bool find_exact(Advice *advice, PlanSettings *changed) {
  const PlanSettings before = *changed;
  bool found = try_fewer(advice, *changed);
  found |= try_smaller(advice, *changed);
  if (!changed->model.recompute) {
    changed->model.recompute = true;
    found |= try_settings(advice, changed);
    found = found || try_both(advice, before) || try_around(advice, changed);
  } else if (!found) {
    found = try_both(advice, *changed);
  }
  if (found || changed->model.offload == MODEL_OFFLOAD_ACTIVATIONS) return found;
  PlanSettings offloaded = *changed;
  offloaded.model.offload = MODEL_OFFLOAD_ACTIVATIONS;
  return try_around(advice, &offloaded);
}

/* The first of what changes results: keys and values in 8 bits, with as many answers at once. */
static bool try_narrow_cache(Advice *advice, PlanSettings settings) {
  if (settings.rollout_batch == 0 || settings.cache_dtype == CACHE_DTYPE_INT8) return false;
  settings.cache_dtype = CACHE_DTYPE_INT8;
  return try_settings(advice, &settings);
}

/* Copies in 8 bits are there for speed. */
static bool try_exact_weights(Advice *advice, PlanSettings settings) {
  if (settings.rollout_weights == SAMPLER_WEIGHTS_EXACT) return false;
  settings.rollout_weights = SAMPLER_WEIGHTS_EXACT;
  return try_settings(advice, &settings);
}

/* The state of all weights in the host's memory, where the bits are the processor's; in 8 bits if that has no room for more. */
static bool try_host_state(Advice *advice, PlanSettings settings) {
  if (settings.optim.offload == OPTIM_OFFLOAD_STATE) return false;
  settings.optim.offload = OPTIM_OFFLOAD_STATE;
  if (try_around(advice, &settings)) return true;
  if (settings.optim.state == OPTIM_STATE_8BIT) return false;
  settings.optim.state = OPTIM_STATE_8BIT;
  return try_around(advice, &settings);
}

static void find_advice(Advice *advice) {
  PlanSettings changed = *advice->given;
  ModelConfig *model = &changed.model;
  if (try_without_graphs(advice, &changed)) return;
  const PlanSettings plain = changed;
  bool found = try_shards(advice, plain);
  found |= find_exact(advice, &changed);
  if (!found && changed.shard < changed.most_shard) {
    changed = plain;
    changed.shard = changed.most_shard;
    found = find_exact(advice, &changed);
  }
  found |= try_exact_weights(advice, plain);
  found |= try_narrow_cache(advice, plain);
  if (found) return;
  changed.rollout_weights = SAMPLER_WEIGHTS_EXACT; /* as a quantised model needs it */
  if (!changed.lora.enabled) {
    if (changed.optim.state != OPTIM_STATE_8BIT) {
      PlanSettings narrow = changed;
      narrow.optim.state = OPTIM_STATE_8BIT;
      found = try_around(advice, &narrow);
    }
    if (!found) found = try_host_state(advice, changed);
    changed.lora.enabled = true;
    changed.optim.offload = OPTIM_OFFLOAD_NONE;
    found |= try_around(advice, &changed);
  }
  if (!found && model->dtype != MODEL_DTYPE_BF16) {
    model->dtype = MODEL_DTYPE_BF16;
    found = try_around(advice, &changed);
  }
  if (!found && model->quantize == MODEL_QUANTIZE_NONE) {
    model->quantize = MODEL_QUANTIZE_INT8;
    found = try_around(advice, &changed);
  }
  if (!found && model->quantize != MODEL_QUANTIZE_NF4) {
    model->quantize = MODEL_QUANTIZE_NF4;
    found = try_around(advice, &changed);
  }
  if (!found && model->tables != MODEL_TABLES_INT8) {
    model->tables = MODEL_TABLES_INT8;
    found = try_around(advice, &changed);
  }
  if (!found && changed.rollout_batch > 0 && changed.cache_dtype != CACHE_DTYPE_INT8) {
    changed.cache_dtype = CACHE_DTYPE_INT8;
    try_around(advice, &changed);
  }
}

bool plan_check(PlanMaker make, void *context, const PlanSettings *settings, int64_t least_tokens,
                MemoryLimits limits, Log *log, MemoryPlan *plan, Error *error) {
  *plan = (MemoryPlan){0};
  if (!make(context, settings, plan, error)) return false;
  plan_show(plan, log, limits);
  if (fits(plan, limits)) return true;
  Advice advice = {.make = make,
                   .context = context,
                   .given = settings,
                   .least_tokens = least_tokens < 1 ? 1 : least_tokens,
                   .limits = limits};
  find_advice(&advice);
  const bool device = plan_total(plan) > limits.device;
  char needed[32], available[32];
  bytes_text(device ? plan_total(plan) : plan_host_total(plan), needed);
  bytes_text(device ? limits.device : limits.host, available);
  return error_set(error, ERROR_MEMORY, "the plan needs %s%s and %s can be used%s%s", needed,
                   device ? "" : " of the host's memory", available,
                   advice.text[0] ? "; it fits with "
                                  : "; no setting of this stage makes it fit: choose a "
                                    "smaller model or a machine with more memory",
                   advice.text);
}
