/* Models on disk: what is loaded is what is saved, names and all; score heads; fresh weights; what is wrong in a
 * directory is said. Reads the tiny checkpoints of tests/fixtures/models. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "../temporary.h"
#include "base/json.h"
#include "formats/safetensors.h"
#include "model/weights.h"

#include <math.h>

static Compute compute;

static int open_compute(void **state) {
  (void)state;
  Error error = {0};
  return compute_open(&compute, DEVICE_CPU, 2, &error) ? 0 : -1;
}

static int close_compute(void **state) {
  (void)state;
  compute_close(&compute);
  return 0;
}

/* A model with the memory it lies in. */
typedef struct Loaded {
  Model model;
  ScoreHead head;
  Arena arena;
} Loaded;

static void loaded_free(Loaded *loaded) {
  model_free(&loaded->model);
  arena_free(&loaded->arena);
}

static void assert_ok(bool ok, const Error *error) {
  if (!ok) print_error("%s\n", error->message);
  assert_true(ok);
}

/* Plans in a dry arena, then opens and reads in a real one of exactly that size. */
static bool load(Loaded *loaded, const char *directory, DType dtype, Error *error) {
  Arena dry;
  arena_init_dry(&dry, "plan");
  *loaded = (Loaded){0};
  compute_dry_begin(&compute);
  bool ok = model_open(&loaded->model, directory, dtype, &compute, &dry, error);
  Error ignored = {0};
  ok = compute_dry_end(&compute, ok ? error : &ignored) && ok;
  model_free(&loaded->model);
  return ok && compute_arena(&compute, &loaded->arena, "model", dry.peak, error) &&
         model_open(&loaded->model, directory, dtype, &compute, &loaded->arena, error) &&
         model_read(&loaded->model, directory, &compute, error);
}

static void load_fixture(Loaded *loaded, const char *name, DType dtype) {
  char path[512];
  snprintf(path, sizeof path, FIXTURES "/models/%s", name);
  Error error = {0};
  assert_ok(load(loaded, path, dtype, &error), &error);
}

static void save(const Loaded *loaded, const ScoreHead *head, const char *source, const char *directory,
                 DType dtype) {
  Error error = {0};
  assert_ok(model_save(&loaded->model, head, NULL, NULL, source, directory, dtype, &compute, &error), &error);
}

static void assert_same_tensors(const Model *a, const Model *b) {
  assert_int_equal(a->tensor_count, b->tensor_count);
  for (int i = 0; i < a->tensor_count; i++) {
    assert_string_equal(a->tensors[i].name, b->tensors[i].name);
    assert_int_equal(tensor_bytes(a->tensors[i].value), tensor_bytes(b->tensors[i].value));
    assert_memory_equal(a->tensors[i].value.data, b->tensors[i].value.data,
                        tensor_bytes(a->tensors[i].value));
  }
}

static bool is_buffer(const char *name) {
  return strstr(name, ".attn.bias") || strstr(name, ".attn.masked_bias");
}

/* The same names and shapes as the directory it came from, buffers apart. */
static void assert_same_names(const char *from, const char *to) {
  SafetensorsSet source, saved;
  Error error = {0};
  assert_ok(safetensors_set_open(&source, from, "model", &error), &error);
  assert_ok(safetensors_set_open(&saved, to, "model", &error), &error);
  size_t expected = 0;
  for (size_t i = 0; i < source.count; i++) {
    if (is_buffer(source.entries[i]->name)) continue;
    expected++;
    const SafetensorsEntry *entry = safetensors_set_find(&saved, source.entries[i]->name);
    assert_non_null(entry);
    assert_int_equal(entry->rank, source.entries[i]->rank);
    assert_memory_equal(entry->shape, source.entries[i]->shape, sizeof(int64_t) * (size_t)entry->rank);
  }
  assert_int_equal(saved.count, expected);
  safetensors_set_close(&source);
  safetensors_set_close(&saved);
}

