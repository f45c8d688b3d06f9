#include "model/weights_check.h"

#include "formats/safetensors.h"
#include "model/source.h"
#include "model/weights.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors that are none of the model's ---- */

static bool ends_with(const char *text, const char *end) {
  const size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* ".x.y": a name that ends so, or is "x.y"; "x.": one that begins so. */
static bool matches(const char *name, const char *pattern) {
  if (*pattern != '.') return strncmp(name, pattern, strlen(pattern)) == 0;
  return ends_with(name, pattern) || strcmp(name, pattern + 1) == 0;
}

bool weights_is_passed_over(const Architecture *arch, const char *name) {
  /* Causal masks, and the tables of rotary positions, which are computed here. */
  static const char *const buffers[] = {".attn.bias",
                                        ".attn.masked_bias",
                                        ".attention.bias",
                                        ".attention.masked_bias",
                                        ".rotary_emb.inv_freq",
                                        ".rotary_emb.cos_cached",
                                        ".rotary_emb.sin_cached",
                                        ".rotary_pos_emb.inv_freq",
                                        NULL};
  for (const char *const *buffer = buffers; *buffer; buffer++)
    if (matches(name, *buffer)) return true;
  for (const char *const *other = arch->passed_over; other && *other; other++)
    if (matches(name, *other)) return true;
  return false;
}

/* Heads that a language model does without. */
static bool is_other_head(const char *name) {
  return strcmp(name, "score.weight") == 0 || strncmp(name, "v_head.", 7) == 0;
}

/* ---- tied tables ---- */

static const WeightEntry *find_head(const Model *model, const WeightFiles *files) {
  char name[64];
  snprintf(name, sizeof name, "%s.weight", model->arch->head);
  return weight_files_find(files, name);
}

/* A table that is also the head may stand under the head's name alone: of tied tensors safetensors' save_model keeps the one
 * whose name is first in the alphabet, "lm_head.weight" before "model...". */
const WeightEntry *weights_entry(const WeightFiles *files, const Model *model, int tensor) {
  const WeightEntry *entry = weight_files_find(files, model->tensors[tensor].name);
  const bool tied = tensor == model->embedding && model->head == tensor;
  return entry || !tied ? entry : find_head(model, files);
}

/* Whether both hold the same numbers once they are `dtype`; a is of floating point. */
static bool same_values(const WeightEntry *a, const WeightEntry *b, DType dtype) {
  enum { PIECE = 4096 };
  char left[PIECE * sizeof(float)], right[PIECE * sizeof(float)];
  if (!dtype_is_float(b->dtype) || a->rank != b->rank ||
      memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) != 0)
    return false;
  if (a->data == b->data && a->dtype == b->dtype && !a->read && !b->read)
    return true; /* one storage, two names */
  for (size_t first = 0; first < a->count; first += PIECE) {
    const size_t n = a->count - first < PIECE ? a->count - first : PIECE;
    weight_read(a, first, n, dtype, left);
    weight_read(b, first, n, dtype, right);
    weight_release(a, first, n);
    weight_release(b, first, n);
    if (memcmp(left, right, n * dtype_size(dtype)) != 0) return false;
  }
  return true;
}

/* A copy of the tied table under the head's name is fine when it is one; in files of two dtypes it is one in the dtype
 * of the model. Transformers decides likewise (tie_weights). */
static bool check_tied_copy(const Model *model, const WeightFiles *files, Error *error) {
  const WeightEntry *copy = find_head(model, files);
  if (!copy || model->head != model->embedding) return true;
  const WeightEntry *table = weights_entry(files, model, model->embedding);
  if (table == copy || same_values(table, copy, model->dtype)) return true;
  return error_set(error, ERROR_MODEL,
                   "%s: %s differs from %s, but config.json ties them (\"tie_word_embeddings\")", copy->path,
                   copy->name, table->name);
}

/* ---- what is wrong, together ---- */

typedef enum Fault { MISSING, MISSHAPEN, MISTYPED, UNEXPECTED, FAULTS } Fault;

enum { SHOWN = 3 }; /* of each kind, by name */

typedef struct Report {
  size_t count[FAULTS];
  Buffer names[FAULTS]; /* of the first SHOWN */
  Error *error;
} Report;

static bool add_fault(Report *report, Fault fault, const char *format, ...) PRINTF_LIKE(3, 4);

/* False when memory is out. */
static bool add_fault(Report *report, Fault fault, const char *format, ...) {
  if (++report->count[fault] > SHOWN) return true;
  char text[300];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  Buffer *names = &report->names[fault];
  return buffer_format(names, report->error, "%s%s", names->size ? ", " : "", text);
}

