#include "lora/lora.h"

#include "base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the description ---- */

void lora_spec_free(LoraSpec *spec) {
  for (size_t i = 0; i < spec->target_count; i++) memory_free(spec->targets[i]);
  for (size_t i = 0; i < spec->override_count; i++) memory_free(spec->overrides[i].module);
  memory_free(spec->targets);
  memory_free(spec->overrides);
  *spec = (LoraSpec){0};
}

bool lora_spec_target(LoraSpec *spec, const char *target, Error *error) {
  char **targets = memory_resize(spec->targets, (spec->target_count + 1) * sizeof *targets);
  if (targets) spec->targets = targets;
  char *copy = targets ? memory_copy_string(target) : NULL;
  if (!copy) return error_out_of_memory(error, "adapter targets", strlen(target));
  targets[spec->target_count++] = copy;
  return true;
}

bool lora_spec_override(LoraSpec *spec, const char *module, int r, double alpha, Error *error) {
  LoraOverride *overrides = memory_resize(spec->overrides, (spec->override_count + 1) * sizeof *overrides);
  if (overrides) spec->overrides = overrides;
  char *copy = overrides ? memory_copy_string(module) : NULL;
  if (!copy) return error_out_of_memory(error, "adapter ranks", strlen(module));
  overrides[spec->override_count++] = (LoraOverride){.module = copy, .r = r, .alpha = alpha};
  return true;
}

bool lora_spec_copy(LoraSpec *out, const LoraSpec *spec, Error *error) {
  LoraSpec copy = *spec;
  copy.targets = NULL;
  copy.overrides = NULL;
  copy.target_count = copy.override_count = 0;
  bool ok = true;
  for (size_t i = 0; ok && i < spec->target_count; i++) ok = lora_spec_target(&copy, spec->targets[i], error);
  for (size_t i = 0; ok && i < spec->override_count; i++) {
    const LoraOverride *o = &spec->overrides[i];
    ok = lora_spec_override(&copy, o->module, o->r, o->alpha, error);
  }
  if (!ok) lora_spec_free(&copy);
  *out = copy;
  return ok;
}

/* As PEFT matches: the name itself, or its end after a dot. */
static bool target_matches(const char *target, const char *name) {
  size_t length = strlen(target), whole = strlen(name);
  if (length > whole || strcmp(name + whole - length, target) != 0) return false;
  return length == whole || name[whole - length - 1] == '.';
}

static bool is_all_linear(const char *target) {
  return strcasecmp(target, "all-linear") == 0;
}

static bool spec_adapts(const LoraSpec *spec, const LoraModule *module) {
  for (size_t i = 0; i < spec->target_count; i++) {
    if (is_all_linear(spec->targets[i]) ? !module->is_head : target_matches(spec->targets[i], module->name))
      return true;
  }
  return false;
}

/* ---- opening ---- */

/* The names a user can write: the last parts of the modules' names, each once. */
static void list_names(const LoraModule *modules, int count, char *out, size_t size) {
  out[0] = '\0';
  for (int i = 0; i < count; i++) {
    const char *dot = strrchr(modules[i].name, '.');
    const char *name = dot ? dot + 1 : modules[i].name;
    bool seen = false;
    for (int j = 0; j < i && !seen; j++) seen = target_matches(name, modules[j].name);
    size_t used = strlen(out);
    if (!seen) snprintf(out + used, size - used, "%s%s", used ? ", " : "", name);
  }
}

