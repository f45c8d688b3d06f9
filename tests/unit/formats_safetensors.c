#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/safetensors.h"

#include "base/random.h"
#include "tests/folder.h"

#include <math.h>
#include <sys/statvfs.h>
#include <unistd.h>

static uint64_t room = UINT64_MAX; /* bytes */

/* In the place of the C library's: a disk of which `room` is free. */
int statvfs(const char *path, struct statvfs *status) {
  if (access(path, F_OK) != 0) return -1;
  *status = (struct statvfs){.f_blocks = UINT64_MAX, .f_bavail = room, .f_frsize = 1};
  return 0;
}

static const char library_file[] = FIXTURES "/safetensors/library.safetensors";

/* The tensors of the fixture, declared in an order that is not the file's; values count up from 0. */
static const struct Declared {
  const char *name;
  DType dtype;
  int rank;
  int64_t shape[8];
} declared[] = {
    {"zebra.weight", DTYPE_F32, 2, {2, 3}},
    {"apple.weight", DTYPE_F32, 1, {5}},
    {"half", DTYPE_F16, 1, {3}},
    {"scalar", DTYPE_F64, 0, {0}},
    {"empty", DTYPE_F32, 2, {0, 4}},
    {"ids", DTYPE_I64, 2, {2, 2}},
    {"ints", DTYPE_I32, 1, {3}},
    {"shorts", DTYPE_I16, 8, {1, 1, 1, 1, 1, 1, 1, 3}},
    {"bytes", DTYPE_U8, 1, {7}},
    {"signed", DTYPE_I8, 1, {2}},
    {"mask", DTYPE_BOOL, 1, {3}},
    {"odd \"name\" \\ \xc3\xa9", DTYPE_F32, 1, {1}},
};
enum { DECLARED = sizeof declared / sizeof *declared };

/* Element i of such a tensor into `out`; its size. */
static size_t element(DType dtype, int i, void *out) {
  double wide = i;
  int64_t i64 = i;
  bool truth = i != 0;
  switch (dtype) {
    case DTYPE_F32:
    case DTYPE_F16:
    case DTYPE_F64:
      dtype_convert(out, dtype, &wide, DTYPE_F64, 1);
      break;
    case DTYPE_BOOL:
      memcpy(out, &truth, 1);
      break;
    default:
      memcpy(out, &i64, dtype_size(dtype));
      break; /* little-endian integers */
  }
  return dtype_size(dtype);
}

static size_t fill(const SafetensorsEntry *entry, char *out) {
  size_t size = dtype_size(entry->dtype);
  for (size_t i = 0; i < entry->bytes / size; i++) element(entry->dtype, (int)i, out + i * size);
  return entry->bytes;
}

/* Declares all of the fixture's tensors and streams them, in pieces of 3 bytes when asked. */
static bool write_declared(SafetensorsWriter *writer, bool sharded, uint64_t max_bytes, const char *path,
                           bool pieces, Error *error) {
  for (int i = 0; i < DECLARED; i++) {
    if (!safetensors_writer_declare(writer, declared[i].name, declared[i].dtype, declared[i].rank,
                                    declared[i].shape, error)) {
      return false;
    }
  }
  bool ok = sharded ? safetensors_writer_begin_sharded(writer, path, "model", max_bytes, error)
                    : safetensors_writer_begin(writer, path, error);
  const SafetensorsEntry *next;
  while (ok && (next = safetensors_writer_next(writer))) {
    char data[64];
    assert_string_equal(next->name, declared[next->index].name);
    size_t bytes = fill(next, data), step = pieces ? 3 : bytes;
    for (size_t at = 0; ok && at < bytes; at += step) {
      ok = safetensors_writer_write(writer, data + at, bytes - at < step ? bytes - at : step, error);
    }
  }
  return ok && safetensors_writer_finish(writer, error);
}

static void assert_same_bytes(const char *a, const char *b) {
  Buffer x = {0}, y = {0};
  Error error = {0};
  assert_true(file_read(a, &x, &error) && file_read(b, &y, &error));
  assert_int_equal(x.size, y.size);
  assert_memory_equal(x.data, y.data, x.size);
  buffer_free(&x);
  buffer_free(&y);
}

