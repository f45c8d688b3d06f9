/* GGUF: blocks against the Python package gguf to the bit (tests/fixtures/make_gguf_blocks.py), the reader, and files that lie. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/gguf.h"
#include "formats/safetensors.h"
#include "tests/folder.h"

#include <stdlib.h>

/* ---- blocks ---- */

static const BlockType *type_named(const char *name) {
  for (uint32_t i = 0; i < 64; i++) {
    const BlockType *type = block_type(i);
    if (type && strcmp(type->name, name) == 0) return type;
  }
  fail_msg("no type %s", name);
  return NULL;
}

static void blocks_are_those_of_the_package(void **state) {
  (void)state;
  Error error = {0};
  SafetensorsFile file;
  assert_true(safetensors_file_open(&file, FIXTURES "/gguf/blocks.safetensors", &error));
  size_t types = 0;
  for (size_t i = 0; i < file.count; i++) {
    const SafetensorsEntry *blocks = &file.entries[i];
    char name[64];
    snprintf(name, sizeof name, "%s.values", blocks->name);
    const SafetensorsEntry *values = safetensors_file_find(&file, name);
    if (!values) continue;
    types++;
    const BlockType *type = type_named(blocks->name);
    const size_t count = values->bytes / sizeof(float);
    float *found = malloc(count * sizeof *found);
    block_read(type, blocks->data, 0, count, found);
    if (memcmp(found, values->data, values->bytes) != 0) fail_msg("%s differs", blocks->name);
    /* any range of it is that range */
    for (size_t first = 0; first < count; first += 1 + count / 7) {
      for (size_t n = 1; n <= count - first; n += 1 + count / 5) {
        memset(found, 0, count * sizeof *found);
        block_read(type, blocks->data, first, n, found);
        if (memcmp(found, (const char *)values->data + first * sizeof(float), n * sizeof(float)) != 0)
          fail_msg("%s: %zu from %zu differ", blocks->name, n, first);
      }
    }
    free(found);
  }
  assert_int_equal(types, 14);
  safetensors_file_close(&file);
}

/* ---- files made here ---- */

typedef struct Made {
  Buffer bytes;
} Made;

static void add(Made *made, const void *bytes, size_t count) {
  Error error = {0};
  assert_true(buffer_append(&made->bytes, bytes, count, &error));
}

static void add_u32(Made *made, uint32_t value) {
  add(made, &value, sizeof value);
}

static void add_u64(Made *made, uint64_t value) {
  add(made, &value, sizeof value);
}

static void add_text(Made *made, const char *text) {
  add_u64(made, strlen(text));
  add(made, text, strlen(text));
}

static void begin(Made *made, uint64_t tensors, uint64_t values) {
  buffer_clear(&made->bytes);
  add(made, "GGUF", 4);
  add_u32(made, 3);
  add_u64(made, tensors);
  add_u64(made, values);
}

static void add_key(Made *made, const char *key, GgufKind kind) {
  add_text(made, key);
  add_u32(made, kind);
}

static void add_word(Made *made, const char *key, const char *text) {
  add_key(made, key, GGUF_STRING);
  add_text(made, text);
}

static void add_number(Made *made, const char *key, uint32_t value) {
  add_key(made, key, GGUF_U32);
  add_u32(made, value);
}

static void add_tensor(Made *made, const char *name, uint64_t rows, uint64_t columns, uint32_t type,
                       uint64_t offset) {
  add_text(made, name);
  add_u32(made, 2);
  add_u64(made, columns);
  add_u64(made, rows);
  add_u32(made, type);
  add_u64(made, offset);
}

static void add_data(Made *made, size_t bytes) {
  while (made->bytes.size % 32) add(made, "", 1);
  for (size_t i = 0; i < bytes; i++) add(made, "\1", 1);
}

static char *write_made(Made *made, const char *name) {
  char *path = memory_format("%s/%s", folder.directory, name);
  Error error = {0};
  FileWriter writer;
  assert_true(file_writer_open(&writer, path, &error) &&
              file_writer_write(&writer, made->bytes.data, made->bytes.size, &error) &&
              file_writer_commit(&writer, &error));
  return path;
}

