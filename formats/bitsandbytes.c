#include "formats/bitsandbytes.h"

#include "base/file.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What follows the weight's name in that of its JSON. */
static const char state_mark[] = ".quant_state.bitsandbytes__";
static const char scale_mark[] = ".SCB";

typedef struct Int8Rows {
  const int8_t *codes;
  const void *scales; /* F32 [O] */
  int64_t inputs;
} Int8Rows;

/* One weight that stands in the place of several tensors. */
typedef struct BnbWeight {
  BnbCodes four;
  Int8Rows eight;
} BnbWeight;

typedef struct Source {
  void *source; /* of the files as they were opened */
  void (*close)(void *source);
  BnbWeight *weights;
  StringList names;
} Source;

static void source_close(void *context) {
  Source *s = context;
  if (s->close) s->close(s->source);
  memory_free(s->weights);
  string_list_free(&s->names);
  memory_free(s);
}

static float float_at(const void *array, int64_t i) {
  float value;
  memcpy(&value, (const char *)array + (size_t)i * sizeof value, sizeof value);
  return value;
}

/* ---- reading ---- */

float bnb_scale(const BnbCodes *c, int64_t block) {
  if (c->absmax) return float_at(c->absmax, block);
  const float product = float_at(c->map, c->scales[block]) * float_at(c->group, block / c->nested);
  return product + c->mean;
}

static void read_four(const WeightEntry *entry, size_t first, size_t count, void *out) {
  enum { PIECE = 256 };
  const BnbCodes *c = &((const BnbWeight *)entry->source)->four;
  float values[PIECE], scale = 0;
  int64_t block = -1;
  for (size_t done = 0; done < count; done += PIECE) {
    const size_t n = count - done < PIECE ? count - done : PIECE;
    for (size_t i = 0; i < n; i++) {
      const int64_t at = (int64_t)(first + done + i);
      if (at / c->block != block) scale = bnb_scale(c, block = at / c->block);
      values[i] = c->table[at % 2 ? c->packed[at / 2] & 15 : c->packed[at / 2] >> 4] * scale;
    }
    dtype_convert((char *)out + done * dtype_size(entry->dtype), entry->dtype, values, DTYPE_F32, n);
  }
}

static void read_eight(const WeightEntry *entry, size_t first, size_t count, void *out) {
  const Int8Rows *rows = &((const BnbWeight *)entry->source)->eight;
  float *values = out;
  for (size_t i = 0; i < count; i++) {
    const int64_t n = (int64_t)(first + i);
    const float scaled = (float)rows->codes[n] * float_at(rows->scales, n / rows->inputs);
    const float value = scaled * 7.874015718698502e-3f; /* 1/127, as the library spells it */
    memcpy(values + i, &value, sizeof value);
  }
}

const BnbCodes *bnb_codes(const WeightEntry *entry) {
  return entry->read == read_four ? &((const BnbWeight *)entry->source)->four : NULL;
}

/* ---- the tensors of one weight ---- */

typedef struct Parts {
  const WeightFiles *files;
  const char *name; /* of the weight */
  bool *taken;      /* by entry: part of a weight */
  Error *error;
} Parts;

static bool wrong(const Parts *p, const WeightEntry *at, const char *what) {
  return error_set(p->error, ERROR_MODEL, "%s: %s: %s", at->path, at->name, what);
}

/* NAME END, or NULL. Once found it is no tensor of its own. */
static const WeightEntry *find_part(const Parts *p, const char *end) {
  char name[512];
  const int length = snprintf(name, sizeof name, "%s%s", p->name, end);
  const WeightEntry *entry = length < (int)sizeof name ? weight_files_find(p->files, name) : NULL;
  if (entry) p->taken[entry - p->files->entries] = true;
  return entry;
}

/* The data of NAME END with exactly `count` elements of a type; NULL after an error. */
static const void *part_data(const Parts *p, const WeightEntry *state, const char *end, DType dtype,
                             int64_t count) {
  const WeightEntry *entry = find_part(p, end);
  char text[400];
  snprintf(text, sizeof text, "expected %.256s%s of %lld elements of type %s beside it", p->name, end,
           (long long)count, dtype_file_name(dtype));
  if (entry && !entry->read && entry->dtype == dtype && (int64_t)entry->count == count) return entry->data;
  wrong(p, state, text);
  return NULL;
}