static void what_was_loaded_is_saved(void **state) {
  (void)state;
  static const char *const names[] = {
      "llama", "llama3",    "llama_linear",       "mistral", "qwen2", "qwen2_window", "qwen3", "gpt_neox",
      "gpt2",  "gpt2_bare", "gpt_neox_sequential"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Temporary t;
    temporary_open(&t);
    const char *out = temporary_path(&t, "out");
    char from[512];
    snprintf(from, sizeof from, FIXTURES "/models/%s", names[i]);
    Loaded first, second;
    load_fixture(&first, names[i], DTYPE_F32);
    save(&first, NULL, from, out, DTYPE_F32);
    Error error = {0};
    assert_ok(load(&second, out, DTYPE_F32, &error), &error);
    assert_same_tensors(&first.model, &second.model);
    assert_same_names(from, out);
    loaded_free(&first);
    loaded_free(&second);
    temporary_close(&t);
  }
}

/* The first 16 values of a tensor in the file, as floats. */
static void file_values(const char *directory, const char *name, float *out) {
  SafetensorsSet set;
  Error error = {0};
  assert_ok(safetensors_set_open(&set, directory, "model", &error), &error);
  const SafetensorsEntry *entry = safetensors_set_find(&set, name);
  assert_non_null(entry);
  dtype_convert(out, DTYPE_F32, entry->data, entry->dtype, 16);
  safetensors_set_close(&set);
}

static void half_precision_is_converted(void **state) {
  (void)state;
  static const char *const names[] = {"llama_f16", "llama_bf16"};
  for (size_t i = 0; i < 2; i++) {
    char from[512];
    float expected[16];
    snprintf(from, sizeof from, FIXTURES "/models/%s", names[i]);
    Loaded wide, narrow;
    load_fixture(&wide, names[i], DTYPE_F32);
    load_fixture(&narrow, names[i], DTYPE_BF16);
    file_values(from, wide.model.tensors[1].name, expected);
    const float *found = wide.model.tensors[1].value.data;
    const uint16_t *rounded = narrow.model.tensors[1].value.data;
    for (int k = 0; k < 16; k++) {
      assert_float_equal(found[k], expected[k], 0);
      assert_int_equal(rounded[k], bf16_from_float(expected[k]));
    }
    loaded_free(&wide);
    loaded_free(&narrow);
  }
}

static void written_values_are_rounded_to_the_type_asked_for(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  const char *out = temporary_path(&t, "out");
  Loaded loaded;
  load_fixture(&loaded, "llama", DTYPE_F32);
  save(&loaded, NULL, NULL, out, DTYPE_BF16);
  float found[16];
  file_values(out, loaded.model.tensors[3].name, found);
  const float *exact = loaded.model.tensors[3].value.data;
  for (int k = 0; k < 16; k++) assert_float_equal(found[k], float_from_bf16(bf16_from_float(exact[k])), 0);
  Error error = {0};
  json_t *config = json_file_read(temporary_path(&t, "out/config.json"), &error);
  assert_string_equal(json_string_value(json_object_get(config, "dtype")),
                      "bfloat16"); /* the spelling it had */
  assert_null(json_object_get(config, "torch_dtype"));
  json_decref(config);
  loaded_free(&loaded);
  temporary_close(&t);
}

static void adapter_modules_have_the_prefix_that_files_may_lack(void **state) {
  (void)state;
  Loaded loaded;
  load_fixture(&loaded, "gpt2_bare", DTYPE_F32);
  assert_string_equal(loaded.model.tensors[loaded.model.embedding].name, "wte.weight");
  assert_string_equal(loaded.model.modules[0].name, "transformer.h.0.attn.c_attn");
  assert_true(loaded.model.modules[0].transposed);
  assert_int_equal(loaded.model.head, loaded.model.embedding);
  loaded_free(&loaded);
}

/* ---- score heads ---- */

static void open_score(Loaded *loaded, const char *directory, uint64_t seed, Arena *arena) {
  Error error = {0};
  assert_ok(arena_init(arena, "score", 4096, &error), &error);
  assert_ok(score_head_open(&loaded->head, &loaded->model, directory, false, seed, &compute, arena, &error),
            &error);
}

