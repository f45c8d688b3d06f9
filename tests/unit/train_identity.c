/* Whose model is this: digests of weights, of vocabularies and of templates; the file they are kept in. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/folder.h"
#include "datasets_world.h"
#include "formats/safetensors.h"
#include "train/identity.h"

static void must(bool ok, const Error *error) {
  if (!ok) print_error("%s\n", error->message);
  assert_true(ok);
}

/* -- digests of weights --------------------------------------------------------------------------------- */

/* How a copy of a model's files differs. */
typedef struct Change {
  const char *drop;   /* this beginning of names */
  const char *tensor; /* of this one ... */
  size_t element;     /* ... this element */
  DType dtype;        /* F32: as it is */
  uint64_t shard;     /* bytes of a file, at most; 0: one file */
  const char *extra;  /* a tensor more, of this name ... */
  const char *copied; /* ... with the content of this one, or of zeros */
} Change;

static const char *changed_name(const Change *change, const char *name) {
  const size_t length = change->drop ? strlen(change->drop) : 0;
  return length && strncmp(name, change->drop, length) == 0 ? name + length : name;
}

static void write_tensor(SafetensorsWriter *writer, const Change *change, const SafetensorsEntry *from,
                         size_t bytes) {
  Error error = {0};
  const size_t count = from->bytes / sizeof(float);
  float *values = memory_alloc(from->bytes);
  memcpy(values, from->data, from->bytes);
  if (change->tensor && strcmp(change->tensor, from->name) == 0) values[change->element] += 1;
  if (change->dtype != DTYPE_F32) {
    uint16_t *narrow = memory_alloc(bytes);
    dtype_convert(narrow, change->dtype, values, DTYPE_F32, count);
    must(safetensors_writer_write(writer, narrow, bytes, &error), &error);
    memory_free(narrow);
  } else {
    must(safetensors_writer_write(writer, values, bytes, &error), &error);
  }
  memory_free(values);
}

static WeightsDigest digest_of(const char *model, Change change) {
  Error error = {0};
  SafetensorsSet set;
  SafetensorsWriter writer = {0};
  WeightsDigest digest;
  char source[256], *copy = memory_copy_string(temporary_path(&folder, "model"));
  snprintf(source, sizeof source, FIXTURES "/models/%s", model);
  must(directory_remove_all(copy, &error) && directory_create(copy, &error), &error);
  char *from = path_join(source, "config.json"), *to = path_join(copy, "config.json");
  must(file_copy(from, to, &error) && safetensors_set_open(&set, source, "model", &error), &error);
  for (size_t i = 0; i < set.count; i++) {
    const SafetensorsEntry *e = set.entries[i];
    assert_int_equal(e->dtype, DTYPE_F32);
    must(safetensors_writer_declare(&writer, changed_name(&change, e->name), change.dtype, e->rank, e->shape,
                                    &error),
         &error);
  }
  const SafetensorsEntry *extra = change.extra ? safetensors_set_find(&set, change.copied) : NULL;
  if (extra)
    must(safetensors_writer_declare(&writer, change.extra, change.dtype, extra->rank, extra->shape, &error),
         &error);
  must(safetensors_writer_begin_sharded(&writer, copy, "model", change.shard ? change.shard : UINT64_MAX,
                                        &error),
       &error);
  const SafetensorsEntry *next;
  while ((next = safetensors_writer_next(&writer)) != NULL) {
    write_tensor(&writer, &change, next->index < set.count ? set.entries[next->index] : extra, next->bytes);
  }
  must(safetensors_writer_finish(&writer, &error), &error);
  safetensors_writer_free(&writer);
  safetensors_set_close(&set);
  must(weights_digest(&digest, copy, &error), &error);
  memory_free(from);
  memory_free(to);
  memory_free(copy);
  return digest;
}

static bool same(const char a[33], const char b[33]) {
  assert_int_equal(strlen(a), 32);
  return strcmp(a, b) == 0;
}