/* A number of the JSON within limits; -1 after an error. */
static int64_t state_int(const Parts *p, const WeightEntry *at, const json_t *state, const char *key,
                         int64_t most) {
  const json_t *value = json_object_get(state, key);
  const json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
  char text[96];
  if (n >= 1 && n <= most) return n;
  snprintf(text, sizeof text, "%s: expected a whole number from 1 to %lld, found %s", key, (long long)most,
           json_kind(value));
  wrong(p, at, text);
  return -1;
}

static bool read_shape(const Parts *p, const WeightEntry *at, const json_t *state, WeightEntry *out) {
  const json_t *shape = json_object_get(state, "shape");
  const size_t rank = json_array_size(shape);
  if (rank < 1 || rank > 2) return wrong(p, at, "shape: expected a list of one or two numbers");
  out->rank = (int)rank;
  out->count = 1;
  for (size_t d = 0; d < rank; d++) {
    const json_t *value = json_array_get(shape, d);
    const json_int_t n = json_is_integer(value) ? json_integer_value(value) : 0;
    if (n < 1 || n > INT32_MAX) return wrong(p, at, "shape: expected numbers from 1 to 2147483647");
    out->shape[d] = n;
    out->count *= (size_t)n;
  }
  return true;
}

static bool read_nested(const Parts *p, const WeightEntry *at, const json_t *state, BnbCodes *c) {
  const json_t *offset = json_object_get(state, "nested_offset");
  const int64_t nested = state_int(p, at, state, "nested_blocksize", 1 << 16);
  if (nested < 0) return false;
  c->nested = (int)nested;
  c->mean = (float)json_number_value(offset);
  if (!json_is_number(offset) || !isfinite(c->mean)) return wrong(p, at, "nested_offset: expected a number");
  c->scales = part_data(p, at, ".absmax", DTYPE_U8, c->blocks);
  c->group =
      c->scales ? part_data(p, at, ".nested_absmax", DTYPE_F32, (c->blocks + nested - 1) / nested) : NULL;
  c->map = c->group ? part_data(p, at, ".nested_quant_map", DTYPE_F32, 256) : NULL;
  return c->map;
}

static bool read_state(const Parts *p, const WeightEntry *at, const json_t *state, BnbCodes *c,
                       WeightEntry *out) {
  const char *type = json_string_value(json_object_get(state, "quant_type"));
  const char *dtype = json_string_value(json_object_get(state, "dtype"));
  const int64_t block = state_int(p, at, state, "blocksize", 1 << 16);
  if (block < 0 || !read_shape(p, at, state, out)) return false;
  if (!type || (strcmp(type, "nf4") != 0 && strcmp(type, "fp4") != 0))
    return wrong(p, at, "quant_type: expected nf4 or fp4");
  if (!dtype || !dtype_parse(dtype, &out->dtype) || !dtype_is_float(out->dtype) || out->dtype == DTYPE_F64)
    return wrong(p, at, "dtype: expected float32, bfloat16 or float16");
  c->nf4 = strcmp(type, "nf4") == 0;
  out->kind = c->nf4 ? "NF4" : "FP4";
  c->block = (int)block;
  c->blocks = ((int64_t)out->count + block - 1) / block;
  const WeightEntry *packed = find_part(p, "");
  if (!packed || packed->read || packed->bytes != (out->count + 1) / 2)
    return wrong(p, at, "the weight is not there, or has not half a byte for each element of its shape");
  c->packed = packed->data;
  out->name = packed->name;
  out->path = packed->path;
  out->data = packed->data;
  out->bytes = packed->bytes;
  const void *table = part_data(p, at, ".quant_map", DTYPE_F32, 16);
  if (!table) return false;
  memcpy(c->table, table, sizeof c->table);
  if (json_object_get(state, "nested_blocksize")) return read_nested(p, at, state, c);
  c->absmax = part_data(p, at, ".absmax", DTYPE_F32, c->blocks);
  return c->absmax;
}

