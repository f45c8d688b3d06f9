/* The cache of tokenised examples: made once, made again when anything that matters has changed or when it is damaged. */
#include "tests/unit/datasets_world.h"

#include <math.h>

#include "datasets/cache.h"

/* Opens a file, whose cache is there already or not. loss: what is learnt of its first record; NULL: whatever it is. */
static void open_again(const World *world, const char *path, const DatasetOptions *options, bool reused,
                       const char *loss) {
  Error error = {0};
  Dataset dataset;
  if (!dataset_open_file(&dataset, path, options, &error)) fail_msg("%s", error.message);
  assert_int_equal(dataset.reused, reused);
  const Example example = example_at(&dataset, 0);
  if (loss) expect_loss(world, &example, loss);
  dataset_close(&dataset);
}

static void cache_is_reused_and_replaced(void **state) {
  World *world = *state;
  DatasetOptions options = options_of(world, DATASET_SFT);
  char path[512];
  snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "changing.jsonl"));
  write_text(path, "{\"prompt\": \"Hi.\", \"completion\": \"Hello.\"}\n");
  open_again(world, path, &options, false, "Hello.<|im_end|>");
  open_again(world, path, &options, true, "Hello.<|im_end|>");
  write_text(path, "{\"prompt\": \"Hi.\", \"completion\": \"Hallo.\"}\n"); /* same size */
  open_again(world, path, &options, false, "Hallo.<|im_end|>");

  DatasetOptions changed[5];
  for (int i = 0; i < 5; i++) changed[i] = options;
  changed[0].max_length++;
  changed[1].train_on_inputs = true;
  changed[2].chat = &world->plain;
  changed[3].truncation = TRUNCATION_CUT;
  changed[4].format = FORMAT_PROMPT_COMPLETION;
  for (int i = 0; i < 5; i++) {
    open_again(world, path, &changed[i], false, NULL);
    open_again(world, path, &changed[i], true, NULL);
  }
}

static int largest_of(const int *ids, int count) {
  int largest = 0;
  for (int i = 0; i < count; i++) largest = ids[i] > largest ? ids[i] : largest;
  return largest;
}

/* Whichever side of a preference has it; made and reused alike. */
static void the_largest_id_is_kept(void **state) {
  World *world = *state;
  static const struct {
    const char *record;
    DatasetKind kind;
  } cases[] = {{"{\"prompt\": \"Hi.\", \"completion\": \"Hello.\"}", DATASET_SFT},
               {"{\"text\": \"Hi.\"}", DATASET_TEXT},
               {"{\"prompt\": \"Hi.\"}", DATASET_PROMPT},
               {"{\"prompt\": \"a\", \"chosen\": \"What is it?\", \"rejected\": \"b\"}", DATASET_PREFERENCE},
               {"{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"What is it?\"}", DATASET_PREFERENCE}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    DatasetOptions options = options_of(world, cases[i].kind);
    options.chat = &world->plain;
    char path[512];
    snprintf(path, sizeof path, "%s", temporary_path(&world->temporary, "largest.jsonl"));
    write_text(path, cases[i].record);
    for (int reuse = 0; reuse < 2; reuse++) {
      Error error = {0};
      Dataset dataset;
      assert_true(dataset_open_file(&dataset, path, &options, &error));
      assert_int_equal(dataset.reused, reuse);
      const Example example = example_at(&dataset, 0);
      int largest = largest_of(example.ids, example.count);
      for (int k = 0; k < example.answer_count; k++) {
        const ExampleAnswer *answer = &example.answers[k];
        const int other = largest_of(example.ids + answer->begin, answer->count);
        if (i == 4 && k == 1) assert_true(other > largest);
        if (other > largest) largest = other;
      }
      assert_int_equal(dataset.largest_id, largest);
      dataset_close(&dataset);
    }
  }
}

static void torn_caches_are_made_again(void **state) {
  World *world = *state;
  Error error = {0};
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  char cache[512];
  snprintf(cache, sizeof cache, "%s/torn", world->temporary.directory);
  options.cache_dir = cache;
  open_fixture(&dataset, "alpaca.jsonl", &options);
  uint64_t size = dataset.sources[0].map.size;
  dataset_close(&dataset);
  StringList files = {0};
  assert_true(directory_list(cache, &files, &error));
  assert_int_equal(files.count, 1);
  char *path = path_join(cache, files.items[0]);
  string_list_free(&files);
  for (uint64_t keep = 0; keep < size; keep += size / 7 + 1) {
    assert_int_equal(truncate(path, (off_t)keep), 0);
    open_fixture(&dataset, "alpaca.jsonl", &options);
    assert_false(dataset.reused);
    assert_int_equal(dataset.count, 3);
    dataset_close(&dataset);
  }
  memory_free(path);
}

static void failures_leave_nothing_behind(void **state) {
  World *world = *state;
  Error error = {0};
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_SFT);
  char cache[512];
  snprintf(cache, sizeof cache, "%s/failed", world->temporary.directory);
  options.cache_dir = cache;
  assert_false(dataset_open_file(&dataset, FIXTURES "/data/bad/number.jsonl", &options, &error));
  StringList files = {0};
  Error other = {0};
  assert_true(directory_list(cache, &files, &other));
  assert_int_equal(files.count, 0);
  string_list_free(&files);
}