static void how_weights_lie_in_files_does_not_matter(void **state) {
  (void)state;
  const WeightsDigest plain = digest_of("gpt2", (Change){.dtype = DTYPE_F32});
  const Change cases[] = {
      {.dtype = DTYPE_F32},
      {.dtype = DTYPE_F32, .shard = 20000},
      {.dtype = DTYPE_F32, .drop = "transformer."},
      {.dtype = DTYPE_F32, .extra = "transformer.h.0.attn.bias", .copied = "transformer.wpe.weight"},
      {.dtype = DTYPE_F32, .extra = "lm_head.weight", .copied = "transformer.wte.weight"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const WeightsDigest other = digest_of("gpt2", cases[i]);
    assert_true(same(plain.exact, other.exact) && same(plain.rounded, other.rounded));
  }
}

static void other_weights_have_other_digests(void **state) {
  (void)state;
  const WeightsDigest plain = digest_of("llama", (Change){.dtype = DTYPE_F32});
  const Change cases[] = {
      {.dtype = DTYPE_F32, .tensor = "model.embed_tokens.weight", .element = 0},
      {.dtype = DTYPE_F32, .tensor = "model.embed_tokens.weight", .element = 101 * 32 - 1},
      {.dtype = DTYPE_F32, .tensor = "model.norm.weight", .element = 7},
      {.dtype = DTYPE_F32, .tensor = "lm_head.weight", .element = 1000},
      {.dtype = DTYPE_F32, .extra = "score.weight", .copied = "model.norm.weight"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const WeightsDigest other = digest_of("llama", cases[i]);
    assert_false(same(plain.exact, other.exact));
    assert_false(same(plain.rounded, other.rounded));
  }
  const WeightsDigest neighbour = digest_of("llama_linear", (Change){.dtype = DTYPE_F32});
  assert_false(same(plain.exact, neighbour.exact));
}

/* bf16 can be told from fp32, and is known for a copy; fp16 rounds otherwise. */
static void a_copy_in_another_precision_is_known(void **state) {
  (void)state;
  const WeightsDigest plain = digest_of("llama", (Change){.dtype = DTYPE_F32});
  const WeightsDigest narrow = digest_of("llama", (Change){.dtype = DTYPE_BF16});
  assert_false(same(plain.exact, narrow.exact));
  assert_true(same(plain.rounded, narrow.rounded));
  assert_false(same(plain.exact, digest_of("llama", (Change){.dtype = DTYPE_F16}).exact));
}

/* A matrix of 3 * 16384 elements: of it the first and the last run of 1024 are read, and of the second not all. */
static void large_tensors_are_sampled(void **state) {
  (void)state;
  enum { COUNT = 3 * 16384, RUN = 1024, SECOND = (COUNT - RUN) / 15 };
  static const size_t elements[] = {0,      RUN - 1,          RUN,         SECOND - 1,
                                    SECOND, COUNT - RUN - 15, COUNT - RUN, COUNT - 1};
  static const bool seen[] = {true, true, false, false, true, false, true, true};
  char *directory = memory_copy_string(temporary_path(&folder, "adapter"));
  char first[33] = "";
  for (size_t i = 0; i <= sizeof elements / sizeof *elements; i++) {
    Error error = {0};
    SafetensorsWriter writer = {0};
    WeightsDigest digest;
    float *values = memory_zeroed(COUNT, sizeof *values);
    if (i > 0) values[elements[i - 1]] = 1;
    must(directory_create(directory, &error), &error);
    char *config = path_join(directory, "adapter_config.json"),
         *path = path_join(directory, "adapter_model.safetensors");
    must(file_write_text(config, "{}", &error) &&
             safetensors_writer_declare(&writer, "a", DTYPE_F32, 1, (const int64_t[]){COUNT}, &error) &&
             safetensors_writer_begin(&writer, path, &error) && safetensors_writer_next(&writer) &&
             safetensors_writer_write(&writer, values, COUNT * sizeof *values, &error) &&
             !safetensors_writer_next(&writer) && safetensors_writer_finish(&writer, &error),
         &error);
    safetensors_writer_free(&writer);
    must(weights_digest(&digest, directory, &error), &error);
    if (i == 0) snprintf(first, sizeof first, "%s", digest.exact);
    if (i > 0) assert_int_equal(same(first, digest.exact), !seen[i - 1]);
    memory_free(values);
    memory_free(config);
    memory_free(path);
  }
  memory_free(directory);
}

/* -- the file ------------------------------------------------------------------------------------------- */

static void what_is_written_is_read(void **state) {
  (void)state;
  Error error = {0};
  Identity identity, empty = {0};
  Identity written = {.base = {.exact = "0123", .rounded = "4567"},
                      .int8_tables = true,
                      .text = {.vocabulary = "89ab", .template = "chatml", .rendering = "cdef"}};
  char *directory = memory_copy_string(temporary_path(&folder, "kept"));
  must(directory_create(directory, &error) && identity_read(&identity, directory, &error), &error);
  assert_memory_equal(&identity, &empty, sizeof empty);
  for (ModelQuantize quantize = MODEL_QUANTIZE_NONE; quantize <= MODEL_QUANTIZE_INT8; quantize++) {
    written.quantize = quantize;
    must(identity_write(&written, directory, &error) && identity_read(&identity, directory, &error), &error);
    assert_memory_equal(&identity, &written, sizeof written);
  }
  must(identity_write(&empty, directory, &error) && identity_read(&identity, directory, &error), &error);
  assert_memory_equal(&identity, &empty, sizeof empty);

  char *path = path_join(directory, IDENTITY_FILE);
  static const char *const broken[] = {"[]",
                                       "{\"vocabulary\": 7}",
                                       "{\"template\": {\"name\": []}}",
                                       "{\"base\": {\"quantize\": \"nf3\"}}",
                                       "{\"vocabulary\": \"0123456789012345678901234567890123456789\"}",
                                       "{"};
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    Error why = {0};
    must(file_write_text(path, broken[i], &error), &error);
    assert_false(identity_read(&identity, directory, &why));
    assert_int_equal(why.code, ERROR_MODEL);
    assert_non_null(strstr(why.message, path));
  }
  memory_free(path);
  memory_free(directory);
}

static void templates_are_known_by_what_they_render(void **state) {
  (void)state;
  void *opened;
  Error error = {0};
  assert_int_equal(open_world(&opened), 0);
  World *world = opened;
  const ChatTemplate *const chats[] = {&world->plain, &world->chatml, &world->alpaca};
  char digests[3][33], again[33];
  for (int i = 0; i < 3; i++) {
    must(rendering_digest(chats[i], digests[i], &error) && rendering_digest(chats[i], again, &error), &error);
    assert_string_equal(digests[i], again);
    for (int k = 0; k < i; k++) assert_false(same(digests[i], digests[k]));
  }
  ChatTemplate other; /* the mark that ends an answer stands in no text at all */
  other = world->plain;
  other.end_id = tokenizer_bos(world->tokenizer);
  must(rendering_digest(&other, again, &error), &error);
  assert_false(same(digests[0], again));
  close_world(&opened);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(how_weights_lie_in_files_does_not_matter),
                                     cmocka_unit_test(other_weights_have_other_digests),
                                     cmocka_unit_test(a_copy_in_another_precision_is_known),
                                     cmocka_unit_test(large_tensors_are_sampled),
                                     cmocka_unit_test(what_is_written_is_read),
                                     cmocka_unit_test(templates_are_known_by_what_they_render)};
  return cmocka_run_group_tests(tests, open_folder, close_folder);
}
