/* The arenas of a run and the base models in them; trainee.h has the contract. */
#include "train/trainee.h"

#include "base/memory.h"
#include "compute/q8.h"
#include "model/source.h"

#include <inttypes.h>
#include <string.h>

/* -- memory --------------------------------------------------------------------------------------------- */

typedef struct NamedArena {
  Arena *arena;
  const char *name;
} NamedArena;

enum { ARENAS = 6, ALONE = 4 /* the first of them share with none */ };

static void list_arenas(TrainMemory *memory, NamedArena out[ARENAS]) {
  out[0] = (NamedArena){&memory->weights, "weights"};
  out[1] = (NamedArena){&memory->adapters, "adapters and heads"};
  out[2] = (NamedArena){&memory->gradients, "gradients"};
  out[3] = (NamedArena){&memory->optimizer, "optimiser"};
  out[4] = (NamedArena){&memory->step, "activations"};
  out[5] = (NamedArena){&memory->cache, "rollout"};
}

void train_memory_dry(TrainMemory *memory) {
  NamedArena list[ARENAS];
  *memory = (TrainMemory){0};
  list_arenas(memory, list);
  for (int i = 0; i < ARENAS; i++) arena_init_dry(list[i].arena, list[i].name);
  arena_init_dry(&memory->offloaded, "activations, pinned");
  arena_init_dry(&memory->sums, "gradients, pinned");
  arena_init_dry(&memory->state, "optimiser");
}

/* One allocation for both. */
static bool allocate_shared(TrainMemory *memory, Compute *compute, Error *error) {
  const size_t step = memory->step.peak, cache = memory->cache.peak, bytes = step > cache ? step : cache;
  if (!compute_arena(compute, &memory->shared, "activations or rollout", bytes, error)) return false;
  arena_init_over(&memory->step, memory->step.name, memory->shared.base, bytes);
  arena_init_over(&memory->cache, memory->cache.name, memory->shared.base, bytes);
  return true;
}

/* What a dry arena counted, of pinned memory. */
static bool allocate_pinned(Arena *arena, const char *what, Compute *compute, Error *error) {
  const size_t bytes = arena->peak;
  *arena = (Arena){0};
  return bytes == 0 || compute_host_arena(compute, arena, what, bytes, error);
}

static bool allocate_host(TrainMemory *memory, Compute *compute, Error *error) {
  const size_t state = memory->state.peak;
  memory->state = (Arena){0};
  return allocate_pinned(&memory->offloaded, "model.offload activations", compute, error) &&
         allocate_pinned(&memory->sums, "optim.offload state", compute, error) &&
         arena_init(&memory->state, "optim.offload state", state, error);
}

bool train_memory_allocate(TrainMemory *memory, Compute *compute, Log *log, Error *error) {
  memory->log = log;
  NamedArena list[ARENAS];
  list_arenas(memory, list);
  const bool shares = memory->step.peak > 0 && memory->cache.peak > 0;
  if (shares && !allocate_shared(memory, compute, error)) return false;
  for (int i = 0; i < (shares ? ALONE : ARENAS); i++) {
    ASSERT(list[i].arena->dry);
    size_t bytes = list[i].arena->peak;
    *list[i].arena = (Arena){0};
    if (!compute_arena(compute, list[i].arena, list[i].name, bytes, error)) return false;
  }
  return allocate_host(memory, compute, error);
}

void train_memory_free(TrainMemory *memory, Compute *compute) {
  NamedArena list[ARENAS];
  list_arenas(memory, list);
  for (int i = 0; i < (memory->shared.base ? ALONE : ARENAS); i++) {
    if (list[i].arena->base) compute_arena_free(compute, list[i].arena);
  }
  if (memory->shared.base) compute_arena_free(compute, &memory->shared);
  if (memory->offloaded.base) compute_host_arena_free(compute, &memory->offloaded);
  if (memory->sums.base) compute_host_arena_free(compute, &memory->sums);
  arena_free(&memory->state);
  *memory = (TrainMemory){0};
}

GradientTurns gradient_turns_begin(TrainMemory *memory) {
  const GradientTurns turns = {arena_mark(&memory->gradients), arena_mark(&memory->sums)};
  arena_release(&memory->gradients, 0);
  arena_release(&memory->sums, 0);
  return turns;
}

