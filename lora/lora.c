#include "lora/modules.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

/* ---- opening ---- */

typedef enum Part { PART_VALUE, PART_GRAD, PART_MASTER, PARTS } Part;

/* What all modules of a set are opened with. */
typedef struct Opening {
  LoraSet *set;
  DType base_dtype;
  bool trainable;
  Compute *compute;
  Arena *part; /* [PARTS] memory of values, gradients, masters, each kind together */
  bool dry;
} Opening;

static const LoraOverride *override_of(const LoraSpec *spec, const LoraModule *module) {
  for (size_t i = 0; i < spec->override_count; i++)
    if (strcmp(spec->overrides[i].module, module->name) == 0) return &spec->overrides[i];
  return NULL;
}

static int rank_of(const LoraSpec *spec, const LoraModule *module) {
  const LoraOverride *own = override_of(spec, module);
  return own ? own->r : spec->r;
}

static char *tensor_name(const char *module, const char *end, Error *error) {
  char *name = memory_format("base_model.model.%s.%s", module, end);
  if (!name) error_out_of_memory(error, "adapter names", strlen(module));
  return name;
}

/* columns 0: a vector */
static void place(const Opening *o, LoraMatrix *matrix, DType dtype, int64_t rows, int64_t columns,
                  bool trainable) {
  Arena *values = &o->part[PART_VALUE];
  matrix->value = columns ? tensor_new_2d(values, dtype, rows, columns) : tensor_new_1d(values, dtype, rows);
  if (trainable) matrix->grad = tensor_new_like(&o->part[PART_GRAD], matrix->value, DTYPE_F32);
  if (trainable && dtype != DTYPE_F32)
    matrix->master = tensor_new_like(&o->part[PART_MASTER], matrix->value, DTYPE_F32);
}

/* Its memory may have been taken before. */
static bool open_matrix(const Opening *o, LoraMatrix *matrix, const char *module, const char *end,
                        DType dtype, int64_t rows, int64_t columns, bool trainable, Error *error) {
  matrix->name = tensor_name(module, end, error);
  if (!matrix->name) return false;
  if (tensor_is_none(matrix->value)) place(o, matrix, dtype, rows, columns, trainable);
  if (trainable && !o->dry) op_fill(o->compute, matrix->grad, 0);
  return true;
}

static float scale_of(const LoraSpec *spec, const LoraModule *module, int64_t r) {
  const LoraOverride *own = override_of(spec, module);
  const double alpha = own ? own->alpha : spec->alpha;
  return (float)(alpha / (spec->rslora ? sqrt((double)r) : (double)r));
}

static bool open_pair(const Opening *o, int id, Error *error) {
  const LoraModule *module = &o->set->modules[id];
  const LoraSpec *spec = &o->set->spec;
  const int r = rank_of(spec, module);
  const DType dtype = compute_activation(o->compute, o->base_dtype);
  LoraPair *pair = &o->set->pairs[id];
  pair->scale = scale_of(spec, module, r);
  const bool table = module->kind == LORA_EMBEDDING;
  pair->a.turned = table; /* a token's column of A is a row to look up */
  return open_matrix(o, &pair->a, module->name, table ? "lora_embedding_A" : "lora_A.weight", dtype,
                     table ? module->inputs : r, table ? r : module->inputs, o->trainable, error) &&
         open_matrix(o, &pair->b, module->name, table ? "lora_embedding_B" : "lora_B.weight", dtype,
                     module->outputs, r, o->trainable, error);
}

static bool open_copy(const Opening *o, int id, const LoraCarried *carried, Error *error) {
  const LoraModule *module = &o->set->modules[id];
  LoraCopy *copy = &o->set->copies[id];
  const bool named = carried && carried->base_layer;
  copy->frozen = carried != NULL;
  const bool trainable = o->trainable && !carried;
  const Tensor weight = module->weight, bias = module->bias;
  return open_matrix(o, &copy->weight, module->name, named ? "base_layer.weight" : "weight", o->base_dtype,
                     weight.dim[0], weight.dim[1], trainable, error) &&
         (tensor_is_none(bias) ||
          open_matrix(o, &copy->bias, module->name, named ? "base_layer.bias" : "bias", o->base_dtype,
                      bias.dim[0], 0, trainable, error));
}

static bool open_module(const Opening *o, int id, bool copied, bool paired, Error *error) {
  const LoraSpec *spec = &o->set->spec;
  const LoraModule *module = &o->set->modules[id];
  const LoraCarried *carried = copied || module->kind == LORA_LINEAR ? NULL : lora_spec_carries(spec, module);
  return ((!copied && !carried) || open_copy(o, id, carried, error)) &&
         (copied || !paired || open_pair(o, id, error));
}