static void assert_declared(const SafetensorsEntry *entry, int i) {
  char expected[64];
  assert_non_null(entry);
  assert_int_equal(entry->dtype, declared[i].dtype);
  assert_int_equal(entry->rank, declared[i].rank);
  for (int k = 0; k < entry->rank; k++) assert_int_equal(entry->shape[k], declared[i].shape[k]);
  assert_int_equal(fill(entry, expected), entry->bytes);
  if (entry->bytes) assert_memory_equal(entry->data, expected, entry->bytes);
}

static void reads_what_the_library_wrote(void **state) {
  (void)state;
  SafetensorsFile file;
  Error error = {0};
  assert_true(safetensors_file_open(&file, library_file, &error));
  assert_int_equal(file.count, DECLARED);
  for (int i = 0; i < DECLARED; i++) assert_declared(safetensors_file_find(&file, declared[i].name), i);
  assert_null(safetensors_file_find(&file, "appl"));
  assert_null(safetensors_file_find(&file, "__metadata__"));
  assert_string_equal(safetensors_file_metadata(&file, "format"), "pt");
  assert_null(safetensors_file_metadata(&file, "other"));
  assert_string_equal(file.entries[0].name, "ids");
  for (size_t i = 0; i < file.count; i++) assert_int_equal(file.entries[i].index, i);
  safetensors_file_close(&file);
  safetensors_file_close(&file);
}

static void writes_the_bytes_of_the_library(void **state) {
  (void)state;
  for (int pieces = 0; pieces < 2; pieces++) {
    SafetensorsWriter writer = {0};
    Error error = {0};
    const char *path = temporary_path(&folder, "out.safetensors");
    assert_true(write_declared(&writer, false, 0, path, pieces, &error));
    safetensors_writer_free(&writer);
    safetensors_writer_free(&writer);
    assert_same_bytes(path, library_file);
  }
}

/* A file of the given header and `data_bytes` of data. */
static const char *write_raw(const char *header, size_t data_bytes) {
  static const char zeros[64];
  Error error = {0};
  uint64_t length = strlen(header);
  const char *path = temporary_path(&folder, "raw.safetensors");
  FileWriter writer;
  assert_true(file_writer_open(&writer, path, &error));
  assert_true(file_writer_write(&writer, &length, 8, &error));
  assert_true(file_writer_write(&writer, header, length, &error));
  assert_true(file_writer_write(&writer, zeros, data_bytes, &error));
  assert_true(file_writer_commit(&writer, &error));
  return path;
}

#define A(dtype, shape, offsets) \
  "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define PAIR(first, second)                                        \
  "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" first \
  "},"                                                             \
  "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" second "}}"