static bool take_four(const Parts *p, const WeightEntry *at, BnbWeight *weight, WeightEntry *out) {
  json_error_t problem;
  if (at->dtype != DTYPE_U8 || at->read) return wrong(p, at, "expected JSON in a tensor of type U8");
  json_t *state = json_parse(at->data, at->bytes, json_limit_config, 0, &problem);
  if (!state) return wrong(p, at, problem.text);
  *out = (WeightEntry){.read = read_four, .source = weight};
  const bool ok = (json_holds_object(state) || wrong(p, at, "expected an object")) &&
                  read_state(p, at, state, &weight->four, out);
  json_decref(state);
  return ok;
}

static bool take_eight(const Parts *p, const WeightEntry *at, BnbWeight *weight, WeightEntry *out) {
  const WeightEntry *codes = find_part(p, ".weight");
  find_part(p, ".weight_format");
  if (!codes || codes->read || codes->dtype != DTYPE_I8 || codes->rank != 2 || at->dtype != DTYPE_F32 ||
      at->read || (int64_t)at->count != codes->shape[0])
    return wrong(p, at, "expected the weight, I8 [outputs,inputs], and one F32 scale for each output");
  *out = *codes;
  out->kind = "INT8";
  out->dtype = DTYPE_F32;
  out->read = read_eight;
  out->source = weight;
  weight->eight = (Int8Rows){codes->data, at->data, codes->shape[1]};
  return true;
}

/* ---- all of them ---- */

/* Where the mark of a quantised weight begins in a tensor's name; NULL: it is none. */
static const char *mark_of(const char *name) {
  const char *state = strstr(name, state_mark);
  const size_t length = strlen(name), end = sizeof scale_mark - 1;
  if (state) return state;
  return length > end && strcmp(name + length - end, scale_mark) == 0 ? name + length - end : NULL;
}

static bool take_all(WeightFiles *files, Source *source, bool *taken, WeightEntry *made, size_t *count,
                     Error *error) {
  bool ok = true;
  *count = 0;
  for (size_t i = 0; ok && i < files->count; i++) {
    const WeightEntry *at = &files->entries[i];
    const char *mark = mark_of(at->name);
    if (!mark) continue;
    char *name = memory_format("%.*s", (int)(mark - at->name), at->name);
    ok = name ? string_list_push(&source->names, name, error) : error_out_of_memory(error, "tensor name", 0);
    memory_free(name);
    if (!ok) break;
    const Parts parts = {files, source->names.items[source->names.count - 1], taken, error};
    taken[i] = true;
    ok = *mark == '.' && mark[1] == 'q' ? take_four(&parts, at, &source->weights[*count], &made[*count])
                                        : take_eight(&parts, at, &source->weights[*count], &made[*count]);
    ++*count;
  }
  return ok;
}

/* The weights go where the list has their names: their own first tensors. */
static void replace(WeightFiles *files, const bool *taken, const WeightEntry *made, size_t count) {
  size_t kept = 0;
  for (size_t i = 0; i < files->count; i++) {
    WeightEntry entry = files->entries[i];
    bool stays = !taken[i];
    for (size_t k = 0; !stays && k < count; k++)
      if (made[k].name == entry.name) entry = made[k], stays = true;
    if (stays) files->entries[kept++] = entry;
  }
  files->count = kept;
}

bool bnb_weights(WeightFiles *files, Error *error) {
  size_t marked = 0, made = 0;
  for (size_t i = 0; i < files->count; i++) marked += mark_of(files->entries[i].name) != NULL;
  if (marked == 0) return true;
  Source *source = memory_zeroed(1, sizeof *source);
  bool *taken = memory_zeroed(files->count, sizeof *taken);
  WeightEntry *weights = memory_zeroed(marked, sizeof *weights);
  bool ok = source && taken && weights && (source->weights = memory_zeroed(marked, sizeof *source->weights));
  if (!ok) error_out_of_memory(error, "quantised weights", marked * sizeof *weights);
  ok = ok && take_all(files, source, taken, weights, &made, error);
  if (ok) replace(files, taken, weights, made);
  if (source) {
    source->source = files->source;
    source->close = files->close;
    files->source = source;
    files->close = source_close;
  }
  memory_free(taken);
  memory_free(weights);
  if (!ok) weight_files_close(files);
  return ok;
}
