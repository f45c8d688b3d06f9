/* Files of torch.save: what PyTorch wrote is what is read, and everything that is more or less than tensors is refused by name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "formats/torch_file.h"
#include "formats/torch_pickle.h"
#include "tests/temporary.h"

static const char *const views[] = {"views_2.bin", "views_3.bin", "views_4.bin", "views_5.bin",
                                    "views_old.bin"};

static void check_ok(bool ok, const Error *error) {
  if (!ok) fail_msg("%s", error->message);
}

static void expect_in(const char *message, const char *part) {
  if (!strstr(message, part)) fail_msg("\"%s\" is not in \"%s\"", part, message);
}

/* All of it at once, and from every place in pieces of every size up to 7. */
static void assert_same_values(const WeightEntry *got, const WeightEntry *want) {
  const size_t size = dtype_size(want->dtype);
  char all[64 * 8], piece[7 * 8];
  assert_int_equal(got->dtype, want->dtype);
  assert_int_equal(got->rank, want->rank);
  assert_memory_equal(got->shape, want->shape, (size_t)want->rank * sizeof *want->shape);
  assert_int_equal(got->count, want->count);
  assert_true(want->count * size <= sizeof all);
  weight_read(want, 0, want->count, want->dtype, all);
  for (size_t first = 0; first < got->count; first++)
    for (size_t n = 1; n <= 7 && first + n <= got->count; n++) {
      weight_read(got, first, n, got->dtype, piece);
      if (memcmp(piece, all + first * size, n * size) != 0) fail_msg("%s at %zu", got->name, first);
    }
}

static void views_are_what_pytorch_sees(void **state) {
  (void)state;
  WeightFiles want;
  Error error = {0};
  Temporary folder;
  temporary_open(&folder);
  check_ok(
      file_copy(FIXTURES "/torch/views.safetensors", temporary_path(&folder, "model.safetensors"), &error),
      &error);
  check_ok(weight_files_open_safetensors(&want, folder.directory, "model", &error), &error);
  for (size_t f = 0; f < sizeof views / sizeof *views; f++) {
    WeightFiles got;
    char path[512];
    snprintf(path, sizeof path, FIXTURES "/torch/%s", views[f]);
    check_ok(torch_file_open(&got, path, &error), &error);
    assert_int_equal(got.count, want.count);
    for (size_t i = 0; i < want.count; i++) {
      assert_string_equal(got.entries[i].name, want.entries[i].name);
      assert_string_equal(got.entries[i].path, path);
      assert_same_values(&got.entries[i], &want.entries[i]);
    }
    assert_ptr_equal(weight_files_find(&got, "base")->data, weight_files_find(&got, "tied")->data);
    assert_null(weight_files_find(&got, "bases"));
    /* Wider on the way, through the strides too. */
    double wide[24];
    float plain[24];
    const WeightEntry *transposed = weight_files_find(&got, "transposed");
    assert_non_null(transposed->read);
    weight_read(transposed, 0, 24, DTYPE_F64, wide);
    weight_read(transposed, 0, 24, DTYPE_F32, plain);
    for (int i = 0; i < 24; i++) assert_true(wide[i] == (double)plain[i]);
    weight_release(transposed, 0, 24);
    weight_files_close(&got);
  }
  weight_files_close(&want);
  temporary_close(&folder);
}