void gradient_turns_end(TrainMemory *memory, GradientTurns turns) {
  arena_join(&memory->gradients, turns.gradients);
  arena_join(&memory->sums, turns.sums);
}

/* -- the base ------------------------------------------------------------------------------------------- */

/* One weight or bias takes what the adapter says of it: in fp32 on the host, rounded once. */
static bool merge_tensor(Tensor weight, const LoraSet *set, int id, Compute *compute, Error *error) {
  size_t count = (size_t)tensor_count(weight);
  float *wide = memory_alloc(count * sizeof *wide);
  void *narrow = weight.dtype == DTYPE_F32 ? wide : memory_alloc(tensor_bytes(weight));
  bool ok = (wide && narrow) || error_out_of_memory(error, "merging an adapter", count * sizeof *wide);
  if (ok) {
    compute_download(compute, narrow, weight);
    if (narrow != wide) dtype_convert(wide, DTYPE_F32, narrow, weight.dtype, count);
    ok = weight.rank == 1 ? lora_merge_bias(set, id, wide, compute, error)
                          : lora_merge(set, id, wide, compute, error);
    if (narrow != wide) dtype_convert(narrow, weight.dtype, wide, DTYPE_F32, count);
    if (ok) compute_upload(compute, weight, narrow);
  }
  if (narrow != wide) memory_free(narrow);
  memory_free(wide);
  return ok;
}

/* An arena as large as the adapter, which is opened in it and read. In a dry run nothing is kept, but what is wrong with
 * the files comes out all the same. */
static bool read_adapter(LoraSet *set, const LoraSpec *spec, const Model *model, const char *directory,
                         Compute *compute, Arena *arena, Error *error) {
  arena_init_dry(arena, "adapter to merge");
  bool ok =
      lora_open(set, spec, model->modules, model->module_count, model->dtype, false, compute, arena, error);
  if (ok && !compute->dry) {
    const size_t bytes = arena->peak;
    lora_free(set);
    *arena = (Arena){0};
    ok =
        compute_arena(compute, arena, "adapter to merge", bytes, error) &&
        lora_open(set, spec, model->modules, model->module_count, model->dtype, false, compute, arena, error);
  }
  return ok && lora_read(set, directory, compute, error);
}

static bool check_tie(const Model *model, const LoraSet *set, const char *directory, Error *error) {
  if (!model->spec.tied || model->head < 0 || lora_keeps_tie(set, model->embedding_id, model->head_id))
    return true;
  return error_set(
      error, ERROR_MODEL,
      "%s changes the embedding table and the LM head apart, and %s ties them: merge the adapter "
      "with drover merge, which writes a model that is not tied, or train with lora.enabled",
      directory, model->directory);
}

static bool merge_module(const Model *model, const LoraSet *set, int id, Compute *compute, Error *error) {
  const LoraPair *pair = lora_pair(set, id);
  const LoraCopy *copy = lora_copy(set, id);
  if ((!pair || pair->shared) && (!copy || copy->shared)) return true;
  const LoraModule *module = &model->modules[id];
  const bool in_block = module->layer >= 0 && module->layer < model->spec.layers;
  if (in_block) model_use_block(model, compute, module->layer, -1);
  return merge_tensor(module->weight, set, id, compute, error) &&
         (tensor_is_none(module->bias) || merge_tensor(module->bias, set, id, compute, error)) &&
         (!in_block || model_keep_block(model, compute, module->layer, error));
}

static bool merge(Model *model, const char *directory, Compute *compute, Error *error) {
  LoraSpec spec = {0};
  LoraSet set = {0};
  Arena arena = {0};
  bool ok = lora_spec_read(&spec, directory, error) &&
            read_adapter(&set, &spec, model, directory, compute, &arena, error) &&
            check_tie(model, &set, directory, error);
  for (int id = 0; ok && !compute->dry && id < model->module_count; id++)
    ok = merge_module(model, &set, id, compute, error);
  lora_free(&set);
  lora_spec_free(&spec);
  if (arena.base) compute_arena_free(compute, &arena);
  return ok;
}

/* Of the linears: how many there are, and how many stay as they are where fewer bits are asked for. */
static int wide_linears(const Model *model, int *all) {
  int wide = 0;
  *all = 0;
  for (int id = 0; id < model->module_count; id++) {
    if (model->modules[id].kind != LORA_LINEAR) continue;
    ++*all;
    wide += !dtype_is_blocks(model->modules[id].weight.dtype);
  }
  return wide;
}