/* A good file: a value of every kind, two tensors. */
static void make_good(Made *made) {
  begin(made, 2, 6);
  add_word(made, "general.architecture", "llama");
  add_number(made, "llama.block_count", 7);
  add_key(made, "llama.eps", GGUF_F32);
  add(made, &(float){0.5f}, 4);
  add_key(made, "yes", GGUF_BOOL);
  add(made, "\1", 1);
  add_key(made, "words", GGUF_ARRAY);
  add_u32(made, GGUF_STRING);
  add_u64(made, 3);
  add_text(made, "a");
  add_text(made, "");
  add_text(made, "bcd");
  add_key(made, "pattern", GGUF_ARRAY);
  add_u32(made, GGUF_I32);
  add_u64(made, 2);
  add(made, (int32_t[]){-1, 5}, 8);
  add_tensor(made, "z", 3, 32, 8, 0); /* Q8_0: 102 bytes */
  add_tensor(made, "a", 1, 2, 0, 128);
  add_data(made, 128 + 8);
}

static void values_and_tensors(void **state) {
  (void)state;
  Made made = {0};
  make_good(&made);
  char *path = write_made(&made, "good.gguf");
  GgufFile file;
  Error error = {0};
  if (!gguf_file_open(&file, path, &error)) fail_msg("%s", error.message);
  int64_t number = 0;
  double eps = 0;
  bool yes = false;
  GgufText word = {0};
  const GgufValue *words, *pattern;
  assert_true(gguf_int(&file, "llama.block_count", 0, 10, &number, &error) &&
              gguf_number(&file, "llama.eps", &eps, &error) && gguf_bool(&file, "yes", &yes, &error) &&
              gguf_text(&file, "general.architecture", &word, &error) &&
              gguf_array(&file, "words", GGUF_STRING, &words, &error) &&
              gguf_array(&file, "pattern", GGUF_I32, &pattern, &error));
  assert_int_equal(number, 7);
  assert_true(eps == 0.5 && yes && gguf_text_is(word, "llama") && !gguf_text_is(word, "llam"));
  const void *at = NULL;
  assert_true(gguf_text_is(gguf_value_text(words, &at), "a") &&
              gguf_text_is(gguf_value_text(words, &at), "") &&
              gguf_text_is(gguf_value_text(words, &at), "bcd"));
  assert_true(gguf_value_int(pattern, 0) == -1 && gguf_value_int(pattern, 1) == 5);
  assert_null(gguf_find(&file, "llama"));
  assert_int_equal(file.tensor_count, 2);
  assert_true(gguf_text_is(file.tensors[0].name, "a") && gguf_text_is(file.tensors[1].name, "z"));
  assert_true(file.tensors[1].shape[0] == 3 && file.tensors[1].shape[1] == 32 &&
              file.tensors[1].bytes == 102);
  assert_ptr_equal((const char *)file.tensors[0].data, (const char *)file.tensors[1].data + 128);
  /* wrong kinds and ranges */
  assert_false(gguf_int(&file, "llama.eps", 0, 10, &number, &error));
  assert_non_null(strstr(error.message, "llama.eps: expected an integer, found f32"));
  error = (Error){0};
  assert_false(gguf_int(&file, "llama.block_count", 0, 6, &number, &error));
  assert_non_null(strstr(error.message, "llama.block_count: expected 0 to 6, found 7"));
  error = (Error){0};
  assert_false(gguf_array(&file, "pattern", GGUF_STRING, &words, &error));
  gguf_file_close(&file);
  memory_free(path);
  buffer_free(&made.bytes);
}

static void refused(Made *made, const char *reason) {
  char *path = write_made(made, "bad.gguf");
  GgufFile file;
  Error error = {0};
  if (gguf_file_open(&file, path, &error)) fail_msg("was read, expected: %s", reason);
  if (error.code != ERROR_MODEL || !strstr(error.message, reason) || !strstr(error.message, "bad.gguf"))
    fail_msg("%d: %s, expected: %s", error.code, error.message, reason);
  memory_free(path);
}

