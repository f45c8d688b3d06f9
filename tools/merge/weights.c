#include "tools/merge/weights.h"

#include "model/digest.h"
#include "model/source.h"
#include "model/twin.h"
#include "train/identity.h"

#include <string.h>

const char *const merge_quantize_choices[] = {"auto", "none", "nf4", "int8", NULL};

/* The type of a directory's files: bf16 files are held as they are, all others in fp32. */
static bool find_types(const char *directory, DType *loaded, DType *filed, Error *error) {
  WeightFiles files;
  if (!model_weights_open(&files, directory, error)) return false;
  bool all_bf16 = true, all_f16 = true;
  for (size_t i = 0; i < files.count; i++) {
    if (strcmp(files.entries[i].name, "score.weight") == 0) continue; /* F32 in any file of ours */
    all_bf16 &= files.entries[i].dtype == DTYPE_BF16;
    all_f16 &= files.entries[i].dtype == DTYPE_F16;
  }
  weight_files_close(&files);
  *loaded = all_bf16 ? DTYPE_BF16 : DTYPE_F32;
  *filed = all_bf16 ? DTYPE_BF16 : all_f16 ? DTYPE_F16 : DTYPE_F32;
  return true;
}

static bool find_format(WeightFormat *format, const char *adapter, int quantize, int tables, Log *log,
                        Error *error) {
  Identity identity = {0};
  if (!identity_read(&identity, adapter, error)) return false;
  format->quantize = quantize == MERGE_QUANTIZE_NF4    ? MODEL_QUANTIZE_NF4
                     : quantize == MERGE_QUANTIZE_INT8 ? MODEL_QUANTIZE_INT8
                                                       : MODEL_QUANTIZE_NONE;
  format->int8_tables = format->quantize && tables == MODEL_TABLES_INT8;
  if (quantize == MERGE_QUANTIZE_AUTO) {
    format->quantize = identity.quantize;
    format->int8_tables = identity.int8_tables;
  }
  if (quantize == MERGE_QUANTIZE_NONE && identity.quantize)
    log_warning(
        log,
        "%s: this adapter was trained over weights in %d bits, and is merged into others without them: how "
        "far that is from what was trained, --into says",
        adapter, model_quantize_bits(identity.quantize));
  return true;
}

/* The same weights but for rounding, or what bitsandbytes made its codes from. */
static bool is_original(const char *into, const char *model, bool *is, Error *error) {
  WeightsDigest a, b;
  if (!weights_digest(&a, into, error) || !weights_digest(&b, model, error)) return false;
  *is = strcmp(a.rounded, b.rounded) == 0;
  return *is || weights_are_twins(into, model, is, error);
}

static bool check_into(const char *into, const char *model, bool quantized, Error *error) {
  const char *kind, *base;
  bool original = false;
  if (!weights_kind(into, &kind, error) || !weights_kind(model, &base, error)) return false;
  if (kind)
    return error_set(error, ERROR_USAGE, "--into %s: expected weights in 16 or 32 bits, found %s", into,
                     kind);
  if (!base && !quantized)
    return error_set(
        error, ERROR_USAGE,
        "--into is for an adapter over a base in 4 or 8 bits: %s is not quantised, and --quantize is "
        "not given",
        model);
  return is_original(into, model, &original, error) &&
         (original ||
          error_set(error, ERROR_MODEL,
                    "--into %s: these are not the weights that those of %s were made from", into, model));
}

bool merge_weights_find(MergeWeights *w, const char *model, const char *adapter, const char *into,
                        int quantize, int tables, Log *log, Error *error) {
  *w = (MergeWeights){0};
  return find_format(&w->trained, adapter, quantize, tables, log, error) &&
         (!into || check_into(into, model, w->trained.quantize, error)) &&
         find_types(model, &w->trained.dtype, &w->filed, error) &&
         (!into || find_types(into, &w->into_loaded, &w->filed, error));
}
