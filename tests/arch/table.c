/* The table of architectures in docs/formats.md, made from what the tests run: table FILE.md [--write]
 *
 * A row for each directory of tests/fixtures/arch: what its config.json becomes (ModelSpec), and about.json beside it. Without
 * --write: 0 when the text between the two marks in FILE is that table, else 1. */
#include "base/file.h"
#include "model/arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char begin_mark[] = "<!-- architectures: made by tests/arch/table.c -->\n";
static const char end_mark[] = "<!-- end of architectures -->\n";

static void fail(const char *message) {
  fprintf(stderr, "table: %s\n", message);
  exit(1);
}

static json_t *read_json(const char *name, const char *file) {
  char path[512];
  Error error = {0};
  snprintf(path, sizeof path, "%s/arch/%s/%s", FIXTURES, name, file);
  json_t *value = json_file_read(path, &error);
  if (!value) fail(error.message);
  return value;
}

static int count_layers(const ModelSpec *s, bool windows) {
  int count = 0;
  for (int64_t i = 0; i < s->layers; i++) count += windows ? s->window[i] > 0 : s->without_rotary[i];
  return count;
}

static const char *on_layers(const ModelSpec *s, int count) {
  static char text[48];
  if (count == s->layers) return "";
  snprintf(text, sizeof text, " on %d of %lld layers", count, (long long)s->layers);
  return text;
}

static void write_norms(FILE *out, const Architecture *arch, const ModelSpec *s) {
  static const char *const places[] = {[NORM_PRE] = "",
                                       [NORM_POST] = " after the sums",
                                       [NORM_OUTPUT] = " on the outputs",
                                       [NORM_SANDWICH] = " on both sides"};
  fprintf(out, "%s%s%s%s", s->norm.kind == NORM_RMS ? "RMS norm" : "layer norm",
          !arch->final_norm && s->final_norm               ? " without parameters"
          : s->norm.kind == NORM_LAYER && !arch->norm_bias ? " without bias"
                                                           : "",
          s->norm.weight_offset != 0 ? " (1 + w)" : "", places[s->placement]);
  if (s->parallel) fprintf(out, ", attention beside MLP%s", s->parallel_shared ? ", one norm" : "");
  if (s->embedding_norm) fprintf(out, ", of the embeddings too");
  fprintf(out, "; ");
}

static void write_positions(FILE *out, const ModelSpec *s) {
  static const char *const kinds[] = {
      [ROPE_DEFAULT] = "",       [ROPE_LINEAR] = " linear", [ROPE_DYNAMIC] = " dynamic",
      [ROPE_LLAMA3] = " llama3", [ROPE_YARN] = " yarn",     [ROPE_LONGROPE] = " longrope"};
  const int windows = count_layers(s, true), without = count_layers(s, false);
  if (s->position == POSITION_LEARNED) fprintf(out, "learned positions");
  if (s->position == POSITION_ALIBI)
    fprintf(out, "ALiBi%s%s", s->alibi_max != 8 ? " with a maximum" : "",
            s->alibi_by_place ? ", rounded for each key" : "");
  if (s->position == POSITION_ROTARY)
    fprintf(out, "rotary%s%s%s%s", kinds[s->rope.kind], s->rotary_interleaved ? " in pairs" : "",
            s->rotary_size < s->head_size ? " on part of the head" : "",
            s->rope_by_window ? ", by layer" : "");
  if (without) fprintf(out, ", none%s", on_layers(s, without));
  if (windows) fprintf(out, ", window%s", on_layers(s, windows));
  fprintf(out, "; ");
}

static void write_attention(FILE *out, const ModelSpec *s) {
  static const char *const layouts[] = {[QKV_SEPARATE] = "q, k, v apart",
                                        [QKV_BLOCKS] = "q, k, v in one",
                                        [QKV_HEADS] = "q, k, v in one by head",
                                        [QKV_GROUPS] = "q, k, v in one by group"};
  static const char *const norms[] = {[QK_NORM_NONE] = "",
                                      [QK_NORM_HEAD] = ", normed by head",
                                      [QK_NORM_HEADS] = ", normed by head with own weights",
                                      [QK_NORM_ALL] = ", normed whole"};
  fprintf(out, "%s%s%s%s%s", layouts[s->qkv],
          s->kv_heads == 1         ? ", one k and v"
          : s->kv_heads < s->heads ? ", grouped"
                                   : "",
          norms[s->qk_norm], s->clip_qkv > 0 ? ", clamped" : "",
          s->attention_scale != 0 ? ", own scale" : "");
  fprintf(out, "%s; ", s->attention_softcap > 0 ? ", capped" : "");
}

