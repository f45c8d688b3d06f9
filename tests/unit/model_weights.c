/* Models on disk: what is loaded is what is saved, names and all; score heads; fresh weights. Reads the tiny checkpoints of
 * tests/fixtures/models. */
#include "tests/unit/model_weights_world.h"

#include "model/digest.h"

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

static void copy_as(const char *from, Temporary *to, const char *name) {
  Error error = {0};
  assert_ok(file_copy(from, temporary_path(to, name), &error), &error);
}

static void assert_is_llama(const char *directory) {
  Loaded expected, loaded;
  WeightsDigest a, b;
  Error error = {0};
  load_fixture(&expected, "llama", DTYPE_F32);
  assert_ok(load(&loaded, directory, DTYPE_F32, &error), &error);
  assert_same_tensors(&loaded.model, &expected.model);
  assert_ok(model_check_values(&loaded.model, directory, &error), &error);
  /* The identity of a model says nothing of the form of its files. */
  assert_ok(weights_digest(&a, directory, &error), &error);
  assert_ok(weights_digest(&b, FIXTURES "/models/llama", &error), &error);
  assert_string_equal(a.exact, b.exact);
  assert_string_equal(a.rounded, b.rounded);
  loaded_free(&loaded);
  loaded_free(&expected);
}

/* pytorch_model.bin, its shards (one a zip archive and one older), and which form goes first. */
static void files_of_torch_save_are_the_same_model(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  copy_as(FIXTURES "/models/llama/config.json", &t, "config.json");
  copy_as(FIXTURES "/torch/shards/pytorch_model.bin.index.json", &t, "pytorch_model.bin.index.json");
  copy_as(FIXTURES "/torch/shards/pytorch_model-00001-of-00002.bin", &t, "pytorch_model-00001-of-00002.bin");
  Loaded loaded;
  Error error = {0};
  assert_false(load(&loaded, t.directory, DTYPE_F32, &error));
  assert_non_null(
      strstr(error.message, "names a shard that is not there: 'pytorch_model-00002-of-00002.bin'"));
  loaded_free(&loaded);
  copy_as(FIXTURES "/torch/shards/pytorch_model-00002-of-00002.bin", &t, "pytorch_model-00002-of-00002.bin");
  assert_is_llama(t.directory);
  copy_as(FIXTURES "/torch/llama.bin", &t, "pytorch_model.bin");
  write_text(temporary_path(&t, "pytorch_model.bin.index.json"), "{}"); /* no longer looked at */
  assert_is_llama(t.directory);
  copy_as(FIXTURES "/models/llama/model.safetensors", &t, "model.safetensors");
  write_text(temporary_path(&t, "pytorch_model.bin"), "x");
  assert_is_llama(t.directory);
  temporary_close(&t);
}

enum { MANY = 64, MANY_ELEMENTS = 1 << 18 };

/* A model.safetensors of MANY tensors of 1 MiB, for digests only. */
static void write_many(const char *path) {
  SafetensorsWriter writer = {0};
  const SafetensorsEntry *next;
  const int64_t shape[] = {MANY_ELEMENTS};
  float *values = memory_zeroed(MANY_ELEMENTS, sizeof *values);
  Error error = {0};
  assert_non_null(values);
  for (int i = 0; i < MANY; i++) {
    char name[32];
    snprintf(name, sizeof name, "model.extra.%d", i);
    assert_ok(safetensors_writer_declare(&writer, name, DTYPE_F32, 1, shape, &error), &error);
  }
  assert_ok(safetensors_writer_begin(&writer, path, &error), &error);
  while ((next = safetensors_writer_next(&writer)))
    assert_ok(safetensors_writer_write(&writer, values, next->bytes, &error), &error);
  assert_ok(safetensors_writer_finish(&writer, &error), &error);
  safetensors_writer_free(&writer);
  memory_free(values);
}

static long peak_kib(void) {
  long kib = -1;
  char line[256];
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) {
    if (strncmp(line, "VmHWM:", 6) == 0) kib = strtol(line + 6, NULL, 10);
  }
  if (status) fclose(status);
  return kib;
}

/* From here on the peak counts anew. */
static bool forget_peak(void) {
  FILE *file = fopen("/proc/self/clear_refs", "w");
  if (!file) return false;
  const bool written = fputs("5", file) >= 0;
  return fclose(file) == 0 && written;
}

/* It reads a little of each tensor, and the system maps much around that: no more of the file stays than of one tensor. */
static void a_digest_leaves_no_file_in_memory(void **state) {
  (void)state;
  Temporary t;
  WeightsDigest digest;
  Error error = {0};
  temporary_open(&t);
  copy_as(FIXTURES "/models/llama/config.json", &t, "config.json");
  write_many(temporary_path(&t, "model.safetensors"));
  if (forget_peak()) {
    const long before = peak_kib();
    assert_ok(weights_digest(&digest, t.directory, &error), &error);
    assert_in_range(peak_kib() - before, 0, MANY * 1024 / 8);
  }
  temporary_close(&t);
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
  assert_ok(model_open_config(&loaded->model, config, (WeightFormat){.dtype = dtype}, &compute,
                              &loaded->arena, &error),
            &error);
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
                                     cmocka_unit_test(files_of_torch_save_are_the_same_model),
                                     cmocka_unit_test(a_digest_leaves_no_file_in_memory),
                                     cmocka_unit_test(a_digest_leaves_no_file_in_memory),
                                     cmocka_unit_test(half_precision_is_converted),
                                     cmocka_unit_test(written_values_are_rounded_to_the_type_asked_for),
                                     cmocka_unit_test(adapter_modules_have_the_prefix_that_files_may_lack),
                                     cmocka_unit_test(a_reward_model_goes_round),
                                     cmocka_unit_test(a_language_model_becomes_a_reward_model),
                                     cmocka_unit_test(fresh_weights_are_those_of_the_seed),
                                     cmocka_unit_test(a_trainable_model_lists_every_tensor),
                                     cmocka_unit_test(companions_are_copied_and_existing_directories_kept)};
  return cmocka_run_group_tests(tests, open_compute, close_compute);
}