static void a_reward_model_goes_round(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  const char *out = temporary_path(&t, "reward/"); /* a slash at the end does no harm */
  Loaded first, second;
  Arena a, b;
  load_fixture(&first, "llama_score", DTYPE_F32);
  assert_int_equal(first.model.head, -1);
  open_score(&first, FIXTURES "/models/llama_score", 1, &a);
  first.head.zero = (ScoreZero){0.75f, true};
  Error error = {0};
  assert_false(model_save(&first.model, NULL, NULL, NULL, NULL, out, DTYPE_F32, &compute, &error));
  assert_non_null(strstr(error.message, "no LM head"));
  save(&first, &first.head, NULL, temporary_path(&t, "reward/"), DTYPE_F32);
  error = (Error){0};
  assert_ok(load(&second, temporary_path(&t, "reward"), DTYPE_F32, &error), &error);
  open_score(&second, temporary_path(&t, "reward"), 1, &b);
  assert_same_tensors(&first.model, &second.model);
  assert_memory_equal(first.head.weight.data, second.head.weight.data, 32 * sizeof(float));
  assert_float_equal(second.head.zero.shift, 0.75f, 0);
  assert_true(second.head.zero.known);
  json_t *config = json_file_read(temporary_path(&t, "reward/config.json"), &error);
  assert_string_equal(json_string_value(json_array_get(json_object_get(config, "architectures"), 0)),
                      "LlamaForSequenceClassification");
  assert_int_equal(json_integer_value(json_object_get(config, "pad_token_id")), 100);
  json_decref(config);
  arena_free(&a);
  arena_free(&b);
  loaded_free(&first);
  loaded_free(&second);
  temporary_close(&t);
}

static void a_language_model_becomes_a_reward_model(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Loaded loaded, saved;
  Arena a, b;
  load_fixture(&loaded, "llama", DTYPE_F32);
  open_score(&loaded, FIXTURES "/models/llama", 5, &a);
  const float *w = loaded.head.weight.data;
  double sum = 0;
  for (int i = 0; i < 32; i++) sum += (double)w[i] * (double)w[i];
  assert_true(sum > 0.4 && sum < 1.8); /* 32 values of variance 1/33 */
  Error error = {0};
  ScoreHead none;
  assert_false(
      score_head_open(&none, &loaded.model, FIXTURES "/models/llama", true, 5, &compute, &a, &error));
  assert_non_null(strstr(error.message, "score.weight is missing"));
  save(&loaded, &loaded.head, NULL, temporary_path(&t, "out"), DTYPE_F32);
  error = (Error){0};
  assert_ok(load(&saved, temporary_path(&t, "out"), DTYPE_F32, &error), &error);
  assert_int_equal(saved.model.head, -1);
  assert_int_equal(saved.model.tensor_count, loaded.model.tensor_count - 1);
  open_score(&saved, temporary_path(&t, "out"), 6, &b);
  assert_memory_equal(saved.head.weight.data, w, 32 * sizeof(float));
  json_t *config = json_file_read(temporary_path(&t, "out/config.json"), &error);
  assert_string_equal(json_string_value(json_object_get(json_object_get(config, "id2label"), "0")),
                      "LABEL_0");
  json_decref(config);
  arena_free(&a);
  arena_free(&b);
  loaded_free(&loaded);
  loaded_free(&saved);
  temporary_close(&t);
}

/* ---- fresh weights ---- */

static json_t *fixture_config(const char *name) {
  char path[512];
  snprintf(path, sizeof path, FIXTURES "/models/%s/config.json", name);
  Error error = {0};
  json_t *config = json_file_read(path, &error);
  assert_non_null(config);
  return config;
}

static void initialize(Loaded *loaded, const char *name, DType dtype, uint64_t seed) {
  json_t *config = fixture_config(name);
  Error error = {0};
  *loaded = (Loaded){0};
  assert_ok(arena_init(&loaded->arena, "model", 1 << 20, &error), &error);
  assert_ok(model_open_config(&loaded->model, config, dtype, &compute, &loaded->arena, &error), &error);
  model_initialize(&loaded->model, &compute, seed);
  json_decref(config);
}