static void write_rest(FILE *out, const ModelSpec *s) {
  static const char *const names[] = {[ACTIVATION_SILU] = "SiLU",
                                      [ACTIVATION_GELU] = "GELU",
                                      [ACTIVATION_GELU_TANH] = "GELU (tanh)",
                                      [ACTIVATION_RELU] = "ReLU",
                                      [ACTIVATION_RELU_SQUARED] = "squared ReLU"};
  fprintf(out, "%s%s%s; ", s->gated ? "gated " : "", names[s->activation],
          s->gate_up_fused ? ", gate and up in one" : "");
  if (s->embedding_scale != 1) fprintf(out, "scaled embeddings; ");
  if (s->residual_scale != 1) fprintf(out, "scaled branches; ");
  if (model_width(s) != s->hidden) fprintf(out, "projected tables; ");
  fprintf(out, "head %s%s%s%s%s", s->tied ? "tied" : "untied", s->head_bias ? ", bias" : "",
          s->head_normalized ? ", rows of length 1" : "", s->logit_scale != 1 ? ", scaled" : "",
          s->logit_softcap > 0 ? ", capped" : "");
}

static void write_row(FILE *out, const char *name) {
  Error error = {0};
  ModelSpec *spec = calloc(1, sizeof *spec);
  json_t *config = read_json(name, "config.json"), *about = read_json(name, "about.json");
  const Architecture *arch = architecture_find(config, &error);
  if (!spec || !arch || !architecture_read(arch, config, spec, &error)) fail(error.message);
  const char *models = json_string_value(json_object_get(about, "models"));
  const char *real = json_string_value(json_object_get(about, "real"));
  if (!models || !real) fail("about.json without models and real");
  fprintf(out, "| `%s` | `%s` | %s | ", name, arch->model_type, models);
  write_norms(out, arch, spec);
  write_positions(out, spec);
  write_attention(out, spec);
  write_rest(out, spec);
  fprintf(out, " | %s |\n", *real ? real : "no");
  json_decref(config);
  json_decref(about);
  free(spec);
}

/* The table as it should be; free() it. */
static char *made(void) {
  Error error = {0};
  StringList names = {0};
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  if (!out || !directory_list(FIXTURES "/arch", &names, &error)) fail(error.message);
  fprintf(out,
          "| tiny checkpoint | `model_type` | models of that kind | what it is made of | tried on a real "
          "checkpoint |\n"
          "| --- | --- | --- | --- | --- |\n");
  for (size_t i = 0; i < names.count; i++) write_row(out, names.items[i]);
  fclose(out);
  string_list_free(&names);
  return text;
}

/* Where FILE has not the table: puts it there, or fails. */
static void replace(const char *path, const char *before, size_t count, const char *table, const char *after,
                    bool write) {
  Error error = {0};
  Buffer text = {0};
  if (!write) fail("the table is not what the fixtures give: run it again with --write");
  if (!buffer_append(&text, before, count, &error) || !buffer_text(&text, table, &error) ||
      !buffer_text(&text, after, &error) || !file_write_text(path, text.data, &error))
    fail(error.message);
  buffer_free(&text);
}

int main(int argc, char **argv) {
  Error error = {0};
  Buffer file = {0};
  if (argc < 2) fail("usage: table FILE.md [--write]");
  if (!file_read(argv[1], &file, &error) || !buffer_append(&file, "", 1, &error)) fail(error.message);
  const char *begin = strstr(file.data, begin_mark), *end = strstr(file.data, end_mark);
  if (!begin || !end || end < begin) fail("FILE has not the two marks");
  begin += strlen(begin_mark);
  char *table = made();
  if (strlen(table) != (size_t)(end - begin) || memcmp(table, begin, (size_t)(end - begin)) != 0)
    replace(argv[1], file.data, (size_t)(begin - file.data), table, end,
            argc > 2 && strcmp(argv[2], "--write") == 0);
  free(table);
  buffer_free(&file);
  return 0;
}