static bool share_matrix(LoraMatrix *out, const LoraMatrix *of, bool turned, const char *module,
                         const char *end, Error *error) {
  *out = *of;
  out->turned = turned;
  out->name = end ? tensor_name(module, end, error) : NULL;
  return !end || out->name;
}

/* The head's A is the table's B transposed, and the other way round. */
static bool share_pair(LoraSet *set, int table, int head, Error *error) {
  const LoraPair *of = &set->pairs[table];
  LoraPair *pair = &set->pairs[head];
  const LoraModule *module = &set->modules[head];
  pair->shared = true;
  pair->scale = scale_of(&set->spec, module, of->b.value.dim[1]);
  return share_matrix(&pair->a, &of->b, true, module->name, "lora_A.weight", error) &&
         share_matrix(&pair->b, &of->a, false, module->name, "lora_B.weight", error);
}

/* end NULL: no file has it under the head's name */
static bool share_copy(LoraSet *set, int table, int head, const char *end, Error *error) {
  LoraCopy *copy = &set->copies[head];
  copy->shared = true;
  copy->frozen = set->copies[table].frozen;
  return share_matrix(&copy->weight, &set->copies[table].weight, false, set->modules[head].name, end, error);
}

/* The head of a tied model, after its table. */
static bool open_tied_head(const Opening *o, int table, int head, Error *error) {
  LoraSet *set = o->set;
  const LoraModule *module = &set->modules[head];
  const LoraTie tie = lora_spec_tie(&set->spec);
  if (tie == LORA_TIE_COPY) return share_copy(set, table, head, "weight", error);
  const bool copied = lora_spec_copies(&set->spec, module);
  const LoraCarried *carried = lora_spec_carries(&set->spec, module);
  /* A carried table is the base's table: the head's too. */
  if (!copied && set->copies[table].frozen) {
    const char *end = carried ? (carried->base_layer ? "base_layer.weight" : "weight") : NULL;
    if (!share_copy(set, table, head, end, error)) return false;
  } else if (!open_module(o, head, copied, false, error)) {
    return false;
  }
  if (tie == LORA_TIE_PAIR) return share_pair(set, table, head, error);
  return copied || !lora_spec_adapts(&set->spec, module) || open_pair(o, head, error);
}

/* Those of the modules from `first` on that are joined and adapted have their As under each other, and so the gradients. */
static void place_joined(const Opening *o, int first) {
  const LoraSpec *spec = &o->set->spec;
  const DType dtype = compute_activation(o->compute, o->base_dtype);
  int end = first + 1;
  while (end < o->set->count && o->set->modules[end].joined) end++;
  for (int id = first; id < end; id++) {
    const LoraModule *module = &o->set->modules[id];
    if (lora_spec_adapts(spec, module))
      place(o, &o->set->pairs[id].a, dtype, rank_of(spec, module), module->inputs, o->trainable);
  }
}

static bool open_modules(const Opening *o, Error *error) {
  LoraSet *set = o->set;
  const LoraSpec *spec = &set->spec;
  const LoraTie tie = lora_spec_tie(spec);
  int table = -1, head = -1;
  for (int id = 0; id < set->count; id++) {
    if (set->modules[id].kind == LORA_EMBEDDING) table = id;
    if (set->modules[id].kind == LORA_HEAD && !spec->sequence_classification) head = id;
  }
  const bool tied = head >= 0 && set->modules[head].tied;
  for (int id = 0; id < set->count; id++) {
    const LoraModule *module = &set->modules[id];
    if (module->kind == LORA_HEAD && (id != head || tied)) continue;
    const bool forced = id == table && tied;
    if (module->kind == LORA_LINEAR && !module->joined) place_joined(o, id);
    if (!open_module(o, id, lora_spec_copies(spec, module) || (forced && tie == LORA_TIE_COPY),
                     lora_spec_adapts(spec, module) || (forced && tie == LORA_TIE_PAIR), error))
      return false;
  }
  return !tied || open_tied_head(o, table, head, error);
}

static bool make_tables(LoraSet *set, const LoraSpec *spec, const LoraModule *modules, int module_count,
                        Error *error) {
  *set = (LoraSet){.modules = modules};
  if (!lora_spec_copy(&set->spec, spec, error)) return false;
  if (spec->sequence_classification) lora_spec_leave_head(&set->spec, modules, module_count);
  set->pairs = memory_zeroed((size_t)module_count, sizeof *set->pairs);
  set->copies = memory_zeroed((size_t)module_count, sizeof *set->copies);
  if (!set->pairs || !set->copies)
    return error_out_of_memory(error, "adapter", (size_t)module_count * sizeof *set->pairs);
  set->count = module_count;
  return set->spec.target_count > 0 ||
         error_set(error, ERROR_MODEL, "the adapter has no target modules (lora.targets)");
}