static void headers_that_lie(void **state) {
  (void)state;
  Made made = {0};
  begin(&made, 0, 0);
  made.bytes.data[0] = 'g';
  refused(&made, "does not begin with GGUF");
  begin(&made, 0, 0);
  made.bytes.data[4] = 4;
  refused(&made, "version 4 of GGUF, expected 2 or 3");
  begin(&made, 0, 0);
  memcpy(made.bytes.data + 4, "\0\0\0\3", 4);
  refused(&made, "big-endian");
  begin(&made, UINT64_MAX, 0);
  refused(&made, "more than its 24 bytes can hold");
  begin(&made, 0, UINT64_MAX / 13);
  refused(&made, "more than its 24 bytes can hold");
  begin(&made, 0, 1);
  add_u64(&made, UINT64_MAX - 3);
  add(&made, "abcdefgh", 8);
  refused(&made, "goes beyond the file's end");
  begin(&made, 0, 2);
  add_number(&made, "a.b", 1);
  add_number(&made, "a.b", 1);
  refused(&made, "key 'a.b' is there twice");
  begin(&made, 0, 1);
  add_number(&made, "", 1);
  refused(&made, "is empty");
  begin(&made, 0, 1);
  add_key(&made, "k", 13);
  add_u32(&made, 0);
  refused(&made, "key 'k' has a value of kind 13, which is not known");
  begin(&made, 0, 1);
  add_key(&made, "k", GGUF_ARRAY);
  add_u32(&made, GGUF_ARRAY);
  add_u64(&made, 0);
  refused(&made, "array of arrays");
  begin(&made, 0, 1);
  add_key(&made, "k", GGUF_ARRAY);
  add_u32(&made, GGUF_U64);
  add_u64(&made, UINT64_MAX / 8 + 2);
  refused(&made, "key 'k' has 2305843009213693953 elements of kind u64, more than");
  begin(&made, 0, 1);
  add_key(&made, "k", GGUF_BOOL);
  add(&made, "\2", 1);
  refused(&made, "key 'k' has 2 where a bool is expected");
  begin(&made, 0, 1);
  add_number(&made, "general.alignment", 24);
  refused(&made, "general.alignment: expected a power of 2, found 24");
  begin(&made, 0, 1);
  add_number(&made, "general.alignment", 0);
  refused(&made, "general.alignment: expected 1 to");
  buffer_free(&made.bytes);
}

static void tensors_that_lie(void **state) {
  (void)state;
  static const struct {
    uint64_t rows, columns;
    uint32_t type;
    uint64_t offset;
    const char *reason;
  } cases[] = {{3, 33, 8, 0, "has rows of 33 elements, which are no whole blocks of Q8_0 (32)"},
               {3, 32, 5, 0, "has the type 5, which is not known"},
               {3, 32, 8, 32, "begins at byte 32 of the data, expected 0"},
               {0, 32, 8, 0, "has a shape that is empty"},
               {UINT64_MAX / 4, 64, 0, 0, "whose size overflows"},
               {UINT64_MAX / 64, 32, 0, 0, "whose size overflows"},
               {1u << 30, 1u << 20, 0, 0, "truncated?"},
               {200, 32, 0, 0, "truncated?"},
               {4, 32, 8, 0, "ends at byte"}};
  Made made = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    begin(&made, 1, 0);
    add_tensor(&made, "t", cases[i].rows, cases[i].columns, cases[i].type, cases[i].offset);
    add_data(&made, 102);
    refused(&made, cases[i].reason);
  }
  begin(&made, 2, 0);
  add_tensor(&made, "t", 1, 8, 0, 0);
  add_tensor(&made, "t", 1, 8, 0, 32);
  add_data(&made, 64);
  refused(&made, "tensor 't' is there twice");
  begin(&made, 1, 0);
  add_text(&made, "t");
  add_u32(&made, 5);
  add_data(&made, 64);
  refused(&made, "tensor 't' has 5 dimensions, expected 1 to 4");
  buffer_free(&made.bytes);
}

/* Every length that is too short is said to be. */
static void truncated_anywhere(void **state) {
  (void)state;
  Made made = {0};
  make_good(&made);
  const size_t whole = made.bytes.size;
  for (size_t i = 1; i < whole; i++) {
    made.bytes.size = whole - i;
    char *path = write_made(&made, "short.gguf");
    GgufFile file;
    Error error = {0};
    if (gguf_file_open(&file, path, &error)) fail_msg("%zu of %zu bytes were read", whole - i, whole);
    assert_int_equal(error.code, ERROR_MODEL);
    memory_free(path);
  }
  buffer_free(&made.bytes);
}

/* ---- parts and directories ---- */

