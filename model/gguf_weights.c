/* The tensors of GGUF under the names and in the layout of Transformers. */
#include "model/gguf_config.h"

#include "model/gguf_family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one tensor, as it is read ---- */

/* Which row of the file is which row of the checkpoint. */
typedef enum RowOrder {
  ROWS_PLAIN,
  ROWS_INTERLEAVED, /* of each head: file 0, D/2, 1, D/2 + 1, ... */
  ROWS_BLOCKS       /* file: all q, all k, all v; checkpoint: for each group its q, its k, its v */
} RowOrder;

typedef struct View {
  const GgufTensor *tensor;
  RowOrder order;
  int64_t head_size, groups, group_queries; /* ROWS_BLOCKS: group_queries heads of q in each group */
  int64_t first_row; /* of the file, ROWS_PLAIN and ROWS_INTERLEAVED: part of a tensor that is fused there */
  bool transposed;   /* the file has [columns, rows] */
  float offset;      /* what the file's values are above the checkpoint's */
} View;

static int64_t file_row(const View *v, int64_t row) {
  const int64_t size = v->head_size, head = row / size, within = row % size;
  if (v->order == ROWS_PLAIN) return v->first_row + row;
  if (v->order == ROWS_INTERLEAVED)
    return v->first_row + head * size + within % (size / 2) * 2 + within / (size / 2);
  const int64_t group = head / (v->group_queries + 2), part = head % (v->group_queries + 2);
  const int64_t queries = v->groups * v->group_queries;
  if (part < v->group_queries) return (group * v->group_queries + part) * size + within;
  return (queries + (part == v->group_queries ? 0 : v->groups) + group) * size + within;
}

static const View *view_of(const WeightEntry *entry) {
  return entry->source;
}

/* Rows of the checkpoint are rows of the file, somewhere. A bias is a matrix of one column. */
static void read_rows(const WeightEntry *entry, size_t first, size_t count, void *out) {
  const View *v = view_of(entry);
  const size_t columns = entry->rank == 1 ? 1 : (size_t)entry->shape[entry->rank - 1];
  float *to = out;
  while (count > 0) {
    const size_t row = first / columns, column = first % columns;
    const size_t n = count < columns - column ? count : columns - column;
    block_read(v->tensor->type, v->tensor->data, (size_t)file_row(v, (int64_t)row) * columns + column, n, to);
    first += n;
    to += n;
    count -= n;
  }
}

static void read_shifted(const WeightEntry *entry, size_t first, size_t count, void *out) {
  const View *v = view_of(entry);
  float *to = out;
  block_read(v->tensor->type, v->tensor->data, first, count, to);
  for (size_t i = 0; i < count; i++) to[i] -= v->offset;
}

static void read_plain(const WeightEntry *entry, size_t first, size_t count, void *out) {
  const View *v = view_of(entry);
  block_read(v->tensor->type, v->tensor->data, first, count, out);
}

/* A few rows of the checkpoint are a few columns of the file: of each of its rows a piece. */
static void read_transposed(const WeightEntry *entry, size_t first, size_t count, void *out) {
  enum { TILE = 64 };
  const View *v = view_of(entry);
  const size_t rows = (size_t)entry->shape[0], columns = (size_t)entry->shape[1];
  float *to = out, piece[TILE];
  while (count > 0) {
    const size_t row = first / columns, column = first % columns;
    size_t height = 1, width = count < columns - column ? count : columns - column;
    if (column == 0 && count >= columns) {
      height = count / columns < TILE ? count / columns : TILE;
      width = columns;
    }
    for (size_t c = 0; c < width; c++) {
      block_read(v->tensor->type, v->tensor->data, (column + c) * rows + row, height, piece);
      for (size_t r = 0; r < height; r++) to[r * width + c] = piece[r];
    }
    first += height * width;
    to += height * width;
    count -= height * width;
  }
}

/* ---- what each tensor is ---- */

typedef struct Opening {
  GgufSet set;
  const GgufFamily *family;
  const Architecture *arch;
  ModelSpec spec;
  View *views;
  StringList names;
  WeightFiles *files;
  Error *error;
} Opening;

/* What is kept open with the weights. */
typedef struct Source {
  GgufSet set;
  View *views;
  StringList names;
} Source;