static void hostile_headers_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t data;
    const char *message; /* after the path and ": " */
  } cases[] = {
      {"", 0, "the header does not begin with '{'"},
      {" {}", 0, "the header does not begin with '{'"},
      {"[]", 0, "the header does not begin with '{'"},
      {"{\"a\":", 0, "header at byte 13: broken JSON: unexpected token near end of file"},
      {"{} x", 0, "header at byte 12: broken JSON: end of file expected near 'x'"},
      {"{\"a\":{},\"a\":{}}", 0, "header at byte 19: broken JSON: duplicate object key near '\"a\"'"},
      {"{\"a\":1}", 0, "tensor 'a' is not described by an object"},
      {"{\"a\":{}}", 0, "tensor 'a' has no 'dtype' string"},
      {A("\"F8_E4M3\"", "[1]", "[0,1]"), 1, "tensor 'a' has the type 'F8_E4M3', which is not supported"},
      {A("\"f32\"", "[1]", "[0,4]"), 4, "tensor 'a' has the type 'f32', which is not supported"},
      {A("3", "[1]", "[0,1]"), 1, "tensor 'a' has no 'dtype' string"},
      {A("\"U8\"", "4", "[0,4]"), 4, "tensor 'a' has no 'shape' list"},
      {A("\"U8\"", "[-1]", "[0,4]"), 4, "tensor 'a' has a 'shape' with something other than sizes in it"},
      {A("\"U8\"", "[4.0]", "[0,4]"), 4, "tensor 'a' has a 'shape' with something other than sizes in it"},
      {A("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), 4, "tensor 'a' has 9 dimensions, expected at most 8"},
      {A("\"F32\"", "[4611686018427387904]", "[0,4]"), 4, "tensor 'a' has a 'shape' whose size overflows"},
      {A("\"U8\"", "[4294967296,4294967296]", "[0,0]"), 0, "tensor 'a' has a 'shape' whose size overflows"},
      {A("\"U8\"", "[99999999999999999999]", "[0,4]"), 4,
       "tensor 'a' has a 'shape' with something other than sizes in it"},
      {A("\"U8\"", "[4]", "[0]"), 4, "tensor 'a' has no 'data_offsets' pair of begin and end"},
      {A("\"U8\"", "[4]", "[0,4,8]"), 4, "tensor 'a' has no 'data_offsets' pair of begin and end"},
      {A("\"U8\"", "[4]", "[4,0]"), 4, "tensor 'a' has no 'data_offsets' pair of begin and end"},
      {A("\"U8\"", "[4]", "[-4,0]"), 4, "tensor 'a' has no 'data_offsets' pair of begin and end"},
      {A("\"U8\"", "[4]", "\"0,4\""), 4, "tensor 'a' has no 'data_offsets' pair of begin and end"},
      {A("\"U8\"", "[4]", "[0,4]"), 3,
       "tensor 'a' ends at byte 4 of the data, but the file has only 3: truncated?"},
      {A("\"U8\"", "[4]", "[0,4]"), 5, "has 5 bytes of data, expected 4"},
      {A("\"F32\"", "[2,3]", "[0,20]"), 20,
       "tensor 'a' of type F32 and shape [2, 3] has 20 bytes, expected 24"},
      {A("\"U8\"", "[4]", "[1,5]"), 5, "tensor 'a' begins at byte 1 of the data, expected 0"},
      {PAIR("[0,4]", "[5,9]"), 9, "tensor 'b' begins at byte 5 of the data, expected 4"},
      {PAIR("[0,4]", "[3,7]"), 7, "tensor 'b' begins at byte 3 of the data, expected 4"},
      {PAIR("[0,4]", "[0,4]"), 4, "tensor 'b' begins at byte 0 of the data, expected 4"},
      {"{\"__metadata__\":[]}", 0, "'__metadata__' is not an object"},
      {"{\"__metadata__\":{\"x\":1}}", 0, "'__metadata__' has a value that is no string at 'x'"},
      {"{}", 1, "has 1 bytes of data, expected 0"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    SafetensorsFile file;
    Error error = {0};
    char expected[1200];
    const char *path = write_raw(cases[i].header, cases[i].data);
    snprintf(expected, sizeof expected, "%s: %s", path, cases[i].message);
    assert_false(safetensors_file_open(&file, path, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_string_equal(error.message, expected);
    safetensors_file_close(&file);
  }
}

static void odd_but_legal_headers_are_read(void **state) {
  (void)state;
  static const struct {
    const char *header;
    size_t data, count;
  } cases[] = {
      {"{}", 0, 0},
      {"{}       ", 0, 0},
      {"{\"__metadata__\":{}}", 0, 0},
      {A("\"F32\"", "[1]", "[0,4]"), 4, 1}, /* data at an odd address */
      {A("\"F32\"", "[]", "[0,4]"), 4, 1},
      {A("\"F32\"", "[3,0,7]", "[0,0]"), 0, 1},
      {PAIR("[4,8]", "[0,4]"), 8, 2},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]},"
       "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
       "\"c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]}}",
       5, 3},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    SafetensorsFile file;
    Error error = {0};
    assert_true(safetensors_file_open(&file, write_raw(cases[i].header, cases[i].data), &error));
    assert_int_equal(file.count, cases[i].count);
    if (file.count) assert_non_null(safetensors_file_find(&file, "a"));
    safetensors_file_close(&file);
  }
}

static void bad_lengths_are_refused(void **state) {
  (void)state;
  static const unsigned char files[][12] = {{0},
                                            {2, 0, 0, 0, 0, 0, 0, 0, '{'},
                                            {255, 255, 255, 255, 255, 255, 255, 255, '{', '}'},
                                            {0, 0xe1, 0xf5, 5, 0, 0, 0, 0, '{', '}'},
                                            {1, 0xe1, 0xf5, 5, 0, 0, 0, 0, '{', '}'}};
  static const size_t sizes[] = {3, 9, 10, 10, 10};
  static const char *const messages[] = {
      "3 bytes are too few for a safetensors file", "truncated: a header of 2 bytes in a file of 9",
      "not a safetensors file: a header of 18446744073709551615 bytes, expected at most 100000000",
      "truncated: a header of 100000000 bytes in a file of 10",
      "not a safetensors file: a header of 100000001 bytes, expected at most 100000000"};
  for (int i = 0; i < 5; i++) {
    SafetensorsFile file;
    FileWriter writer;
    Error error = {0};
    const char *path = temporary_path(&folder, "short.safetensors");
    assert_true(file_writer_open(&writer, path, &error));
    assert_true(file_writer_write(&writer, files[i], sizes[i], &error));
    assert_true(file_writer_commit(&writer, &error));
    assert_false(safetensors_file_open(&file, path, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_string_equal(error.message + strlen(path) + 2, messages[i]);
  }
  SafetensorsFile file;
  Error error = {0};
  assert_false(safetensors_file_open(&file, temporary_path(&folder, "absent"), &error));
  assert_int_equal(error.code, ERROR_FILE);
}

/* Opens changed bytes; when they still pass as a file, all its data must be readable. */
static bool survives(const char *bytes, size_t size) {
  SafetensorsFile file;
  Error error = {0};
  const char *path = temporary_path(&folder, "fuzz.safetensors");
  FILE *stream = fopen(path, "wb"); /* plain: thousands of fsyncs would take minutes */
  assert_int_equal(fwrite(bytes, 1, size, stream), size);
  assert_int_equal(fclose(stream), 0);
  bool ok = safetensors_file_open(&file, path, &error);
  assert_true(ok || error.code == ERROR_MODEL);
  unsigned sum = 0;
  for (size_t i = 0; ok && i < file.count; i++) {
    for (size_t k = 0; k < file.entries[i].bytes; k++) sum += ((const uint8_t *)file.entries[i].data)[k];
    assert_ptr_equal(safetensors_file_find(&file, file.entries[i].name), &file.entries[i]);
  }
  safetensors_file_close(&file);
  return ok && sum < UINT32_MAX;
}

static void torn_and_changed_files_are_survived(void **state) {
  (void)state;
  Buffer bytes = {0};
  Error error = {0};
  assert_true(file_read(library_file, &bytes, &error));
  assert_true(survives(bytes.data, bytes.size));
  for (size_t size = 0; size < bytes.size; size++) assert_false(survives(bytes.data, size));
  RandomKey key = random_key(1, RANDOM_TEST);
  int passed = 0;
  for (uint32_t i = 0; i < 1000; i++) {
    uint32_t at = random_below(key, i, 0, (uint32_t)bytes.size);
    char kept = bytes.data[at];
    bytes.data[at] = (char)random_below(key, i, 1, 256);
    passed += survives(bytes.data, bytes.size);
    bytes.data[at] = kept;
  }
  assert_true(passed > 0 && passed < 1000); /* changed data or names pass, a changed header mostly not */
  buffer_free(&bytes);
}

static void shards_are_written_and_read(void **state) {
  (void)state;
  SafetensorsWriter writer = {0};
  SafetensorsSet set;
  Error error = {0};
  assert_true(file_write_text(temporary_path(&folder, "model.safetensors"), "an older one", &error));
  assert_true(write_declared(&writer, true, 40, folder.directory, true, &error));
  safetensors_writer_free(&writer);
  /* Declared: 24 | 20 + 6 + 8 + 0 | 32 | 12 + 6 + 7 + 2 + 3 + 4 = 34 bytes. */
  StringList names = {0};
  assert_true(directory_list(folder.directory, &names, &error));
  const char *expected[] = {"model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
                            "model-00003-of-00004.safetensors", "model-00004-of-00004.safetensors",
                            "model.safetensors.index.json"};
  assert_int_equal(names.count, 5); /* and the older single file is gone */
  for (int i = 0; i < 5; i++) assert_string_equal(names.items[i], expected[i]);
  string_list_free(&names);
  Buffer index = {0};
  assert_true(file_read(temporary_path(&folder, "model.safetensors.index.json"), &index, &error));
  const char *start =
      "{\n  \"metadata\": {\n    \"total_size\": 124\n  },\n  \"weight_map\": {\n"
      "    \"apple.weight\": \"model-00002-of-00004.safetensors\",\n";
  assert_int_equal(strncmp(index.data, start, strlen(start)), 0);
  buffer_free(&index);
  assert_true(safetensors_set_open(&set, folder.directory, "model", &error));
  assert_int_equal(set.file_count, 4);
  assert_int_equal(set.count, DECLARED);
  for (int i = 0; i < DECLARED; i++) assert_declared(safetensors_set_find(&set, declared[i].name), i);
  for (size_t i = 1; i < set.count; i++) {
    assert_true(strcmp(set.entries[i - 1]->name, set.entries[i]->name) < 0);
  }
  assert_null(safetensors_set_find(&set, "none"));
  assert_string_equal(safetensors_file_metadata(&set.files[0], "format"), "pt");
  const SafetensorsEntry *apple = safetensors_set_find(&set, "apple.weight");
  assert_string_equal(apple->path, temporary_path(&folder, "model-00002-of-00004.safetensors"));
  safetensors_set_close(&set);
  safetensors_set_close(&set);
  /* Small enough for one file: the plain name, and the index of the shards goes. */
  writer = (SafetensorsWriter){0};
  assert_true(write_declared(&writer, true, 124, folder.directory, false, &error));
  safetensors_writer_free(&writer);
  assert_same_bytes(temporary_path(&folder, "model.safetensors"), library_file);
  assert_false(file_exists(temporary_path(&folder, "model.safetensors.index.json")));
  assert_true(safetensors_set_open(&set, folder.directory, "model", &error));
  assert_int_equal(set.file_count, 1);
  assert_int_equal(set.count, DECLARED);
  assert_declared(safetensors_set_find(&set, "half"), 2);
  safetensors_set_close(&set);
}

static void bad_indexes_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *index, *message;
  } cases[] = {
      {"{\n}", "expected an object 'weight_map'"},
      {"{\n \"weight_map\": }", "model.safetensors.index.json:2:16: broken JSON: unexpected token near '}'"},
      {"{\"weight_map\": {\"a\": 3}}", "expected the name of a file for 'a'"},
      {"{\"weight_map\": {\"a\": \"../raw.safetensors\"}}",
       "expected the name of a .safetensors file, found '../raw.safetensors'"},
      {"{\"weight_map\": {\"a\": \"/etc/x.safetensors\"}}",
       "expected the name of a .safetensors file, found '/etc/x.safetensors'"},
      {"{\"weight_map\": {\"a\": \"sub\\\\x.safetensors\"}}",
       "expected the name of a .safetensors file, found 'sub\\x.safetensors'"},
      {"{\"weight_map\": {\"a\": \"passwd\"}}", "expected the name of a .safetensors file, found 'passwd'"},
      {"{\"weight_map\": {\"a\": \".safetensors\"}}",
       "expected the name of a .safetensors file, found '.safetensors'"},
      {"{\"weight_map\": {\"a\": \"gone.safetensors\"}}",
       "names a shard that is not there: 'gone.safetensors'"},
      {"{\"weight_map\": {\"a\": \"raw.safetensors\", \"b\": \"raw.safetensors\"}}",
       "tensor 'b' is not in it, though model.safetensors.index.json says so"},
  };
  write_raw(A("\"U8\"", "[4]", "[0,4]"), 4);
  char index[600];
  snprintf(index, sizeof index, "%s", temporary_path(&folder, "model.safetensors.index.json"));
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    SafetensorsSet set;
    Error error = {0};
    assert_true(file_write_text(index, cases[i].index, &error));
    assert_false(safetensors_set_open(&set, folder.directory, "model", &error));
    assert_int_equal(error.code, ERROR_MODEL);
    assert_int_equal(strncmp(error.message, folder.directory, strlen(folder.directory)), 0);
    assert_non_null(strstr(error.message, cases[i].message));
    assert_int_equal(set.file_count, 0);
  }
  SafetensorsSet set;
  Error error = {0};
  assert_true(file_write_text(index, "{\"weight_map\": {\"a\": \"raw.safetensors\"}}", &error));
  assert_true(safetensors_set_open(&set, folder.directory, "model", &error));
  assert_int_equal(set.count, 1);
  safetensors_set_close(&set);
  assert_false(safetensors_set_open(&set, folder.directory, "adapter_model", &error));
  char expected[600];
  snprintf(expected, sizeof expected,
           "%s: neither adapter_model.safetensors nor adapter_model.safetensors.index.json is there",
           folder.directory);
  assert_string_equal(error.message, expected);
}