/* The one cache file in a directory, as bytes; free with buffer_free. */
static char *read_cache(const char *directory, Buffer *bytes) {
  Error error = {0};
  StringList files = {0};
  assert_true(directory_list(directory, &files, &error));
  assert_int_equal(files.count, 1);
  char *path = path_join(directory, files.items[0]);
  string_list_free(&files);
  assert_true(file_read(path, bytes, &error));
  return path;
}

static void write_bytes(const char *path, const Buffer *bytes) {
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(bytes->data, 1, bytes->size, file), bytes->size);
  fclose(file);
}

static void a_flipped_bit_makes_it_again(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  char cache[512];
  snprintf(cache, sizeof cache, "%s/flipped", world->temporary.directory);
  options.cache_dir = cache;
  open_fixture(&dataset, "preference.jsonl", &options);
  dataset_close(&dataset);
  Buffer good = {0}, now = {0};
  char *path = read_cache(cache, &good);
  for (size_t at = 0; at < good.size; at += 37) {
    good.data[at] ^= 4;
    write_bytes(path, &good);
    good.data[at] ^= 4;
    open_again(world, FIXTURES "/data/preference.jsonl", &options, false, NULL);
    buffer_clear(&now);
    memory_free(read_cache(cache, &now));
    assert_int_equal(now.size, good.size);
    assert_memory_equal(now.data, good.data, good.size);
  }
  buffer_free(&good);
  buffer_free(&now);
  memory_free(path);
}

/* Files with a right digest whose sizes lie: somebody made them up. */
static void sizes_that_lie_make_it_again(void **state) {
  World *world = *state;
  Dataset dataset;
  DatasetOptions options = options_of(world, DATASET_PREFERENCE);
  char cache[512];
  snprintf(cache, sizeof cache, "%s/lying", world->temporary.directory);
  options.cache_dir = cache;
  open_fixture(&dataset, "preference.jsonl", &options);
  const size_t first = (size_t)dataset.sources[0].offsets[0], second = (size_t)dataset.sources[0].offsets[1];
  dataset_close(&dataset);
  Buffer good = {0};
  char *path = read_cache(cache, &good);
  const size_t trailer_at = good.size - sizeof(CacheTrailer);
  char *lie = memory_alloc(good.size);
  for (int i = 0; i < 21; i++) {
    memcpy(lie, good.data, good.size);
    CacheExample *example = (CacheExample *)(void *)(lie + first);
    CacheTrailer *trailer = (CacheTrailer *)(void *)(lie + trailer_at);
    uint64_t *offsets = (uint64_t *)(void *)(lie + trailer->index_offset);
    ExampleAnswer *answers = (ExampleAnswer *)(void *)(example + 1);
    const int32_t count = example->count;
    switch (i) {
      case 0: /* the sum is right, memcpy's size is not */
        example->count = -1000;
        break;
      case 1:
        example->answer_count = -1;
        break;
      case 2:
        example->count = INT32_MAX;
        break;
      case 3:
        example->prompt_count = count + 1;
        break;
      case 4:
        example->prompt_count = -1;
        break;
      case 5:
        example->prompt_bytes = UINT32_MAX;
        break;
      case 6:
        example->labels.safer = 7;
        break;
      case 7:
        trailer->format = FORMAT_COUNT;
        break;
      case 8:
        trailer->format = 100000;
        break;
      case 9:
        offsets[0] = good.size + 8;
        break;
      case 10:
        offsets[1] = second + 4;
        break;
      case 11:
        memset(&trailer->passed, 'x', sizeof trailer->passed);
        break;
      case 12: /* one answer is none to compare */
        example->answer_count = 1;
        break;
      case 13:
        example->answer_count = MOST_ANSWERS + 1;
        break;
      case 14:
        answers[0].begin = 0;
        break;
      case 15: /* the next one begins where it says */
        answers[0].count = -1, answers[1].begin = answers[0].begin - 1;
        break;
      case 16:
        answers[1].count = INT32_MAX;
        break;
      case 17:
        answers[0].rank = answers[1].rank = 1;
        break;
      case 18:
        answers[1].rank = 2;
        break;
      case 19:
        answers[1].rank = 0;
        break;
      case 20:
        answers[1].score = NAN;
        break;
      default:
        fail();
    }
    char digest[33];
    bytes_digest(lie, good.size - sizeof trailer->content, digest);
    memcpy(trailer->content, digest, sizeof trailer->content);
    write_bytes(path, &(Buffer){.data = lie, .size = good.size});
    open_fixture(&dataset, "preference.jsonl", &options);
    if (dataset.reused) fail_msg("lie %d was believed", i);
    dataset_close(&dataset);
  }
  memory_free(lie);
  buffer_free(&good);
  memory_free(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(cache_is_reused_and_replaced), cmocka_unit_test(the_largest_id_is_kept),
      cmocka_unit_test(torn_caches_are_made_again),   cmocka_unit_test(failures_leave_nothing_behind),
      cmocka_unit_test(a_flipped_bit_makes_it_again), cmocka_unit_test(sizes_that_lie_make_it_again)};
  return cmocka_run_group_tests(tests, open_world, close_world);
}