static bool check_spec(const LoraSpec *spec, const LoraModule *modules, int count, Error *error) {
  if (spec->r < 1)
    return error_set(error, ERROR_MODEL, "adapter rank r: expected 1 or more, found %d", spec->r);
  if (!(spec->dropout >= 0 && spec->dropout < 1))
    return error_set(error, ERROR_MODEL, "adapter dropout: expected 0 or more and below 1, found %g",
                     (double)spec->dropout);
  for (size_t t = 0; t < spec->target_count; t++) {
    bool found = is_all_linear(spec->targets[t]);
    for (int i = 0; i < count && !found; i++) {
      found = target_matches(spec->targets[t], modules[i].name);
      if (found && modules[i].is_head)
        return error_set(error, ERROR_MODEL,
                         "adapter target \"%s\": an adapter on the LM head is not supported",
                         spec->targets[t]);
    }
    if (found) continue;
    char names[512];
    list_names(modules, count, names, sizeof names);
    return error_set(error, ERROR_MODEL, "adapter target \"%s\" is no linear of this model (there are: %s)",
                     spec->targets[t], names);
  }
  return spec->target_count > 0 || error_set(error, ERROR_MODEL, "the adapter has no target modules");
}

static bool open_matrix(LoraMatrix *matrix, const char *module, const char *letter, DType dtype, int64_t rows,
                        int64_t columns, bool trainable, Compute *compute, Arena *arena, Error *error) {
  matrix->name = memory_format("base_model.model.%s.lora_%s.weight", module, letter);
  if (!matrix->name) return error_out_of_memory(error, "adapter names", strlen(module));
  matrix->value = tensor_new_2d(arena, dtype, rows, columns);
  if (!trainable) return true;
  matrix->grad = tensor_new_like(arena, matrix->value, DTYPE_F32);
  if (dtype != DTYPE_F32) matrix->master = tensor_new_like(arena, matrix->value, DTYPE_F32);
  if (!arena->dry) op_fill(compute, matrix->grad, 0);
  return true;
}

static bool open_pair(LoraPair *pair, const LoraSpec *spec, const LoraModule *module, DType dtype,
                      bool trainable, Compute *compute, Arena *arena, Error *error) {
  int r = spec->r;
  double alpha = spec->alpha;
  for (size_t i = 0; i < spec->override_count; i++) {
    if (strcmp(spec->overrides[i].module, module->name) != 0) continue;
    r = spec->overrides[i].r;
    alpha = spec->overrides[i].alpha;
  }
  pair->scale = (float)(alpha / (spec->rslora ? sqrt((double)r) : (double)r));
  return open_matrix(&pair->a, module->name, "A", dtype, r, module->inputs, trainable, compute, arena,
                     error) &&
         open_matrix(&pair->b, module->name, "B", dtype, module->outputs, r, trainable, compute, arena,
                     error);
}

bool lora_open(LoraSet *set, const LoraSpec *spec, const LoraModule *modules, int module_count,
               DType base_dtype, bool trainable, Compute *compute, Arena *arena, Error *error) {
  *set = (LoraSet){0};
  if (!check_spec(spec, modules, module_count, error)) return false;
  if (!lora_spec_copy(&set->spec, spec, error)) return false;
  size_t bytes = (size_t)module_count * sizeof *set->pairs;
  set->pairs = memory_zeroed((size_t)module_count, sizeof *set->pairs);
  set->transposed = memory_zeroed((size_t)module_count, sizeof *set->transposed);
  bool ok = (set->pairs && set->transposed) || error_out_of_memory(error, "adapter", bytes);
  if (ok) set->count = module_count;
  for (int i = 0; ok && i < module_count; i++) {
    set->transposed[i] = modules[i].transposed;
    if (spec_adapts(spec, &modules[i]))
      ok = open_pair(&set->pairs[i], spec, &modules[i], compute_activation(compute, base_dtype), trainable,
                     compute, arena, error);
  }
  if (!ok) lora_free(set);
  return ok;
}

void lora_free(LoraSet *set) {
  for (int i = 0; i < set->count; i++) {
    memory_free(set->pairs[i].a.name);
    memory_free(set->pairs[i].b.name);
  }
  memory_free(set->pairs);
  memory_free(set->transposed);
  lora_spec_free(&set->spec);
  *set = (LoraSet){0};
}

/* ---- values ---- */