static void write_part(const char *name, uint32_t part, uint32_t parts, uint32_t tensors,
                       const char *tensor) {
  Made made = {0};
  begin(&made, 1, 3);
  add_number(&made, "split.no", part);
  add_number(&made, "split.count", parts);
  add_number(&made, "split.tensors.count", tensors);
  add_tensor(&made, tensor, 1, 8, 0, 0);
  add_data(&made, 32);
  memory_free(write_made(&made, name));
  buffer_free(&made.bytes);
}

static void set_refused(const char *name, const char *reason) {
  GgufSet set;
  Error error = {0};
  char *path = memory_format("%s/%s", folder.directory, name);
  assert_false(gguf_set_open(&set, path, &error));
  if (!strstr(error.message, reason)) fail_msg("%s, expected: %s", error.message, reason);
  memory_free(path);
}

static void parts_are_one_model(void **state) {
  (void)state;
  GgufSet set;
  Error error = {0};
  char *path = memory_format("%s/m-00001-of-00002.gguf", folder.directory);
  write_part("m-00001-of-00002.gguf", 0, 2, 2, "b");
  set_refused("m-00001-of-00002.gguf", "m-00002-of-00002.gguf");
  write_part("m-00002-of-00002.gguf", 1, 2, 2, "a");
  assert_true(gguf_set_open(&set, path, &error));
  assert_int_equal(set.tensor_count, 2);
  assert_true(gguf_text_is(set.tensors[0]->name, "a") && gguf_set_find(&set, "b") &&
              !gguf_set_find(&set, "c"));
  gguf_set_close(&set);
  set_refused("m-00002-of-00002.gguf", "part 2 of 2: give the first one");
  write_part("m-00002-of-00002.gguf", 1, 2, 2, "b");
  set_refused("m-00001-of-00002.gguf", "tensor 'b' is in m-0000");
  write_part("m-00002-of-00002.gguf", 0, 2, 2, "a");
  set_refused("m-00001-of-00002.gguf", "says it is part 1 of 2, expected 2 of 2");
  write_part("m-00002-of-00002.gguf", 1, 2, 2, "a");
  write_part("m-00001-of-00002.gguf", 0, 2, 3, "b");
  set_refused("m-00001-of-00002.gguf", "split.tensors.count: expected the 2 tensors of all parts, found 3");
  write_part("other.gguf", 0, 2, 2, "b");
  set_refused("other.gguf", "its name does not end in -00001-of-00002.gguf");
  memory_free(path);
}

static void a_directory_holds_one(void **state) {
  (void)state;
  Temporary t;
  temporary_open(&t);
  char *file, *one = memory_format("%s/x-00001-of-00003.gguf", t.directory);
  Error error = {0};
  assert_true(gguf_locate(t.directory, &file, &error));
  assert_null(file);
  assert_true(file_write_text(one, "x", &error));
  char *later = memory_format("%s/x-00002-of-00003.gguf", t.directory);
  assert_true(file_write_text(later, "x", &error));
  assert_true(gguf_locate(t.directory, &file, &error));
  assert_string_equal(file, one);
  memory_free(file);
  assert_true(gguf_locate(one, &file, &error));
  assert_string_equal(file, one);
  memory_free(file);
  char *second = memory_format("%s/y.gguf", t.directory);
  assert_true(file_write_text(second, "x", &error));
  assert_false(gguf_locate(t.directory, &file, &error));
  assert_non_null(strstr(error.message, "several GGUF models, x-00001-of-00003.gguf and y.gguf"));
  /* a Hugging Face directory is one, whatever lies beside it */
  char *config = memory_format("%s/config.json", t.directory);
  error = (Error){0};
  assert_true(file_write_text(config, "{}", &error) && gguf_locate(t.directory, &file, &error));
  assert_null(file);
  memory_free(one);
  memory_free(later);
  memory_free(second);
  memory_free(config);
  temporary_close(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(blocks_are_those_of_the_package),
                                     cmocka_unit_test(values_and_tensors),
                                     cmocka_unit_test(headers_that_lie),
                                     cmocka_unit_test(tensors_that_lie),
                                     cmocka_unit_test(truncated_anywhere),
                                     cmocka_unit_test(parts_are_one_model),
                                     cmocka_unit_test(a_directory_holds_one)};
  return cmocka_run_group_tests_name("unit/formats_gguf", tests, open_folder, close_folder);
}