static double deviation(Tensor tensor) {
  const float *x = tensor.data;
  double sum = 0, count = (double)tensor_count(tensor);
  for (int64_t i = 0; i < tensor_count(tensor); i++) sum += (double)x[i] * (double)x[i];
  return sqrt(sum / count);
}

static void fresh_weights_are_those_of_the_seed(void **state) {
  (void)state;
  Loaded a, b, c;
  initialize(&a, "gpt2", DTYPE_F32, 1);
  initialize(&b, "gpt2", DTYPE_F32, 1);
  initialize(&c, "gpt2", DTYPE_BF16, 1);
  assert_same_tensors(&a.model, &b.model);
  const Block *block = &a.model.blocks[0];
  assert_true(fabs(deviation(model_tensor(&a.model, a.model.embedding)) - 0.02) < 0.001);
  /* GPT-2 starts the products into the residual stream smaller: 0.02 / sqrt(2 * 2 layers) */
  assert_true(fabs(deviation(model_tensor(&a.model, block->linear[LINEAR_DOWN].weight)) - 0.01) < 0.001);
  assert_true(fabs(deviation(model_tensor(&a.model, block->linear[LINEAR_UP].weight)) - 0.02) < 0.001);
  assert_float_equal(deviation(model_tensor(&a.model, block->linear[LINEAR_UP].bias)), 0, 0);
  const float *norm = model_tensor(&a.model, block->norm[NORM_MLP].weight).data;
  assert_float_equal(norm[3], 1, 0);
  const float *wide = model_tensor(&a.model, 0).data;
  const uint16_t *narrow = model_tensor(&c.model, 0).data;
  for (int i = 0; i < 50; i++) assert_int_equal(narrow[i], bf16_from_float(wide[i]));
  loaded_free(&b);
  initialize(&b, "gpt2", DTYPE_F32, 2);
  assert_memory_not_equal(model_tensor(&a.model, 0).data, model_tensor(&b.model, 0).data, 64);
  loaded_free(&a);
  loaded_free(&b);
  loaded_free(&c);
}

static void a_trainable_model_lists_every_tensor(void **state) {
  (void)state;
  Loaded loaded;
  ParameterList list = {0};
  Error error = {0};
  initialize(&loaded, "llama", DTYPE_BF16, 1);
  assert_ok(model_make_trainable(&loaded.model, &compute, &loaded.arena, &list, &error), &error);
  assert_int_equal(list.count, loaded.model.tensor_count);
  for (size_t i = 0; i < list.count; i++) {
    assert_int_equal(list.items[i].grad.dtype, DTYPE_F32);
    assert_int_equal(list.items[i].decay, list.items[i].value.rank == 2);
    assert_float_equal(*(const float *)list.items[i].grad.data, 0, 0);
  }
  assert_int_equal(model_parameter_count(&loaded.model),
                   101 * 32 * 2 + 2 * (32 * 32 * 3 + 32 * 56 * 3 + 64) + 32);
  parameter_list_free(&list);
  loaded_free(&loaded);
}

/* ---- directories with something wrong ---- */

/* One change to a copy of a checkpoint. */
typedef struct Change {
  const char *drop; /* a tensor left out */
  const char *flat; /* a tensor written with its shape turned into one row */
  const char *add;  /* a tensor added, a copy of `like` (or zeros of it) */
  const char *like;
  bool zeros;
  const char *spoil; /* a tensor of which the second half is NaN */
  DType dtype;       /* of the one added; F32 is that of the file */
} Change;

static void copy_config(const char *from, const char *to) {
  Error error = {0};
  char *source = path_join(from, "config.json"), *target = path_join(to, "config.json");
  assert_ok(directory_create(to, &error) && file_copy(source, target, &error), &error);
  memory_free(source);
  memory_free(target);
}