/* "tensor a [2] is missing", or "3 tensors are missing: a [2], b [2], c [2]". */
static bool add_sentence(Buffer *text, const Report *report, Fault fault, const char *model_type) {
  static const struct {
    const char *before, *after, *many;
  } words[FAULTS] = {[MISSING] = {"tensor ", " is missing", "tensors are missing"},
                     [MISSHAPEN] = {"", "", "tensors have another shape"},
                     [MISTYPED] = {"", "", "tensors have another type"},
                     [UNEXPECTED] = {"unexpected tensor ", "", "unexpected tensors"}};
  const size_t count = report->count[fault];
  const char *names = report->names[fault].data;
  if (count == 0) return true;
  if (text->size && !buffer_text(text, "; ", report->error)) return false;
  bool ok = count == 1
                ? buffer_format(text, report->error, "%s%s%s", words[fault].before, names, words[fault].after)
                : buffer_format(text, report->error, "%zu %s: %s", count, words[fault].many, names);
  if (ok && count > SHOWN) ok = buffer_format(text, report->error, " and %zu more", count - SHOWN);
  if (ok && fault == UNEXPECTED)
    ok = buffer_format(text, report->error, " for a model of type \"%s\"", model_type);
  return ok;
}

static bool finish_report(Report *report, const char *directory, const char *model_type) {
  Buffer text = {0};
  bool ok = report->error->code == ERROR_NONE;
  for (int fault = 0; ok && fault < FAULTS; fault++)
    ok = add_sentence(&text, report, (Fault)fault, model_type);
  if (ok && text.size) ok = error_set(report->error, ERROR_MODEL, "%s: %s", directory, text.data);
  buffer_free(&text);
  for (int fault = 0; fault < FAULTS; fault++) buffer_free(&report->names[fault]);
  return ok;
}

static bool check_entry(Report *report, const WeightEntry *entry, const char *name, Tensor value) {
  char expected[64], found[128];
  safetensors_shape_text(value.rank, value.dim, expected, sizeof expected);
  if (!entry) return add_fault(report, MISSING, "%s %s", name, expected);
  bool same = entry->rank == value.rank;
  for (int d = 0; same && d < entry->rank; d++) same = entry->shape[d] == value.dim[d];
  safetensors_shape_text(entry->rank, entry->shape, found, sizeof found);
  if (!same)
    return add_fault(report, MISSHAPEN, "%s: expected the shape %s by config.json, found %s", name, expected,
                     found);
  return dtype_is_float(entry->dtype) ||
         add_fault(report, MISTYPED, "%s: expected F32, F16 or BF16, found %s", name, entry->kind);
}

bool weights_check_entry(const WeightEntry *entry, Tensor expected, Error *error) {
  Report report = {.error = error};
  return check_entry(&report, entry, entry->name, expected) && finish_report(&report, entry->path, "");
}

static int compare_names(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_unexpected(Report *report, const Model *model, const WeightFiles *files) {
  const size_t count = (size_t)model->tensor_count;
  const char **names = memory_alloc(count * sizeof *names);
  bool ok = names || error_out_of_memory(report->error, "tensor names", count * sizeof *names);
  if (ok) {
    for (size_t i = 0; i < count; i++) names[i] = model->tensors[i].name;
    qsort(names, count, sizeof *names, compare_names);
  }
  const WeightEntry *head = find_head(model, files);
  const bool may_have_head = model->head < 0 || model->head == model->embedding; /* left aside, or a copy */
  for (size_t i = 0; ok && i < files->count; i++) {
    const WeightEntry *entry = &files->entries[i];
    if (bsearch(&entry->name, names, count, sizeof *names, compare_names) || is_other_head(entry->name) ||
        weights_is_passed_over(model->arch, entry->name) || (entry == head && may_have_head))
      continue;
    ok = add_fault(report, UNEXPECTED, "%s", entry->name);
  }
  memory_free(names);
  return ok;
}

static bool check_all(const WeightFiles *files, const Model *model, const char *directory, Error *error) {
  Report report = {.error = error};
  bool ok = true;
  for (int i = 0; ok && i < model->tensor_count; i++) {
    const ModelTensor *tensor = &model->tensors[i];
    Tensor filed = tensor->value; /* its shape in files */
    if (tensor->turned) filed = tensor_2d(NULL, model->dtype, tensor->value.dim[1], tensor->value.dim[0]);
    ok = check_entry(&report, weights_entry(files, model, i), tensor->name, filed);
  }
  ok = ok && check_unexpected(&report, model, files);
  return finish_report(&report, directory, model->arch->model_type) && ok &&
         check_tied_copy(model, files, error);
}

bool weights_open_checked(WeightFiles *files, const Model *model, const char *directory, Error *error) {
  if (!model_weights_open(files, directory, error)) return false;
  const bool ok = check_all(files, model, directory, error);
  if (!ok) weight_files_close(files);
  return ok;
}