static void what_is_no_state_dict_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *name, *message;
  } cases[] = {
      {"runs.bin", "it names posix.system, and only what tensors are made of is taken from a pickle"},
      {"runs_old.bin", "it names posix.system"},
      {"module.bin", "it names torch.nn.modules.linear.Linear"},
      {"nested.bin", "'model' is a dict, expected a tensor"},
      {"number.bin", "'step' is an integer, expected a tensor"},
      {"list.bin", "holds a list, expected a state_dict"},
      {"numpy.bin", "it names numpy."},
      {"complex.bin", "it names torch.ComplexFloatStorage"},
      {"float8.bin", "it names torch._utils._rebuild_tensor_v3"},
      {"sparse.bin", "it names torch._utils._rebuild_sparse_tensor"},
      {"rank.bin", "a tensor of more than 8 dimensions"},
      {"plain.bin", "is no file of torch.save"},
      {"protocol0.bin", "is no file of torch.save"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    WeightFiles files;
    Error error = {0};
    char path[512];
    snprintf(path, sizeof path, FIXTURES "/torch/refused/%s", cases[i].name);
    assert_false(torch_file_open(&files, path, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    expect_in(error.message, path);
    expect_in(error.message, cases[i].message);
    assert_null(files.entries);
    weight_files_close(&files);
  }
}

/* ---- pickles, byte by byte ---- */

#define STORAGE   "ctorch\nFloatStorage\n"
#define ID(count) "(X\7\0\0\0storage" STORAGE "X\1\0\0\0000X\3\0\0\0cpu" count "tQ"
#define V2        "\x80\2ctorch._utils\n_rebuild_tensor_v2\n("
#define HOOKS \
  "\x89"      \
  "ccollections\nOrderedDict\n)R"

typedef struct PickleCase {
  const char *bytes;
  size_t size;
  const char *message; /* NULL: it is read */
} PickleCase;
#define CASE(bytes, message) \
  { bytes, sizeof(bytes) - 1, message }

static const PickleCase pickles[] = {
    CASE("\x80\2}.", NULL),
    CASE("\x80\2N.", NULL),
    CASE("\x80\2(]r\2\0\0\0h\2e.", "the stack is empty"),
    CASE("\x80\2]q\0(h\0h\0e.", NULL), /* a list in itself */
    CASE("\x80\2]q\0h\0\x85q\1a.", NULL),
    CASE(V2 ID("K\6") "K\0K\2K\3\x86K\3K\1\x86" HOOKS "tR.", NULL),
    CASE(V2 ID("K\6") "K\3K\3\x85K\1\x85" HOOKS "tR.", NULL),
    CASE(V2 ID("K\6") "K\0K\2K\3\x86K\3K\1\x86" HOOKS "}tR.", NULL),
    CASE("", "truncated"),
    CASE("\x80\2", "truncated"),
    CASE("\x80\2X\xff\xff\xff\xff"
         "a.",
         "truncated"),
    CASE("\x80\4\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
         "a.",
         "truncated"),
    CASE("\x80\2ctorch\nFloat", "truncated"),
    CASE("\x80\2.", "the stack is empty"),
    CASE("\x80\2R.", "the stack is empty"),
    CASE("\x80\2N(R.", "the stack is empty"), /* not through the mark */
    CASE("\x80\2t.", "no mark is set"),
    CASE("\x80\2K\1K\2K\3s.", "expected a dict to add to, found an integer"),
    CASE("\x80\2}(K\1u.", "a key without a value"),
    CASE("\x80\2K\1K\2a.", "expected a list to add to"),
    CASE("\x80\2h\0.", "memo number 0 is not set"),
    CASE("\x80\2Nr\xff\xff\xff\xff.", "memo number 4294967295"),
    CASE("\x80\7N.", "protocol 7, expected 2 to 5"),
    CASE("\x80\1N.", "protocol 1"),
    CASE("\x80\2\x8a\11\1\1\1\1\1\1\1\1\1.", "an integer of more than 64 bits"),
    /* What runs something in Python: refused by opcode or by name. */
    CASE("\x80\2cos\nsystem\nX\2\0\0\0ls\x85R.", "pickle at byte 2: it names os.system"),
    CASE("\x80\4\x8c\2os\x8c\6system\x93\x8c\2ls\x85R.", "it names os.system"),
    CASE("\x80\2(X\2\0\0\0lsios\nsystem\n.", "opcode INST (0x69) is none that a file of tensors needs"),
    CASE("\x80\2(cos\nsystem\nX\2\0\0\0lso.", "it names os.system"),
    CASE("\x80\2(" STORAGE "o.", "opcode OBJ (0x6f)"),
    CASE("\x80\2" STORAGE ")\x81.", "opcode NEWOBJ (0x81)"),
    CASE("\x80\4" STORAGE ")}\x92.", "opcode NEWOBJ_EX (0x92)"),
    CASE("\x80\2\x82\1.", "opcode EXT1 (0x82)"),
    CASE("\x80\2Pfile\n.", "opcode PERSID (0x50)"),
    CASE("\x80\2S'a'\n.", "opcode STRING (0x53)"),
    CASE("\x80\2\377.", "opcode of no known name (0xff)"),
    CASE("\x80\4K\1K\2\x93.", "expected the name of a global, found an integer and an integer"),
    CASE("\x80\2c__builtin__\neval\n.", "it names __builtin__.eval"),
    CASE("\x80\2ctorch.storage\n_load_from_bytes\n.", "it names torch.storage._load_from_bytes"),
    CASE("\x80\2K\1)R.", "expected a call of a global with a tuple, found an integer and a tuple"),
    CASE("\x80\2" STORAGE ")R.", "a call that makes no tensor and no empty OrderedDict"),
    CASE("\x80\2ccollections\nOrderedDict\nK\1\x85R.", "a call that makes no tensor"),
    CASE("\x80\2" STORAGE "}b.", "opcode BUILD (0x62) sets the state of a global"),
    CASE("\x80\2}K\1b.", "opcode BUILD (0x62)"),
    /* Lies of tensors. */
    CASE("\x80\2K\1Q.", "a persistent id that is no storage"),
    CASE("\x80\2)Q.", "a persistent id that is no storage"),
    CASE("\x80\2" ID("J\xff\xff\xff\xff") ".", "a storage of no possible size"),
    CASE("\x80\2" ID("\x8a\10\xff\xff\xff\xff\xff\xff\xff\x7f") ".", "a storage of no possible size"),
    CASE("\x80\2" ID("K\1K\2") ".", "a storage that is a view of another one"),
    CASE(V2 "tR.", "with arguments that are not"),
    CASE(V2 "NK\0))" HOOKS "tR.", "with arguments that are not"),
    CASE(V2 ID("K\6") "K\0K\2K\3\x86K\1\x85" HOOKS "tR.", "with arguments that are not"),
    CASE(V2 ID("K\6") "J\xff\xff\xff\xffK\2\x85K\1\x85" HOOKS "tR.", "with arguments that are not"),
    CASE(V2 ID("K\6") "K\0J\xff\xff\xff\xff\x85K\1\x85" HOOKS "tR.", "a size or stride that is no number"),
    CASE(V2 ID("K\6") "K\0K\2\x85J\xff\xff\xff\xff\x85" HOOKS "tR.", "a size or stride that is no number"),
    CASE(V2 ID("K\6") "K\1K\2K\3\x86K\3K\1\x86" HOOKS "tR.", "reaches beyond its storage"),
    CASE(V2 ID("K\6") "K\0K\7\x85K\1\x85" HOOKS "tR.", "reaches beyond its storage"),
    CASE(V2 ID("K\6") "K\0K\2K\3\x86K\4K\1\x86" HOOKS "tR.", "reaches beyond its storage"),
    CASE(V2 ID("K\6") "\x8a\10\xff\xff\xff\xff\xff\xff\xff\x7fK\2\x85K\1\x85" HOOKS "tR.",
         "reaches beyond its storage"),
    CASE(V2 ID("K\6") "K\0\x8a\10\xff\xff\xff\xff\xff\xff\xff\x7fK\4\x86K\0K\0\x86" HOOKS "tR.",
         "reaches beyond its storage"),
    CASE(V2 ID("K\6") "K\0\x8a\5\0\0\0\0\1\x8a\5\0\0\0\0\1\x86\x8a\5\0\0\0\0\1K\1\x86" HOOKS "tR.",
         "reaches beyond its storage"),
    CASE(V2 ID("K\6") "K\0K\6\x85K\1\x85" HOOKS "}K\1K\2stR.", "conjugated or negated"),
    CASE("\x80\2ctorch._utils\n_rebuild_parameter\nK\1\x88}\x87R.", "_rebuild_parameter of something other"),
};

static void pickles_are_judged_by_opcode(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
    TorchPickle pickle = {0};
    Error error = {0};
    size_t used = 0;
    uint8_t *copy = memory_alloc(pickles[i].size); /* of this size, so that a byte too far is seen */
    memcpy(copy, pickles[i].bytes, pickles[i].size);
    const PickleValue *value = torch_pickle_read(&pickle, "file", copy, pickles[i].size, &used, &error);
    if (!pickles[i].message) {
      check_ok(value != NULL, &error);
      assert_int_equal(used, pickles[i].size);
    } else {
      if (value) fail_msg("case %zu is read: %s", i, pickles[i].message);
      assert_int_equal(error.code, ERROR_MODEL);
      expect_in(error.message, "file: pickle at byte ");
      expect_in(error.message, pickles[i].message);
    }
    torch_pickle_free(&pickle);
    memory_free(copy);
  }
}

/* Nothing is recursive and memory has a limit, whatever is repeated. */
static void large_pickles_end(void **state) {
  (void)state;
  static const PickleCase repeated[] = {CASE("]", ""),   CASE("(", ""),          CASE("\x85", ""),
                                        CASE("K\1", ""), CASE("h\0\x85q\0", ""), CASE("h\0h\0a", "")};
  const size_t size = 40u << 20;
  for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
    TorchPickle pickle = {0};
    Error error = {0};
    size_t used;
    Buffer text = {0}, many = {0};
    while (many.size < 1u << 16)
      check_ok(buffer_append(&many, repeated[i].bytes, repeated[i].size, &error), &error);
    check_ok(buffer_append(&text, "\x80\2]q\0", 5, &error), &error);
    while (text.size < size) check_ok(buffer_append(&text, many.data, many.size, &error), &error);
    buffer_free(&many);
    check_ok(buffer_append(&text, ".", 1, &error), &error);
    assert_null(torch_pickle_read(&pickle, "file", (const uint8_t *)text.data, text.size, &used, &error));
    assert_int_equal(error.code, ERROR_MODEL);
    expect_in(error.message, "its values take more than 256 MB");
    assert_true(pickle.pool.used <= 256u << 20);
    torch_pickle_free(&pickle);
    buffer_free(&text);
  }
}