static void metadata_is_kept(void **state) {
  (void)state;
  SafetensorsWriter writer = {0};
  SafetensorsFile file;
  Error error = {0};
  const char *path = temporary_path(&folder, "meta.safetensors");
  assert_true(safetensors_writer_metadata(&writer, "step", "12 \"x\"", &error));
  assert_true(safetensors_writer_begin(&writer, path, &error)); /* no tensors at all */
  assert_null(safetensors_writer_next(&writer));
  assert_true(safetensors_writer_finish(&writer, &error));
  safetensors_writer_free(&writer);
  assert_true(safetensors_file_open(&file, path, &error));
  assert_int_equal(file.count, 0);
  assert_int_equal((8 + file.map.data[0]) % 8, 0);
  assert_string_equal(safetensors_file_metadata(&file, "format"), "pt");
  assert_string_equal(safetensors_file_metadata(&file, "step"), "12 \"x\"");
  safetensors_file_close(&file);
}

static void names_are_checked(void **state) {
  (void)state;
  const char *const names[][2] = {{"same", "same"}, {"a", "__metadata__"}, {"a", "\xff"}};
  for (int i = 0; i < 3; i++) {
    SafetensorsWriter writer = {0};
    Error error = {0};
    const int64_t shape[] = {1};
    /* Of different types, so that they do not lie side by side. */
    assert_true(safetensors_writer_declare(&writer, names[i][0], DTYPE_F32, 1, shape, &error));
    assert_true(safetensors_writer_declare(&writer, "middle", DTYPE_BF16, 1, shape, &error));
    assert_true(safetensors_writer_declare(&writer, names[i][1], DTYPE_U8, 1, shape, &error));
    assert_false(safetensors_writer_begin(&writer, temporary_path(&folder, "x"), &error));
    assert_int_equal(error.code, ERROR_MODEL);
    safetensors_writer_free(&writer);
    assert_false(file_exists(temporary_path(&folder, "x")));
  }
}

