/* Builds a model's tables from its configuration: which tensors there are, under which names, and which part
 * each plays. */
#include "model/weights.h"

#include "base/file.h"
#include "base/json.h"
#include "compute/q8.h"
#include "formats/weight_files.h"
#include "model/source.h"

#include <string.h>

typedef struct Builder {
  Model *model;
  Compute *compute;
  Arena *arena;
  const char *prefix; /* of tensor names: the architecture's, or "" where the files have none */
  int layer;          /* the block at hand, or BEFORE_BLOCKS, BEHIND_BLOCKS */
  Error *error;       /* once it is set, building goes on to nothing */
} Builder;

static bool failed(const Builder *b) {
  return b->error->code != ERROR_NONE;
}

/* Lists PREFIX LAYER MODULE.END. Returns its index, or -1 after an error. */
static int list_tensor(Builder *b, const char *prefix, const char *layer, const char *module, const char *end,
                       Tensor value) {
  if (failed(b)) return -1;
  Model *m = b->model;
  char *name = memory_format("%s%s%s.%s", prefix, layer, module, end);
  if (!name) {
    error_out_of_memory(b->error, "tensor names", 0);
    return -1;
  }
  m->tensors[m->tensor_count] = (ModelTensor){.name = name, .value = value, .layer = b->layer};
  return m->tensor_count++;
}

/* The same with memory for it. */
static int add_tensor_of(Builder *b, DType dtype, const char *prefix, const char *layer, const char *module,
                         const char *end, int rank, int64_t rows, int64_t columns) {
  if (failed(b)) return -1;
  return list_tensor(
      b, prefix, layer, module, end,
      rank == 1 ? tensor_new_1d(b->arena, dtype, rows) : tensor_new_2d(b->arena, dtype, rows, columns));
}

static int add_tensor(Builder *b, const char *prefix, const char *layer, const char *module, const char *end,
                      int rank, int64_t rows, int64_t columns) {
  return add_tensor_of(b, b->model->dtype, prefix, layer, module, end, rank, rows, columns);
}

/* Rows that are normalised as they are read (head_normalized) are not those of the file. */
static DType table_dtype(const Model *m, int64_t rows, int64_t columns) {
  const bool blocks = m->format.int8_tables && !m->spec.head_normalized && q8_fits(rows, columns);
  return blocks ? DTYPE_Q8 : m->dtype;
}

/* The table of embeddings or of the head. `head`: logits are made with it. */
static int add_table(Builder *b, const char *prefix, const char *module, bool head) {
  const Model *m = b->model;
  const int64_t rows = m->spec.vocab, columns = model_width(&m->spec);
  const DType dtype = table_dtype(m, rows, columns);
  if (!head || dtype_is_blocks(dtype))
    return add_tensor_of(b, dtype, prefix, "", module, "weight", 2, rows, columns);
  if (failed(b)) return -1;
  return list_tensor(b, prefix, "", module, "weight",
                     model_table_new(b->compute, b->arena, dtype, rows, columns));
}

static Norm add_norm(Builder *b, const char *layer, const char *module, int64_t size, bool bias) {
  Norm norm = {-1, -1};
  if (!module) return norm;
  norm.weight = add_tensor(b, b->prefix, layer, module, "weight", 1, size, 0);
  if (bias) norm.bias = add_tensor(b, b->prefix, layer, module, "bias", 1, size, 0);
  return norm;
}

/* A norm whose heads have weights of their own: one tensor of all, or (a name with "%d") one each, in order. */
static Norm add_heads_norm(Builder *b, const char *layer, const char *module, int64_t heads) {
  Norm norm = {-1, -1};
  const int64_t size = b->model->spec.head_size;
  if (!strstr(module, "%d")) {
    norm.weight = add_tensor(b, b->prefix, layer, module, "weight", 2, heads, size);
    return norm;
  }
  for (int64_t h = 0; h < heads; h++) {
    char name[128];
    snprintf(name, sizeof name, module, (int)h);
    const int index = add_tensor(b, b->prefix, layer, name, "weight", 1, size, 0);
    if (h == 0) norm.weight = index;
  }
  return norm;
}