static void write_changed(const char *from, const char *to, Change change) {
  SafetensorsSet set;
  SafetensorsWriter writer = {0};
  const SafetensorsEntry *sources[512];
  size_t count = 0;
  Error error = {0};
  copy_config(from, to);
  assert_ok(safetensors_set_open(&set, from, "model", &error), &error);
  for (size_t i = 0; i < set.count; i++) {
    const SafetensorsEntry *e = set.entries[i];
    if (change.drop && strcmp(e->name, change.drop) == 0) continue;
    bool flat = change.flat && strcmp(e->name, change.flat) == 0;
    const int64_t row[2] = {1, (int64_t)(e->bytes / dtype_size(e->dtype))};
    assert_ok(safetensors_writer_declare(&writer, e->name, e->dtype, flat ? 2 : e->rank,
                                         flat ? row : e->shape, &error),
              &error);
    sources[count++] = e;
  }
  if (change.add) {
    const SafetensorsEntry *e = safetensors_set_find(&set, change.like);
    const DType dtype = change.dtype ? change.dtype : e->dtype;
    assert_ok(safetensors_writer_declare(&writer, change.add, dtype, e->rank, e->shape, &error), &error);
    sources[count++] = e;
  }
  char *path = path_join(to, "model.safetensors");
  assert_ok(safetensors_writer_begin(&writer, path, &error), &error);
  const SafetensorsEntry *next;
  while ((next = safetensors_writer_next(&writer)) != NULL) {
    bool zeros = change.zeros && strcmp(next->name, change.add) == 0;
    char *values = memory_zeroed(1, next->bytes);
    const SafetensorsEntry *source = sources[next->index];
    if (!zeros)
      dtype_convert(values, next->dtype, source->data, source->dtype,
                    source->bytes / dtype_size(source->dtype));
    if (change.spoil && !strcmp(next->name, change.spoil))
      memset(values + next->bytes / 2, 0xff, next->bytes / 2);
    assert_ok(safetensors_writer_write(&writer, values, next->bytes, &error), &error);
    memory_free(values);
  }
  assert_ok(safetensors_writer_finish(&writer, &error), &error);
  safetensors_writer_free(&writer);
  safetensors_set_close(&set);
  memory_free(path);
}