/* ---- archives that lie ---- */

static size_t find_last(const Buffer *file, const char *bytes, size_t size) {
  for (size_t at = file->size - size + 1; at-- > 0;)
    if (memcmp(file->data + at, bytes, size) == 0) return at;
  fail_msg("no record");
  return 0;
}

static void put(Buffer *file, size_t at, uint64_t value, size_t bytes) {
  assert_true(at + bytes <= file->size);
  memcpy(file->data + at, &value, bytes);
}

/* The n-th record of the directory. */
static size_t record(const Buffer *file, int n) {
  const size_t end64 = find_last(file, "PK\6\6", 4);
  uint64_t at;
  memcpy(&at, file->data + end64 + 48, sizeof at);
  while (n-- > 0) {
    uint16_t lengths[3];
    memcpy(lengths, file->data + at + 28, sizeof lengths);
    at += 46u + lengths[0] + lengths[1] + lengths[2];
  }
  return (size_t)at;
}

static void expect_broken(const Buffer *file, const char *message) {
  Temporary folder;
  WeightFiles files;
  Error error = {0};
  temporary_open(&folder);
  FILE *stream = fopen(temporary_path(&folder, "pytorch_model.bin"), "wb");
  assert_int_equal(fwrite(file->data, 1, file->size, stream), file->size);
  fclose(stream);
  if (weight_files_open(&files, folder.directory, &error)) fail_msg("it is read: %s", message);
  assert_int_equal(error.code, ERROR_MODEL);
  expect_in(error.message, "pytorch_model.bin");
  expect_in(error.message, message);
  temporary_close(&folder);
}