/* How much memory each kind takes: by opening all once in dry arenas. */
static bool sizes_of(const Opening *opening, const LoraSpec *spec, size_t bytes[PARTS], Error *error) {
  LoraSet set;
  Arena parts[PARTS];
  Opening dry = *opening;
  dry.set = &set;
  dry.part = parts;
  dry.dry = true;
  for (int i = 0; i < PARTS; i++) arena_init_dry(&parts[i], "adapter");
  const bool ok =
      make_tables(&set, spec, opening->set->modules, opening->set->count, error) && open_modules(&dry, error);
  for (int i = 0; i < PARTS; i++) bytes[i] = parts[i].peak;
  lora_free(&set);
  return ok;
}

bool lora_open(LoraSet *set, const LoraSpec *spec, const LoraModule *modules, int module_count,
               DType base_dtype, bool trainable, Compute *compute, Arena *arena, Error *error) {
  size_t bytes[PARTS];
  Arena parts[PARTS];
  *set = (LoraSet){0};
  const Opening opening = {set, base_dtype, trainable, compute, parts, arena->dry};
  bool ok = lora_spec_check(spec, modules, module_count, error) &&
            make_tables(set, spec, modules, module_count, error) && sizes_of(&opening, spec, bytes, error);
  for (int i = 0; ok && i < PARTS; i++)
    arena_init_over(&parts[i], "adapter", arena_alloc(arena, bytes[i]), bytes[i]);
  ok = ok && open_modules(&opening, error);
  if (!ok) lora_free(set);
  return ok;
}

void lora_free(LoraSet *set) {
  for (int i = 0; i < set->count; i++) {
    memory_free(set->pairs[i].a.name);
    memory_free(set->pairs[i].b.name);
    memory_free(set->copies[i].weight.name);
    memory_free(set->copies[i].bias.name);
  }
  memory_free(set->pairs);
  memory_free(set->copies);
  lora_spec_free(&set->spec);
  *set = (LoraSet){0};
}

/* ---- what there is ---- */

const LoraPair *lora_pair(const LoraSet *set, int id) {
  if (!set || id < 0 || id >= set->count) return NULL;
  return tensor_is_none(set->pairs[id].a.value) ? NULL : &set->pairs[id];
}

const LoraCopy *lora_copy(const LoraSet *set, int id) {
  if (!set || id < 0 || id >= set->count) return NULL;
  return tensor_is_none(set->copies[id].weight.value) ? NULL : &set->copies[id];
}

bool lora_keeps_tie(const LoraSet *set, int table, int head) {
  const LoraPair *pair = lora_pair(set, head);
  const LoraCopy *copy = lora_copy(set, head);
  const LoraPair *of = lora_pair(set, table);
  return (pair ? pair->shared && pair->scale == of->scale : !of) &&
         (copy ? copy->shared : !lora_copy(set, table));
}

static bool push_matrix(ParameterList *list, const LoraMatrix *matrix, int layer, Error *error) {
  if (tensor_is_none(matrix->grad)) return true;
  const Parameter parameter = {.name = matrix->name,
                               .layer = layer,
                               .value = matrix->value,
                               .master = matrix->master,
                               .grad = matrix->grad,
                               .decay = matrix->value.rank > 1};
  return parameter_list_push(list, parameter, error);
}

bool lora_parameters(const LoraSet *set, ParameterList *list, Error *error) {
  for (int id = 0; id < set->count; id++) {
    const LoraPair *p = &set->pairs[id];
    const LoraCopy *c = &set->copies[id];
    const int layer = set->modules[id].layer;
    if (!p->shared && (!push_matrix(list, &p->a, layer, error) || !push_matrix(list, &p->b, layer, error)))
      return false;
    if (!c->shared &&
        (!push_matrix(list, &c->weight, layer, error) || !push_matrix(list, &c->bias, layer, error)))
      return false;
  }
  return true;
}

static int64_t numbers(const LoraMatrix *matrix) {
  return tensor_is_none(matrix->value) ? 0 : tensor_count(matrix->value);
}

int64_t lora_parameter_count(const LoraSet *set) {
  int64_t count = 0;
  for (int id = 0; id < set->count; id++) {
    const LoraPair *p = &set->pairs[id];
    const LoraCopy *c = &set->copies[id];
    if (!p->shared) count += numbers(&p->a) + numbers(&p->b);
    if (!c->shared && !c->frozen) count += numbers(&c->weight) + numbers(&c->bias);
  }
  return count;
}