static void unfinished_and_full_leave_the_old(void **state) {
  (void)state;
  char path[600], data[24] = {0};
  const int64_t shape[] = {2, 3};
  Error error = {0};
  snprintf(path, sizeof path, "%s", temporary_path(&folder, "old.safetensors"));
  assert_true(file_write_text(path, "old", &error));
  for (int full = 0; full < 2; full++) {
    SafetensorsWriter writer = {0};
    assert_true(safetensors_writer_declare(&writer, "a", DTYPE_F32, 2, shape, &error));
    assert_true(safetensors_writer_begin(&writer, path, &error));
    assert_non_null(safetensors_writer_next(&writer));
    if (full) assert_non_null(freopen("/dev/full", "wb", writer.file.stream));
    assert_true(safetensors_writer_write(&writer, data, sizeof data, &error));
    if (full) {
      assert_false(safetensors_writer_finish(&writer, &error));
      assert_int_equal(error.code, ERROR_FILE);
      assert_non_null(strstr(error.message, "No space left on device"));
    }
    safetensors_writer_free(&writer);
    Buffer text = {0};
    Error none = {0};
    assert_true(file_read(path, &text, &none));
    assert_string_equal(text.data, "old");
    buffer_free(&text);
    StringList names = {0};
    assert_true(directory_list(folder.directory, &names, &none));
    assert_int_equal(names.count, 1);
    string_list_free(&names);
  }
}

