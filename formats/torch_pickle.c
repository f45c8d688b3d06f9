#include "formats/torch_pickle.h"

#include <string.h>

/* What the values of a pickle may take: a thousand times those of a large model. */
static const size_t memory_limit = 256u << 20;

/* ---- names ---- */

enum { GLOBAL_ORDERED_DICT, GLOBAL_TENSOR, GLOBAL_PARAMETER, GLOBAL_STORAGE /* + DType */ };
enum { OBJECT_STORAGE, OBJECT_TENSOR };

static bool same(const char *text, size_t bytes, const char *name) {
  return bytes == strlen(name) && memcmp(text, name, bytes) == 0;
}

static int global_number(const char *module, size_t module_bytes, const char *name, size_t name_bytes) {
  static const struct {
    const char *module, *name;
    int number;
  } known[] = {{"collections", "OrderedDict", GLOBAL_ORDERED_DICT},
               {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR},
               {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER},
               {"torch", "FloatStorage", GLOBAL_STORAGE + DTYPE_F32},
               {"torch", "DoubleStorage", GLOBAL_STORAGE + DTYPE_F64},
               {"torch", "HalfStorage", GLOBAL_STORAGE + DTYPE_F16},
               {"torch", "BFloat16Storage", GLOBAL_STORAGE + DTYPE_BF16},
               {"torch", "LongStorage", GLOBAL_STORAGE + DTYPE_I64},
               {"torch", "IntStorage", GLOBAL_STORAGE + DTYPE_I32},
               {"torch", "ShortStorage", GLOBAL_STORAGE + DTYPE_I16},
               {"torch", "CharStorage", GLOBAL_STORAGE + DTYPE_I8},
               {"torch", "ByteStorage", GLOBAL_STORAGE + DTYPE_U8},
               {"torch", "BoolStorage", GLOBAL_STORAGE + DTYPE_BOOL}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (same(module, module_bytes, known[i].module) && same(name, name_bytes, known[i].name))
      return known[i].number;
  return -1;
}

static PickleValue *new_object(TorchPickle *pickle, int kind, size_t bytes, Error *error) {
  PickleValue *value = pickle_alloc(&pickle->pool, sizeof *value, error);
  void *object = value ? pickle_alloc(&pickle->pool, bytes, error) : NULL;
  if (!object) return NULL;
  value->kind = PICKLE_OBJECT;
  value->integer = kind;
  value->object = object;
  return value;
}

static bool is_object(const PickleValue *value, int kind) {
  return value->kind == PICKLE_OBJECT && value->integer == kind;
}

static PickleValue *refuse(Error *error, const char *what) {
  error_set(error, ERROR_MODEL, "%s", what);
  return NULL;
}

/* ---- storages ---- */

/* ("storage", class, key, device, elements), and in files before 1.6 a sixth: of what it is a view, or None. */
static PickleValue *persistent(void *context, const PickleValue *id, Error *error) {
  TorchPickle *pickle = context;
  const size_t count = id->kind == PICKLE_TUPLE ? id->count : 0;
  PickleValue **part = id->items;
  if (count < 5 || count > 6 || !pickle_text_is(part[0], "storage") || part[1]->kind != PICKLE_GLOBAL ||
      part[1]->integer < GLOBAL_STORAGE || part[2]->kind != PICKLE_TEXT || part[4]->kind != PICKLE_INT)
    return refuse(error, "a persistent id that is no storage of torch.save");
  if (count == 6 && part[5]->kind != PICKLE_NONE)
    return refuse(error, "a storage that is a view of another one: save the weights in PyTorch again");
  const DType dtype = (DType)(part[1]->integer - GLOBAL_STORAGE);
  if (part[4]->integer < 0 || part[4]->integer > INT64_MAX / (int64_t)dtype_size(dtype))
    return refuse(error, "a storage of no possible size");
  PickleValue *value = new_object(pickle, OBJECT_STORAGE, sizeof(TorchStorage), error);
  if (!value) return NULL;
  TorchStorage *storage = value->object;
  *storage = (TorchStorage){.next = pickle->storages,
                            .key = part[2]->text,
                            .key_bytes = part[2]->count,
                            .dtype = dtype,
                            .count = (size_t)part[4]->integer};
  pickle->storages = storage;
  return value;
}

/* ---- tensors ---- */

static bool read_numbers(const PickleValue *tuple, int64_t out[WEIGHT_MAX_RANK]) {
  for (size_t d = 0; d < tuple->count; d++) {
    out[d] = tuple->items[d]->integer;
    if (tuple->items[d]->kind != PICKLE_INT || out[d] < 0) return false;
  }
  return true;
}

/* Counts elements and span; false when one of them overflows or lies outside of the storage. */
static bool measure(TorchTensor *tensor) {
  int64_t count = 1, span = 1, bytes, end;
  for (int d = 0; d < tensor->rank; d++)
    if (tensor->shape[d] == 0) count = 0;
  for (int d = 0; d < tensor->rank && count > 0; d++) {
    int64_t reach;
    if (__builtin_mul_overflow(count, tensor->shape[d], &count) ||
        __builtin_mul_overflow(tensor->shape[d] - 1, tensor->stride[d], &reach) ||
        __builtin_add_overflow(span, reach, &span))
      return false;
  }
  tensor->count = (size_t)count;
  tensor->span = count ? (size_t)span : 0;
  if (count == 0) tensor->offset = 0; /* an empty view may stand anywhere */
  return !__builtin_mul_overflow(count, (int64_t)dtype_size(tensor->storage->dtype), &bytes) &&
         !__builtin_add_overflow((int64_t)tensor->offset, (int64_t)tensor->span, &end) &&
         (size_t)end <= tensor->storage->count;
}

static bool is_empty(const PickleValue *value) {
  return value->kind == PICKLE_NONE || (value->kind == PICKLE_DICT && value->count == 0);
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata = None) */
static PickleValue *rebuild_tensor(TorchPickle *pickle, const PickleValue *arguments, Error *error) {
  PickleValue **part = arguments->items;
  if (arguments->count < 6 || arguments->count > 7 || !is_object(part[0], OBJECT_STORAGE) ||
      part[1]->kind != PICKLE_INT || part[1]->integer < 0 || part[2]->kind != PICKLE_TUPLE ||
      part[3]->kind != PICKLE_TUPLE || part[2]->count != part[3]->count)
    return refuse(error,
                  "_rebuild_tensor_v2 with arguments that are not a storage, an offset, sizes and strides");
  if (arguments->count == 7 && !is_empty(part[6]))
    return refuse(error, "a tensor that is conjugated or negated: save the weights in PyTorch again");
  if (part[2]->count > WEIGHT_MAX_RANK) return refuse(error, "a tensor of more than 8 dimensions");
  PickleValue *value = new_object(pickle, OBJECT_TENSOR, sizeof(TorchTensor), error);
  if (!value) return NULL;
  TorchTensor *tensor = value->object;
  *tensor = (TorchTensor){
      .storage = part[0]->object, .rank = (int)part[2]->count, .offset = (size_t)part[1]->integer};
  if (!read_numbers(part[2], tensor->shape) || !read_numbers(part[3], tensor->stride))
    return refuse(error, "a tensor with a size or stride that is no number from 0 on");
  if (!measure(tensor)) return refuse(error, "a tensor that reaches beyond its storage");
  return value;
}

static PickleValue *call(void *context, int global, const PickleValue *arguments, Error *error) {
  TorchPickle *pickle = context;
  if (global == GLOBAL_TENSOR) return rebuild_tensor(pickle, arguments, error);
  if (global == GLOBAL_PARAMETER) { /* (tensor, requires_grad, hooks) */
    if (arguments->count == 3 && is_object(arguments->items[0], OBJECT_TENSOR)) return arguments->items[0];
    return refuse(error, "_rebuild_parameter of something other than a tensor");
  }
  if (global != GLOBAL_ORDERED_DICT || arguments->count != 0)
    return refuse(error, "a call that makes no tensor and no empty OrderedDict");
  PickleValue *value = pickle_alloc(&pickle->pool, sizeof *value, error);
  if (value) value->kind = PICKLE_DICT;
  return value;
}

PickleValue *torch_pickle_read(TorchPickle *pickle, const char *path, const uint8_t *data, size_t size,
                               size_t *used, Error *error) {
  const PickleRules rules = {
      .global = global_number, .call = call, .persistent = persistent, .context = pickle};
  pickle->pool.limit = memory_limit;
  return pickle_read(&pickle->pool, &rules, path, data, size, used, error);
}

void torch_pickle_free(TorchPickle *pickle) {
  pickle_pool_free(&pickle->pool);
  *pickle = (TorchPickle){0};
}

const TorchTensor *torch_tensor(const PickleValue *value) {
  return is_object(value, OBJECT_TENSOR) ? value->object : NULL;
}