static void archives_that_lie_are_refused(void **state) {
  (void)state;
  Buffer good = {0}, bad = {0};
  Error error = {0};
  check_ok(file_read(FIXTURES "/torch/views_2.bin", &good, &error), &error);
#define CHANGED(message, ...)                                            \
  do {                                                                   \
    buffer_clear(&bad);                                                  \
    check_ok(buffer_append(&bad, good.data, good.size, &error), &error); \
    __VA_ARGS__;                                                         \
    expect_broken(&bad, message);                                        \
  } while (0)
  const size_t end = find_last(&good, "PK\5\6", 4), end64 = find_last(&good, "PK\6\6", 4);
  const size_t locator = find_last(&good, "PK\6\7", 4);
  CHANGED("no directory at its end: truncated?", bad.size = good.size / 2);
  CHANGED("no directory at its end", put(&bad, end + 20, 1, 2));
  CHANGED("end record of 64 bits is not where", put(&bad, locator + 8, UINT64_MAX, 8));
  CHANGED("end record of 64 bits is not where", put(&bad, locator + 8, end64 + 1, 8));
  CHANGED("the directory lies beyond the file", put(&bad, end64 + 48, good.size, 8));
  CHANGED("the directory lies beyond the file", put(&bad, end64 + 40, UINT64_MAX, 8));
  CHANGED("more entries than its directory has room for", put(&bad, end64 + 32, UINT64_MAX, 8));
  CHANGED("its directory is torn", put(&bad, record(&bad, 3), 0, 4));
  CHANGED("its directory is torn", put(&bad, record(&bad, 3) + 32, 0xffff, 2));
  CHANGED("is encrypted", put(&bad, record(&bad, 3) + 8, 1, 2));
  CHANGED("is compressed", put(&bad, record(&bad, 3) + 10, 8, 2));
  CHANGED("is compressed", put(&bad, record(&bad, 3) + 24, 1u << 30, 4)); /* a bomb: longer than it is */
  CHANGED("is longer than the archive: truncated?", put(&bad, record(&bad, 3) + 20, 1u << 30, 4),
          put(&bad, record(&bad, 3) + 24, 1u << 30, 4));
  CHANGED("lies beyond the data", put(&bad, record(&bad, 3) + 42, (uint64_t)good.size, 4));
  CHANGED("has no header", put(&bad, record(&bad, 3) + 42, 1, 4));
  CHANGED("has a torn record", put(&bad, record(&bad, 3) + 42, UINT32_MAX, 4),
          put(&bad, record(&bad, 3) + 28, 8, 2), put(&bad, record(&bad, 3) + 30, 4, 2),
          put(&bad, record(&bad, 3) + 46 + 8, 0x00040001, 4));
  CHANGED("covers another one", put(&bad, record(&bad, 4) + 42, 0, 4)); /* where data.pkl lies */
  buffer_free(&good);
  buffer_free(&bad);
}

static void every_failed_allocation_is_reported(void **state) {
  (void)state;
  static const char *const paths[] = {FIXTURES "/torch/views_2.bin", FIXTURES "/torch/views_old.bin",
                                      FIXTURES "/torch/shards/pytorch_model.bin.index.json"};
  for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
    bool ok = false;
    for (long n = 0; !ok; n++) {
      WeightFiles files;
      Error error = {0};
      memory_fail_after(n);
      ok = strstr(paths[i], ".json") ? torch_file_open_index(&files, paths[i], &error)
                                     : torch_file_open(&files, paths[i], &error);
      memory_fail_after(-1);
      if (!ok && error.code != ERROR_MEMORY) fail_msg("%s", error.message);
      weight_files_close(&files);
      assert_true(n < 10000);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(views_are_what_pytorch_sees),   cmocka_unit_test(what_is_no_state_dict_is_refused),
      cmocka_unit_test(pickles_are_judged_by_opcode),  cmocka_unit_test(large_pickles_end),
      cmocka_unit_test(archives_that_lie_are_refused), cmocka_unit_test(every_failed_allocation_is_reported)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