static void source_close(void *source) {
  Source *s = source;
  gguf_set_close(&s->set);
  memory_free(s->views);
  string_list_free(&s->names);
  memory_free(s);
}

static void set_shape(WeightEntry *entry, const GgufTensor *tensor) {
  entry->rank = tensor->rank;
  entry->count = tensor->count;
  memcpy(entry->shape, tensor->shape, (size_t)tensor->rank * sizeof *tensor->shape);
}

/* Numbers that lie as they are wanted need no reading. */
static void set_reader(WeightEntry *entry, const View *v) {
  const char *type = v->tensor->type->name;
  DType plain;
  entry->dtype = DTYPE_F32;
  if (v->transposed)
    entry->read = read_transposed;
  else if (v->offset != 0)
    entry->read = read_shifted;
  else if (v->order != ROWS_PLAIN || v->first_row > 0)
    entry->read = read_rows;
  else if (v->tensor->type->elements == 1 && dtype_parse(type, &plain))
    entry->dtype = plain;
  else
    entry->read = read_plain;
}

/* Adds an entry; `rows` 0: all of the tensor, else as many from v->first_row on. */
static bool add_entry(Opening *o, char *name, View v, int64_t rows) {
  const GgufTensor *tensor = v.tensor;
  if (!name) return error_out_of_memory(o->error, "tensor names", 0);
  const bool kept = string_list_push(&o->names, name, o->error);
  memory_free(name);
  if (!kept) return false;
  if (!tensor->type->read) {
    char known[256];
    block_type_names(known, sizeof known);
    return error_set(o->error, ERROR_MODEL,
                     "%s: tensor '%.*s' has the type %s, which is not read (known: %s)", tensor->path,
                     (int)tensor->name.size, tensor->name.data, tensor->type->name, known);
  }
  const size_t place = o->files->count++;
  WeightEntry *entry = &o->files->entries[place];
  o->views[place] = v;
  *entry = (WeightEntry){.name = o->names.items[place],
                         .path = tensor->path,
                         .kind = tensor->type->name,
                         .data = tensor->data,
                         .bytes = tensor->bytes,
                         .source = &o->views[place]};
  set_shape(entry, tensor);
  if (v.transposed) {
    entry->shape[0] = tensor->shape[1];
    entry->shape[1] = tensor->shape[0];
  }
  if (rows > 0) {
    entry->count = entry->count / (size_t)entry->shape[0] * (size_t)rows;
    entry->shape[0] = rows;
  }
  set_reader(entry, &v);
  return true;
}

/* ---- names ---- */

/* A name of GGUF, taken apart. */
typedef struct Parsed {
  int layer;       /* -1: of the whole model */
  char stem[96];   /* "attn_q" */
  const char *end; /* "weight" or "bias" */
} Parsed;

static bool parse(GgufText name, Parsed *out) {
  char text[128];
  int used = 0;
  if (name.size >= sizeof text) return false;
  snprintf(text, sizeof text, "%.*s", (int)name.size, name.data);
  *out = (Parsed){.layer = -1};
  if (sscanf(text, "blk.%6d.%n", &out->layer, &used) != 1 || used == 0) out->layer = -1;
  char *stem = text + (out->layer < 0 ? 0 : used), *dot = strrchr(stem, '.');
  if (!dot || (size_t)(dot - stem) >= sizeof out->stem) return false;
  out->end = strcmp(dot, ".weight") == 0 ? "weight" : strcmp(dot, ".bias") == 0 ? "bias" : NULL;
  snprintf(out->stem, sizeof out->stem, "%.*s", (int)(dot - stem), stem);
  return out->end != NULL;
}

/* The tensor of a module in a layer. */
static char *layer_name(const Opening *o, int layer, const char *module, const char *end) {
  char place[64];
  snprintf(place, sizeof place, o->arch->layer, layer);
  return memory_format("%s%s%s.%s", o->arch->prefix, place, module, end);
}