static void changed_files_are_judged(void **state) {
  (void)state;
  static const struct {
    const char *from;
    Change change;
    const char *message; /* a part of it; NULL = it loads */
  } cases[] = {
      {"llama", {.drop = "model.norm.weight"}, "tensor model.norm.weight [32] is missing"},
      {"llama", {.drop = "lm_head.weight"}, "tensor lm_head.weight [101, 32] is missing"},
      {"llama",
       {.flat = "model.layers.1.mlp.up_proj.weight"},
       "model.layers.1.mlp.up_proj.weight: expected the shape [56, 32] by config.json, found [1, 1792]"},
      {"llama",
       {.add = "model.layers.0.self_attn.q_proj.bias", .like = "model.norm.weight"},
       "unexpected tensor model.layers.0.self_attn.q_proj.bias for a model of type \"llama\""},
      {"llama", {.add = "model.layers.0.self_attn.rotary_emb.inv_freq", .like = "model.norm.weight"}, NULL},
      {"llama", {.add = "score.weight", .like = "model.norm.weight"}, NULL},
      {"llama",
       {.spoil = "model.layers.1.mlp.up_proj.weight"},
       "model.layers.1.mlp.up_proj.weight: 896 of 1792 values are not finite"},
      {"gpt2", {.add = "lm_head.weight", .like = "transformer.wte.weight"}, NULL},
      {"gpt2",
       {.add = "lm_head.weight", .like = "transformer.wte.weight", .zeros = true},
       "lm_head.weight differs from transformer.wte.weight"},
      /* One copy under the head's name, as safetensors' save_model keeps it. */
      {"gpt2",
       {.drop = "transformer.wte.weight", .add = "lm_head.weight", .like = "transformer.wte.weight"},
       NULL},
      {"gpt2", {.drop = "transformer.wte.weight"}, "tensor transformer.wte.weight [99, 24] is missing"},
      {"llama",
       {.drop = "model.embed_tokens.weight"},
       "tensor model.embed_tokens.weight [101, 32] is missing"},
      /* Copies of two dtypes are the same where they are rounded alike, as in Transformers. */
      {"gpt2", {.add = "lm_head.weight", .like = "transformer.wte.weight", .dtype = DTYPE_F64}, NULL},
      {"gpt2",
       {.add = "lm_head.weight", .like = "transformer.wte.weight", .dtype = DTYPE_BF16},
       "lm_head.weight differs from transformer.wte.weight"},
      {"gpt2",
       {.add = "lm_head.weight", .like = "transformer.wte.weight", .dtype = DTYPE_I32, .zeros = true},
       "differs"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Temporary t;
    temporary_open(&t);
    char from[512];
    snprintf(from, sizeof from, FIXTURES "/models/%s", cases[i].from);
    write_changed(from, temporary_path(&t, "changed"), cases[i].change);
    Loaded loaded;
    Error error = {0};
    bool ok = load(&loaded, temporary_path(&t, "changed"), DTYPE_F32, &error);
    if (!cases[i].message) {
      assert_ok(ok, &error);
    } else {
      assert_false(ok);
      assert_int_equal(error.code, ERROR_MODEL);
      if (!strstr(error.message, cases[i].message))
        fail_msg("\"%s\" is not in \"%s\"", cases[i].message, error.message);
    }
    loaded_free(&loaded);
    temporary_close(&t);
  }
}

static void tied_copies_are_compared_in_the_dtype_of_the_model(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Loaded plain, loaded;
  Error error = {0};
  write_changed(FIXTURES "/models/gpt2", temporary_path(&t, "rounded"),
                (Change){.add = "lm_head.weight", .like = "transformer.wte.weight", .dtype = DTYPE_BF16});
  assert_false(load(&loaded, temporary_path(&t, "rounded"), DTYPE_F32, &error));
  loaded_free(&loaded);
  error = (Error){0};
  assert_ok(load(&loaded, temporary_path(&t, "rounded"), DTYPE_BF16, &error), &error);
  load_fixture(&plain, "gpt2", DTYPE_BF16);
  assert_same_tensors(&loaded.model, &plain.model);
  loaded_free(&loaded);
  write_changed(
      FIXTURES "/models/gpt2", temporary_path(&t, "head"),
      (Change){.drop = "transformer.wte.weight", .add = "lm_head.weight", .like = "transformer.wte.weight"});
  assert_ok(load(&loaded, temporary_path(&t, "head"), DTYPE_BF16, &error), &error);
  assert_same_tensors(&loaded.model, &plain.model);
  loaded_free(&loaded);
  loaded_free(&plain);
  temporary_close(&t);
}

static void write_text(const char *path, const char *text) {
  Error error = {0};
  assert_ok(file_write_text(path, text, &error), &error);
}

static void expect_failure(const char *directory, ErrorCode code, const char *message) {
  Loaded loaded;
  Error error = {0};
  assert_false(load(&loaded, directory, DTYPE_F32, &error));
  assert_int_equal(error.code, code);
  if (!strstr(error.message, message)) fail_msg("\"%s\" is not in \"%s\"", message, error.message);
  loaded_free(&loaded);
}

static void broken_directories_are_refused(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  expect_failure(temporary_path(&t, "nowhere"), ERROR_FILE, "nowhere/config.json");
  copy_config(FIXTURES "/models/llama", t.directory);
  expect_failure(t.directory, ERROR_MODEL, "model.safetensors");
  write_text(temporary_path(&t, "pytorch_model.bin"), "x");
  expect_failure(t.directory, ERROR_MODEL, "pytorch_model.bin is not read");
  Buffer content = {0};
  Error error = {0};
  assert_ok(file_read(FIXTURES "/models/llama/model.safetensors", &content, &error), &error);
  FILE *torn = fopen(temporary_path(&t, "model.safetensors"), "wb");
  assert_int_equal(fwrite(content.data, 1, content.size / 2, torn), content.size / 2);
  fclose(torn);
  buffer_free(&content);
  expect_failure(t.directory, ERROR_MODEL, "model.safetensors");
  write_text(temporary_path(&t, "config.json"), "{\n  \"model_type\": \"llama\",\n  \"hidden_size\" 32\n}\n");
  expect_failure(t.directory, ERROR_MODEL, "config.json:3: broken JSON");
  write_text(temporary_path(&t, "config.json"), "{\"model_type\": \"mamba\"}");
  expect_failure(t.directory, ERROR_MODEL,
                 "config.json: \"model_type\": \"mamba\" is not supported (known: llama");
  write_text(temporary_path(&t, "config.json"), "[1]");
  expect_failure(t.directory, ERROR_MODEL, "expected a JSON object");
  temporary_close(&t);
}

static void every_failed_allocation_is_reported(void **state) {
  (void)state;
  bool ok = false;
  for (long n = 0; !ok; n++) {
    Loaded loaded = {0};
    Error error = {0};
    assert_ok(arena_init(&loaded.arena, "model", 1 << 20, &error), &error);
    memory_fail_after(n);
    ok = model_open(&loaded.model, FIXTURES "/models/llama", DTYPE_BF16, &compute, &loaded.arena, &error) &&
         model_read(&loaded.model, FIXTURES "/models/llama", &compute, &error);
    memory_fail_after(-1);
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    loaded_free(&loaded);
    assert_true(n < 10000);
  }
}

/* ---- saving ---- */

static void companions_are_copied_and_existing_directories_kept(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  Error error = {0};
  char source[512], out[512];
  snprintf(source, sizeof source, "%s/source", t.directory);
  snprintf(out, sizeof out, "%s/out", t.directory);
  assert_ok(directory_create(source, &error) && directory_create(out, &error), &error);
  write_text(temporary_path(&t, "source/tokenizer.json"), "{}\n");
  write_text(temporary_path(&t, "source/chat_template.jinja"), "x");
  write_text(temporary_path(&t, "source/notes.txt"), "not ours to copy");
  write_text(temporary_path(&t, "out/mine.txt"), "kept");
  Loaded loaded, again;
  load_fixture(&loaded, "gpt2", DTYPE_F32);
  save(&loaded, NULL, source, out, DTYPE_F32);
  save(&loaded, NULL, out, out, DTYPE_F32); /* onto itself */
  assert_true(file_exists(temporary_path(&t, "out/tokenizer.json")));
  assert_true(file_exists(temporary_path(&t, "out/chat_template.jinja")));
  assert_true(file_exists(temporary_path(&t, "out/mine.txt")));
  assert_false(file_exists(temporary_path(&t, "out/notes.txt")));
  assert_ok(load(&again, out, DTYPE_F32, &error), &error);
  assert_same_tensors(&loaded.model, &again.model);
  loaded_free(&loaded);
  loaded_free(&again);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_loaded_is_saved),
                                     cmocka_unit_test(half_precision_is_converted),
                                     cmocka_unit_test(written_values_are_rounded_to_the_type_asked_for),
                                     cmocka_unit_test(adapter_modules_have_the_prefix_that_files_may_lack),
                                     cmocka_unit_test(a_reward_model_goes_round),
                                     cmocka_unit_test(a_language_model_becomes_a_reward_model),
                                     cmocka_unit_test(fresh_weights_are_those_of_the_seed),
                                     cmocka_unit_test(a_trainable_model_lists_every_tensor),
                                     cmocka_unit_test(changed_files_are_judged),
                                     cmocka_unit_test(tied_copies_are_compared_in_the_dtype_of_the_model),
                                     cmocka_unit_test(broken_directories_are_refused),
                                     cmocka_unit_test(every_failed_allocation_is_reported),
                                     cmocka_unit_test(companions_are_copied_and_existing_directories_kept)};
  return cmocka_run_group_tests(tests, open_compute, close_compute);
}
