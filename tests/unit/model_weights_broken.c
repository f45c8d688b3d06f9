/* Models on disk: what is wrong in a directory is said, and what differs only in form is taken. */
#include "tests/unit/model_weights_world.h"

/* One change to a copy of a checkpoint. */
typedef struct Change {
  const char *drop; /* a tensor left out */
  const char *part; /* all tensors left out whose names have it in them */
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
    if (change.part && strstr(e->name, change.part)) continue;
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
      /* All of it at once, by name: what is missing, of another shape, unexpected; of many the first. */
      {"llama",
       {.drop = "model.norm.weight",
        .flat = "model.layers.1.mlp.up_proj.weight",
        .add = "model.norm.bias",
        .like = "model.norm.weight"},
       "tensor model.norm.weight [32] is missing; model.layers.1.mlp.up_proj.weight: expected the shape [56, "
       "32] by "
       "config.json, found [1, 1792]; unexpected tensor model.norm.bias for a model of type \"llama\""},
      {"llama",
       {.part = "layers.1.", .add = "x", .like = "model.norm.weight", .dtype = DTYPE_I32, .zeros = true},
       "9 tensors are missing: model.layers.1.self_attn.q_proj.weight [32, 32], "
       "model.layers.1.self_attn.k_proj.weight [16, 32], model.layers.1.self_attn.v_proj.weight [16, 32] and "
       "6 more; "
       "unexpected tensor x"},
      {"llama",
       {.drop = "model.norm.weight",
        .add = "model.norm.weight",
        .like = "model.norm.weight",
        .dtype = DTYPE_I32,
        .zeros = true},
       "model.norm.weight: expected F32, F16 or BF16, found I32"},
      {"llama", {.add = "model.layers.0.self_attn.rotary_emb.inv_freq", .like = "model.norm.weight"}, NULL},
      {"llama", {.add = "rotary_pos_emb.inv_freq", .like = "model.norm.weight"}, NULL},
      {"gpt2", {.add = "transformer.h.0.attn.attention.masked_bias", .like = "transformer.ln_f.bias"}, NULL},
      /* Types may be mixed in a file. */
      {"llama",
       {.drop = "model.norm.weight",
        .add = "model.norm.weight",
        .like = "model.norm.weight",
        .dtype = DTYPE_F64},
       NULL},
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
  expect_failure(t.directory, ERROR_MODEL, "pytorch_model.bin: is no file of torch.save");
  write_text(temporary_path(&t, "pytorch_model.bin"),
             "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n");
  expect_failure(t.directory, ERROR_MODEL, "pytorch_model.bin: only the pointer to a file of Git LFS");
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
                 "config.json: model_type: \"mamba\" is not supported (known: llama");
  write_text(temporary_path(&t, "config.json"), "[1]");
  expect_failure(t.directory, ERROR_MODEL, "config.json: expected an object, found a list");
  temporary_close(&t);
}

/* What config.json says of the scores is of its type, or it is an error: a zero point that is silently 0 is another reward. */
static void the_zero_point_has_its_type(void **state) {
  (void)state;
  static const struct {
    const char *key, *value, *message; /* NULL: it is read */
  } cases[] = {{"score_shift", "-1.5", NULL},
               {"score_shift", "2", NULL},
               {"score_shift", "null", NULL},
               {"score_shift", "\"0.5\"", "config.json: score_shift: expected a number, found a string"},
               {"score_shift", "true", "config.json: score_shift: expected a number, found a boolean"},
               {"score_zero_point", "true", NULL},
               {"score_zero_point", "1", "config.json: score_zero_point: expected true or false, found"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    Temporary t;
    Error error = {0};
    Loaded loaded;
    Arena arena;
    ScoreHead head;
    temporary_open(&t);
    load_fixture(&loaded, "llama_score", DTYPE_F32);
    json_t *config = json_file_read(FIXTURES "/models/llama_score/config.json", &error);
    json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
    assert_true(config && value);
    json_object_set_new(config, cases[i].key, value);
    assert_ok(json_file_write(temporary_path(&t, "config.json"), config, &error), &error);
    json_decref(config);
    assert_ok(file_copy(FIXTURES "/models/llama_score/model.safetensors",
                        temporary_path(&t, "model.safetensors"), &error),
              &error);
    assert_ok(arena_init(&arena, "head", 1 << 12, &error), &error);
    const bool ok = score_head_open(&head, &loaded.model, t.directory, true, 0, &compute, &arena, &error);
    if (ok != !cases[i].message || (!ok && !strstr(error.message, cases[i].message)))
      fail_msg("case %zu: %s", i, ok ? "taken" : error.message);
    if (i < 2) assert_true(head.zero.shift == (i ? 2 : -1.5F));
    arena_free(&arena);
    loaded_free(&loaded);
    temporary_close(&t);
  }
}

static void every_failed_allocation_is_reported(void **state) {
  (void)state;
  bool ok = false;
  for (long n = 0; !ok; n++) {
    Loaded loaded = {0};
    Error error = {0};
    assert_ok(arena_init(&loaded.arena, "model", 1 << 20, &error), &error);
    memory_fail_after(n);
    ok = model_open(&loaded.model, FIXTURES "/models/llama", (WeightFormat){.dtype = DTYPE_BF16}, &compute,
                    &loaded.arena, &error) &&
         model_read(&loaded.model, FIXTURES "/models/llama", &compute, NULL, &error);
    memory_fail_after(-1);
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    loaded_free(&loaded);
    assert_true(n < 10000);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(changed_files_are_judged),
                                     cmocka_unit_test(tied_copies_are_compared_in_the_dtype_of_the_model),
                                     cmocka_unit_test(broken_directories_are_refused),
                                     cmocka_unit_test(the_zero_point_has_its_type),
                                     cmocka_unit_test(every_failed_allocation_is_reported)};
  return cmocka_run_group_tests(tests, open_compute, close_compute);
}