static Norm add_qk_norm(Builder *b, const char *layer, NormRole role) {
  const Model *m = b->model;
  const ModelSpec *s = &m->spec;
  const char *module = m->arch->norm[role];
  const int64_t heads = role == NORM_Q ? s->heads : s->kv_heads;
  if (s->qk_norm == QK_NORM_NONE) module = NULL;
  if (module && s->qk_norm == QK_NORM_HEADS) return add_heads_norm(b, layer, module, heads);
  const int64_t size = s->qk_norm == QK_NORM_ALL ? heads * s->head_size : s->head_size;
  return add_norm(b, layer, module, size, m->arch->qk_norm_bias);
}

static bool has_bias(const Model *m, LinearRole role) {
  return m->arch->bias ? m->arch->bias(m->config, role) : m->arch->linear_bias[role];
}

static void linear_shape(const ModelSpec *s, LinearRole role, int64_t *inputs, int64_t *outputs) {
  const int64_t q = s->heads * s->head_size, kv = s->kv_heads * s->head_size;
  const int64_t shape[LINEAR_ROLES][2] = {[LINEAR_QKV] = {s->hidden, q + 2 * kv},
                                          [LINEAR_Q] = {s->hidden, q},
                                          [LINEAR_K] = {s->hidden, kv},
                                          [LINEAR_V] = {s->hidden, kv},
                                          [LINEAR_O] = {q, s->hidden},
                                          [LINEAR_GATE_UP] = {s->hidden, 2 * s->intermediate},
                                          [LINEAR_GATE] = {s->hidden, s->intermediate},
                                          [LINEAR_UP] = {s->hidden, s->intermediate},
                                          [LINEAR_DOWN] = {s->intermediate, s->hidden}};
  *inputs = shape[role][0];
  *outputs = shape[role][1];
}

/* Adds PREFIX LAYER NAME; the rest of the module is given. Returns its index, or -1 after an error. */
static int add_module(Builder *b, const char *prefix, const char *layer, const char *name,
                      LoraModule module) {
  if (failed(b)) return -1;
  Model *m = b->model;
  module.name = memory_format("%s%s%s", prefix, layer, name);
  if (!module.name) {
    error_out_of_memory(b->error, "module names", 0);
    return -1;
  }
  m->modules[m->module_count] = module;
  return m->module_count++;
}

/* Of a linear's weight. */
static DType linear_dtype(const Builder *b, int64_t outputs, int64_t inputs) {
  const WeightFormat *format = &b->model->format;
  if (format->quantize == MODEL_QUANTIZE_INT8 && q8_fits(outputs, inputs)) return DTYPE_Q8;
  if (format->quantize == MODEL_QUANTIZE_NF4 && nf4_fits(outputs, inputs))
    return format->plain_scales || b->compute->backend->nf4_wide_scales ? DTYPE_NF4_PLAIN : DTYPE_NF4;
  return b->model->dtype;
}

/* A bias has no memory yet (place_biases). */
static Linear add_linear(Builder *b, const char *layer, const char *name, int64_t inputs, int64_t outputs,
                         bool bias) {
  Linear linear = {-1, -1, -1};
  const Model *m = b->model;
  const DType dtype = linear_dtype(b, outputs, inputs);
  const bool t = m->arch->transposed;
  if (dtype_is_blocks(dtype)) {
    linear.weight = add_tensor_of(b, dtype, b->prefix, layer, name, "weight", 2, outputs, inputs);
    if (!failed(b)) b->model->tensors[linear.weight].turned = t;
  } else {
    linear.weight =
        add_tensor(b, b->prefix, layer, name, "weight", 2, t ? inputs : outputs, t ? outputs : inputs);
  }
  if (bias) linear.bias = list_tensor(b, b->prefix, layer, name, "bias", tensor_1d(NULL, m->dtype, outputs));
  /* An adapter's names are those of the whole causal LM, with the prefix, however the files spell it. */
  linear.id = add_module(b, m->arch->prefix, layer, name,
                         (LoraModule){.inputs = inputs,
                                      .outputs = outputs,
                                      .layer = b->layer,
                                      .transposed = t,
                                      .kind = LORA_LINEAR,
                                      .weight = model_tensor(m, linear.weight)});
  return linear;
}