bool lora_initialize(LoraSet *set, Compute *compute, uint64_t seed, Error *error) {
  RandomKey key = random_key(seed, RANDOM_LORA_INIT);
  bool ok = true;
  for (int id = 0; ok && id < set->count; id++) {
    LoraPair *pair = &set->pairs[id];
    if (tensor_is_none(pair->a.value)) continue;
    const size_t count = (size_t)tensor_count(pair->a.value);
    const float bound = 1 / sqrtf((float)pair->a.value.dim[1]);
    float *values = memory_alloc(count * sizeof *values);
    if (!values) return error_out_of_memory(error, "adapter tensor", count * sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = bound * (2 * random_uniform(key, (uint64_t)id, i) - 1);
    ok = lora_upload(&pair->a, values, compute, error);
    memory_free(values);
    op_fill(compute, pair->b.value, 0);
    if (!tensor_is_none(pair->b.master)) op_fill(compute, pair->b.master, 0);
  }
  return ok;
}

static bool push_matrix(ParameterList *list, const LoraMatrix *matrix, Error *error) {
  const Parameter parameter = {.name = matrix->name,
                               .value = matrix->value,
                               .master = matrix->master,
                               .grad = matrix->grad,
                               .decay = true};
  return parameter_list_push(list, parameter, error);
}

bool lora_parameters(const LoraSet *set, ParameterList *list, Error *error) {
  for (int id = 0; id < set->count; id++) {
    const LoraPair *p = &set->pairs[id];
    if (tensor_is_none(p->a.grad)) continue;
    if (!push_matrix(list, &p->a, error) || !push_matrix(list, &p->b, error)) return false;
  }
  return true;
}

int64_t lora_parameter_count(const LoraSet *set) {
  int64_t count = 0;
  for (int id = 0; id < set->count; id++)
    if (!tensor_is_none(set->pairs[id].a.value))
      count += tensor_count(set->pairs[id].a.value) + tensor_count(set->pairs[id].b.value);
  return count;
}

/* ---- one linear ---- */

static const LoraPair *set_pair(const LoraSet *set, int id) {
  if (!set || id < 0 || id >= set->count) return NULL;
  return tensor_is_none(set->pairs[id].a.value) ? NULL : &set->pairs[id];
}

static Weight plain(Tensor data) {
  return (Weight){.data = data};
}

static const Tensor none = {0};

bool lora_forward(Compute *c, const LoraSet *set, int id, Tensor out, Tensor x, float beta, LoraState *state,
                  LoraRows rows, Arena *arena) {
  const LoraPair *pair = set_pair(set, id);
  if (!pair) return false;
  size_t outer = arena_mark(arena);
  Tensor u = tensor_new_2d(arena, x.dtype, x.dim[0], pair->a.value.dim[0]);
  size_t inner = arena_mark(arena);
  const bool dropped = state && set->spec.dropout > 0;
  DropoutSpec dropout = {0};
  if (dropped) {
    Tensor kept = tensor_new_2d(arena, x.dtype, x.dim[0], x.dim[1]);
    dropout = (DropoutSpec){.p = set->spec.dropout,
                            .key = set->dropout_key,
                            .site = (uint32_t)id,
                            .draws = rows.draws,
                            .positions = rows.positions};
    op_dropout(c, kept, x, dropout);
    x = kept;
  }
  op_linear(c, u, x, plain(pair->a.value), none, 1, 0);
  if (!tensor_is_none(out)) op_linear(c, out, u, plain(pair->b.value), none, pair->scale, beta);
  arena_release(arena, state ? inner : outer);
  if (state) *state = (LoraState){.u = u, .dropped = dropped, .dropout = dropout};
  return true;
}

bool lora_backward(Compute *c, const LoraSet *set, int id, Tensor dx, Tensor dout, Tensor x, float beta,
                   const LoraState *state, Arena *arena) {
  const LoraPair *pair = set_pair(set, id);
  if (!pair) return false;
  size_t mark = arena_mark(arena);
  Tensor du = tensor_new_2d(arena, x.dtype, x.dim[0], pair->a.value.dim[0]);
  op_linear_backward_input(c, du, dout, plain(pair->b.value), pair->scale, 0);
  Tensor dropped = none; /* first dropout(x), then the gradient of it */
  if (state->dropped) dropped = tensor_new_2d(arena, x.dtype, x.dim[0], x.dim[1]);
  if (!tensor_is_none(pair->a.grad)) {
    op_linear_backward_weight(c, plain(pair->b.grad), none, dout, state->u, pair->scale);
    if (state->dropped) op_dropout(c, dropped, x, state->dropout);
    op_linear_backward_weight(c, plain(pair->a.grad), none, du, state->dropped ? dropped : x, 1);
  }
  if (!tensor_is_none(dx) && state->dropped) {
    op_linear_backward_input(c, dropped, du, plain(pair->a.value), 1, 0);
    op_dropout(c, dropped, dropped, state->dropout);
    op_axpby(c, dx, dropped, 1, beta);
  } else if (!tensor_is_none(dx)) {
    op_linear_backward_input(c, dx, du, plain(pair->a.value), 1, beta);
  }
  arena_release(arena, mark);
  return true;
}

/* ---- merging ---- */

static void add_product(float *weight, const float *a, const float *b, int64_t inputs, int64_t outputs,
                        int64_t r, float scale, bool transposed) {
  int64_t rows = transposed ? inputs : outputs, columns = transposed ? outputs : inputs;
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < rows; row++) {
    float *w = weight + row * columns;
    for (int64_t k = 0; k < r; k++) {
      /* [O,I]: row o gets b[o,k] * a[k,:];  [I,O]: row i gets a[k,i] * b[:,k] */
      float factor = scale * (transposed ? a[k * inputs + row] : b[row * r + k]);
      if (transposed)
        for (int64_t j = 0; j < columns; j++) w[j] += factor * b[j * r + k];
      else
        for (int64_t j = 0; j < columns; j++) w[j] += factor * a[k * inputs + j];
    }
  }
}