static char *global_name(const Opening *o, const Parsed *p) {
  const Architecture *arch = o->arch;
  const struct {
    const char *stem, *prefix, *module;
  } known[] = {{GGUF_EMBEDDING, arch->prefix, arch->embedding},
               {GGUF_POSITIONS, arch->prefix, arch->positions},
               {GGUF_EMBEDDING_NORM, arch->prefix, arch->embedding_norm},
               {GGUF_FINAL_NORM, arch->prefix, arch->final_norm},
               {GGUF_HEAD, "", arch->head}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i].module && strcmp(p->stem, known[i].stem) == 0)
      return memory_format("%s%s.%s", known[i].prefix, known[i].module, p->end);
  return NULL;
}

/* Of the roles that go by this stem the one that the architecture has; LINEAR_ROLES: none. */
static LinearRole linear_role(const Opening *o, const char *stem) {
  for (int role = 0; role < LINEAR_ROLES; role++)
    if (o->arch->linear[role] && strcmp(gguf_linear_name((LinearRole)role), stem) == 0)
      return (LinearRole)role;
  return LINEAR_ROLES;
}

static NormRole norm_role(const Opening *o, const char *stem) {
  for (int role = 0; role < NORM_ROLES; role++)
    if (o->arch->norm[role] && strcmp(gguf_norm_name(o->family, (NormRole)role), stem) == 0)
      return (NormRole)role;
  return NORM_ROLES;
}

/* ---- layout ---- */

static View linear_view(const Opening *o, const GgufTensor *tensor, LinearRole role) {
  const ModelSpec *s = &o->spec;
  View v = {.tensor = tensor, .head_size = s->head_size};
  v.transposed = o->arch->transposed && tensor->rank == 2;
  if (o->family->interleaved && (role == LINEAR_Q || role == LINEAR_K)) v.order = ROWS_INTERLEAVED;
  if (role == LINEAR_QKV && (s->qkv == QKV_HEADS || s->qkv == QKV_GROUPS)) {
    v.order = ROWS_BLOCKS;
    v.groups = s->kv_heads;
    v.group_queries = s->heads / s->kv_heads;
  }
  return v;
}

/* Whether the rows are as many as the order needs. */
static bool check_rows(const Opening *o, const View *v, LinearRole role) {
  const ModelSpec *s = &o->spec;
  const int64_t q = s->heads * s->head_size, kv = s->kv_heads * s->head_size;
  const int64_t expected = role == LINEAR_QKV ? q + 2 * kv : role == LINEAR_Q ? q : kv;
  const GgufTensor *t = v->tensor;
  if (v->order == ROWS_PLAIN || t->shape[0] == expected) return true;
  return error_set(o->error, ERROR_MODEL, "%s: tensor '%.*s' has %lld rows, expected %lld", t->path,
                   (int)t->name.size, t->name.data, (long long)t->shape[0], (long long)expected);
}

/* q, k, v in one tensor of the file and in three of the checkpoint. */
static bool add_split(Opening *o, const GgufTensor *tensor, const Parsed *p) {
  const ModelSpec *s = &o->spec;
  const int64_t q = s->heads * s->head_size, kv = s->kv_heads * s->head_size;
  const struct {
    LinearRole role;
    int64_t first, rows;
  } parts[] = {{LINEAR_Q, 0, q}, {LINEAR_K, q, kv}, {LINEAR_V, q + kv, kv}};
  if (tensor->shape[0] != q + 2 * kv)
    return error_set(o->error, ERROR_MODEL, "%s: tensor '%.*s' has %lld rows, expected %lld", tensor->path,
                     (int)tensor->name.size, tensor->name.data, (long long)tensor->shape[0],
                     (long long)(q + 2 * kv));
  for (size_t i = 0; i < 3; i++) {
    View v = linear_view(o, tensor, parts[i].role);
    v.first_row = parts[i].first;
    if (!add_entry(o, layer_name(o, p->layer, o->arch->linear[parts[i].role], p->end), v, parts[i].rows))
      return false;
  }
  return true;
}

static bool is_configuration(GgufText name) {
  return gguf_text_is(name, GGUF_ROPE_FREQUENCIES) || gguf_text_is(name, GGUF_ROPE_LONG) ||
         gguf_text_is(name, GGUF_ROPE_SHORT);
}

/* Unknown names are kept, so that they are told like those of any other form. */
static bool add_unknown(Opening *o, const GgufTensor *tensor) {
  return add_entry(o, memory_format("%.*s", (int)tensor->name.size, tensor->name.data),
                   (View){.tensor = tensor}, 0);
}