/* Behind all weights of a block, so that those of linears with the same input lie side by side, and so do their biases. */
static void place_biases(Builder *b, const Block *block) {
  Model *m = b->model;
  for (int role = 0; role < LINEAR_ROLES && !failed(b); role++) {
    const Linear linear = block->linear[role];
    if (linear.bias < 0) continue;
    Tensor *bias = &m->tensors[linear.bias].value;
    *bias = tensor_new_1d(b->arena, bias->dtype, bias->dim[0]);
    m->modules[linear.id].bias = *bias;
  }
}

static Linear add_role(Builder *b, const char *layer, LinearRole role) {
  const Model *m = b->model;
  int64_t inputs, outputs;
  if (!m->arch->linear[role]) return (Linear){-1, -1, -1};
  linear_shape(&m->spec, role, &inputs, &outputs);
  const Linear linear = add_linear(b, layer, m->arch->linear[role], inputs, outputs, has_bias(m, role));
  if (!failed(b))
    b->model->modules[linear.id].joined = role == LINEAR_K || role == LINEAR_V || role == LINEAR_UP;
  return linear;
}

/* One norm of a parallel block may serve both branches. */
static bool has_norm(const Model *m, NormRole role) {
  return role != NORM_MLP || !m->spec.parallel || !m->spec.parallel_shared;
}

static void add_block(Builder *b, int64_t index) {
  const Model *m = b->model;
  char layer[64];
  snprintf(layer, sizeof layer, m->arch->layer, (int)index);
  Block *block = &b->model->blocks[index];
  for (int role = 0; role < LINEAR_ROLES; role++) block->linear[role] = add_role(b, layer, (LinearRole)role);
  place_biases(b, block);
  for (int role = 0; role < NORM_Q; role++)
    block->norm[role] = add_norm(b, layer, has_norm(m, (NormRole)role) ? m->arch->norm[role] : NULL,
                                 m->spec.hidden, m->arch->norm_bias);
  block->norm[NORM_Q] = add_qk_norm(b, layer, NORM_Q);
  block->norm[NORM_K] = add_qk_norm(b, layer, NORM_K);
}

/* The linears around the blocks of a model whose tables are narrower than its blocks. */
static void add_projections(Builder *b) {
  Model *m = b->model;
  const ModelSpec *s = &m->spec;
  m->project_in = m->project_out = (Linear){-1, -1, -1};
  if (model_width(s) == s->hidden) return;
  m->project_in = add_linear(b, "", m->arch->project_in, s->embedding_size, s->hidden, false);
  m->project_out = add_linear(b, "", m->arch->project_out, s->hidden, s->embedding_size, false);
}

static void add_head(Builder *b) {
  Model *m = b->model;
  m->head = m->head_bias = -1;
  if (architecture_is_score(m->arch, m->config)) return;
  m->head = m->embedding;
  if (m->spec.head_bias) m->head_bias = add_tensor(b, "", "", m->arch->head, "bias", 1, m->spec.vocab, 0);
  if (!m->spec.tied) m->head = add_table(b, "", m->arch->head, true);
}