float *lora_download(const LoraMatrix *matrix, Compute *compute, Error *error) {
  const Tensor exact = tensor_is_none(matrix->master) ? matrix->value : matrix->master;
  const size_t count = (size_t)tensor_count(exact), bytes = count * sizeof(float);
  float *values = memory_alloc(bytes);
  if (!values) {
    error_out_of_memory(error, "adapter tensor", bytes);
    return NULL;
  }
  /* A narrow tensor comes into the upper half and is widened from the front, which never overtakes it. */
  void *raw = (char *)values + (bytes - tensor_bytes(exact));
  compute_download(compute, raw, exact);
  if (exact.dtype != DTYPE_F32) dtype_convert(values, DTYPE_F32, raw, exact.dtype, count);
  return values;
}

bool lora_upload(const LoraMatrix *matrix, const float *values, Compute *compute, Error *error) {
  const Tensor value = matrix->value;
  if (!tensor_is_none(matrix->master)) compute_upload(compute, matrix->master, values);
  if (value.dtype == DTYPE_F32) {
    compute_upload(compute, value, values);
    return true;
  }
  void *narrow = memory_alloc(tensor_bytes(value));
  if (!narrow) return error_out_of_memory(error, "adapter tensor", tensor_bytes(value));
  dtype_convert(narrow, value.dtype, values, DTYPE_F32, (size_t)tensor_count(value));
  compute_upload(compute, value, narrow);
  memory_free(narrow);
  return true;
}

bool lora_merge(const LoraSet *set, int id, float *weight, Compute *compute, Error *error) {
  const LoraPair *pair = set_pair(set, id);
  if (!pair) return true;
  float *a = lora_download(&pair->a, compute, error), *b = a ? lora_download(&pair->b, compute, error) : NULL;
  const bool ok = a && b;
  if (ok) {
    add_product(weight, a, b, pair->a.value.dim[1], pair->b.value.dim[0], pair->a.value.dim[0], pair->scale,
                set->transposed[id]);
  }
  memory_free(a);
  memory_free(b);
  return ok;
}
