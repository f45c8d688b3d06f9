#include "model/digest.h"

#include "base/file.h"
#include "formats/safetensors.h"
#include "formats/weight_files.h"
#include "model/card.h"
#include "model/source.h"
#include "model/weights.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 16, RUN = 1024 /* elements */ };

/* -- one tensor ----------------------------------------------------------------------------------------- */

/* One line per tensor in each list. */
typedef struct Lines {
  StringList exact, rounded;
} Lines;

static void add_run(Digest *exact, Digest *rounded, const WeightEntry *entry, size_t first, size_t count) {
  const size_t size = dtype_size(entry->dtype);
  double values[RUN]; /* of the widest type */
  weight_read(entry, first, count, entry->dtype, values);
  digest_add(exact, values, count * size);
  if (dtype_is_float(entry->dtype)) {
    uint16_t narrow[RUN];
    dtype_convert(narrow, DTYPE_BF16, values, entry->dtype, count);
    digest_add(rounded, narrow, count * sizeof *narrow);
  } else {
    digest_add(rounded, values, count * size);
  }
}

static void add_content(Digest *exact, Digest *rounded, const WeightEntry *entry) {
  const size_t count = entry->count;
  const bool whole = count <= (size_t)RUNS * RUN;
  const size_t runs = whole ? (count + RUN - 1) / RUN : RUNS;
  for (size_t i = 0; i < runs; i++) {
    const size_t first = whole ? i * RUN : (count - RUN) * i / (RUNS - 1);
    add_run(exact, rounded, entry, first, count - first < RUN ? count - first : RUN);
  }
  weight_release(entry, 0, count); /* with a page come its neighbours */
}

static bool push_line(StringList *list, const char *name, const char *shape, const char *type,
                      const Digest *digest, Error *error) {
  char text[33];
  digest_text(digest, text);
  char *line = memory_format("%s %s %s %s\n", name, shape, type, text);
  const bool ok =
      line ? string_list_push(list, line, error) : error_out_of_memory(error, "digest", strlen(name));
  memory_free(line);
  return ok;
}

static bool add_tensor(Lines *lines, const char *name, const WeightEntry *entry, Error *error) {
  char shape[128];
  Digest *exact = digest_open(error), *rounded = exact ? digest_open(error) : NULL;
  bool ok = exact && rounded;
  if (ok) {
    safetensors_shape_text(entry->rank, entry->shape, shape, sizeof shape);
    add_content(exact, rounded, entry);
    ok = push_line(&lines->exact, name, shape, dtype_file_name(entry->dtype), exact, error) &&
         push_line(&lines->rounded, name, shape, "", rounded, error);
  }
  digest_close(exact);
  digest_close(rounded);
  return ok;
}

/* -- all of them ---------------------------------------------------------------------------------------- */

static int compare_lines(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In the order of the names; a tied table that stands in the files twice counts once. */
static bool digest_lines(StringList *list, char out[33], Error *error) {
  Digest *digest = digest_open(error);
  if (!digest) return false;
  qsort(list->items, list->count, sizeof *list->items, compare_lines);
  for (size_t i = 0; i < list->count; i++) {
    if (i > 0 && strcmp(list->items[i], list->items[i - 1]) == 0) continue;
    digest_add(digest, list->items[i], strlen(list->items[i]));
  }
  digest_text(digest, out);
  digest_close(digest);
  return true;
}

/* The name that a tensor of a model goes by here. */
static char *plain_name(const ModelCard *card, const char *name) {
  const Architecture *arch = card->arch;
  const size_t prefix = strlen(arch->prefix), head = strlen(arch->head);
  const bool is_head = strncmp(name, arch->head, head) == 0 && strcmp(name + head, ".weight") == 0;
  if (is_head && card->spec.tied) return memory_format("%s.weight", arch->embedding);
  return memory_copy_string(strncmp(name, arch->prefix, prefix) == 0 ? name + prefix : name);
}

static bool add_model(Lines *lines, const char *directory, Error *error) {
  ModelCard card;
  WeightFiles files = {0};
  bool ok = model_card_read(&card, directory, error) && model_weights_open(&files, directory, error);
  for (size_t i = 0; ok && i < files.count; i++) {
    if (weights_is_passed_over(card.arch, files.entries[i].name)) continue;
    char *name = plain_name(&card, files.entries[i].name);
    ok = name ? add_tensor(lines, name, &files.entries[i], error)
              : error_out_of_memory(error, "tensor name", strlen(files.entries[i].name));
    memory_free(name);
  }
  weight_files_close(&files);
  model_card_free(&card);
  return ok;
}

static bool add_adapter(Lines *lines, const char *directory, const char *config, Error *error) {
  char digest[33];
  WeightFiles files = {0};
  bool ok = file_digest(config, digest, error) && string_list_push(&lines->exact, digest, error) &&
            string_list_push(&lines->rounded, digest, error) &&
            weight_files_open_safetensors(&files, directory, "adapter_model", error);
  for (size_t i = 0; ok && i < files.count; i++)
    ok = add_tensor(lines, files.entries[i].name, &files.entries[i], error);
  weight_files_close(&files);
  return ok;
}

bool weights_digest(WeightsDigest *out, const char *directory, Error *error) {
  *out = (WeightsDigest){0};
  Lines lines = {0};
  char *config = path_join(directory, "adapter_config.json");
  bool ok = config || error_out_of_memory(error, "path", strlen(directory));
  if (ok) {
    ok = file_exists(config) ? add_adapter(&lines, directory, config, error)
                             : add_model(&lines, directory, error);
  }
  ok = ok && digest_lines(&lines.exact, out->exact, error) &&
       digest_lines(&lines.rounded, out->rounded, error);
  string_list_free(&lines.exact);
  string_list_free(&lines.rounded);
  memory_free(config);
  return ok;
}