/* The modules of head and table. A head whose rows are normalised is no linear, and takes no adapter. */
static void add_table_modules(Builder *b) {
  Model *m = b->model;
  const int64_t width = model_width(&m->spec);
  m->head_id = m->embedding_id = -1;
  if (failed(b)) return;
  if (m->head >= 0 && !m->spec.head_normalized)
    m->head_id = add_module(b, "", "", m->arch->head,
                            (LoraModule){.inputs = width,
                                         .outputs = m->spec.vocab,
                                         .layer = BEHIND_BLOCKS,
                                         .kind = LORA_HEAD,
                                         .tied = m->spec.tied,
                                         .weight = model_tensor(m, m->head),
                                         .bias = model_tensor(m, m->head_bias)});
  m->embedding_id = add_module(b, m->arch->prefix, "", m->arch->embedding,
                               (LoraModule){.inputs = m->spec.vocab,
                                            .outputs = width,
                                            .layer = BEFORE_BLOCKS,
                                            .transposed = true,
                                            .kind = LORA_EMBEDDING,
                                            .weight = model_tensor(m, m->embedding)});
}

static void upload_floats(Compute *compute, Arena *arena, Tensor *out, const float *values, int64_t count) {
  *out = tensor_new_1d(arena, DTYPE_F32, count);
  if (!arena->dry) compute_upload(compute, *out, values);
}

/* Rotary frequencies and ALiBi slopes: small, computed once. */
static void add_positions(Builder *b) {
  Model *m = b->model;
  const ModelSpec *s = &m->spec;
  int64_t count = s->position == POSITION_ALIBI ? s->heads : s->rotary_size / 2;
  float *values = memory_alloc((size_t)count * sizeof *values);
  if (!values) {
    error_out_of_memory(b->error, "position tables", (size_t)count * sizeof *values);
    return;
  }
  if (s->position == POSITION_ALIBI) {
    alibi_slopes(s, values);
    upload_floats(b->compute, b->arena, &m->alibi, values, count);
  }
  for (int i = 0; s->position == POSITION_ROTARY && i < (s->rope_by_window ? 2 : 1); i++) {
    rope_frequencies(i ? &s->rope_local : &s->rope, s->rotary_size, values, &m->rope_scale[i]);
    upload_floats(b->compute, b->arena, &m->rope_frequency[i], values, count);
  }
  memory_free(values);
}

static void add_all_blocks(Builder *b) {
  for (int layer = 0; layer < b->model->spec.layers; layer++) {
    b->layer = layer;
    const WeightFormat *format = &b->model->format;
    if (format->sliced || format->filed) arena_release(b->arena, 0); /* each where the one before it is */
    add_block(b, layer);
  }
}

/* Moves what was placed from `from` on. Integer arithmetic: the addresses are dry, or may be. */
static Tensor moved(Tensor x, const void *from, const void *to) {
  if (!tensor_is_none(x)) x.data = (void *)((uintptr_t)to + ((uintptr_t)x.data - (uintptr_t)from));
  return x;
}

static void move_block(Model *m, int layer, const void *from, const void *to) {
  for (int i = 0; i < m->tensor_count; i++)
    if (m->tensors[i].layer == layer) m->tensors[i].value = moved(m->tensors[i].value, from, to);
  for (int role = 0; role < LINEAR_ROLES; role++) {
    const Linear linear = m->blocks[layer].linear[role];
    if (linear.id < 0) continue;
    m->modules[linear.id].weight = model_tensor(m, linear.weight);
    m->modules[linear.id].bias = model_tensor(m, linear.bias);
  }
}

static bool cut_block(Builder *b, int layer, Tensor *tensors) {
  const Model *m = b->model;
  int64_t count = 0;
  for (int i = model_next_in_memory(m, layer, -1); i >= 0; i = model_next_in_memory(m, layer, i))
    tensors[count++] = m->tensors[i].value;
  return block_weights_cut(m->block_weights, layer, tensors, count, &b->compute->comm, b->arena, b->error);
}