static bool add_of_layer(Opening *o, const GgufTensor *tensor, const Parsed *p) {
  const LinearRole linear = linear_role(o, p->stem);
  const NormRole norm = norm_role(o, p->stem);
  if (linear < LINEAR_ROLES) {
    const View v = linear_view(o, tensor, linear);
    return check_rows(o, &v, linear) &&
           add_entry(o, layer_name(o, p->layer, o->arch->linear[linear], p->end), v, 0);
  }
  if (strcmp(p->stem, gguf_linear_name(LINEAR_QKV)) == 0 && o->arch->linear[LINEAR_Q])
    return add_split(o, tensor, p);
  if (norm == NORM_ROLES) return add_unknown(o, tensor);
  const float offset = strcmp(p->end, "weight") == 0 ? o->spec.norm.weight_offset : 0;
  return add_entry(o, layer_name(o, p->layer, o->arch->norm[norm], p->end),
                   (View){.tensor = tensor, .offset = offset}, 0);
}

static bool add_tensor(Opening *o, const GgufTensor *tensor, bool tied) {
  Parsed p;
  if (is_configuration(tensor->name)) return true;
  if (tied && gguf_text_is(tensor->name, GGUF_HEAD ".weight")) return true;
  if (!parse(tensor->name, &p) || p.layer >= o->spec.layers) return add_unknown(o, tensor);
  if (p.layer >= 0) return add_of_layer(o, tensor, &p);
  char *name = global_name(o, &p);
  if (!name) return add_unknown(o, tensor);
  const bool norm = strcmp(p.stem, GGUF_FINAL_NORM) == 0 || strcmp(p.stem, GGUF_EMBEDDING_NORM) == 0;
  const float offset = norm && strcmp(p.end, "weight") == 0 ? o->spec.norm.weight_offset : 0;
  return add_entry(o, name, (View){.tensor = tensor, .offset = offset}, 0);
}

/* ---- all of them ---- */

static bool describe(Opening *o) {
  json_t *config = gguf_config_of(&o->set, o->error);
  Error why = {0};
  if (!config) return false;
  o->family = gguf_family_find(o->set.files, o->error);
  o->arch = architecture_find(config, &why);
  const bool ok = (o->arch && architecture_read(o->arch, config, &o->spec, &why)) ||
                  error_set(o->error, why.code, "%s: %s", o->set.files->path, why.message);
  json_decref(config);
  return ok && o->family;
}

static int compare_entries(const void *a, const void *b) {
  return strcmp(((const WeightEntry *)a)->name, ((const WeightEntry *)b)->name);
}

static bool add_all(Opening *o) {
  const size_t most = 3 * o->set.tensor_count;
  o->files->entries = memory_zeroed(most, sizeof *o->files->entries);
  o->views = memory_zeroed(most, sizeof *o->views);
  if (!o->files->entries || !o->views) return error_out_of_memory(o->error, "list of tensors", most);
  const bool tied = gguf_is_tied(&o->set);
  for (size_t i = 0; i < o->set.tensor_count; i++)
    if (!add_tensor(o, o->set.tensors[i], tied)) return false;
  WeightFiles *files = o->files;
  if (files->count) qsort(files->entries, files->count, sizeof *files->entries, compare_entries);
  for (size_t i = 1; i < files->count; i++)
    if (strcmp(files->entries[i - 1].name, files->entries[i].name) == 0)
      return error_set(o->error, ERROR_MODEL, "%s: two tensors are %s of the model", files->entries[i].path,
                       files->entries[i].name);
  return true;
}

bool gguf_weights_open(WeightFiles *files, const char *file, Error *error) {
  *files = (WeightFiles){0};
  Opening o = {.files = files, .error = error};
  if (!gguf_set_open(&o.set, file, error)) return false;
  Source *source = memory_alloc(sizeof *source);
  const bool ok = (source || error_out_of_memory(error, "list of tensors", sizeof *source)) && describe(&o) &&
                  add_all(&o);
  if (ok) {
    *source = (Source){.set = o.set, .views = o.views, .names = o.names};
    files->source = source;
    files->close = source_close;
    return true;
  }
  memory_free(source);
  memory_free(o.views);
  string_list_free(&o.names);
  gguf_set_close(&o.set);
  weight_files_close(files);
  return false;
}
