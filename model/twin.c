#include "model/twin.h"

#include "base/memory.h"
#include "formats/bitsandbytes.h"
#include "model/card.h"
#include "model/source.h"
#include "model/weights.h"

#include <math.h>
#include <string.h>

enum { UNITS = 64, PLAIN_UNIT = 1024 /* elements */ };

/* ---- how a tensor is stored ---- */

static const char *quantized_kind(const WeightEntry *entry) {
  if (bnb_codes(entry)) return entry->kind;
  return entry->read && strcmp(entry->kind, dtype_file_name(entry->dtype)) != 0 ? entry->kind : NULL;
}

static const char *files_kind(const WeightFiles *files) {
  const char *kind = NULL;
  for (size_t i = 0; !kind && i < files->count; i++) kind = quantized_kind(&files->entries[i]);
  return kind;
}

bool weights_kind(const char *directory, const char **kind, Error *error) {
  WeightFiles files;
  *kind = NULL;
  if (!model_weights_open(&files, directory, error)) return false;
  *kind = files_kind(&files);
  weight_files_close(&files);
  return true;
}

/* ---- two tensors ---- */

typedef struct Pair {
  const WeightEntry *narrow, *wide;
  float *values, *others; /* of a unit: of `narrow`, of `wide` */
} Pair;

/* What a number becomes: the nearest value of the table of 4 bits, or a whole number of 127. `x` is in units of the largest. */
static float code_of(const BnbCodes *codes, float x) {
  if (!codes) return rintf(127 * x);
  float best = codes->table[0];
  for (int i = 1; i < 16; i++)
    if (fabsf(codes->table[i] - x) < fabsf(best - x)) best = codes->table[i];
  return best;
}

static size_t unit_of(const WeightEntry *narrow) {
  const BnbCodes *codes = bnb_codes(narrow);
  if (codes) return (size_t)codes->block;
  return quantized_kind(narrow) ? (size_t)narrow->shape[narrow->rank - 1] : PLAIN_UNIT;
}

/* How many numbers of a unit are the same on both sides. */
static size_t count_same(const Pair *p, size_t count) {
  const BnbCodes *codes = bnb_codes(p->narrow);
  const bool plain = !quantized_kind(p->narrow);
  float most = 0;
  size_t same = 0;
  for (size_t i = 0; i < count; i++) most = fmaxf(most, fabsf(p->others[i]));
  for (size_t i = 0; i < count; i++) {
    const float a = p->values[i], b = p->others[i];
    if (plain || most == 0)
      same += fabsf(a - b) <= fabsf(b) / 128 + 1e-7f; /* BF16 has 8 bits, and F16 none below 6e-8 */
    else
      same += code_of(codes, a / most) == code_of(codes, b / most);
  }
  return same;
}

static bool is_same(const Pair *p) {
  const WeightEntry *wide = p->wide, *narrow = p->narrow;
  const size_t unit = unit_of(narrow), units = (narrow->count + unit - 1) / unit,
               tried = units < UNITS ? units : UNITS;
  size_t same = 0, all = 0;
  if (wide->rank != narrow->rank ||
      memcmp(wide->shape, narrow->shape, (size_t)wide->rank * sizeof *wide->shape) != 0)
    return false;
  for (size_t i = 0; i < tried; i++) {
    const size_t first = (tried < 2 ? 0 : (units - 1) * i / (tried - 1)) * unit,
                 count = narrow->count - first < unit ? narrow->count - first : unit;
    weight_read(narrow, first, count, DTYPE_F32, p->values);
    weight_read(wide, first, count, DTYPE_F32, p->others);
    weight_release(wide, first, count);
    same += count_same(p, count);
    all += count;
  }
  weight_release(narrow, 0, narrow->count);
  /* One in ... may be another. */
  const size_t share = bnb_codes(narrow) ? 50 : 12;
  return quantized_kind(narrow) ? share * (all - same) <= all : same == all;
}

/* ---- two directories ---- */

/* The entry of a tensor that may be called with or without the base prefix there. */
static bool find_entry(const WeightFiles *files, const char *name, const char *prefix,
                       const WeightEntry **out, Error *error) {
  const size_t length = strlen(prefix);
  *out = weight_files_find(files, name);
  if (!*out && strncmp(name, prefix, length) == 0) *out = weight_files_find(files, name + length);
  if (*out) return true;
  char *longer = memory_format("%s%s", prefix, name);
  if (!longer) return error_out_of_memory(error, "tensor name", length + strlen(name));
  *out = weight_files_find(files, longer);
  memory_free(longer);
  return true;
}

/* A head that is tied may stand in one of them alone. */
static bool may_lack(const ModelCard *card, const char *name) {
  const size_t head = strlen(card->arch->head);
  return card->spec.tied && strncmp(name, card->arch->head, head) == 0 && strcmp(name + head, ".weight") == 0;
}

static bool is_float(const WeightEntry *entry) {
  return entry->rank > 0 && dtype_is_float(entry->dtype);
}

static bool compare(const ModelCard *card, const WeightFiles *narrow, const WeightFiles *wide, bool *twins,
                    Error *error) {
  size_t largest = PLAIN_UNIT;
  for (size_t i = 0; i < narrow->count; i++)
    if (is_float(&narrow->entries[i]) && unit_of(&narrow->entries[i]) > largest)
      largest = unit_of(&narrow->entries[i]);
  float *values = memory_alloc(2 * largest * sizeof *values);
  bool ok = values || error_out_of_memory(error, "weights to compare", 2 * largest * sizeof *values);
  *twins = ok;
  for (size_t i = 0; ok && *twins && i < narrow->count; i++) {
    Pair pair = {.narrow = &narrow->entries[i], .values = values, .others = values + largest};
    const char *name = pair.narrow->name;
    if (!is_float(pair.narrow) || weights_is_passed_over(card->arch, name)) continue;
    ok = find_entry(wide, name, card->arch->prefix, &pair.wide, error);
    if (ok) *twins = pair.wide ? is_float(pair.wide) && is_same(&pair) : may_lack(card, name);
  }
  memory_free(values);
  return ok;
}

static bool by_bitsandbytes(const WeightFiles *files) {
  const char *kind = files_kind(files);
  return kind && (strcmp(kind, "NF4") == 0 || strcmp(kind, "FP4") == 0 || strcmp(kind, "INT8") == 0);
}

bool weights_are_twins(const char *a, const char *b, bool *twins, Error *error) {
  WeightFiles first = {0}, second = {0};
  ModelCard card = {0};
  *twins = false;
  bool ok = model_card_read(&card, a, error) && model_weights_open(&first, a, error) &&
            model_weights_open(&second, b, error);
  if (ok && by_bitsandbytes(&first) && !files_kind(&second))
    ok = compare(&card, &first, &second, twins, error);
  else if (ok && by_bitsandbytes(&second) && !files_kind(&first))
    ok = compare(&card, &second, &first, twins, error);
  weight_files_close(&first);
  weight_files_close(&second);
  model_card_free(&card);
  return ok;
}