/* All at one place of an arena without memory, whose peak is the largest block. */
static Arena add_blocks_dry(Builder *b) {
  Arena *arena = b->arena, block;
  arena_init_dry(&block, "block");
  b->arena = &block;
  add_all_blocks(b);
  b->arena = arena;
  return block;
}

/* In two slots, as large as the largest block, and of each block this rank's slice. */
static void add_sliced_blocks(Builder *b) {
  Model *m = b->model;
  Arena *arena = b->arena;
  const Arena block = add_blocks_dry(b);
  if (failed(b)) return;
  const void *const slots[] = {arena_alloc(arena, block.peak), arena_alloc(arena, block.peak)};
  Tensor *tensors = memory_zeroed((size_t)m->tensor_count, sizeof *tensors);
  m->block_weights = block_weights_new(m->spec.layers, &b->compute->comm, b->error);
  bool ok = m->block_weights &&
            (tensors || error_out_of_memory(b->error, "tensors", (size_t)m->tensor_count * sizeof *tensors));
  for (int layer = 0; ok && layer < m->spec.layers; layer++) {
    move_block(m, layer, block.base, slots[layer % 2]);
    ok = cut_block(b, layer, tensors);
  }
  memory_free(tensors);
}

/* In one room, as large as the largest block. */
static void add_filed_blocks(Builder *b) {
  Model *m = b->model;
  Arena *arena = b->arena;
  const Arena block = add_blocks_dry(b);
  if (failed(b)) return;
  const void *room = arena_alloc(arena, block.peak);
  for (int layer = 0; layer < m->spec.layers; layer++) move_block(m, layer, block.base, room);
  m->filed = filed_blocks_new(m->spec.layers, m->tensor_count, b->error);
}

static bool allocate_tables(Model *m, Error *error) {
  const size_t layers = (size_t)m->spec.layers;
  const size_t heads = (size_t)(m->spec.heads + m->spec.kv_heads); /* norms with a tensor per head */
  const size_t most = 16 + layers * (2 * (LINEAR_ROLES + NORM_ROLES) + heads);
  m->tensors = memory_zeroed(most, sizeof *m->tensors);
  m->blocks = memory_zeroed(layers, sizeof *m->blocks);
  m->modules =
      memory_zeroed(layers * LINEAR_ROLES + 4, sizeof *m->modules); /* and table, head and projections */
  return (m->tensors && m->blocks && m->modules) ||
         error_out_of_memory(error, "model tables", most * sizeof *m->tensors);
}

static void add_all(Builder *b) {
  Model *m = b->model;
  const Architecture *arch = m->arch;
  m->embedding =
      add_table(b, b->prefix, arch->embedding, m->spec.tied && !architecture_is_score(m->arch, m->config));
  m->positions = -1;
  if (arch->positions)
    m->positions = add_tensor(b, b->prefix, "", arch->positions, "weight", 2,
                              m->spec.max_positions + m->spec.position_offset, m->spec.hidden);
  m->embedding_norm =
      add_norm(b, "", m->spec.embedding_norm ? arch->embedding_norm : NULL, m->spec.hidden, arch->norm_bias);
  add_projections(b);
  if (m->format.sliced) {
    add_sliced_blocks(b);
  } else if (m->format.filed) {
    add_filed_blocks(b);
  } else {
    add_all_blocks(b);
  }
  b->layer = BEHIND_BLOCKS;
  m->final_norm =
      add_norm(b, "", m->spec.final_norm ? arch->final_norm : NULL, m->spec.hidden, arch->norm_bias);
  add_head(b);
  add_table_modules(b);
  add_positions(b);
}