static bool check_quantized(const Model *model, const char *path, Error *error) {
  const ModelQuantize quantize = model->format.quantize;
  int all;
  if (quantize == MODEL_QUANTIZE_NONE || wide_linears(model, &all) < all) return true;
  if (quantize == MODEL_QUANTIZE_INT8)
    return error_set(
        error, ERROR_USAGE,
        "quantize int8: no linear of %s can be kept in 8 bits: that takes inputs in multiples of %d", path,
        Q8_BLOCK);
  return error_set(error, ERROR_USAGE,
                   "quantize nf4: no linear of %s can be kept in 4 bits: that takes inputs in multiples of "
                   "%d and outputs in "
                   "multiples of %d",
                   path, NF4_BLOCK, NF4_STRIPE);
}

static bool may_stay_filed(const WeightFormat *format, const char *merge_directory, const Compute *compute) {
  return compute_on_host(compute) && !merge_directory && !format->quantize && !format->sliced;
}

bool base_open(Model *model, const char *path, const char *merge_directory, WeightFormat format,
               Compute *compute, TrainMemory *memory, Error *error) {
  *model = (Model){0};
  if (merge_directory && format.quantize)
    return error_set(error, ERROR_USAGE,
                     "%s cannot become part of %d-bit weights: set lora.enabled, or quantize none",
                     merge_directory, model_quantize_bits(format.quantize));
  format.filed = format.filed && may_stay_filed(&format, merge_directory, compute);
  bool ok = model_open(model, path, format, compute, &memory->weights, error) &&
            check_quantized(model, path, error);
  const bool dry = memory->weights.dry;
  ok = ok && (dry ? !model_weights_exist(path) || model_check(model, path, error)
                  : model_read(model, path, compute, memory->log, error));
  if (ok && merge_directory && dry == compute->dry) ok = merge(model, merge_directory, compute, error);
  if (!ok) base_close(model);
  return ok;
}

void base_close(Model *model) {
  model_free(model);
}

/* Which linears of a quantised model are as they were. */
static void say_wide(const Model *model, Log *log) {
  int all;
  const ModelQuantize quantize = model->format.quantize;
  const int wide = quantize ? wide_linears(model, &all) : 0;
  if (wide && quantize == MODEL_QUANTIZE_INT8)
    log_info(log, "%s: %d of %d linears are not quantised: their inputs are no multiple of %d",
             model->directory, wide, all, Q8_BLOCK);
  if (wide && quantize == MODEL_QUANTIZE_NF4)
    log_info(
        log,
        "%s: %d of %d linears are not quantised: their inputs are no multiple of %d, or their outputs of %d",
        model->directory, wide, all, NF4_BLOCK, NF4_STRIPE);
}

void base_say(const Model *model, Log *log) {
  if (!log || !model->directory) return;
  if (model_source_is_part(model->directory))
    log_info(
        log,
        "%s: the language model of a multimodal one; the other tensors are passed over, and what is saved "
        "is of type %s",
        model->directory, model->arch->model_type);
  if (model->format.as_filed && model->dtype == DTYPE_BF16)
    log_info(log, "%s: in bf16, as its files are in 16 bits (model.dtype auto)", model->directory);
  say_wide(model, log);
  if (model->format.int8_tables && !dtype_is_blocks(model_tensor(model, model->embedding).dtype))
    log_info(log, "%s: the embedding table stays as it is: its rows are no multiple of %d", model->directory,
             Q8_BLOCK);
}

bool base_set_length(Model *model, int64_t longest, Compute *compute, Log *log, Error *error) {
  const int64_t most = model->spec.max_positions;
  model_set_context(model, compute, longest);
  if (most == 0 || longest <= most) return true;
  if (model->spec.position == POSITION_LEARNED || model->spec.positions_end) {
    return error_set(error, ERROR_USAGE,
                     "the longest sequence has %" PRId64 " tokens, and %s has positions for %" PRId64
                     ": lower data.max_length, and of ppo rollout.max_new_tokens",
                     longest, model->directory ? model->directory : "the model", most);
  }
  if (log) {
    log_warning(log,
                "the longest sequence has %" PRId64 " tokens, more than the %" PRId64
                " that the model was made for (max_position_embeddings)",
                longest, most);
  }
  return true;
}