/* Of a tensor in pieces, all its values count; a tensor of whole numbers has no such values. */
static void values_that_are_not_finite_are_refused(void **state) {
  (void)state;
  enum { COUNT = 6, PIECE = 2 };
  static const DType types[] = {DTYPE_F32, DTYPE_I32};
  const int64_t shape[] = {COUNT};
  const float values[COUNT] = {1, NAN, INFINITY, 2, 3, -INFINITY};
  char path[600];
  snprintf(path, sizeof path, "%s", temporary_path(&folder, "a.safetensors"));
  for (size_t t = 0; t < 2; t++) {
    SafetensorsWriter writer = {0};
    Error error = {0};
    bool ok = safetensors_writer_declare(&writer, "sound", DTYPE_F32, 1, shape, &error) &&
              safetensors_writer_declare(&writer, "tensor", types[t], 1, shape, &error) &&
              safetensors_writer_begin(&writer, path, &error);
    const SafetensorsEntry *next;
    while (ok && (next = safetensors_writer_next(&writer)) != NULL) {
      static const float sound[COUNT];
      const float *from = next->index ? values : sound;
      for (size_t at = 0; ok && at < COUNT; at += PIECE)
        ok = safetensors_writer_write_finite(&writer, from + at, PIECE * sizeof *from, &error);
    }
    assert_true(ok == (types[t] == DTYPE_I32));
    if (!ok) {
      assert_int_equal(error.code, ERROR_MODEL);
      assert_string_equal(error.message, "tensor: 3 of 6 values are not finite (NaN or infinite): not saved");
    }
    safetensors_writer_free(&writer);
    assert_false(file_exists(path));
  }
}