static bool open_with_prefix(Model *model, const json_t *config, const char *prefix, WeightFormat format,
                             Compute *compute, Arena *arena, Error *error) {
  ASSERT(format.dtype == DTYPE_F32 || format.dtype == DTYPE_BF16);
  *model = (Model){.format = format, .dtype = format.dtype};
  Error local = {0};
  model->arch = architecture_find(config, &local);
  model->config = json_deep_copy(config);
  json_object_del(model->config, "quantization_config"); /* what is saved is not quantised */
  if (model->arch && architecture_read(model->arch, config, &model->spec, &local) &&
      allocate_tables(model, &local)) {
    Builder builder = {.model = model,
                       .compute = compute,
                       .arena = arena,
                       .prefix = prefix ? prefix : model->arch->prefix,
                       .layer = BEFORE_BLOCKS,
                       .error = &local};
    add_all(&builder);
  }
  if (local.code == ERROR_NONE) return true;
  model_free(model);
  return error_set(error, local.code, "%s", local.message);
}

bool model_open_config(Model *model, const json_t *config, WeightFormat format, Compute *compute,
                       Arena *arena, Error *error) {
  return open_with_prefix(model, config, NULL, format, compute, arena, error);
}

/* Whether the embedding table of the files is called PREFIX MODULE. */
static bool has_prefix(const WeightFiles *files, const Architecture *arch, const char *prefix, bool *found,
                       Error *error) {
  char *name = memory_format("%s%s.weight", prefix, arch->embedding);
  *found = name && weight_files_find(files, name);
  memory_free(name);
  return name || error_out_of_memory(error, "tensor name", 0);
}

/* Files saved from the bare backbone lack the prefix on every name, or its first part ("decoder." of "model.decoder."): what they
 * have instead, a part of the architecture's own, or NULL. */
static bool find_prefix(const char *directory, const json_t *config, const char **prefix, Error *error) {
  *prefix = NULL;
  const Architecture *arch = architecture_find(config, error);
  if (!arch) return false;
  if (!model_weights_exist(directory)) return true;
  WeightFiles files;
  if (!model_weights_open(&files, directory, error)) return false;
  bool ok = true, found = false;
  for (const char *rest = arch->prefix; ok && !found && *rest;) {
    const char *dot = strchr(rest, '.');
    rest = dot ? dot + 1 : "";
    ok = has_prefix(&files, arch, rest, &found, error);
    if (found) *prefix = rest;
  }
  weight_files_close(&files);
  return ok;
}

/* Its dtype, under the new key or the old; of a multimodal model's text part the outer one. */
static bool is_filed_narrow(const json_t *config) {
  const char *name = json_string_value(json_object_get(config, "dtype"));
  if (!name) name = json_string_value(json_object_get(config, "torch_dtype"));
  DType dtype;
  return name && dtype_parse(name, &dtype) && (dtype == DTYPE_BF16 || dtype == DTYPE_F16);
}

static WeightFormat settled(WeightFormat format, const json_t *config, const Compute *compute) {
  const json_t *how = json_object_get(config, "quantization_config");
  format.plain_scales = json_is_true(json_object_get(how, "load_in_4bit")) &&
                        !json_is_true(json_object_get(how, "bnb_4bit_use_double_quant"));
  if (format.as_filed && compute->backend->narrow_activations && is_filed_narrow(config))
    format.dtype = DTYPE_BF16;
  return format;
}

bool model_open(Model *model, const char *directory, WeightFormat format, Compute *compute, Arena *arena,
                Error *error) {
  *model = (Model){0};
  char *path;
  json_t *config = model_config_read(directory, &path, error);
  Error local = {0};
  const char *prefix;
  if (config && !architecture_find(config, &local))
    error_set(error, local.code, "%s: %s", path, local.message);
  else if (config && find_prefix(directory, config, &prefix, error) &&
           !open_with_prefix(model, config, prefix, settled(format, config, compute), compute, arena, &local))
    error_set(error, local.code, "%s: %s", path, local.message);
  json_decref(config);
  memory_free(path);
  if (!model->arch) return false;
  model->directory = memory_copy_string(directory);
  if (model->directory) return true;
  model_free(model);
  return error_out_of_memory(error, "path", strlen(directory));
}