static void failed_allocations_are_errors(void **state) {
  (void)state;
  for (long n = 0;; n++) {
    SafetensorsWriter writer = {0};
    SafetensorsSet set = {0};
    Error error = {0};
    memory_fail_after(n);
    bool ok = write_declared(&writer, true, 40, folder.directory, false, &error) &&
              safetensors_set_open(&set, folder.directory, "model", &error);
    memory_fail_after(-1);
    assert_true(ok == (error.code == ERROR_NONE));
    if (!ok) assert_int_equal(error.code, ERROR_MEMORY);
    safetensors_writer_free(&writer);
    safetensors_set_close(&set);
    if (ok) break;
    assert_true(n < 2000);
  }
}

static void shapes_in_words(void **state) {
  (void)state;
  char text[20];
  const int64_t shape[] = {2, 300, 1000000007};
  safetensors_shape_text(0, NULL, text, sizeof text);
  assert_string_equal(text, "[]");
  safetensors_shape_text(2, shape, text, sizeof text);
  assert_string_equal(text, "[2, 300]");
  safetensors_shape_text(3, shape, text, 8);
  assert_string_equal(text, "[2, 300");
}

/* Three tensors of 400 bytes as files of 400 or one of all, where there is so much room, in a folder that has what was there before. */
static bool fits(bool sharded, uint64_t bytes) {
  SafetensorsWriter writer = {0};
  Error error = {0};
  StringList before = {0}, after = {0};
  assert_true(directory_list(folder.directory, &before, &error));
  for (int i = 0; i < 3; i++) {
    const char name[] = {(char)('a' + i), '\0'};
    assert_true(safetensors_writer_declare(&writer, name, DTYPE_F32, 1, (int64_t[]){100}, &error));
  }
  room = bytes;
  const bool began =
      sharded ? safetensors_writer_begin_sharded(&writer, folder.directory, "model", 400, &error)
              : safetensors_writer_begin(&writer, temporary_path(&folder, "model.safetensors"), &error);
  room = UINT64_MAX;
  safetensors_writer_free(&writer);
  assert_true(directory_list(folder.directory, &after, &error));
  assert_int_equal(after.count, before.count);
  string_list_free(&before);
  string_list_free(&after);
  if (began) return true;
  assert_int_equal(error.code, ERROR_FILE);
  assert_non_null(strstr(error.message, " are to be written, and "));
  return false;
}

static void put(const char *name, size_t bytes) {
  FILE *file = fopen(temporary_path(&folder, name), "w");
  assert_non_null(file);
  for (size_t i = 0; i < bytes; i++) assert_int_not_equal(putc(0, file), EOF);
  assert_int_equal(fclose(file), 0);
}

/* Looked at before anything is written: all files of a new set; in the place of others, what they take beyond those. */
static void a_full_disk_is_said_first(void **state) {
  (void)state;
  assert_false(fits(false, 1199));
  assert_true(fits(false, 1200));
  assert_false(fits(true, 1199));
  assert_true(fits(true, 1200));
  put("model.safetensors", 1200); /* stands until the new one is whole */
  assert_false(fits(false, 1199));
  assert_false(fits(true, 1199));
  for (int i = 1; i <= 3; i++) {
    char name[64];
    snprintf(name, sizeof name, "model-%05d-of-00003.safetensors", i);
    put(name, 300);
  }
  assert_false(fits(true, 599)); /* the third: 1200 less the two that are replaced by then */
  assert_true(fits(true, 600));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_folder, close_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(reads_what_the_library_wrote),
      TEST(writes_the_bytes_of_the_library),
      TEST(hostile_headers_are_refused),
      TEST(odd_but_legal_headers_are_read),
      TEST(bad_lengths_are_refused),
      TEST(torn_and_changed_files_are_survived),
      TEST(shards_are_written_and_read),
      TEST(bad_indexes_are_refused),
      TEST(metadata_is_kept),
      TEST(names_are_checked),
      TEST(unfinished_and_full_leave_the_old),
      TEST(values_that_are_not_finite_are_refused),
      TEST(failed_allocations_are_errors),
      TEST(shapes_in_words),
      TEST(a_full_disk_is_said_first),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
